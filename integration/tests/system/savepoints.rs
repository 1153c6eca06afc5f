//! Savepoints on real processes: a job stops with one and goes on from it at another parallelism,
//! and each result is published once. What cannot be done is refused and changes nothing.
//!
//! Where a job is cancelled or refused, periodic checkpoints are an hour apart: one behind the
//! savepoint would publish results that the job that starts from the savepoint computes again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use millstream_integration::{Cluster, Job, Outcome, until};
use millstream_oracle::committed::{Expected, Input};
use serde_json::Value;

const RECORDS: u64 = 12_000;
/// Records per second.
const RATE: u64 = 3_000;
const KEYS_PER_LANE: u64 = 3;
const HOUR: &str = "execution.checkpointing.interval=1h";
/// All state is in files, however small, if there is a directory for checkpoints.
const FILES: &str = "execution.checkpointing.data-inline-threshold=0b";
const DEADLINE: Duration = Duration::from_secs(30);

/// A cluster for the job `keyed-sum`, whose results are known.
struct Sums {
    cluster: Cluster,
    output: PathBuf,
    savepoints: PathBuf,
}

impl Sums {
    fn start() -> Self {
        let cluster = Cluster::builder().slots_with_memory(2, 128).start();
        let (output, savepoints) = (cluster.data("output"), cluster.data("savepoints"));
        std::fs::create_dir(&savepoints).unwrap();
        Self { cluster, output, savepoints }
    }

    fn target(&self) -> &str {
        self.savepoints.to_str().unwrap()
    }

    fn arguments(&self) -> Vec<String> {
        let numbers = [
            ("--seed", 7),
            ("--records", RECORDS),
            ("--keys-per-lane", KEYS_PER_LANE),
            ("--rate", RATE),
        ];
        let numbers = numbers.map(|(name, number)| [name.to_owned(), number.to_string()]);
        let texts = ["--job", "keyed-sum", "--output", self.output.to_str().unwrap()];
        texts.map(str::to_owned).into_iter().chain(numbers.into_iter().flatten()).collect()
    }

    /// Starts the job at parallelism 2, and waits until it has written some records.
    fn submit(&self, setting: &str) -> Job {
        let arguments = self.arguments();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let checkpoints = self.cluster.data("checkpoints").display().to_string();
        let checkpoints = format!("execution.checkpointing.dir={checkpoints}");
        let options = ["-p", "2", "-D", setting, "-D", FILES, "-D", &checkpoints];
        let job = self.cluster.submit_job(&options, &arguments);
        job.wait_for_tasks();
        wait_for_records(&job);
        job
    }

    /// Runs the job from a savepoint at parallelism 1, to its end.
    fn resume(&self, from: &str) -> Outcome {
        let arguments = self.arguments();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let options = ["-s", from, "-p", "1", "-D", HOUR];
        self.cluster.run_job(&options, &arguments)
    }

    /// Checks that each result is published once.
    fn assert_exact(&self) {
        let expected = Expected::of(&Input::keyed_sum(7, RECORDS, KEYS_PER_LANE));
        let mut lines = published(&self.output);
        for line in expected.lines() {
            assert_eq!(lines.remove(&line), Some(1), "how often {line:?} is published");
        }
        assert_eq!(lines, BTreeMap::new(), "no results");
    }
}

/// Waits until more records than before have come to the files.
fn wait_for_records(job: &Job) {
    let arrived = || {
        let vertices = job.details()["vertices"].as_array().cloned().unwrap_or_default();
        let last = vertices.last().and_then(|vertex| vertex["metrics"]["read-records"].as_u64());
        last.unwrap_or(0)
    };
    let before = arrived();
    until("records arrive", DEADLINE, || {
        assert_eq!(job.status(), "RUNNING", "{:?}", job.causes());
        (arrived() > before + RATE / 4).then_some(())
    });
}

/// The lines of the published files, each with the number of times that it is there.
fn published(directory: &Path) -> BTreeMap<String, u32> {
    let mut lines = BTreeMap::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with('.') {
            let text = std::fs::read_to_string(entry.path()).unwrap();
            text.lines().for_each(|line| *lines.entry(line.to_owned()).or_default() += 1);
        }
    }
    lines
}

/// The savepoint that a command says that it has taken.
fn location(outcome: &Outcome, before: &str) -> String {
    let line = outcome.stdout.lines().find_map(|line| line.split_once(before));
    let path = line.map_or("", |(_, path)| path.trim_end_matches('.')).to_owned();
    assert!(!path.is_empty(), "no {before:?} in {outcome:#?}");
    assert!(local(&path).join("_metadata").exists(), "{path}");
    path
}

fn local(path: &str) -> &Path {
    Path::new(path.strip_prefix("file:").unwrap_or(path))
}

/// The names and sizes of a directory's files.
fn files(directory: &Path) -> BTreeMap<String, u64> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let files = entries.map(|entry| {
        (entry.file_name().to_string_lossy().into_owned(), entry.metadata().unwrap().len())
    });
    files.collect()
}

/// A copy of a savepoint.
fn copied(from: &Path, to: PathBuf) -> PathBuf {
    std::fs::create_dir(&to).unwrap();
    for name in files(from).keys() {
        std::fs::copy(from.join(name), to.join(name)).unwrap();
    }
    to
}

