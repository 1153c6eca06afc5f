//! The strategy by which a stream gets event times and watermarks, as users choose it.

use std::sync::Arc;
use std::time::Duration;

use millstream_types::Timestamp;

use crate::alignment::Alignment;
use crate::{Error, Result};

/// The most that an event time may be ahead of the clock if the strategy says nothing of it.
const AHEAD_MAX: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);

/// The source of the event times of a stream's records, and of its watermarks.
///
/// A watermark says that no record at or before its time will follow. Records that do follow are
/// late; what becomes of them is up to the operators behind.
///
/// ```
/// # use millstream::{prelude::*, testing::run_on};
/// # use std::time::Duration;
/// #[millstream::record]
/// struct Click {
///     page: String,
///     millis: i64,
/// }
///
/// // Clicks come at most five seconds late. The watermark does not wait for a subtask that has had
/// // no click for half a minute.
/// let strategy = WatermarkStrategy::bounded_out_of_orderness(Duration::from_secs(5))
///     .timestamps(|click: &Click| Ok(click.millis))
///     .idle_after(Duration::from_secs(30));
/// let click = Click { page: "/".to_owned(), millis: 1_700_000_000_000 };
/// let clicks = run_on([click], |clicks| clicks.assign_timestamps(strategy));
/// assert_eq!(clicks.unwrap().len(), 1);
/// ```
pub struct WatermarkStrategy<T> {
    #[doc(hidden)]
    pub generator: GeneratorMaker<T>,
    #[doc(hidden)]
    pub times: Option<TimesMaker<T>>,
    #[doc(hidden)]
    pub idle_after: Option<Duration>,
    #[doc(hidden)]
    pub ahead_max: Option<Duration>,
    #[doc(hidden)]
    pub alignment: Option<Alignment>,
}

type GeneratorMaker<T> = Arc<dyn Fn() -> Box<dyn Generate<T>> + Send + Sync>;
type TimesMaker<T> = Arc<dyn Fn() -> Box<dyn FindTimes<T>> + Send + Sync>;

impl<T> Clone for WatermarkStrategy<T> {
    fn clone(&self) -> Self {
        Self {
            generator: Arc::clone(&self.generator),
            times: self.times.clone(),
            idle_after: self.idle_after,
            ahead_max: self.ahead_max,
            alignment: self.alignment.clone(),
        }
    }
}

