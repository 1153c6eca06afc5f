//! The operator `process` of keyed streams.

use std::sync::Arc;
use std::vec::IntoIter;

use millstream_network::Data;
use millstream_state::{KeyedBackend, KeyedContext};
use millstream_types::Key;

use crate::Result;
use crate::ahead::Upcoming;
use crate::collector::Collector;
use crate::key::KeySelector;
use crate::on_error::{BadRecords, OnError};
use crate::output::Output;
use crate::process::{ProcessStage, RecordFunction};
use crate::program::StageMaker;
use crate::runtime_context::KeyedRuntimeContext;
use crate::stage::erase;
use crate::task::groups;

/// The record at hand of a keyed function: its key, the key's state, its event time.
///
/// ```
/// # use millstream::{prelude::*, testing::run_on};
/// struct Describe;
///
/// impl KeyedProcess<bool, u32> for Describe {
///     type Out = String;
///
///     fn process(
///         &mut self,
///         n: u32,
///         ctx: &mut Context<'_, bool>,
///         out: &mut Collector<'_, String>,
///     ) -> Result<()> {
///         let parity = if *ctx.key() { "even" } else { "odd" };
///         let time = ctx.timestamp().map_or(String::new(), |time| format!(" at {time}"));
///         out.emit(format!("{n} is {parity}{time}"));
///         Ok(())
///     }
/// }
///
/// let described =
///     run_on([1, 2], |numbers| numbers.key_by(|n| n % 2 == 0).process("say", |_| Ok(Describe)));
/// assert_eq!(described.unwrap(), ["1 is odd", "2 is even"]);
/// ```
pub struct Context<'a, K> {
    pub(crate) backend: &'a mut KeyedBackend<K>,
    pub(crate) timestamp: Option<i64>,
}

impl<K: Key> Context<'_, K> {
    /// The key of the record at hand.
    #[must_use]
    pub fn key(&self) -> &K {
        self.backend.key()
    }

    /// The event time of the record at hand in milliseconds since 1970, if the records of its
    /// stream have event times; see
    /// [`Source::has_timestamps`](millstream_connector::Source::has_timestamps).
    #[must_use]
    pub const fn timestamp(&self) -> Option<i64> {
        self.timestamp
    }
}

impl<K: Key> KeyedContext for Context<'_, K> {
    type Key = K;

    #[inline]
    fn backend(&self) -> &KeyedBackend<K> {
        self.backend
    }

    #[inline]
    fn backend_mut(&mut self) -> &mut KeyedBackend<K> {
        self.backend
    }
}

/// The keys with state of an operator, at the end of its input.
pub(crate) struct KeysAtEnd<K> {
    group: usize,
    keys: IntoIter<K>,
}

impl<K: Key> KeysAtEnd<K> {
    pub(crate) fn new() -> Self {
        Self { group: 0, keys: Vec::new().into_iter() }
    }

    /// Makes the next key the current one; `false` if there is none.
    pub(crate) fn advance(&mut self, backend: &mut KeyedBackend<K>) -> Result<bool> {
        loop {
            if let Some(key) = self.keys.next() {
                let hash = key.stable_hash();
                backend.set_key(key, hash)?;
                return Ok(true);
            }
            let Some(keys) = backend.keys_of_group(self.group)? else { return Ok(false) };
            self.group += 1;
            self.keys = keys.into_iter();
        }
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
///         ctx: &mut Context<'_, String>,
///         out: &mut Collector<'_, (String, u64)>,
///     ) -> Result<()> {
///         let seen = self.seen.get_or_insert_with(ctx, || 0)?;
///         *seen += 1;
///         out.emit((word, *seen));
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
///
/// # The end of bounded input
///
/// [`KeyedProcess::finish_key`] sees every key that has state once more, when all records are
/// processed:
///
/// ```
/// # use millstream::{prelude::*, testing::run_on};
/// /// The largest number of each key.
/// struct Largest(ValueState<u32>);
///
/// impl KeyedProcess<bool, u32> for Largest {
///     type Out = u32;
///
///     fn process(
///         &mut self,
///         n: u32,
///         ctx: &mut Context<'_, bool>,
///         _: &mut Collector<'_, u32>,
///     ) -> Result<()> {
///         let largest = self.0.get_or_insert_with(ctx, || n)?;
///         *largest = n.max(*largest);
///         Ok(())
///     }
///
///     fn finish_key(
///         &mut self,
///         ctx: &mut Context<'_, bool>,
///         out: &mut Collector<'_, u32>,
///     ) -> Result<()> {
///         out.emit(self.0.get(ctx)?.copied().context("a key without a number")?);
///         Ok(())
///     }
/// }
///
/// let mut largest = run_on([1, 4, 3], |numbers| {
///     numbers
///         .key_by(|n| n % 2 == 0)
///         .process("largest", |states| Ok(Largest(states.value("largest")?)))
/// })
/// .unwrap();
/// largest.sort();
/// assert_eq!(largest, [3, 4]);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not process records of type `{I}` with keys of type `{K}`",
    note = "implement `KeyedProcess<{K}, {I}>` for it"
)]
pub trait KeyedProcess<K: Key, I>: Send {
    /// The type of its results.
    type Out: Data;

