//! Windows of one length that begin at regular times, and the panes that they are cut into.

use std::time::Duration;

use millstream_types::State;
use millstream_types::schema::{Kind, SchemaBuilder};

use crate::{Result, error};

/// A span of time: `start` is in it, `end` is not. Both are in milliseconds since 1970.
///
/// ```
/// # use millstream::prelude::*;
/// let minute = Window { start: 60_000, end: 120_000 };
/// assert_eq!(minute.last_millis(), 119_999); // the results' time, if it is one of event time
/// assert_eq!(minute.to_string(), "[60000, 120000)");
/// ```
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Window {
    /// The first time.
    pub start: i64,
    /// The first time after it; the end of time stands for any time behind it.
    pub end: i64,
}

impl Window {
    /// The last millisecond.
    #[must_use]
    pub const fn last_millis(&self) -> i64 {
        self.end.saturating_sub(1)
    }
}

impl State for Window {
    fn schema(builder: &mut SchemaBuilder) -> Kind {
        builder.kind_of::<(i64, i64)>()
    }
}

impl std::fmt::Display for Window {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{}, {})", self.start, self.end)
    }
}

/// Windows of one length, each of which begins where the one before it ends.
///
/// ```
/// # use millstream::{prelude::*, testing::run_on};
/// # use std::time::Duration;
/// let clicks = [("a", 1_000), ("b", 2_000), ("a", 59_000), ("a", 61_000)];
/// let per_minute = run_on(clicks.map(|(page, time)| (page.to_owned(), time)), |clicks| {
///     let times = WatermarkStrategy::monotonous().timestamps(|(_, time)| Ok(*time));
///     clicks
///         .assign_timestamps(times)
///         .key_by_ref(|(page, _)| page)
///         .window(Tumbling::event_time(Duration::from_secs(60)))
///         .count("clicks per minute")
/// });
/// let mut counts = per_minute.unwrap();
/// counts.sort();
/// assert_eq!(counts, [("a".to_owned(), 1), ("a".to_owned(), 2), ("b".to_owned(), 1)]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tumbling {
    size: Duration,
    offset: i64,
}

impl Tumbling {
    /// Windows of this length in event time: from 1970 on, in whole milliseconds.
    #[must_use]
    pub const fn event_time(size: Duration) -> Self {
        Self { size, offset: 0 }
    }

    /// Windows begin so many milliseconds later, or earlier if it is negative: days of a place
    /// whose clocks are eight hours ahead of UTC begin 28,800,000 ms earlier.
    #[must_use]
    pub const fn offset_millis(mut self, offset: i64) -> Self {
        self.offset = offset;
        self
    }
}

/// Windows of one length which begin at equal distances: they overlap if that is less than their
/// length, and leave gaps if it is more. Records in gaps are dropped.
///
/// ```
/// # use millstream::{prelude::*, testing::run_on};
/// # use std::time::Duration;
/// let readings = [(2.0, 0), (4.0, 1_000), (9.0, 2_000)];
/// let maxima = run_on(readings, |readings| {
///     let times = WatermarkStrategy::monotonous().timestamps(|(_, time)| Ok(*time));
///     readings
///         .assign_timestamps(times)
///         .key_by(|_| ())
///         .window(Sliding::event_time(Duration::from_secs(2), Duration::from_secs(1)))
///         .max("largest", |(value, _)| *value)
/// });
/// assert_eq!(maxima.unwrap(), [((), 2.0), ((), 4.0), ((), 9.0), ((), 9.0)]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sliding {
    size: Duration,
    slide: Duration,
    offset: i64,
}

impl Sliding {
    /// Windows of this length in event time, of which one begins each `slide`: from 1970 on, in
    /// whole milliseconds.
    #[must_use]
    pub const fn event_time(size: Duration, slide: Duration) -> Self {
        Self { size, slide, offset: 0 }
    }

    /// As [`Tumbling::offset_millis`].
    #[must_use]
    pub const fn offset_millis(mut self, offset: i64) -> Self {
        self.offset = offset;
        self
    }
}

impl From<Tumbling> for Sliding {
    fn from(Tumbling { size, offset }: Tumbling) -> Self {
        Self { size, slide: size, offset }
    }
}

impl Sliding {
    /// The windows on the axis of time.
    ///
    /// # Errors
    /// No window can have these lengths.
    pub fn grid(&self) -> Result<Grid> {
        let size = i128::from(whole_millis("length", self.size)?);
        let slide = i128::from(whole_millis("slide", self.slide)?);
        Ok(Grid { size, slide, offset: i128::from(self.offset).rem_euclid(slide) })
    }
}

/// A duration in milliseconds; an error if it is not a whole number of them, or none.
///
/// # Errors
/// It is not a whole number of milliseconds, or none.
pub fn whole_millis(of: &str, duration: Duration) -> Result<i64> {
    let millis = i64::try_from(duration.as_millis()).ok().filter(|millis| *millis > 0);
    millis.filter(|_| duration.subsec_nanos().is_multiple_of(1_000_000)).ok_or_else(|| {
        error!(
            "the {of} of a window is {duration:?}: it must be a whole number of milliseconds, at \
             least one"
        )
    })
}

