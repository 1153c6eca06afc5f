//! The bodies of tasks: what feeds the first operator of a chain.

use std::time::Instant;

use millstream_event_time::ChannelEvents;
use millstream_network::{Data, Event, Flow, Gate, Received};
use millstream_state::SliceBudget;
use millstream_task_checkpoint::Passage;

use crate::Result;
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

/// Puts an input before an operator, behind a fresh inbox.
pub(crate) fn put_input_before<T: Data>(
    task: &TaskContext,
    inputs: &InputContext<'_>,
    stage: ErasedStage,
) -> Result<Box<dyn TaskBody>> {
    let (gate, stage) = (gate::<T>(task, inputs, 0), reveal::<T>(stage)?);
    let events = ChannelEvents::new(gate.channels(), &task.counters, &task.clock);
    let passage = Passage::new(task.checkpoints.clone());
    Ok(Box::new(OneInputBody { gate, stage, events, passage, state: Upstream::Reading }))
}

/// The body of a task whose first operator has one input.
pub(crate) struct OneInputBody<I> {
    gate: Gate<I>,
    stage: Box<dyn Stage<I>>,
    events: ChannelEvents,
    passage: Passage,
    state: Upstream,
}

impl<I: Data> OneInputBody<I> {
    /// Hands events on as far as the chain takes them.
    fn hand_on(&mut self, mut flow: Flow) -> Result<Step> {
        self.passage.after(flow);
        while flow == Flow::Ready
            && let Some(event) = self.events.take_next()
        {
            if event == Event::EndOfInput {
                self.state = Upstream::Ending;
            }
            finish_snapshot(self, event);
            self.passage.before(event);
            flow = self.stage.event(event)?;
            self.passage.after(flow);
        }
        Ok(self.state.after(flow))
    }
}

impl<I: Data> TaskBody for OneInputBody<I> {
    fn open(&mut self) -> Result<()> {
        self.stage.open()
    }

    fn step(&mut self) -> Result<Step> {
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