    /// Processes one record.
    ///
    /// # Errors
    /// The record is refused; see [`OnError`](crate::OnError).
    fn process(
        &mut self,
        record: I,
        ctx: &mut Context<'_, K>,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()>;

    /// Called once for every key that has state when the input has ended, in no order; never for
    /// input without end. See [the end of bounded input](KeyedProcess#the-end-of-bounded-input).
    ///
    /// # Errors
    /// The task fails, whatever [`OnError`](crate::OnError) says: there is no record to refuse.
    fn finish_key(
        &mut self,
        ctx: &mut Context<'_, K>,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        let _ = (ctx, out);
        Ok(())
    }
}

/// The operator that runs a function with state on the records of each key.
pub fn keyed_process<I, S, P>(
    on_error: OnError<I>,
    selector: S,
    make: impl Fn(&mut KeyedRuntimeContext<'_, S::Key>) -> Result<P> + Send + Sync + 'static,
) -> StageMaker
where
    I: Send + 'static,
    S: KeySelector<I> + Sync,
    P: KeyedProcess<S::Key, I> + 'static,
{
    Arc::new(move |ctx, outputs| {
        let bad = BadRecords::of(&on_error, ctx);
        let mut backend = KeyedBackend::new(groups(ctx.task), ctx.task.max_parallelism);
        let process = make(&mut KeyedRuntimeContext::new(ctx.task, &mut backend))?;
        if bad.goes_on() {
            backend.keep_undo();
        }
        let (selector, keys) = (selector.clone(), KeysAtEnd::new());
        let upcoming = Upcoming::default();
        let function = KeyedFunction { selector, process, backend, upcoming, keys };
        Ok(erase::<I>(Box::new(ProcessStage::new(function, bad, Output::new(outputs)?))))
    })
}

/// A keyed function with its state and how to find the keys.
pub(crate) struct KeyedFunction<S, P, K> {
    pub(crate) selector: S,
    pub(crate) process: P,
    pub(crate) backend: KeyedBackend<K>,
    pub(crate) upcoming: Upcoming,
    pub(crate) keys: KeysAtEnd<K>,
}

impl<I, S, P> RecordFunction<I> for KeyedFunction<S, P, S::Key>
where
    S: KeySelector<I>,
    P: KeyedProcess<S::Key, I>,
{
    type Out = P::Out;

    fn prepare(&mut self, records: &[I]) -> Result<()> {
        self.upcoming.begin(records, &self.selector, &mut self.backend)
    }

    fn process(&mut self, record: I, out: &mut Collector<'_, P::Out>) -> Result<()> {
        let hash = self.upcoming.next(&record, &self.selector, &self.backend);
        self.selector.make_current(&record, hash, &mut self.backend)?;
        let mut ctx = Context { backend: &mut self.backend, timestamp: out.timestamp };
        self.process.process(record, &mut ctx, out)
    }

    fn take_back(&mut self) -> Result<()> {
        Ok(self.backend.take_back()?)
    }

    fn finish_next(&mut self, out: &mut Collector<'_, P::Out>) -> Result<bool> {
        if !self.keys.advance(&mut self.backend)? {
            return Ok(false);
        }
        let mut ctx = Context { backend: &mut self.backend, timestamp: out.timestamp };
        self.process.finish_key(&mut ctx, out)?;
        Ok(true)
    }
}
