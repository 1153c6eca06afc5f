//! The events of a task's channels, turned into those of its first operator: the watermark of all
//! channels, whether all are idle, the barriers that have come from all, and the end.

use std::collections::VecDeque;
use std::sync::Arc;

use millstream_network::{BarrierAlignment, Data, Event, Gate, InboxError, Received, TaskCounters};
use millstream_types::{Clock, Timestamp};

use crate::tracker::{Advance, WatermarkTracker};

/// The events of the channels of a task. Those of several inputs are numbered through.
#[derive(Debug)]
pub struct ChannelEvents {
    tracker: WatermarkTracker,
    barriers: BarrierAlignment,
    /// The number of channels of the first of two inputs, and each input by itself, for the
    /// counters alone.
    of_inputs: Option<(usize, [WatermarkTracker; 2])>,
    /// Events that were not handed on yet.
    pending: VecDeque<Event>,
    counters: Arc<TaskCounters>,
    clock: Clock,
}

impl ChannelEvents {
    /// Those of a task with one input of so many channels.
    #[must_use]
    pub fn new(channels: usize, counters: &Arc<TaskCounters>, clock: &Clock) -> Self {
        let tracker = WatermarkTracker::new(channels);
        // An input without any channel has ended, as for the other subtasks behind a global
        // exchange.
        let end = tracker.has_ended().then_some(Event::EndOfInput);
        Self {
            tracker,
            barriers: BarrierAlignment::new(channels),
            of_inputs: None,
            pending: end.into_iter().collect(),
            counters: Arc::clone(counters),
            clock: clock.clone(),
        }
    }

    /// Those of a task with two inputs of so many channels.
    #[must_use]
    pub fn of_two(
        (left, right): (usize, usize),
        counters: &Arc<TaskCounters>,
        clock: &Clock,
    ) -> Self {
        let of_inputs = Some((left, [left, right].map(WatermarkTracker::new)));
        Self { of_inputs, ..Self::new(left + right, counters, clock) }
    }

    /// Takes the next delivery of an input whose first channel has this number, but none of a
    /// channel that is held back until a barrier has come from the others. The answer numbers its
    /// channel within the input.
    ///
    /// # Errors
    /// An upstream process is gone or sent malformed bytes.
    #[inline]
    pub fn receive<T: Data>(
        &self,
        gate: &mut Gate<T>,
        first: usize,
    ) -> Result<Received<T>, InboxError> {
        if self.barriers.is_pending() {
            gate.receive_but(|channel| self.barriers.holds(first + channel as usize))
        } else {
            gate.receive()
        }
    }

    /// Notes the event of a channel; whether channels that were held back may go on, so that
    /// [`Gate::release`] is to be called.
    #[must_use]
    pub fn on_event(&mut self, channel: usize, event: Event) -> bool {
        if self.tracker.has_ended() {
            return false;
        }
        let outcome = match event {
            Event::Barrier(barrier) => self.barriers.on_barrier(self.clock.now(), channel, barrier),
            Event::EndOfInput => {
                self.on_time(channel, event);
                self.barriers.on_end(self.clock.now(), channel)
            }
            Event::Watermark(_) | Event::Idle(_) => {
                self.on_time(channel, event);
                return false;
            }
        };
        self.pending.extend(outcome.barrier.map(|(barrier, _)| Event::Barrier(barrier)));
        self.pending.extend(self.tracker.has_ended().then_some(Event::EndOfInput));
        outcome.releases()
    }

    /// Notes an event of a channel that may move event time.
    fn on_time(&mut self, channel: usize, event: Event) {
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
    }

    /// Whether there is no event to hand on.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Takes the next event to hand on.
    pub fn take_next(&mut self) -> Option<Event> {
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
