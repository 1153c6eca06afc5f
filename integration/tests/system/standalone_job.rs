//! A JobManager that exists for one program, as `standalone-job.sh` runs it.

use std::path::Path;
use std::time::Duration;

use millstream_integration::{Cluster, Outcome, Started, binary, sorted_lines, until, workspace};

fn command(cluster: &Cluster, arguments: &[&str]) -> std::process::Command {
    let mut command = cluster.command(&workspace().join("scripts/standalone-job.sh"));
    command.args(arguments);
    command
}

/// Starts the program in the foreground beside a TaskManager with two slots.
fn start(arguments: &[&str]) -> (Cluster, Started) {
    let mut cluster = Cluster::builder().prepare();
    let jobs = binary("jobs").display().to_string();
    let words = [&["start-foreground", "--jars", &jobs], arguments].concat();
    let program = Started::new(command(&cluster, &words));
    cluster.start_task_manager();
    (cluster, program)
}

fn assert_nothing_left(cluster: &mut Cluster) {
    cluster.task_managers.remove(0).kill();
    until("nothing is left", Duration::from_secs(20), || {
        let left = cluster.census();
        (left.processes.is_empty() && left.ports.is_empty()).then_some(())
    });
}

#[test]
fn it_ends_with_the_jobs_of_its_program() {
    let output = tempfile::tempdir().unwrap();
    let path = output.path().join("out").display().to_string();
    let id = "0000000000000000000000000000000a";
    let (mut cluster, program) = start(&[
        "--job-id",
        id,
        "--job-classname",
        "twice",
        "-p",
        "2",
        "--records",
        "100",
        "--output",
        &path,
    ]);
    let outcome = program.finish();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let said = outcome.stdout + &outcome.stderr;
    for job in [id, "0000000000000000000000000000000b"] {
        assert!(said.contains(job), "{job} in {said}");
    }
    for job in ["first", "second"] {
        assert_eq!(sorted_lines(&Path::new(&path).join(job)).len(), 100);
    }
    assert_nothing_left(&mut cluster);
}

#[test]
fn a_program_may_cancel_its_job() {
    let (mut cluster, program) = start(&["--", "--job", "cancels"]);
    let outcome = program.finish();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_nothing_left(&mut cluster);
}

#[test]
fn a_failed_job_is_its_exit_code() {
    let (mut cluster, program) = start(&["--", "--job", "misbehave", "--how", "error"]);
    let outcome = program.finish();
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let said = outcome.stdout + &outcome.stderr;
    assert!(said.contains("the chosen number came"), "{said}");
    assert_nothing_left(&mut cluster);
}

#[test]
fn a_client_that_stops_its_job_hears_of_the_savepoint() {
    let data = tempfile::tempdir().unwrap();
    let at = |name: &str| data.path().join(name).display().to_string();
    let (output, savepoints) = (at("output"), at("savepoints"));
    let settings = ["-D", "execution.checkpointing.interval=1h", "--"];
    let job = ["--job", "keyed-sum", "--seed", "7", "--records", "1000000", "--rate", "1000"];
    let (mut cluster, program) =
        start(&[&settings[..], &job, &["--keys-per-lane", "3", "--output", &output]].concat());
    until("the job runs", Duration::from_secs(60), || {
        let overview = cluster.rest.call("GET", "/v1/overview", "application/json", b"").ok()?;
        (overview.json["jobs-running"].as_u64() == Some(1)).then_some(())
    });
    let job = cluster.newest_job();
    job.wait_for_tasks();
    // The JobManager ends with its job, and yet the client that asks now and then is answered.
    let stopped = cluster.millstream(&["stop", "-p", &savepoints, &job.id]).success();
    let (_, path) = stopped.stdout.split_once("Savepoint completed. Path: ").unwrap();
    assert!(Path::new(path.trim()).join("_metadata").exists(), "{path}");
    let outcome = program.finish();
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_nothing_left(&mut cluster);
}

