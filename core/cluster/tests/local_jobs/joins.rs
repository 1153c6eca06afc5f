//! Joins of two streams: late records, and jobs that are refused.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use millstream_connectors::Datagen;

use super::times::{Times, error_of};
use super::*;

/// A record: whether it is a left one, its time, and the watermark behind it, if there is one.
type Row = (bool, i64, Option<i64>);

/// Hands over rows, each when so many results have come.
struct Gated {
    rows: Vec<(usize, Row)>,
    results: Arc<AtomicUsize>,
}

struct GatedReader {
    rows: std::vec::IntoIter<(usize, Row)>,
    results: Arc<AtomicUsize>,
}

impl Source for Gated {
    type Out = Row;
    type Split = ();
    type Reader = GatedReader;
    type Enumerator = NoEnumerator<()>;

    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    fn reader(&self, _ctx: &ReaderContext) -> Result<GatedReader> {
        let (rows, results) = (self.rows.clone().into_iter(), Arc::clone(&self.results));
        Ok(GatedReader { rows, results })
    }
}

impl SourceReader for GatedReader {
    type Out = Row;
    type Split = ();

    fn add_splits(&mut self, _splits: Vec<()>) -> Result<()> {
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Vec<()>> {
        Ok(Vec::new())
    }

    fn poll(&mut self, out: &mut ReaderOutput<'_, Row>) -> Result<Polled> {
        match self.rows.as_slice().first() {
            None => return Ok(Polled::Finished),
            Some((after, _)) if self.results.load(Ordering::SeqCst) < *after => {
                return Ok(Polled::Pending(Some(Instant::now() + Duration::from_millis(1))));
            }
            Some(_) => {}
        }
        self.rows.next().map_or(Ok(()), |(_, row)| out.push(row))?;
        Ok(Polled::Ready)
    }
}

struct Behind;

impl WatermarkGenerator<Row> for Behind {
    fn on_record(&mut self, (.., watermark): &Row, _: i64, out: &mut WatermarkOutput) {
        if let Some(watermark) = watermark {
            out.emit(*watermark);
        }
    }
}

static LATE_LEFT: OutputTag<Row> = OutputTag::new("late left");
static LATE_RIGHT: OutputTag<Row> = OutputTag::new("late right");

#[test]
fn a_late_record_makes_the_pairs_of_its_window_anew() {
    let results = Arc::<AtomicUsize>::default();
    let (left, right) = (true, false);
    let rows = vec![
        (0, (left, 5, None)),
        (0, (right, 6, Some(9))),
        // The window has fired.
        (1, (left, 7, None)),
        (1, (left, 21, None)),
        (1, (right, 22, Some(29))),
        // Another window has fired, and the first one is no longer kept.
        (4, (left, 8, None)),
        (4, (right, 3, None)),
    ];
    let source = Gated { rows, results: Arc::clone(&results) };
    let (out, late_left, late_right) = (Times::new(), Times::new(), Times::new());
    let settings = JobSettings { runtime_mode: RuntimeMode::Streaming, ..JobSettings::default() };
    let (result, ..) = run_with(settings, |env| {
        let times = WatermarkStrategy::generator(|| Behind).timestamps(|(_, time, _)| Ok(*time));
        let rows = env.source("rows", source).parallelism(1).assign_timestamps(times);
        let rows = rows.parallelism(1);
        let lefts = rows.clone().filter(|row| Ok(row.0)).key_by(|_| ());
        let joined = lefts
            .join(rows.filter(|row| Ok(!row.0)).key_by(|_| ()))
            .window(Tumbling::event_time(Duration::from_millis(10)))
            .allowed_lateness(Duration::from_millis(20))
            .late_left(LateRecords::side_output(&LATE_LEFT))
            .late_right(LateRecords::side_output(&LATE_RIGHT))
            .apply("pairs", |left: &Row, right: &Row| Ok((left.1, right.1)));
        joined.side_output(&LATE_LEFT).sink("late left", late_left.clone());
        joined.side_output(&LATE_RIGHT).sink("late right", late_right.clone());
        let counted = joined.map(move |pair| {
            results.fetch_add(1, Ordering::SeqCst);
            Ok(pair)
        });
        counted.sink("out", out.clone());
        Ok(())
    });
    result.unwrap();
    let pairs = [((5, 6), 9), ((5, 6), 9), ((7, 6), 9), ((21, 22), 29)];
    assert_eq!(out.sorted(), pairs.map(|(pair, time)| (pair, Some(time))));
    assert_eq!(late_left.arrived(), [((left, 8, None), Some(8))]);
    assert_eq!(late_right.arrived(), [((right, 3, None), Some(3))]);
}

#[test]
fn joins_of_records_without_times_are_refused() {
    let numbers = |env: &mut Environment, uid: &str| {
        env.source(uid, Datagen::sequence(0..10)).key_by(|n: &u64| n % 2)
    };
    let says = error_of(|env| {
        let (left, right) = (numbers(env, "left"), numbers(env, "right"));
        left.interval_join(right, 0..=1).apply("near", |l, r| Ok(l + r)).sink("out", Times::new());
    });
    assert!(says.contains("\"near\"") && says.contains("event times"), "{says}");
    let says = error_of(|env| {
        let (left, right) = (numbers(env, "left"), numbers(env, "right"));
        let windows = Tumbling::event_time(Duration::from_millis(10));
        let joined = left.join(right).window(windows);
        joined.apply("pairs", |l, r| Ok(l + r)).sink("out", Times::new());
    });
    assert!(says.contains("\"pairs\"") && says.contains("event times"), "{says}");
}

#[test]
fn an_interval_without_a_time_in_it_is_refused() {
    let says = error_of(|env| {
        let numbers = |env: &mut Environment, uid: &str| {
            env.source(uid, Datagen::sequence(0..10)).key_by(|n: &u64| n % 2)
        };
        let (left, right) = (numbers(env, "left"), numbers(env, "right"));
        #[expect(clippy::reversed_empty_ranges, reason = "it is what the test is about")]
        let joined = left.interval_join(right, 5..=4);
        joined.apply("near", |l, r| Ok(l + r)).sink("out", Times::new());
    });
    assert!(says.contains("the interval of an interval_join() is 5..=4"), "{says}");
}
