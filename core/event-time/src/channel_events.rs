//! The events of a task's channels, turned into those of its first operator: the watermark of all
//! channels, whether all are idle, the barriers that have come from all, and the end. An unaligned
//! barrier is handed on when the first one comes, and from then on what is in flight is noted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use millstream_network::{
    BarrierAlignment, Data, Event, ExchangeError, Gate, InFlightItems, InboxError, Overtaken,
    Received, TaskCounters,
};
use millstream_types::{Barrier, BarrierKind, CheckpointId, Clock, Timestamp};

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
    /// Whether barriers may overtake the records of all channels. If not, all are aligned.
    overtaken: bool,
    /// The records in flight in the checkpoint that has begun, if its barrier was unaligned.
    noted: Option<Box<Noted>>,
}

/// The gates of a task, in order.
pub type Gates<'a, 'b> = &'a mut [&'b mut dyn Overtaken];

/// The records in flight to a task.
#[derive(Debug)]
pub struct Noted {
    /// The checkpoint.
    pub checkpoint: CheckpointId,
    /// Those of the streams of each input; or why they cannot be stored.
    pub inputs: Result<Vec<Vec<InFlightItems>>, String>,
    /// The time from the first barrier to the last.
    pub took: Duration,
    /// The gates were not looked at since it began.
    is_fresh: bool,
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
            overtaken: false,
            noted: None,
        }
    }

    /// The same, with barriers that may overtake the records of all channels.
    #[must_use]
    pub const fn overtaken(mut self, overtaken: bool) -> Self {
        self.overtaken = overtaken;
        self
    }

    /// Whether barriers may overtake the records of all channels.
    #[must_use]
    pub const fn may_be_overtaken(&self) -> bool {
        self.overtaken
    }

    /// Whether records in flight are noted, so that the gates must be looked at before each step.
    #[inline]
    #[must_use]
    pub const fn is_noting(&self) -> bool {
        self.noted.is_some()
    }

    /// Whether an unaligned barrier is among the events that are to be handed on.
    #[must_use]
    pub fn is_overtaken(&self) -> bool {
        self.pending.iter().any(|event| is_unaligned(*event))
    }

    /// Notes no records any more: nothing will become of the checkpoint.
    pub fn stop_noting(&mut self) {
        self.barriers.stop_noting();
        self.noted = None;
    }

    /// Looks for unaligned barriers among what has arrived at the gates of a task with so many
    /// subtasks, and notes what is in flight.
    ///
    /// # Errors
    /// A record cannot be encoded.
    pub fn look(&mut self, gates: Gates<'_, '_>, subtasks: u32) -> Result<(), ExchangeError> {
        if !self.overtaken {
            return Ok(());
        }
        let mut newest: Option<Barrier> = None;
        for gate in gates.iter_mut() {
            let barrier = gate.take_all();
            newest = newest.into_iter().chain(barrier).max_by_key(|it| it.checkpoint);
        }
        if let Some(barrier) = newest {
            self.begin(barrier);
        }
        let Some(noted) = &mut self.noted else { return Ok(()) };
        if std::mem::replace(&mut noted.is_fresh, false) {
            let mut first = 0;
            let mut inputs = Vec::new();
            for gate in gates.iter_mut() {
                gate.begin();
                let mut streams = gate.nothing_noted(subtasks);
                for channel in 0..gate.count() {
                    let at = u32::try_from(channel).ok().and_then(|it| gate.stream_of(it));
                    let watermark = self.tracker.channel_watermark(first + channel);
                    if let (Some((stream, at)), Some(watermark)) = (at, watermark)
                        && let Some(items) = streams.get_mut(stream)
                    {
                        items.add_event(at, Event::Watermark(watermark));
                    }
                }
                inputs.push(streams);
                first += gate.count();
            }
            noted.inputs = Ok(inputs);
        }
        let mut first = 0;
        for (number, gate) in gates.iter_mut().enumerate() {
            let mut none = Vec::new();
            let inputs = noted.inputs.as_mut().ok();
            let streams = inputs.and_then(|it| it.get_mut(number)).unwrap_or(&mut none);
            match gate.note(first, &mut self.barriers, streams) {
                Err(ExchangeError::InFlightTooMuch) => {
                    noted.inputs = Err(ExchangeError::InFlightTooMuch.to_string());
                }
                noted => noted?,
            }
            first += gate.count();
        }
        if self.barriers.noting() != Some(noted.checkpoint) {
            self.noted = None;
        }
        Ok(())
    }

    /// Begins with an unaligned barrier.
    fn begin(&mut self, barrier: Barrier) {
        if self.barriers.begin_unaligned(self.clock.now(), barrier) {
            self.pending.retain(|event| !is_unaligned(*event));
            self.pending.push_back(Event::Barrier(barrier));
            let (inputs, took) = (Ok(Vec::new()), Duration::ZERO);
            let (checkpoint, is_fresh) = (barrier.checkpoint, true);
            self.noted = Some(Box::new(Noted { checkpoint, inputs, took, is_fresh }));
        }
    }

    /// Takes the records in flight once the barrier has come from all channels.
    pub fn take_noted(&mut self) -> Option<Box<Noted>> {
        let noted = self.noted.as_ref()?;
        if noted.is_fresh {
            return None;
        }
        let took = self.barriers.end_noting(self.clock.now())?;
        let mut noted = self.noted.take()?;
        noted.took = took;
        Some(noted)
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
        if self.noted.is_some() {
            gate.receive_noted(|channel| self.barriers.holds(first + channel as usize))
        } else if self.barriers.is_pending() {
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
            Event::Barrier(barrier) if self.overtaken && barrier.kind == BarrierKind::Unaligned => {
                // It came when nothing waited before it; what waits of others is looked at next.
                self.begin(barrier);
                self.barriers.note_barrier(channel, barrier.checkpoint);
                return true;
            }
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

/// Whether an event is an unaligned barrier.
const fn is_unaligned(event: Event) -> bool {
    matches!(event, Event::Barrier(Barrier { kind: BarrierKind::Unaligned, .. }))
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
