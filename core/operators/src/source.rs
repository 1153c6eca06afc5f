//! The body of a task that starts with a source.
//!
//! Records go to the operators behind as their reader adds them, or through the stage that gives
//! them event times and watermarks; only then are the splits looked at that the reader names.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Instant;

use millstream_connector::{
    EventMailbox, EventSender, Mail, OperatorCoordinator, Polled, ReaderContext, ReaderOutput,
    Source, SourceReader, SplitEnumerator, SplitNotes, decode, encode,
};
use millstream_event_time::Begin;
use millstream_network::{Batch, BatchLimit, Data, Event, Flow, TimesError};
use millstream_state::SliceBudget;
use millstream_task_checkpoint::{Passage, Slice, TaskCheckpoints};
use millstream_types::{Barrier, BarrierKind, OperatorId, Timestamp, counters};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::body::Upstream;
use crate::coordinator::{Seat, SourceCoordinator, SourceEvent};
use crate::output::{Output, Outputs};
use crate::program::{CoordinatorMaker, ErasedSourceTimes, SourceMaker};
use crate::stage::{Moment, Stage};
use crate::task::{OperatorContext, Step, TaskBody, finish_snapshot};
use crate::watermarks::{SourceTimes, TimestampStage};
use crate::{Result, bail, error};

/// The operator that reads a source, whose uid it is given.
pub fn source<S: Source>(source: &Arc<S>, uid: &str) -> SourceMaker {
    let (source, uid) = (Arc::clone(source), uid.to_owned());
    let coordinated = S::Enumerator::EXISTS;
    Arc::new(move |ctx, outputs, times| {
        let (subtask, parallelism) = (ctx.task.subtask, ctx.task.parallelism.max(1));
        let mut reader = source.reader(&ReaderContext {
            subtask: ctx.task.subtask,
            parallelism: ctx.task.parallelism,
            waker: ctx.task.waker.clone(),
            dropped: ctx.task.metrics.engines(counters::RECORDS_DROPPED),
            replaced: ctx.task.metrics.engines(counters::RECORDS_REPLACED),
            skipped: ctx.task.metrics.engines(counters::FILES_SKIPPED),
        })?;
        let begin = if coordinated { Begin::None } else { Begin::One };
        let mut output = SourceOutput::<S::Out>::new(times, begin, ctx, outputs)?;
        let checkpoints = ctx.task.checkpoints.clone();
        let restored = checkpoints.as_ref().and_then(|it| it.take_restored(ctx.operator));
        let splits: Vec<S::Split> = match restored {
            Some(restored) => {
                restored.positions.iter().map(|split| decode(split)).collect::<Result<_>>()?
            }
            None if coordinated => Vec::new(),
            None => {
                let splits = source.splits()?.into_iter().skip(subtask as usize);
                splits.step_by(parallelism as usize).collect()
            }
        };
        if !splits.is_empty() || !coordinated {
            output.on_added(splits.len());
            reader.add_splits(splits)?;
        }
        let coordinator = Coordination {
            operator: ctx.operator,
            subtask: ctx.task.subtask,
            to: Arc::clone(ctx.to_coordinator),
            from: Arc::clone(ctx.from_coordinator),
        };
        let requests = coordinated.then(Requests::default);
        let (state, uid) = (Upstream::at_first(ctx.task), uid.clone());
        let timed = output.takes_times(source.has_timestamps());
        let (is_read, limit) = (ctx.task.has_finished, BatchLimit::new());
        Ok(Box::new(SourceBody {
            reader,
            output,
            timed,
            coordinator,
            requests,
            state,
            is_read,
            limit,
            uid,
            barrier: None,
            is_drained: false,
            passage: Passage::new(checkpoints.clone()),
            checkpoints,
        }))
    })
}

/// The operators behind a source.
enum SourceOutput<T> {
    /// Records go on as they are.
    Plain(Output<T>),
    /// They get event times and watermarks before.
    Timed { stage: Box<TimestampStage<T>>, named: SplitNotes },
}

impl<T: Data> SourceOutput<T> {
    fn new(
        times: Option<&ErasedSourceTimes>,
        begin: Begin,
        ctx: &OperatorContext<'_>,
        outputs: Outputs,
    ) -> Result<Self> {
        let Some(times) = times else { return Ok(Self::Plain(Output::new(outputs)?)) };
        let times = times.times.downcast_ref::<SourceTimes<T>>();
        let times = times.ok_or_else(|| {
            error!("the watermarks of source {:?} are of another record type", ctx.name)
        })?;
        let stage = Box::new(TimestampStage::new(times, begin, ctx, outputs)?);
        Ok(Self::Timed { stage, named: SplitNotes::default() })
    }

