//! The workload `keyed-sum`: its input, and the results that it must publish.
//!
//! For each record of the input the job publishes the line `key sequence sum`: the record is
//! number `sequence` of its key, from 1, and `sum` is the sum of the key's amounts up to it.
//!
//! The numbers of a key's records leave the same remainder when they are divided by [`LANES`]. A
//! source that reads each of these lanes in order hands over the records of a key in order, at any
//! parallelism and after any restore, so that the sums are the same in every run.

use crate::Record;

/// Number of lanes that the numbers of records are divided into.
pub const LANES: u64 = 128;

/// The largest amount; the smallest is 1.
const AMOUNT_MAX: u64 = 1_000_000;
/// The event time of record 0, if it is not early.
const TIME_START: i64 = 1_700_000_000_000;
/// The most milliseconds by which a record is earlier than its number says.
const EARLY_MS_MAX: u64 = 50;
/// The increment of SplitMix64.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// The input of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyedSum {
    seed: u64,
    records: u64,
    keys_per_lane: u64,
}

impl KeyedSum {
    /// The input of so many records with the keys from 0 to `LANES * keys_per_lane`, without the
    /// last. There is at least one key per lane.
    #[must_use]
    pub const fn new(seed: u64, records: u64, keys_per_lane: u64) -> Self {
        let keys_per_lane = if keys_per_lane == 0 { 1 } else { keys_per_lane };
        Self { seed, records, keys_per_lane }
    }

    /// The record with this number. Its value is the amount. Of the keys of a lane the first ones
    /// are the most frequent.
    #[must_use]
    pub fn record(&self, number: u64) -> Record {
        let word = |draw| self.word(number, draw);
        let key_of_lane = (word(0) % self.keys_per_lane).min(word(1) % self.keys_per_lane);
        let early = word(3) % (EARLY_MS_MAX + 1);
        Record {
            key: number % LANES + LANES * key_of_lane,
            value: 1 + word(2) % AMOUNT_MAX,
            time: TIME_START.saturating_add_unsigned(number).saturating_sub_unsigned(early),
        }
    }

    /// A random number that depends on the seed, the record and the number of the draw.
    const fn word(&self, number: u64, draw: u64) -> u64 {
        let counter = number.wrapping_mul(4).wrapping_add(draw);
        mix(mix(self.seed).wrapping_add(counter.wrapping_mul(GAMMA)))
    }
}

/// The finaliser of SplitMix64.
const fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// The results that a job on a [`KeyedSum`] must publish: 8 bytes for each record and each key.
#[derive(Debug)]
pub struct Expected {
    /// The index of each key's first result, and of the end.
    firsts: Vec<usize>,
    /// The sums, key by key, in the order of the sequence.
    sums: Vec<u64>,
}

impl Expected {
    /// Computes the results of an input.
    #[must_use]
    pub fn of(input: &KeyedSum) -> Self {
        let keys = (LANES * input.keys_per_lane) as usize;
        let mut firsts = vec![0; keys + 1];
        for number in 0..input.records {
            firsts[input.record(number).key as usize + 1] += 1;
        }
        for key in 0..keys {
            firsts[key + 1] += firsts[key];
        }
        let mut next = firsts.clone();
        let mut totals = vec![0; keys];
        let mut sums = vec![0; input.records as usize];
        for number in 0..input.records {
            let Record { key, value, .. } = input.record(number);
            let key = key as usize;
            totals[key] += value;
            sums[next[key]] = totals[key];
            next[key] += 1;
        }
        Self { firsts, sums }
    }

    /// Number of keys; the keys are 0 to below it.
    #[must_use]
    pub fn keys(&self) -> u64 {
        self.firsts.len() as u64 - 1
    }

    /// Number of all results.
    #[must_use]
    pub fn results(&self) -> u64 {
        self.sums.len() as u64
    }

    /// Number of results of a key; 0 for a key that the input lacks.
    #[must_use]
    pub fn results_of(&self, key: u64) -> u64 {
        let (first, end) = self.bounds(key);
        (end - first) as u64
    }

    /// The sum of all amounts of a key.
    #[must_use]
    pub fn total_of(&self, key: u64) -> u64 {
        self.sum(key, self.results_of(key)).unwrap_or(0)
    }

