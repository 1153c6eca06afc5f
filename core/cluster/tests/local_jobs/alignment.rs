//! Sources, and splits of one source, that wait for others which are behind in event time.

use std::ops::Range;
use std::sync::atomic::AtomicUsize;

use millstream_connectors::Datagen;

use super::times::{Times, Way, error_of, run_on_way};
use super::*;

const HOUR: u64 = 3_600_000;

/// Counts records that are between two places of a job, and the most at one time.
#[derive(Clone, Default)]
struct Between(Arc<(AtomicUsize, AtomicUsize)>);

impl Between {
    fn enter(&self) {
        let (now, most) = &*self.0;
        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
    }

    fn leave(&self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }

    fn most(&self) -> usize {
        self.0.1.load(Ordering::SeqCst)
    }
}

/// Brings records in order of time; counts those that are kept for it.
fn in_order(stream: Stream<u64>, kept: &Between) -> Stream<u64> {
    let (enter, leave) = (kept.clone(), kept.clone());
    stream
        .map(move |ms| {
            enter.enter();
            Ok(ms)
        })
        .order_by_time("order", LateRecords::drop_record())
        .map(move |ms| {
            leave.leave();
            Ok(ms)
        })
}

const PER_SOURCE: u64 = 36_000;

/// Two sources of an hour of records each, one every 100 ms, in order of time; the second one is an
/// hour ahead. The records in the order in which they came, and the most that were kept for it.
fn hours(way: Way, aligned: bool) -> (Vec<u64>, usize) {
    let (out, kept) = (Times::new(), Between::default());
    run_on_way(way, RuntimeMode::Streaming, |env| {
        env.set_parallelism(1);
        let strategy = || {
            let times = WatermarkStrategy::monotonous().timestamps(|ms: &u64| Ok(ms.cast_signed()));
            if aligned { times.aligned("hours", Duration::from_secs(60)) } else { times }
        };
        let mut hour = |uid: &str, first: u64, rate| {
            let records = Datagen::from_fn(move |n| first + 100 * n).count(PER_SOURCE);
            let source = env.source(uid, records.rate_per_second(rate));
            source.watermarks_per_split(strategy())
        };
        let both = hour("first", 0, 40_000).union(hour("second", HOUR, 200_000));
        in_order(both, &kept).sink("out", out.clone());
    })
    .unwrap();
    (out.arrived().into_iter().map(|(ms, _)| ms).collect(), kept.most())
}

/// Two hours of records.
fn all() -> Vec<u64> {
    (0..2 * PER_SOURCE).map(|n| 100 * n).collect()
}

#[test]
fn a_source_an_hour_ahead_of_another_waits_for_it() {
    // 600 records are a minute's, which is the drift; a thousand are a batch.
    for way in [Way::Chained, Way::Encoded, Way::Tcp] {
        let (order, kept) = hours(way, true);
        assert!(order == all(), "{way:?}: some are missing, late or out of order");
        assert!(kept < 6_000, "{way:?}: {kept} records were kept at one time");
    }
    let (order, kept) = hours(Way::Chained, false);
    assert!(order == all());
    assert!(kept > 20_000, "without alignment {kept} records were kept at one time");
}

/// A source whose reader reads its splits by turns, a hundred records each.
struct Logs {
    splits: Vec<Range<u64>>,
    /// The reader asks which splits wait.
    asks: bool,
}

struct LogReader {
    splits: Vec<Range<u64>>,
    asks: bool,
}

impl Source for Logs {
    type Out = u64;
    type Split = Range<u64>;
    type Reader = LogReader;
    type Enumerator = NoEnumerator<Range<u64>>;

    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    fn splits(&self) -> Result<Vec<Range<u64>>> {
        Ok(self.splits.clone())
    }

    fn reader(&self, _ctx: &ReaderContext) -> Result<LogReader> {
        Ok(LogReader { splits: Vec::new(), asks: self.asks })
    }
}

impl SourceReader for LogReader {
    type Out = u64;
    type Split = Range<u64>;

    fn add_splits(&mut self, splits: Vec<Range<u64>>) -> Result<()> {
        self.splits.extend(splits);
        Ok(())
    }

    fn poll(&mut self, out: &mut ReaderOutput<'_, u64>) -> Result<Polled> {
        let mut open = false;
        for (number, split) in (0..).zip(&mut self.splits) {
            if split.is_empty() {
                continue;
            }
            open = true;
            if self.asks && out.is_paused(number) {
                continue;
            }
            out.of_split(number);
            out.extend(split.by_ref().take(100))?;
            if split.is_empty() {
                out.end_split(number);
            }
        }
        Ok(match (open, out.is_empty()) {
            (false, _) => Polled::Finished,
            (true, true) => Polled::Pending(None),
            (true, false) => Polled::Ready,
        })
    }

