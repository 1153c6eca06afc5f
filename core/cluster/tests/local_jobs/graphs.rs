//! Graphs that look strange and are right, or look right and are wrong.

use super::*;

/// Runs two subtasks of a sink; how many records each got.
fn by_two(build: impl FnOnce(Stream<u64>) -> Stream<u64>) -> [usize; 2] {
    let out = Collect::new();
    run(2, |env| {
        let numbers = env.source("numbers", Numbers(10_000));
        build(numbers).sink("out", out.clone()).parallelism(2);
        Ok(())
    });
    [out.by_subtask(0), out.by_subtask(1)]
}

#[test]
fn each_of_two_edges_between_the_same_operators_follows_its_own_partitioner() {
    let both = by_two(|n| n.clone().partition_custom(|_, _| 0).union(n.partition_custom(|_, _| 1)));
    assert_eq!(both, [10_000, 10_000]);
    let [first, second] = by_two(|n| n.clone().union(n.key_by(|_| 7u64).into_stream()));
    assert_eq!((first.min(second), first.max(second)), (5_000, 15_000));
    assert_eq!(by_two(|n| n.clone().union(n.broadcast())), [15_000, 15_000]);
    assert_eq!(
        by_two(|n| n.clone().global().union(n.clone().broadcast().union(n))),
        [25_000, 15_000]
    );
    let keyed = by_two(|n| {
        let one = n.clone().key_by(|_| 1u64).into_stream();
        one.union(n.key_by(|n| *n).into_stream())
    });
    assert_eq!(keyed[0] + keyed[1], 20_000);
    assert!(keyed[0].min(keyed[1]) > 4_000, "{keyed:?}");
}

static ASIDE: OutputTag<u64> = OutputTag::new("aside");

#[test]
fn a_side_output_may_be_asked_for_twice() {
    let (first, second, both) = (Collect::new(), Collect::new(), Collect::new());
    run(2, |env| {
        let numbers = env.source("numbers", Numbers(10)).on_error(OnError::side_output(&ASIDE));
        let even = numbers.map(|n| {
            ensure!(n % 2 == 0, "odd");
            Ok(n)
        });
        even.side_output(&ASIDE).sink("first", first.clone());
        even.side_output(&ASIDE).map(Ok).sink("second", second.clone());
        let odd = even.side_output(&ASIDE);
        odd.clone()
            .union(even.side_output(&ASIDE).rebalance())
            .union(even)
            .sink("both", both.clone());
        Ok(())
    });
    assert_eq!((first.records(), second.records()), (vec![1, 3, 5, 7, 9], vec![1, 3, 5, 7, 9]));
    assert_eq!(both.records(), [0, 1, 1, 2, 3, 3, 4, 5, 5, 6, 7, 7, 8, 9, 9]);
}

/// The fault of a job that is refused before it runs.
fn fault(build: impl FnOnce(&mut Environment) -> Result<()>) -> String {
    let (result, seen) = run_and_see(JobSettings::default(), build);
    assert!(seen.is_none(), "the job ran");
    format!("{:#}", result.unwrap_err())
}

#[test]
fn one_tag_with_two_record_types_is_refused_at_plan_time() {
    static OTHER: OutputTag<String> = OutputTag::new("aside");
    let error = fault(|env| {
        let numbers = env.source("numbers", Numbers(10)).on_error(OnError::side_output(&ASIDE));
        let stream = numbers.map(Ok);
        stream.side_output(&OTHER).sink("other", Collect::new());
        stream.sink("out", Collect::new());
        Ok(())
    });
    assert!(error.contains("side output \"aside\" of operator \"Map\""), "{error}");
    assert!(error.contains("two record types"), "{error}");
}

#[test]
fn a_stream_of_another_job_is_refused() {
    let (result, _) = run_and_see(JobSettings::default(), |env| {
        let kept = env.source("numbers", Numbers(10));
        kept.clone().sink("first", Collect::<u64>::new());
        env.execute("first")?;
        let fresh = env.source("fresh", Numbers(20));
        // Without the check this would mean the new source: both are operator 0.
        kept.sink("second", Collect::<u64>::new());
        fresh.sink("third", Collect::<u64>::new());
        Ok(())
    });
    let error = format!("{:#}", result.unwrap_err());
    assert!(error.contains("another job"), "{error}");
}

#[test]
fn on_error_that_would_be_lost_is_refused() {
    let error = fault(|env| {
        let (a, b) = (env.source("a", Numbers(1)), env.source("b", Numbers(1)));
        a.union(b.on_error(OnError::drop_record())).map(Ok).sink("out", Collect::<u64>::new());
        Ok(())
    });
    assert!(error.contains("different on_error()"), "{error}");
    let error = fault(|env| {
        let a = env.source("a", Numbers(1)).on_error(OnError::drop_record());
        a.sink("out", Collect::<u64>::new());
        Ok(())
    });
    assert!(error.contains("on_error() before the sink \"out\""), "{error}");
}

#[test]
fn a_stream_that_is_united_with_itself_again_and_again_is_refused() {
    let error = fault(|env| {
        let mut numbers = env.source("a", Numbers(1));
        for _ in 0..60 {
            numbers = numbers.clone().union(numbers);
        }
        numbers.sink("out", Collect::<u64>::new());
        Ok(())
    });
    assert!(error.contains("a union() has more than"), "{error}");
}

