//! Operators on keyed streams: `reduce` and `process`.

use std::mem::needs_drop;
use std::time::Instant;

use millstream_network::{Batch, Event, Flow, Records, batch_capacity};
use millstream_state::{GroupTable, KeyedBackend, KeyedContext};
use millstream_types::{Key, Timestamp};

use crate::Result;
use crate::key::KeySelector;
use crate::operators::connected::TwoInputSink;
use crate::operators::results::Results;
use crate::operators::{BadRecords, continue_while};
use crate::side::OutputTag;
use crate::stage::{Output, Stage};

/// Combines the records of a key into one of their type.
pub(crate) struct ReduceStage<T, S: KeySelector<T>, F> {
    pub(crate) selector: S,
    pub(crate) function: F,
    pub(crate) table: GroupTable<S::Key, T>,
    pub(crate) bad: BadRecords<T>,
    pub(crate) output: Output<T>,
    pub(crate) hashes: Vec<u64>,
    /// Emits final values at the end of input instead of every update.
    pub(crate) final_only: bool,
    pub(crate) ending: bool,
    pub(crate) draining: Option<Drain<T>>,
}

/// How many records lie between asking for an entry and using it.
const LOOK_AHEAD: usize = 32;

/// A table of this size fits into a core's own cache, where asking ahead only costs.
const CACHE_BYTES: usize = 1 << 20;

/// The final values of the key group at hand.
pub(crate) type Drain<T> = Box<dyn Iterator<Item = T> + Send>;

impl<T, S, F> ReduceStage<T, S, F>
where
    T: Clone + Send + 'static,
    S: KeySelector<T>,
    F: FnMut(&mut T, T) -> Result<()> + Send,
{
    /// Adds one record, and the key's value after it to the updates if it is to be emitted.
    #[inline]
    fn add(&mut self, record: T, time: Option<i64>, hash: u64, updates: &mut Vec<T>) -> Result<()> {
        let kept = self.bad.keep(&record);
        let (table, emits) = (&mut self.table, !self.final_only);
        let added = match self.selector.with(&record, |key| table.get_mut(hash, key)) {
            Some(value) if needs_drop::<T>() && !self.bad.goes_on() => {
                (self.function)(value, record).map(|()| {
                    if emits {
                        updates.push(value.clone());
                    }
                })
            }
            // What is cheap to copy is changed in registers: reading a value as a whole right
            // after a part of it was written would make the processor wait for the write. Others
            // are copied if the task goes on after an error, which must leave the value as it was.
            Some(value) => {
                let mut copy = value.clone();
                (self.function)(&mut copy, record).map(|()| {
                    if emits {
                        *value = copy.clone();
                        updates.push(copy);
                    } else {
                        *value = copy;
                    }
                })
            }
            None => {
                let value = table.insert_new(hash, self.selector.owned(&record), record);
                if emits {
                    updates.push(value.clone());
                }
                Ok(())
            }
        };
        added.or_else(|error| self.bad.refuse(error, kept, time, &mut self.output))
    }

    /// Adds a batch of records; the updates.
    fn add_all(&mut self, batch: Batch<T>, hashes: &[u64]) -> Result<Batch<T>> {
        let large = self.table.bytes() > CACHE_BYTES;
        let mut ahead = hashes.get(LOOK_AHEAD..).unwrap_or_default().iter();
        let mut updates = self.output.results();
        updates.records.reserve(batch.len());
        let (records, times) = batch.into_parts();
        let mut times = times.unwrap_or_default().into_iter();
        for (record, hash) in records.into_iter().zip(hashes) {
            if large && let Some(hash) = ahead.next() {
                self.table.prefetch(*hash);
            }
            let time = times.next();
            self.add(record, time, *hash, &mut updates.records)?;
            updates.stamp(time)?;
        }
        updates.take()
    }

    /// One batch of final values; `None` once all have left. Their time is the end of time, as in
    /// Flink: they stand for everything up to the end of the input.
    fn drain(&mut self) -> Result<Option<Flow>> {
        let capacity = batch_capacity::<T>();
        let mut results = self.output.results();
        while results.len() < capacity {
            if let Some(values) = &mut self.draining {
                let room = capacity - results.len();
                results.records.extend(values.by_ref().take(room));
                if results.len() < capacity {
                    self.draining = None;
                }
            } else if let Some(group) = self.table.pop_group() {
                self.draining = Some(Box::new(group.map(|(_, value)| value)));
            } else {
                break;
            }
        }
        if results.is_empty() {
            return Ok(None);
        }
        results.stamp(Some(Timestamp::MAX.as_millis()))?;
        self.output.push(results.take()?).map(Some)
    }

    fn run(&mut self, flow: Flow) -> Result<Flow> {
        let flow = continue_while(flow, || self.drain())?;
        if flow == Flow::Full {
            return Ok(flow);
        }
        self.ending = false;
        self.output.event(Event::EndOfInput)
    }
}