    /// Whether the reader's records must have event times.
    const fn takes_times(&self, source_has: bool) -> bool {
        match self {
            Self::Plain(output) => output.is_timed(),
            Self::Timed { .. } => source_has,
        }
    }

    /// The reader was given so many more splits.
    fn on_added(&mut self, splits: usize) {
        if let Self::Timed { stage, .. } = self {
            stage.on_added(splits as u64);
        }
    }

    /// Says which splits wait for others of their alignment group; whether all do.
    fn align(&mut self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Timed { stage, named } => stage.is_aligned() && stage.align(named),
        }
    }

    /// Whether it is in an alignment group.
    const fn is_aligned(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Timed { stage, .. } => stage.is_aligned(),
        }
    }

    /// The alignment group has answered.
    const fn on_others(&mut self, others: Option<Timestamp>) {
        if let Self::Timed { stage, .. } = self {
            stage.on_others(others);
        }
    }

    /// The report to the alignment group that is due, if one is.
    fn report(&mut self, now: Instant) -> Option<Option<Timestamp>> {
        match self {
            Self::Plain(_) => None,
            Self::Timed { stage, .. } => stage.report(now),
        }
    }

    /// Takes what the reader has added in a poll.
    fn push(&mut self, batch: Batch<T>) -> Result<Flow> {
        match self {
            Self::Plain(output) => output.push(batch),
            Self::Timed { stage, named } => stage.push_poll(batch, named),
        }
    }

    fn open(&mut self) -> Result<()> {
        match self {
            Self::Plain(output) => output.open(),
            Self::Timed { stage, .. } => stage.open(),
        }
    }

    fn event(&mut self, event: Event) -> Result<Flow> {
        match self {
            Self::Plain(output) => output.event(event),
            Self::Timed { stage, .. } => stage.event(event),
        }
    }

    fn resume(&mut self) -> Result<Flow> {
        match self {
            Self::Plain(output) => output.resume(),
            Self::Timed { stage, .. } => stage.resume(),
        }
    }

    fn on_time(&mut self, moment: Moment) -> Result<Flow> {
        match self {
            Self::Plain(output) => output.on_time(moment),
            Self::Timed { stage, .. } => stage.on_time(moment),
        }
    }

    fn next_time(&self) -> Option<Instant> {
        match self {
            Self::Plain(output) => output.next_time(),
            Self::Timed { stage, .. } => stage.next_time(),
        }
    }

    fn slice(&mut self, slice: &mut Slice<'_>) {
        match self {
            Self::Plain(output) => output.slice(slice),
            Self::Timed { stage, .. } => stage.slice(slice),
        }
    }
}

/// Whether the source hands out splits.
#[must_use]
pub const fn has_enumerator<S: Source>() -> bool {
    S::Enumerator::EXISTS
}

/// The coordinator of a source, which is needed if it hands out splits or is aligned with others.
pub fn source_coordinator<S: Source>(source: &Arc<S>) -> CoordinatorMaker {
    let source = Arc::clone(source);
    Arc::new(move |ctx| {
        let enumerator = match has_enumerator::<S>() {
            true => Some(source.enumerator(ctx.restored.map(decode).transpose()?)?),
            false => None,
        };
        let seat = ctx.alignment().map(|alignment| {
            let (group, source) = (Arc::clone(&alignment.group), ctx.info.operator);
            ctx.groups.join(&group, source, ctx.parallelism);
            Seat { groups: ctx.groups.clone(), group, source }
        });
        let coordinator = SourceCoordinator::new(enumerator, seat);
        Ok(Box::new(coordinator) as Box<dyn OperatorCoordinator>)
    })
}

/// The way to the coordinator and back.
struct Coordination {
    operator: OperatorId,
    subtask: u32,
    to: EventSender,
    from: Arc<EventMailbox>,
}

impl Coordination {
    fn send<S: Serialize>(&self, event: &SourceEvent<S>) -> Result<()> {
        (self.to)(self.operator, self.subtask, encode(event)?);
        Ok(())
    }
}

