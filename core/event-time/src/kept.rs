//! The records of a key that an interval join keeps: those that may have partners yet.

use std::collections::VecDeque;

use millstream_types::State;
use millstream_types::schema::{Kind, SchemaBuilder};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::grid::clamp;

/// The records of one side of a key with their times, in order of time.
pub type Side<T> = VecDeque<(i64, T)>;

/// The records of a key that may have partners yet.
#[derive(Debug, Serialize, Deserialize)]
pub struct Kept<A, B> {
    /// Those of the first stream.
    pub left: Side<A>,
    /// Those of the second stream.
    pub right: Side<B>,
    /// The time of the earliest timer.
    pub timer: Option<i64>,
}

impl<A: State, B: State> State for Kept<A, B> {
    fn schema(builder: &mut SchemaBuilder) -> Kind {
        builder.kind_of::<(Side<A>, Side<B>, Option<i64>)>()
    }
}

impl<A, B> Default for Kept<A, B> {
    fn default() -> Self {
        Self::new()
    }
}

impl<A, B> Kept<A, B> {
    /// No records.
    #[must_use]
    pub const fn new() -> Self {
        Self { left: VecDeque::new(), right: VecDeque::new(), timer: None }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.left.is_empty() && self.right.is_empty()
    }

    /// The time of the timer that is needed for a record that is forgotten at `until`, if no timer
    /// is early enough.
    pub fn new_timer(&mut self, until: i64) -> Option<i64> {
        let is_new = self.timer.is_none_or(|timer| until < timer);
        if is_new {
            self.timer = Some(until);
        }
        is_new.then_some(until)
    }

    /// Forgets the records that have no partners after this watermark; the time at which the next
    /// one is forgotten.
    pub fn forget(&mut self, watermark: i64, lower: i128, upper: i128) -> Option<i64> {
        let left = forget(&mut self.left, watermark, upper);
        let right = forget(&mut self.right, watermark, -lower);
        left.into_iter().chain(right).min()
    }
}

/// A side keeps room for at least so many records.
const SPARE: usize = 64;

/// The watermark at which a record has no partners any more: they come at most so much later.
#[must_use]
pub fn kept_until(time: i64, later_by: i128) -> i64 {
    clamp(i128::from(time) + later_by)
}

/// Forgets the records of a side that have no partners after this watermark; the time at which the
/// next one is forgotten.
fn forget<T>(side: &mut Side<T>, watermark: i64, later_by: i128) -> Option<i64> {
    let until = |(time, _): &(i64, T)| kept_until(*time, later_by);
    while side.front().is_some_and(|first| until(first) <= watermark) {
        side.pop_front();
    }
    // After a burst of records their memory is given back.
    if side.capacity() > SPARE + 4 * side.len() {
        side.shrink_to(2 * side.len());
    }
    side.front().map(until)
}

/// Adds a record behind those that are not later.
pub fn keep<T>(side: &mut Side<T>, time: i64, record: T) {
    if side.back().is_none_or(|(last, _)| *last <= time) {
        side.push_back((time, record));
    } else {
        let at = side.partition_point(|(other, _)| *other <= time);
        side.insert(at, (time, record));
    }
}

/// Makes results of the records of a side with times in `from..=to`, and their times: a pair has
/// the later one of its two.
///
/// # Errors
/// The function's first.
pub fn join<T, O>(
    side: &Side<T>,
    (from, to): (i128, i128),
    time: i64,
    (results, times): (&mut Vec<O>, &mut Vec<i64>),
    mut pair: impl FnMut(&T) -> Result<O>,
) -> Result<()> {
    let begin = side.partition_point(|(other, _)| i128::from(*other) < from);
    for (other, record) in side.range(begin..) {
        if i128::from(*other) > to {
            break;
        }
        results.push(pair(record)?);
        times.push(time.max(*other));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(times: &[i64]) -> Side<i64> {
        let mut side = Side::new();
        times.iter().for_each(|time| keep(&mut side, *time, *time));
        side
    }

    #[test]
    fn records_are_kept_in_order_of_time() {
        let kept = side(&[3, 5, 1, 5, i64::MAX, i64::MIN, 4]);
        let kept: Vec<_> = kept.into_iter().map(|(time, _)| time).collect();
        assert_eq!(kept, [i64::MIN, 1, 3, 4, 5, 5, i64::MAX]);
    }

    #[test]
    fn a_record_is_forgotten_when_the_watermark_is_where_its_last_partner_can_be() {
        let mut kept = Kept { left: side(&[0, 10]), right: side(&[0, 10]), timer: None };
        assert_eq!(kept.forget(4, -3, 5), Some(5));
        assert_eq!((kept.left.len(), kept.right.len()), (2, 1));
        assert_eq!(kept.forget(5, -3, 5), Some(13));
        assert_eq!(kept.forget(i64::MAX, -3, 5), None);
        assert!(kept.is_empty());
    }

    #[test]
    fn bounds_beyond_the_limits_of_time_do_not_wrap() {
        assert_eq!(kept_until(i64::MAX, i64::MAX.into()), i64::MAX);
        assert_eq!(kept_until(i64::MIN, -i128::from(i64::MAX)), i64::MIN);
        assert_eq!(kept_until(0, -i128::from(i64::MIN)), i64::MAX);
        let (mut results, mut times) = (Vec::new(), Vec::new());
        let range = (i128::from(i64::MAX) + 1, i128::from(i64::MAX) + 2);
        let to = (&mut results, &mut times);
        join(&side(&[i64::MIN, i64::MAX]), range, 0, to, |time| Ok(*time)).unwrap();
        assert_eq!((results, times), (vec![], vec![]));
    }
}
