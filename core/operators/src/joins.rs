//! Joins of two keyed streams on event time.
//!
//! An [`interval`] join pairs records whose times are near each other, a [`windowed`] one those
//! that are in one window.

mod interval;
mod windowed;

pub use interval::{IntervalJoin, interval_join};
pub use windowed::{BothListed, BySide, EachPair, Sided};
