//! The operator `process` of keyed streams.

use std::marker::PhantomData;
use std::sync::Arc;
use std::vec::IntoIter;

use millstream_network::Data;
use millstream_state::{
    BroadcastBackend, KeySelector, KeyedBackend, KeyedContext, RestoredLists, StateError,
    TimeDomain, Timer,
};
use millstream_task_checkpoint::{RestoredOperator, Slice, TaskCheckpoints};
use millstream_types::{Clock, Key, OperatorId, Timestamp};

use crate::ahead::Upcoming;
use crate::collector::Collector;
use crate::duties::TimedFunction;
use crate::on_error::{BadRecords, OnError};
use crate::output::Output;
use crate::process::{ProcessStage, RecordFunction};
use crate::program::StageMaker;
use crate::runtime_context::KeyedRuntimeContext;
use crate::stage::erase;
use crate::task::{OperatorContext, groups};
use crate::{Error, Result, error};

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
    backend: &'a mut KeyedBackend<K>,
    timestamp: Option<i64>,
    watermark: Timestamp,
    clock: &'a Clock,
}

impl<K: Key> Context<'_, K> {
    /// The key of the record at hand.
    #[must_use]
    pub fn key(&self) -> &K {
        self.backend.key()
    }

    /// The event time of the record or timer at hand in milliseconds since 1970, if the records of
    /// the stream have event times; see
    /// [`Source::has_timestamps`](millstream_connector::Source::has_timestamps).
    #[must_use]
    pub const fn timestamp(&self) -> Option<i64> {
        self.timestamp
    }

    /// The watermark in milliseconds since 1970: no record at or before it will follow that is not
    /// late. `None` before the first one, and `i64::MAX` when the input has ended.
    #[must_use]
    pub fn current_watermark(&self) -> Option<i64> {
        (self.watermark > Timestamp::MIN).then_some(self.watermark.as_millis())
    }

    /// The machine's wall clock in milliseconds since 1970.
    #[must_use]
    pub fn processing_time(&self) -> i64 {
        self.clock.wall().as_millis()
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

/// The states and timers of a keyed function, and where time stands.
pub(crate) struct KeyedParts<K> {
    pub(crate) backend: KeyedBackend<K>,
    pub(crate) upcoming: Upcoming,
    watermark: Timestamp,
    clock: Clock,
    /// The number of the key group whose keys are finished next.
    group: usize,
    /// The keys to finish of the group before it.
    keys: IntoIter<K>,
    operator: OperatorId,
    checkpoints: Option<Arc<TaskCheckpoints>>,
}

impl<K: Key> KeyedParts<K> {
    /// States and timers that are not declared yet. What is restored is given to them then.
    pub(crate) fn new(ctx: &OperatorContext<'_>) -> Result<Self> {
        Self::with_lists(ctx).map(|(parts, _)| parts)
    }

    /// As [`Self::new`], with the states without keys that are restored.
    pub(crate) fn with_lists(ctx: &OperatorContext<'_>) -> Result<(Self, RestoredLists)> {
        let mut backend = KeyedBackend::new(groups(ctx.task), ctx.task.max_parallelism);
        backend.set_clock(ctx.task.clock.clone());
        let mut lists = restore(&mut backend, ctx)?;
        let parts = Self {
            backend,
            upcoming: Upcoming::default(),
            watermark: lists.take_watermark().map_err(|error| not_restored(error, ctx))?,
            clock: ctx.task.clock.clone(),
            group: 0,
            keys: Vec::new().into_iter(),
            operator: ctx.operator,
            checkpoints: ctx.task.checkpoints.clone(),
        };
        Ok((parts, lists))
    }

    /// Adds states without keys to the snapshot of the barrier that passes.
    pub(crate) fn add_lists(&self, lists: &BroadcastBackend) {
        if let Some(checkpoints) = &self.checkpoints {
            checkpoints.add_lists(self.operator, lists.snapshot());
        }
    }

    /// Adds the states and timers to the snapshot of the barrier that passes.
    fn add_snapshot(&mut self) {
        if let Some(checkpoints) = &self.checkpoints {
            checkpoints.begin_keyed(self.operator, &mut self.backend);
            checkpoints.add_watermark(self.operator, self.watermark);
        }
    }

    /// Begins with the records of a batch.
    pub(crate) fn begin<T, S>(&mut self, records: &[T], selector: &S) -> Result<()>
    where
        S: KeySelector<T, Key = K>,
    {
        self.backend.clean(records.len())?;
        self.upcoming.begin(records, selector, &mut self.backend)
    }

    pub(crate) const fn context(&mut self, timestamp: Option<i64>) -> Context<'_, K> {
        let (backend, clock) = (&mut self.backend, &self.clock);
        Context { backend, timestamp, watermark: self.watermark, clock }
    }

    /// Makes the next key with state the current one; `false` if there is none.
    fn next_key(&mut self) -> Result<bool> {
        loop {
            if let Some(key) = self.keys.next() {
                let hash = key.stable_hash();
                self.backend.set_key(key, hash)?;
                return Ok(true);
            }
            let Some(keys) = self.backend.keys_of_group(self.group)? else { return Ok(false) };
            self.group += 1;
            self.keys = keys.into_iter();
        }
    }
}