    fn snapshot(&mut self) -> Result<Vec<Range<u64>>> {
        Ok(self.splits.clone())
    }
}

fn by_split() -> WatermarkStrategy<u64> {
    let times = WatermarkStrategy::monotonous().timestamps(|ms: &u64| Ok(ms.cast_signed()));
    times.aligned("logs", Duration::from_millis(500))
}

const PER_LOG: u64 = 30_000;

#[test]
fn splits_of_a_reader_wait_for_each_other() {
    let (out, kept) = (Times::new(), Between::default());
    run_on_way(Way::Encoded, RuntimeMode::Streaming, |env| {
        env.set_parallelism(1);
        // The second log begins ten seconds later, and the third one has long ended then.
        let splits = vec![0..PER_LOG, 10_000..10_000 + PER_LOG, 0..1_000];
        let logs = env.source("logs", Logs { splits, asks: true });
        in_order(logs.watermarks_per_split(by_split()), &kept).sink("out", out.clone());
    })
    .unwrap();
    let mut expected: Vec<u64> = (0..PER_LOG).chain(10_000..10_000 + PER_LOG).collect();
    expected.extend(0..1_000);
    expected.sort_unstable();
    let arrived: Vec<u64> = out.arrived().into_iter().map(|(ms, _)| ms).collect();
    assert!(arrived == expected, "some are missing, late or out of order");
    assert!(kept.most() < 4_000, "{} records were kept at one time", kept.most());
}

#[test]
fn a_split_that_is_the_only_one_never_waits() {
    let out = Times::new();
    run_on_way(Way::Chained, RuntimeMode::Streaming, |env| {
        env.set_parallelism(1);
        // Each record is further ahead of the one before than the drift.
        let days = by_split().timestamps(|n| Ok(n.cast_signed() * 86_400_000)).max_ahead(None);
        let logs = Logs { splits: std::iter::once(0..10_000).collect(), asks: false };
        let source = env.source("logs", logs).watermarks_per_split(days);
        source.sink("out", out.clone());
    })
    .unwrap();
    assert_eq!(out.arrived().len(), 10_000);
}

#[test]
fn a_source_that_is_idle_is_not_waited_for() {
    let out = Times::new();
    run_on_way(Way::Chained, RuntimeMode::Streaming, |env| {
        env.set_parallelism(1);
        let strategy = by_split().idle_after(Duration::from_millis(50));
        // Its second record comes after a second.
        let seldom = Datagen::sequence(0..2).rate_per_second(1);
        let seldom = env.source("seldom", seldom);
        let often = env.source("often", Datagen::sequence(0..PER_LOG));
        let out = out.clone();
        let both = seldom.watermarks_per_split(strategy.clone());
        both.union(often.watermarks_per_split(strategy)).sink("out", out);
    })
    .unwrap();
    let arrived: Vec<u64> = out.arrived().into_iter().map(|(ms, _)| ms).collect();
    assert_eq!(arrived.len() as u64, PER_LOG + 2);
    let last = arrived.iter().rposition(|ms| *ms == 1).unwrap();
    assert!(last > arrived.len() - 10, "{last}: it came before the others had been read");
}

#[test]
fn a_reader_that_goes_on_with_a_split_that_waits_fails_and_says_so() {
    let error = error_of(|env| {
        let logs = Logs { splits: vec![0..PER_LOG, HOUR..HOUR + PER_LOG], asks: false };
        env.set_parallelism(1);
        let source = env.source("logs", logs).watermarks_per_split(by_split());
        source.sink("out", Times::new());
    });
    let expected = "the reader adds records of split 1, which waits for others of its alignment \
                    group: let it ask ReaderOutput::is_paused() before it reads a split";
    assert!(error.contains(expected), "{error}");
}

#[test]
fn alignment_amid_a_job_is_refused() {
    let error = error_of(|env| {
        env.source("numbers", Numbers(3)).assign_timestamps(by_split()).sink("out", Times::new());
    });
    let expected = "assign_timestamps() has a strategy that is aligned(), but only a source can \
                    be told to wait: use watermarks_per_split() right behind source()";
    assert!(error.contains(expected), "{error}");
}

#[test]
fn in_batch_mode_no_split_waits() {
    let out = Times::new();
    run_on_way(Way::Encoded, RuntimeMode::Batch, |env| {
        let logs = Logs { splits: vec![0..PER_LOG, HOUR..HOUR + PER_LOG], asks: true };
        env.set_parallelism(1);
        let source = env.source("logs", logs).watermarks_per_split(by_split());
        source.sink("out", out.clone());
    })
    .unwrap();
    assert_eq!(out.arrived().len() as u64, 2 * PER_LOG);
}
