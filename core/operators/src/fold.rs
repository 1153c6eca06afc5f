//! The operator that makes one value of the records of a key: `reduce`, `aggregate`, `sum` and
//! their like.

use std::mem::needs_drop;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;
use std::vec::IntoIter;

use millstream_network::{Batch, Data, Event, Flow};
use millstream_output_buffers::{Results, append};
use millstream_state::{Backed, Group, KeySelector, KeyedBackend, KeyedValues, Place, ValueState};
use millstream_task_checkpoint::{Slice, TaskCheckpoints};
use millstream_types::{OperatorId, State, Timestamp};

use crate::ahead::{Ahead, hash_all, most_point};
use crate::keyed::restore;
use crate::on_error::{BadRecords, OnError, continue_while};
use crate::output::Output;
use crate::program::StageMaker;
use crate::stage::{Moment, Stage, erase};
use crate::task::groups;
use crate::{Error, Result};

/// Makes the value of a key from its records, and results from values.
pub trait Fold<T, K>: Send {
    /// The value of a key.
    type Value: State + Clone;

    /// The results.
    type Out: Data;

    /// Whether it may refuse a record: values are copied before each change if the task goes on.
    const REFUSES: bool = true;

    /// The value of a key after its first record.
    ///
    /// # Errors
    /// The record is refused.
    fn first(&mut self, record: T) -> Result<Self::Value>;

    /// Adds a record to the value of its key, and a result to the results.
    ///
    /// # Errors
    /// The record is refused; it has no result.
    fn add<S: KeySelector<T, Key = K>>(
        &mut self,
        value: &mut Self::Value,
        record: T,
        selector: &S,
        results: Emitted<'_, Self::Out>,
    ) -> Result<()>;

    /// The result for a key and its value.
    fn result(key: &K, value: &Self::Value) -> Self::Out;

    /// The result for a key and its last value.
    fn last(key: K, value: Self::Value) -> Self::Out;
}

/// Where results go, if they are wanted.
#[derive(Debug)]
pub struct Emitted<'a, O>(Option<&'a mut Vec<O>>);

impl<O> Emitted<'_, O> {
    /// Whether results are wanted.
    #[inline]
    pub(crate) const fn is_wanted(&self) -> bool {
        self.0.is_some()
    }

    /// Adds a result if it is wanted.
    #[inline(always)]
    pub(crate) fn emit(self, make: impl FnOnce() -> O) {
        if let Some(results) = self.0 {
            append(results, || Some(make()));
        }
    }
}

/// The operator that makes one value of the records of each key.
pub fn fold<T, S, F>(on_error: OnError<T>, selector: S, fold: F) -> StageMaker
where
    T: Send + 'static,
    S: KeySelector<T> + Sync,
    F: Fold<T, S::Key> + Clone + Sync + 'static,
{
    Arc::new(move |ctx, outputs| {
        let mut backend = KeyedBackend::new(groups(ctx.task), ctx.task.max_parallelism);
        restore(&mut backend, ctx)?;
        let output = Output::new(outputs)?;
        Ok(erase::<T>(Box::new(FoldStage {
            selector: selector.clone(),
            fold: fold.clone(),
            value: backend.value("value")?,
            backend,
            bad: BadRecords::of(&on_error, ctx),
            records: Vec::new().into_iter(),
            times: Vec::new(),
            hashes: Vec::new(),
            results: output.results(),
            output,
            final_only: ctx.task.batch,
            ending: false,
            draining: None,
            operator: ctx.operator,
            checkpoints: ctx.task.checkpoints.clone(),
        })))
    })
}

/// Makes one value of the records of each key.
struct FoldStage<T, S: KeySelector<T>, F: Fold<T, S::Key>> {
    selector: S,
    fold: F,
    backend: KeyedBackend<S::Key>,
    value: ValueState<F::Value>,
    bad: BadRecords<T>,
    output: Output<F::Out>,
    /// The records that are left of the last batch.
    records: IntoIter<T>,
    /// The event times of the last batch, if its records have some.
    times: Vec<i64>,
    /// The hashes of the last batch's keys.
    hashes: Vec<u64>,
    results: Results<F::Out>,
    /// Emits final values at the end of input instead of every update.
    final_only: bool,
    ending: bool,
    draining: Option<Group<S::Key, F::Value>>,
    operator: OperatorId,
    checkpoints: Option<Arc<TaskCheckpoints>>,
}