/// The part of the restored checkpoint from which an operator begins; empty if there is none.
pub(crate) fn take_restored(ctx: &OperatorContext<'_>) -> RestoredOperator {
    let checkpoints = ctx.task.checkpoints.as_ref();
    let restored = checkpoints.and_then(|checkpoints| checkpoints.take_restored(ctx.operator));
    restored.unwrap_or_default()
}

/// The error of an operator that cannot begin from the checkpoint.
#[cold]
pub(crate) fn not_restored(error: StateError, ctx: &OperatorContext<'_>) -> Error {
    Error::from(error).context(format!("operator {:?} cannot be restored", ctx.name))
}

/// The function of an operator, or why it cannot declare its states; if that is because of the
/// checkpoint, the operator is named.
pub(crate) fn made<P>(process: Result<P>, ctx: &OperatorContext<'_>) -> Result<P> {
    process.map_err(|error| match error.downcast_ref() {
        Some(StateError::Incompatible { .. }) => {
            error.context(format!("operator {:?} cannot be restored", ctx.name))
        }
        Some(_) | None => error,
    })
}

/// Has states and timers begin with what a checkpoint has of them, when they are declared; the
/// states without keys.
pub(crate) fn restore<K: Key>(
    backend: &mut KeyedBackend<K>,
    ctx: &OperatorContext<'_>,
) -> Result<RestoredLists> {
    let RestoredOperator { keyed, lists, .. } = take_restored(ctx);
    backend.restore(keyed).map_err(|error| not_restored(error, ctx))?;
    Ok(lists)
}

/// Checks that every state of the checkpoint was declared.
pub(crate) fn all_declared<K: Key>(
    backend: &KeyedBackend<K>,
    ctx: &OperatorContext<'_>,
) -> Result<()> {
    is_declared(backend.not_declared().into_iter().next(), ctx)
}

/// Refuses a state of the checkpoint that was not declared.
pub(crate) fn is_declared(state: Option<&str>, ctx: &OperatorContext<'_>) -> Result<()> {
    match state {
        None => Ok(()),
        Some(state) => Err(error!(
            "the checkpoint has a state {state:?} of operator {:?}, and the program declares none \
             of this name: declare it, or give the operator another uid",
            ctx.name
        )),
    }
}

/// A function with states and timers, as time calls it.
pub(crate) trait KeyedTimed: Send {
    type Key: Key;
    type Out: Data;

    fn parts(&self) -> &KeyedParts<Self::Key>;

    fn parts_mut(&mut self) -> &mut KeyedParts<Self::Key>;

    /// As [`TimedFunction::times`].
    #[inline]
    fn times(&self) -> Option<&[i64]> {
        None
    }

