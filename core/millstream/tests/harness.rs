//! Harnesses show after each call what it has caused, in the same way in each run.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::unit_arg, reason = "so are functions of a `reduce` written")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::time::Duration;

use millstream::prelude::*;
use millstream::testing::{self, Harness, JobHarness};
use millstream::{Boundedness, ensure, error};

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Emits a record when it comes, a second of event time behind it, and ten seconds of processing
/// time after it came, with the time of the timer.
struct Echo {
    last: ValueState<u64>,
    behind: Timers,
    after: Timers,
}

impl Echo {
    fn of(values: Stream<(u64, u64)>) -> Stream<(String, u64, i64)> {
        values.key_by(|(key, _)| *key).process("echo", |states| {
            Ok(Self {
                last: states.value("last")?,
                behind: states.event_timers("behind")?,
                after: states.processing_timers("after")?,
            })
        })
    }
}

impl KeyedProcess<u64, (u64, u64)> for Echo {
    type Out = (String, u64, i64);

    fn process(
        &mut self,
        (_, value): (u64, u64),
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        let time = ctx.timestamp().context("no time")?;
        self.last.set(ctx, value)?;
        self.behind.set(ctx, time + 1_000)?;
        self.after.set(ctx, ctx.processing_time() + 10_000)?;
        out.emit(("came".to_owned(), value, time));
        Ok(())
    }

    fn on_timer(
        &mut self,
        timer: Timer,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        let value = *self.last.get(ctx)?.context("no value")?;
        out.emit((timer.name().to_owned(), value, timer.time()));
        Ok(())
    }
}

#[test]
fn each_call_shows_what_it_has_caused() {
    let harness = Harness::new(|words: Stream<String>| {
        words
            .flat_map(|line| Ok(line.split(' ').map(str::to_owned).collect::<Vec<_>>()))
            .map(|word| Ok((word, 1_u64)))
            .key_by(|(word, _)| word.clone())
            .reduce("count", |total, next| Ok(total.1 += next.1))
    })
    .unwrap();
    let count = |word: &str, count| (word.to_owned(), count);
    harness.push("to be".to_owned()).unwrap();
    assert_eq!(harness.take(), [count("to", 1), count("be", 1)]);
    assert!(harness.take().is_empty());
    harness.push("to".to_owned()).unwrap();
    harness.push("be".to_owned()).unwrap();
    assert_eq!(harness.take_timed(), [(count("to", 2), None), (count("be", 2), None)]);
    harness.push("to".to_owned()).unwrap();
    assert_eq!(harness.finish().unwrap(), [count("to", 3)]);
    assert!(harness.push("be".to_owned()).unwrap_err().to_string().contains("has ended"));
}

#[test]
fn timers_of_both_kinds_fire_when_the_test_says_so() {
    let harness = Harness::timed(Echo::of).unwrap();
    let echo = |what: &str, value, time| (what.to_owned(), value, time);
    harness.push_at((1, 7), 500).unwrap();
    assert_eq!(harness.take_timed(), [(echo("came", 7, 500), Some(500))]);
    harness.watermark(1_499).unwrap();
    assert!(harness.take().is_empty());
    harness.watermark(1_500).unwrap();
    assert_eq!(harness.take_timed(), [(echo("behind", 7, 1_500), Some(1_500))]);

    harness.advance(seconds(4)).unwrap();
    harness.push_at((2, 8), 2_000).unwrap();
    assert_eq!(harness.take(), [echo("came", 8, 2_000)]);
    harness.advance_to(9_999).unwrap();
    assert!(harness.take().is_empty());
    harness.advance_to(10_000).unwrap();
    assert_eq!(harness.take(), [echo("after", 7, 10_000)]);
    harness.advance(seconds(3_600)).unwrap();
    assert_eq!(harness.take(), [echo("after", 8, 14_000)]);
    assert_eq!(harness.processing_time(), 3_610_000);
    assert_eq!(harness.finish().unwrap(), [echo("behind", 8, 3_000)]);
}

