//! Joins, whose pairs a second computation knows.
//!
//! The rows of one source are split into two streams, and each row is followed by the watermark of
//! both. Where the two streams meet again, the watermark is the smaller one of both inputs, so a
//! record that the second computation calls late may come in time. Which ones do is a matter of
//! luck, but all others must be in time, and the pairs are those of all records that were in time.

use std::collections::BTreeSet;

use millstream_oracle::joins::{Interval, Pair, TwoInput, interval_join, split};

use super::*;

/// A fault that the engine could have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The upper bound is not in the interval.
    BoundExclusive,
    /// The interval ends a millisecond too late.
    BoundTooFar,
    PairTwice,
    /// A left record is forgotten at the next watermark.
    LeftForgotten,
    /// A pair has the time of its left record.
    TimeOfLeft,
    /// A late record is neither joined nor told of.
    LateLost,
    /// A record is late when the watermark is a millisecond before it.
    LateEarly,
}

static LATE_LEFT: OutputTag<Row> = OutputTag::new("late left");
static LATE_RIGHT: OutputTag<Row> = OutputTag::new("late right");

/// A pair as it travels: the key and the values of both.
type Told = (u64, u64, u64);

/// The sides of the records of a case, and the number of watermarks before each.
struct Sides {
    inputs: Vec<TwoInput>,
    /// By the values of the records, which are their numbers.
    is_left: Arc<Vec<bool>>,
    watermarks_before: Arc<Vec<usize>>,
}

impl Sides {
    fn new(case: &Case, random: &mut Random) -> Self {
        let inputs = split(&case.inputs, random);
        let (mut is_left, mut before, mut watermarks) = (Vec::new(), Vec::new(), 0);
        for input in &inputs {
            match input {
                TwoInput::Left(_) | TwoInput::Right(_) => {
                    is_left.push(matches!(input, TwoInput::Left(_)));
                    before.push(watermarks);
                }
                TwoInput::Watermark(_) => watermarks += 1,
            }
        }
        Self { inputs, is_left: Arc::new(is_left), watermarks_before: Arc::new(before) }
    }

    /// The streams of both sides.
    fn streams(&self, rows: Stream<Row>) -> (Stream<Row>, Stream<Row>) {
        let (left, right) = (Arc::clone(&self.is_left), Arc::clone(&self.is_left));
        (
            rows.clone().filter(move |(_, value, ..)| Ok(left[*value as usize])).parallelism(1),
            rows.filter(move |(_, value, ..)| Ok(!right[*value as usize])).parallelism(1),
        )
    }

    /// The inputs without watermarks and those records.
    fn without(&self, late: &BTreeSet<Record>) -> Vec<TwoInput> {
        let is_in_time = |input: &&TwoInput| match input {
            TwoInput::Left(record) | TwoInput::Right(record) => !late.contains(record),
            TwoInput::Watermark(_) => false,
        };
        self.inputs.iter().filter(is_in_time).copied().collect()
    }
}

/// The late records that came to a sink, each with its own time.
fn late_of(seen: &Times<Row>) -> Vec<Record> {
    let record = |((key, value, time, _), stamp): Stamped<Row>| {
        assert_eq!(stamp, Some(time), "a late record has the time of another one");
        Record { key, value, time }
    };
    seen.arrived().into_iter().map(record).collect()
}

/// An error if a record is late too often, or that the second computation finds in time.
fn ensure_late(came: &[Record], may_be: &[Record]) -> Result<BTreeSet<Record>, String> {
    let late: BTreeSet<_> = came.iter().copied().collect();
    let wrong: Vec<_> = came.iter().filter(|record| !may_be.contains(record)).take(3).collect();
    match (wrong.is_empty(), late.len() == came.len()) {
        (true, true) => Ok(late),
        (false, _) => Err(format!("records in time are late, like {wrong:?}")),
        (true, false) => Err("a record is late twice".to_owned()),
    }
}

/// The pairs as a fault would have left them.
fn spoil(pairs: &mut Vec<Stamped<Told>>, sides: &Sides, case: &Case, fault: Fault) {
    let before = |value: u64| sides.watermarks_before[value as usize];
    match fault {
        Fault::PairTwice => pairs.extend(pairs.first().copied()),
        Fault::LeftForgotten => pairs.retain(|((_, l, r), _)| before(*l) >= before(*r)),
        Fault::TimeOfLeft => {
            let records = case.without_watermarks();
            for ((_, left, _), time) in pairs {
                if let Some(Input::Record(record)) = records.get(*left as usize) {
                    *time = Some(record.time);
                }
            }
        }
        Fault::BoundExclusive | Fault::BoundTooFar | Fault::LateLost | Fault::LateEarly => {}
    }
}

