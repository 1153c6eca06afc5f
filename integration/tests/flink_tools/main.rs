//! Flink's own tools, unmodified, against our REST: its command line, its typed REST client, and
//! its web page in a browser.
//!
//! Flink comes from PyPI (`scripts/flink/install.sh`), the browser is Debian's Chromium. CI runs
//! the newest version; `MILLSTREAM_SOAK=1` also the last of Flink 1, with the option for it.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what helpers of tests unwrap fails the test"
)]

mod flink;

use std::path::PathBuf;
use std::time::Duration;

use millstream_integration::{Cluster, Job, Outcome, binary, until};

use crate::flink::{Flink, versions};

/// A cluster as this version's clients want it.
fn cluster(flink: &Flink) -> Cluster {
    let option = flink.version().starts_with("1.").to_string();
    Cluster::builder().set("millstream.rest.flink-1-clients", &option).start()
}

/// A job of three vertices that runs until it is cancelled.
const JOB: [&str; 5] = ["--job", "pressure", "--unchained", "--pause-ms", "5"];

fn running_job(cluster: &Cluster) -> Job {
    let job = cluster.submit_job(&[], &JOB);
    job.wait_for_tasks();
    job
}

#[test]
fn the_command_line_lists_and_cancels_and_prints_why_it_cannot_do_more() {
    for flink in versions() {
        let cluster = cluster(flink);
        let job = running_job(&cluster);
        let jobs = flink.command_line(&cluster, &["list", "-a"]).success().stdout;
        assert!(jobs.contains(&format!("{} : pressure (RUNNING)", job.id)), "{jobs}");

        let says = |outcome: &Outcome, sentence: &str| {
            assert_ne!(outcome.code, Some(0), "{outcome:#?}");
            let said = outcome.stdout.contains(sentence) || outcome.stderr.contains(sentence);
            assert!(said, "{outcome:#?}");
        };
        let jar = flink.jar();
        let run = flink.command_line(&cluster, &["run", "-d", jar.to_str().unwrap(), "job"]);
        says(&run, "this cluster runs Rust programs and cannot execute a Java job graph");
        let stop = flink.command_line(&cluster, &["stop", &job.id]);
        says(&stop, "the job takes no checkpoints: set execution.checkpointing.interval");
        assert_eq!(job.status(), "RUNNING");

        let _ = flink.command_line(&cluster, &["cancel", &job.id]).success();
        job.wait_for("CANCELED");
    }
}

/// Starts a job that takes checkpoints, each an hour after the one before.
fn checkpointed_job(cluster: &Cluster, output: &str) -> Job {
    let options = ["-p", "2", "-D", "execution.checkpointing.interval=1h"];
    let numbers = ["--seed", "1", "--keys-per-lane", "1", "--rate", "1000"];
    let arguments = [&["--job", "keyed-sum", "--output", output], &numbers[..]].concat();
    let job = cluster.submit_job(&options, &arguments);
    job.wait_for_tasks();
    job
}

#[test]
fn the_command_line_takes_savepoints_stops_with_one_and_disposes_of_it() {
    for flink in versions() {
        let cluster = cluster(flink);
        let job = checkpointed_job(&cluster, cluster.data("output").to_str().unwrap());
        // No directory is given, and none is configured.
        let stop = flink.command_line(&cluster, &["stop", &job.id]);
        let said = format!("{}{}", stop.stdout, stop.stderr);
        assert!(said.contains("execution.checkpointing.savepoint-dir"), "{said}");
        assert_ne!(stop.code, Some(0), "{said}");
        let target = cluster.data("savepoints").display().to_string();
        let there = |outcome: &Outcome| {
            let before = "Savepoint completed. Path: ";
            let path = outcome.stdout.lines().find_map(|line| line.strip_prefix(before));
            let path = path.unwrap_or_else(|| panic!("no path in {outcome:#?}")).to_owned();
            let local = PathBuf::from(path.strip_prefix("file:").unwrap_or(&path));
            assert!(local.join("_metadata").exists(), "{path}");
            (path, local)
        };
        let words = ["savepoint", &job.id, &target];
        let (path, local) = there(&flink.command_line(&cluster, &words).success());
        assert_eq!(job.status(), "RUNNING");
        let words = ["stop", "-p", &target, &job.id];
        let (_, last) = there(&flink.command_line(&cluster, &words).success());
        job.wait_for("FINISHED");

        let _ = flink.command_line(&cluster, &["savepoint", "-d", &path]).success();
        assert!(!local.exists() && last.exists());
        let again = flink.command_line(&cluster, &["savepoint", "-d", &path]);
        let said = format!("{}{}", again.stdout, again.stderr);
        assert_ne!(again.code, Some(0), "{said}");
        assert!(said.contains("there is no savepoint in"), "{said}");

        let job = checkpointed_job(&cluster, cluster.data("second").to_str().unwrap());
        let words = ["checkpoint", &job.id];
        let taken = flink.command_line(&cluster, &words).success().stdout;
        assert!(taken.contains(&format!("Checkpoint 1 for job {}", job.id)), "{taken}");
        let _ = flink.command_line(&cluster, &["cancel", "-s", &target, &job.id]).success();
        job.wait_for("CANCELED");
    }
}

