//! The bodies of tasks: what feeds the first operator of a chain.

use std::time::Instant;

use millstream_event_time::ChannelEvents;
use millstream_network::{Data, Event, Flow, Gate, InFlightItems, Received};
use millstream_state::SliceBudget;
use millstream_task_checkpoint::Passage;
use millstream_types::OperatorId;

use crate::Result;
use crate::in_flight::InputStream;
use crate::stage::{ErasedStage, Moment, Stage, reveal};
use crate::task::{InputContext, Step, TaskBody, TaskContext, finish_snapshot, gate};

/// Where a task stands with its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Upstream {
    /// More may come.
    Reading,
    /// The output was full at the last look; more may come afterwards.
    Blocked,
    /// The end was handed on and not everything has left.
    Ending,
    /// Everything has left.
    Ended,
}

impl Upstream {
    /// At the start of a task. What its output restores is sent before anything is read.
    pub(crate) fn at_first(task: &TaskContext) -> Self {
        match task.checkpoints.as_ref().is_some_and(|it| it.must_resume()) {
            true => Self::Blocked,
            false => Self::Reading,
        }
    }

    /// Whether the chain must be resumed before it is given anything.
    pub(crate) const fn must_resume(self) -> bool {
        matches!(self, Self::Blocked | Self::Ending | Self::Ended)
    }

    /// Notes the chain's answer between two steps.
    pub(crate) fn block_if(&mut self, flow: Flow) {
        if flow == Flow::Full {
            debug_assert_eq!(*self, Self::Reading, "the chain was asked although it was full");
            *self = Self::Blocked;
        }
    }

    /// The outcome of a step whose last answer was `flow`.
    pub(crate) const fn after(&mut self, flow: Flow) -> Step {
        match (*self, flow) {
            (Self::Reading | Self::Blocked, Flow::Ready) => {
                *self = Self::Reading;
                Step::Progress
            }
            (Self::Reading | Self::Blocked, Flow::Full) => {
                *self = Self::Blocked;
                Step::Full
            }
            (Self::Ending, Flow::Full) => Step::Full,
            (Self::Ending | Self::Ended, _) => {
                *self = Self::Ended;
                Step::Finished
            }
        }
    }
}

/// The streams that end at a task, whose records in flight it stores.
pub(crate) struct Streams {
    /// The task's first operator, which has them in checkpoints.
    operator: OperatorId,
    /// Their names there, by input.
    names: Vec<Vec<String>>,
    /// The number of subtasks.
    pub(crate) subtasks: u32,
}

impl Streams {
    pub(crate) fn of(task: &TaskContext, inputs: &InputContext<'_>) -> Self {
        let names =
            |streams: &Vec<InputStream>| streams.iter().map(|stream| stream.name.clone()).collect();
        let names = inputs.overtaken.iter().flatten().map(names).collect();
        Self { operator: inputs.operator, names, subtasks: task.parallelism }
    }

    /// Before a look at the gates.
    pub(crate) fn begin(&self, events: &mut ChannelEvents, passage: &Passage) {
        if passage.is_void() {
            events.stop_noting();
        }
    }

    /// After it: a barrier that is to be handed on makes room for what was accepted before.
    pub(crate) fn end(&self, events: &mut ChannelEvents, passage: &mut Passage, state: Upstream) {
        if state.must_resume() && events.is_overtaken() {
            passage.prepare();
        }
        self.settle(events, passage, Flow::Ready);
    }

    /// Hands over the records in flight once they and the barrier are all there.
    pub(crate) fn settle(&self, events: &mut ChannelEvents, passage: &mut Passage, flow: Flow) {
        if flow == Flow::Full && events.is_overtaken() {
            passage.fall_back();
        }
        if !passage.awaits_input() {
            return;
        }
        let Some(noted) = events.take_noted() else { return };
        let streams = noted.inputs.map(|inputs| {
            let streams = inputs.into_iter().flatten().map(InFlightItems::into_items);
            let names = self.names.iter().flatten();
            let named = streams.zip(names);
            named.map(|(items, name)| (self.operator, name.clone(), items)).collect()
        });
        passage.end_input(noted.took, streams);
    }
}

