//! Schedules: what happens to a stage or a body, as plain data that a seed makes and that shrinks.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use millstream_network::Event;
use millstream_types::{Barrier, BarrierKind, CheckpointId, Timestamp};

use super::roll;

/// The most outputs of anything that is explored.
pub(super) const OUTPUTS_MAX: usize = 4;

/// A seeded stream of numbers (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }
}

pub(super) fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// A batch of so many records comes.
    Batch { input: u8, records: u16 },
    /// An event comes.
    Event { input: u8, event: Event },
    /// Time passes.
    Wait { ms: u16 },
    /// The consumer of an output takes so many deliveries.
    Take { output: u8, deliveries: u8 },
    /// The task has so many turns.
    Turn { turns: u8 },
}

/// All that happens, in order; the end of input follows.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Schedule {
    /// The seed of the contents of records and of the variant of the stage.
    pub(super) seed: u64,
    pub(super) acts: Vec<Act>,
    /// For each output: how often it is still full after each call that may fill it, by turns.
    pub(super) stalls: [Vec<u8>; OUTPUTS_MAX],
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {:#x}, records {} event times", self.seed, self.has_times())?;
        for act in &self.acts {
            writeln!(f, "  {act:?}")?;
        }
        for (output, stalls) in (0..).zip(&self.stalls) {
            if stalls.iter().any(|stall| *stall > 0) {
                writeln!(f, "  output {output} is full after its calls so often: {stalls:?}")?;
            }
        }
        Ok(())
    }
}

impl Schedule {
    /// Whether the records have event times.
    pub(super) fn is_timed(&self) -> bool {
        roll(self.seed, 20, 2) == 0
    }

    fn has_times(&self) -> &'static str {
        if self.is_timed() { "with" } else { "without" }
    }

    /// The schedule of a seed.
    pub(super) fn random(seed: u64) -> Self {
        let mut random = Random(seed);
        let random = &mut random;
        // Each kind of trouble is left out by some seeds, so that it cannot hide another one.
        let (stalls, waits, events, takes) =
            (random.below(4), random.below(4), random.below(3), random.below(4));
        let long = random.one_in(8);
        let count = 1 + random.below(if long { 30 } else { 9 });
        let acts = (0..count).map(|_| Act::random(random, waits, events, takes)).collect();
        let stalls = std::array::from_fn(|_| {
            let calls = random.below(2 * count + 8);
            (0..calls).map(|_| if random.below(4) < stalls { stall(random) } else { 0 }).collect()
        });
        Self { seed, acts, stalls }
    }

    /// Schedules that are a little smaller, the smallest first.
    fn smaller(&self) -> Vec<Self> {
        let mut all = Vec::new();
        let mut length = self.acts.len();
        while length > 0 {
            for at in (0..self.acts.len()).step_by(length) {
                let mut next = self.clone();
                next.acts.drain(at..(at + length).min(self.acts.len()));
                all.push(next);
            }
            length /= 2;
        }
        for (output, stalls) in self.stalls.iter().enumerate() {
            if !stalls.is_empty() {
                let mut next = self.clone();
                next.stalls[output].clear();
                all.push(next);
                let mut next = self.clone();
                next.stalls[output].truncate(stalls.len() / 2);
                all.push(next);
            }
            for (at, stall) in stalls.iter().enumerate().filter(|(_, stall)| **stall > 0) {
                let mut next = self.clone();
                next.stalls[output][at] = stall / 2;
                all.push(next);
            }
        }
        for (at, act) in self.acts.iter().enumerate() {
            if let Some(act) = act.smaller() {
                let mut next = self.clone();
                next.acts[at] = act;
                all.push(next);
            }
        }
        all
    }

    /// A small schedule at which `run` fails too, and how.
    pub(super) fn shrink(&self, run: &dyn Fn(&Self) -> Result<(), String>) -> (Self, String) {
        let mut best = (self.clone(), failure(run, self).unwrap_or_default());
        'smaller: for _ in 0..500 {
            for next in best.0.smaller() {
                if let Some(why) = failure(run, &next) {
                    best = (next, why);
                    continue 'smaller;
                }
            }
            break;
        }
        best
    }
}

/// The failure of `run` with a schedule, if it fails; a panic is a failure too.
pub(super) fn failure(
    run: &dyn Fn(&Schedule) -> Result<(), String>,
    schedule: &Schedule,
) -> Option<String> {
    match catch_unwind(AssertUnwindSafe(|| run(schedule))) {
        Ok(Ok(())) => None,
        Ok(Err(why)) => Some(why),
        Err(_) => Some("it panicked".to_owned()),
    }
}

fn stall(random: &mut Random) -> u8 {
    1 + random.below(3) as u8
}

impl Act {
    fn random(random: &mut Random, waits: u64, events: u64, takes: u64) -> Self {
        let input = random.below(3) as u8;
        match random.below(12) {
            0 | 1 if events > 0 => Self::Event { input, event: event(random) },
            2..4 if waits > 0 => Self::Wait { ms: random.below(1 << (4 * waits)) as u16 },
            4 | 5 if takes > 0 => {
                Self::Take { output: random.below(4) as u8, deliveries: random.below(6) as u8 }
            }
            6 | 7 => Self::Turn { turns: 1 + random.below(4) as u8 },
            _ => Self::Batch { input, records: records(random) },
        }
    }

    fn smaller(self) -> Option<Self> {
        match self {
            Self::Batch { input, records } if records > 1 => {
                Some(Self::Batch { input, records: records / 2 })
            }
            Self::Batch { input, records } if input > 0 => {
                Some(Self::Batch { input: input / 2, records })
            }
            Self::Event { input, event } if input > 0 => {
                Some(Self::Event { input: input / 2, event })
            }
            Self::Wait { ms } if ms > 0 => Some(Self::Wait { ms: ms / 2 }),
            Self::Take { output, deliveries } if deliveries > 0 => {
                Some(Self::Take { output, deliveries: deliveries / 2 })
            }
            Self::Turn { turns } if turns > 1 => Some(Self::Turn { turns: turns / 2 }),
            Self::Batch { .. }
            | Self::Event { .. }
            | Self::Wait { .. }
            | Self::Take { .. }
            | Self::Turn { .. } => None,
        }
    }
}

/// Mostly few records, seldom more than a full batch.
fn records(random: &mut Random) -> u16 {
    let bound = match random.below(16) {
        0 => 3_000,
        1 | 2 => 700,
        _ => 20,
    };
    1 + random.below(bound) as u16
}

fn event(random: &mut Random) -> Event {
    match random.below(3) {
        0 => Event::Watermark(Timestamp::from_millis(random.below(1_000) as i64)),
        1 => {
            let checkpoint = CheckpointId::new(1 + random.below(6));
            Event::Barrier(Barrier::new(checkpoint, BarrierKind::Checkpoint))
        }
        _ => Event::Idle(random.one_in(2)),
    }
}
