//! Event times that an operator assigns, and watermarks.

use std::time::Duration;

use millstream_connectors::FileSource;
use millstream_types::Timestamp;

use super::times::{Stamped, Times, Way, error_of, run_on_way, time_of};
use super::*;

fn strategy() -> WatermarkStrategy<u64> {
    WatermarkStrategy::bounded_out_of_orderness(Duration::from_millis(20))
}

#[test]
fn assigned_times_travel_with_their_records() {
    for mode in [RuntimeMode::Streaming, RuntimeMode::Batch] {
        for way in [Way::Chained, Way::Encoded, Way::Tcp] {
            let out = Times::new();
            let result = run_on_way(way, mode, |env| {
                let numbers = env.source("numbers", Numbers(100));
                let timed = numbers.assign_timestamps(strategy().timestamps(|n| Ok(time_of(*n))));
                // Assigned again, from the times that are there and on the other side of an
                // exchange.
                timed.rebalance().assign_timestamps(strategy()).sink("out", out.clone());
            });
            result.with_context(|| format!("{way:?}")).unwrap();
            let expected: Vec<Stamped<u64>> = (0..100).map(|n| (n, Some(time_of(n)))).collect();
            assert_eq!(out.sorted(), expected, "{way:?}");
        }
    }
}

#[test]
fn the_end_of_the_input_is_the_last_watermark_of_those_that_read_it() {
    let settings = JobSettings { parallelism: 2, ..JobSettings::default() };
    let (result, seen) = run_and_see(settings, |env| {
        let numbers = env.source("numbers", Numbers(100));
        let timed = numbers.assign_timestamps(strategy().timestamps(|n| Ok(time_of(*n))));
        timed.rebalance().map(Ok).sink("out", Times::new());
        Ok(())
    });
    result.unwrap();
    let seen = seen.unwrap();
    let subtasks = seen.vertices.iter().flat_map(|vertex| &vertex.subtasks);
    let mut known = 0;
    for metrics in subtasks.map(|subtask| &subtask.metrics) {
        let reads = metrics.records_in > 0;
        assert_eq!(metrics.watermark, reads.then_some(Timestamp::MAX), "{metrics:?}");
        known += usize::from(reads);
    }
    assert_eq!(known, 2, "a source reads no stream");
}

#[test]
fn each_of_two_inputs_has_a_watermark() {
    let settings = JobSettings { parallelism: 1, ..JobSettings::default() };
    let (result, seen) = run_and_see(settings, |env| {
        let mut timed = |uid: &str| {
            let times = strategy().timestamps(|n| Ok(time_of(*n)));
            env.source(uid, Numbers(100)).assign_timestamps(times).key_by(|n| *n)
        };
        let (left, right) = (timed("left"), timed("right"));
        left.interval_join(right, 0..=0)
            .apply("both", |left, right| Ok(left + right))
            .sink("out", Times::new());
        Ok(())
    });
    result.unwrap();
    let seen = seen.unwrap();
    let subtasks = seen.vertices.iter().flat_map(|vertex| &vertex.subtasks);
    let of_two = subtasks.map(|subtask| subtask.metrics.input_watermarks);
    let of_two: Vec<_> = of_two.filter(|of_two| *of_two != [None, None]).collect();
    assert_eq!(of_two, [[Some(Timestamp::MAX); 2]]);
}

#[test]
fn records_without_a_time_are_refused() {
    let even = |n: &u64| {
        ensure!(n.is_multiple_of(2), "{n} has no time");
        Ok(time_of(*n))
    };
    let out = Times::new();
    let result = run_on_way(Way::Encoded, RuntimeMode::Streaming, |env| {
        let numbers = env.source("numbers", Numbers(100)).on_error(OnError::drop_record());
        numbers.assign_timestamps(strategy().timestamps(even)).sink("out", out.clone());
    });
    result.unwrap();
    let expected: Vec<Stamped<u64>> =
        (0..100).filter(|n| n % 2 == 0).map(|n| (n, Some(time_of(n)))).collect();
    assert_eq!(out.sorted(), expected);

    let error = error_of(|env| {
        let numbers = env.source("numbers", Numbers(100));
        let timed = numbers.assign_timestamps(strategy().timestamps(even));
        timed.sink("out", Times::new());
    });
    let expected = "operator \"Timestamps/Watermarks\" failed on a record: 1 has no time";
    assert!(error.contains(expected), "{error}");
}

