//! Window functions, triggers and evictors that fail, panic or block.

use std::cell::Cell;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use millstream_connectors::{Datagen, DiscardSink};
use millstream_types::ExecutionState;

use super::times::{Times, error_of};
use super::*;

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn second() -> Tumbling {
    Tumbling::event_time(millis(1_000))
}

fn numbers(env: &mut Environment) -> Stream<u64> {
    let times = WatermarkStrategy::monotonous().timestamps(|n: &u64| Ok(n.cast_signed() * 10));
    env.source("numbers", Datagen::sequence(0..1_000)).parallelism(1).assign_timestamps(times)
}

/// Fails in each window, by an error or by a panic.
struct Failing {
    panics: bool,
}

impl WindowFunction<u64, Vec<u64>> for Failing {
    type Out = u64;

    fn process(
        &mut self,
        key: u64,
        _: Window,
        records: Vec<u64>,
        _: &mut Collector<'_, u64>,
    ) -> Result<()> {
        assert!(!self.panics, "{} records are odd", records.len());
        bail!("the key {key} is odd")
    }
}

/// The sentence about a job whose window function fails.
fn failing<A: WindowAssigner<u64>>(windows: A, panics: bool) -> String {
    error_of(|env| {
        let windowed = numbers(env).key_by(|_| 1).window(windows);
        windowed.process("odd", move |_| Ok(Failing { panics })).sink("out", Times::new());
    })
}

#[test]
fn a_window_function_that_fails_is_told_with_its_window() {
    let expected = "operator \"odd\" failed at the end of the windows whose last millisecond is \
                    999: the key 1 is odd";
    let says = failing(second(), false);
    assert!(says.contains(expected), "{says}");

    let expected = "operator \"odd\" failed at a timer of event time 10989: the window [0, 10990) \
                    has no result: the key 1 is odd";
    let says = failing(Session::event_time(millis(1_000)), false);
    assert!(says.contains(expected), "{says}");

    let expected = "operator \"odd\" failed at a timer of event time 999: the window [0, 1000) has \
                    no result: the key 1 is odd";
    let says = failing(Triggered { windows: second(), trigger: AtEnd }, false);
    assert!(says.contains(expected), "{says}");

    let century = Tumbling::processing_time(Duration::from_secs(100 * 365 * 86_400));
    let expected = "operator \"odd\" failed at a timer of processing time 3153600000000: the \
                    window [0, 3153600000000) has no result: the key 1 is odd";
    let says = failing(century, false);
    assert!(says.contains(expected), "{says}");

    let expected = "operator \"odd\" failed at the end of the input: the window \
                    [-9223372036854775808, 9223372036854775807) has no result: the key 1 is odd";
    let says = error_of(|env| {
        let numbers = env.source("numbers", Datagen::sequence(0..10)).key_by(|_| 1);
        let windowed = numbers.window(Global);
        windowed.process("odd", |_| Ok(Failing { panics: false })).sink("out", Times::new());
    });
    assert!(says.contains(expected), "{says}");

    let expected = "operator \"odd\" failed on a record: the window [0, 1000) has no result: the \
                    key 1 is odd";
    let says = failing(Triggered { windows: second(), trigger: EveryRecords(3) }, false);
    assert!(says.contains(expected), "{says}");
}

#[test]
fn a_window_function_that_panics_is_told_with_its_place() {
    for says in [
        failing(second(), true),
        failing(Session::event_time(millis(1_000)), true),
        failing(Triggered { windows: second(), trigger: AtEnd }, true),
    ] {
        let place = "user code panicked at core/cluster/tests/local_jobs/windows_that_fail.rs:";
        assert!(says.contains(place) && says.contains(" records are odd"), "{says}");
    }
}

/// Refuses to leave records alone.
#[derive(Clone)]
struct Refusing;

impl Evictor<u64> for Refusing {
    fn before(&mut self, records: &mut Vec<(u64, i64)>, _: &EvictorContext) -> Result<()> {
        bail!("{} records are too many", records.len())
    }
}

static BAD: OutputTag<u64> = OutputTag::new("bad");

#[test]
fn an_evictor_that_fails_in_windows_is_told_or_costs_the_record_that_fires_them() {
    let says = error_of(|env| {
        let windowed = numbers(env).key_by(|_| 1).window(second()).evictor(Refusing);
        windowed.count("counts").sink("out", Times::new());
    });
    let expected = "operator \"counts\" failed at a timer of event time 999: the window [0, 1000) \
                    has no result: 100 records are too many";
    assert!(says.contains(expected), "{says}");

    // Each tenth record makes its window fire, and is refused: the next one is the tenth again.
    let bad = Collect::new();
    let kept = bad.clone();
    run(1, |env| {
        let numbers = env.source("numbers", Datagen::sequence(0..30));
        let numbers = numbers.on_error(OnError::side_output(&BAD)).key_by(|_| 1);
        let windowed = numbers.window(Global).trigger(EveryRecords(10)).evictor(Refusing);
        let counts = windowed.count("counts");
        counts.side_output(&BAD).sink("bad", kept);
        counts.sink("out", DiscardSink::new());
        Ok(())
    });
    assert_eq!(bad.records(), (9..30).collect::<Vec<u64>>());
}

