//! A function with timers: its rules, which a case draws, and its outputs.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Input, Now, Random, Record};

/// The kind of a timer, and of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum What {
    /// A record came.
    Record,
    /// The first timer of a record was due.
    First,
    /// The second timer of a record was due, or the one that a first timer set.
    Second,
}

/// An output of a function with timers; its event time is the time of the record or timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Output {
    /// The kind of the output.
    pub what: What,
    /// The key.
    pub key: u64,
    /// The time of the record or timer.
    pub time: i64,
    /// The number of the key's records that came before.
    pub count: u64,
}

/// The times for which a function sets timers.
///
/// For each record it sets a first and a second timer. It deletes the first timer of the record
/// before it, and the second one of its own, for some records. A first timer that is due sets a
/// second one. Some records are refused after all that, which leaves no trace of them.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// The first timer is so long after its record, or before it.
    pub first_after: i64,
    /// The second timer is at the end of the span of this length in which the record is.
    pub span: i64,
    /// The timer that a first one sets is so long after it.
    pub next_after: i64,
}

impl Rules {
    /// Rules of a case.
    pub fn random(random: &mut Random) -> Self {
        Self {
            first_after: random.below(200).cast_signed() - 20,
            span: 1 + random.below(100).cast_signed(),
            next_after: 1 + random.below(50).cast_signed(),
        }
    }

    /// The first timer of a record of this time.
    #[must_use]
    pub const fn first(&self, time: i64) -> i64 {
        time.saturating_add(self.first_after)
    }

    /// The second timer of a record of this time.
    #[must_use]
    pub const fn second(&self, time: i64) -> i64 {
        time.saturating_sub(time.rem_euclid(self.span)).saturating_add(self.span - 1)
    }

    /// The timer that a first timer sets, if there is a time after it: timers of one time fire in
    /// any order.
    #[must_use]
    pub const fn next(&self, time: i64) -> Option<i64> {
        time.checked_add(self.next_after)
    }

    /// Whether a record deletes the first timer of the one before it.
    #[must_use]
    pub const fn deletes_first(&self, value: u64) -> bool {
        value.is_multiple_of(3)
    }

    /// Whether a record deletes its own second timer.
    #[must_use]
    pub const fn deletes_second(&self, value: u64) -> bool {
        value.is_multiple_of(5)
    }

    /// Whether a record is refused.
    #[must_use]
    pub const fn refuses(&self, value: u64) -> bool {
        value.is_multiple_of(7)
    }
}

#[derive(Default)]
struct Key {
    count: u64,
    last: Option<i64>,
    timers: BTreeSet<(i64, What)>,
}

impl Key {
    fn record(&mut self, record: Record, rules: &Rules, outputs: &mut Vec<Output>) {
        if rules.refuses(record.value) {
            return;
        }
        let Record { key, value, time } = record;
        outputs.push(Output { what: What::Record, key, time, count: self.count });
        self.count += 1;
        self.timers.insert((rules.first(time), What::First));
        self.timers.insert((rules.second(time), What::Second));
        if let Some(last) = self.last.filter(|_| rules.deletes_first(value)) {
            self.timers.remove(&(rules.first(last), What::First));
        }
        if rules.deletes_second(value) {
            self.timers.remove(&(rules.second(time), What::Second));
        }
        self.last = Some(time);
    }

    /// Fires the timers up to a time, and those up to it that these set.
    fn fire(&mut self, key: u64, until: i64, rules: &Rules, outputs: &mut Vec<Output>) {
        while let Some((time, what)) = self.timers.first().copied().filter(|next| next.0 <= until) {
            self.timers.remove(&(time, what));
            outputs.push(Output { what, key, time, count: self.count });
            if what == What::First {
                self.timers.extend(rules.next(time).map(|next| (next, What::Second)));
            }
        }
    }
}

/// Everything that a function with these rules emits.
#[must_use]
pub fn timers(inputs: &[Input], rules: &Rules) -> Vec<Output> {
    let mut keys = BTreeMap::<u64, Key>::new();
    let (mut now, mut outputs) = (Now::before(), Vec::new());
    for input in inputs {
        match *input {
            Input::Record(record) => {
                keys.entry(record.key).or_default().record(record, rules, &mut outputs);
            }
            Input::Watermark(watermark) => {
                if now.move_to(watermark) {
                    let until = watermark.min(i64::MAX - 1);
                    for (key, state) in &mut keys {
                        state.fire(*key, until, rules, &mut outputs);
                    }
                }
            }
        }
    }
    for (key, state) in &mut keys {
        state.fire(*key, i64::MAX, rules, &mut outputs);
    }
    outputs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_fire_in_order_and_see_the_records_before_them() {
        let rules = Rules { first_after: 10, span: 100, next_after: 5 };
        let record = |value, time| Input::Record(Record { key: 1, value, time });
        let inputs = [
            record(1, 0),
            Input::Watermark(9),
            record(2, 7),
            Input::Watermark(12),
            // It deletes the first timer of the record before, sets one that is due at once when
            // time moves, and deletes its second one.
            record(15, 1),
            record(14, 50),
            Input::Watermark(20),
        ];
        let of = |what, time, count| Output { what, key: 1, time, count };
        let expected = [
            of(What::Record, 0, 0),
            of(What::Record, 7, 1),
            of(What::First, 10, 2),
            of(What::Record, 1, 2),
            of(What::First, 11, 3),
            of(What::Second, 15, 3),
            of(What::Second, 16, 3),
        ];
        assert_eq!(timers(&inputs, &rules), expected);
    }
}
