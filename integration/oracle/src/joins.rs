//! Joins of two streams on event time: in windows, and within an interval.
//!
//! How long an operator keeps records does not show: a pair is joined if neither record was late
//! when it came.

use crate::windows::{self, Operator};
use crate::{Input, Now, Random, Record};

/// One thing that comes to an operator with two inputs. The end of both follows the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TwoInput {
    /// A record of the left input.
    Left(Record),
    /// A record of the right input.
    Right(Record),
    /// Says that no record up to this time will follow on either input.
    Watermark(i64),
}

/// Gives each record of an input to one of two inputs.
pub fn split(inputs: &[Input], random: &mut Random) -> Vec<TwoInput> {
    let left_of_ten = 1 + random.below(9);
    let side = |input: &Input| match *input {
        Input::Record(record) if random.below(10) < left_of_ten => TwoInput::Left(record),
        Input::Record(record) => TwoInput::Right(record),
        Input::Watermark(watermark) => TwoInput::Watermark(watermark),
    };
    inputs.iter().map(side).collect()
}

/// Two records that are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pair {
    /// The key of both records.
    pub key: u64,
    /// The value of the left record.
    pub left: u64,
    /// The value of the right record.
    pub right: u64,
    /// The event time of the pair.
    pub time: i64,
}

/// The records that came too late to be joined.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Late {
    /// Those of the left input.
    pub left: Vec<Record>,
    /// Those of the right input.
    pub right: Vec<Record>,
}

/// All pairs of a key in a window, each time when that fires, and the late records.
#[must_use]
pub fn window_join(inputs: &[TwoInput], rules: &windows::Rules) -> (Vec<Pair>, Late) {
    let (mut operator, mut late) = (Operator::new(*rules), Late::default());
    for input in inputs {
        match *input {
            TwoInput::Left(record) => {
                if !operator.on_record(record.key, record.time, &(true, record.value)) {
                    late.left.push(record);
                }
            }
            TwoInput::Right(record) => {
                if !operator.on_record(record.key, record.time, &(false, record.value)) {
                    late.right.push(record);
                }
            }
            TwoInput::Watermark(watermark) => operator.on_watermark(watermark),
        }
    }
    let mut pairs = Vec::new();
    for fired in operator.finish() {
        let (key, time) = (fired.key, fired.window.result_time());
        for (_, left) in fired.values.iter().filter(|(is_left, _)| *is_left) {
            for (_, right) in fired.values.iter().filter(|(is_left, _)| !*is_left) {
                pairs.push(Pair { key, left: *left, right: *right, time });
            }
        }
    }
    (pairs, late)
}

/// The times of right records, relative to the left record that they are joined with; both bounds
/// are in it.
#[derive(Debug, Clone, Copy)]
pub struct Interval {
    /// The right record is at least so much later, in milliseconds.
    pub lower: i64,
    /// The right record is at most so much later, in milliseconds.
    pub upper: i64,
}

impl Interval {
    /// An interval of a case: before, after or around the left record, short or long.
    pub fn random(random: &mut Random) -> Self {
        let most = [1, 10, 200][random.below(3) as usize];
        let lower = random.below(2 * most).cast_signed() - most.cast_signed();
        Self { lower, upper: lower + random.below(most).cast_signed() }
    }

    fn contains(self, left: i64, right: i64) -> bool {
        let later = i128::from(right) - i128::from(left);
        i128::from(self.lower) <= later && later <= i128::from(self.upper)
    }
}

