//! Jobs whose barriers overtake the records that wait for slow tasks: the records are part of the
//! checkpoint, and come again after a failure.

use super::*;

/// Lets barriers overtake.
const UNALIGNED: (&str, &str) = ("execution.checkpointing.unaligned.enabled", "true");

/// Hands on what comes, less fast than it does.
fn slowly(numbers: Stream<u64>, run: &Run) -> Stream<u64> {
    let is_slow = run.is_slow();
    numbers.map(move |n| {
        if is_slow && n % 4 == 0 {
            std::thread::sleep(Duration::from_micros(500));
        }
        Ok(n)
    })
}

/// Runs a job that fails so often, without aligned checkpoints: it has the lines of one that never
/// fails, and some of its checkpoints have records in flight.
fn check_unaligned(failures: u32, build: impl Fn(&mut Environment, &Run) -> Stream<String>) {
    let (expected, _) = lines_of(0, &build);
    let directory = tempfile::tempdir().unwrap();
    let mut run = Run::new(directory.path(), failures);
    run.settings.push(UNALIGNED);
    let (result, job) = run_job(&run, &build);
    assert!(result.is_ok(), "{:?}: {:#?}", result.err(), job.exceptions);
    assert_eq!(run.failed.load(Ordering::Relaxed), failures, "too few checkpoints in time");
    let report = &job.checkpoints.as_ref().unwrap().report;
    assert!(report.counts.restored >= u64::from(failures), "{report:?}");
    assert!(report.persisted_bytes.max > 0, "nothing was in flight: {report:?}");
    check_lines(&expected, &lines_in(&run.files));
}

#[test]
fn records_in_flight_to_a_keyed_function_come_again() {
    check_unaligned(2, |env, run| {
        let buckets = run.timed(env).key_by(|n| n % 50).process("buckets", Buckets::new);
        let buckets = buckets.map(|bucket| Ok(format!("{bucket:?}")));
        let is_slow = run.is_slow();
        buckets.map(move |line| {
            std::thread::sleep(millis(u64::from(is_slow)));
            Ok(line)
        })
    });
}

#[test]
fn records_in_flight_that_go_round_come_again_each_once() {
    check_unaligned(3, |env, run| {
        let numbers = slowly(run.numbers(env, 2).rebalance(), run).parallelism(2);
        let twice = numbers.flat_map(|n| Ok([n, n + 1_000_000]));
        slowly(twice.parallelism(2).rebalance(), run).map(|n| Ok(n.to_string()))
    });
}

#[test]
fn watermarks_in_flight_come_again() {
    check_unaligned(2, |env, run| {
        let numbers = slowly(run.timed(env).rebalance(), run).parallelism(2);
        sums(numbers, Tumbling::event_time(millis(200)))
    });
}