impl<T, S, F> Stage<T> for ReduceStage<T, S, F>
where
    T: Clone + Send + 'static,
    S: KeySelector<T>,
    F: FnMut(&mut T, T) -> Result<()> + Send,
{
    fn open(&mut self) -> Result<()> {
        self.output.open()
    }

    fn push(&mut self, batch: Batch<T>) -> Result<Flow> {
        let mut hashes = std::mem::take(&mut self.hashes);
        hashes.clear();
        let selector = &self.selector;
        hashes.extend(batch.records().iter().map(|record| selector.with(record, Key::stable_hash)));
        let updates = self.add_all(batch, &hashes);
        self.hashes = hashes;
        let flow = self.output.push(updates?)?;
        Ok(flow.and(self.output.flush_sides()?))
    }

    fn event(&mut self, event: Event) -> Result<Flow> {
        if event == Event::EndOfInput && self.final_only {
            self.ending = true;
            return self.run(Flow::Ready);
        }
        self.output.event(event)
    }

    fn resume(&mut self) -> Result<Flow> {
        let flow = self.output.resume()?;
        if self.ending { self.run(flow) } else { Ok(flow) }
    }

    fn tick(&mut self, now: Instant) -> Result<Option<Instant>> {
        self.output.tick(now)
    }
}

/// What a keyed function can do with the record at hand.
///
/// ```
/// # use millstream::{prelude::*, testing::run_on};
/// struct Describe;
///
/// impl KeyedProcess<bool, u32> for Describe {
///     type Out = String;
///
///     fn process(&mut self, n: u32, ctx: &mut Context<'_, bool, String>) -> Result<()> {
///         let parity = if *ctx.key() { "even" } else { "odd" };
///         let time = ctx.timestamp().map_or(String::new(), |time| format!(" at {time}"));
///         ctx.emit(format!("{n} is {parity}{time}"));
///         Ok(())
///     }
/// }
///
/// let described =
///     run_on([1, 2], |numbers| numbers.key_by(|n| n % 2 == 0).process("say", |_| Ok(Describe)));
/// assert_eq!(described.unwrap(), ["1 is odd", "2 is even"]);
/// ```
pub struct Context<'a, K, O> {
    backend: &'a mut KeyedBackend<K>,
    results: &'a mut Vec<O>,
    output: &'a mut Output<O>,
    timestamp: Option<i64>,
}

impl<'a, K, O> Context<'a, K, O> {
    pub(crate) fn of(backend: &'a mut KeyedBackend<K>, sink: &'a mut TwoInputSink<'_, O>) -> Self {
        let TwoInputSink { results, output, timestamp } = sink;
        Self { backend, results, output, timestamp: *timestamp }
    }
}

impl<K: Key, O: Send + 'static> Context<'_, K, O> {
    /// Emits a result. It has the event time of the record at hand, if that has one.
    #[inline]
    pub fn emit(&mut self, result: O) {
        self.results.push(result);
    }

    /// Emits a record to a side output, with the event time of the record at hand if that has one;
    /// dropped if nobody reads it.
    ///
    /// # Errors
    /// The tag's name is used with another record type.
    pub fn emit_to<S: Send + 'static>(&mut self, tag: &OutputTag<S>, record: S) -> Result<()> {
        self.output.emit_side(tag, record, self.timestamp)
    }

    /// The key of the record at hand.
    #[must_use]
    pub fn key(&self) -> &K {
        self.backend.key()
    }

    /// The event time of the record at hand in milliseconds since 1970, if the records of its
    /// stream have event times; see [`Source::has_timestamps`](crate::Source::has_timestamps).
    #[must_use]
    pub const fn timestamp(&self) -> Option<i64> {
        self.timestamp
    }
}

