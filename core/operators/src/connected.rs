//! Operators with two inputs.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Instant;

use millstream_event_time::ChannelEvents;
use millstream_network::{Batch, Data, Event, Flow, Gate, Received, Records};
use millstream_output_buffers::Results;
use millstream_state::{KeySelector, SliceBudget, Timer};
use millstream_task_checkpoint::Passage;
use millstream_types::Key;

use crate::Result;
use crate::body::{Streams, Upstream};
use crate::collector::Collector;
use crate::duties::{Duties, TimedFunction};
use crate::keyed::{Context, KeyedParts, KeyedTimed, all_declared, made, without_on_timer};
use crate::on_error::{BadRecords, OnError, continue_while};
use crate::output::Output;
use crate::program::TwoInputMaker;
use crate::runtime_context::KeyedRuntimeContext;
use crate::stage::Moment;
use crate::task::{OperatorContext, Step, TaskBody, finish_snapshot, gate};

/// The function of a two-input operator, called with a record of either side.
pub(crate) trait TwoInputFunction<A, B>: TimedFunction {
    fn left(&mut self, record: A, out: &mut Collector<'_, Self::Out>) -> Result<()>;
    fn right(&mut self, record: B, out: &mut Collector<'_, Self::Out>) -> Result<()>;

    /// Says which records of the first stream come next, so that their state can be read at once.
    fn prepare_left(&mut self, records: &[A]) -> Result<()> {
        let _ = records;
        Ok(())
    }

    /// As [`TwoInputFunction::prepare_left`].
    fn prepare_right(&mut self, records: &[B]) -> Result<()> {
        let _ = records;
        Ok(())
    }

    /// Remembers from now on the changes of each record to the state; called before the first one.
    fn keep_undo(&mut self) {}

    /// Undoes what the last record, of the first stream, changed in its state.
    fn take_back_left(&mut self) -> Result<()> {
        Ok(())
    }

    /// As [`TwoInputFunction::take_back_left`], of the second stream.
    fn take_back_right(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Two plain functions.
pub(crate) struct Pair<F, G, O> {
    left: F,
    right: G,
    results: PhantomData<fn() -> O>,
}

impl<A, B, O, F, G, X, Y> TwoInputFunction<A, B> for Pair<F, G, O>
where
    O: Data,
    X: IntoIterator<Item = O>,
    Y: IntoIterator<Item = O>,
    F: FnMut(A) -> Result<X> + Send,
    G: FnMut(B) -> Result<Y> + Send,
{
    fn left(&mut self, record: A, out: &mut Collector<'_, O>) -> Result<()> {
        out.results.extend((self.left)(record)?);
        Ok(())
    }

    fn right(&mut self, record: B, out: &mut Collector<'_, O>) -> Result<()> {
        out.results.extend((self.right)(record)?);
        Ok(())
    }
}

impl<O: Data, F: Send, G: Send> TimedFunction for Pair<F, G, O> {
    type Out = O;

    fn finish_next(&mut self, _out: &mut Collector<'_, O>) -> Result<bool> {
        Ok(false)
    }
}

/// A function on two keyed streams of one key type that share its state.
///
/// ```
/// # use millstream::{prelude::*, testing};
/// # let env = &mut testing::environment();
/// /// Joins each user's clicks with the user's name, whichever comes first.
/// struct Join {
///     name: ValueState<String>,
///     clicks: ListState<u64>,
/// }
///
/// impl KeyedCoProcess<u32, (u32, String), (u32, u64)> for Join {
///     type Out = (String, u64);
///
///     fn process_left(
///         &mut self,
///         (_, name): (u32, String),
///         ctx: &mut Context<'_, u32>,
///         out: &mut Collector<'_, Self::Out>,
///     ) -> Result<()> {
///         for click in self.clicks.take(ctx)? {
///             out.emit((name.clone(), click));
///         }
///         Ok(self.name.set(ctx, name)?)
///     }
///
///     fn process_right(
///         &mut self,
///         (_, click): (u32, u64),
///         ctx: &mut Context<'_, u32>,
///         out: &mut Collector<'_, Self::Out>,
///     ) -> Result<()> {
///         match self.name.get(ctx)? {
///             Some(name) => out.emit((name.clone(), click)),
///             None => self.clicks.add(ctx, click)?,
///         }
///         Ok(())
///     }
/// }
///
/// let name = |user: u64| (user as u32, format!("user {user}"));
/// let names = env.source("names", Datagen::from_fn(name).count(3));
/// let clicks = env.source("clicks", Datagen::from_fn(|n| ((n % 3) as u32, n)).count(9));
/// let joined = CollectSink::new();
/// names
///     .key_by(|(user, _)| *user)
///     .connect(clicks.key_by(|(user, _)| *user))
///     .process("join", |states| {
///         Ok(Join { name: states.value("name")?, clicks: states.list("clicks")? })
///     })
///     .sink("joined", joined.clone());
/// env.execute("join")?;
/// assert_eq!(joined.take().len(), 9);
/// # Ok::<(), millstream::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not process records of types `{A}` and `{B}` with keys of type `{K}`",
    note = "implement `KeyedCoProcess<{K}, {A}, {B}>` for it"
)]
pub trait KeyedCoProcess<K: Key, A, B>: Send {
    /// The type of its results.
    type Out: Data;

    /// Processes a record of the first stream.
    ///
    /// # Errors
    /// The record is refused; see [`OnError`](crate::OnError).
    fn process_left(
        &mut self,
        record: A,
        ctx: &mut Context<'_, K>,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()>;

    /// Processes a record of the second stream.
    ///
    /// # Errors
    /// The record is refused; see [`OnError`](crate::OnError).
    fn process_right(
        &mut self,
        record: B,
        ctx: &mut Context<'_, K>,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()>;

    /// Called when a timer is due, with its key as the current one. The watermark is that of both
    /// streams. See [timers](crate::KeyedProcess#timers).
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

    /// Called once for every key that has state when both inputs have ended, in no order; never
    /// for input without end. See [`KeyedProcess::finish_key`](crate::KeyedProcess::finish_key).
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

/// A keyed function with its state and how to find the keys.
struct Keyed<A, B, P, S, U, K> {
    process: P,
    left: S,
    right: U,
    parts: KeyedParts<K>,
    records: PhantomData<fn(A, B)>,
}

impl<A, B, P, S, U, K> TwoInputFunction<A, B> for Keyed<A, B, P, S, U, K>
where
    K: Key,
    S: KeySelector<A, Key = K>,
    U: KeySelector<B, Key = K>,
    P: KeyedCoProcess<K, A, B>,
{
    fn left(&mut self, record: A, out: &mut Collector<'_, P::Out>) -> Result<()> {
        let parts = &mut self.parts;
        let hash = parts.upcoming.next(&record, &self.left, &parts.backend);
        self.left.make_current(&record, hash, &mut parts.backend)?;
        self.process.process_left(record, &mut parts.context(out.timestamp), out)
    }

    fn right(&mut self, record: B, out: &mut Collector<'_, P::Out>) -> Result<()> {
        let parts = &mut self.parts;
        let hash = parts.upcoming.next(&record, &self.right, &parts.backend);
        self.right.make_current(&record, hash, &mut parts.backend)?;
        self.process.process_right(record, &mut parts.context(out.timestamp), out)
    }

    fn prepare_left(&mut self, records: &[A]) -> Result<()> {
        self.parts.begin(records, &self.left)
    }

    fn prepare_right(&mut self, records: &[B]) -> Result<()> {
        self.parts.begin(records, &self.right)
    }

    fn keep_undo(&mut self) {
        self.parts.backend.keep_undo();
    }

    fn take_back_left(&mut self) -> Result<()> {
        Ok(self.parts.backend.take_back()?)
    }

    fn take_back_right(&mut self) -> Result<()> {
        Ok(self.parts.backend.take_back()?)
    }
}

impl<A, B, P, S, U, K> KeyedTimed for Keyed<A, B, P, S, U, K>
where
    K: Key,
    S: Send,
    U: Send,
    P: KeyedCoProcess<K, A, B>,
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
        self.process.on_timer(timer, &mut self.parts.context(out.timestamp), out)
    }

    fn finish_key(&mut self, out: &mut Collector<'_, P::Out>) -> Result<()> {
        self.process.finish_key(&mut self.parts.context(out.timestamp), out)
    }
}

enum Pending<A, B> {
    Left(Records<A>),
    Right(Records<B>),
}

/// The operator that turns each record of two streams into any number of results.
pub fn co_flat_map<A, B, O, F, G, X, Y>(
    on_error: (OnError<A>, OnError<B>),
    (left, right): (F, G),
) -> TwoInputMaker
where
    A: Data,
    B: Data,
    O: Data,
    X: IntoIterator<Item = O> + 'static,
    Y: IntoIterator<Item = O> + 'static,
    F: FnMut(A) -> Result<X> + Clone + Send + Sync + 'static,
    G: FnMut(B) -> Result<Y> + Clone + Send + Sync + 'static,
{
    two_inputs(on_error, move |_, _| {
        Ok(Pair { left: left.clone(), right: right.clone(), results: PhantomData })
    })
}

/// The operator that runs a function with state on the records of two streams with one key.
pub fn co_process<A, B, S, U, P>(
    on_error: (OnError<A>, OnError<B>),
    (left, right): (S, U),
    make: impl Fn(&mut KeyedRuntimeContext<'_, S::Key>) -> Result<P> + Send + Sync + 'static,
) -> TwoInputMaker
where
    A: Data,
    B: Data,
    S: KeySelector<A> + Sync,
    U: KeySelector<B, Key = S::Key> + Sync,
    P: KeyedCoProcess<S::Key, A, B> + 'static,
{
    two_inputs(on_error, move |ctx, timed| {
        let mut parts = KeyedParts::new(ctx)?;
        let process = make(&mut KeyedRuntimeContext::new(ctx.task, &mut parts.backend, timed));
        let process = made(process, ctx)?;
        all_declared(&parts.backend, ctx)?;
        let (left, right) = (left.clone(), right.clone());
        Ok(Keyed { process, left, right, parts, records: PhantomData })
    })
}

/// The operator of two inputs whose function `make` makes in its subtask; it is told whether the
/// results have event times.
pub(crate) fn two_inputs<A: Data, B: Data, F: TwoInputFunction<A, B> + 'static>(
    on_error: (OnError<A>, OnError<B>),
    make: impl Fn(&OperatorContext<'_>, bool) -> Result<F> + Send + Sync + 'static,
) -> TwoInputMaker {
    Arc::new(move |ctx, mut inputs, outputs| {
        let left = gate::<A>(ctx.task, &mut inputs, 0)?;
        let gates = (left, gate::<B>(ctx.task, &mut inputs, 1)?);
        let streams = Streams::of(ctx.task, &inputs);
        let overtaken = inputs.overtaken.is_some();
        let bad = (BadRecords::of(&on_error.0, ctx), BadRecords::of(&on_error.1, ctx));
        let mut function = make(ctx, outputs.timed)?;
        if bad.0.goes_on() || bad.1.goes_on() {
            function.keep_undo();
        }
        let output = Output::new(outputs)?;
        let body = TwoInputBody::new(ctx, gates, function, output, bad);
        Ok(Box::new(body.overtaken(overtaken, streams)))
    })
}

/// The body of a task whose first operator has two inputs.
pub(crate) struct TwoInputBody<A, B, F: TwoInputFunction<A, B>> {
    left: Gate<A>,
    right: Gate<B>,
    function: F,
    output: Output<F::Out>,
    bad_left: BadRecords<A>,
    bad_right: BadRecords<B>,
    pending: Pending<A, B>,
    results: Results<F::Out>,
    events: ChannelEvents,
    state: Upstream,
    right_next: bool,
    duties: Duties,
    passage: Passage,
    streams: Option<Streams>,
}

impl<A: Data, B: Data, F: TwoInputFunction<A, B>> TwoInputBody<A, B, F> {
    pub(crate) fn new(
        ctx: &OperatorContext<'_>,
        gates: (Gate<A>, Gate<B>),
        function: F,
        output: Output<F::Out>,
        bad: (BadRecords<A>, BadRecords<B>),
    ) -> Self {
        let channels = (gates.0.channels(), gates.1.channels());
        let events = ChannelEvents::of_two(channels, &ctx.task.counters, &ctx.task.clock);
        Self {
            left: gates.0,
            right: gates.1,
            duties: Duties::new(ctx, &function),
            function,
            results: output.results(),
            output,
            bad_left: bad.0,
            bad_right: bad.1,
            pending: Pending::Left(Batch::empty(false).into_iter()),
            events,
            state: Upstream::at_first(ctx.task),
            right_next: false,
            passage: Passage::new(ctx.task.checkpoints.clone()),
            streams: None,
        }
    }

    /// The same; barriers may overtake the records of these streams, or of none.
    fn overtaken(mut self, overtaken: bool, streams: Streams) -> Self {
        self.events = self.events.overtaken(overtaken);
        self.streams = Some(streams);
        self
    }

    /// Looks for barriers that overtake, and notes what is in flight.
    #[cold]
    fn look(&mut self) -> Result<()> {
        let Some(streams) = &self.streams else { return Ok(()) };
        streams.begin(&mut self.events, &self.passage);
        self.events.look(&mut [&mut self.left, &mut self.right], streams.subtasks)?;
        streams.end(&mut self.events, &mut self.passage, self.state);
        Ok(())
    }

    fn advance(&mut self) -> Result<Option<Flow>> {
        let mut more = true;
        while more && !self.results.is_full() && !self.output.is_side_full() {
            more = self.process_one()?;
        }
        if self.results.is_empty() && !more {
            return self.output.flush_sides().map(|flow| (flow == Flow::Full).then_some(flow));
        }
        self.output.push_all(&mut self.results).map(Some)
    }

    /// Processes the next record of the batch at hand; `false` if there is none.
    fn process_one(&mut self) -> Result<bool> {
        let before = self.results.len();
        if self.bad_left.goes_on() || self.bad_right.goes_on() {
            self.output.mark_sides();
        }
        let (results, output) = (&mut self.results.records, &mut self.output);
        let timestamp = match &mut self.pending {
            Pending::Left(records) => {
                let Some((record, timestamp)) = records.next() else { return Ok(false) };
                let kept = self.bad_left.keep(&record);
                let mut out = Collector { results, output, timestamp };
                if let Err(error) = self.function.left(record, &mut out) {
                    self.take_back_results(before);
                    self.function.take_back_left()?;
                    self.bad_left.refuse(error, kept, timestamp, &mut self.output)?;
                }
                timestamp
            }
            Pending::Right(records) => {
                let Some((record, timestamp)) = records.next() else { return Ok(false) };
                let kept = self.bad_right.keep(&record);
                let mut out = Collector { results, output, timestamp };
                if let Err(error) = self.function.right(record, &mut out) {
                    self.take_back_results(before);
                    self.function.take_back_right()?;
                    self.bad_right.refuse(error, kept, timestamp, &mut self.output)?;
                }
                timestamp
            }
        };
        self.results.stamp_as(self.function.times(), timestamp)?;
        Ok(true)
    }

    /// Undoes what a refused record emitted; there were `before` results before it.
    fn take_back_results(&mut self, before: usize) {
        self.results.truncate(before);
        self.output.take_back_sides();
    }

    /// Does what is left: with the records at hand, beside them, and with events.
    fn run(&mut self, flow: Flow) -> Result<Flow> {
        let mut flow = continue_while(flow, || self.advance())?;
        loop {
            let (function, output) = (&mut self.function, &mut self.output);
            flow = self.duties.run(flow, function, &mut self.results, output)?;
            if flow == Flow::Ready && self.passage.after(flow) {
                // A barrier has overtaken what waits.
                flow = self.output.resume()?;
            }
            if let (true, Some(streams)) = (self.events.is_noting(), &self.streams) {
                streams.settle(&mut self.events, &mut self.passage, flow);
            }
            if flow == Flow::Full {
                return Ok(flow);
            }
            let Some(event) = self.events.take_next() else { return Ok(flow) };
            if event == Event::EndOfInput {
                self.state = Upstream::Ending;
            }
            finish_snapshot(self, event);
            self.passage.before_with_input(event, self.events.may_be_overtaken());
            self.duties.on_event(event, &mut self.function);
        }
    }

    /// Takes one delivery of either side, by turns; `None` if neither has one.
    fn receive(&mut self) -> Result<Option<Flow>> {
        for _ in 0..2 {
            self.right_next = !self.right_next;
            let (channel, event) = if self.right_next {
                match self.events.receive(&mut self.right, self.left.channels())? {
                    Received::Nothing => continue,
                    Received::Event(channel, event) => {
                        (self.left.channels() + channel as usize, event)
                    }
                    Received::Batch(_, batch) => {
                        self.function.prepare_right(batch.records())?;
                        self.pending = Pending::Right(batch.into_iter());
                        return self.run(Flow::Ready).map(Some);
                    }
                }
            } else {
                match self.events.receive(&mut self.left, 0)? {
                    Received::Nothing => continue,
                    Received::Event(channel, event) => (channel as usize, event),
                    Received::Batch(_, batch) => {
                        self.function.prepare_left(batch.records())?;
                        self.pending = Pending::Left(batch.into_iter());
                        return self.run(Flow::Ready).map(Some);
                    }
                }
            };
            if self.events.on_event(channel, event) {
                self.left.release();
                self.right.release();
            }
            return self.run(Flow::Ready).map(Some);
        }
        Ok(None)
    }
}

impl<A: Data, B: Data, F: TwoInputFunction<A, B>> TaskBody for TwoInputBody<A, B, F> {
    fn open(&mut self) -> Result<()> {
        self.output.open()
    }

    fn step(&mut self) -> Result<Step> {
        let is_overtaken = self.left.is_overtaken() || self.right.is_overtaken();
        if is_overtaken || self.events.is_noting() {
            self.look()?;
        }
        if self.state.must_resume() {
            let flow = self.output.resume()?;
            let flow = self.run(flow)?;
            return Ok(self.state.after(flow));
        }
        if !self.events.is_empty() {
            let flow = self.run(Flow::Ready)?;
            return Ok(self.state.after(flow));
        }
        match self.receive()? {
            Some(flow) => Ok(self.state.after(flow)),
            None => Ok(Step::Idle(None)),
        }
    }

    fn on_time(&mut self, moment: Moment) -> Result<Flow> {
        self.duties.on_time(&self.function);
        let flow = self.output.on_time(moment)?;
        let flow = self.run(flow)?;
        self.state.block_if(flow);
        Ok(flow)
    }

    fn next_time(&self) -> Option<Instant> {
        let own = self.duties.next_time(&self.function);
        self.output.next_time().into_iter().chain(own).min()
    }

    fn has_stopped(&self) -> bool {
        self.passage.has_stopped()
    }

    fn has_slices(&self) -> bool {
        self.passage.is_open()
    }

    fn slice(&mut self, budget: SliceBudget) -> bool {
        let (function, output) = (&mut self.function, &mut self.output);
        self.passage.slice(budget, |slice| {
            function.slice(slice);
            output.slice(slice);
        })
    }

    #[cfg(test)]
    fn kind(&self) -> crate::explore::BodyKind {
        crate::explore::BodyKind::TwoInput
    }

    fn inputs_waiting(&self) -> usize {
        self.left.waiting() + self.right.waiting()
    }
}
