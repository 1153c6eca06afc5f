//! Triggers: functions that say when a window gives its result.

use std::time::Duration;

use millstream_types::State;

use crate::grid::Window;
use crate::{Result, bail};

/// The answer of a [`Trigger`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fire {
    /// The window gives no result.
    No,
    /// The window gives the result of all its records so far, and keeps them.
    Result,
    /// The window gives its result and forgets its records.
    ResultAndPurge,
    /// The window forgets its records.
    Purge,
}

/// Says when the windows of a stream give their results. Each window of each key has a state of its
/// own.
///
/// ```
/// # use millstream::{prelude::*, testing::run_on, Fire, Global, Trigger, TriggerContext};
/// /// A window gives its result when a record is 0, and begins anew.
/// #[derive(Clone)]
/// struct AtZero;
///
/// impl Trigger<u32> for AtZero {
///     type State = ();
///
///     fn on_record(&mut self, record: &u32, _: &mut TriggerContext<'_, ()>) -> Result<Fire> {
///         Ok(if *record == 0 { Fire::ResultAndPurge } else { Fire::No })
///     }
/// }
///
/// let sums = run_on([1, 2, 0, 5, 0, 7], |numbers| {
///     numbers.window_all(Global).trigger(AtZero).reduce("sums", |sum, n| Ok(*sum += n))
/// });
/// assert_eq!(sums.unwrap(), [3, 5]);
/// ```
pub trait Trigger<T>: Clone + Send + Sync + 'static {
    /// The state of a window, which begins as its default.
    type State: State + Clone + Default;

    /// A record comes to the window.
    ///
    /// # Errors
    /// The record is refused.
    fn on_record(&mut self, record: &T, ctx: &mut TriggerContext<'_, Self::State>) -> Result<Fire>;

    /// The watermark has reached a time that the window asked for, or the last one that it is kept
    /// for.
    ///
    /// # Errors
    /// The task fails.
    fn on_event_time(
        &mut self,
        time: i64,
        ctx: &mut TriggerContext<'_, Self::State>,
    ) -> Result<Fire> {
        let _ = (time, ctx);
        Ok(Fire::No)
    }

    /// The wall clock has reached a time that the window asked for, or the end of a window of
    /// processing time.
    ///
    /// # Errors
    /// The task fails.
    fn on_processing_time(
        &mut self,
        time: i64,
        ctx: &mut TriggerContext<'_, Self::State>,
    ) -> Result<Fire> {
        let _ = (time, ctx);
        Ok(Fire::No)
    }

    /// Two sessions become one, which asks for no time until its record has come to it.
    ///
    /// # Errors
    /// The trigger is not for sessions; the record that joins them is refused.
    fn merge(&mut self, state: &mut Self::State, other: Self::State) -> Result<()> {
        let _ = (state, other);
        bail!("the trigger does not merge sessions: give it a method merge()")
    }
}

/// The window that a [`Trigger`] decides about.
#[derive(Debug)]
pub struct TriggerContext<'a, S> {
    window: Window,
    /// The last millisecond of the window.
    last: i64,
    state: &'a mut S,
    clocks: Clocks,
    /// The times that the window asks for.
    times: &'a mut Asked,
    /// Those of them that are new.
    new: &'a mut Asked,
}

/// The two clocks, in milliseconds since 1970.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct Clocks {
    /// `None` before the first watermark.
    pub watermark: Option<i64>,
    /// The wall clock.
    pub now: i64,
    /// The windows are of processing time.
    pub is_processing: bool,
}

/// Times that a window asks for, in milliseconds since 1970.
#[doc(hidden)]
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub struct Asked {
    /// Of event time.
    pub event: Vec<i64>,
    /// Of processing time.
    pub processing: Vec<i64>,
}

impl Asked {
    /// The times of event time, or those of processing time.
    #[must_use]
    pub const fn of(&self, is_event: bool) -> &Vec<i64> {
        if is_event { &self.event } else { &self.processing }
    }

    /// As [`Asked::of`], to change them.
    pub const fn of_mut(&mut self, is_event: bool) -> &mut Vec<i64> {
        if is_event { &mut self.event } else { &mut self.processing }
    }

