//! The records of a run, computed from their numbers.
//!
//! The numbers of a key's records leave the same remainder when they are divided by [`LANES`]. A
//! source that reads each of these lanes in order hands over the records of a key in order, at any
//! parallelism and after any restore.
//!
//! # Times
//! A record is up to half a second earlier than its number says, so that the records of a key and
//! of a subtask are out of order. None of these is late for a watermark that stays further behind.
//! Some of the last third are a day earlier: whatever the subtasks' speeds, the watermark has
//! reached their times, and they are late.

use crate::Record;

/// Number of lanes that the numbers of records are divided into.
pub const LANES: u64 = 128;

/// The largest amount; the smallest is 1.
const AMOUNT_MAX: u64 = 1_000_000;
/// The event time of record 0, if it is not early.
pub(super) const TIME_START: i64 = 1_700_000_000_000;
/// The most milliseconds by which a record is earlier than its number says.
const EARLY_MS_MAX: u64 = 500;
/// A late record is so much earlier still.
const LATE_MS: i64 = 24 * 60 * 60 * 1_000;
/// One in so many records of the last third is late.
const LATE_ONE_IN: u64 = 50;
/// The increment of SplitMix64.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// The records of one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entries {
    seed: u64,
    records: u64,
    keys_per_lane: u64,
    /// Milliseconds between the times of two records.
    spacing: u64,
}

impl Entries {
    /// So many records with the keys from 0 to `LANES * keys_per_lane`, without the last, one each
    /// millisecond. There is at least one key per lane.
    #[must_use]
    pub const fn new(seed: u64, records: u64, keys_per_lane: u64) -> Self {
        let keys_per_lane = if keys_per_lane == 0 { 1 } else { keys_per_lane };
        Self { seed, records, keys_per_lane, spacing: 1 }
    }

    /// The same with one record each `spacing` milliseconds, and accordingly fewer records.
    #[must_use]
    pub const fn spaced(self, spacing: u64) -> Self {
        let records = match self.records.checked_div(spacing) {
            Some(records) => records,
            None => self.records,
        };
        Self { spacing, records, ..self }
    }

    /// The record with this number. Its value is the amount. Of the keys of a lane the first ones
    /// are the most frequent.
    #[must_use]
    pub fn record(&self, number: u64) -> Record {
        let word = |draw| self.word(number, draw);
        let key_of_lane = (word(0) % self.keys_per_lane).min(word(1) % self.keys_per_lane);
        let early = word(3) % (EARLY_MS_MAX + 1);
        let time = TIME_START
            .saturating_add_unsigned(number.saturating_mul(self.spacing))
            .saturating_sub_unsigned(early);
        Record {
            key: number % LANES + LANES * key_of_lane,
            value: 1 + word(2) % AMOUNT_MAX,
            time: if self.is_late(number) { time.saturating_sub(LATE_MS) } else { time },
        }
    }

    /// Whether operators on event time find that a record has come too late.
    #[must_use]
    pub fn is_late(&self, number: u64) -> bool {
        let one = (self.word(number, 3) >> 32).is_multiple_of(LATE_ONE_IN);
        number >= self.records - self.records / 3 && one
    }

    /// All records in the order of their numbers.
    pub fn all(&self) -> impl Iterator<Item = Record> {
        (0..self.records).map(|number| self.record(number))
    }

    /// The records that are not late, with their numbers.
    pub fn timely(&self) -> impl Iterator<Item = (u64, Record)> {
        let numbers = (0..self.records).filter(|number| !self.is_late(*number));
        numbers.map(|number| (number, self.record(number)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_records_of_a_key_are_in_one_lane() {
        let entries = Entries::new(1, 10_000, 4);
        for (number, record) in (0..).zip(entries.all()) {
            assert_eq!(record.key % LANES, number % LANES);
        }
    }

    #[test]
    fn inputs_differ_by_their_seeds_and_amounts_are_spread() {
        let (one, two) = (Entries::new(1, 1_000, 2), Entries::new(2, 1_000, 2));
        let differ = one.all().zip(two.all()).filter(|(one, two)| one.value != two.value);
        assert!(differ.count() > 990);
        let mean = one.all().map(|record| record.value).sum::<u64>() / 1_000;
        assert!((450_000..550_000).contains(&mean), "{mean}");
    }

    #[test]
    fn records_are_out_of_order_also_within_a_key_and_late_only_at_the_end() {
        let entries = Entries::new(1, 9_000, 1).spaced(2);
        assert_eq!(entries.all().count(), 4_500);
        let due = |number| TIME_START + 2 * number;
        assert!(entries.timely().all(|(number, record)| {
            let due = due(number.cast_signed());
            (due - 500..=due).contains(&record.time)
        }));
        let of_one: Vec<i64> = entries
            .timely()
            .filter(|(_, record)| record.key == 7)
            .map(|(_, record)| record.time)
            .collect();
        assert!(!of_one.is_sorted());
        let late: Vec<u64> = (0..4_500).filter(|number| entries.is_late(*number)).collect();
        assert!((15..60).contains(&late.len()) && late[0] >= 3_000, "{late:?}");
        assert!(late.iter().all(|number| entries.record(*number).time < TIME_START - 80_000_000));
        assert_eq!(entries.timely().count() + late.len(), 4_500);
    }

    #[test]
    fn the_formula_stays_the_same() {
        let entries = Entries::new(42, 10, 8);
        let record = |number| {
            let Record { key, value, .. } = entries.record(number);
            (key, value)
        };
        assert_eq!([0, 1, 1_000].map(record), [(128, 191_192), (769, 858_116), (616, 697_930)]);
    }
}
