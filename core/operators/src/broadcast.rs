//! Operators of a stream that is connected with a broadcast stream: both share maps of which each
//! subtask has a copy. The functions for broadcast records change them, all others read them.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use millstream_network::Data;
use millstream_state::{
    BroadcastBackend, BroadcastMaps, BroadcastState, KeySelector, StateError, Timer,
};
use millstream_task_checkpoint::TaskCheckpoints;
use millstream_types::{Key, OperatorId, State};

use crate::Result;
use crate::collector::Collector;
use crate::connected::{TwoInputFunction, two_inputs};
use crate::duties::TimedFunction;
use crate::keyed::{
    Context, KeyedParts, KeyedTimed, all_declared, is_declared, made, take_restored,
    without_on_timer,
};
use crate::on_error::OnError;
use crate::program::TwoInputMaker;
use crate::runtime_context::{KeyedRuntimeContext, RuntimeContext};

/// A function on a keyed stream that is connected with a broadcast stream.
///
/// It keeps [`BroadcastState`]s beside the states of keys: maps of which each subtask has a copy.
/// [`KeyedBroadcastProcess::process_broadcast`] changes them and has no key; all other methods
/// read them.
///
/// Each subtask sees every broadcast record, those of one upstream subtask in their order. There is
/// no order between the two inputs, nor between upstream subtasks, in any runtime mode: a record
/// may come before the rule that it needs, and so waits here in the state of its key. Two rules
/// that come from different subtasks must have the same effect in either order, else the subtasks'
/// copies differ.
///
/// ```
/// # use millstream::{prelude::*, testing::run_on};
/// /// Multiplies each amount by the rate of its currency, as soon as that is known.
/// struct Convert {
///     rates: BroadcastState<String, u64>,
///     waiting: ListState<u64>,
/// }
///
/// impl KeyedBroadcastProcess<String, (String, u64), (String, u64)> for Convert {
///     type Out = u64;
///
///     fn process(
///         &mut self,
///         (currency, amount): (String, u64),
///         ctx: &mut Context<'_, String>,
///         maps: &BroadcastMaps,
///         out: &mut Collector<'_, u64>,
///     ) -> Result<()> {
///         let Some(rate) = self.rates.get(maps, &currency)? else {
///             return Ok(self.waiting.add(ctx, amount)?);
///         };
///         for amount in self.waiting.take(ctx)?.into_iter().chain([amount]) {
///             out.emit(amount * rate);
///         }
///         Ok(())
///     }
///
///     fn process_broadcast(
///         &mut self,
///         (currency, rate): (String, u64),
///         maps: &mut BroadcastMaps,
///         _: &mut Collector<'_, u64>,
///     ) -> Result<()> {
///         Ok(self.rates.put(maps, currency, rate)?)
///     }
///
///     /// Converts what still waits when both inputs have ended.
///     fn finish_key(
///         &mut self,
///         ctx: &mut Context<'_, String>,
///         maps: &BroadcastMaps,
///         out: &mut Collector<'_, u64>,
///     ) -> Result<()> {
///         if let Some(rate) = self.rates.get(maps, ctx.key())? {
///             self.waiting.take(ctx)?.into_iter().for_each(|amount| out.emit(amount * rate));
///         }
///         Ok(())
///     }
/// }
///
/// let amounts = [("usd", 5), ("eur", 1), ("usd", 7)].map(|(c, n)| (c.to_owned(), n));
/// let mut converted = run_on(amounts, |amounts| {
///     let rates = amounts.clone().map(|(currency, _)| Ok((currency, 10)));
///     amounts
///         .key_by_ref(|(currency, _)| currency)
///         .connect_broadcast(rates)
///         .process("convert", |states| {
///             Ok(Convert { rates: states.broadcast("rates")?, waiting: states.list("waiting")? })
///         })
/// })?;
/// converted.sort();
/// assert_eq!(converted, [10, 50, 70]);
/// # Ok::<(), millstream::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not process records of type `{I}` with keys of type `{K}` and \
               broadcast records of type `{B}`",
    note = "implement `KeyedBroadcastProcess<{K}, {I}, {B}>` for it"
)]
pub trait KeyedBroadcastProcess<K: Key, I, B>: Send {
    /// The type of its results.
    type Out: Data;

