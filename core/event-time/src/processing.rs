//! Windows of processing time.

use std::time::Duration;

use crate::grid::{Sliding, Tumbling};

/// Windows of processing time: a record is in those that the wall clock is in when it comes, and a
/// window gives its result when the clock has reached its end. Records need no event times, and
/// none is late. Made by [`Tumbling::processing_time`], [`Sliding::processing_time`] and
/// `Session::processing_time`.
///
/// At the end of the input all open windows give their results. In batch mode they do so then
/// alone. If the clock is set back, a window whose end it had reached may open again and give a
/// second result. Windows of event time give the same results in each run; these do not.
///
/// ```
/// # use millstream::{prelude::*, testing::run_on};
/// # use std::time::Duration;
/// // The input ends long before its century does.
/// let sums = run_on([1, 2, 3, 4], |numbers| {
///     let century = Tumbling::processing_time(Duration::from_secs(100 * 365 * 86_400));
///     numbers.key_by(|n| n % 2).window(century).sum("sums", |n| *n)
/// });
/// let mut sums = sums.unwrap();
/// sums.sort();
/// assert_eq!(sums, [(0, 6), (1, 4)]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessingTime<A>(A);

impl<A> ProcessingTime<A> {
    /// These windows, by the wall clock.
    #[doc(hidden)]
    #[must_use]
    pub const fn of(windows: A) -> Self {
        Self(windows)
    }

    /// The windows on the axis of time.
    #[doc(hidden)]
    pub const fn windows(&self) -> &A {
        &self.0
    }
}

impl Tumbling {
    /// Windows of this length in processing time: from 1970 on, in whole milliseconds.
    #[must_use]
    pub const fn processing_time(size: Duration) -> ProcessingTime<Self> {
        ProcessingTime(Self::event_time(size))
    }
}

impl Sliding {
    /// Windows of this length in processing time, of which one begins each `slide`: from 1970 on,
    /// in whole milliseconds.
    #[must_use]
    pub const fn processing_time(size: Duration, slide: Duration) -> ProcessingTime<Self> {
        ProcessingTime(Self::event_time(size, slide))
    }
}

impl ProcessingTime<Tumbling> {
    /// As [`Tumbling::offset_millis`].
    #[must_use]
    pub const fn offset_millis(self, offset: i64) -> Self {
        Self(self.0.offset_millis(offset))
    }
}

impl ProcessingTime<Sliding> {
    /// As [`Tumbling::offset_millis`].
    #[must_use]
    pub const fn offset_millis(self, offset: i64) -> Self {
        Self(self.0.offset_millis(offset))
    }
}
