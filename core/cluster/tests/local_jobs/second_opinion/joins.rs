//! Joins, whose pairs a second computation knows.
//!
//! The rows of one source are split into two streams, and each row is followed by the watermark of
//! both. Where the two streams meet again, the watermark is the smaller one of both inputs, so a
//! record that the second computation calls late may come in time. Which ones do is a matter of
//! luck, but all others must be in time, and the pairs are those of all records that were in time.

use std::collections::BTreeSet;
use std::time::Duration;

use millstream_oracle::joins::{Interval, Late, Pair, TwoInput, interval_join, split, window_join};
use millstream_oracle::windows::{Rules, Windows};

use super::*;

/// A fault that the engine could have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The upper bound is not in the interval.
    BoundExclusive,
    /// The interval ends, or windows begin or end, a millisecond too late.
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

/// The pairs of a job, and the late records of both sides.
struct Seen {
    pairs: Times<Told>,
    late_left: Times<Row>,
    late_right: Times<Row>,
}

impl Seen {
    /// Runs a case on the streams of its two sides.
    fn run(
        (seed, batch): (u64, bool),
        (case, sides): (&Case, &Sides),
        fault: Option<Fault>,
        join: impl Fn(Stream<Row>, Stream<Row>) -> Stream<Told>,
    ) -> Self {
        let seen = Self { pairs: Times::new(), late_left: Times::new(), late_right: Times::new() };
        let ahead = (fault == Some(Fault::LateEarly)).then_some(super::Fault::WatermarkAhead);
        let (result, ..) = run_with(settings(seed, case, batch), |env| {
            let (left, right) = sides.streams(stream(env, case, ahead));
            let pairs = join(left, right);
            if fault != Some(Fault::LateLost) {
                pairs.side_output(&LATE_LEFT).sink("late left", seen.late_left.clone());
                pairs.side_output(&LATE_RIGHT).sink("late right", seen.late_right.clone());
            }
            pairs.sink("out", seen.pairs.clone());
            Ok(())
        });
        result.unwrap();
        seen
    }

    /// Compares the pairs with those of all records that were in time; the numbers of pairs and of
    /// late records.
    fn judge(
        &self,
        batch: bool,
        (case, sides): (&Case, &Sides),
        fault: Option<Fault>,
        join: impl Fn(&[TwoInput]) -> (Vec<Pair>, Late),
    ) -> Result<(usize, usize), String> {
        let mut came = self.pairs.arrived();
        if let Some(fault) = fault {
            spoil(&mut came, sides, case, fault);
        }
        let may_be_late = if batch { Late::default() } else { join(&sides.inputs).1 };
        let mut late = ensure_late(&late_of(&self.late_left), &may_be_late.left)?;
        late.append(&mut ensure_late(&late_of(&self.late_right), &may_be_late.right)?);
        let (expected, _) = join(&sides.without(&late));
        let told = |Pair { key, left, right, time }| ((key, left, right), Some(time));
        let expected: Vec<Stamped<Told>> = expected.into_iter().map(told).collect();
        let counts = (expected.len(), late.len());
        compare(expected, came).map(|()| counts)
    }
}

fn told(left: &Row, right: &Row) -> Result<Told> {
    ensure!(left.0 == right.0, "two keys are joined");
    Ok((left.0, left.1, right.1))
}