impl<K: Key, O> KeyedContext for Context<'_, K, O> {
    type Key = K;

    fn backend(&mut self) -> &mut KeyedBackend<K> {
        self.backend
    }
}

/// A function on a keyed stream, with state. One instance per subtask serves all its keys; what
/// belongs to a key lives in state handles.
///
/// ```
/// # use millstream::{prelude::*, testing::run_on};
/// /// The word and how often it came, each time that it comes.
/// struct Count {
///     seen: ValueState<u64>,
/// }
///
/// impl KeyedProcess<String, String> for Count {
///     type Out = (String, u64);
///
///     fn process(
///         &mut self,
///         word: String,
///         ctx: &mut Context<'_, String, (String, u64)>,
///     ) -> Result<()> {
///         let seen = self.seen.get_or_insert_with(ctx, || 0)?;
///         *seen += 1;
///         let result = (word, *seen);
///         ctx.emit(result);
///         Ok(())
///     }
/// }
///
/// let counts = run_on(["to", "be", "to"].map(str::to_owned), |words| {
///     words
///         .key_by_ref(|word| word)
///         .process("count", |states| Ok(Count { seen: states.value("seen")? }))
/// });
/// assert_eq!(counts.unwrap().last(), Some(&("to".to_owned(), 2)));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not process records of type `{I}` with keys of type `{K}`",
    note = "implement `KeyedProcess<{K}, {I}>` for it"
)]
pub trait KeyedProcess<K: Key, I>: Send {
    /// What it emits.
    type Out: Send + 'static;

    /// Processes one record.
    ///
    /// # Errors
    /// The record is refused; see [`OnError`](crate::OnError).
    fn process(&mut self, record: I, ctx: &mut Context<'_, K, Self::Out>) -> Result<()>;
}

/// Runs a [`KeyedProcess`].
pub(crate) struct ProcessStage<I, S: KeySelector<I>, P: KeyedProcess<S::Key, I>> {
    pub(crate) selector: S,
    pub(crate) process: P,
    pub(crate) backend: KeyedBackend<S::Key>,
    pub(crate) bad: BadRecords<I>,
    pub(crate) output: Output<P::Out>,
    pub(crate) records: Records<I>,
    pub(crate) results: Results<P::Out>,
}

impl<I, S, P> ProcessStage<I, S, P>
where
    I: Send + 'static,
    S: KeySelector<I>,
    P: KeyedProcess<S::Key, I>,
{
    fn advance(&mut self) -> Result<Option<Flow>> {
        let capacity = batch_capacity::<P::Out>();
        while self.results.len() < capacity {
            let Some((record, timestamp)) = self.records.next() else { break };
            let key = self.selector.owned(&record);
            let hash = key.stable_hash();
            self.backend.set_key(key, hash);
            let kept = self.bad.keep(&record);
            let before = self.results.len();
            if self.bad.goes_on() {
                self.output.mark_sides();
            }
            let mut ctx = Context {
                backend: &mut self.backend,
                results: &mut self.results.records,
                output: &mut self.output,
                timestamp,
            };
            if let Err(error) = self.process.process(record, &mut ctx) {
                self.results.truncate(before);
                self.output.take_back_sides();
                self.backend.take_back();
                self.bad.refuse(error, kept, timestamp, &mut self.output)?;
            }
            self.results.stamp(timestamp)?;
        }
        if self.results.is_empty() && self.records.len() == 0 {
            return self.output.flush_sides().map(|flow| (flow == Flow::Full).then_some(flow));
        }
        self.output.push_all(&mut self.results).map(Some)
    }
}

impl<I, S, P> Stage<I> for ProcessStage<I, S, P>
where
    I: Send + 'static,
    S: KeySelector<I>,
    P: KeyedProcess<S::Key, I>,
{
    fn open(&mut self) -> Result<()> {
        self.output.open()
    }

    fn push(&mut self, batch: Batch<I>) -> Result<Flow> {
        self.records = batch.into_iter();
        continue_while(Flow::Ready, || self.advance())
    }

    fn event(&mut self, event: Event) -> Result<Flow> {
        self.output.event(event)
    }

    fn resume(&mut self) -> Result<Flow> {
        let flow = self.output.resume()?;
        continue_while(flow, || self.advance())
    }

    fn tick(&mut self, now: Instant) -> Result<Option<Instant>> {
        self.output.tick(now)
    }
}
