//! Savepoints: results behind their barriers, the owner of their files, and refused starts.

use millstream_gateway::CauseKind;

use super::*;

/// The sums of everything that was read, in windows that end long after it.
fn long_sums(env: &mut Environment, run: &Run) -> Stream<String> {
    let hour = Duration::from_secs(3600);
    let sums = sums(run.timed(env), Tumbling::event_time(hour));
    beside_progress(env, sums)
}

/// Adds lines that say how far the job has come.
fn beside_progress(env: &mut Environment, sums: Stream<String>) -> Stream<String> {
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

/// Starts a job from a savepoint that `damage` has changed: the kind of its failure, and why it
/// cannot start.
fn refusal(
    damage: impl Fn(&Path),
    build: impl Fn(&mut Environment, &Run) -> Stream<String>,
) -> (CauseKind, String) {
    let directory = tempfile::tempdir().unwrap();
    let mut run = Run::new(directory.path(), 0);
    let location = location_of(&stopped(&mut run, Stop::Suspend));
    damage(Path::new(&location));
    let files = published(&run.files).count();
    // Whatever a job claims stays when the job cannot start from it.
    (run.from, run.stops, run.claims) = (Some(location.clone()), None, true);
    let before = entries(&location);
    let (result, job) = run_job(&run, build);
    assert!(result.is_err() && job.restarts == 0, "{:?}", job.exceptions);
    assert_eq!((published(&run.files).count(), entries(&location)), (files, before));
    let cause = job.exceptions[0].cause.clone();
    (cause.kind, cause.message.replace(&location, "SAVEPOINT"))
}

fn entries(directory: &str) -> usize {
    std::fs::read_dir(directory).unwrap().count()
}

/// A state file of a savepoint.
fn state_file(savepoint: &Path) -> PathBuf {
    let files = std::fs::read_dir(savepoint).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| !path.ends_with("_metadata")).min().unwrap()
}

#[test]
fn damage_to_a_savepoint_is_refused_with_file_and_fault() {
    let metadata = |at: &Path| at.join("_metadata");
    let cut = |path: &Path| {
        let bytes = std::fs::read(path).unwrap();
        std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    };
    let refused = |damage: &dyn Fn(&Path)| {
        let (kind, message) = refusal(damage, long_sums);
        assert_eq!(kind, CauseKind::Checkpoint, "{message}");
        message
    };
    let why = refused(&|at| std::fs::remove_file(metadata(at)).unwrap());
    assert_eq!(why, "the job cannot start from SAVEPOINT: SAVEPOINT/_metadata does not exist");
    let why = refused(&|at| cut(&metadata(at)));
    assert!(why.starts_with("the job cannot start from SAVEPOINT: "), "{why}");
    assert!(why.contains("SAVEPOINT/_metadata"), "{why}");
    let why = refused(&|at| std::fs::remove_file(state_file(at)).unwrap());
    assert!(why.contains("SAVEPOINT/") && why.contains("is missing"), "{why}");
    let why = refused(&|at| cut(&state_file(at)));
    assert!(why.contains("SAVEPOINT/") && why.contains("is cut off"), "{why}");
    // Bytes are looked at where the state is read, and no attempt follows.
    let altered = |at: &Path| {
        let mut bytes = std::fs::read(state_file(at)).unwrap();
        bytes[9] ^= 1;
        std::fs::write(state_file(at), bytes).unwrap();
    };
    let (kind, why) = refusal(altered, long_sums);
    assert_eq!(kind, CauseKind::State);
    assert!(why.contains("state file SAVEPOINT/") && why.contains("was altered"), "{why}");
}

/// The windows of [`long_sums`] with another type of sums.
fn changed_sums(env: &mut Environment, run: &Run) -> Stream<String> {
    let numbers = run.timed(env).key_by(|n| n % 40);
    let windows = numbers.window(Tumbling::event_time(Duration::from_secs(3600)));
    let sums = windows.aggregate(
        "sums",
        String::new,
        |text, n| {
            text.push_str(&n.to_string());
            Ok(())
        },
        |text, later| {
            text.push_str(&later);
            Ok(())
        },
        |_, _, text| Ok(text),
    );
    beside_progress(env, sums)
}

#[test]
fn a_state_of_another_type_is_refused_with_both_types() {
    let (kind, why) = refusal(|_| {}, changed_sums);
    assert_eq!(kind, CauseKind::State, "{why}");
    assert!(why.contains("\"sums\" cannot be restored"), "{why}");
    assert!(why.contains("string") && why.contains("u64"), "{why}");
}

#[test]
fn state_of_an_operator_that_the_job_lacks_is_refused_unless_it_is_left_out() {
    let without = |env: &mut Environment, run: &Run| {
        let numbers = env.source("numbers", Datagen::sequence(0..COUNT)).parallelism(run.wide(2));
        numbers.map(|n| Ok(n.to_string()))
    };
    let (kind, why) = refusal(|_| {}, without);
    assert_eq!(kind, CauseKind::Checkpoint, "{why}");
    assert!(why.contains("(uid \"sums\")") && why.contains("--allowNonRestoredState"), "{why}");
    let directory = tempfile::tempdir().unwrap();
    let mut run = Run::new(directory.path(), 0);
    run.from = Some(location_of(&stopped(&mut run, Stop::Suspend)));
    (run.stops, run.ignores) = (None, true);
    let (result, job) = run_job(&run, without);
    assert!(result.is_ok(), "{:?}: {:#?}", result.err(), job.exceptions);
    let lines = lines_in(&run.files);
    assert!(lines.keys().filter(|line| *line != "progress").count() < COUNT as usize);
    assert!(lines.contains_key(&(COUNT - 1).to_string()));
}

#[test]
fn a_savepoint_keeps_its_results_for_the_job_that_starts_from_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut run = Run::new(directory.path(), 0);
    run.stops = Some(Stop::CancelLater);
    let lines = |env: &mut Environment, run: &Run| run.numbers(env, 2).map(|n| Ok(n.to_string()));
    let (result, job) = run_job(&run, lines);
    assert!(result.is_ok() && job.status == JobStatus::Canceled, "{:#?}", job.exceptions);
    assert_eq!((published(&run.files).count(), hidden(&run.files) >= 8), (0, true));
    (run.from, run.stops) = (Some(location_of(&job)), None);
    let (result, job) = run_job(&run, lines);
    assert!(result.is_ok(), "{:?}: {:#?}", result.err(), job.exceptions);
    let expected = (0..COUNT).map(|n| (n.to_string(), 1)).collect();
    check_lines(&expected, &lines_in(&run.files));
}
