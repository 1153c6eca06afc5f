//! The operator of windows that are kept each by itself: each key has the windows that are open,
//! and each window its records and the trigger's state.

use std::marker::PhantomData;
use std::sync::Arc;

use anyhow::Context as _;
use millstream_event_time::{
    Asked, Clocks, Contents, EvictorContext, Fire, OpenWindow, OpenWindows, Replaced, Trigger,
    TriggerContext, Window,
};
use millstream_state::{KeySelector, KeyedContext, Timer, Timers, ValueState};

use super::assigner::{Spans, WindowSettings};
use super::functions::WindowFunction;
use super::kinds::Triggered;
use crate::Result;
use crate::collector::Collector;
use crate::keyed::{Context, KeyedParts, KeyedTimed};
use crate::late::Late;
use crate::on_error::{BadRecords, OnError};
use crate::output::Output;
use crate::process::{ProcessStage, RecordFunction};
use crate::program::StageMaker;
use crate::runtime_context::{KeyedRuntimeContext, RuntimeContext};
use crate::stage::erase;

impl<A: Spans, G> Triggered<A, G> {
    /// The operator of windows whose records are kept so.
    pub(super) fn stage_with<T, S, C, P>(
        self,
        settings: WindowSettings<T>,
        on_error: OnError<T>,
        selector: S,
        contents: C,
        make: impl Fn(&RuntimeContext<'_>) -> Result<P> + Send + Sync + 'static,
    ) -> StageMaker
    where
        T: Clone + Send + 'static,
        G: Trigger<T>,
        S: KeySelector<T> + Sync,
        C: Contents<T> + Clone + Sync + 'static,
        P: WindowFunction<S::Key, C::Value> + 'static,
    {
        Arc::new(move |ctx, outputs| {
            let bad = BadRecords::of(&on_error, ctx);
            let mut parts = KeyedParts::new(ctx)?;
            let timed = outputs.timed;
            let mut states = KeyedRuntimeContext::new(ctx.task, &mut parts.backend, timed);
            let mut function = TriggeredWindows {
                windows: self.windows.clone(),
                trigger: self.trigger.clone(),
                lateness: i64::try_from(settings.lateness.as_millis()).unwrap_or(i64::MAX),
                selector: selector.clone(),
                contents: contents.clone(),
                function: make(&RuntimeContext::new(ctx.task))?,
                open: states.value("windows")?,
                event: timed.then(|| states.event_timers("event")).transpose()?,
                processing: states.processing_timers("processing")?,
                late: Late::of(settings.late, ctx),
                spans: Vec::new(),
                times: Vec::new(),
                dropped: Asked::default(),
                parts,
                records: PhantomData,
            };
            if bad.goes_on() {
                function.parts.backend.keep_undo();
            }
            Ok(erase::<T>(Box::new(ProcessStage::new(ctx, function, bad, Output::new(outputs)?))))
        })
    }
}

/// The time of the timer at which a window is forgotten: one of processing time when the clock has
/// reached its end, one of event time when the watermark has reached its last millisecond and then
/// so many more.
const fn gone_at(last: i64, lateness: i64, is_processing: bool) -> i64 {
    last.saturating_add(if is_processing { 1 } else { lateness })
}

/// Keeps the windows of each key, and makes results of those that the trigger fires.
struct TriggeredWindows<T, A, G: Trigger<T>, S: KeySelector<T>, C: Contents<T>, P> {
    windows: A,
    trigger: G,
    /// A window is kept for so many milliseconds after the watermark has reached its end.
    lateness: i64,
    selector: S,
    contents: C,
    function: P,
    open: ValueState<OpenWindows<C::Kept, G::State>>,
    /// `None` if the records have no event times.
    event: Option<Timers>,
    processing: Timers,
    late: Late<T>,
    /// The windows of the record at hand, as first and last times.
    spans: Vec<(i64, i64)>,
    /// The event times of the results of the call at hand.
    times: Vec<i64>,
    /// The times that windows have asked for and need no more.
    dropped: Asked,
    parts: KeyedParts<S::Key>,
    records: PhantomData<fn(T)>,
}

/// A window that fires: its value, and the event time of its results.
struct Fired<V> {
    window: Window,
    last: i64,
    value: V,
}

impl<T, A, G, S, C, P> TriggeredWindows<T, A, G, S, C, P>
where
    T: Clone + Send + 'static,
    A: Spans,
    G: Trigger<T>,
    S: KeySelector<T>,
    C: Contents<T>,
    P: WindowFunction<S::Key, C::Value>,
{
    /// Adds a record of the current key to its windows, and makes results of those that fire.
    fn add(&mut self, record: T, out: &mut Collector<'_, P::Out>) -> Result<()> {
        let ctx = self.parts.context(out.timestamp);
        let clocks = Self::clocks(&ctx);
        let time = out.timestamp.filter(|_| !A::PROCESSING).unwrap_or(clocks.now);
        let mut spans = std::mem::take(&mut self.spans);
        spans.clear();
        self.windows.spans(time, &mut spans);
        let mut kept = spans.is_empty();
        for span in &spans {
            kept |= self.add_to(*span, (&record, time), clocks, out)?;
        }
        self.spans = spans;
        if !kept {
            return self.late.take(record, time, out.output);
        }
        Ok(())
    }

    /// Adds a record to one window; `false` if that is no longer kept.
    fn add_to(
        &mut self,
        (mut start, mut last): (i64, i64),
        (record, time): (&T, i64),
        clocks: Clocks,
        out: &mut Collector<'_, P::Out>,
    ) -> Result<bool> {
        let mut ctx = self.parts.context(out.timestamp);
        Self::remember(&self.open, (start, last), &mut ctx)?;
        let all = self.open.get_or_insert_with(&mut ctx, OpenWindows::new)?;
        let joined = if A::MERGES {
            let functions = (&mut self.trigger, &mut self.contents);
            Self::join(all, (&mut start, &mut last), functions, &mut self.dropped)?
        } else {
            None
        };
        let lateness = self.lateness;
        let gone_at = |last| gone_at(last, lateness, A::PROCESSING);
        let is_late = !A::PROCESSING && clocks.watermark.is_some_and(|time| gone_at(last) <= time);
        if joined.is_none() && is_late {
            if all.windows.is_empty() {
                self.open.clear(&mut ctx)?;
            }
            return Ok(false);
        }
        let mut new = Asked::default();
        let at = match (joined, all.place(start, last)) {
            (Some(one), Ok(at) | Err(at)) => {
                all.windows.insert(at, one);
                at
            }
            (None, Ok(at)) => at,
            (None, Err(at)) => {
                let (state, times) = (G::State::default(), Asked::default());
                all.windows.insert(at, OpenWindow { start, last, kept: None, state, times });
                at
            }
        };
        let one = all.windows.get_mut(at).context("a window is gone")?;
        self.contents.add(&mut one.kept, record, time)?;
        let fire = self.trigger.on_record(record, &mut Self::context(one, clocks, &mut new))?;
        // The end of the window's life is a time that it asks for.
        let mut asks = Self::context(one, clocks, &mut new);
        match A::PROCESSING {
            true => asks.at_processing_time(gone_at(last)),
            false => asks.at_event_time(gone_at(last)),
        }
        all.asks_others |= one.asks_others(gone_at, A::PROCESSING);
        let fired = Self::fired(one, fire, &mut self.contents, clocks)?;
        let times = (self.event, self.processing);
        let dropped = &mut self.dropped;
        let asks = |time: i64, is_event: bool| {
            let mut may = all.that_may_ask(time, is_event != A::PROCESSING, gone_at);
            may.any(|at| {
                all.windows.get(at).is_some_and(|one| one.times.of(is_event).contains(&time))
            })
        };
        dropped.event.retain(|time| !asks(*time, true));
        dropped.processing.retain(|time| !asks(*time, false));
        Self::delete(times, dropped, &mut ctx)?;
        Self::set(times, &new, &mut ctx)?;
        self.emit(fired, out)?;
        Ok(true)
    }

    /// Remembers the windows whose place a record's window takes, should the record be refused.
    fn remember(
        open: &ValueState<OpenWindows<C::Kept, G::State>>,
        (start, last): (i64, i64),
        ctx: &mut Context<'_, S::Key>,
    ) -> Result<()> {
        if !ctx.backend().keeps_undo() {
            return Ok(());
        }
        let all = open.get(ctx)?;
        let range = all.map_or(0..0, |all| match A::MERGES {
            true => all.touched(start, last),
            false => all.place(start, last).map_or_else(|at| at..at, |at| at..at + 1),
        });
        let undo = Replaced::of(all.map(|all| &all.windows), range);
        Ok(open.undo_by(ctx, |all| {
            let windows = &mut all.get_or_insert_with(OpenWindows::new).windows;
            undo.put_back_in(windows);
            if windows.is_empty() {
                *all = None;
            }
        })?)
    }

    /// Takes out the windows that a new one touches, as one; its bounds are those of all then.
    fn join(
        open: &mut OpenWindows<C::Kept, G::State>,
        (start, last): (&mut i64, &mut i64),
        (trigger, contents): (&mut G, &mut C),
        dropped: &mut Asked,
    ) -> Result<Option<OpenWindow<C::Kept, G::State>>> {
        let mut touched = open.windows.drain(open.touched(*start, *last));
        let Some(mut one) = touched.next() else { return Ok(None) };
        let bounds = (one.start, one.last);
        for other in touched {
            one.last = one.last.max(other.last);
            dropped.append(other.times);
            trigger.merge(&mut one.state, other.state)?;
            one.kept = match (one.kept, other.kept) {
                (Some(mut value), Some(later)) => {
                    contents.merge(&mut value, later)?;
                    Some(value)
                }
                (value, later) => value.or(later),
            };
        }
        (*start, *last) = ((*start).min(one.start), (*last).max(one.last));
        if (*start, *last) != bounds {
            (one.start, one.last) = (*start, *last);
            dropped.append(std::mem::take(&mut one.times));
        }
        Ok(Some(one))
    }

    fn clocks(ctx: &Context<'_, S::Key>) -> Clocks {
        let (watermark, now) = (ctx.current_watermark(), ctx.processing_time());
        Clocks { watermark, now, is_processing: A::PROCESSING }
    }

    fn context<'a>(
        one: &'a mut OpenWindow<C::Kept, G::State>,
        clocks: Clocks,
        new: &'a mut Asked,
    ) -> TriggerContext<'a, G::State> {
        let window = (one.window(), one.last);
        TriggerContext::new(window, &mut one.state, clocks, (&mut one.times, new))
    }

    /// Does what the trigger says of a window.
    fn fired(
        one: &mut OpenWindow<C::Kept, G::State>,
        fire: Fire,
        contents: &mut C,
        clocks: Clocks,
    ) -> Result<Option<Fired<C::Value>>> {
        let (window, last) = (one.window(), one.last);
        let purges = match fire {
            Fire::No => return Ok(None),
            Fire::Purge => {
                one.kept = None;
                return Ok(None);
            }
            Fire::Result => false,
            Fire::ResultAndPurge => true,
        };
        let ctx = EvictorContext::new(window, clocks);
        let value = contents.value(&mut one.kept, purges, &ctx);
        let value = value.with_context(|| format!("the window {window} has no result"))?;
        Ok(value.map(|value| Fired { window, last, value }))
    }

    /// Sets timers for times that a window asks for.
    fn set(
        (event, processing): (Option<Timers>, Timers),
        new: &Asked,
        ctx: &mut Context<'_, S::Key>,
    ) -> Result<()> {
        if let Some(event) = event {
            new.event.iter().try_for_each(|time| event.set(ctx, *time))?;
        }
        new.processing.iter().try_for_each(|time| processing.set(ctx, *time))?;
        Ok(())
    }

    /// Deletes timers for times that no window of the current key asks for any more.
    fn delete(
        (event, processing): (Option<Timers>, Timers),
        dropped: &mut Asked,
        ctx: &mut Context<'_, S::Key>,
    ) -> Result<()> {
        for time in dropped.event.drain(..) {
            event.map_or(Ok(()), |event| event.delete(ctx, time))?;
        }
        Ok(dropped.processing.drain(..).try_for_each(|time| processing.delete(ctx, time))?)
    }

    /// Makes results of a window that fires. Those of a window of processing time have the time of
    /// the record or timer at hand.
    fn emit(
        &mut self,
        fired: Option<Fired<C::Value>>,
        out: &mut Collector<'_, P::Out>,
    ) -> Result<()> {
        let Some(Fired { window, last, value }) = fired else { return Ok(()) };
        let key = self.parts.backend.key().clone();
        let (before, timestamp) = (out.results.len(), out.timestamp);
        let time = timestamp.filter(|_| A::PROCESSING).unwrap_or(last);
        out.timestamp = timestamp.map(|_| time);
        let done = self.function.process(key, window, value, out);
        done.with_context(|| format!("the window {window} has no result"))?;
        out.timestamp = timestamp;
        self.times.resize(self.times.len() + out.results.len() - before, time);
        Ok(())
    }

    /// Asks the trigger about the windows of the current key that have asked for this time, and
    /// forgets those that are no longer kept.
    fn on_time(
        &mut self,
        is_event: bool,
        time: i64,
        out: &mut Collector<'_, P::Out>,
    ) -> Result<()> {
        let lateness = self.lateness;
        let mut ctx = self.parts.context(out.timestamp);
        let clocks = Self::clocks(&ctx);
        let all = self.open.get_or_insert_with(&mut ctx, OpenWindows::new)?;
        let (mut new, mut fired) = (Asked::default(), Vec::new());
        let is_clock = is_event != A::PROCESSING;
        let gone_at = |last| gone_at(last, lateness, A::PROCESSING);
        for at in all.that_may_ask(time, is_clock, gone_at) {
            let Some(one) = all.windows.get_mut(at) else { continue };
            let asked = one.times.of_mut(is_event);
            let Some(at) = asked.iter().position(|asked| *asked == time) else { continue };
            asked.swap_remove(at);
            let mut window = Self::context(one, clocks, &mut new);
            let fire = if is_event {
                self.trigger.on_event_time(time, &mut window)?
            } else {
                self.trigger.on_processing_time(time, &mut window)?
            };
            all.asks_others |= one.asks_others(gone_at, A::PROCESSING);
            fired.extend(Self::fired(one, fire, &mut self.contents, clocks)?);
        }
        while is_clock && all.windows.pop_front_if(|one| gone_at(one.last) <= time).is_some() {}
        if all.windows.is_empty() {
            self.open.clear(&mut ctx)?;
        }
        Self::set((self.event, self.processing), &new, &mut ctx)?;
        fired.into_iter().try_for_each(|fired| self.emit(Some(fired), out))
    }
}