    /// Adds other times.
    pub fn append(&mut self, mut other: Self) {
        self.event.append(&mut other.event);
        self.processing.append(&mut other.processing);
    }
}

impl<'a, S> TriggerContext<'a, S> {
    /// The window with its last millisecond. The times that the window asks for from now on come to
    /// `new` too.
    #[doc(hidden)]
    pub const fn new(
        (window, last): (Window, i64),
        state: &'a mut S,
        clocks: Clocks,
        (times, new): (&'a mut Asked, &'a mut Asked),
    ) -> Self {
        Self { window, last, state, clocks, times, new }
    }

    /// The window.
    #[must_use]
    pub const fn window(&self) -> Window {
        self.window
    }

    /// The state of the window.
    pub const fn state(&mut self) -> &mut S {
        self.state
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

    /// Asks for a call of [`Trigger::on_event_time`] when the watermark has reached this time.
    pub fn at_event_time(&mut self, millis: i64) {
        if !self.times.event.contains(&millis) {
            self.times.event.push(millis);
            self.new.event.push(millis);
        }
    }

    /// Asks for a call of [`Trigger::on_processing_time`] when the wall clock has reached this
    /// time.
    pub fn at_processing_time(&mut self, millis: i64) {
        if !self.times.processing.contains(&millis) {
            self.times.processing.push(millis);
            self.new.processing.push(millis);
        }
    }

    /// The last millisecond that is over by the clock of the window.
    const fn over(&self) -> Option<i64> {
        match self.clocks.is_processing {
            true => Some(self.clocks.now.saturating_sub(1)),
            false => self.clocks.watermark,
        }
    }

    /// Asks for a call when this millisecond is over by the clock of the window.
    fn when_over(&mut self, millis: i64) {
        match self.clocks.is_processing {
            true => self.at_processing_time(millis.saturating_add(1)),
            false => self.at_event_time(millis),
        }
    }
}

/// A window gives its result when the watermark has reached its end, and for each record that comes
/// later and is allowed to; one of processing time when the wall clock has reached its end. Windows
/// without a trigger behave so.
#[derive(Debug, Clone, Copy)]
pub struct AtEnd;

impl<T> Trigger<T> for AtEnd {
    type State = ();

    fn on_record(&mut self, _: &T, ctx: &mut TriggerContext<'_, ()>) -> Result<Fire> {
        if ctx.over().is_some_and(|over| ctx.last <= over) {
            return Ok(Fire::Result);
        }
        ctx.when_over(ctx.last);
        Ok(Fire::No)
    }

    fn on_event_time(&mut self, time: i64, ctx: &mut TriggerContext<'_, ()>) -> Result<Fire> {
        Ok(if time == ctx.last { Fire::Result } else { Fire::No })
    }

    fn on_processing_time(&mut self, time: i64, ctx: &mut TriggerContext<'_, ()>) -> Result<Fire> {
        Ok(if time == ctx.window.end { Fire::Result } else { Fire::No })
    }

    fn merge(&mut self, (): &mut (), (): ()) -> Result<()> {
        Ok(())
    }
}

/// A window gives its result whenever so many records have come to it since the last time.
#[derive(Debug, Clone, Copy)]
pub struct EveryRecords(pub u64);

impl<T> Trigger<T> for EveryRecords {
    type State = u64;

    fn on_record(&mut self, _: &T, ctx: &mut TriggerContext<'_, u64>) -> Result<Fire> {
        *ctx.state += 1;
        if *ctx.state < self.0 {
            return Ok(Fire::No);
        }
        *ctx.state = 0;
        Ok(Fire::Result)
    }

