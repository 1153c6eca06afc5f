//! The results of small inputs, and of larger ones as the operators of this crate compute them.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::joins::{self, Interval, TwoInput};
use crate::windows::{self, Rules, Windows};
use crate::{Input as Item, compare};

const RECORDS: u64 = 3_000;
const ENTRIES: Entries = Entries::new(7, RECORDS, 2);

/// The records, and watermarks that stay behind the late times alone, as a subtask sees them.
fn items(entries: &Entries) -> impl Iterator<Item = (Item, Option<Item>)> {
    let mut latest = i64::MIN;
    entries.all().enumerate().map(move |(number, record)| {
        latest = latest.max(record.time);
        let watermark = (number % 50 == 0).then_some(Item::Watermark(latest - 521));
        (Item::Record(record), watermark)
    })
}

fn assert_windows(results: Vec<Outcome>, kind: Windows) {
    let items = items(&ENTRIES).flat_map(|(record, watermark)| [Some(record), watermark]);
    let items: Vec<Item> = items.flatten().collect();
    let (outputs, late) = windows::windows(&items, &Rules { windows: kind, lateness: 0 });
    assert_eq!(late.len(), RECORDS as usize - ENTRIES.timely().count());
    assert!(late.len() > 10 && outputs.len() > 500, "{} {}", late.len(), outputs.len());
    let outcome = |output: windows::Output| {
        let identity = [output.key.cast_signed(), output.start, output.end];
        Outcome::new(identity, [output.count, output.sum].map(u64::cast_signed))
    };
    assert_eq!(compare(outputs.into_iter().map(outcome).collect(), results), Ok(()));
}

#[test]
fn windows_are_those_of_the_operators() {
    let tumbling = Windows::Tumbling { size: 700, offset: 0 };
    assert_windows(super::windows(&ENTRIES, 700, 700), tumbling);
    let sliding = Windows::Sliding { size: 700, slide: slide(700), offset: 0 };
    assert_windows(super::windows(&ENTRIES, 700, slide(700)), sliding);
    assert_windows(sessions(&ENTRIES, gap(2)), Windows::Session { gap: gap(2) });
}

#[test]
fn sessions_are_short_and_long() {
    let counts: BTreeSet<i64> =
        sessions(&ENTRIES, gap(2)).into_iter().map(|session| session.content[0]).collect();
    assert!(counts.contains(&1) && counts.len() > 4, "{counts:?}");
}

#[test]
fn pairs_are_those_of_the_operators() {
    let (left, right) = (ENTRIES.spaced(2), Entries::new(8, RECORDS, 2).spaced(2));
    let mut inputs = Vec::new();
    for ((left, watermark), (right, _)) in items(&left).zip(items(&right)) {
        let (Item::Record(left), Item::Record(right)) = (left, right) else { continue };
        inputs.extend([TwoInput::Left(left), TwoInput::Right(right)]);
        if let Some(Item::Watermark(time)) = watermark {
            inputs.push(TwoInput::Watermark(time - 500));
        }
    }
    let (pairs, late) = joins::interval_join(&inputs, Interval { lower: -300, upper: 150 });
    assert!(pairs.len() > 1_000 && late.left.len() > 5 && late.right.len() > 5);
    let pair = |pair: joins::Pair| {
        let sum = (pair.left + pair.right).cast_signed();
        (pair.key.cast_signed(), pair.time, sum)
    };
    let results = interval_join(&left, &right, (-300, 150)).into_iter();
    let results = results.map(|result| {
        let [time, sum] = result.content;
        (result.identity[0], time, sum)
    });
    assert_eq!(compare(pairs.into_iter().map(pair).collect(), results.collect()), Ok(()));
}

#[test]
fn sums_are_those_of_each_key_so_far() {
    let mut sums = BTreeMap::<u64, Vec<u64>>::new();
    for (record, result) in ENTRIES.all().zip(keyed_sum(&ENTRIES)) {
        let amounts = sums.entry(record.key).or_default();
        amounts.push(record.value);
        let identity = [record.key, amounts.len() as u64, 0].map(u64::cast_signed);
        let content = [amounts.iter().sum::<u64>(), 0].map(u64::cast_signed);
        assert_eq!(result, Outcome::new(identity, content));
    }
}

#[test]
fn alarms_report_all_records_but_those_behind_the_last_one_of_a_key() {
    let results = timers(&ENTRIES, 400);
    let (alarms, echoes): (Vec<Outcome>, Vec<Outcome>) =
        results.into_iter().partition(|result| result.identity[1] % 400 == 0);
    let sum = |results: &[Outcome]| -> i64 { results.iter().map(|result| result.content[0]).sum() };
    assert_eq!((alarms.len(), sum(&alarms)), (echoes.len(), sum(&echoes)));
    let of_key = |record: &Record| {
        let mut alarms = alarms.iter().filter(|alarm| alarm.identity[0] == key(*record));
        alarms.any(|alarm| alarm.identity[1] > record.time)
    };
    let reported = ENTRIES.timely().filter(|(_, record)| of_key(record)).count();
    assert_eq!(sum(&alarms), reported as i64);
    // Some alarms are taken back.
    let spans: BTreeSet<(u64, i64)> =
        ENTRIES.timely().map(|(_, record)| (record.key, end_of_span(record.time, 400))).collect();
    assert!(alarms.len() < spans.len() * 9 / 10, "{} {}", alarms.len(), spans.len());
}

#[test]
fn records_are_multiplied_with_the_rules_of_their_span() {
    let rules = Entries::new(8, RECORDS, 1).spaced(8);
    let results = broadcast(&ENTRIES, &rules, 400);
    assert_eq!(results.len(), ENTRIES.timely().count());
    let ((_, record), result) = ENTRIES.timely().zip(&results).nth(1_234).unwrap();
    let begin = record.time - record.time.rem_euclid(400);
    let valid =
        |rule: &Record| (begin..begin + 400).contains(&rule.time) && rule.key % 8 == record.key % 8;
    let sum: u64 = rules.all().filter(valid).map(|rule| rule.value % 1_000).sum();
    assert!(sum > 0);
    assert_eq!(result.content, [begin + 400, (record.value * sum).cast_signed()]);
    assert!(results.iter().filter(|result| result.content[1] > 0).count() > 1_000);
}
