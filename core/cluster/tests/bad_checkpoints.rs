//! Checkpoints that fail at each point where they can: each says why, and the job goes on. The next
//! checkpoint is complete and carries the committables of the failed one, which leaves no file.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test ends where a step fails")]

#[path = "bad_checkpoints/disk.rs"]
mod disk;
#[path = "bad_checkpoints/job.rs"]
mod job;
mod watched;

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use millstream_gateway::CauseKind;

use job::{Ended, run};

/// The fault of a job's part, or of its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// A state's type cannot be written.
    Write,
    /// A state's type cannot be read.
    Read,
    /// The enumerator has no snapshot.
    Enumerator,
    /// The sink's writer fails at a barrier, once.
    PreCommit,
    /// It takes longer than a checkpoint may.
    SlowPreCommit,
    /// A function fails, once.
    Map,
    /// A function fails, and from then on a state's type cannot be read.
    MapAndRead,
    /// The disk takes no byte.
    Full,
    /// The disk takes no byte of metadata.
    NoRoomForMetadata,
    /// Nothing can be created.
    ReadOnly,
    /// The metadata cannot get its name.
    RefusesMetadata,
    /// It is not known whether the metadata has got its name; it has not.
    LosesMetadata,
    /// Each write takes longer than a checkpoint may.
    Slow,
}

/// The fault of each test of this program.
static FAULTS: Mutex<[Fault; 8]> = Mutex::new([Fault::None; 8]);

fn fault(test: usize) -> Fault {
    FAULTS.lock().unwrap()[test]
}

fn set(test: usize, fault: Fault) {
    FAULTS.lock().unwrap()[test] = fault;
}

/// The test whose state has a key for each number.
const MANY_KEYS: usize = 5;

/// The fate of a checkpoint.
#[derive(Debug, Clone, Copy)]
enum Outcome {
    /// It is declined.
    Declined,
    /// A task fails, and all restart.
    Restart,
}

/// The points at which a checkpoint can fail in one process, each with what the reason names.
/// Those of the processes and of the coordinator are in `core/checkpoint`.
const POINTS: &[(Fault, Outcome, &[&str])] = &[
    (
        Fault::Write,
        Outcome::Declined,
        &["sums -> Map", "\"sum of numbers\"", "cannot be turned into bytes"],
    ),
    (Fault::Enumerator, Outcome::Declined, &["numbers", "the list of splits is locked"]),
    (Fault::PreCommit, Outcome::Restart, &["Sink: kept (1/1) failed"]),
    (Fault::SlowPreCommit, Outcome::Declined, &["not acknowledged within 1s", "(1/1)"]),
    (Fault::Map, Outcome::Restart, &["Sink: kept (1/1) failed"]),
    (Fault::Full, Outcome::Declined, &["DIRECTORY/", "no room to write to", "no storage space"]),
    (Fault::NoRoomForMetadata, Outcome::Declined, &["DIRECTORY/", "_metadata", "no room"]),
    (Fault::ReadOnly, Outcome::Declined, &["DIRECTORY/", "no permission to", "read-only"]),
    (Fault::RefusesMetadata, Outcome::Declined, &["DIRECTORY/", "_metadata", "no permission"]),
    (Fault::LosesMetadata, Outcome::Declined, &["DIRECTORY/", "_metadata"]),
];

#[test]
fn each_point_of_failure_is_followed_by_a_good_checkpoint() {
    const TEST: usize = 0;
    let directory = tempfile::tempdir().unwrap();
    let settings = [("execution.checkpointing.timeout", "1 s")];
    let ended = run::<TEST>(directory.path(), &settings, |job| {
        job.good_checkpoint();
        for (fault, outcome, names) in POINTS {
            let restarts = job.restarts();
            set(TEST, *fault);
            let reason = job.checkpoint().expect_err("it is complete");
            set(TEST, Fault::None);
            let reason = reason.replace(job.directory.to_str().unwrap(), "DIRECTORY");
            for name in *names {
                assert!(reason.contains(name), "{fault:?}: {name} is missing in: {reason}");
            }
            job.good_checkpoint();
            let expected = restarts + u32::from(matches!(outcome, Outcome::Restart));
            assert_eq!(job.restarts(), expected, "{fault:?}");
        }
        job.stop();
    });
    ended.check();
}

