//! Joins of two keyed streams on event time.
//!
//! An [`interval`] join pairs records whose times are near each other.

mod interval;

pub use interval::{IntervalJoin, interval_join};
