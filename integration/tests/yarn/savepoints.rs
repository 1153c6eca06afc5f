//! A savepoint on HDFS: a job on YARN stops with it, and goes on at another parallelism.

use millstream_integration::{Hadoop, OnYarn, binary, until};
use millstream_oracle::committed::{Expected, Input};

use crate::DEADLINE;
use crate::faults::start_session;

const RECORDS: u64 = 30_000;
const SEED: u64 = 5;

/// Runs `keyed-sum` with these options.
fn run(yarn: &OnYarn, options: &[&str]) -> millstream_integration::Outcome {
    let (program, output) = (binary("jobs"), yarn.home("sums"));
    let (records, seed) = (RECORDS.to_string(), SEED.to_string());
    let numbers = ["--seed", &seed, "--records", &records, "--keys-per-lane", "2"];
    let texts = ["--rate", "2000", "--output", &output];
    let settings = ["-Dexecution.checkpointing.interval=1h"];
    let job = ["-c", "keyed-sum", program.to_str().unwrap()];
    yarn.run("run", &[&settings[..], options, &job, &numbers, &texts].concat()).success()
}

#[test]
fn a_job_stops_with_a_savepoint_on_hdfs_and_goes_on() {
    let yarn = OnYarn::new(Hadoop::builder().start());
    let session = start_session(&yarn);
    let submitted = run(&yarn, &["-d", "-p", "2"]);
    let job = yarn.job(&session, &submitted.job_id());
    job.wait_for_tasks();
    until("records arrive", DEADLINE, || {
        let vertices = job.details()["vertices"].as_array().cloned()?;
        let arrived = vertices.last()?["metrics"]["read-records"].as_u64()?;
        (arrived > 2_000).then_some(())
    });
    let target = yarn.home("savepoints");
    let (id, application) = (&job.id, format!("-Dyarn.application.id={session}"));
    let words = ["-t", "yarn-session", &application, "-p", &target, id];
    let stopped = yarn.run("stop", &words).success();
    job.wait_for("FINISHED");
    let (_, path) = stopped.stdout.split_once("Savepoint completed. Path: ").unwrap();
    let path = path.trim();
    assert!(path.starts_with(&target), "{path}");

    let _ = run(&yarn, &["-s", path, "-p", "1"]);
    let expected = Expected::of(&Input::keyed_sum(SEED, RECORDS, 2));
    let mut lines: Vec<String> = expected.lines().collect();
    lines.sort_unstable();
    assert!(yarn.sorted_lines(&yarn.home("sums")) == lines, "other lines than expected");
}