#[test]
fn times_far_ahead_of_the_clock_are_refused_unless_they_are_meant() {
    let with = |strategy: WatermarkStrategy<u64>| {
        let out = Times::new();
        let error = run_on_way(Way::Encoded, RuntimeMode::Streaming, |env| {
            let micros = strategy.timestamps(|n| Ok(1_700_000_000_000_000 + n.cast_signed()));
            env.source("numbers", Numbers(3)).assign_timestamps(micros).sink("out", out.clone());
        });
        error.map_err(|error| format!("{error:#}")).map(|()| out.sorted().len())
    };
    let error = with(strategy()).unwrap_err();
    assert!(error.contains("the event time 170000000000000"), "{error}");
    let expected = "is more than 3660 days ahead of the clock: see that timestamps() gives \
                    milliseconds since 1970, or set another limit with max_ahead()";
    assert!(error.contains(expected), "{error}");
    assert_eq!(with(strategy().max_ahead(None)), Ok(3));
}

#[test]
fn watermarks_of_a_stream_without_times_are_refused() {
    let error = error_of(|env| {
        let numbers = env.source("numbers", Numbers(3));
        numbers.assign_timestamps(strategy()).sink("out", Times::new());
    });
    let expected = "operator \"Timestamps/Watermarks\" needs event times, and its records have \
                    none: name the function that gives them with timestamps()";
    assert!(error.contains(expected), "{error}");
}

/// One reader of two splits, which it reads by turns; the second one is an hour ahead.
struct TwoLogs {
    /// The reader names a split that it was not given.
    misnames: bool,
}

struct LogReader {
    splits: Vec<std::ops::Range<u64>>,
    misnames: bool,
}

const PER_LOG: u64 = 3_000;
const HOUR: u64 = 3_600_000;

impl Source for TwoLogs {
    type Out = u64;
    type Split = std::ops::Range<u64>;
    type Reader = LogReader;
    type Enumerator = NoEnumerator<std::ops::Range<u64>>;

    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    fn splits(&self) -> Result<Vec<std::ops::Range<u64>>> {
        Ok(vec![0..PER_LOG, HOUR..HOUR + PER_LOG])
    }

    fn reader(&self, _ctx: &ReaderContext) -> Result<LogReader> {
        Ok(LogReader { splits: Vec::new(), misnames: self.misnames })
    }
}

impl SourceReader for LogReader {
    type Out = u64;
    type Split = std::ops::Range<u64>;

    fn add_splits(&mut self, splits: Vec<std::ops::Range<u64>>) -> Result<()> {
        self.splits.extend(splits);
        Ok(())
    }

    fn poll(&mut self, out: &mut ReaderOutput<'_, u64>) -> Result<Polled> {
        let first = if self.misnames { 7 } else { 0 };
        for (number, split) in (first..).zip(&mut self.splits) {
            if !split.is_empty() {
                out.of_split(number);
                out.extend(split.by_ref().take(100))?;
                if split.is_empty() {
                    out.end_split(number);
                }
            }
        }
        Ok(if out.is_empty() { Polled::Finished } else { Polled::Ready })
    }

    fn snapshot(&mut self) -> Result<Vec<std::ops::Range<u64>>> {
        Ok(self.splits.clone())
    }
}

/// Emits a watermark at each record; those of a split come in order.
struct AtEach;

impl WatermarkGenerator<u64> for AtEach {
    fn on_record(&mut self, _record: &u64, time: i64, out: &mut WatermarkOutput) {
        out.emit(time);
    }
}

static LATE_IN_LOG: OutputTag<u64> = OutputTag::new("late in log");

/// The records that come in order and the late ones, with watermarks for each split or for both.
fn logs(way: Way, mode: RuntimeMode, per_split: bool) -> (Vec<u64>, Vec<u64>) {
    let (order, late) = (Times::new(), Times::new());
    run_on_way(way, mode, |env| {
        let strategy = WatermarkStrategy::generator(|| AtEach).timestamps(|n| Ok(n.cast_signed()));
        let both = env.source("logs", TwoLogs { misnames: false });
        let timed = match per_split {
            true => both.watermarks_per_split(strategy),
            false => both.assign_timestamps(strategy),
        };
        let timed = timed.parallelism(1);
        let ordered = timed.order_by_time("order", LateRecords::side_output(&LATE_IN_LOG));
        let ordered = ordered.parallelism(1);
        ordered.side_output(&LATE_IN_LOG).sink("late", late.clone());
        ordered.sink("in order", order.clone()).parallelism(1);
    })
    .unwrap();
    let records = |out: &Times<u64>| out.arrived().into_iter().map(|(n, _)| n).collect();
    (records(&order), records(&late))
}