/// A key that has had `left` ticks of a second.
struct Ticks(ValueState<u32>, Timers);

impl KeyedProcess<u64, u64> for Ticks {
    type Out = (u64, i64);

    fn process(
        &mut self,
        _: u64,
        ctx: &mut Context<'_, u64>,
        _: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        Ok(self.1.set(ctx, ctx.processing_time() + 1_000)?)
    }

    fn on_timer(
        &mut self,
        timer: Timer,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        let ticks = self.0.get(ctx)?.copied().unwrap_or_default();
        ensure!(timer.time() == ctx.processing_time(), "{timer:?} at {}", ctx.processing_time());
        self.0.set(ctx, ticks + 1)?;
        out.emit((*ctx.key(), timer.time()));
        if ticks < 2 { Ok(self.1.set(ctx, timer.time() + 1_000)?) } else { Ok(()) }
    }
}

#[test]
fn timers_that_are_due_on_the_way_fire_each_at_its_time() {
    let harness = Harness::new(|keys: Stream<u64>| {
        keys.key_by(|key| *key)
            .process("ticks", |states| {
                Ok(Ticks(states.value("ticks")?, states.processing_timers("next")?))
            })
            .disable_chaining()
    })
    .unwrap();
    harness.advance_to(1_700_000_000_000).unwrap();
    harness.push(1).unwrap();
    harness.advance(Duration::from_millis(500)).unwrap();
    harness.push(2).unwrap();
    harness.advance(seconds(86_400)).unwrap();
    let start = 1_700_000_000_000;
    let expected = [(1, 1_000), (2, 1_500), (1, 2_000), (2, 2_500), (1, 3_000), (2, 3_500)];
    assert_eq!(harness.take(), expected.map(|(key, after)| (key, start + after)));
    let back = harness.advance_to(1).unwrap_err().to_string();
    assert!(back.contains("cannot go back to 1 ms"), "{back}");
}

/// Is asked for a watermark every 200 ms.
struct Asked;

impl WatermarkGenerator<i64> for Asked {
    fn on_record(&mut self, _: &i64, _: i64, _: &mut WatermarkOutput) {}
}

#[test]
fn a_job_starts_at_the_processing_time_that_was_set_before() {
    let start = 1_700_000_000_000;
    let mut job = JobHarness::new();
    job.advance_to(start).unwrap();
    let (times, stream) = job.input::<i64>();
    let strategy = WatermarkStrategy::generator(|| Asked).timestamps(|time| Ok(*time));
    let echoes =
        Echo::of(stream.assign_timestamps(strategy).map(|time| Ok((1, time.unsigned_abs()))));
    let echoes = job.output(echoes);
    times.push(7).unwrap();
    job.advance(seconds(10)).unwrap();
    let echo = |what: &str, value, time| (what.to_owned(), value, time);
    assert_eq!(echoes.take(), [echo("came", 7, 7), echo("after", 7, start + 10_000)]);
}

static LATE: OutputTag<(u64, u64)> = OutputTag::new("late");

#[test]
fn windows_close_at_watermarks_and_late_records_go_aside() {
    let mut job = JobHarness::new();
    let (values, stream) = job.timed_input::<(u64, u64)>();
    let sums = stream
        .key_by(|(key, _)| *key)
        .window(Tumbling::event_time(seconds(10)))
        .late(LateRecords::side_output(&LATE))
        .reduce("sums", |sum, next| Ok(sum.1 += next.1));
    let late = job.output(sums.side_output(&LATE));
    let sums = job.output(sums);

    values.push_at((1, 1), 1_000).unwrap();
    values.push_at((1, 2), 9_999).unwrap();
    values.push_at((1, 4), 10_000).unwrap();
    values.watermark(9_998).unwrap();
    values.push_at((1, 8), 0).unwrap();
    assert_eq!((sums.take(), late.take()), (vec![], vec![]));
    values.watermark(9_999).unwrap();
    assert_eq!(sums.take_timed(), [((1, 11), Some(9_999))]);
    values.push_at((1, 16), 9_999).unwrap();
    assert_eq!(late.take_timed(), [((1, 16), Some(9_999))]);
    // One that goes back has no effect.
    values.watermark(5).unwrap();
    job.finish().unwrap();
    assert_eq!((sums.take_timed(), late.take()), (vec![((1, 4), Some(19_999))], vec![]));
}

