//! The answers of operators and of a job, computed a second time in the plainest way.
//!
//! This crate uses no part of the engine, which `cargo xtask layers` checks: a fault that both
//! sides had would have been made twice. An operator is given its inputs one after the other,
//! [`timers`], [`order`], [`windows`] and [`joins`] compute its outputs, and [`compare`] is the
//! verdict. [`Case`] draws the inputs, and [`channels`] gives them to several channels.
//! [`committed`] judges the files that a job on a cluster publishes, while it runs.

mod cases;
mod verdict;

pub mod channels;
pub mod committed;
pub mod joins;
pub mod order;
pub mod timers;
pub mod windows;

pub use cases::{Case, Random};
pub use verdict::compare;

/// A record with its event time, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Record {
    /// The key by which a stream is partitioned.
    pub key: u64,
    /// Some number, mostly another one for each record.
    pub value: u64,
    /// The event time.
    pub time: i64,
}

/// One thing that comes to an operator. The end follows the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// A record.
    Record(Record),
    /// Says that no record up to this time will follow. One that is not later than an earlier one
    /// says nothing.
    Watermark(i64),
}

/// The time that an operator has reached.
#[derive(Debug, Clone, Copy)]
struct Now(Option<i64>);

impl Now {
    /// Before the first watermark.
    const fn before() -> Self {
        Self(None)
    }

    /// Whether a watermark moves time. None does so to the end, which the end of the input alone
    /// is.
    fn move_to(&mut self, watermark: i64) -> bool {
        let to = watermark.min(i64::MAX - 1);
        let moves = to > i64::MIN && self.0.is_none_or(|now| to > now);
        if moves {
            self.0 = Some(to);
        }
        moves
    }

    /// Whether time has come so far.
    fn has_reached(self, time: i64) -> bool {
        self.0.is_some_and(|now| time <= now)
    }
}