/// The windows and panes on the axis of time. Times of windows may be beyond those that records can
/// have, so they are counted in more bits.
#[derive(Debug, Clone, Copy)]
pub struct Grid {
    size: i128,
    slide: i128,
    offset: i128,
}

/// The nearest time that a record can have.
pub fn clamp(time: i128) -> i64 {
    i64::try_from(time).unwrap_or(if time < 0 { i64::MIN } else { i64::MAX })
}

impl Grid {
    /// The first and the last time of the pane that a time is in, as far as records can have them.
    /// No window begins or ends within a pane, and each window has at most two panes a slide.
    pub fn pane(&self, time: i64) -> (i64, i64) {
        let begin = self.begin_before(time.into());
        // A window ends so long after each begin.
        let cut = begin + self.size.rem_euclid(self.slide);
        let (from, before) =
            if i128::from(time) < cut { (begin, cut) } else { (cut, begin + self.slide) };
        (clamp(from), clamp(before - 1))
    }

    /// The latest begin of a window up to a time.
    const fn begin_before(&self, time: i128) -> i128 {
        time - (time - self.offset).rem_euclid(self.slide)
    }

    /// The ends of the first and the last window that a time is in, if it is in one. The others end
    /// a slide after each other.
    pub fn ends(&self, time: i64) -> Option<(i128, i128)> {
        let time = i128::from(time);
        let last = self.begin_before(time);
        let first = self.begin_before(time - self.size) + self.slide;
        (first <= last).then_some((first + self.size, last + self.size))
    }

    /// The end of the first window after an end that a time is in.
    pub fn end_after(&self, time: i64, end: i128) -> Option<i128> {
        let (first, last) = self.ends(time)?;
        if end < first {
            return Some(first);
        }
        let next = end + self.slide - (end - first).rem_euclid(self.slide);
        (next <= last).then_some(next)
    }

    /// The distance between the ends of two windows.
    pub const fn slide(&self) -> i128 {
        self.slide
    }

    /// The begin of the window with this end.
    pub const fn begin(&self, end: i128) -> i128 {
        end - self.size
    }

    /// The window with this end.
    pub fn window(&self, end: i128) -> Window {
        Window { start: clamp(self.begin(end)), end: clamp(end) }
    }

    /// The event time of the results of the window with this end: its last millisecond.
    pub fn result_time(end: i128) -> i64 {
        clamp(end - 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn times() -> impl Strategy<Value = i64> {
        let near = |at: i64| (-300..300i64).prop_map(move |by| at.saturating_add(by));
        prop_oneof![near(0), near(i64::MIN), near(i64::MAX), any::<i64>()]
    }

    proptest! {
        #[test]
        fn panes_are_where_the_plainest_computation_says(
            size in 1..200i128,
            slide in 1..200i128,
            offset in -500..500i64,
            time in times(),
        ) {
            let millis = |millis: i128| Duration::from_millis(millis as u64);
            let sliding = Sliding::event_time(millis(size), millis(slide)).offset_millis(offset);
            let grid = sliding.grid().unwrap();
            // The ends of all windows that a time is in, each tried.
            let plain = |time: i128| -> Vec<i128> {
                let begins = time - size + 1..=time;
                let begins = begins.filter(|at| (at - i128::from(offset)).rem_euclid(slide) == 0);
                begins.map(|begin| begin + size).collect()
            };
            let ends = plain(time.into());
            prop_assert_eq!(grid.ends(time), ends.first().copied().zip(ends.last().copied()));
            // All times of a pane are in the same windows, those beside it are not.
            let (first, last) = grid.pane(time);
            prop_assert!(first <= time && time <= last);
            for other in [first, last] {
                prop_assert_eq!(&plain(other.into()), &ends);
                prop_assert_eq!(grid.pane(other), (first, last));
            }
            if first > i64::MIN && slide <= size {
                prop_assert_ne!(&plain(i128::from(first) - 1), &ends);
            }
            if last < i64::MAX && slide <= size {
                prop_assert_ne!(&plain(i128::from(last) + 1), &ends);
            }
            for after in i128::from(time) - 2 * size..i128::from(time) + 2 * size {
                let next = ends.iter().copied().find(|end| *end > after);
                prop_assert_eq!(grid.end_after(time, after), next);
            }
        }
    }

    #[test]
    fn lengths_that_no_window_can_have_are_told() {
        let says = |windows: Sliding| windows.grid().unwrap_err().to_string();
        assert_eq!(
            says(Tumbling::event_time(Duration::ZERO).into()),
            "the length of a window is 0ns: it must be a whole number of milliseconds, at least one"
        );
        let (second, micros) = (Duration::from_secs(1), Duration::from_micros(1_500));
        assert_eq!(
            says(Sliding::event_time(second, micros)),
            "the slide of a window is 1.5ms: it must be a whole number of milliseconds, at least \
             one"
        );
        assert!(says(Tumbling::event_time(Duration::MAX).into()).contains("the length"));
        assert!(Sliding::from(Tumbling::event_time(second)).grid().is_ok());
    }
}