    fn merge(&mut self, count: &mut u64, other: u64) -> Result<()> {
        *count += other;
        Ok(())
    }
}

/// A window gives its result in steps of its time while it is open, and at its end as [`AtEnd`]
/// says: steps of event time, or of processing time if the window is of that.
///
/// ```
/// # use millstream::{prelude::*, testing, EveryStep};
/// # use std::time::Duration;
/// # let env = &mut testing::environment();
/// // The result so far of each minute, every half a minute.
/// let strategy = WatermarkStrategy::generator(|| Follow).timestamps(|(_, time)| Ok(*time));
/// struct Follow;
///
/// impl<T> WatermarkGenerator<T> for Follow {
///     fn on_record(&mut self, _: &T, time: i64, out: &mut WatermarkOutput) {
///         out.emit(time - 1);
///     }
/// }
///
/// let sales = [(5, 0), (7, 4_000), (1, 40_000), (2, 61_000)];
/// let sums = CollectSink::new();
/// env.source("sales", Datagen::from_fn(move |n| sales[n as usize]).count(4))
///     .assign_timestamps(strategy)
///     .window_all(Tumbling::event_time(Duration::from_secs(60)))
///     .trigger(EveryStep::new(Duration::from_secs(30)))
///     .sum("sums", |(price, _)| *price)
///     .sink("sums so far", sums.clone());
/// env.set_runtime_mode(RuntimeMode::Streaming);
/// env.execute("sums")?;
/// // The record of time 40,000 has come before the watermark that follows it.
/// assert_eq!(sums.take(), [((), 13), ((), 13), ((), 2), ((), 2)]);
/// # Ok::<(), millstream::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct EveryStep {
    millis: i64,
}

impl EveryStep {
    /// Steps of this length, which begin at multiples of it.
    #[must_use]
    pub fn new(step: Duration) -> Self {
        Self { millis: i64::try_from(step.as_millis()).unwrap_or(i64::MAX).max(1) }
    }

    /// Asks for the end of the step that a time is in.
    fn ask(self, time: i64, ctx: &mut TriggerContext<'_, ()>) {
        let left = self.millis - 1 - time.rem_euclid(self.millis);
        if let Some(end) = time.checked_add(left).filter(|end| *end < ctx.last) {
            ctx.when_over(end);
        }
    }

    /// A step has ended with this millisecond, or the window.
    fn on_end(self, last: i64, ctx: &mut TriggerContext<'_, ()>) -> Fire {
        if let Some(next) = last.checked_add(1).filter(|_| last < ctx.last) {
            self.ask(next, ctx);
        }
        Fire::Result
    }
}

impl<T> Trigger<T> for EveryStep {
    type State = ();

    fn on_record(&mut self, record: &T, ctx: &mut TriggerContext<'_, ()>) -> Result<Fire> {
        let from = ctx.over().map_or(ctx.window.start, |over| over.saturating_add(1));
        self.ask(from.max(ctx.window.start), ctx);
        AtEnd.on_record(record, ctx)
    }

    fn on_event_time(&mut self, time: i64, ctx: &mut TriggerContext<'_, ()>) -> Result<Fire> {
        Ok(self.on_end(time, ctx))
    }

    fn on_processing_time(&mut self, time: i64, ctx: &mut TriggerContext<'_, ()>) -> Result<Fire> {
        Ok(self.on_end(time.saturating_sub(1), ctx))
    }

    fn merge(&mut self, (): &mut (), (): ()) -> Result<()> {
        Ok(())
    }
}

/// As another trigger, and the window forgets its records with each result.
#[derive(Debug, Clone, Copy)]
pub struct Purging<G>(pub G);

const fn purged(fire: Fire) -> Fire {
    match fire {
        Fire::Result => Fire::ResultAndPurge,
        other => other,
    }
}

impl<T, G: Trigger<T>> Trigger<T> for Purging<G> {
    type State = G::State;

    fn on_record(&mut self, record: &T, ctx: &mut TriggerContext<'_, G::State>) -> Result<Fire> {
        self.0.on_record(record, ctx).map(purged)
    }

    fn on_event_time(&mut self, time: i64, ctx: &mut TriggerContext<'_, G::State>) -> Result<Fire> {
        self.0.on_event_time(time, ctx).map(purged)
    }

    fn on_processing_time(
        &mut self,
        time: i64,
        ctx: &mut TriggerContext<'_, G::State>,
    ) -> Result<Fire> {
        self.0.on_processing_time(time, ctx).map(purged)
    }

    fn merge(&mut self, state: &mut G::State, other: G::State) -> Result<()> {
        self.0.merge(state, other)
    }
}