/// Adds the records of a batch to the values of their keys.
pub(crate) struct Adding<'a, T, S, F> {
    pub(crate) selector: &'a S,
    pub(crate) fold: &'a mut F,
    pub(crate) bad: &'a BadRecords<T>,
    /// Each update is a result.
    pub(crate) emits: bool,
}

impl<T, S, F> Adding<'_, T, S, F>
where
    T: Send + 'static,
    S: KeySelector<T>,
    F: Fold<T, S::Key>,
{
    /// Adds records until the results make a batch. `hashes` and `times` are those of the whole
    /// batch, of which `records` are left.
    fn add_some(
        &mut self,
        records: &mut IntoIter<T>,
        (hashes, times): (&[u64], &[i64]),
        values: &mut impl KeyedValues<S::Key, F::Value>,
        (results, output): (&mut Results<F::Out>, &mut Output<F::Out>),
    ) -> Result<()> {
        let place = |records: &IntoIter<T>| hashes.len() - records.len();
        let far = || most_point(records.as_slice(), self.selector);
        let mut ahead = Ahead::new(hashes, place(records), values, far);
        if self.emits {
            results.records.reserve(records.len().min(results.limit.capacity()));
        }
        while records.len() > 0 && !results.is_full() {
            let most = if self.emits { results.until_look() } else { usize::MAX };
            let begin = place(records);
            let run = begin..begin + records.len().min(most);
            let refused =
                self.add_run(records, (hashes, run), &mut ahead, values, &mut results.records);
            let good = place(records) - usize::from(refused.is_some());
            if self.emits {
                results.stamp_each(times.get(begin..good).unwrap_or_default())?;
            }
            if let Some((error, kept)) = refused {
                self.bad.refuse(error, kept, times.get(good).copied(), output)?;
            }
        }
        Ok(())
    }

    /// Adds a run of records up to the first that is refused; the reason, and a copy of that record
    /// if it is wanted. Little else is looked at here, so that the loop's variables have registers.
    #[inline]
    pub(crate) fn add_run(
        &mut self,
        records: &mut IntoIter<T>,
        (hashes, run): (&[u64], Range<usize>),
        ahead: &mut Ahead<'_>,
        values: &mut impl KeyedValues<S::Key, F::Value>,
        results: &mut Vec<F::Out>,
    ) -> Option<(Error, Option<T>)> {
        let start = run.start;
        let hashes = hashes.get(run).unwrap_or_default();
        let wanted = ahead.is_wanted();
        // The hashes come first in the pair: where they end, no record is taken.
        for (at, (hash, record)) in hashes.iter().zip(records).enumerate() {
            let place = if wanted { ahead.step(start + at, values) } else { Place::NOWHERE };
            let kept = self.bad.keep(&record);
            if let Err(error) = self.add(record, (*hash, place), values, results) {
                return Some((error, kept));
            }
        }
        None
    }

    /// Adds one record, and the result to the results if it is to be emitted. After an error the
    /// value is as it was, if the task goes on.
    #[inline(always)]
    pub(crate) fn add(
        &mut self,
        record: T,
        (hash, place): (u64, Place),
        values: &mut impl KeyedValues<S::Key, F::Value>,
        results: &mut Vec<F::Out>,
    ) -> Result<()> {
        let (fold, selector) = (&mut *self.fold, self.selector);
        let results = Emitted(self.emits.then_some(results));
        let found = selector.with(&record, |key| values.value_mut(hash, place, key))?;
        let Some(value) = found else {
            let key = selector.owned(&record);
            let value = fold.first(record)?;
            results.emit(|| F::result(&key, &value));
            values.add(hash, key, value)?;
            return Ok(());
        };
        // What is cheap to copy is changed in registers: reading a value as a whole right after a
        // part of it was written would make the processor wait for the write. Others are copied if
        // the task goes on after an error.
        if !needs_drop::<F::Value>() || F::REFUSES && self.bad.goes_on() {
            let mut copy = value.clone();
            fold.add(&mut copy, record, selector, results)?;
            *value = copy;
            return Ok(());
        }
        fold.add(value, record, selector, results)
    }
}

