//! Session windows: records of a key between which no gap of a given length is.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use millstream_event_time::{ProcessingTime, Replaced, Window, WindowFold, whole_millis};
use millstream_state::{KeySelector, KeyedContext, Timer, Timers, ValueState};
use millstream_types::State;
use millstream_types::schema::{Kind, SchemaBuilder};
use serde::{Deserialize, Serialize};

use super::assigner::{Spans, WindowAssigner, WindowSettings};
use super::functions::WindowFunction;
use crate::Result;
use crate::collector::Collector;
use crate::keyed::{KeyedParts, KeyedTimed};
use crate::late::Late;
use crate::on_error::{BadRecords, OnError};
use crate::output::Output;
use crate::process::{ProcessStage, RecordFunction};
use crate::program::StageMaker;
use crate::runtime_context::{KeyedRuntimeContext, RuntimeContext};
use crate::stage::erase;

/// One window for all records of a key between which no gap of a given length is. It ends so long
/// after its last record. A record that falls between two sessions, or touches them, makes them
/// one.
///
/// ```
/// # use millstream::{prelude::*, testing::run_on};
/// # use std::time::Duration;
/// let clicks = [("ann", 0), ("bob", 1_000), ("ann", 9_000), ("ann", 30_000)];
/// let visits = run_on(clicks.map(|(user, time)| (user.to_owned(), time)), |clicks| {
///     let times = WatermarkStrategy::monotonous().timestamps(|(_, time)| Ok(*time));
///     clicks
///         .assign_timestamps(times)
///         .key_by_ref(|(user, _)| user)
///         .window(Session::event_time(Duration::from_secs(10)))
///         .reduce_then("visits", |_, _| Ok(()), |user, window, _| Ok((user, window.start)))
/// });
/// let mut visits = visits.unwrap();
/// visits.sort();
/// let expected = [("ann", 0), ("ann", 30_000), ("bob", 1_000)];
/// assert_eq!(visits, expected.map(|(user, start)| (user.to_owned(), start)));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    gap: Duration,
}

impl Session {
    /// Sessions that end after so long without a record, in event time and whole milliseconds.
    #[must_use]
    pub const fn event_time(gap: Duration) -> Self {
        Self { gap }
    }

    /// Sessions that end after so long without a record, in processing time and whole milliseconds.
    #[must_use]
    pub const fn processing_time(gap: Duration) -> ProcessingTime<Self> {
        ProcessingTime::of(Self { gap })
    }
}

impl Spans for Session {
    const MERGES: bool = true;

    fn fault(&self) -> Option<String> {
        whole_millis("gap", self.gap).err().map(|error| error.to_string())
    }

    fn spans(&self, time: i64, spans: &mut Vec<(i64, i64)>) {
        let gap = whole_millis("gap", self.gap).unwrap_or(1);
        spans.push((time, time.saturating_add(gap - 1)));
    }
}

impl<T: Send + 'static> WindowAssigner<T> for Session {
    fn fault(&self) -> Option<String> {
        Spans::fault(self)
    }

    fn stage<S, W, P>(
        self,
        settings: WindowSettings<T>,
        on_error: OnError<T>,
        selector: S,
        fold: W,
        make: impl Fn(&RuntimeContext<'_>) -> Result<P> + Send + Sync + 'static,
    ) -> StageMaker
    where
        S: KeySelector<T> + Sync,
        W: WindowFold<T> + Clone + Sync + 'static,
        P: WindowFunction<S::Key, W::Value> + 'static,
    {
        Arc::new(move |ctx, outputs| {
            let bad = BadRecords::of(&on_error, ctx);
            let mut parts = KeyedParts::new(ctx)?;
            let mut states = KeyedRuntimeContext::new(ctx.task, &mut parts.backend, outputs.timed);
            let (sessions, timers) = (states.value("windows")?, states.event_timers("ends")?);
            if W::REFUSES && bad.goes_on() {
                parts.backend.keep_undo();
            }
            let lateness = i64::try_from(settings.lateness.as_millis()).unwrap_or(i64::MAX);
            let function = Sessions {
                gap: whole_millis("gap", self.gap)?,
                lateness,
                selector: selector.clone(),
                fold: fold.clone(),
                function: make(&RuntimeContext::new(ctx.task))?,
                sessions,
                timers,
                late: Late::of(settings.late, ctx),
                parts,
                records: PhantomData,
            };
            Ok(erase::<T>(Box::new(ProcessStage::new(ctx, function, bad, Output::new(outputs)?))))
        })
    }
}