#[test]
fn watermarks_of_a_pipelines_own_come_with_processing_time() {
    let harness = Harness::new(|times: Stream<i64>| {
        let strategy = WatermarkStrategy::monotonous().timestamps(|time| Ok(*time));
        times
            .assign_timestamps(strategy)
            .key_by(|_| ())
            .window(Tumbling::event_time(seconds(1)))
            .count("count")
    })
    .unwrap();
    harness.push(500).unwrap();
    harness.push(1_001).unwrap();
    assert!(harness.take().is_empty());
    harness.advance(Duration::from_millis(200)).unwrap();
    assert_eq!(harness.take().len(), 1);
}

#[test]
fn a_join_waits_for_both_inputs_unless_one_is_idle_or_has_ended() {
    let join = || {
        let mut job = JobHarness::new();
        let (left, lefts) = job.timed_input::<u64>();
        let (right, rights) = job.timed_input::<u64>();
        let pairs = lefts
            .key_by(|n| n % 10)
            .join(rights.key_by(|n| n % 10))
            .window(Tumbling::event_time(seconds(1)))
            .apply("pairs", |left, right| Ok((*left, *right)));
        let pairs = job.output(pairs);
        left.push_at(1, 0).unwrap();
        right.push_at(11, 999).unwrap();
        right.push_at(12, 999).unwrap();
        left.watermark(999).unwrap();
        assert!(pairs.take().is_empty());
        (job, left, right, pairs)
    };
    let (job, _left, right, pairs) = join();
    right.watermark(999).unwrap();
    assert_eq!(pairs.take_timed(), [((1, 11), Some(999))]);
    job.finish().unwrap();

    let (_job, left, right, pairs) = join();
    right.idle().unwrap();
    assert_eq!(pairs.take(), [(1, 11)]);
    // It is awake again, and holds the watermark.
    right.push_at(13, 1_000).unwrap();
    left.push_at(3, 1_000).unwrap();
    left.watermark(1_999).unwrap();
    assert!(pairs.take().is_empty());
    right.end().unwrap();
    assert_eq!(pairs.take(), [(3, 13)]);
    assert!(right.end().is_err());
}

/// Numbers that are above the limit of their key's tens.
struct Above(BroadcastState<u64, u64>);

impl KeyedBroadcastProcess<u64, u64, (u64, u64)> for Above {
    type Out = u64;

    fn process(
        &mut self,
        n: u64,
        ctx: &mut Context<'_, u64>,
        maps: &BroadcastMaps,
        out: &mut Collector<'_, u64>,
    ) -> Result<()> {
        if self.0.get(maps, ctx.key())?.is_some_and(|limit| n > *limit) {
            out.emit(n);
        }
        Ok(())
    }

    fn process_broadcast(
        &mut self,
        (key, limit): (u64, u64),
        maps: &mut BroadcastMaps,
        _: &mut Collector<'_, u64>,
    ) -> Result<()> {
        Ok(self.0.put(maps, key, limit)?)
    }
}

#[test]
fn a_rule_that_was_pushed_before_a_record_applies_to_it() {
    let mut job = JobHarness::new();
    job.set_parallelism(2);
    let (numbers, number_stream) = job.input::<u64>();
    let (rules, rule_stream) = job.input::<(u64, u64)>();
    let above = number_stream
        .key_by(|n| n / 10)
        .connect_broadcast(rule_stream)
        .process("above", |states| Ok(Above(states.broadcast("limits")?)));
    let above = job.output(above);
    numbers.push(15).unwrap();
    for tens in 0..5 {
        rules.push((tens, tens * 10 + 4)).unwrap();
    }
    assert!(above.take().is_empty());
    (0..50).for_each(|n| numbers.push(n).unwrap());
    let expected: Vec<u64> = (0..50).filter(|n| n % 10 > 4).collect();
    assert_eq!(above.take(), expected);
}

