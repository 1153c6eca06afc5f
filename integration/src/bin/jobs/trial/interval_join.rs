//! The job of the workload `interval-join`: for each pair it writes `key left right time sum`, the
//! numbers of the two records, the later of their times, and the sum of their amounts.

use millstream::prelude::*;

use super::Line;
use super::entries::Input;

pub(super) fn lines(env: &mut Environment, input: &Input) -> Stream<Line> {
    let left = input.every(2).timed(env, "left").key_by(|entry| entry.key);
    let right = input.other().every(2).timed(env, "right").key_by(|entry| entry.key);
    left.interval_join(right, -input.span / 2..=input.span / 4).apply("pairs", |left, right| {
        let sum = left.amount + right.amount;
        let integers = [left.key, left.number, right.number].map(|integer| integer as i64);
        Ok([&integers[..], &[left.time.max(right.time), sum as i64]].concat())
    })
}
