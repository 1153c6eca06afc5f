//! Programs that cannot run: each is refused with a sentence, and the cluster goes on.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use millstream_integration::{Census, Cluster, Outcome, binary};
use serde_json::json;

use crate::neighbour::Neighbour;

/// Asserts that the artifact is refused with this error, and that the cluster still works and has
/// nothing of it left.
fn check(cluster: &mut Cluster, before: &Census, name: &str, outcome: &Outcome, expected: &str) {
    let complaint = outcome.complaint();
    eprintln!("{name}: {complaint}");
    assert!(complaint.contains(expected), "{name}: {outcome:?} lacks {expected:?}");
    cluster.assert_daemons_live();
    cluster.wait_until_as_before(before, Duration::from_secs(8));
}

fn assert_works(cluster: &mut Cluster) {
    Neighbour::start(cluster, "afterwards", 1_000, 0, &["-p", "2"]).finish_undisturbed();
    cluster.assert_daemons_live();
}

fn file(cluster: &Cluster, name: &str, bytes: &[u8]) -> PathBuf {
    let path = cluster.data(name);
    fs::write(&path, bytes).unwrap();
    path
}

/// A copy of our program that says it is for another kind of machine.
fn of_another_architecture(cluster: &Cluster) -> PathBuf {
    const MACHINE_OFFSET: usize = 18;
    let mut bytes = fs::read(binary("jobs")).unwrap();
    let (x86_64, aarch64) = (62, 183);
    bytes[MACHINE_OFFSET] = if bytes[MACHINE_OFFSET] == x86_64 { aarch64 } else { x86_64 };
    file(cluster, "other-machine", &bytes)
}

#[test]
fn files_that_are_no_artifacts_are_refused() {
    let mut cluster = Cluster::builder().start();
    let before = cluster.census();
    let unreadable = cluster.data("unreadable");
    symlink(&unreadable, &unreadable).unwrap();
    let cases: [(&str, PathBuf, &str); 8] = [
        ("missing", cluster.data("missing"), "the artifact does not exist"),
        ("unreadable", unreadable, "the artifact cannot be read"),
        ("directory", cluster.data(""), "the artifact is not a regular file"),
        ("empty", file(&cluster, "empty", b""), "the artifact is empty"),
        ("script", file(&cluster, "script", b"#!/bin/sh\nexit 0\n"), "is not a Linux executable"),
        ("half", file(&cluster, "half", &fs::read(binary("jobs")).unwrap()[..1000]), "damaged"),
        ("machine", of_another_architecture(&cluster), "the artifact is for"),
        ("exits at once", PathBuf::from("/bin/true"), "before it said hello"),
    ];
    for (name, path, expected) in cases {
        let outcome = cluster.run(&[], &path, &[]);
        check(&mut cluster, &before, name, &outcome, expected);
    }
    let outcome = cluster.run(&[], &binary("foreign"), &[]);
    check(&mut cluster, &before, "other protocol", &outcome, "99.0");
    assert_works(&mut cluster);
}

#[test]
fn build_functions_that_fail_are_told() {
    let mut cluster = Cluster::builder().start();
    let before = cluster.census();
    let cases = [
        ("plan-panic", "the chosen number is here"),
        ("plan-error", "the chosen number came"),
        ("plan-abort", "SIGABRT"),
        ("plan-exit", "its process ended with exit code 0 before the build function returned"),
        ("plan-nothing", "without calling execute"),
    ];
    for (how, expected) in cases {
        let outcome = cluster.run_job(&[], &["--job", "misbehave", "--how", how]);
        check(&mut cluster, &before, how, &outcome, expected);
    }
    let outcome = cluster.run_job(&[], &["--job", "nonsense"]);
    check(&mut cluster, &before, "unknown job", &outcome, "there is no job \"nonsense\"");
    assert_works(&mut cluster);
}

#[test]
fn hosts_that_do_not_get_to_work_fail_their_job() {
    let mut cluster = Cluster::builder().set("millstream.host.start-timeout", "2 s").start();
    let before = cluster.census();
    let cases = [
        ("host-panic", "the chosen number is here"),
        ("host-hang", "was not ready within 2s: the last that it wrote is: waiting for the tide"),
        ("host-exit", "user code ended its process with exit code 7"),
        ("host-threads", "failed to spawn thread"),
        (
            "plan-differs",
            "failed: the program builds another graph here than when it was planned: \
             operator 1 is \"only in hosts\"",
        ),
    ];
    for (how, expected) in cases {
        let outcome = cluster.run_job(&[], &["--job", "misbehave", "--how", how]);
        check(&mut cluster, &before, how, &outcome, expected);
        assert!(!outcome.complaint().contains("(task"), "no task ran: {}", outcome.complaint());
    }
    assert_works(&mut cluster);
}

