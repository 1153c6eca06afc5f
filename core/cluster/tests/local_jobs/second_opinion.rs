//! Jobs on event time, whose results a second computation knows that shares nothing with the
//! engine.

#[path = "second_opinion/channels.rs"]
mod channels;
#[path = "second_opinion/joins.rs"]
mod joins;
#[path = "second_opinion/windows.rs"]
mod windows;

use millstream_oracle::timers::{Output, Rules, What};
use millstream_oracle::{Case, Input, Random, Record, compare, order, timers};

use super::times::{Stamped, Times};
use super::*;

/// A record, and the watermark that comes right behind it.
type Row = (u64, u64, i64, Option<i64>);

/// Inputs as the rows of a source.
fn rows(inputs: &[Input]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for input in inputs {
        match (input, rows.last_mut()) {
            (Input::Record(Record { key, value, time }), _) => {
                rows.push((*key, *value, *time, None));
            }
            (Input::Watermark(watermark), Some(row)) => row.3 = Some(*watermark),
            (Input::Watermark(_), None) => {}
        }
    }
    rows
}

/// Hands over rows, so many at once.
struct Rows {
    rows: Arc<Vec<Row>>,
    batch: usize,
}

struct RowsReader {
    rows: Arc<Vec<Row>>,
    batch: usize,
    next: usize,
}

impl Source for Rows {
    type Out = Row;
    type Split = ();
    type Reader = RowsReader;
    type Enumerator = NoEnumerator<()>;

    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    fn reader(&self, _ctx: &ReaderContext) -> Result<RowsReader> {
        Ok(RowsReader { rows: Arc::clone(&self.rows), batch: self.batch, next: 0 })
    }
}

impl SourceReader for RowsReader {
    type Out = Row;
    type Split = ();

    fn add_splits(&mut self, _splits: Vec<()>) -> Result<()> {
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Vec<()>> {
        Ok(Vec::new())
    }

    fn poll(&mut self, out: &mut ReaderOutput<'_, Row>) -> Result<Polled> {
        let rows = self.rows.iter().skip(self.next).take(self.batch);
        rows.copied().try_for_each(|row| out.push(row))?;
        self.next += out.len();
        Ok(if out.is_empty() { Polled::Finished } else { Polled::Ready })
    }
}

/// A fault that the engine could have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// A watermark is a millisecond ahead.
    WatermarkAhead,
    /// Some watermarks do not arrive.
    WatermarkLost,
    TimerEarly,
    TimerNotDeleted,
    TimerFiredTwice,
    TimerOfRefusedRecord,
    /// A timer that another one sets is lost.
    TimerLost,
}

struct BehindRows(Option<Fault>);

impl WatermarkGenerator<Row> for BehindRows {
    fn on_record(&mut self, (key, _, _, watermark): &Row, _: i64, out: &mut WatermarkOutput) {
        match (self.0, watermark) {
            (Some(Fault::WatermarkAhead), Some(watermark)) => out.emit(watermark.saturating_add(1)),
            (Some(Fault::WatermarkLost), Some(_)) if *key == 0 => {}
            (_, Some(watermark)) => out.emit(*watermark),
            (_, None) => {}
        }
    }
}

/// The stream of a case, on whose other side of an exchange the operator is.
fn stream(env: &mut Environment, case: &Case, fault: Option<Fault>) -> Stream<Row> {
    let source = Rows { rows: Arc::new(rows(&case.inputs)), batch: case.batch };
    let strategy = WatermarkStrategy::generator(move || BehindRows(fault)).max_ahead(None);
    let rows = env.source("rows", source).parallelism(1);
    rows.assign_timestamps(strategy.timestamps(|(_, _, time, _)| Ok(*time))).parallelism(1)
}

/// The ways in which a job runs, by the number of the case.
fn settings(number: u64, case: &Case, batch: bool) -> JobSettings {
    let mut settings = JobSettings { parallelism: case.parallelism, ..JobSettings::default() };
    settings.buffer_timeout_ms = [-1, 0, 1, 100][number as usize % 4];
    settings.runtime_mode = if batch { RuntimeMode::Batch } else { RuntimeMode::Streaming };
    settings.set_serialize_always(number.is_multiple_of(5));
    settings
}

/// Follows the rules of a case.
struct Ruled {
    rules: Rules,
    fault: Option<Fault>,
    count: ValueState<u64>,
    last: ValueState<i64>,
    first: Timers,
    second: Timers,
}

/// An output as it travels.
type Told = (u8, u64, i64, u64);

impl Ruled {
    fn new(
        ctx: &mut KeyedRuntimeContext<'_, u64>,
        rules: Rules,
        fault: Option<Fault>,
    ) -> Result<Self> {
        Ok(Self {
            rules,
            fault,
            count: ctx.value("count")?,
            last: ctx.value("last")?,
            first: ctx.event_timers("first")?,
            second: ctx.event_timers("second")?,
        })
    }
}

impl KeyedProcess<u64, Row> for Ruled {
    type Out = Told;