/// A session of a key.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Span<V> {
    /// The time of the first record.
    start: i64,
    /// The last millisecond.
    last: i64,
    /// The time of the timer that looks at the session next: it may have become longer meanwhile.
    timer: Option<i64>,
    /// The watermark has reached its end.
    fired: bool,
    value: V,
}

impl<V: State> State for Span<V> {
    fn schema(builder: &mut SchemaBuilder) -> Kind {
        builder.kind_of::<(i64, i64, Option<i64>, bool, V)>()
    }
}

impl<V> Span<V> {
    /// Whether the two are one session: no millisecond is between them.
    const fn touches(&self, start: i64, last: i64) -> bool {
        self.start <= last.saturating_add(1) && start <= self.last.saturating_add(1)
    }

    const fn window(&self) -> Window {
        Window { start: self.start, end: self.last.saturating_add(1) }
    }

    /// The watermark at which something is to be done about the session next.
    const fn due(&self, lateness: i64) -> i64 {
        if self.fired { self.last.saturating_add(lateness) } else { self.last }
    }

    /// The time of the timer that the session needs, if it has none that is early enough.
    fn new_timer(&mut self, lateness: i64) -> Option<i64> {
        let due = self.due(lateness);
        let is_new = self.timer.is_none_or(|timer| due < timer);
        if is_new {
            self.timer = Some(due);
        }
        is_new.then_some(due)
    }
}

/// The places of the sessions that one from `start` to `last` touches, and the place for it.
fn touched<V>(sessions: &VecDeque<Span<V>>, start: i64, last: i64) -> Range<usize> {
    let at = sessions.partition_point(|session| session.last.saturating_add(1) < start);
    let touched = sessions.range(at..).take_while(|other| other.touches(start, last));
    at..at + touched.count()
}

/// Keeps the sessions of each key, and makes results of those that have ended.
///
/// A session has a timer at the end that it had when it began. When the timer is due and the
/// session has become longer, another one is set: a record costs no timer.
struct Sessions<T, S: KeySelector<T>, W: WindowFold<T>, P> {
    gap: i64,
    /// A session is kept for so many milliseconds after the watermark has reached its end.
    lateness: i64,
    selector: S,
    fold: W,
    function: P,
    /// In order of time.
    sessions: ValueState<VecDeque<Span<W::Value>>>,
    timers: Timers,
    late: Late<T>,
    parts: KeyedParts<S::Key>,
    records: PhantomData<fn(T)>,
}

