//! Jobs of two regions, one of which fails while the other one runs.

use super::*;

/// The way in which subtask 0 fails.
#[derive(Debug, Clone, Copy)]
enum How {
    Error,
    Panic,
}

/// The numbers, of which subtask 0 fails as often as the run says, each time behind a checkpoint.
fn first_fails(numbers: Stream<u64>, run: &Run, how: How) -> Stream<u64> {
    let run = run.clone();
    let parallelism = run.parallelism;
    let failing = numbers.map_with(move |ctx| {
        let (run, attempt, is_first) = (run.clone(), ctx.attempt(), ctx.subtask() == 0);
        let files = published(&run.files).count();
        let mut seen = 0_u64;
        Ok(move |n| {
            seen += 1;
            let looks = is_first && attempt < run.failures && seen.is_multiple_of(20);
            if looks && published(&run.files).count() > files {
                run.failed.fetch_max(attempt + 1, Ordering::Relaxed);
                match how {
                    How::Error => bail!("attempt {attempt} fails at {n}"),
                    How::Panic => panic!("attempt {attempt} panics at {n}"),
                }
            }
            Ok(n)
        })
    });
    failing.parallelism(parallelism)
}

/// The lines of a job that never failed.
pub fn numbers() -> BTreeMap<String, usize> {
    (0..COUNT).map(|n| (n.to_string(), 1)).collect()
}

/// The attempts of each vertex's subtasks.
pub fn attempts(job: &JobDetails) -> Vec<Vec<u32>> {
    let of = |vertex: &millstream_gateway::VertexDetails| {
        vertex.subtasks.iter().map(|subtask| subtask.attempt).collect()
    };
    job.vertices.iter().map(of).collect()
}

/// Runs a job whose first subtask fails: each number is there once, and the other subtask has run
/// through.
fn check_regions(failures: u32, build: impl Fn(&mut Environment, &Run) -> Stream<u64>) {
    let lines = |env: &mut Environment, run: &Run| build(env, run).map(|n| Ok(n.to_string()));
    let (lines, job) = lines_of(failures, lines);
    check_lines(&numbers(), &lines);
    assert_eq!(job.restarts, failures);
    for vertex in attempts(&job) {
        assert_eq!(vertex, [failures, 0], "the second region was touched");
    }
    let report = &job.checkpoints.as_ref().unwrap().report;
    assert_eq!(report.counts.restored, u64::from(failures), "{report:?}");
}

#[test]
fn a_region_that_fails_goes_on_alone() {
    check_regions(3, |env, run| {
        let numbers = Datagen::sequence(0..COUNT).rate_per_second(RATE);
        first_fails(env.source("numbers", numbers).parallelism(2), run, How::Error)
    });
}

#[test]
fn a_region_that_panics_goes_on_alone() {
    check_regions(1, |env, run| {
        let numbers = Datagen::sequence(0..COUNT).rate_per_second(RATE);
        first_fails(env.source("numbers", numbers).parallelism(2), run, How::Panic)
    });
}

#[test]
fn files_that_a_failed_region_was_given_are_read_once() {
    check_regions(3, |env, run| {
        // Files of more than 1 MB, so that each is a split and both subtasks are given some.
        let numbers = run.read_files(env, 2, 4_000);
        first_fails(numbers, run, How::Error)
    });
}

#[test]
fn all_tasks_restart_where_the_strategy_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let mut run = Run::new(directory.path(), 1);
    run.settings.push(("jobmanager.execution.failover-strategy", "full"));
    let (result, job) = run_job(&run, |env, run| {
        let numbers = Datagen::sequence(0..COUNT).rate_per_second(RATE);
        let numbers = env.source("numbers", numbers).parallelism(2);
        first_fails(numbers, run, How::Error).map(|n| Ok(n.to_string()))
    });
    assert!(result.is_ok(), "{:?}: {:#?}", result.err(), job.exceptions);
    check_lines(&numbers(), &lines_in(&run.files));
    assert!(attempts(&job).iter().all(|vertex| *vertex == [1, 1]), "{:?}", attempts(&job));
}