#[test]
fn an_error_is_the_sentence_of_a_failed_job_and_stays() {
    fn picky(numbers: Stream<u64>) -> Stream<u64> {
        numbers.key_by(|n| *n).map_with_state("picky", |_: &mut Option<u64>, n| {
            ensure!(n != 3, "no {n}\nsecond line");
            Ok(n)
        })
    }
    let of_job = testing::run_on([1, 2, 3], picky).unwrap_err().to_string();
    let harness = Harness::new(picky).unwrap();
    harness.push(1).unwrap();
    let failed = harness.push(3).unwrap_err().to_string();
    let why = |sentence: &str| {
        let (_, why) = sentence.split_once(" (test) ").unwrap();
        why.replace("Sink: harness output 1", "Sink: collect")
    };
    let expected =
        "failed: operator \"Map\" failed on a record: no 3 (task Map -> Sink: collect (1/1))";
    assert_eq!((why(&failed).as_str(), why(&of_job).as_str()), (expected, expected));
    assert_eq!(harness.take(), [1]);
    for again in [harness.push(1), harness.advance(seconds(1)), harness.finish().map(drop)] {
        assert_eq!(again.unwrap_err().to_string(), failed);
    }
}

#[test]
fn a_panic_and_an_operator_that_cannot_start_are_errors() {
    let harness = Harness::new(|n: Stream<u64>| n.map(|_| -> Result<u64> { panic!("no luck") }));
    let error = harness.unwrap().push(1).unwrap_err().to_string();
    assert!(error.contains("user code panicked at ") && error.contains("no luck"), "{error}");

    let none = |n: Stream<u64>| n.map_with(|_| Err::<fn(u64) -> Result<u64>, _>(error!("no file")));
    let Err(error) = Harness::new(none) else { panic!("it starts") };
    assert!(error.to_string().contains("failed: no file (task "), "{error}");
}

#[test]
fn calls_that_do_not_fit_the_input_are_refused() {
    let untimed = Harness::new(|n: Stream<u64>| n).unwrap();
    for refused in [untimed.push_at(1, 0), untimed.watermark(0)] {
        let error = refused.unwrap_err().to_string();
        assert!(error.contains("has no event times"), "{error}");
    }
    let timed = Harness::timed(|n: Stream<u64>| n).unwrap();
    let error = timed.push(1).unwrap_err().to_string();
    assert!(error.contains("use push_at()"), "{error}");

    let per_split = |n: Stream<u64>| n.watermarks_per_split(WatermarkStrategy::none());
    let Err(error) = Harness::timed(per_split) else { panic!("it starts") };
    assert!(error.to_string().contains("call assign_timestamps()"), "{error}");

    let window = |n: Stream<u64>| {
        n.key_by(|n| *n)
            .window(Tumbling::event_time(seconds(1)))
            .reduce("sum", |sum, n| Ok(*sum += n))
    };
    let Err(error) = Harness::new(window) else { panic!("it starts") };
    assert!(error.to_string().contains("event times"), "{error}");
}

#[test]
fn a_harness_is_complete_when_its_job_starts() {
    let mut job = JobHarness::new();
    let (numbers, stream) = job.input::<u64>();
    let output = job.output(stream);
    let beyond = job.advance_to(i64::MAX).unwrap_err().to_string();
    assert!(beyond.contains("no processing time beyond"), "{beyond}");
    numbers.push(1).unwrap();
    let (more, _stream) = job.input::<u64>();
    for refused in [more.push(2), numbers.push(2), job.advance(seconds(1)), job.finish()] {
        let error = refused.unwrap_err().to_string();
        assert_eq!(error, "the input was added to a harness whose job had started");
    }
    assert_eq!(output.take(), [1]);
}

/// The results of one call, with their times.
type Results = Vec<((String, u64, i64), Option<i64>)>;