impl<T: 'static> WatermarkStrategy<T> {
    /// For records that come in order of their event times.
    #[must_use]
    pub fn monotonous() -> Self {
        Self::bounded_out_of_orderness(Duration::ZERO)
    }

    /// For records that come at most so long after others with later event times. The watermark is
    /// a millisecond before the latest time so far less this bound.
    #[must_use]
    pub fn bounded_out_of_orderness(bound: Duration) -> Self {
        let bound = i64::try_from(bound.as_millis()).unwrap_or(i64::MAX);
        Self::made_by(move || Box::new(Bounded { latest: None, bound }))
    }

    /// No watermarks before the stream has ended: operators that wait for one do so until then.
    #[must_use]
    pub fn none() -> Self {
        Self::made_by(|| Box::new(NoWatermarks))
    }

    /// Watermarks by a generator of the user's; `make` makes one for each subtask, or for each
    /// split with `Stream::watermarks_per_split`.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing::run_on};
    /// /// A record of the value 0 says how far time has come.
    /// struct Markers;
    ///
    /// impl WatermarkGenerator<(i64, u32)> for Markers {
    ///     fn on_record(&mut self, record: &(i64, u32), time: i64, out: &mut WatermarkOutput) {
    ///         if record.1 == 0 {
    ///             out.emit(time);
    ///         }
    ///     }
    /// }
    ///
    /// let strategy = WatermarkStrategy::generator(|| Markers)
    ///     .timestamps(|(millis, _): &(i64, u32)| Ok(*millis));
    /// let records = run_on([(1, 7), (2, 0)], |records| records.assign_timestamps(strategy));
    /// assert_eq!(records.unwrap(), [(1, 7), (2, 0)]);
    /// ```
    #[must_use]
    pub fn generator<G: WatermarkGenerator<T> + 'static>(
        make: impl Fn() -> G + Send + Sync + 'static,
    ) -> Self {
        Self::made_by(move || Box::new(Custom(make())))
    }

    fn made_by(make: impl Fn() -> Box<dyn Generate<T>> + Send + Sync + 'static) -> Self {
        let generator: GeneratorMaker<T> = Arc::new(make);
        Self {
            generator,
            times: None,
            idle_after: None,
            ahead_max: Some(AHEAD_MAX),
            alignment: None,
        }
    }

    /// Takes event times, in milliseconds since 1970, from the records. Without it the records keep
    /// the times that they have.
    #[must_use]
    pub fn timestamps<F>(mut self, time: F) -> Self
    where
        F: FnMut(&T) -> Result<i64> + Clone + Send + Sync + 'static,
    {
        self.times = Some(Arc::new(move || Box::new(EachTime(time.clone()))));
        self
    }

    /// Whether it takes event times from the records.
    #[must_use]
    #[doc(hidden)]
    pub const fn finds_times(&self) -> bool {
        self.times.is_some()
    }

    /// Whether splits wait for others.
    #[must_use]
    #[doc(hidden)]
    pub const fn is_aligned(&self) -> bool {
        self.alignment.is_some()
    }

    /// After so long without a record the watermark of the stream does not wait for the subtask,
    /// until that has a record again. Without this timeout a subtask without records holds the
    /// watermark where it is. With `Stream::watermarks_per_split` the same holds for each split.
    /// Time in which the operators behind take no records does not count.
    #[must_use]
    pub const fn idle_after(mut self, timeout: Duration) -> Self {
        self.idle_after = Some(timeout);
        self
    }

    /// Lets splits of the source wait while they are more than `max_drift` of event time ahead of
    /// the split that is furthest behind, among those of all sources of the job with this group. So
    /// operators behind, as a join or a window, keep no more than the drift of the records of one
    /// source while they wait for another. For `Stream::watermarks_per_split` alone: amid a job no
    /// split can be told to wait.
    ///
    /// A split that waits is not idle. Splits that are idle ([`WatermarkStrategy::idle_after`]) or
    /// have ended are not waited for; one without a first record is. A reader of several splits
    /// asks `ReaderOutput::is_paused`. In batch mode no split waits.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing};
    /// # use std::time::Duration;
    /// # let env = &mut testing::environment();
    /// # env.set_runtime_mode(RuntimeMode::Streaming);
    /// let times = WatermarkStrategy::monotonous()
    ///     .timestamps(|second: &u64| Ok(1_000 * *second as i64))
    ///     .aligned("readings", Duration::from_secs(60));
    /// let old = env.source("old", Datagen::sequence(0..7_200));
    /// let new = env.source("new", Datagen::sequence(3_600..7_200));
    /// // No record of the second hour is read while there are many of the first one.
    /// let both = old
    ///     .watermarks_per_split(times.clone())
    ///     .union(new.watermarks_per_split(times));
    /// both.sink("nowhere", DiscardSink::new());
    /// env.execute("readings")?;
    /// # Ok::<(), millstream::Error>(())
    /// ```
    #[must_use]
    pub fn aligned(mut self, group: &str, max_drift: Duration) -> Self {
        self.alignment = Some(Alignment { group: Arc::from(group), max_drift });
        self
    }

    /// Refuses records whose event time is more than this ahead of the clock, as one in
    /// microseconds is: it would move time so far that all others are late. The limit is ten years
    /// if nothing else is said; `None` accepts all times.
    #[must_use]
    pub const fn max_ahead(mut self, limit: Option<Duration>) -> Self {
        self.ahead_max = limit;
        self
    }
}

/// Generates watermarks from the records that it sees.
///
/// See [`WatermarkStrategy::generator`] for an example.
#[diagnostic::on_unimplemented(
    message = "`{Self}` generates no watermarks for records of type `{T}`",
    note = "implement `WatermarkGenerator<{T}>` for it"
)]
pub trait WatermarkGenerator<T>: Send {
    /// Looks at a record. A watermark that is emitted here comes right behind it.
    fn on_record(&mut self, record: &T, time: i64, out: &mut WatermarkOutput);

