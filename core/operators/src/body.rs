//! The bodies of tasks: what feeds the first operator of a chain.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use millstream_event_time::{Advance, WatermarkTracker};
use millstream_network::{Data, Event, Flow, Inbox, Received, TaskCounters};
use millstream_types::Timestamp;

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

/// Turns the events of a task's channels into those of its first operator: the watermark of all
/// channels, whether all are idle, and the end. Channels of several inputs are numbered through.
#[derive(Debug)]
pub(crate) struct Events {
    tracker: WatermarkTracker,
    /// The number of channels of the first of two inputs, and each input by itself, for the
    /// counters alone.
    of_inputs: Option<(usize, [WatermarkTracker; 2])>,
    /// Events that were not handed on yet.
    pending: VecDeque<Event>,
    counters: Arc<TaskCounters>,
}

impl Events {
    pub(crate) fn new(channels: usize, counters: Arc<TaskCounters>) -> Self {
        let tracker = WatermarkTracker::new(channels);
        // An input without any channel has ended, as for the other subtasks behind a global
        // exchange.
        let end = tracker.has_ended().then_some(Event::EndOfInput);
        Self { tracker, of_inputs: None, pending: end.into_iter().collect(), counters }
    }

    /// Those of a task with two inputs of so many channels.
    pub(crate) fn of_two(left: usize, right: usize, counters: Arc<TaskCounters>) -> Self {
        let of_inputs = Some((left, [left, right].map(WatermarkTracker::new)));
        Self { of_inputs, ..Self::new(left + right, counters) }
    }

    /// Notes the event of a channel.
    pub(crate) fn on_event(&mut self, channel: usize, event: Event) {
        if self.tracker.has_ended() {
            return;
        }
        if let Some((left, [of_left, of_right])) = &mut self.of_inputs {
            let (input, tracker, channel) = match channel.checked_sub(*left) {
                None => (0, of_left, channel),
                Some(channel) => (1, of_right, channel),
            };
            let watermark = advance(tracker, channel, event).watermark;
            let end = tracker.has_ended().then_some(Timestamp::MAX);
            if let Some(watermark) = end.or(watermark) {
                self.counters.set_input_watermark(input, watermark);
            }
        }
        let Advance { awake, watermark, idle } = advance(&mut self.tracker, channel, event);
        self.pending.extend(awake.then_some(Event::Idle(false)));
        self.pending.extend(watermark.map(Event::Watermark));
        self.pending.extend(idle.then_some(Event::Idle(true)));
        self.pending.extend(self.tracker.has_ended().then_some(Event::EndOfInput));
    }

    /// Whether there is something to hand on.
    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Takes the next event to hand on.
    pub(crate) fn next(&mut self) -> Option<Event> {
        let event = self.pending.pop_front()?;
        match event {
            Event::Watermark(watermark) => self.counters.set_watermark(watermark),
            Event::EndOfInput => self.counters.set_watermark(Timestamp::MAX),
            Event::Idle(_) | Event::Barrier(_) => {}
        }
        Some(event)
    }
}

/// Notes the event of a channel.
fn advance(tracker: &mut WatermarkTracker, channel: usize, event: Event) -> Advance {
    match event {
        Event::Watermark(watermark) => tracker.on_watermark(channel, watermark),
        Event::Idle(idle) => tracker.on_idle(channel, idle),
        Event::EndOfInput => tracker.on_end(channel),
        Event::Barrier(_) => Advance::default(),
    }
}

/// Puts an input before an operator, behind a fresh inbox.
pub(crate) fn put_input_before<T: Data>(
    task: &TaskContext,
    inputs: &InputContext<'_>,
    stage: ErasedStage,
) -> Result<Box<dyn TaskBody>> {
    let (inbox, stage) = (inbox::<T>(task, inputs, 0), reveal::<T>(stage)?);
    let events = Events::new(inbox.channels(), Arc::clone(&task.counters));
    Ok(Box::new(OneInputBody { inbox, stage, events, state: Upstream::Reading }))
}

/// The body of a task whose first operator has one input.
pub(crate) struct OneInputBody<I> {
    inbox: Arc<Inbox<I>>,
    stage: Box<dyn Stage<I>>,
    events: Events,
    state: Upstream,
}

impl<I: Data> OneInputBody<I> {
    /// Hands events on as far as the chain takes them.
    fn hand_on(&mut self, mut flow: Flow) -> Result<Step> {
        while flow == Flow::Ready
            && let Some(event) = self.events.next()
        {
            if event == Event::EndOfInput {
                self.state = Upstream::Ending;
            }
            flow = self.stage.event(event)?;
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
        match self.inbox.receive()? {
            Received::Nothing => Ok(Step::Idle(None)),
            Received::Batch(_, batch) => {
                let flow = self.stage.push(batch)?;
                Ok(self.state.after(flow))
            }
            Received::Event(channel, event) => {
                self.events.on_event(channel as usize, event);
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

    #[cfg(test)]
    fn kind(&self) -> crate::explore::BodyKind {
        crate::explore::BodyKind::OneInput
    }

    fn inputs_waiting(&self) -> usize {
        self.inbox.waiting()
    }
}