/// Plays calls of each kind at parallelism 3; the results behind each.
fn played() -> Vec<Results> {
    let mut job = JobHarness::new();
    job.set_parallelism(3);
    let (values, stream) = job.timed_input();
    let echoes = Echo::of(stream.rebalance().map(Ok)).rebalance().filter(|_| Ok(true));
    let echoes = job.output(echoes);
    let mut seen = Vec::new();
    for n in 0..300_u64 {
        let time = i64::try_from(n * 37 % 1_000).unwrap();
        values.push_at((n % 17, n), time).unwrap();
        match n % 10 {
            3 => values.watermark(i64::try_from(n * 10).unwrap()).unwrap(),
            7 => job.advance(Duration::from_millis(n * 20)).unwrap(),
            _ => {}
        }
        seen.push(echoes.take_timed());
    }
    job.finish().unwrap();
    seen.push(echoes.take_timed());
    seen
}

#[test]
fn the_same_calls_have_the_same_results_in_the_same_order() {
    let first = played();
    let came = |of: &(String, u64, i64)| of.0 == "came";
    assert!((0..300).all(|n| first[n].iter().any(|(echo, _)| came(echo) && echo.1 == n as u64)));
    assert!(first[..300].iter().flatten().any(|(echo, _)| echo.0 == "after"));
    for _ in 0..3 {
        assert_eq!(played(), first);
    }
}

struct Once(ValueState<u64, Ttl>);

impl KeyedProcess<u64, u64> for Once {
    type Out = u64;

    fn process(
        &mut self,
        n: u64,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, u64>,
    ) -> Result<()> {
        if self.0.get(ctx)?.is_none() {
            out.emit(n);
        }
        Ok(self.0.set(ctx, n)?)
    }
}

#[test]
fn state_expires_by_the_tests_clock() {
    let harness = Harness::new(|numbers: Stream<u64>| {
        numbers.key_by(|n| *n).process("once", |states| {
            let hour = Ttl::after(seconds(3_600));
            Ok(Once(states.with_ttl(hour).value("seen")?))
        })
    })
    .unwrap();
    harness.push(1).unwrap();
    harness.push(1).unwrap();
    harness.advance(seconds(3_599)).unwrap();
    harness.push(1).unwrap();
    assert_eq!(harness.take(), [1]);
    harness.advance(seconds(3_601)).unwrap();
    harness.push(1).unwrap();
    assert_eq!(harness.take(), [1]);
}

/// Two numbers at the start, and one more with each look at ten seconds' distance.
struct Found;

impl Source for Found {
    type Out = u64;
    type Split = u64;
    type Reader = FoundReader;
    type Enumerator = Looks;

    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    fn reader(&self, _: &ReaderContext) -> Result<FoundReader> {
        Ok(FoundReader(Vec::new()))
    }

    fn enumerator(&self, _: Option<u64>) -> Result<Looks> {
        Ok(Looks { found: 1, given: 0 })
    }
}

struct FoundReader(Vec<u64>);

impl SourceReader for FoundReader {
    type Out = u64;
    type Split = u64;

    fn add_splits(&mut self, splits: Vec<u64>) -> Result<()> {
        self.0.extend(splits);
        Ok(())
    }

    fn poll(&mut self, out: &mut ReaderOutput<'_, u64>) -> Result<Polled> {
        let Some(split) = self.0.pop() else { return Ok(Polled::NeedSplit) };
        out.push(split)?;
        Ok(Polled::Ready)
    }

    fn snapshot(&mut self) -> Result<Vec<u64>> {
        Ok(self.0.clone())
    }
}

struct Looks {
    found: u64,
    given: u64,
}

impl SplitEnumerator for Looks {
    type Split = u64;
    type State = u64;

    fn discover(&mut self) -> Result<Option<Duration>> {
        self.found += 1;
        Ok((self.found < 5).then_some(seconds(10)))
    }

