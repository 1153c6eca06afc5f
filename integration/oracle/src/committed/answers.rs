//! The results of each workload, computed in the plainest way: each record that is not late counts,
//! whatever the order in which records come.

use std::collections::BTreeMap;

use crate::Record;

use super::entries::Entries;
use super::expected::{Input, Outcome};
use super::workload::Workload;

/// The right records of a join and the rules of broadcast state are those of another seed.
const OTHER: u64 = 0x0dd5_eed5;
/// A rule comes for so many records.
const RECORDS_PER_RULE: u64 = 8;
/// Number of rules that are valid at one time.
const RULES: u64 = 8;

/// The results that a job on an input must publish, in any order.
pub(super) fn of(input: &Input) -> Vec<Outcome> {
    let span = input.span_ms.max(4);
    let entries = Entries::new(input.seed, input.records, input.keys_per_lane);
    match input.workload {
        Workload::KeyedSum => keyed_sum(&entries),
        Workload::Timers => timers(&entries, span),
        Workload::Tumbling => windows(&entries, span, span),
        Workload::Sliding => windows(&entries, span, slide(span)),
        Workload::Session => sessions(&entries, gap(input.keys_per_lane)),
        Workload::IntervalJoin => {
            let right = Entries::new(input.seed ^ OTHER, input.records, input.keys_per_lane);
            interval_join(&entries.spaced(2), &right.spaced(2), (-span / 2, span / 4))
        }
        Workload::Broadcast => {
            let rules = Entries::new(input.seed ^ OTHER, input.records, 1);
            broadcast(&entries, &rules.spaced(RECORDS_PER_RULE), span)
        }
    }
}

/// The distance of sliding windows, which does not divide their size.
pub(super) const fn slide(span: i64) -> i64 {
    span * 2 / 5 + 1
}

/// The gap of sessions: about a key's mean distance, so that there are short and long ones.
pub(super) const fn gap(keys_per_lane: u64) -> i64 {
    96 * keys_per_lane.cast_signed()
}

/// For each record the number of its key's records up to it, and their sum.
fn keyed_sum(entries: &Entries) -> Vec<Outcome> {
    let mut totals = BTreeMap::<u64, (i64, i64)>::new();
    let result = |record: Record| {
        let (sequence, sum) = totals.entry(record.key).or_default();
        *sequence += 1;
        *sum += record.value.cast_signed();
        Outcome::new([key(record), *sequence, 0], [*sum, 0])
    };
    entries.all().map(result).collect()
}

/// A record sets the alarm at the end of its span, or takes it back if its amount is a multiple of
/// three. An alarm has the records up to it that no alarm before had, and comes again as an echo
/// half a span later.
fn timers(entries: &Entries, span: i64) -> Vec<Outcome> {
    let mut keys = BTreeMap::<i64, BTreeMap<i64, (i64, i64, bool)>>::new();
    for (_, record) in entries.timely() {
        let alarms = keys.entry(key(record)).or_default();
        let (count, sum, is_set) = alarms.entry(end_of_span(record.time, span)).or_default();
        *count += 1;
        *sum += record.value.cast_signed();
        *is_set = !record.value.is_multiple_of(3);
    }
    let mut results = Vec::new();
    for (key, alarms) in keys {
        let (mut count, mut sum) = (0, 0);
        for (time, (more, amount, is_set)) in alarms {
            count += more;
            sum += amount;
            if is_set {
                let content = [std::mem::take(&mut count), std::mem::take(&mut sum)];
                let result = |time| Outcome::new([key, time, 0], content);
                results.extend([result(time), result(time + span / 2)]);
            }
        }
    }
    results
}

/// The first time of the next span.
const fn end_of_span(time: i64, span: i64) -> i64 {
    time - time.rem_euclid(span) + span
}

/// Windows that start at multiples of `slide`.
fn windows(entries: &Entries, size: i64, slide: i64) -> Vec<Outcome> {
    let mut windows = BTreeMap::<(i64, i64), (i64, i64)>::new();
    for (_, record) in entries.timely() {
        let mut start = record.time - record.time.rem_euclid(slide);
        while start + size > record.time {
            let (count, sum) = windows.entry((key(record), start)).or_default();
            *count += 1;
            *sum += record.value.cast_signed();
            start -= slide;
        }
    }
    let result =
        |((key, start), (count, sum))| Outcome::new([key, start, start + size], [count, sum]);
    windows.into_iter().map(result).collect()
}

fn sessions(entries: &Entries, gap: i64) -> Vec<Outcome> {
    let mut results: Vec<Outcome> = Vec::new();
    for (key, records) in by_key(entries) {
        let mut open: Option<Outcome> = None;
        for (time, _, amount) in records {
            let session = match open.take() {
                Some(session) if time <= session.identity[2] => session,
                before => {
                    results.extend(before);
                    Outcome::new([key, time, 0], [0, 0])
                }
            };
            let ([_, start, _], [count, sum]) = (session.identity, session.content);
            open = Some(Outcome::new([key, start, time + gap], [count + 1, sum + amount]));
        }
        results.extend(open);
    }
    results
}

/// Pairs whose right record is at least `lower` and at most `upper` later than the left one.
fn interval_join(left: &Entries, right: &Entries, (lower, upper): (i64, i64)) -> Vec<Outcome> {
    let rights = by_key(right);
    let mut results = Vec::new();
    for (key, lefts) in by_key(left) {
        let rights = rights.get(&key).map_or(&[][..], Vec::as_slice);
        for (time, number, amount) in lefts {
            let from = rights.partition_point(|right| right.0 < time + lower);
            let near = rights[from..].iter().take_while(|right| right.0 <= time + upper);
            results.extend(near.map(|right| {
                let content = [time.max(right.0), amount + right.2];
                Outcome::new([key, number, right.1], content)
            }));
        }
    }
    results
}

/// Each record, at the end of its span, multiplied with the sum of that span's rules for its key.
fn broadcast(entries: &Entries, rules: &Entries, span: i64) -> Vec<Outcome> {
    let mut sums = BTreeMap::<(i64, u64), i64>::new();
    for (_, rule) in rules.timely() {
        let sum = sums.entry((end_of_span(rule.time, span), rule.key % RULES)).or_default();
        *sum += (rule.value % 1_000).cast_signed();
    }
    let mut sequences = BTreeMap::<i64, i64>::new();
    let result = |(_, record): (u64, Record)| {
        let sequence = sequences.entry(key(record)).or_default();
        *sequence += 1;
        let end = end_of_span(record.time, span);
        let rule = sums.get(&(end, record.key % RULES)).copied().unwrap_or(0);
        let content = [end, record.value.cast_signed() * rule];
        Outcome::new([key(record), *sequence, 0], content)
    };
    entries.timely().map(result).collect()
}

/// The time, number and amount of each key's records, in order of time.
fn by_key(entries: &Entries) -> BTreeMap<i64, Vec<(i64, i64, i64)>> {
    let mut keys = BTreeMap::<i64, Vec<_>>::new();
    for (number, record) in entries.timely() {
        let of_key = keys.entry(key(record)).or_default();
        of_key.push((record.time, number.cast_signed(), record.value.cast_signed()));
    }
    keys.values_mut().for_each(|records| records.sort_unstable());
    keys
}

const fn key(record: Record) -> i64 {
    record.key.cast_signed()
}

#[cfg(test)]
#[path = "answers/tests.rs"]
mod tests;
