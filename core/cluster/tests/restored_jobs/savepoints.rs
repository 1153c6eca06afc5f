//! Savepoints: what is emitted behind their barriers, whose files they are, and what refuses a
//! start from them.

use super::*;

/// The sums of everything that was read, in windows that end long after it.
fn long_sums(env: &mut Environment, run: &Run) -> Stream<String> {
    let hour = Duration::from_secs(3600);
    let sums = sums(run.timed(env), Tumbling::event_time(hour));
    // The numbers themselves say how far the job has come.
    let numbers = env.source("progress", Datagen::sequence(0..COUNT).rate_per_second(RATE));
    let times = WatermarkStrategy::monotonous().timestamps(|n: &u64| Ok(n.cast_signed()));
    let progress = numbers.parallelism(1).assign_timestamps(times).parallelism(1);
    sums.union(progress.map(|_| Ok("progress".to_owned())))
}

/// The lines of windows.
fn windows(lines: &BTreeMap<String, usize>) -> usize {
    lines.keys().filter(|line| *line != "progress").count()
}

fn stopped(run: &mut Run, how: Stop) -> Arc<JobDetails> {
    run.stops = Some(how);
    let (result, job) = run_job(run, long_sums);
    assert!(result.is_ok(), "{:?}: {:#?}", result.err(), job.exceptions);
    let vertices = job.vertices.iter().flat_map(|vertex| &vertex.subtasks);
    let states: Vec<_> = vertices.map(|subtask| subtask.state).collect();
    assert!(states.iter().all(|state| *state == ExecutionState::Finished), "{states:?}");
    job
}

#[test]
fn a_drain_fires_windows_and_a_stop_does_not() {
    for (how, count) in [(Stop::Suspend, 0), (Stop::Drain, 40), (Stop::Cancel, 0)] {
        let directory = tempfile::tempdir().unwrap();
        let mut run = Run::new(directory.path(), 0);
        stopped(&mut run, how);
        let lines = lines_in(&run.files);
        assert!(lines["progress"] > 0);
        assert_eq!(windows(&lines), count, "{how:?}");
    }
}

#[test]
fn a_savepoint_is_its_users_unless_the_job_claims_it() {
    for claims in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let mut run = Run::new(directory.path(), 0);
        let location = location_of(&stopped(&mut run, Stop::Suspend));
        (run.from, run.claims) = (Some(location.clone()), claims);
        stopped(&mut run, Stop::Suspend);
        assert_eq!(Path::new(&location).exists(), !claims);
    }
}

/// Starts a job from a savepoint that `damage` has changed: the reason why it cannot start.
fn refusal(damage: impl Fn(&Path)) -> String {
    let directory = tempfile::tempdir().unwrap();
    let mut run = Run::new(directory.path(), 0);
    let location = location_of(&stopped(&mut run, Stop::Suspend));
    damage(Path::new(&location));
    let files = published(&run.files).count();
    (run.from, run.stops) = (Some(location.clone()), None);
    let (result, job) = run_job(&run, long_sums);
    assert!(result.is_err() && job.restarts == 0, "{:?}", job.exceptions);
    assert_eq!(published(&run.files).count(), files, "nothing is changed");
    let message = job.exceptions[0].cause.message.clone();
    assert!(message.contains(&location), "{message}");
    message
}

#[test]
fn damage_to_a_savepoint_is_refused_with_file_and_fault() {
    let metadata = |at: &Path| at.join("_metadata");
    let gone = refusal(|at| std::fs::remove_file(metadata(at)).unwrap());
    assert!(gone.contains("does not exist"), "{gone}");
    let cut = refusal(|at| {
        let bytes = std::fs::read(metadata(at)).unwrap();
        std::fs::write(metadata(at), &bytes[..bytes.len() / 2]).unwrap();
    });
    assert!(cut.contains("_metadata"), "{cut}");
}
