//! Interval joins: pairs of records of one key whose event times are near each other.
//!
//! An operator keeps the records of each key and side in order of time, so that a new record looks
//! only at those that it is joined with. A record is forgotten when the watermark says that no
//! partner can follow. One timer per key does that: it is set for the record that is forgotten
//! first, and moved on when it fires.

use std::marker::PhantomData;
use std::ops::RangeInclusive;

use anyhow::Context as _;
use millstream_event_time::kept::{Kept, join, keep, kept_until};
use millstream_network::Data;
use millstream_state::{KeySelector, Timer, Timers, ValueState};
use millstream_types::State;

use crate::Result;
use crate::collector::Collector;
use crate::connected::{TwoInputFunction, two_inputs};
use crate::keyed::{KeyedParts, KeyedTimed};
use crate::late::{Late, LateRecords};
use crate::on_error::OnError;
use crate::program::TwoInputMaker;
use crate::runtime_context::KeyedRuntimeContext;

/// The pairs that an interval join makes, and the fate of late records.
#[derive(Debug)]
pub struct IntervalJoin<A, B> {
    /// The times of right records less that of the left record, in milliseconds.
    pub later: RangeInclusive<i64>,
    /// The fate of left records that are late.
    pub late_left: LateRecords<A>,
    /// The fate of right records that are late.
    pub late_right: LateRecords<B>,
}

impl<A, B> IntervalJoin<A, B> {
    /// A sentence about an interval that has no pair.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        let (lower, upper) = (self.later.start(), self.later.end());
        self.later.is_empty().then(|| {
            format!(
                "the interval of an interval_join() is {lower}..={upper}: its upper bound must not \
                 be below its lower bound"
            )
        })
    }
}

/// The operator that joins records of two streams with one key, and makes a result of each pair.
pub fn interval_join<A, B, O, S, U, F>(
    rules: IntervalJoin<A, B>,
    on_error: (OnError<A>, OnError<B>),
    (left, right): (S, U),
    pair: F,
) -> TwoInputMaker
where
    A: Data + State,
    B: Data + State,
    O: Data,
    S: KeySelector<A> + Sync,
    U: KeySelector<B, Key = S::Key> + Sync,
    F: FnMut(&A, &B) -> Result<O> + Clone + Send + Sync + 'static,
{
    two_inputs(on_error, move |ctx, timed| {
        let mut parts = KeyedParts::new(ctx)?;
        let mut states = KeyedRuntimeContext::new(ctx.task, &mut parts.backend, timed);
        let (kept, timers) = (states.value("records")?, states.event_timers("forget")?);
        Ok(Joined {
            lower: (*rules.later.start()).into(),
            upper: (*rules.later.end()).into(),
            left: left.clone(),
            right: right.clone(),
            pair: pair.clone(),
            kept,
            timers,
            late_left: Late::of(rules.late_left, ctx),
            late_right: Late::of(rules.late_right, ctx),
            times: Vec::new(),
            parts,
            results: PhantomData,
        })
    })
}

/// Keeps the records of both sides, and makes a result of each pair.
///
/// A record is kept after its pairs are made, so that one that is refused leaves no trace.
struct Joined<A, B, S: KeySelector<A>, U, F, O> {
    lower: i128,
    upper: i128,
    left: S,
    right: U,
    pair: F,
    kept: ValueState<Kept<A, B>>,
    timers: Timers,
    late_left: Late<A>,
    late_right: Late<B>,
    /// The times of the last record's results.
    times: Vec<i64>,
    parts: KeyedParts<S::Key>,
    results: PhantomData<fn() -> O>,
}

