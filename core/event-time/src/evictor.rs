//! Evictors: functions that take records out of a window when it gives its result.

use std::time::Duration;

use crate::Result;
use crate::grid::Window;
use crate::trigger::Clocks;

/// Takes records out of the windows of a stream when they give their results.
///
/// The records of a window come with their times, in milliseconds since 1970: their event times, or
/// the processing times at which they came if the windows are of processing time or the stream has
/// no event times. They are in the order in which they came; sessions that become one have those of
/// the earlier session first. Records that are taken out are in no later result of the window.
///
/// ```
/// # use millstream::{prelude::*, testing::run_on, Evictor, EvictorContext, Global, EveryRecords};
/// /// Takes out the smallest record of a window that has three or more.
/// #[derive(Clone)]
/// struct WithoutSmallest;
///
/// impl Evictor<u32> for WithoutSmallest {
///     fn before(
///         &mut self,
///         records: &mut Vec<(u32, i64)>,
///         _: &EvictorContext,
///     ) -> Result<()> {
///         let smallest = (0..records.len()).min_by_key(|at| records[*at].0);
///         if let Some(at) = smallest.filter(|_| records.len() > 2) {
///             records.remove(at);
///         }
///         Ok(())
///     }
/// }
///
/// let sums = run_on([5, 1, 7, 10], |numbers| {
///     let windowed = numbers.window_all(Global).trigger(EveryRecords(2));
///     windowed.evictor(WithoutSmallest).reduce("sums", |sum, n| Ok(*sum += n))
/// });
/// assert_eq!(sums.unwrap(), [6, 22]);
/// ```
pub trait Evictor<T>: Clone + Send + Sync + 'static {
    /// Takes records out before the result of a window is made. A window that has none left gives
    /// no result.
    ///
    /// # Errors
    /// The task fails, or the record is refused that makes the window give its result.
    fn before(&mut self, records: &mut Vec<(T, i64)>, ctx: &EvictorContext) -> Result<()>;

    /// Takes records out when the result of a window is made: they are in that one, and in no later
    /// one.
    ///
    /// # Errors
    /// As of [`Evictor::before`].
    fn after(&mut self, records: &mut Vec<(T, i64)>, ctx: &EvictorContext) -> Result<()> {
        let _ = (records, ctx);
        Ok(())
    }
}

/// The window whose records an [`Evictor`] sees. The evictor's documentation has an example.
#[derive(Debug, Clone, Copy)]
pub struct EvictorContext {
    window: Window,
    clocks: Clocks,
}

impl EvictorContext {
    /// The window, and the two clocks.
    #[doc(hidden)]
    #[must_use]
    pub const fn new(window: Window, clocks: Clocks) -> Self {
        Self { window, clocks }
    }

    /// The window.
    #[must_use]
    pub const fn window(&self) -> Window {
        self.window
    }

    /// The watermark in milliseconds since 1970; `None` before the first one.
    #[must_use]
    pub const fn current_watermark(&self) -> Option<i64> {
        self.clocks.watermark
    }

    /// The wall clock's time in milliseconds since 1970.
    #[must_use]
    pub const fn processing_time(&self) -> i64 {
        self.clocks.now
    }
}

/// A window keeps so many records, the last ones.
///
/// ```
/// # use millstream::{prelude::*, testing::run_on, EveryRecords, Global, KeepLast};
/// // The sum of the last three numbers, for every second one.
/// let sums = run_on([1, 2, 3, 4, 5, 6], |numbers| {
///     let windowed = numbers.window_all(Global).trigger(EveryRecords(2));
///     windowed.evictor(KeepLast(3)).reduce("sums", |sum, n| Ok(*sum += n))
/// });
/// assert_eq!(sums.unwrap(), [1 + 2, 2 + 3 + 4, 4 + 5 + 6]);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct KeepLast(pub u64);

impl<T> Evictor<T> for KeepLast {
    fn before(&mut self, records: &mut Vec<(T, i64)>, _: &EvictorContext) -> Result<()> {
        let kept = usize::try_from(self.0).unwrap_or(usize::MAX);
        records.drain(..records.len().saturating_sub(kept));
        Ok(())
    }
}

/// A window keeps the records whose times are less than a span before the latest one.
///
/// ```
/// # use millstream::{prelude::*, testing::run_on, KeepRecent};
/// # use std::time::Duration;
/// // The records of the last ten seconds of each minute that has some.
/// let sums = run_on([(1, 0), (2, 30_000), (4, 35_000), (8, 61_000)], |readings| {
///     let times = WatermarkStrategy::monotonous().timestamps(|(_, time)| Ok(*time));
///     let minutes = Tumbling::event_time(Duration::from_secs(60));
///     let windowed = readings.assign_timestamps(times).window_all(minutes);
///     let kept = windowed.evictor(KeepRecent::new(Duration::from_secs(10)));
///     kept.sum("sums", |(value, _)| *value)
/// });
/// assert_eq!(sums.unwrap(), [((), 2 + 4), ((), 8)]);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct KeepRecent {
    millis: i64,
}

impl KeepRecent {
    /// A span of this length, in whole milliseconds.
    #[must_use]
    pub fn new(span: Duration) -> Self {
        Self { millis: i64::try_from(span.as_millis()).unwrap_or(i64::MAX) }
    }
}