    fn process(
        &mut self,
        (key, value, time, _): Row,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, Told>,
    ) -> Result<()> {
        let (rules, fault) = (self.rules, self.fault);
        let early = i64::from(fault == Some(Fault::TimerEarly));
        let deletes = fault != Some(Fault::TimerNotDeleted);
        let count = self.count.get_or_insert_with(ctx, || 0)?;
        out.emit((0, key, time, *count));
        *count += 1;
        self.first.set(ctx, rules.first(time).saturating_sub(early))?;
        self.second.set(ctx, rules.second(time))?;
        if let Some(last) =
            self.last.get(ctx)?.copied().filter(|_| deletes && rules.deletes_first(value))
        {
            self.first.delete(ctx, rules.first(last))?;
        }
        if deletes && rules.deletes_second(value) {
            self.second.delete(ctx, rules.second(time))?;
        }
        self.last.set(ctx, time)?;
        if fault == Some(Fault::TimerOfRefusedRecord) && rules.refuses(value) {
            return Ok(());
        }
        ensure!(!rules.refuses(value), "refused after all that");
        Ok(())
    }

    fn on_timer(
        &mut self,
        timer: Timer,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, Told>,
    ) -> Result<()> {
        let is_first = timer.is_of(&self.first);
        let count = self.count.get(ctx)?.copied().unwrap_or_default();
        let told = (if is_first { 1 } else { 2 }, *ctx.key(), timer.time(), count);
        out.emit(told);
        if self.fault == Some(Fault::TimerFiredTwice) && timer.time() % 8 == 0 {
            out.emit(told);
        }
        let sets = is_first && self.fault != Some(Fault::TimerLost);
        match self.rules.next(timer.time()).filter(|_| sets) {
            Some(next) => Ok(self.second.set(ctx, next)?),
            None => Ok(()),
        }
    }
}

fn told(Output { what, key, time, count }: Output) -> Stamped<Told> {
    let what = match what {
        What::Record => 0,
        What::First => 1,
        What::Second => 2,
    };
    ((what, key, time, count), Some(time))
}

/// The number of cases that are judged, of each kind.
const CASES: u64 = 2_000;

/// The number of cases within which a fault is found.
const FAULT_CASES: u64 = 200;

/// Runs a case of timers; how many outputs were compared, or the verdict if it is not right.
fn judge_timers(seed: u64, batch: bool, fault: Option<Fault>) -> Result<usize, String> {
    let random = &mut Random::new(seed);
    let (case, rules) = (Case::random(random), Rules::random(random));
    let out = Times::new();
    let (result, ..) = run_with(settings(seed, &case, batch), |env| {
        let keyed = stream(env, &case, fault).key_by(|(key, ..)| *key);
        keyed
            .on_error(OnError::drop_record())
            .process("ruled", move |ctx| Ruled::new(ctx, rules, fault))
            .sink("out", out.clone());
        Ok(())
    });
    result.unwrap();
    let inputs = if batch { case.without_watermarks() } else { case.inputs.clone() };
    let expected: Vec<_> = timers::timers(&inputs, &rules).into_iter().map(told).collect();
    let count = expected.len();
    let verdict = compare(expected, out.arrived()).map(|()| count);
    verdict.map_err(|why| format!("seed {seed}, batch {batch}: {why}\n{rules:?}\n{case:?}"))
}

#[test]
fn timers_are_those_of_the_second_computation() {
    let mut compared = 0;
    for seed in millstream_soak::rounds("timers by a second opinion", 0.005, CASES, 100 * CASES) {
        for batch in [false, true] {
            compared += judge_timers(seed, batch, None).unwrap();
        }
    }
    assert!(compared > 10 * CASES as usize, "hardly anything was compared");
}

#[test]
fn faults_of_timers_are_found() {
    for fault in [
        Fault::WatermarkAhead,
        Fault::WatermarkLost,
        Fault::TimerEarly,
        Fault::TimerNotDeleted,
        Fault::TimerFiredTwice,
        Fault::TimerOfRefusedRecord,
        Fault::TimerLost,
    ] {
        let found = (0..FAULT_CASES).any(|seed| judge_timers(seed, false, Some(fault)).is_err());
        assert!(found, "{fault:?} is not found");
    }
}

static LATE: OutputTag<Row> = OutputTag::new("late");

#[test]
fn the_order_of_times_is_that_of_the_second_computation() {
    let record = |(row, time): Stamped<Row>| {
        let (key, value, own, _) = row;
        assert_eq!(time, Some(own), "a record has the time of another one");
        Record { key, value, time: own }
    };
    let (mut ordered, mut late) = (0, 0);
    for seed in millstream_soak::rounds("order by a second opinion", 0.003, CASES, 100 * CASES) {
        let case = Case::random(&mut Random::new(seed));
        for batch in [false, true] {
            let (out, aside) = (Times::new(), Times::new());
            let (result, ..) = run_with(settings(seed, &case, batch), |env| {
                let policy = LateRecords::side_output(&LATE);
                let rows = stream(env, &case, None).rebalance();
                let stream = rows.order_by_time("order", policy).parallelism(1);
                stream.side_output(&LATE).sink("late", aside.clone()).parallelism(1);
                stream.sink("out", out.clone()).parallelism(1);
                Ok(())
            });
            result.unwrap();
            let inputs = if batch { case.without_watermarks() } else { case.inputs.clone() };
            let expected = order::order(&inputs);
            (ordered, late) = (ordered + expected.0.len(), late + expected.1.len());
            let came = |seen: Times<Row>| -> Vec<Record> {
                seen.arrived().into_iter().map(record).collect()
            };
            assert_eq!((came(out), came(aside)), expected, "seed {seed}, batch {batch}, {case:?}");
        }
    }
    assert!(ordered > 1_000 && late > 1_000, "{ordered} in order and {late} late");
}