#[test]
fn a_signal_cancels_its_jobs() {
    let output = tempfile::tempdir().unwrap();
    let path = output.path().join("out").display().to_string();
    let options = ["--job", "neighbour", "--records", "1000000", "--rate", "1000"];
    let (mut cluster, program) = start(&[&["--"], &options[..], &["--output", &path]].concat());
    until("the job runs", Duration::from_secs(60), || {
        let overview = cluster.rest.call("GET", "/v1/overview", "application/json", b"").ok()?;
        (overview.json["jobs-running"].as_u64() == Some(1)).then_some(())
    });
    cluster.newest_job().wait_for_tasks();
    program.terminate();
    let outcome = program.finish();
    assert_eq!(outcome.code, Some(143), "{outcome:?}");
    let left = std::fs::read_dir(&path).map_or(0, Iterator::count);
    assert_eq!(left, 0, "a cancelled job publishes nothing");
    assert_nothing_left(&mut cluster);
}

#[test]
fn it_runs_in_the_background_and_is_stopped() {
    let mut cluster = Cluster::builder().prepare();
    let jobs = binary("jobs").display().to_string();
    let output = cluster.data("sums").display().to_string();
    let options = ["--", "--job", "neighbour", "--records", "1000000", "--rate", "1000"];
    let words = [&["start", "--jars", &jobs], &options[..], &["--output", &output]].concat();
    let said = Outcome::of(command(&cluster, &words)).success().stdout;
    assert!(said.contains("Starting standalonejob daemon"), "{said}");
    assert!(said.contains("JobManager Web Interface: http://localhost:"), "{said}");
    cluster.start_task_manager();
    cluster.wait_for_task_managers(1);
    cluster.newest_job().wait_for_tasks();
    let said = Outcome::of(command(&cluster, &["stop"])).success().stdout;
    assert!(said.contains("Stopping standalonejob daemon"), "{said}");
    assert_eq!(std::fs::read_dir(cluster.dir().join("pid")).unwrap().count(), 0);
    assert_nothing_left(&mut cluster);
}

#[test]
fn one_directory_with_engine_and_program_is_enough() {
    let mut cluster = Cluster::builder().prepare();
    let home = cluster.data("it's a \"home\"");
    for name in ["bin", "usrlib"] {
        std::fs::create_dir_all(home.join(name)).unwrap();
    }
    for script in ["engine.sh", "standalone-job.sh"] {
        std::fs::copy(workspace().join("scripts").join(script), home.join("bin").join(script))
            .unwrap();
    }
    std::fs::copy(binary("millstream"), home.join("bin/millstream")).unwrap();
    std::fs::copy(binary("jobs"), home.join("usrlib/jobs")).unwrap();
    let output = cluster.data("out");
    let mut command = cluster.command(&home.join("bin/standalone-job.sh"));
    command.env_remove("MILLSTREAM_BINARY");
    command.args(["start-foreground", "--", "--job", "copy", "--records", "10", "--output"]);
    let program = Started::new({
        command.arg(&output);
        command
    });
    cluster.start_task_manager();
    assert_eq!(program.finish().success().code, Some(0));
    assert_eq!(sorted_lines(&output).len(), 10);
    assert_nothing_left(&mut cluster);
}

#[test]
fn what_cannot_run_is_refused_before_anything_starts() {
    let cluster = Cluster::builder().prepare();
    let jobs = binary("jobs").display().to_string();
    for (words, part) in [
        (&["start", "--jars", "/nowhere/job"][..], "cannot run /nowhere/job"),
        (&["start", "--jars", "/etc/passwd"], "cannot run /etc/passwd"),
        (&["start"], "name one with --jars"),
        (&["start", "--jars", &jobs, "--claimMode", "legacy"], "LEGACY is not supported"),
        (&["start", "--jars", &jobs, "--paralelism", "2"], "did you mean --parallelism?"),
        (&["start", "--jars", &jobs, "-p", "none"], "expected 1 or more"),
        (&["start", "--jars", &jobs, "-D", "rest.prot=1"], "did you mean rest.port?"),
    ] {
        let outcome = Outcome::of(command(&cluster, words));
        assert_eq!(outcome.code, Some(1), "{words:?}: {outcome:?}");
        assert!(outcome.stderr.contains(part), "{words:?}: {outcome:?}");
        let left = cluster.census();
        assert!(left.processes.is_empty(), "{words:?}: {left:?}");
    }
    let help = Outcome::of(command(&cluster, &["--help"])).success().stdout;
    assert!(help.contains("--job-classname"), "{help}");
}