    /// Processes a record of the keyed stream.
    ///
    /// # Errors
    /// The record is refused; see [`OnError`].
    fn process(
        &mut self,
        record: I,
        ctx: &mut Context<'_, K>,
        maps: &BroadcastMaps,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()>;

    /// Processes a broadcast record; every subtask does. What it emits, each subtask emits.
    ///
    /// # Errors
    /// The record is refused; see [`OnError`]. Every subtask must decide alike: a rule that some
    /// refuse and others take makes their copies differ.
    fn process_broadcast(
        &mut self,
        record: B,
        maps: &mut BroadcastMaps,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()>;

    /// Called when a timer is due, with its key as the current one. The watermark is that of both
    /// streams. See [timers](crate::KeyedProcess#timers).
    ///
    /// # Errors
    /// The task fails, whatever [`OnError`] says: there is no record to refuse.
    fn on_timer(
        &mut self,
        timer: Timer,
        ctx: &mut Context<'_, K>,
        maps: &BroadcastMaps,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        let _ = (ctx, maps, out);
        Err(without_on_timer(timer))
    }

    /// Called once for every key that has state when both inputs have ended, in no order; never
    /// for input without end. See [`KeyedProcess::finish_key`](crate::KeyedProcess::finish_key).
    ///
    /// # Errors
    /// The task fails, whatever [`OnError`] says: there is no record to refuse.
    fn finish_key(
        &mut self,
        ctx: &mut Context<'_, K>,
        maps: &BroadcastMaps,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()> {
        let _ = (ctx, maps, out);
        Ok(())
    }
}

/// A function on a stream without a key that is connected with a broadcast stream. There is no
/// order between the two; see [`KeyedBroadcastProcess`].
///
/// ```
/// # use millstream::{prelude::*, testing};
/// # let env = &mut testing::environment();
/// /// Lets numbers through that are not forbidden.
/// struct Allowed(BroadcastState<u64, ()>);
///
/// impl BroadcastProcess<u64, u64> for Allowed {
///     type Out = u64;
///
///     fn process(
///         &mut self,
///         n: u64,
///         maps: &BroadcastMaps,
///         out: &mut Collector<'_, u64>,
///     ) -> Result<()> {
///         if !self.0.contains(maps, &n)? {
///             out.emit(n);
///         }
///         Ok(())
///     }
///
///     fn process_broadcast(
///         &mut self,
///         n: u64,
///         maps: &mut BroadcastMaps,
///         _: &mut Collector<'_, u64>,
///     ) -> Result<()> {
///         Ok(self.0.put(maps, n, ())?)
///     }
/// }
///
/// let numbers = env.source("numbers", Datagen::sequence(0..5));
/// let forbidden = env.source("forbidden", Datagen::sequence(2..4));
/// let allowed = CollectSink::new();
/// numbers
///     .connect_broadcast(forbidden)
///     .process("allowed", |states| Ok(Allowed(states.broadcast("forbidden")?)))
///     .sink("results", allowed.clone());
/// env.execute("allowed")?;
/// // 2 and 3 may have come before they were forbidden.
/// let allowed = allowed.take();
/// assert!([0, 1, 4].iter().all(|n| allowed.contains(n)));
/// # Ok::<(), millstream::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not process records of type `{I}` and broadcast records of type `{B}`",
    note = "implement `BroadcastProcess<{I}, {B}>` for it"
)]
pub trait BroadcastProcess<I, B>: Send {
    /// The type of its results.
    type Out: Data;