/// Joins the two sides of a case within an interval.
fn join(
    env: &mut Environment,
    (case, sides): (&Case, &Sides),
    interval: Interval,
    fault: Option<Fault>,
) -> Stream<Told> {
    let ahead = (fault == Some(Fault::LateEarly)).then_some(super::Fault::WatermarkAhead);
    let (left, right) = sides.streams(stream(env, case, ahead));
    let upper = match fault {
        Some(Fault::BoundExclusive) => interval.upper - i64::from(interval.lower < interval.upper),
        Some(Fault::BoundTooFar) => interval.upper + 1,
        _ => interval.upper,
    };
    left.key_by(|(key, ..)| *key)
        .interval_join(right.key_by(|(key, ..)| *key), interval.lower..=upper)
        .late_left(LateRecords::side_output(&LATE_LEFT))
        .late_right(LateRecords::side_output(&LATE_RIGHT))
        .apply("pairs", |left: &Row, right: &Row| {
            ensure!(left.0 == right.0, "two keys are joined");
            Ok((left.0, left.1, right.1))
        })
}

/// Runs an interval join; the numbers of pairs and late records, or the verdict if they are not
/// right.
fn judge_interval(seed: u64, batch: bool, fault: Option<Fault>) -> Result<(usize, usize), String> {
    let random = &mut Random::new(seed);
    let case = Case::random(random);
    let sides = Sides::new(&case, random);
    let interval = Interval::random(random);
    let (out, late_left, late_right) = (Times::new(), Times::new(), Times::new());
    let (result, ..) = run_with(settings(seed, &case, batch), |env| {
        let pairs = join(env, (&case, &sides), interval, fault);
        if fault != Some(Fault::LateLost) {
            pairs.side_output(&LATE_LEFT).sink("late left", late_left.clone());
            pairs.side_output(&LATE_RIGHT).sink("late right", late_right.clone());
        }
        pairs.sink("out", out.clone());
        Ok(())
    });
    result.unwrap();
    let mut came = out.arrived();
    if let Some(fault) = fault {
        spoil(&mut came, &sides, &case, fault);
    }
    let inputs = if batch { sides.without(&BTreeSet::new()) } else { sides.inputs.clone() };
    let (_, may_be_late) = interval_join(&inputs, interval);
    let verdict = || {
        let mut late = ensure_late(&late_of(&late_left), &may_be_late.left)?;
        late.append(&mut ensure_late(&late_of(&late_right), &may_be_late.right)?);
        let (expected, _) = interval_join(&sides.without(&late), interval);
        let expected: Vec<_> = expected.into_iter().map(told).collect();
        let counts = (expected.len(), late.len());
        compare(expected, came).map(|()| counts)
    };
    verdict().map_err(|why| format!("seed {seed}, batch {batch}: {why}\n{interval:?}\n{case:?}"))
}

fn told(Pair { key, left, right, time }: Pair) -> Stamped<Told> {
    ((key, left, right), Some(time))
}

#[test]
fn interval_joins_are_those_of_the_second_computation() {
    let (mut pairs, mut late) = (0, 0);
    for seed in millstream_soak::rounds("joins by a second opinion", 0.003, CASES, 100 * CASES) {
        for batch in [false, true] {
            let compared = judge_interval(seed, batch, None).unwrap();
            (pairs, late) = (pairs + compared.0, late + compared.1);
        }
    }
    assert!(pairs > 10 * CASES as usize && late > 1_000, "{pairs} pairs, {late} late");
}

#[test]
fn faults_of_interval_joins_are_found() {
    for fault in [
        Fault::BoundExclusive,
        Fault::BoundTooFar,
        Fault::PairTwice,
        Fault::LeftForgotten,
        Fault::TimeOfLeft,
        Fault::LateLost,
        Fault::LateEarly,
    ] {
        let found = (0..FAULT_CASES).any(|seed| judge_interval(seed, false, Some(fault)).is_err());
        assert!(found, "{fault:?} is not found");
    }
}