#[test]
fn a_directory_that_has_gone_is_made_again() {
    const TEST: usize = 1;
    let directory = tempfile::tempdir().unwrap();
    let ended = run::<TEST>(directory.path(), &[], |job| {
        job.good_checkpoint();
        std::fs::remove_dir_all(job.root()).unwrap();
        job.good_checkpoint();
        // Something else is in its place.
        std::fs::remove_dir_all(job.root()).unwrap();
        std::fs::write(job.root(), "").unwrap();
        let reason = job.checkpoint().expect_err("it is complete");
        assert!(reason.contains(job.root().to_str().unwrap()), "{reason}");
        assert!(reason.contains("Not a directory"), "{reason}");
        std::fs::remove_file(job.root()).unwrap();
        job.good_checkpoint();
        job.stop();
    });
    ended.check();
    assert_eq!(ended.job.restarts, 0);
}

#[test]
fn a_slow_disk_costs_the_checkpoints_that_it_is_too_slow_for() {
    const TEST: usize = 2;
    let directory = tempfile::tempdir().unwrap();
    let settings = [("execution.checkpointing.timeout", "500 ms")];
    let ended = run::<TEST>(directory.path(), &settings, |job| {
        job.good_checkpoint();
        for _ in 0..2 {
            set(TEST, Fault::Slow);
            let reason = job.checkpoint().expect_err("it is complete");
            assert!(reason.contains("not acknowledged within 500ms"), "{reason}");
            set(TEST, Fault::None);
            job.good_checkpoint();
        }
        job.stop();
    });
    ended.check();
    assert_eq!(ended.job.restarts, 0);
}

#[test]
fn more_failures_in_a_row_than_tolerated_fail_the_job() {
    const TEST: usize = 3;
    let directory = tempfile::tempdir().unwrap();
    let settings = [
        ("execution.checkpointing.tolerable-failed-checkpoints", "2"),
        ("restart-strategy.type", "none"),
    ];
    let ended = run::<TEST>(directory.path(), &settings, |job| {
        // A good one in between begins a new row.
        for failures in [2, 2, 3] {
            job.good_checkpoint();
            set(TEST, Fault::Full);
            for _ in 0..failures {
                job.checkpoint().expect_err("it is complete");
            }
            set(TEST, Fault::None);
        }
    });
    let why = format!("{:#}", ended.result.unwrap_err());
    assert!(why.contains("3 checkpoints in a row failed, the last one so: checkpoint"), "{why}");
    assert!(why.contains(directory.path().to_str().unwrap()), "{why}");
    assert!(why.contains("no room to write to"), "{why}");
    assert!(ended.committed.iter().copied().eq(0..ended.committed.len() as u64));
}

/// Checks that a job has failed because its sums cannot be read from a file below `directory`.
fn check_unreadable(ended: &Ended, directory: &str, restarts: u32) {
    assert!(ended.result.is_err());
    let cause = &ended.job.exceptions[0].cause;
    let message = &cause.message;
    assert_eq!((cause.kind, ended.job.restarts), (CauseKind::State, restarts), "{message}");
    for name in ["\"sums\"", "\"sum of numbers\"", "cannot be read", directory] {
        assert!(message.contains(name), "{name} is missing in: {message}");
    }
}

