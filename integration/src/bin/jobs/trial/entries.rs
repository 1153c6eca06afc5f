//! The records of a job, computed from their numbers.
//!
//! A source reads the numbers of a lane in order, since it has as many splits as there are lanes.

use std::time::Duration;

use millstream::prelude::*;

/// Number of lanes: the number of splits of [`Datagen`].
const LANES: u64 = 128;
/// The time of the first record.
const START_MS: i64 = 1_700_000_000_000;
/// The watermark is so far behind that no record is late but those of the day before.
const BOUND: Duration = Duration::from_millis(520);
const DAY_MS: i64 = 86_400_000;

/// The seed of the records beside the first ones.
const OTHER: u64 = 0x0dd5_eed5;

#[millstream::record]
#[derive(Copy)]
pub(super) struct Entry {
    pub(super) key: u64,
    pub(super) number: u64,
    pub(super) amount: u64,
    pub(super) time: i64,
}

/// The numbers of a job's arguments.
#[derive(Debug, Clone, Copy)]
pub(super) struct Input {
    seed: u64,
    /// Without end if there is none.
    records: Option<u64>,
    pub(super) keys_per_lane: u64,
    rate: u64,
    pub(super) span: i64,
    /// Milliseconds from one record to the next.
    spacing: u64,
}

impl Input {
    pub(super) fn of(args: &Args) -> Result<Self> {
        let required = |name: &str| -> Result<u64> {
            args.optional(name)?.ok_or_else(|| millstream::error!("--{name} is missing"))
        };
        Ok(Self {
            seed: required("seed")?,
            records: args.optional("records")?,
            keys_per_lane: required("keys-per-lane")?.max(1),
            rate: required("rate")?,
            span: args.optional("span")?.unwrap_or(1_000).max(4),
            spacing: 1,
        })
    }

    /// One of so many records, at a rate as much lower.
    pub(super) fn every(self, spacing: u64) -> Self {
        let records = self.records.map(|records| records / spacing);
        Self { records, rate: (self.rate / spacing).max(1), spacing, ..self }
    }

    /// As many records of another seed.
    pub(super) fn other(self) -> Self {
        Self { seed: self.seed ^ OTHER, ..self }
    }

    /// The same with one key in each lane.
    pub(super) fn one_key(self) -> Self {
        Self { keys_per_lane: 1, ..self }
    }

    /// The records as a source, without event times.
    pub(super) fn untimed(self, env: &mut Environment, name: &str) -> Stream<Entry> {
        let entries = Datagen::from_fn(move |number| self.entry(number));
        let entries = entries.rate_per_second(self.rate);
        match self.records {
            Some(records) => env.source(name, entries.count(records)),
            None => env.source(name, entries),
        }
    }

    /// The records as a source, with event times.
    pub(super) fn timed(self, env: &mut Environment, name: &str) -> Stream<Entry> {
        let strategy = WatermarkStrategy::bounded_out_of_orderness(BOUND);
        let strategy = strategy.timestamps(|entry: &Entry| Ok(entry.time));
        self.untimed(env, name).assign_timestamps(strategy)
    }

    fn entry(&self, number: u64) -> Entry {
        let start = scramble(self.seed);
        let draw = |of: u64| {
            let at = number.wrapping_mul(4).wrapping_add(of).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            scramble(start.wrapping_add(at))
        };
        let (left, right) = (draw(0) % self.keys_per_lane, draw(1) % self.keys_per_lane);
        let third = draw(3);
        let last_third = self.records.is_some_and(|records| number >= records - records / 3);
        let days = i64::from(last_third && (third >> 32) % 50 == 0);
        Entry {
            key: number % LANES + LANES * left.min(right),
            number,
            amount: draw(2) % 1_000_000 + 1,
            time: START_MS + (number * self.spacing) as i64 - (third % 501) as i64 - days * DAY_MS,
        }
    }
}

/// The last steps of SplitMix64.
fn scramble(mut bits: u64) -> u64 {
    bits ^= bits >> 30;
    bits = bits.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits ^= bits >> 27;
    bits = bits.wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// The end of the span that a time is in, which is not in it.
pub(super) fn end_of_span(time: i64, span: i64) -> i64 {
    (time.div_euclid(span) + 1) * span
}
