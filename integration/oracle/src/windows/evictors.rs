//! Windows that lose records when they fire: what is left is in the result, or in the next one.

use super::{Operator, Output, Rules};
use crate::{Input, Random, Record};

/// The records that a window keeps, which are in the order in which they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// The last ones, so many.
    Last(usize),
    /// Those that are less than so many milliseconds before the latest.
    Recent(i64),
    /// Those whose values, modulo 64, are at most so far from that of the last one.
    Near(u64),
}

/// The records that a window loses, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Eviction {
    /// The records that are left.
    pub keep: Keep,
    /// The records are lost behind the result, in which they still are.
    pub after: bool,
}

/// The distance of values.
#[must_use]
pub const fn distance(value: u64, other: u64) -> u64 {
    (value % 64).abs_diff(other % 64)
}

impl Eviction {
    /// Evictions of all kinds, which take much or little.
    pub fn random(random: &mut Random) -> Self {
        let most = [2, 9, 200][random.below(3) as usize];
        let keep = match random.below(3) {
            0 => Keep::Last(random.below(most) as usize),
            1 => Keep::Recent(random.below(most).cast_signed()),
            _ => Keep::Near(random.below(64)),
        };
        Self { keep, after: random.below(3) == 0 }
    }

    /// Takes records out.
    pub(super) fn evict(self, records: &mut Vec<Record>) {
        match self.keep {
            Keep::Last(count) => {
                let lost = records.len().saturating_sub(count);
                *records = records.iter().skip(lost).copied().collect();
            }
            Keep::Recent(millis) => {
                let Some(latest) = records.iter().map(|record| record.time).max() else { return };
                let age = |time: i64| i128::from(latest) - i128::from(time);
                records.retain(|record| age(record.time) < i128::from(millis));
            }
            Keep::Near(most) => {
                let Some(last) = records.last().copied() else { return };
                records.retain(|record| distance(record.value, last.value) <= most);
            }
        }
    }
}

/// As [`windows`](super::windows), and a window loses records each time that it fires. One that has
/// none has no result.
#[must_use]
pub fn evicting_windows(
    inputs: &[Input],
    rules: &Rules,
    eviction: Eviction,
) -> (Vec<Output>, Vec<Record>) {
    let mut operator = Operator::new(*rules);
    operator.eviction = Some((eviction, Eviction::evict));
    super::run(inputs, operator)
}

#[cfg(test)]
mod tests {
    use super::super::Windows;
    use super::*;

    fn record(value: u64, time: i64) -> Input {
        Input::Record(Record { key: 1, value, time })
    }

    /// The sums of all results of one window, which is long.
    fn sums(keep: Keep, after: bool, inputs: &[Input]) -> Vec<u64> {
        let windows = Windows::Tumbling { size: 1_000, offset: 0 };
        let rules = Rules { windows, lateness: 1_000 };
        let (outputs, late) = evicting_windows(inputs, &rules, Eviction { keep, after });
        assert!(late.is_empty());
        outputs.iter().map(|output| output.sum).collect()
    }

    fn inputs() -> [Input; 5] {
        [record(1, 5), record(2, 7), record(4, 6), Input::Watermark(999), record(8, 7)]
    }

    #[test]
    fn the_last_ones_are_in_the_result() {
        assert_eq!(sums(Keep::Last(2), false, &inputs()), [6, 12]);
        assert_eq!(sums(Keep::Last(9), false, &inputs()), [7, 15]);
        assert_eq!(sums(Keep::Last(0), false, &inputs()), [0; 0]);
    }

    #[test]
    fn recent_ones_are_in_the_result() {
        assert_eq!(sums(Keep::Recent(2), false, &inputs()), [6, 14]);
        assert_eq!(sums(Keep::Recent(1), false, &inputs()), [2, 10]);
        assert_eq!(sums(Keep::Recent(0), false, &inputs()), [0; 0]);
    }

    #[test]
    fn near_ones_are_in_the_result() {
        assert_eq!(distance(63, 64), 63);
        assert_eq!(sums(Keep::Near(2), false, &inputs()), [6, 8]);
        assert_eq!(sums(Keep::Near(0), false, &inputs()), [4, 8]);
    }

    #[test]
    fn what_is_lost_after_a_result_is_in_that() {
        assert_eq!(sums(Keep::Last(1), true, &inputs()), [7, 12]);
        assert_eq!(sums(Keep::Last(0), true, &inputs()), [7, 8]);
    }

    #[test]
    fn sessions_that_become_one_have_the_records_of_the_earlier_first() {
        let rules = Rules { windows: Windows::Session { gap: 10 }, lateness: 0 };
        let inputs = [record(1, 20), record(2, 0), record(4, 10)];
        let last = |count| {
            let eviction = Eviction { keep: Keep::Last(count), after: false };
            evicting_windows(&inputs, &rules, eviction).0[0].sum
        };
        assert_eq!([last(1), last(2), last(3)], [4, 5, 7]);
    }

    #[test]
    fn evictions_are_of_all_kinds() {
        let all: Vec<_> = (0..100).map(|seed| Eviction::random(&mut Random::new(seed))).collect();
        let some = |is: fn(&Eviction) -> bool| all.iter().any(is);
        assert!(some(|eviction| eviction.after) && some(|eviction| !eviction.after));
        assert!(some(|eviction| eviction.keep == Keep::Last(0)));
        assert!(some(|eviction| matches!(eviction.keep, Keep::Last(2..))));
        assert!(some(|eviction| matches!(eviction.keep, Keep::Recent(10..))));
        assert!(some(|eviction| matches!(eviction.keep, Keep::Near(1..))));
    }
}