impl<T> Evictor<T> for KeepRecent {
    fn before(&mut self, records: &mut Vec<(T, i64)>, _: &EvictorContext) -> Result<()> {
        if let Some(latest) = records.iter().map(|(_, time)| i128::from(*time)).max() {
            let from = latest - i128::from(self.millis);
            records.retain(|(_, time)| i128::from(*time) > from);
        }
        Ok(())
    }
}

/// A window keeps the records that are near its last one, as a function of both says.
///
/// ```
/// # use millstream::{prelude::*, testing::run_on, EveryRecords, Global, KeepNear};
/// // How many readings are within a degree of the last one.
/// let counts = run_on([20.5, 21.0, 17.0, 21.2], |degrees| {
///     let near = KeepNear(|reading: &f64, last: &f64| (reading - last).abs() <= 1.0);
///     degrees.window_all(Global).trigger(EveryRecords(4)).evictor(near).count("near")
/// });
/// assert_eq!(counts.unwrap(), [((), 3)]);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct KeepNear<F>(pub F);

impl<T, F> Evictor<T> for KeepNear<F>
where
    F: Fn(&T, &T) -> bool + Clone + Send + Sync + 'static,
{
    fn before(&mut self, records: &mut Vec<(T, i64)>, _: &EvictorContext) -> Result<()> {
        if let Some((last, time)) = records.pop() {
            records.retain(|(record, _)| (self.0)(record, &last));
            records.push((last, time));
        }
        Ok(())
    }
}

/// As another evictor, but records are taken out when the result of the window is made.
///
/// ```
/// # use millstream::{prelude::*, testing::run_on, EveryRecords, Global, KeepAfter, KeepLast};
/// // Each two numbers, with the one before them.
/// let sums = run_on([1, 2, 3, 4, 5, 6], |numbers| {
///     let windowed = numbers.window_all(Global).trigger(EveryRecords(2));
///     windowed.evictor(KeepAfter(KeepLast(1))).reduce("sums", |sum, n| Ok(*sum += n))
/// });
/// assert_eq!(sums.unwrap(), [1 + 2, 2 + 3 + 4, 4 + 5 + 6]);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct KeepAfter<E>(pub E);

impl<T, E: Evictor<T>> Evictor<T> for KeepAfter<E> {
    fn before(&mut self, _: &mut Vec<(T, i64)>, _: &EvictorContext) -> Result<()> {
        Ok(())
    }

    fn after(&mut self, records: &mut Vec<(T, i64)>, ctx: &EvictorContext) -> Result<()> {
        self.0.before(records, ctx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Window = Window { start: i64::MIN, end: i64::MAX };

    fn kept(mut evictor: impl Evictor<char>, records: &[(char, i64)]) -> String {
        let clocks = Clocks { watermark: Some(7), now: 9, is_processing: false };
        let ctx = EvictorContext::new(WINDOW, clocks);
        assert_eq!((ctx.window(), ctx.current_watermark()), (WINDOW, Some(7)));
        assert_eq!(ctx.processing_time(), 9);
        let mut kept = records.to_vec();
        evictor.before(&mut kept, &ctx).unwrap();
        let mut after = records.to_vec();
        KeepAfter(evictor.clone()).before(&mut after, &ctx).unwrap();
        assert_eq!(after, records);
        KeepAfter(evictor).after(&mut after, &ctx).unwrap();
        assert_eq!(after, kept);
        kept.iter().map(|(letter, _)| letter).collect()
    }

    #[test]
    fn the_last_records_are_kept_in_their_order() {
        let records = [('a', 5), ('b', 3), ('c', 4)];
        let last = |count| kept(KeepLast(count), &records);
        assert_eq!([last(0), last(1), last(2), last(3), last(9)], ["", "c", "bc", "abc", "abc"]);
        assert_eq!(kept(KeepLast(2), &[]), "");
    }

    #[test]
    fn recent_records_are_less_than_the_span_before_the_latest() {
        let recent = |millis| KeepRecent::new(Duration::from_millis(millis));
        let records = [('a', 10), ('b', 1), ('c', 11), ('d', 2)];
        assert_eq!(kept(recent(9), &records), "ac");
        assert_eq!(kept(recent(10), &records), "acd");
        assert_eq!(kept(recent(11), &records), "abcd");
        assert_eq!(kept(recent(0), &records), "");
        assert_eq!(kept(recent(5), &[]), "");
        let far = [('a', i64::MIN), ('b', i64::MIN + 1), ('c', i64::MAX)];
        assert_eq!(kept(recent(1), &far), "c");
        assert_eq!(kept(KeepRecent::new(Duration::MAX), &far), "c");
        assert_eq!(kept(recent(2), &far[..2]), "ab");
    }

    #[test]
    fn near_records_are_those_of_the_function() {
        let near = KeepNear(|letter: &char, last: &char| letter <= last);
        assert_eq!(kept(near, &[('c', 1), ('a', 2), ('b', 3)]), "ab");
        // The last record is not asked about.
        let none = KeepNear(|_: &char, _: &char| false);
        assert_eq!(kept(none, &[('c', 1), ('a', 2)]), "a");
        assert_eq!(kept(none, &[]), "");
    }
}