/// The requests of a reader that gets its splits from an enumerator.
#[derive(Default)]
struct Requests {
    /// A request is not answered yet.
    requested: bool,
    /// The number of the last request.
    number: u64,
    no_more: bool,
}

/// Polls a reader.
struct SourceBody<R: SourceReader> {
    reader: R,
    output: SourceOutput<R::Out>,
    /// Whether the reader adds records with event times.
    timed: bool,
    coordinator: Coordination,
    /// `None` for a source without an enumerator.
    requests: Option<Requests>,
    state: Upstream,
    /// The reader will never have more; the end of input waits until the output takes it.
    is_read: bool,
    /// Says when the records of a poll make a batch.
    limit: BatchLimit<R::Out>,
    uid: String,
    /// The barrier that is emitted next.
    barrier: Option<Barrier>,
    /// The end of event time was emitted.
    is_drained: bool,
    passage: Passage,
    checkpoints: Option<Arc<TaskCheckpoints>>,
}

impl<R: SourceReader> SourceBody<R>
where
    R::Split: Serialize + DeserializeOwned,
{
    /// Takes the coordinator's answers, up to a barrier that is to be emitted first.
    fn take_answers(&mut self) -> Result<()> {
        while let Some(mail) = self.coordinator.from.pop() {
            let payload = match mail {
                Mail::Event(payload) => payload,
                Mail::Barrier(barrier) => {
                    self.barrier = Some(barrier);
                    return Ok(());
                }
                Mail::Repeat => {
                    if let SourceOutput::Timed { stage, .. } = &mut self.output {
                        stage.on_forgotten();
                    }
                    self.repeat()?;
                    continue;
                }
            };
            match decode::<SourceEvent<R::Split>>(&payload)? {
                SourceEvent::Splits(found) => {
                    if let Some(requests) = &mut self.requests {
                        requests.requested = false;
                    }
                    self.output.on_added(found.len());
                    self.reader.add_splits(found)?;
                }
                SourceEvent::NoMoreSplits => {
                    if let Some(requests) = &mut self.requests {
                        (requests.requested, requests.no_more) = (false, true);
                    }
                }
                SourceEvent::Others(others) => self.output.on_others(others),
                SourceEvent::RequestSplit(_) | SourceEvent::Least(_) => {}
            }
        }
        Ok(())
    }

    /// The reader has nothing to read; `true` if it never will again.
    fn needs_split(&mut self) -> Result<bool> {
        let Some(requests) = &mut self.requests else { return Ok(true) };
        if requests.no_more {
            return Ok(true);
        }
        if !std::mem::replace(&mut requests.requested, true) {
            requests.number += 1;
            self.repeat()?;
        }
        Ok(false)
    }

    /// Sends the request that is not answered yet, if there is one.
    fn repeat(&self) -> Result<()> {
        let Some(Requests { requested: true, number, .. }) = self.requests else { return Ok(()) };
        self.coordinator.send(&SourceEvent::<R::Split>::RequestSplit(number))
    }

    /// Lets the reader add records, which must have event times if the source says so.
    fn poll(&mut self) -> Result<(Batch<R::Out>, Polled)> {
        let mut batch = Batch::empty(self.timed);
        let mut out = ReaderOutput::new(&mut batch, &mut self.limit);
        if let SourceOutput::Timed { named, .. } = &mut self.output {
            out = out.with_splits(named);
        }
        match self.reader.poll(&mut out) {
            Ok(polled) => Ok((batch, polled)),
            Err(error) if error.is::<TimesError>() => bail!("{}", self.contradiction(&error)),
            Err(error) => Err(error),
        }
    }

    /// Emits a barrier; before one that drains the job, the end of event time.
    fn emit(&mut self, barrier: Barrier) -> Result<Step> {
        let drains = barrier.kind == BarrierKind::Stop { drain: true };
        if drains && !std::mem::replace(&mut self.is_drained, true) {
            let flow = self.output.event(Event::Watermark(Timestamp::MAX))?;
            if flow == Flow::Full {
                self.barrier = Some(barrier);
                return Ok(self.state.after(flow));
            }
        }
        self.emit_barrier(barrier)
    }

    /// Emits a barrier. The positions of the reader's splits are behind all records before it.
    fn emit_barrier(&mut self, barrier: Barrier) -> Result<Step> {
        let event = Event::Barrier(barrier);
        finish_snapshot(self, event);
        self.passage.before(event);
        if let Some(checkpoints) = &self.checkpoints {
            let splits = self.reader.snapshot()?;
            let positions = splits.iter().map(encode).collect::<Result<_>>()?;
            checkpoints.add_positions(self.coordinator.operator, positions);
        }
        let flow = self.output.event(event)?;
        let flow = self.after(flow)?;
        Ok(self.state.after(flow))
    }

    /// Notes the output's answer: it goes on with what a barrier has overtaken there.
    fn after(&mut self, flow: Flow) -> Result<Flow> {
        if self.passage.after(flow) { self.output.resume() } else { Ok(flow) }
    }

    /// Goes on with what is blocked. An unaligned barrier that has come makes room for it.
    fn resume(&mut self) -> Result<Step> {
        if self.state == Upstream::Blocked {
            self.barrier.take_if(|held| self.coordinator.from.replaces(*held));
            if self.barrier.is_none() {
                self.take_answers()?;
            }
        }
        let overtaking = self.barrier.filter(|it| it.kind == BarrierKind::Unaligned);
        let overtaking = overtaking.filter(|_| self.state == Upstream::Blocked);
        if overtaking.is_some() {
            self.passage.prepare();
        }
        let flow = self.output.resume()?;
        let flow = self.after(flow)?;
        if flow == Flow::Ready && self.state == Upstream::Blocked {
            if let Some(barrier) = overtaking {
                self.barrier = None;
                return self.emit(barrier);
            }
            if self.is_read {
                return self.end();
            }
        }
        Ok(self.state.after(flow))
    }

    /// The reader did not do what its source says of event times.
    #[cold]
    fn contradiction(&self, error: &impl Display) -> String {
        let (says, remedy) = if self.timed {
            ("have", "add each with push_at(), or let has_timestamps() be false")
        } else {
            ("have no", "add each with push(), or let has_timestamps() be true")
        };
        let uid = &self.uid;
        format!("source {uid:?} says that its records {says} event times, but {error}: {remedy}")
    }

    fn end(&mut self) -> Result<Step> {
        self.state = Upstream::Ending;
        if self.output.is_aligned() {
            self.coordinator.send(&SourceEvent::<R::Split>::Least(None))?;
        }
        let flow = self.output.event(Event::EndOfInput)?;
        Ok(self.state.after(flow))
    }
}