impl<T, A, G, S, C, P> RecordFunction<T> for TriggeredWindows<T, A, G, S, C, P>
where
    T: Clone + Send + 'static,
    A: Spans,
    G: Trigger<T>,
    S: KeySelector<T>,
    C: Contents<T>,
    P: WindowFunction<S::Key, C::Value>,
{
    fn prepare(&mut self, records: &[T]) -> Result<()> {
        let parts = &mut self.parts;
        parts.upcoming.begin(records, &self.selector, &mut parts.backend)
    }

    fn process(&mut self, record: T, out: &mut Collector<'_, P::Out>) -> Result<()> {
        self.times.clear();
        let parts = &mut self.parts;
        let hash = parts.upcoming.next(&record, &self.selector, &parts.backend);
        self.selector.make_current(&record, hash, &mut parts.backend)?;
        self.add(record, out)
    }

    fn take_back(&mut self) -> Result<()> {
        self.times.clear();
        self.dropped = Asked::default();
        Ok(self.parts.backend.take_back()?)
    }
}

impl<T, A, G, S, C, P> KeyedTimed for TriggeredWindows<T, A, G, S, C, P>
where
    T: Clone + Send + 'static,
    A: Spans,
    G: Trigger<T>,
    S: KeySelector<T>,
    C: Contents<T>,
    P: WindowFunction<S::Key, C::Value>,
{
    type Key = S::Key;
    type Out = P::Out;

    fn parts(&self) -> &KeyedParts<S::Key> {
        &self.parts
    }

    fn parts_mut(&mut self) -> &mut KeyedParts<S::Key> {
        &mut self.parts
    }

    fn times(&self) -> Option<&[i64]> {
        Some(&self.times)
    }

    fn call_timer(&mut self, timer: Timer, out: &mut Collector<'_, P::Out>) -> Result<()> {
        self.times.clear();
        self.on_time(!timer.is_of(&self.processing), timer.time(), out)
    }

    /// Without event times the end of the input is the one that a window can see, unless it is of
    /// processing time.
    fn finish_key(&mut self, out: &mut Collector<'_, P::Out>) -> Result<()> {
        self.times.clear();
        if self.event.is_some() || A::PROCESSING {
            return Ok(());
        }
        self.on_time(true, i64::MAX, out)
    }
}