#[test]
fn all_faults_of_a_job_are_named() {
    let error = fault(|env| {
        for name in ["a", "b", "c"] {
            for _ in 0..2 {
                env.source(name, Numbers(1)).sink(&format!("{name}-out"), Collect::<u64>::new());
            }
        }
        let wide = env.source("wide", Numbers(1)).parallelism(2);
        wide.forward()
            .map(Ok)
            .parallelism(0)
            .key_by(|n| *n)
            .into_stream()
            .name("keyed")
            .sink("d", Collect::<u64>::new());
        Ok(())
    });
    for part in [
        "name() must follow",
        "uid \"a\"",
        "uid \"b\"",
        "uid \"c\"",
        "uid \"a-out\"",
        "uid \"b-out\"",
        "uid \"c-out\"",
        "parallelism 0",
        "is forwarded to",
    ] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
}

/// The warnings of a job.
pub(super) fn warnings(build: impl FnOnce(&mut Environment)) -> Vec<String> {
    let warnings = Rc::default();
    let mut env = Environment::new(Box::new(Planner(Rc::clone(&warnings))));
    build(&mut env);
    env.execute("test").unwrap();
    warnings.take()
}

/// Plans and keeps the warnings.
struct Planner(Rc<RefCell<Vec<String>>>);

impl Executor for Planner {
    fn settings(&self) -> JobSettings {
        JobSettings::default()
    }

    fn plan_value(&self, _name: &str) -> Option<Vec<u8>> {
        None
    }

    fn warn(&mut self, warning: &str) {
        self.0.borrow_mut().push(warning.to_owned());
    }

    fn execute(&mut self, _program: Program, _graph: JobGraph, _wait: bool) -> Result<Execution> {
        let (job, status) = (JobId::from_bytes([0; 16]), JobStatus::Finished);
        Ok(Execution::Finished(JobResult { job, status, runtime: Duration::ZERO }))
    }
}

#[test]
fn streams_that_nothing_reads_are_warned_of() {
    let told = warnings(|env| {
        let numbers = env.source("numbers", Numbers(1));
        let _ = numbers.clone().map(Ok).name("lost");
        let _ = env.source("unread", Numbers(1));
        let policy = OnError::side_output(&ASIDE);
        numbers.on_error(policy).map(Ok).name("picky").sink("out", Collect::<u64>::new());
    });
    let expected = [
        "nothing reads the results of operator \"lost\"",
        "nothing reads the results of source \"unread\"",
        "nothing reads the side output \"aside\" of operator \"picky\"",
    ];
    assert_eq!(told.len(), expected.len(), "{told:?}");
    for (told, expected) in told.iter().zip(expected) {
        assert!(told.starts_with(expected), "{told}");
    }
    let told = warnings(|env| {
        let numbers = env.source("numbers", Numbers(1)).on_error(OnError::side_output(&ASIDE));
        // Of interest for its side output only.
        numbers.map(Ok).side_output(&ASIDE).sink("out", Collect::<u64>::new());
    });
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn a_program_of_ten_thousand_operators_runs() {
    let out = Collect::new();
    run(1, |env| {
        let mut numbers = env.source("numbers", Numbers(10));
        for _ in 0..9_998 {
            numbers = numbers.map(|n| Ok(n + 1));
        }
        numbers.sink("out", out.clone());
        Ok(())
    });
    assert_eq!(out.records(), (9_998..10_008).collect::<Vec<u64>>());
}

#[test]
fn a_fan_out_of_a_thousand_runs() {
    let out = Collect::new();
    run(2, |env| {
        let numbers = env.source("numbers", Numbers(10));
        let many = (1..1_000).map(|_| numbers.clone().rebalance());
        let united = many.fold(numbers.clone(), Stream::union);
        united.sink("out", out.clone());
        for at in 0..100 {
            numbers.clone().map(Ok).sink(&format!("out {at}"), Collect::new());
        }
        Ok(())
    });
    assert_eq!(out.records().len(), 10_000);
}

#[test]
fn wide_jobs_run() {
    let spreads: [(u32, Spread); 3] =
        [(500, Stream::forward), (40, Stream::rebalance), (300, Stream::rescale)];
    for (wide, spread) in spreads {
        let out = Collect::new();
        run(wide, |env| {
            env.set_max_parallelism(512)?;
            let numbers = env.source("numbers", Numbers(1_000)).disable_chaining();
            spread(numbers).map(Ok).sink("out", out.clone());
            Ok(())
        });
        assert_eq!(out.records().len(), 1_000);
    }
}

#[test]
fn a_job_that_is_too_wide_for_one_process_is_refused_at_once() {
    for wide in [8_000, 32_768] {
        let error = fault(|env| {
            env.set_parallelism(wide);
            env.set_max_parallelism(32_768)?;
            env.source("numbers", Numbers(1)).map(Ok).sink("out", Collect::new());
            Ok(())
        });
        assert!(error.contains(&format!("needs {wide} slots")), "{error}");
        assert!(error.contains("lower its parallelism"), "{error}");
    }
}