/// Runs an interval join; the numbers of pairs and late records, or the verdict if they are not
/// right.
fn judge_interval(seed: u64, batch: bool, fault: Option<Fault>) -> Result<(usize, usize), String> {
    let random = &mut Random::new(seed);
    let case = Case::random(random);
    let sides = Sides::new(&case, random);
    let interval = Interval::random(random);
    let upper = match fault {
        Some(Fault::BoundExclusive) => interval.upper - i64::from(interval.lower < interval.upper),
        Some(Fault::BoundTooFar) => interval.upper + 1,
        _ => interval.upper,
    };
    let seen = Seen::run((seed, batch), (&case, &sides), fault, |left, right| {
        left.key_by(|(key, ..)| *key)
            .interval_join(right.key_by(|(key, ..)| *key), interval.lower..=upper)
            .late_left(LateRecords::side_output(&LATE_LEFT))
            .late_right(LateRecords::side_output(&LATE_RIGHT))
            .apply("pairs", told)
    });
    let join = |inputs: &[TwoInput]| interval_join(inputs, interval);
    let verdict = seen.judge(batch, (&case, &sides), fault, join);
    verdict.map_err(|why| format!("seed {seed}, batch {batch}: {why}\n{interval:?}\n{case:?}"))
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

/// A few inputs of a case: a window has all pairs of its records.
fn shortened(mut case: Case) -> Case {
    case.inputs.truncate(100);
    case
}

/// A case without the records that may be late. Which windows these are in would be a matter of
/// luck if they are in several, or if sessions become one by them.
fn in_time(mut case: Case) -> Case {
    let (mut reached, mut value) = (i64::MIN, 0);
    case.inputs.retain_mut(|input| match input {
        Input::Watermark(watermark) => {
            reached = reached.max(*watermark);
            true
        }
        Input::Record(record) => {
            // A session that ends with the watermark touches the next millisecond.
            let is_in_time = reached == i64::MIN || record.time > reached.saturating_add(1);
            if is_in_time {
                record.value = value;
                value += 1;
            }
            is_in_time
        }
    });
    case
}

/// All pairs of a window.
struct Pairs;

impl WindowFunction<u64, (Vec<Row>, Vec<Row>)> for Pairs {
    type Out = Told;

    fn process(
        &mut self,
        key: u64,
        window: Window,
        (lefts, rights): (Vec<Row>, Vec<Row>),
        out: &mut Collector<'_, Told>,
    ) -> Result<()> {
        for row in lefts.iter().chain(&rights) {
            ensure!(row.0 == key && window.start <= row.2, "a record of another key or window");
        }
        for left in &lefts {
            for right in &rights {
                out.emit(told(left, right)?);
            }
        }
        Ok(())
    }
}

/// Joins two streams in windows, or groups them and pairs the groups.
fn in_windows<W: WindowAssigner<Sided<Row, Row>>>(
    (left, right): (Stream<Row>, Stream<Row>),
    windows: W,
    lateness: i64,
    groups: bool,
) -> Stream<Told> {
    let (left, right) = (left.key_by(|(key, ..)| *key), right.key_by(|(key, ..)| *key));
    let lateness = Duration::from_millis(lateness.cast_unsigned());
    let (late_left, late_right) =
        (LateRecords::side_output(&LATE_LEFT), LateRecords::side_output(&LATE_RIGHT));
    if groups {
        let groups = left.co_group(right).window(windows).allowed_lateness(lateness);
        return groups.late_left(late_left).late_right(late_right).process("groups", |_| Ok(Pairs));
    }
    let joined = left.join(right).window(windows).allowed_lateness(lateness);
    joined.late_left(late_left).late_right(late_right).apply("pairs", told)
}

/// As [`judge_interval`], for a join in windows.
fn judge_windows(seed: u64, batch: bool, fault: Option<Fault>) -> Result<(usize, usize), String> {
    let random = &mut Random::new(seed);
    let (mut case, mut rules) = (shortened(Case::random(random)), Rules::random(random));
    if matches!(rules.windows, Windows::Tumbling { .. }) {
        rules.lateness = 0;
    } else {
        case = in_time(case);
    }
    let sides = Sides::new(&case, random);
    let longer = i64::from(fault == Some(Fault::BoundTooFar));
    let millis = |millis: i64| Duration::from_millis(millis.cast_unsigned());
    let seen = Seen::run((seed, batch), (&case, &sides), fault, |left, right| {
        let (streams, groups) = ((left, right), seed.is_multiple_of(3));
        match rules.windows {
            Windows::Tumbling { size, offset } => {
                let windows = Tumbling::event_time(millis(size)).offset_millis(offset + longer);
                in_windows(streams, windows, rules.lateness, groups)
            }
            Windows::Sliding { size, slide, offset } => {
                let windows = Sliding::event_time(millis(size), millis(slide));
                let windows = windows.offset_millis(offset + longer);
                in_windows(streams, windows, rules.lateness, groups)
            }
            Windows::Session { gap } => {
                let windows = Session::event_time(millis(gap + longer));
                in_windows(streams, windows, rules.lateness, groups)
            }
        }
    });
    let join = |inputs: &[TwoInput]| window_join(inputs, &rules);
    let verdict = seen.judge(batch, (&case, &sides), fault, join);
    verdict.map_err(|why| format!("seed {seed}, batch {batch}: {why}\n{rules:?}\n{case:?}"))
}

#[test]
fn joins_in_windows_are_those_of_the_second_computation() {
    let (mut pairs, mut late) = (0, 0);
    let name = "joins in windows by a second opinion";
    for seed in millstream_soak::rounds(name, 0.003, CASES, 100 * CASES) {
        for batch in [false, true] {
            let compared = judge_windows(seed, batch, None).unwrap();
            (pairs, late) = (pairs + compared.0, late + compared.1);
        }
    }
    assert!(pairs > 10 * CASES as usize && late > 100, "{pairs} pairs, {late} late");
}

#[test]
fn faults_of_joins_in_windows_are_found() {
    for fault in [
        Fault::BoundTooFar,
        Fault::PairTwice,
        Fault::LeftForgotten,
        Fault::TimeOfLeft,
        Fault::LateLost,
        Fault::LateEarly,
    ] {
        let found = (0..FAULT_CASES).any(|seed| judge_windows(seed, false, Some(fault)).is_err());
        assert!(found, "{fault:?} is not found");
    }
}