/// The pairs of a key whose times fit, with the later of their times, and the late records.
#[must_use]
pub fn interval_join(inputs: &[TwoInput], interval: Interval) -> (Vec<Pair>, Late) {
    let (mut now, mut late) = (Now::before(), Late::default());
    let (mut left, mut right) = (Vec::new(), Vec::new());
    for input in inputs {
        match *input {
            TwoInput::Left(record) if now.has_reached(record.time) => late.left.push(record),
            TwoInput::Left(record) => left.push(record),
            TwoInput::Right(record) if now.has_reached(record.time) => late.right.push(record),
            TwoInput::Right(record) => right.push(record),
            TwoInput::Watermark(watermark) => {
                now.move_to(watermark);
            }
        }
    }
    let mut pairs = Vec::new();
    for left in &left {
        let fits =
            |right: &&Record| right.key == left.key && interval.contains(left.time, right.time);
        for right in right.iter().filter(fits) {
            let time = left.time.max(right.time);
            pairs.push(Pair { key: left.key, left: left.value, right: right.value, time });
        }
    }
    (pairs, late)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Case;
    use crate::windows::{Rules, Windows};

    fn record(value: u64, time: i64) -> Record {
        Record { key: 1, value, time }
    }

    fn left(value: u64, time: i64) -> TwoInput {
        TwoInput::Left(record(value, time))
    }

    fn right(value: u64, time: i64) -> TwoInput {
        TwoInput::Right(record(value, time))
    }

    fn pair(left: u64, right: u64, time: i64) -> Pair {
        Pair { key: 1, left, right, time }
    }

    #[test]
    fn all_pairs_of_a_key_in_a_window_are_joined() {
        let windows = Windows::Tumbling { size: 10, offset: 0 };
        let other_key = TwoInput::Right(Record { key: 2, value: 9, time: 1 });
        let inputs = [
            left(1, 0),
            right(5, 9),
            other_key,
            left(2, 3),
            right(6, 10),
            TwoInput::Watermark(9),
            left(3, 9),
            right(7, 2),
            left(4, 12),
        ];
        let (pairs, late) = window_join(&inputs, &Rules { windows, lateness: 0 });
        assert_eq!(pairs, [pair(1, 5, 9), pair(2, 5, 9), pair(4, 6, 19)]);
        assert_eq!(late, Late { left: vec![record(3, 9)], right: vec![record(7, 2)] });
    }

    #[test]
    fn a_pair_is_joined_in_each_sliding_window_that_has_both() {
        let windows = Windows::Sliding { size: 10, slide: 5, offset: 0 };
        let (pairs, _) = window_join(&[left(1, 6), right(2, 9)], &Rules { windows, lateness: 0 });
        assert_eq!(pairs, [pair(1, 2, 14), pair(1, 2, 9)]);
        let (pairs, _) = window_join(&[left(1, 6), right(2, 12)], &Rules { windows, lateness: 0 });
        assert_eq!(pairs, [pair(1, 2, 14)]);
    }

    #[test]
    fn both_bounds_are_in_the_interval() {
        let interval = Interval { lower: -2, upper: 3 };
        let rights = [right(1, 7), right(2, 8), right(3, 10), right(4, 13), right(5, 14)];
        let inputs = [&[left(0, 10)], &rights[..]].concat();
        let expected = [pair(0, 2, 10), pair(0, 3, 10), pair(0, 4, 13)];
        assert_eq!(interval_join(&inputs, interval).0, expected);
    }

    #[test]
    fn keys_are_joined_apart() {
        let other = TwoInput::Right(Record { key: 2, value: 3, time: 5 });
        let all = Interval { lower: i64::MIN, upper: i64::MAX };
        assert_eq!(interval_join(&[left(1, 5), other], all), (Vec::new(), Late::default()));
    }

    #[test]
    fn records_that_the_watermark_has_reached_are_not_joined() {
        let interval = Interval { lower: -5, upper: 5 };
        let inputs = [
            TwoInput::Watermark(i64::MIN),
            right(1, 0),
            TwoInput::Watermark(4),
            left(2, 4),
            left(3, 5),
            right(4, 4),
        ];
        let (pairs, late) = interval_join(&inputs, interval);
        assert_eq!(pairs, [pair(3, 1, 5)]);
        assert_eq!(late, Late { left: vec![record(2, 4)], right: vec![record(4, 4)] });
    }

    #[test]
    fn the_limits_of_time_are_as_far_apart_as_they_are() {
        let inputs = [left(1, i64::MIN), right(2, i64::MAX), right(3, i64::MIN)];
        let interval = Interval { lower: 0, upper: i64::MAX };
        assert_eq!(interval_join(&inputs, interval).0, [pair(1, 3, i64::MIN)]);
        let interval = Interval { lower: -1, upper: -1 };
        assert_eq!(interval_join(&inputs, interval).0, []);
    }

    #[test]
    fn cases_are_split_without_a_loss_and_joined() {
        let mut pairs = 0;
        for seed in 0..100 {
            let random = &mut Random::new(seed);
            let case = Case::random(random);
            let inputs = split(&case.inputs, random);
            assert_eq!(inputs.len(), case.inputs.len());
            let interval = Interval::random(random);
            assert!(interval.lower <= interval.upper);
            pairs += interval_join(&inputs, interval).0.len();
        }
        assert!(pairs > 100);
    }
}