impl<A, B, S, U, F, O> Joined<A, B, S, U, F, O>
where
    A: Data + State,
    B: Data + State,
    O: Data,
    S: KeySelector<A>,
    F: FnMut(&A, &B) -> Result<O>,
{
    /// Whether a record of this time is late.
    fn is_late(&mut self, time: i64) -> bool {
        self.parts.context(None).current_watermark().is_some_and(|reached| time <= reached)
    }

    fn add_left(&mut self, record: A, time: i64, out: &mut Collector<'_, O>) -> Result<()> {
        let at = i128::from(time);
        let range = (at + self.lower, at + self.upper);
        let until = kept_until(time, self.upper);
        let is_over = self.is_late(until);
        let mut ctx = self.parts.context(out.timestamp);
        let kept = self.kept.get_or_insert_with(&mut ctx, Kept::new)?;
        let (pair, to) = (&mut self.pair, (&mut *out.results, &mut self.times));
        join(&kept.right, range, time, to, |other| pair(&record, other))?;
        if is_over {
            return self.clear_if_empty();
        }
        keep(&mut kept.left, time, record);
        match kept.new_timer(until) {
            Some(timer) => Ok(self.timers.set(&mut ctx, timer)?),
            None => Ok(()),
        }
    }

    fn add_right(&mut self, record: B, time: i64, out: &mut Collector<'_, O>) -> Result<()> {
        let at = i128::from(time);
        let range = (at - self.upper, at - self.lower);
        let until = kept_until(time, -self.lower);
        let is_over = self.is_late(until);
        let mut ctx = self.parts.context(out.timestamp);
        let kept = self.kept.get_or_insert_with(&mut ctx, Kept::new)?;
        let (pair, to) = (&mut self.pair, (&mut *out.results, &mut self.times));
        join(&kept.left, range, time, to, |other| pair(other, &record))?;
        if is_over {
            return self.clear_if_empty();
        }
        keep(&mut kept.right, time, record);
        match kept.new_timer(until) {
            Some(timer) => Ok(self.timers.set(&mut ctx, timer)?),
            None => Ok(()),
        }
    }

    /// Forgets the current key if it has no records.
    fn clear_if_empty(&mut self) -> Result<()> {
        let mut ctx = self.parts.context(None);
        if self.kept.get(&ctx)?.is_some_and(Kept::is_empty) {
            self.kept.clear(&mut ctx)?;
        }
        Ok(())
    }
}

impl<A, B, S, U, F, O> TwoInputFunction<A, B> for Joined<A, B, S, U, F, O>
where
    A: Data + State,
    B: Data + State,
    O: Data,
    S: KeySelector<A>,
    U: KeySelector<B, Key = S::Key>,
    F: FnMut(&A, &B) -> Result<O> + Send,
{
    fn left(&mut self, record: A, out: &mut Collector<'_, O>) -> Result<()> {
        self.times.clear();
        let hash = self.parts.upcoming.next(&record, &self.left, &self.parts.backend);
        let time = out.timestamp.context(UNTIMED)?;
        if self.is_late(time) {
            return self.late_left.take(record, time, out.output);
        }
        self.left.make_current(&record, hash, &mut self.parts.backend)?;
        self.add_left(record, time, out)
    }

    fn right(&mut self, record: B, out: &mut Collector<'_, O>) -> Result<()> {
        self.times.clear();
        let hash = self.parts.upcoming.next(&record, &self.right, &self.parts.backend);
        let time = out.timestamp.context(UNTIMED)?;
        if self.is_late(time) {
            return self.late_right.take(record, time, out.output);
        }
        self.right.make_current(&record, hash, &mut self.parts.backend)?;
        self.add_right(record, time, out)
    }

    fn prepare_left(&mut self, records: &[A]) -> Result<()> {
        self.parts.begin(records, &self.left)
    }

    fn prepare_right(&mut self, records: &[B]) -> Result<()> {
        self.parts.begin(records, &self.right)
    }

    fn take_back_left(&mut self) -> Result<()> {
        self.times.clear();
        Ok(())
    }

    fn take_back_right(&mut self) -> Result<()> {
        self.times.clear();
        Ok(())
    }
}

/// The plan says that both streams have event times, so this is a fault of the engine.
const UNTIMED: &str = "a record of an interval join has no event time";

impl<A, B, S, U, F, O> KeyedTimed for Joined<A, B, S, U, F, O>
where
    A: Data + State,
    B: Data + State,
    O: Data,
    S: KeySelector<A>,
    U: Send,
    F: FnMut(&A, &B) -> Result<O> + Send,
{
    type Key = S::Key;
    type Out = O;

    fn parts(&self) -> &KeyedParts<S::Key> {
        &self.parts
    }

    fn parts_mut(&mut self) -> &mut KeyedParts<S::Key> {
        &mut self.parts
    }

    fn times(&self) -> Option<&[i64]> {
        Some(&self.times)
    }

    fn call_timer(&mut self, timer: Timer, out: &mut Collector<'_, O>) -> Result<()> {
        self.times.clear();
        let (lower, upper) = (self.lower, self.upper);
        let mut ctx = self.parts.context(out.timestamp);
        let reached = ctx.current_watermark().unwrap_or(timer.time());
        let kept = self.kept.get_or_insert_with(&mut ctx, Kept::new)?;
        kept.timer = kept.timer.filter(|timer| *timer > reached);
        let next = kept.forget(reached, lower, upper).and_then(|until| kept.new_timer(until));
        if kept.is_empty() {
            self.kept.clear(&mut ctx)?;
        }
        match next {
            Some(timer) => Ok(self.timers.set(&mut ctx, timer)?),
            None => Ok(()),
        }
    }

    fn finish_key(&mut self, _out: &mut Collector<'_, O>) -> Result<()> {
        self.times.clear();
        Ok(())
    }
}