    /// Processes a record of the stream that is not broadcast.
    ///
    /// # Errors
    /// The record is refused; see [`OnError`].
    fn process(
        &mut self,
        record: I,
        maps: &BroadcastMaps,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()>;

    /// As [`KeyedBroadcastProcess::process_broadcast`].
    ///
    /// # Errors
    /// As there.
    fn process_broadcast(
        &mut self,
        record: B,
        maps: &mut BroadcastMaps,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()>;

    /// Called once, when both inputs have ended; never for input without end.
    ///
    /// # Errors
    /// The task fails, whatever [`OnError`] says: there is no record to refuse.
    fn finish(&mut self, maps: &BroadcastMaps, out: &mut Collector<'_, Self::Out>) -> Result<()> {
        let _ = (maps, out);
        Ok(())
    }
}

/// The context in which a function with broadcast state is made: that of its stream,
/// [`RuntimeContext`] or [`KeyedRuntimeContext`], and the declaration of broadcast states. See
/// [`KeyedBroadcastProcess`] for an example.
pub struct BroadcastRuntimeContext<'a, C> {
    stream: C,
    backend: &'a mut BroadcastBackend,
}

impl<C> BroadcastRuntimeContext<'_, C> {
    /// Declares a map of which each subtask has a copy.
    ///
    /// # Errors
    /// [`StateError::Duplicate`]: another broadcast state has the name.
    pub fn broadcast<M, V>(
        &mut self,
        name: &'static str,
    ) -> Result<BroadcastState<M, V>, StateError>
    where
        M: State + Ord + Clone,
        V: State,
    {
        self.backend.declare(name)
    }
}

impl<C> Deref for BroadcastRuntimeContext<'_, C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.stream
    }
}

impl<C> DerefMut for BroadcastRuntimeContext<'_, C> {
    fn deref_mut(&mut self) -> &mut C {
        &mut self.stream
    }
}

/// A keyed function with its states and how to find the keys.
struct Keyed<I, B, P, S, K> {
    process: P,
    selector: S,
    parts: KeyedParts<K>,
    broadcast: BroadcastBackend,
    records: PhantomData<fn(I, B)>,
}

impl<I, B, P, S, K> TwoInputFunction<I, B> for Keyed<I, B, P, S, K>
where
    K: Key,
    S: KeySelector<I, Key = K>,
    P: KeyedBroadcastProcess<K, I, B>,
{
    fn left(&mut self, record: I, out: &mut Collector<'_, P::Out>) -> Result<()> {
        let parts = &mut self.parts;
        let hash = parts.upcoming.next(&record, &self.selector, &parts.backend);
        self.selector.make_current(&record, hash, &mut parts.backend)?;
        let mut ctx = parts.context(out.timestamp);
        self.process.process(record, &mut ctx, self.broadcast.maps(), out)
    }

    fn right(&mut self, record: B, out: &mut Collector<'_, P::Out>) -> Result<()> {
        self.broadcast.begin();
        self.process.process_broadcast(record, self.broadcast.maps_mut(), out)
    }

    fn prepare_left(&mut self, records: &[I]) -> Result<()> {
        self.parts.begin(records, &self.selector)
    }

    fn keep_undo(&mut self) {
        self.parts.backend.keep_undo();
        self.broadcast.keep_undo();
    }

    fn take_back_left(&mut self) -> Result<()> {
        Ok(self.parts.backend.take_back()?)
    }

    fn take_back_right(&mut self) -> Result<()> {
        Ok(self.broadcast.take_back()?)
    }
}

impl<I, B, P, S, K> KeyedTimed for Keyed<I, B, P, S, K>
where
    K: Key,
    S: Send,
    P: KeyedBroadcastProcess<K, I, B>,
{
    type Key = K;
    type Out = P::Out;

    fn parts(&self) -> &KeyedParts<K> {
        &self.parts
    }

    fn parts_mut(&mut self) -> &mut KeyedParts<K> {
        &mut self.parts
    }

    fn call_timer(&mut self, timer: Timer, out: &mut Collector<'_, P::Out>) -> Result<()> {
        let mut ctx = self.parts.context(out.timestamp);
        self.process.on_timer(timer, &mut ctx, self.broadcast.maps(), out)
    }

    fn finish_key(&mut self, out: &mut Collector<'_, P::Out>) -> Result<()> {
        let mut ctx = self.parts.context(out.timestamp);
        self.process.finish_key(&mut ctx, self.broadcast.maps(), out)
    }

    fn add_lists(&self) {
        self.parts.add_lists(&self.broadcast);
    }
}