#[test]
fn a_record_that_does_not_parse_is_told_with_its_place() {
    let mut cluster = Cluster::builder().start();
    let before = cluster.census();
    let input = file(&cluster, "numbers", b"1\n2\nthree\n4\n");
    let input = input.to_str().unwrap();
    let outcome = cluster.run_job(&["-p", "2"], &["--job", "parse", "--input", input]);
    check(&mut cluster, &before, "record", &outcome, input);
    assert!(outcome.complaint().contains("line 3") || outcome.complaint().contains("byte 4"));
    let outcome = cluster.run_job(&[], &["--job", "parse", "--input", "/nowhere/numbers"]);
    check(&mut cluster, &before, "no input", &outcome, "/nowhere/numbers");
    assert_works(&mut cluster);
}

/// Uploads a program, runs it through REST, and gives the refusal.
fn refusal_over_rest(cluster: &Cluster, program: &Path, arguments: &[&str]) -> String {
    let uploaded = cluster.rest.upload(program);
    if uploaded.status != 200 {
        return uploaded.error();
    }
    let jar = uploaded.json["filename"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    let path = format!("/v1/jars/{jar}/run");
    let answer = cluster.rest.post(&path, &json!({ "programArgsList": arguments }));
    assert!(answer.status >= 400, "{}", answer.text);
    let removed = cluster.rest.call("DELETE", &format!("/v1/jars/{jar}"), "text/plain", b"");
    assert_eq!(removed.unwrap().status, 200);
    answer.error()
}

#[test]
fn rest_refuses_the_same_programs() {
    let mut cluster = Cluster::builder().set("millstream.plan.timeout", "2 s").start();
    let before = cluster.census();
    let jobs = binary("jobs");
    let misbehave = |how| ["--job", "misbehave", "--how", how];
    let output = cluster.data("twice").display().to_string();
    let twice = ["--job", "twice", "--output", &output];
    let cases: [(PathBuf, &[&str], &str); 10] = [
        (file(&cluster, "script", b"#!/bin/sh\nexit 0\n"), &[], "is not a Linux executable"),
        (of_another_architecture(&cluster), &[], "the artifact is for"),
        (PathBuf::from("/bin/true"), &[], "before it said hello"),
        (binary("foreign"), &[], "99.0"),
        (jobs.clone(), &misbehave("plan-panic"), "the chosen number is here"),
        (jobs.clone(), &misbehave("plan-abort"), "SIGABRT"),
        (jobs.clone(), &misbehave("plan-nothing"), "without calling execute"),
        (jobs.clone(), &misbehave("plan-hang"), "within 2s"),
        (jobs.clone(), &twice, "has 2 jobs"),
        (jobs, &["--job", "nonsense"], "there is no job"),
    ];
    for (program, arguments, expected) in cases {
        let refusal = refusal_over_rest(&cluster, &program, arguments);
        eprintln!("{} {arguments:?}: {refusal}", program.display());
        assert!(refusal.contains(expected), "{refusal:?} lacks {expected:?}");
        cluster.assert_daemons_live();
    }
    assert!(!Path::new(&output).exists(), "none of several jobs has run");
    cluster.wait_until_as_before(&before, Duration::from_secs(10));
    assert_works(&mut cluster);
}

#[test]
fn rest_runs_an_uploaded_program() {
    let cluster = Cluster::builder().start();
    let jar = cluster.rest.upload_jar(&binary("jobs"));
    let output = cluster.data("sums");
    let arguments = format!(
        "--job neighbour --records 1000 --rate 0 --groups 10 --output '{}'",
        output.display()
    );
    let path = format!("/v1/jars/{jar}/run");
    let answer = cluster.rest.post(&path, &json!({ "programArgs": arguments, "parallelism": 2 }));
    assert_eq!(answer.status, 200, "{}", answer.text);
    let job = cluster.job(answer.json["jobid"].as_str().unwrap());
    job.wait_for("FINISHED");
    assert_eq!(millstream_integration::sorted_lines(&output).len(), 10);
}