impl<T, S, W, P> Sessions<T, S, W, P>
where
    T: Send + 'static,
    S: KeySelector<T>,
    W: WindowFold<T>,
    P: WindowFunction<S::Key, W::Value>,
{
    /// Adds a record of the current key to the sessions that it touches, which become one, or
    /// begins a session with it.
    fn add(&mut self, record: T, out: &mut Collector<'_, P::Out>) -> Result<()> {
        let time = out.timestamp.context("a record of a session has no event time")?;
        let lateness = self.lateness;
        let mut ctx = self.parts.context(out.timestamp);
        let reached = ctx.current_watermark();
        let has_reached = |time: i64| reached.is_some_and(|reached| time <= reached);
        let (start, last) = (time, time.saturating_add(self.gap - 1));
        if ctx.backend().keeps_undo() {
            let sessions = self.sessions.get(&ctx)?;
            let range = sessions.map_or(0..0, |sessions| touched(sessions, start, last));
            let undo = Replaced::of(sessions, range);
            self.sessions.undo_by(&mut ctx, |sessions| undo.put_back(sessions))?;
        }
        let sessions = self.sessions.get_or_insert_with(&mut ctx, VecDeque::new)?;
        let range = touched(sessions, start, last);
        let (at, count) = (range.start, range.len());
        if count == 0 && has_reached(last.saturating_add(lateness)) {
            if sessions.is_empty() {
                self.sessions.clear(&mut ctx)?;
            }
            return self.late.take(record, time, out.output);
        }
        if count == 0 {
            let value = self.fold.first(record)?;
            sessions.insert(at, Span { start, last, timer: None, fired: false, value });
        } else {
            // Seldom: a ring makes much of taking nothing out.
            let later =
                if count > 1 { sessions.drain(at + 1..at + count).collect() } else { Vec::new() };
            let session = sessions.get_mut(at).context("a session is gone")?;
            self.fold.add(&mut session.value, record)?;
            session.start = session.start.min(start);
            session.last = session.last.max(last);
            for other in later {
                self.fold.merge(&mut session.value, other.value)?;
                session.last = session.last.max(other.last);
                session.timer = session.timer.into_iter().chain(other.timer).min();
            }
        }
        let session = sessions.get_mut(at).context("a session is gone")?;
        session.fired = has_reached(session.last);
        let timer = session.new_timer(lateness);
        let result = session.fired.then(|| (session.window(), session.last, session.value.clone()));
        if let Some(timer) = timer {
            self.timers.set(&mut ctx, timer)?;
        }
        if let Some((window, last, value)) = result {
            out.timestamp = Some(last);
            let done = self.function.process(ctx.key().clone(), window, value, out);
            done.with_context(|| format!("the window {window} has no result"))?;
        }
        Ok(())
    }

    /// Makes results of the current key's session that ends at this time, and forgets those that
    /// are no longer kept.
    fn on_timer(&mut self, time: i64, out: &mut Collector<'_, P::Out>) -> Result<()> {
        let lateness = self.lateness;
        let mut ctx = self.parts.context(out.timestamp);
        let sessions = self.sessions.get_or_insert_with(&mut ctx, VecDeque::new)?;
        let (mut timers, mut result) = (Vec::new(), None);
        // The timer is of a session that this time is in, or that this time less the lateness is
        // in. One that has become part of another session leaves a timer behind.
        for within in [time.saturating_sub(lateness), time] {
            let mut at = sessions.partition_point(|session| session.last < within);
            while let Some(session) = sessions.get_mut(at)
                && session.timer.is_some_and(|timer| timer <= time)
            {
                session.timer = None;
                if !session.fired && session.last <= time {
                    session.fired = true;
                    result = Some((session.window(), session.value.clone()));
                }
                if session.due(lateness) > time {
                    timers.extend(session.new_timer(lateness));
                    at += 1;
                } else {
                    sessions.remove(at);
                }
            }
        }
        if sessions.is_empty() {
            self.sessions.clear(&mut ctx)?;
        }
        for timer in timers {
            self.timers.set(&mut ctx, timer)?;
        }
        if let Some((window, value)) = result {
            let done = self.function.process(ctx.key().clone(), window, value, out);
            done.with_context(|| format!("the window {window} has no result"))?;
        }
        Ok(())
    }
}

impl<T, S, W, P> RecordFunction<T> for Sessions<T, S, W, P>
where
    T: Send + 'static,
    S: KeySelector<T>,
    W: WindowFold<T>,
    P: WindowFunction<S::Key, W::Value>,
{
    fn prepare(&mut self, records: &[T]) -> Result<()> {
        let parts = &mut self.parts;
        parts.upcoming.begin(records, &self.selector, &mut parts.backend)
    }

    fn process(&mut self, record: T, out: &mut Collector<'_, P::Out>) -> Result<()> {
        let parts = &mut self.parts;
        let hash = parts.upcoming.next(&record, &self.selector, &parts.backend);
        self.selector.make_current(&record, hash, &mut parts.backend)?;
        self.add(record, out)
    }

    fn take_back(&mut self) -> Result<()> {
        Ok(self.parts.backend.take_back()?)
    }
}

impl<T, S, W, P> KeyedTimed for Sessions<T, S, W, P>
where
    T: Send + 'static,
    S: KeySelector<T>,
    W: WindowFold<T>,
    P: WindowFunction<S::Key, W::Value>,
{
    type Key = S::Key;
    type Out = P::Out;

    fn parts(&self) -> &KeyedParts<S::Key> {
        &self.parts
    }

    fn parts_mut(&mut self) -> &mut KeyedParts<S::Key> {
        &mut self.parts
    }

    fn call_timer(&mut self, timer: Timer, out: &mut Collector<'_, P::Out>) -> Result<()> {
        self.on_timer(timer.time(), out)
    }

    fn finish_key(&mut self, _out: &mut Collector<'_, P::Out>) -> Result<()> {
        Ok(())
    }
}