#[test]
fn a_state_that_cannot_be_read_fails_the_job_at_once() {
    const TEST: usize = 4;
    let directory = tempfile::tempdir().unwrap();
    let ended = run::<TEST>(directory.path(), &[], |job| {
        job.wait_for_numbers(100);
        job.stop();
    });
    ended.check();
    let savepoint = ended.savepoint();
    set(TEST, Fault::Read);
    let from = [("execution.state-recovery.path", savepoint.as_str())];
    check_unreadable(&run::<TEST>(directory.path(), &from, |_| {}), &savepoint, 0);
    set(TEST, Fault::None);
    let checkpoints = directory.path().to_str().unwrap();
    let ended = run::<TEST>(directory.path(), &[], |job| {
        job.good_checkpoint();
        set(TEST, Fault::MapAndRead);
    });
    check_unreadable(&ended, checkpoints, 1);
    set(TEST, Fault::None);
    let ended = run::<TEST>(directory.path(), &from, |job| {
        job.wait_for_numbers(100);
        job.stop();
    });
    ended.check_from(ended.committed[0]);
}

/// The files of a savepoint, each with its bytes.
fn files_of(savepoint: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(savepoint).unwrap().map(|entry| entry.unwrap().path());
    let with_bytes = |path: PathBuf| (path.clone(), std::fs::read(path).unwrap());
    let mut files: Vec<_> = entries.map(with_bytes).collect();
    files.sort();
    files
}

/// Starts a job from a savepoint of which one file is damaged: it is refused with the name of the
/// file, at once and without a change; or the damage is where nothing is read, and the job goes on.
/// Returns whether it was refused.
fn is_refused(savepoint: &str, (file, good): &(PathBuf, Vec<u8>), damaged: &[u8]) -> bool {
    std::fs::write(file, damaged).unwrap();
    let before = files_of(Path::new(savepoint));
    let directory = tempfile::tempdir().unwrap();
    let from = [("execution.state-recovery.path", savepoint)];
    let ended = run::<MANY_KEYS>(directory.path(), &from, |job| {
        if job.runs() {
            job.stop();
        }
    });
    assert!(files_of(Path::new(savepoint)) == before, "something has changed");
    std::fs::write(file, good).unwrap();
    if ended.result.is_ok() {
        ended.check_from(ended.committed[0]);
        return false;
    }
    let cause = &ended.job.exceptions[0].cause;
    assert!(matches!(cause.kind, CauseKind::Checkpoint | CauseKind::State), "{cause:?}");
    assert!(cause.message.contains(file.to_str().unwrap()), "{cause:?}");
    assert_eq!(ended.job.restarts, 0, "{cause:?}");
    true
}

#[test]
fn a_damaged_savepoint_is_refused_wherever_the_damage_is() {
    let directory = tempfile::tempdir().unwrap();
    let ended = run::<MANY_KEYS>(directory.path(), &[], |job| {
        job.wait_for_numbers(2_000);
        job.stop();
    });
    ended.check();
    let savepoint = ended.savepoint();
    let files = files_of(Path::new(&savepoint));
    let bytes: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    assert!((10_000..1_000_000).contains(&bytes), "{bytes}");
    // A thousand places take a minute.
    for round in millstream_soak::rounds("flipped bits of a savepoint", 0.01, 40, 1_000) {
        let mut at = (round as usize).wrapping_mul(7_919_003) % bytes;
        let holds = |(_, bytes): &&(PathBuf, Vec<u8>)| {
            let is_here = at < bytes.len();
            at -= if is_here { 0 } else { bytes.len() };
            is_here
        };
        let file = files.iter().find(holds).unwrap();
        let mut damaged = file.1.clone();
        damaged[at] ^= 1 << (round % 8);
        assert!(is_refused(&savepoint, file, &damaged), "byte {at} of {}", file.0.display());
    }
    for file in &files {
        for length in (0..file.1.len()).step_by((file.1.len() / 10).clamp(1, 1_000)) {
            assert!(is_refused(&savepoint, file, &file.1[..length]));
        }
    }
    assert!(!is_refused(&savepoint, &files[0], &files[0].1), "it is as good as before");
}
