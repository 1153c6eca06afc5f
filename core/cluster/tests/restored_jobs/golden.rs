//! A savepoint and a checkpoint of each version lie in the tree, with the files that were published
//! until then: every later version goes on from them.
//!
//! `UPDATE_EXPECT=1` makes those of this version where there are none.

use super::*;

/// States of keys, timers and windows.
fn everything(env: &mut Environment, run: &Run) -> Stream<String> {
    let numbers = run.timed(env);
    let buckets = numbers.clone().key_by(|n| n % 50).process("buckets", Buckets::new);
    let buckets = buckets.map(|bucket| Ok(format!("{bucket:?}")));
    buckets.union(sums(numbers, Tumbling::event_time(millis(200))))
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// Copies the files of a directory, without the directories in it.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in published(from).filter(|path| path.is_file()) {
        std::fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
    }
}

/// The only checkpoint that a job has left.
pub(super) fn retained(run: &Run, job: &JobDetails) -> PathBuf {
    let checkpoints = run.files.with_file_name("checkpoints").join(job.job.to_string());
    let mut complete = published(&checkpoints).filter(|it| it.join("_metadata").exists());
    complete.next().unwrap()
}

/// Runs a job until it is stopped, and the place from which it can go on.
fn stopped(run: &mut Run, how: Stop) -> PathBuf {
    run.stops = Some(how);
    let (result, job) = run_job(run, everything);
    assert!(result.is_ok(), "{:?}: {:#?}", result.err(), job.exceptions);
    if how == Stop::Retain { retained(run, &job) } else { location_of(&job).into() }
}

/// Goes on from there: the lines of both jobs.
fn lines_from(mut run: Run, from: &Path) -> BTreeMap<String, usize> {
    (run.from, run.stops) = (Some(from.display().to_string()), None);
    let (result, job) = run_job(&run, everything);
    assert!(result.is_ok(), "{:?}: {:#?}", result.err(), job.exceptions);
    assert!(from.join("_metadata").exists(), "it is the user's");
    lines_in(&run.files)
}

#[test]
fn a_job_goes_on_from_the_checkpoint_that_another_one_has_left() {
    let (expected, _) = lines_of(0, everything);
    let directory = tempfile::tempdir().unwrap();
    let mut run = Run::new(directory.path(), 0);
    let from = stopped(&mut run, Stop::Retain);
    run.parallelism = 3;
    check_lines(&expected, &lines_from(run, &from));
}

#[test]
fn what_earlier_versions_have_stored_is_read() {
    let (expected, _) = lines_of(0, everything);
    for (name, how) in [("savepoint-0.1", Stop::Suspend), ("checkpoint-0.1", Stop::Retain)] {
        let (stored, directory) = (golden(name), tempfile::tempdir().unwrap());
        let mut run = Run::new(directory.path(), 0);
        if !stored.exists() && std::env::var_os("UPDATE_EXPECT").is_some() {
            let from = stopped(&mut run, how);
            copy(&from, &stored);
            copy(&run.files, &stored.join("published"));
            continue;
        }
        let from = directory.path().join("stored");
        copy(&stored, &from);
        copy(&stored.join("published"), &run.files);
        check_lines(&expected, &lines_from(run, &from));
    }
}