    /// Called at the end of each `pipeline.auto-watermark-interval`, also when no record came.
    fn on_interval(&mut self, out: &mut WatermarkOutput) {
        let _ = out;
    }
}

/// Takes the watermarks of a generator.
#[derive(Debug, Default)]
pub struct WatermarkOutput {
    pub(crate) watermark: Option<Timestamp>,
}

impl WatermarkOutput {
    /// No record at or before this time, in milliseconds since 1970, will follow. A watermark that
    /// is not later than the one before has no effect.
    pub fn emit(&mut self, millis: i64) {
        self.watermark = self.watermark.max(Some(Timestamp::from_millis(millis)));
    }
}

/// A generator as tasks use it, a batch at a time.
pub trait Generate<T>: Send {
    /// Looks at records up to the first at which it emits a watermark, and returns their number.
    fn on_records(&mut self, records: &[T], times: &[i64], out: &mut WatermarkOutput) -> usize;

    /// The end of an interval.
    fn on_interval(&mut self, out: &mut WatermarkOutput);

    /// Whether it may emit a watermark at the end of an interval in which no record came.
    fn is_always_asked(&self) -> bool {
        false
    }
}

struct Bounded {
    latest: Option<i64>,
    bound: i64,
}

impl<T> Generate<T> for Bounded {
    fn on_records(&mut self, records: &[T], times: &[i64], _out: &mut WatermarkOutput) -> usize {
        self.latest = self.latest.max(latest(times));
        records.len()
    }

    fn on_interval(&mut self, out: &mut WatermarkOutput) {
        if let Some(latest) = self.latest {
            out.emit(latest.saturating_sub(self.bound).saturating_sub(1));
        }
    }
}

/// The latest of times. Each is compared with the eighth before it, so that no comparison has to
/// wait for the last one.
fn latest(times: &[i64]) -> Option<i64> {
    let (eights, rest) = times.as_chunks::<8>();
    let mut most = [i64::MIN; 8];
    for eight in eights {
        for (most, time) in most.iter_mut().zip(eight) {
            *most = (*most).max(*time);
        }
    }
    let most = most.into_iter().chain(rest.iter().copied()).max();
    most.filter(|_| !times.is_empty())
}

struct NoWatermarks;

impl<T> Generate<T> for NoWatermarks {
    fn on_records(&mut self, records: &[T], _times: &[i64], _out: &mut WatermarkOutput) -> usize {
        records.len()
    }

    fn on_interval(&mut self, _out: &mut WatermarkOutput) {}
}

struct Custom<G>(G);

impl<T, G: WatermarkGenerator<T>> Generate<T> for Custom<G> {
    fn on_records(&mut self, records: &[T], times: &[i64], out: &mut WatermarkOutput) -> usize {
        for (number, (record, time)) in (1..).zip(records.iter().zip(times)) {
            self.0.on_record(record, *time, out);
            if out.watermark.is_some() {
                return number;
            }
        }
        records.len()
    }

    fn on_interval(&mut self, out: &mut WatermarkOutput) {
        self.0.on_interval(out);
    }

    fn is_always_asked(&self) -> bool {
        true
    }
}

/// Finds the event times of records, a batch at a time.
pub trait FindTimes<T>: Send {
    /// Adds the times of the records, up to the first that has none: the error says why.
    fn find(&mut self, records: &[T], times: &mut Vec<i64>) -> Result<(), Error>;
}

struct EachTime<F>(F);

impl<T, F: FnMut(&T) -> Result<i64> + Send> FindTimes<T> for EachTime<F> {
    fn find(&mut self, records: &[T], times: &mut Vec<i64>) -> Result<(), Error> {
        let before = times.len();
        times.resize(before + records.len(), i64::MIN);
        let places = times.get_mut(before..).unwrap_or_default();
        for (at, (place, record)) in places.iter_mut().zip(records).enumerate() {
            match (self.0)(record) {
                Ok(time) => *place = time,
                Err(error) => {
                    times.truncate(before + at);
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}