/// A function without a key, with its broadcast states.
struct Plain<I, B, P> {
    process: P,
    broadcast: BroadcastBackend,
    finished: bool,
    operator: OperatorId,
    checkpoints: Option<Arc<TaskCheckpoints>>,
    records: PhantomData<fn(I, B)>,
}

impl<I, B, P: BroadcastProcess<I, B>> TwoInputFunction<I, B> for Plain<I, B, P> {
    fn left(&mut self, record: I, out: &mut Collector<'_, P::Out>) -> Result<()> {
        self.process.process(record, self.broadcast.maps(), out)
    }

    fn right(&mut self, record: B, out: &mut Collector<'_, P::Out>) -> Result<()> {
        self.broadcast.begin();
        self.process.process_broadcast(record, self.broadcast.maps_mut(), out)
    }

    fn keep_undo(&mut self) {
        self.broadcast.keep_undo();
    }

    fn take_back_right(&mut self) -> Result<()> {
        Ok(self.broadcast.take_back()?)
    }
}

impl<I, B, P: BroadcastProcess<I, B>> TimedFunction for Plain<I, B, P> {
    type Out = P::Out;

    fn on_barrier(&mut self) {
        if let Some(checkpoints) = &self.checkpoints {
            checkpoints.add_lists(self.operator, self.broadcast.snapshot());
        }
    }

    fn finish_next(&mut self, out: &mut Collector<'_, P::Out>) -> Result<bool> {
        if std::mem::replace(&mut self.finished, true) {
            return Ok(false);
        }
        self.process.finish(self.broadcast.maps(), out)?;
        Ok(true)
    }
}

/// The operator that runs a function on a keyed stream and a broadcast one, in this order.
pub fn keyed_broadcast_process<I, B, S, P>(
    on_error: (OnError<I>, OnError<B>),
    selector: S,
    make: impl Fn(&mut BroadcastRuntimeContext<'_, KeyedRuntimeContext<'_, S::Key>>) -> Result<P>
    + Send
    + Sync
    + 'static,
) -> TwoInputMaker
where
    I: Data,
    B: Data,
    S: KeySelector<I> + Sync,
    P: KeyedBroadcastProcess<S::Key, I, B> + 'static,
{
    two_inputs(on_error, move |ctx, timed| {
        let (mut parts, lists) = KeyedParts::with_lists(ctx)?;
        let mut broadcast = BroadcastBackend::restored(lists);
        let stream = KeyedRuntimeContext::new(ctx.task, &mut parts.backend, timed);
        let process = make(&mut BroadcastRuntimeContext { stream, backend: &mut broadcast });
        let process = made(process, ctx)?;
        all_declared(&parts.backend, ctx)?;
        is_declared(broadcast.not_declared(), ctx)?;
        let (selector, records) = (selector.clone(), PhantomData);
        Ok(Keyed { process, selector, parts, broadcast, records })
    })
}

/// The operator that runs a function on a stream without a key and a broadcast one, in this order.
pub fn broadcast_process<I, B, P>(
    on_error: (OnError<I>, OnError<B>),
    make: impl Fn(&mut BroadcastRuntimeContext<'_, RuntimeContext<'_>>) -> Result<P>
    + Send
    + Sync
    + 'static,
) -> TwoInputMaker
where
    I: Data,
    B: Data,
    P: BroadcastProcess<I, B> + 'static,
{
    two_inputs(on_error, move |ctx, _| {
        let mut broadcast = BroadcastBackend::restored(take_restored(ctx).lists);
        let stream = RuntimeContext::new(ctx.task);
        let process = make(&mut BroadcastRuntimeContext { stream, backend: &mut broadcast });
        let process = made(process, ctx)?;
        is_declared(broadcast.not_declared(), ctx)?;
        let (operator, checkpoints) = (ctx.operator, ctx.task.checkpoints.clone());
        let (finished, records) = (false, PhantomData);
        Ok(Plain { process, broadcast, finished, operator, checkpoints, records })
    })
}