#[test]
fn the_typed_client_uploads_runs_lists_and_cancels() {
    for flink in versions() {
        let cluster = cluster(flink);
        let body = serde_json::json!({ "programArgsList": JOB, "parallelism": 1 }).to_string();
        let program = binary("jobs");
        let port = cluster.rest.port.to_string();
        let client = ["client", &port, program.to_str().unwrap(), &body];
        let said = Outcome::of(flink.java(&client)).success().stdout;
        let line = |start: &str| {
            let line = said.lines().find_map(|line| line.strip_prefix(start));
            line.unwrap_or_else(|| panic!("no {start:?} in {said}")).to_owned()
        };
        assert_eq!(line("uploaded "), "success");
        let id = line("ran ");
        assert_eq!(line("listed "), format!("{id} RUNNING pressure"));
        let vertices: Vec<_> =
            said.lines().filter_map(|line| line.strip_prefix("vertex ")).collect();
        assert_eq!(vertices, ["Source: numbers", "fan out", "Sink: slow"]);
        assert_eq!(line("accumulators "), "[]");
        assert_eq!(line("ended "), format!("{id} false"), "a cancelled job is no success");
        assert_eq!(cluster.job(&id).status(), "CANCELED");
    }
}

/// Errors about features that the typed client asks for and we do not have.
const MISSING: [&str; 4] = [
    "Checkpointing is not enabled for job",
    "There is no operation with triggerId=",
    "is not rescaled: it has no adaptive scheduler",
    "Application ",
];

#[test]
fn the_typed_client_reads_every_answer() {
    for flink in versions() {
        let cluster = cluster(flink);
        let job = running_job(&cluster);
        let worker = cluster.rest.get("/taskmanagers").json["taskmanagers"][0]["id"].clone();
        let check = |state: &str| {
            let vertex = &job.vertices()[1].1;
            let values = [
                format!("jobid={}", job.id),
                format!("vertexid={vertex}"),
                format!("taskmanagerid={}", worker.as_str().unwrap()),
                format!("triggerid={}", job.id),
                format!("applicationid={}", job.id),
                format!("rescaleuuid={}", job.id),
            ];
            let port = cluster.rest.port.to_string();
            let fixed = ["subtaskindex=0", "attempt=0", "checkpointid=1", "jarid=x", "filename=x"];
            let words: Vec<&str> = ["every-endpoint", &port]
                .into_iter()
                .chain(fixed)
                .chain(values.iter().map(String::as_str))
                .collect();
            let said = Outcome::of(flink.java(&words)).success().stdout;
            let (read, failed): (Vec<&str>, Vec<&str>) =
                said.lines().partition(|line| line.contains(" ok "));
            let unknown = |line: &&&str| !MISSING.iter().any(|sentence| line.contains(sentence));
            let faults: Vec<_> = failed.iter().filter(unknown).collect();
            assert!(faults.is_empty(), "{}, {state}: {faults:#?}", flink.version());
            assert!(read.len() >= 40, "{} answers: {said}", read.len());
        };
        check("running");
        let _ = cluster.millstream(&["cancel", &job.id]).success();
        job.wait_for("CANCELED");
        check("canceled");
    }
}

#[test]
fn the_web_page_shows_a_jobs_vertices_and_their_states() {
    for flink in versions() {
        let cluster = cluster(flink);
        let job = running_job(&cluster);
        let page = flink.serve_web(cluster.rest.port);
        let vertices = job.vertices();
        assert_eq!(vertices.len(), 3);
        let path = format!("#/job/running/{}/overview", job.id);
        // The page asks again and again; how far it is when the browser leaves depends on the load.
        until("the page shows the job", Duration::from_secs(80), || {
            let texts = page.texts(&cluster, &path);
            let shown = |name: &str, state: &str| {
                texts.windows(2).any(|pair| pair[0] == name && pair[1] == state)
            };
            let all = vertices.iter().all(|(name, _)| shown(name, "RUNNING"));
            (all && texts.contains(&job.id)).then_some(())
        });
        let _ = cluster.millstream(&["cancel", &job.id]).success();
    }
}