impl<R: SourceReader> TaskBody for SourceBody<R>
where
    R::Split: Serialize + DeserializeOwned,
{
    fn open(&mut self) -> Result<()> {
        self.output.open()
    }

    fn step(&mut self) -> Result<Step> {
        if self.state.must_resume() {
            return self.resume();
        }
        if self.is_read {
            return self.end();
        }
        if self.barrier.is_none() {
            self.take_answers()?;
        }
        if let Some(barrier) = self.barrier.take() {
            return self.emit(barrier);
        }
        if self.output.align() {
            return Ok(Step::Idle(None));
        }
        let (batch, polled) = self.poll()?;
        let flow = self.output.push(batch)?;
        let (is_read, step) = match polled {
            Polled::Ready => (false, Step::Progress),
            Polled::Pending(until) => (false, Step::Idle(until)),
            Polled::NeedSplit => (self.needs_split()?, Step::Idle(None)),
            Polled::Finished => (true, Step::Idle(None)),
        };
        self.is_read = is_read;
        match flow {
            Flow::Full => Ok(self.state.after(flow)),
            Flow::Ready if is_read => self.end(),
            Flow::Ready => Ok(step),
        }
    }

    fn on_time(&mut self, moment: Moment) -> Result<Flow> {
        let flow = self.output.on_time(moment)?;
        self.state.block_if(flow);
        if let Some(least) = self.output.report(moment.now) {
            self.coordinator.send(&SourceEvent::<R::Split>::Least(least))?;
        }
        Ok(flow)
    }

    fn next_time(&self) -> Option<Instant> {
        self.output.next_time()
    }

    fn has_stopped(&self) -> bool {
        self.passage.has_stopped()
    }

    fn has_slices(&self) -> bool {
        self.passage.is_open()
    }

    fn slice(&mut self, budget: SliceBudget) -> bool {
        let output = &mut self.output;
        self.passage.slice(budget, |slice| output.slice(slice))
    }

    #[cfg(test)]
    fn kind(&self) -> crate::explore::BodyKind {
        crate::explore::BodyKind::Source
    }

    fn inputs_waiting(&self) -> usize {
        0
    }
}