/// Puts an input before an operator, behind a fresh inbox.
pub(crate) fn put_input_before<T: Data>(
    task: &TaskContext,
    inputs: &mut InputContext<'_>,
    stage: ErasedStage,
) -> Result<Box<dyn TaskBody>> {
    let (gate, stage) = (gate::<T>(task, inputs, 0)?, reveal::<T>(stage)?);
    let events = ChannelEvents::new(gate.channels(), &task.counters, &task.clock);
    let events = events.overtaken(inputs.overtaken.is_some());
    let passage = Passage::new(task.checkpoints.clone());
    let (state, streams) = (Upstream::at_first(task), Streams::of(task, inputs));
    Ok(Box::new(OneInputBody { gate, stage, events, passage, state, streams }))
}

/// The body of a task whose first operator has one input.
pub(crate) struct OneInputBody<I> {
    gate: Gate<I>,
    stage: Box<dyn Stage<I>>,
    events: ChannelEvents,
    passage: Passage,
    state: Upstream,
    streams: Streams,
}

impl<I: Data> OneInputBody<I> {
    /// Notes the chain's answer: it goes on with what a barrier has overtaken in it.
    fn after(&mut self, flow: Flow) -> Result<Flow> {
        if self.passage.after(flow) { self.stage.resume() } else { Ok(flow) }
    }

    /// Looks for barriers that overtake, and notes what is in flight.
    #[cold]
    fn look(&mut self) -> Result<()> {
        self.streams.begin(&mut self.events, &self.passage);
        self.events.look(&mut [&mut self.gate], self.streams.subtasks)?;
        self.streams.end(&mut self.events, &mut self.passage, self.state);
        Ok(())
    }

    /// Hands events on as far as the chain takes them.
    fn hand_on(&mut self, flow: Flow) -> Result<Step> {
        let mut flow = self.after(flow)?;
        while flow == Flow::Ready
            && let Some(event) = self.events.take_next()
        {
            if event == Event::EndOfInput {
                self.state = Upstream::Ending;
            }
            finish_snapshot(self, event);
            self.passage.before_with_input(event, self.events.may_be_overtaken());
            flow = self.stage.event(event)?;
            flow = self.after(flow)?;
        }
        if self.events.is_noting() {
            self.streams.settle(&mut self.events, &mut self.passage, flow);
        }
        Ok(self.state.after(flow))
    }
}

impl<I: Data> TaskBody for OneInputBody<I> {
    fn open(&mut self) -> Result<()> {
        self.stage.open()
    }

    fn step(&mut self) -> Result<Step> {
        if self.gate.is_overtaken() || self.events.is_noting() {
            self.look()?;
        }
        if self.state.must_resume() {
            let flow = self.stage.resume()?;
            return self.hand_on(flow);
        }
        if !self.events.is_empty() {
            return self.hand_on(Flow::Ready);
        }
        match self.events.receive(&mut self.gate, 0)? {
            Received::Nothing => Ok(Step::Idle(None)),
            Received::Batch(_, batch) => {
                let flow = self.stage.push(batch)?;
                Ok(self.state.after(flow))
            }
            Received::Event(channel, event) => {
                if self.events.on_event(channel as usize, event) {
                    self.gate.release();
                }
                self.hand_on(Flow::Ready)
            }
        }
    }

    fn on_time(&mut self, moment: Moment) -> Result<Flow> {
        let flow = self.stage.on_time(moment)?;
        self.state.block_if(flow);
        Ok(flow)
    }

    fn next_time(&self) -> Option<Instant> {
        self.stage.next_time()
    }

    fn has_stopped(&self) -> bool {
        self.passage.has_stopped()
    }

    fn has_slices(&self) -> bool {
        self.passage.is_open()
    }

    fn slice(&mut self, budget: SliceBudget) -> bool {
        let stage = &mut self.stage;
        self.passage.slice(budget, |slice| stage.slice(slice))
    }

    #[cfg(test)]
    fn kind(&self) -> crate::explore::BodyKind {
        crate::explore::BodyKind::OneInput
    }

    fn inputs_waiting(&self) -> usize {
        self.gate.waiting()
    }
}
