//! The bodies of tasks: what feeds the first operator of a chain.

use std::sync::Arc;
use std::time::Instant;

use millstream_network::{Data, Event, Flow, Inbox, Received};

use crate::Result;
use crate::stage::{ErasedStage, Moment, Stage, reveal};
use crate::task::{InputContext, Step, TaskBody, TaskContext, inbox};

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

/// Counts the channels that have ended.
#[derive(Debug)]
pub(crate) struct EndCount {
    open: usize,
    channels: usize,
}

impl EndCount {
    pub(crate) const fn new(channels: usize) -> Self {
        Self { open: channels, channels }
    }

    /// Notes an event; `true` when it ended the last open channel.
    pub(crate) fn on_event(&mut self, event: Event) -> bool {
        if event != Event::EndOfInput || self.open == 0 {
            return false;
        }
        self.open -= 1;
        self.open == 0
    }

    /// Whether there is no channel at all, as for the other subtasks behind a global exchange.
    pub(crate) const fn nothing_ever_comes(&self) -> bool {
        self.channels == 0
    }
}

/// Puts an input before an operator, behind a fresh inbox.
pub(crate) fn put_input_before<T: Data>(
    task: &TaskContext,
    inputs: &InputContext<'_>,
    stage: ErasedStage,
) -> Result<Box<dyn TaskBody>> {
    Ok(Box::new(OneInputBody::new(inbox::<T>(task, inputs, 0), reveal::<T>(stage)?)))
}

/// The body of a task whose first operator has one input.
pub(crate) struct OneInputBody<I> {
    inbox: Arc<Inbox<I>>,
    stage: Box<dyn Stage<I>>,
    ends: EndCount,
    state: Upstream,
}

impl<I: Data> OneInputBody<I> {
    pub(crate) fn new(inbox: Arc<Inbox<I>>, stage: Box<dyn Stage<I>>) -> Self {
        let ends = EndCount::new(inbox.channels());
        Self { inbox, stage, ends, state: Upstream::Reading }
    }

    fn end(&mut self) -> Result<Step> {
        self.state = Upstream::Ending;
        let flow = self.stage.event(Event::EndOfInput)?;
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
            return Ok(self.state.after(flow));
        }
        if self.ends.nothing_ever_comes() {
            return self.end();
        }
        match self.inbox.receive()? {
            Received::Nothing => Ok(Step::Idle(None)),
            Received::Batch(_, batch) => {
                let flow = self.stage.push(batch)?;
                Ok(self.state.after(flow))
            }
            Received::Event(_, event) => {
                if self.ends.on_event(event) {
                    self.end()
                } else {
                    Ok(Step::Progress)
                }
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

    #[cfg(test)]
    fn kind(&self) -> crate::explore::BodyKind {
        crate::explore::BodyKind::OneInput
    }

    fn inputs_waiting(&self) -> usize {
        self.inbox.waiting()
    }
}