    /// The sum of a key's first amounts, so many as `sequence` says; none if the key has fewer.
    #[must_use]
    pub fn sum(&self, key: u64, sequence: u64) -> Option<u64> {
        self.sums.get(self.index(key, sequence)?).copied()
    }

    /// The index of a result among all; none if there is no such result.
    pub(super) fn index(&self, key: u64, sequence: u64) -> Option<usize> {
        let (first, end) = self.bounds(key);
        let index = first.checked_add(usize::try_from(sequence.checked_sub(1)?).ok()?)?;
        (index < end).then_some(index)
    }

    /// The key and the sequence of the result with this index.
    pub(super) fn result(&self, index: usize) -> (u64, u64) {
        let key = self.firsts.partition_point(|first| *first <= index) - 1;
        (key as u64, (index - self.firsts[key]) as u64 + 1)
    }

    fn bounds(&self, key: u64) -> (usize, usize) {
        let key = usize::try_from(key).unwrap_or(usize::MAX);
        let bound = |key: Option<usize>| key.and_then(|key| self.firsts.get(key)).copied();
        match (bound(Some(key)), bound(key.checked_add(1))) {
            (Some(first), Some(end)) => (first, end),
            _ => (0, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use super::*;

    #[test]
    fn results_are_the_running_sums_of_each_key() {
        let input = KeyedSum::new(7, 5_000, 3);
        let expected = Expected::of(&input);
        let mut amounts = BTreeMap::<u64, Vec<u64>>::new();
        for number in 0..5_000 {
            let record = input.record(number);
            amounts.entry(record.key).or_default().push(record.value);
        }
        assert_eq!((expected.keys(), expected.results()), (384, 5_000));
        // One key has no records.
        assert_eq!(amounts.len(), 383);
        let mut indexes = HashSet::new();
        for (key, amounts) in amounts {
            assert_eq!(expected.results_of(key), amounts.len() as u64);
            assert_eq!(expected.total_of(key), amounts.iter().sum::<u64>());
            for sequence in 1..=amounts.len() {
                let sum = amounts[..sequence].iter().sum::<u64>();
                let sequence = sequence as u64;
                assert_eq!(expected.sum(key, sequence), Some(sum));
                let index = expected.index(key, sequence).unwrap();
                assert_eq!(expected.result(index), (key, sequence));
                assert!(indexes.insert(index));
            }
            assert_eq!(expected.sum(key, 0), None);
            assert_eq!(expected.sum(key, amounts.len() as u64 + 1), None);
        }
        assert_eq!((expected.results_of(384), expected.results_of(u64::MAX)), (0, 0));
        assert_eq!(expected.sum(384, 1), None);
    }

    #[test]
    fn the_records_of_a_key_are_in_one_lane() {
        let input = KeyedSum::new(1, 10_000, 4);
        for number in 0..10_000 {
            assert_eq!(input.record(number).key % LANES, number % LANES);
        }
    }

    #[test]
    fn inputs_differ_by_their_seeds_and_amounts_and_times_are_spread() {
        let (one, two) = (KeyedSum::new(1, 1_000, 2), KeyedSum::new(2, 1_000, 2));
        let differ = |number: &u64| one.record(*number).value != two.record(*number).value;
        assert!((0..1_000).filter(differ).count() > 990);
        let amounts: Vec<u64> = (0..1_000).map(|number| one.record(number).value).collect();
        let mean = amounts.iter().sum::<u64>() / 1_000;
        assert!((450_000..550_000).contains(&mean), "{mean}");
        let times: Vec<i64> = (0..1_000).map(|number| one.record(number).time).collect();
        assert!(!times.is_sorted());
        assert!((0..).zip(&times).all(|(number, time)| {
            (TIME_START + number - 50..=TIME_START + number).contains(time)
        }));
    }

    #[test]
    fn the_formula_stays_the_same() {
        let input = KeyedSum::new(42, 10, 8);
        let record = |number| {
            let Record { key, value, .. } = input.record(number);
            (key, value)
        };
        assert_eq!([0, 1, 1_000].map(record), [(128, 191_192), (769, 858_116), (616, 697_930)]);
    }

    #[test]
    fn an_empty_input_has_no_results() {
        let expected = Expected::of(&KeyedSum::new(1, 0, 0));
        assert_eq!((expected.keys(), expected.results(), expected.total_of(5)), (128, 0, 0));
    }
}