#[test]
fn a_job_is_stopped_and_goes_on_at_another_parallelism() {
    let sums = Sums::start();
    let job = sums.submit("execution.checkpointing.interval=100ms");
    let taken = sums.cluster.millstream(&["savepoint", &job.id, sums.target()]).success();
    let early = location(&taken, "Savepoint completed. Path: ");
    wait_for_records(&job);
    let stopped = sums.cluster.millstream(&["stop", "-p", sums.target(), &job.id]).success();
    let last = location(&stopped, "Savepoint completed. Path: ");
    assert_eq!(job.status(), "FINISHED");
    let before: u32 = published(&sums.output).values().sum();
    assert!(u64::from(before) < RECORDS, "it has ended before it was stopped");

    let _ = sums.resume(&last).success();
    sums.assert_exact();
    assert!(local(&last).join("_metadata").exists(), "its user's savepoint is not deleted");
    let _ = sums.cluster.millstream(&["savepoint", "-d", &early]).success();
    assert!(!local(&early).exists(), "{:?}", files(local(&early)));
    let again = sums.cluster.millstream(&["savepoint", "-d", &early]);
    assert!(again.complaint().contains("there is no savepoint in"), "{again:?}");
    assert!(local(&last).join("_metadata").exists());
}

#[test]
fn a_job_is_cancelled_behind_a_savepoint_and_goes_on() {
    let sums = Sums::start();
    let job = sums.submit(HOUR);
    let taken = sums.cluster.millstream(&["savepoint", &job.id, sums.target()]).success();
    let savepoint = location(&taken, "Savepoint completed. Path: ");
    wait_for_records(&job);
    let _ = sums.cluster.millstream(&["cancel", &job.id]).success();
    job.wait_for("CANCELED");
    let _ = sums.resume(&savepoint).success();
    sums.assert_exact();
}

#[test]
fn a_job_is_cancelled_with_a_savepoint_and_goes_on() {
    let sums = Sums::start();
    let job = sums.submit(HOUR);
    let taken = sums.cluster.millstream(&["cancel", "-s", sums.target(), &job.id]).success();
    let savepoint = location(&taken, "Savepoint stored in ");
    job.wait_for("CANCELED");
    let _ = sums.resume(&savepoint).success();
    sums.assert_exact();
}

#[test]
fn a_checkpoint_on_request_publishes_results() {
    let sums = Sums::start();
    let job = sums.submit(HOUR);
    assert_eq!(published(&sums.output), BTreeMap::new());
    let taken = sums.cluster.millstream(&["checkpoint", &job.id]).success();
    let sentence = format!("Checkpoint 1 for job {} completed.", job.id);
    assert!(taken.stdout.contains(&sentence), "{taken:?}");
    until("results are published", DEADLINE, || {
        (!published(&sums.output).is_empty()).then_some(())
    });
    let path = format!("/v1/jobs/{}/checkpoints", job.id);
    let completed = sums.cluster.rest.get(&path).json["counts"]["completed"].clone();
    assert_eq!(completed, Value::from(1));
    job.wait_for("FINISHED");
    sums.assert_exact();
}

#[test]
fn what_cannot_be_done_is_refused_and_changes_nothing() {
    let sums = Sums::start();
    let cluster = &sums.cluster;
    let job = sums.submit(HOUR);
    let blocked = cluster.data("a-file");
    std::fs::write(&blocked, "no directory").unwrap();
    let blocked = blocked.join("savepoints").display().to_string();
    for words in [&["savepoint", &job.id, &blocked][..], &["stop", "-p", &blocked, &job.id]] {
        let refused = cluster.millstream(words);
        let complaint = refused.complaint();
        assert!(complaint.contains(&blocked), "{complaint}");
    }
    wait_for_records(&job);
    let stopped = cluster.millstream(&["stop", "-p", sums.target(), &job.id]).success();
    let location = location(&stopped, "Savepoint completed. Path: ");
    let savepoint = local(&location);
    let (kept, output) = (files(savepoint), published(&sums.output));

    let empty = cluster.data("empty");
    std::fs::create_dir(&empty).unwrap();
    let cut_off = copied(savepoint, cluster.data("cut-off"));
    let metadata = std::fs::read(cut_off.join("_metadata")).unwrap();
    std::fs::write(cut_off.join("_metadata"), &metadata[..metadata.len() / 2]).unwrap();
    let incomplete = copied(savepoint, cluster.data("incomplete"));
    let state = kept.keys().find(|name| *name != "_metadata").unwrap();
    std::fs::remove_file(incomplete.join(state)).unwrap();
    for (from, named) in [
        (&empty, empty.join("_metadata")),
        (&cut_off, cut_off.join("_metadata")),
        (&incomplete, incomplete.join(state)),
    ] {
        let refused = sums.resume(from.to_str().unwrap());
        let complaint = refused.complaint();
        let named = named.display().to_string();
        assert!(complaint.contains(&named), "{named} in {complaint}");
        assert_eq!(published(&sums.output), output);
    }

    let copy = cluster.data("copy").display().to_string();
    let other = ["--job", "copy", "--records", "1000", "--output", &copy];
    let options = ["-s", &location, "-D", HOUR, "-p", "1"];
    let refused = cluster.run_job(&options, &other);
    let complaint = refused.complaint();
    for words in ["sums", "which the job does not have", "--allowNonRestoredState"] {
        assert!(complaint.contains(words), "{words} in {complaint}");
    }
    let _ = cluster.run_job(&[&options[..], &["-n"]].concat(), &other).success();
    assert_eq!(published(Path::new(&copy)).len(), 1_000);

    assert_eq!((files(savepoint), published(&sums.output)), (kept, output));
    let _ = sums.resume(&location).success();
    sums.assert_exact();
}