#[test]
fn windows_of_event_time_are_refused_without_times_whatever_they_have() {
    let says = |build: fn(Stream<u64>) -> Stream<(u64, u64)>| {
        error_of(|env| {
            build(env.source("numbers", Datagen::sequence(0..10))).sink("out", Times::new());
        })
    };
    let expected = "needs event times";
    for says in [
        says(|n| n.key_by(|n| *n).window(Session::event_time(millis(5))).count("counts")),
        says(|n| n.key_by(|n| *n).window(second()).trigger(EveryRecords(2)).count("counts")),
        says(|n| n.key_by(|n| *n).window(second()).evictor(KeepLast(2)).count("counts")),
    ] {
        assert!(says.contains("\"counts\"") && says.contains(expected), "{says}");
    }
}

thread_local! {
    /// The job that the test looks at while it runs.
    static LOOK: Cell<Option<fn(&MiniCluster)>> = const { Cell::new(None) };
}

/// Looks at a job while it runs, and cancels it.
struct Cancelling;

impl Executor for Cancelling {
    fn settings(&self) -> JobSettings {
        JobSettings { parallelism: 1, ..JobSettings::default() }
    }

    fn plan_value(&self, _name: &str) -> Option<Vec<u8>> {
        None
    }

    fn execute(&mut self, program: Program, graph: JobGraph, _wait: bool) -> Result<Execution> {
        let cluster = MiniCluster::start(program, graph, JobMasterConfig::default())?;
        if let Some(look) = LOOK.take() {
            look(&cluster);
        }
        cluster.cancel();
        let begin = Instant::now();
        let ended = cluster.wait();
        assert!(begin.elapsed() < Duration::from_secs(10), "it took {:?}", begin.elapsed());
        Ok(Execution::Finished(ended?))
    }
}

static BLOCKS: AtomicBool = AtomicBool::new(false);

/// Blocks for longer than any test takes.
struct Blocking;

impl WindowFunction<(), Vec<u64>> for Blocking {
    type Out = u64;

    fn process(
        &mut self,
        (): (),
        _: Window,
        _: Vec<u64>,
        _: &mut Collector<'_, u64>,
    ) -> Result<()> {
        BLOCKS.store(true, Ordering::SeqCst);
        std::thread::sleep(Duration::from_secs(3_600));
        Ok(())
    }
}

/// The task that blocks is busy; the source before it, which is in the same slot, has no turn.
fn look_at_the_block(cluster: &MiniCluster) {
    let details = cluster.details();
    let begin = Instant::now();
    loop {
        assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", details.borrow().vertices);
        std::thread::sleep(millis(50));
        if !BLOCKS.load(Ordering::SeqCst) {
            continue;
        }
        let now = Arc::clone(&details.borrow());
        let subtasks = now.vertices.iter().flat_map(|vertex| &vertex.subtasks);
        let [source, windows] = subtasks.collect::<Vec<_>>()[..] else { continue };
        let rates = source.rates.zip(windows.rates);
        if rates.is_some_and(|(source, windows)| source.records_out == 0.0 && windows.busy > 990.0)
        {
            assert_eq!(source.state, ExecutionState::Running);
            assert_eq!(windows.state, ExecutionState::Running);
            break;
        }
    }
    assert_eq!(cluster.status(), JobStatus::Running);
}

#[test]
fn a_window_function_that_blocks_is_busy_and_ends_with_a_cancellation() {
    LOOK.set(Some(look_at_the_block));
    let mut env = Environment::new(Box::new(Cancelling));
    let times = WatermarkStrategy::monotonous().timestamps(|n: &u64| Ok(n.cast_signed() * 10));
    let numbers = env.source("numbers", Datagen::from_fn(|n| n).rate_per_second(10_000));
    let windowed = numbers.assign_timestamps(times).window_all(second());
    windowed.process("blocks", |_| Ok(Blocking)).sink("out", DiscardSink::new());
    let ended = env.execute("blocks").map(drop).map_err(|error| format!("{error:#}"));
    assert!(ended.as_ref().is_err_and(|says| says.contains("cancel")), "{ended:?}");
}