    fn next_split(&mut self, _: u32) -> Result<NextSplit<u64>> {
        if self.given == self.found {
            return Ok(if self.found < 5 { NextSplit::Later } else { NextSplit::NoMore });
        }
        self.given += 1;
        Ok(NextSplit::Split(self.given))
    }

    fn give_back(&mut self, _: u32, _: Vec<u64>) -> Result<()> {
        bail!("no task fails")
    }

    fn snapshot(&mut self) -> Result<u64> {
        Ok(self.given)
    }
}

#[test]
fn a_source_of_the_jobs_own_looks_for_work_by_the_tests_clock() {
    let mut job = JobHarness::new();
    let found = job.source("found", Found).key_by(|n| n % 2).map_with_state(
        "seen",
        |seen: &mut Option<u64>, n| {
            *seen = Some(seen.unwrap_or_default() + 1);
            Ok(n)
        },
    );
    let found = job.output(found);
    job.start().unwrap();
    assert_eq!(found.take(), [1, 2]);
    job.advance(seconds(9)).unwrap();
    assert!(found.take().is_empty());
    let error = job.finish().unwrap_err().to_string();
    assert!(error.contains("Source: found") && error.contains("advance()"), "{error}");
    job.advance(seconds(1)).unwrap();
    assert_eq!(found.take(), [3]);
    job.advance(seconds(60)).unwrap();
    assert_eq!(found.take(), [4, 5]);
    job.finish().unwrap();
}

/// A sink that takes nothing more until it is opened by another thread.
#[derive(Clone, Default)]
struct Gate(Arc<(AtomicBool, Mutex<Option<Waker>>)>);

impl Sink<u64> for Gate {
    type Committable = ();
    type Writer = Self;
    type Committer = NoCommitter<()>;

    fn writer(&self, info: &WriterInfo) -> Result<Self> {
        *self.0.1.lock().unwrap() = Some(info.waker.clone());
        Ok(self.clone())
    }
}

impl SinkWriter<u64> for Gate {
    type Committable = ();

    fn write(&mut self, _: Batch<u64>) -> Result<Flow> {
        self.resume()
    }

    fn resume(&mut self) -> Result<Flow> {
        Ok(if self.0.0.load(Ordering::SeqCst) { Flow::Ready } else { Flow::Full })
    }

    fn pre_commit(&mut self, _: CheckpointId) -> Result<Vec<()>> {
        Ok(Vec::new())
    }
}

#[test]
fn a_pipeline_that_is_held_up_says_so_and_goes_on() {
    let gate = Gate::default();
    let harness = Harness::new(|numbers: Stream<u64>| {
        numbers.clone().sink("gate", gate.clone());
        numbers
    })
    .unwrap();
    harness.push(1).unwrap();
    assert_eq!(harness.take(), [1]);
    for _ in 0..2 {
        let error = harness.push(2).unwrap_err().to_string();
        assert!(error.contains("harness input 1 is held up"), "{error}");
    }
    assert!(harness.take().is_empty());
    let opened = std::thread::spawn(move || {
        gate.0.0.store(true, Ordering::SeqCst);
        gate.0.1.lock().unwrap().take().unwrap().wake();
    });
    opened.join().unwrap();
    harness.push(3).unwrap();
    assert_eq!(harness.take(), [2, 3]);
}

#[test]
fn a_sink_in_the_pipeline_publishes_at_the_end_and_never_without_it() {
    for (ends, files) in [(true, 1), (false, 0)] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap().to_owned();
        let harness = Harness::new(|lines: Stream<String>| {
            lines.clone().sink("files", FileSink::lines(path));
            lines
        })
        .unwrap();
        harness.push("one".to_owned()).unwrap();
        assert_eq!(harness.take(), ["one"]);
        if ends {
            assert!(harness.finish().unwrap().is_empty());
        }
        drop(harness);
        let named = |entry: std::fs::DirEntry| entry.file_name().into_string().unwrap();
        let names = std::fs::read_dir(folder.path()).unwrap().map(|entry| named(entry.unwrap()));
        assert_eq!(names.filter(|name| !name.starts_with('.')).count(), files, "{ends}");
    }
}