    fn call_timer(&mut self, timer: Timer, out: &mut Collector<'_, Self::Out>) -> Result<()>;

    /// Finishes the current key.
    fn finish_key(&mut self, out: &mut Collector<'_, Self::Out>) -> Result<()>;

    /// Adds states without keys to the snapshot of the barrier that passes.
    fn add_lists(&self) {}
}

impl<F: KeyedTimed> TimedFunction for F {
    type Out = F::Out;

    fn watermark(&self) -> Timestamp {
        self.parts().watermark
    }

    fn on_watermark(&mut self, watermark: Timestamp) {
        self.parts_mut().watermark = watermark;
    }

    fn next_timer(&self, domain: TimeDomain) -> Option<i64> {
        self.parts().backend.next_timer(domain)
    }

    fn take_timer(&mut self, domain: TimeDomain, until: i64) -> Result<Option<Timer>> {
        Ok(self.parts_mut().backend.take_timer(domain, until)?)
    }

    fn close_processing_timers(&mut self) {
        self.parts_mut().backend.close_timers(TimeDomain::Processing);
    }

    fn on_barrier(&mut self) {
        self.parts_mut().add_snapshot();
        self.add_lists();
    }

    fn slice(&mut self, slice: &mut Slice<'_>) {
        let KeyedParts { operator, backend, .. } = self.parts_mut();
        slice.write(*operator, backend);
    }

    #[inline]
    fn times(&self) -> Option<&[i64]> {
        KeyedTimed::times(self)
    }

    fn on_timer(&mut self, timer: Timer, out: &mut Collector<'_, F::Out>) -> Result<()> {
        // A timer that fails fails the task.
        self.parts_mut().backend.pause_undo();
        let done = self.call_timer(timer, out);
        self.parts_mut().backend.resume_undo();
        done
    }

    fn finish_next(&mut self, out: &mut Collector<'_, F::Out>) -> Result<bool> {
        let more = self.parts_mut().next_key()?;
        if more {
            self.parts_mut().backend.pause_undo();
            let done = self.finish_key(out);
            self.parts_mut().backend.resume_undo();
            done?;
        }
        Ok(more)
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
///
/// # Timers
///
/// A function asks to be called for a key at a time. Timers of event time are due when the
/// watermark has reached them, timers of processing time when the wall clock has. They fire in
/// order of time, and what [`KeyedProcess::on_timer`] emits has the time of the timer (of event
/// time) or one that is not late (of processing time).
///
/// ```
/// # use millstream::{prelude::*, testing::run_on};
/// /// How often each user came, ten seconds after the first time.
/// struct Visits {
///     count: ValueState<u32>,
///     over: Timers,
/// }
///
/// impl KeyedProcess<u32, (u32, i64)> for Visits {
///     type Out = (u32, u32, i64);
///
///     fn process(
///         &mut self,
///         (_, time): (u32, i64),
///         ctx: &mut Context<'_, u32>,
///         _: &mut Collector<'_, Self::Out>,
///     ) -> Result<()> {
///         if self.count.get(ctx)?.is_none() {
///             self.over.set(ctx, time + 10_000)?;
///         }
///         *self.count.get_or_insert_with(ctx, || 0)? += 1;
///         Ok(())
///     }
///
///     fn on_timer(
///         &mut self,
///         timer: Timer,
///         ctx: &mut Context<'_, u32>,
///         out: &mut Collector<'_, Self::Out>,
///     ) -> Result<()> {
///         let count = self.count.get(ctx)?.copied().unwrap_or_default();
///         out.emit((*ctx.key(), count, timer.time()));
///         Ok(self.count.clear(ctx)?)
///     }
/// }
///
/// let clicks = [(1, 1_000), (2, 3_000), (1, 4_000), (3, 30_000), (1, 31_000)];
/// let visits = run_on(clicks, |clicks| {
///     let times = WatermarkStrategy::generator(|| Follow).timestamps(|(_, time)| Ok(*time));
///     clicks.assign_timestamps(times).key_by(|(user, _)| *user).process("visits", |states| {
///         Ok(Visits { count: states.value("count")?, over: states.event_timers("over")? })
///     })
/// });
/// let expected = [(1, 2, 11_000), (2, 1, 13_000), (3, 1, 40_000), (1, 1, 41_000)];
/// assert_eq!(visits.unwrap(), expected);
///
/// /// Each record says how far time has come.
/// struct Follow;
///
/// impl<T> WatermarkGenerator<T> for Follow {
///     fn on_record(&mut self, _: &T, time: i64, out: &mut WatermarkOutput) {
///         out.emit(time - 1);
///     }
/// }
/// ```
///
/// A timer that is set for a time which the watermark has passed fires at the next watermark. When
/// the input has ended, the watermark is at the end of time: every timer of event time fires, also
/// one that another sets meanwhile, and then every timer of processing time that is set, once. A
/// timer that always sets another one would then never come to an end:
/// [`Context::current_watermark`] tells. In batch mode timers fire at the end of the input alone.
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

    /// Called when a timer is due, with its key as the current one. See
    /// [timers](KeyedProcess#timers).
    ///
    /// # Errors
    /// The task fails, whatever [`OnError`](crate::OnError) says: there is no record to refuse.
    fn on_timer(
        &mut self,
        timer: Timer,
        ctx: &mut Context<'_, K>,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        let _ = (ctx, out);
        Err(without_on_timer(timer))
    }

    /// Called once for every key that has state when the input has ended and all timers have been
    /// fired, in no order; never for input without end. See
    /// [the end of bounded input](KeyedProcess#the-end-of-bounded-input).
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

/// The error of a function that sets timers and does not say what they do.
#[cold]
pub(crate) fn without_on_timer(timer: Timer) -> Error {
    let name = timer.name();
    error!("the timer {name:?} is due, but the function that set it has no on_timer()")
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
        let mut parts = KeyedParts::new(ctx)?;
        let timed = outputs.timed;
        let process = make(&mut KeyedRuntimeContext::new(ctx.task, &mut parts.backend, timed));
        let process = made(process, ctx)?;
        all_declared(&parts.backend, ctx)?;
        if bad.goes_on() {
            parts.backend.keep_undo();
        }
        let (selector, records) = (selector.clone(), PhantomData);
        let function = KeyedFunction { selector, process, parts, records };
        Ok(erase::<I>(Box::new(ProcessStage::new(ctx, function, bad, Output::new(outputs)?))))
    })
}

/// A keyed function with its state and how to find the keys.
struct KeyedFunction<I, S, P, K> {
    selector: S,
    process: P,
    parts: KeyedParts<K>,
    records: PhantomData<fn(I)>,
}

impl<I, S, P> RecordFunction<I> for KeyedFunction<I, S, P, S::Key>
where
    S: KeySelector<I>,
    P: KeyedProcess<S::Key, I>,
{
    fn prepare(&mut self, records: &[I]) -> Result<()> {
        self.parts.begin(records, &self.selector)
    }

    fn process(&mut self, record: I, out: &mut Collector<'_, P::Out>) -> Result<()> {
        let parts = &mut self.parts;
        let hash = parts.upcoming.next(&record, &self.selector, &parts.backend);
        if millstream_mutants::Mutant::DropsRecord.strikes(97) {
            return Ok(());
        }
        self.selector.make_current(&record, hash, &mut parts.backend)?;
        self.process.process(record, &mut parts.context(out.timestamp), out)
    }

    fn take_back(&mut self) -> Result<()> {
        Ok(self.parts.backend.take_back()?)
    }
}

impl<I, S, P> KeyedTimed for KeyedFunction<I, S, P, S::Key>
where
    S: KeySelector<I>,
    P: KeyedProcess<S::Key, I>,
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
        self.process.on_timer(timer, &mut self.parts.context(out.timestamp), out)
    }

    fn finish_key(&mut self, out: &mut Collector<'_, P::Out>) -> Result<()> {
        self.process.finish_key(&mut self.parts.context(out.timestamp), out)
    }
}