impl<T, S, F> FoldStage<T, S, F>
where
    T: Send + 'static,
    S: KeySelector<T>,
    F: Fold<T, S::Key>,
{
    /// Makes one batch of results; `None` if no record is left.
    fn advance(&mut self) -> Result<Option<Flow>> {
        if self.records.len() == 0 {
            return Ok(None);
        }
        let (records, results) = (&mut self.records, &mut self.results);
        let with = (self.hashes.as_slice(), self.times.as_slice());
        let mut adding = Adding {
            selector: &self.selector,
            fold: &mut self.fold,
            bad: &self.bad,
            emits: !self.final_only,
        };
        let into = (results, &mut self.output);
        match self.backend.table(&self.value)?.backed() {
            Backed::Heap(values) => adding.add_some(records, with, values, into)?,
            Backed::Store(values) => adding.add_some(records, with, values, into)?,
        }
        self.output.push_all(&mut self.results).map(Some)
    }

    /// Makes one batch of final results; `None` once all have left. Their time is the end of time,
    /// as in Flink: they stand for everything up to the end of the input.
    fn drain(&mut self) -> Result<Option<Flow>> {
        while !self.results.is_full() {
            if let Some(group) = &mut self.draining {
                match group.next() {
                    Some((key, value)) => self.results.records.push(F::last(key, value)),
                    None => self.draining = None,
                }
            } else if let Some(group) = self.backend.table(&self.value)?.pop_group()? {
                self.draining = Some(group);
            } else {
                break;
            }
        }
        if self.results.is_empty() {
            return Ok(None);
        }
        self.results.stamp(Some(Timestamp::MAX.as_millis()))?;
        self.output.push_all(&mut self.results).map(Some)
    }

    fn run(&mut self, flow: Flow) -> Result<Flow> {
        if !self.ending {
            return continue_while(flow, || self.advance());
        }
        let flow = continue_while(flow, || self.drain())?;
        if flow == Flow::Full {
            return Ok(flow);
        }
        self.ending = false;
        self.output.event(Event::EndOfInput)
    }
}

impl<T, S, F> Stage<T> for FoldStage<T, S, F>
where
    T: Send + 'static,
    S: KeySelector<T>,
    F: Fold<T, S::Key>,
{
    fn open(&mut self) -> Result<()> {
        self.output.open()
    }

    fn push(&mut self, batch: Batch<T>) -> Result<Flow> {
        let (records, selector) = (batch.records(), &self.selector);
        hash_all(&mut self.hashes, records, selector);
        let keys = records.iter().map(|record| selector.owned(record));
        self.backend.prepare(keys.zip(self.hashes.iter().copied()))?;
        let (records, times) = batch.into_parts();
        (self.records, self.times) = (records.into_iter(), times.unwrap_or_default());
        self.run(Flow::Ready)
    }

    fn event(&mut self, event: Event) -> Result<Flow> {
        if event == Event::EndOfInput && self.final_only {
            self.ending = true;
            return self.run(Flow::Ready);
        }
        if let (Event::Barrier(_), Some(checkpoints)) = (event, &self.checkpoints) {
            checkpoints.begin_keyed(self.operator, &mut self.backend);
        }
        self.output.event(event)
    }

    fn resume(&mut self) -> Result<Flow> {
        let flow = self.output.resume()?;
        self.run(flow)
    }

    fn on_time(&mut self, moment: Moment) -> Result<Flow> {
        self.output.on_time(moment)
    }

    fn next_time(&self) -> Option<Instant> {
        self.output.next_time()
    }

    fn slice(&mut self, slice: &mut Slice<'_>) {
        slice.write(self.operator, &mut self.backend);
        self.output.slice(slice);
    }

    #[cfg(test)]
    fn kind(&self) -> crate::explore::Kind {
        crate::explore::Kind::Fold
    }
}