#[test]
fn no_record_is_late_because_its_reader_reads_another_split_that_is_ahead() {
    let all: Vec<u64> = (0..PER_LOG).chain(HOUR..HOUR + PER_LOG).collect();
    for mode in [RuntimeMode::Streaming, RuntimeMode::Batch] {
        for way in [Way::Chained, Way::Encoded, Way::Tcp] {
            assert_eq!(logs(way, mode, true), (all.clone(), Vec::new()), "{way:?}, {mode:?}");
        }
    }
    let (in_order, late) = logs(Way::Chained, RuntimeMode::Streaming, false);
    assert_eq!(late, (100..PER_LOG).collect::<Vec<u64>>(), "behind the first look at the other");
    assert_eq!(in_order.len() as u64, 2 * PER_LOG - (PER_LOG - 100));
}

#[test]
fn files_that_are_read_one_after_another_have_watermarks_for_each() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("numbers");
    let lines: String = (0..20_000).map(|n| format!("{n}\n")).collect();
    std::fs::write(&file, lines).unwrap();
    let mut settings = JobSettings { parallelism: 1, ..JobSettings::default() };
    settings.runtime_mode = RuntimeMode::Streaming;
    settings.config.insert("pipeline.auto-watermark-interval".to_owned(), "1 ms".to_owned());
    let out = Times::new();
    let (result, restarts, _) = run_with(settings, |env| {
        let numbers = FileSource::json_lines::<u64>(&file).split_bytes(2_000);
        let strategy = WatermarkStrategy::monotonous().timestamps(|n: &u64| Ok(n.cast_signed()));
        let timed = env.source("files", numbers).watermarks_per_split(strategy);
        timed.order_by_time("order", LateRecords::drop_record()).sink("out", out.clone());
        Ok(())
    });
    result.unwrap();
    assert_eq!(restarts, 0);
    let expected: Vec<Stamped<u64>> = (0..20_000_u64).map(|n| (n, Some(n.cast_signed()))).collect();
    assert_eq!(out.arrived(), expected);
}

#[test]
fn a_reader_that_names_a_split_that_it_was_not_given_fails_and_says_so() {
    let error = error_of(|env| {
        let strategy = strategy().timestamps(|n| Ok(n.cast_signed()));
        let both = env.source("logs", TwoLogs { misnames: true }).watermarks_per_split(strategy);
        both.parallelism(1).sink("out", Times::new());
    });
    let expected = "operator \"Source: logs\": the reader names split 7 and was given 2: number \
                    splits from 0 in the order in which they came to add_splits()";
    assert!(error.contains(expected), "{error}");
}

#[test]
fn watermarks_per_split_that_cannot_be_are_refused() {
    let timed = || strategy().timestamps(|n| Ok(time_of(*n)));
    let error = error_of(|env| {
        let numbers = env.source("numbers", Numbers(3)).map(Ok);
        numbers.watermarks_per_split(timed()).sink("out", Times::new());
    });
    let expected = "watermarks_per_split() is called on \"Map\": call it once, right behind \
                    source(), or use assign_timestamps()";
    assert!(error.contains(expected), "{error}");
    let error = error_of(|env| {
        let numbers = env.source("numbers", Numbers(3)).watermarks_per_split(timed());
        numbers.watermarks_per_split(timed()).sink("out", Times::new());
    });
    assert!(error.contains("is called on \"numbers\": call it once"), "{error}");
    let error = error_of(|env| {
        let numbers = env.source("numbers", Numbers(3)).rebalance();
        numbers.watermarks_per_split(timed()).sink("out", Times::new());
    });
    assert!(error.contains("watermarks_per_split() must follow an operator directly"), "{error}");
    let error = error_of(|env| {
        let numbers = env.source("numbers", Numbers(3)).watermarks_per_split(strategy());
        numbers.sink("out", Times::new());
    });
    let expected = "source \"numbers\" has watermarks_per_split(), and its records have no event \
                    times: name the function that gives them with timestamps()";
    assert!(error.contains(expected), "{error}");
}

#[test]
fn records_of_a_source_without_a_time_are_refused() {
    let out = Times::new();
    run_on_way(Way::Encoded, RuntimeMode::Streaming, |env| {
        let even = |n: &u64| {
            ensure!(n.is_multiple_of(2), "{n} has no time");
            Ok(time_of(*n))
        };
        let numbers = env.source("numbers", Numbers(100)).on_error(OnError::drop_record());
        let timed = numbers.watermarks_per_split(strategy().timestamps(even));
        // The policy is that of the source alone.
        let error = |n: u64| if n == 100 { bail!("it cannot be") } else { Ok(n) };
        timed.map(error).sink("out", out.clone());
    })
    .unwrap();
    let expected: Vec<Stamped<u64>> =
        (0..100).filter(|n| n % 2 == 0).map(|n| (n, Some(time_of(n)))).collect();
    assert_eq!(out.sorted(), expected);
}
