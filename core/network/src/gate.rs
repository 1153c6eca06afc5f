//! The consuming end of a task's input, as the task takes it: deliveries of channels that are held
//! back wait aside. Their credits stay taken, so no more wait than what the channels were granted,
//! and their producers stop.

use std::collections::VecDeque;
use std::sync::Arc;

use millstream_types::{Barrier, BarrierKind};

use crate::barrier_alignment::BarrierAlignment;
use crate::in_flight::{FlightChannel, InFlight, InFlightItems};
use crate::inbox::{Delivery, Inbox, Received};
use crate::wire::{Data, Element, Event, InboxError};
use crate::{ExchangeError, IN_FLIGHT_BYTES_MAX};

/// An inbox whose channels can be held back, for the one task that takes from it.
#[derive(Debug)]
pub struct Gate<T> {
    inbox: Arc<Inbox<T>>,
    /// Deliveries of channels that are held back, in order.
    aside: VecDeque<(u32, Delivery<T>)>,
    /// Deliveries that were aside once, in order; they come before the inbox's.
    released: VecDeque<(u32, Delivery<T>)>,
    /// The number of released ones that were looked at for the checkpoint whose records in flight
    /// are noted.
    noted: usize,
}

/// A gate whose channels may be overtaken by barriers, whatever the type of its records. The
/// channels are numbered through over all inputs of the task; `first` is the gate's first one.
pub trait Overtaken {
    /// The number of channels.
    fn count(&self) -> usize;

    /// Has everything that has arrived wait here; the newest unaligned barrier among it.
    fn take_all(&mut self) -> Option<Barrier>;

    /// A checkpoint begins: nothing that waits was noted for it.
    fn begin(&mut self);

    /// Notes what waits, up to the barrier of each channel, as being in flight; for each stream
    /// that ends here.
    ///
    /// # Errors
    /// A record cannot be encoded.
    fn note(
        &mut self,
        first: usize,
        alignment: &mut BarrierAlignment,
        noted: &mut Vec<InFlightItems>,
    ) -> Result<(), ExchangeError>;

    /// No records yet, of each stream that ends here.
    fn nothing_noted(&self, consumers: u32) -> Vec<InFlightItems>;

    /// The stream of a channel of this gate among those, and the channel's subtasks.
    fn stream_of(&self, channel: u32) -> Option<(usize, FlightChannel)>;
}

impl<T: Data> Gate<T> {
    /// The gate before an inbox.
    #[must_use]
    pub const fn new(inbox: Arc<Inbox<T>>) -> Self {
        Self { inbox, aside: VecDeque::new(), released: VecDeque::new(), noted: 0 }
    }

    /// The number of channels.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.inbox.channels()
    }

    /// The number of batches and events that wait, without those that are held back.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.inbox.waiting() + self.released.len()
    }

    /// The number of batches and events that are held back.
    #[must_use]
    pub fn held_back(&self) -> usize {
        self.aside.len()
    }

    /// Takes the oldest delivery of the channels that are not held back.
    ///
    /// # Errors
    /// An upstream process is gone or sent malformed bytes.
    #[inline]
    pub fn receive(&mut self) -> Result<Received<T>, InboxError> {
        if self.released.is_empty() { self.inbox.receive() } else { self.receive_but(|_| false) }
    }

    /// As [`Gate::receive`] while some channels are held back.
    ///
    /// # Errors
    /// An upstream process is gone or sent malformed bytes.
    #[cold]
    pub fn receive_but(&mut self, holds: impl Fn(u32) -> bool) -> Result<Received<T>, InboxError> {
        self.next_but(holds, true)
    }

    /// As [`Gate::receive_but`], of what was here when everything was taken last.
    ///
    /// # Errors
    /// An upstream process is gone or sent malformed bytes.
    #[cold]
    pub fn receive_noted(
        &mut self,
        holds: impl Fn(u32) -> bool,
    ) -> Result<Received<T>, InboxError> {
        self.next_but(holds, false)
    }

    fn next_but(
        &mut self,
        holds: impl Fn(u32) -> bool,
        from_inbox: bool,
    ) -> Result<Received<T>, InboxError> {
        loop {
            let next = match self.released.pop_front() {
                None if from_inbox => self.inbox.take(),
                None => None,
                released => {
                    self.noted = self.noted.saturating_sub(1);
                    released
                }
            };
            let Some((channel, delivery)) = next else { return Ok(Received::Nothing) };
            if holds(channel) && !matches!(delivery, Delivery::Lost(_)) {
                self.aside.push_back((channel, delivery));
            } else {
                return self.inbox.open(channel, delivery);
            }
        }
    }

    /// Whether a barrier has come that overtakes.
    #[inline]
    #[must_use]
    pub fn is_overtaken(&self) -> bool {
        self.inbox.is_overtaken()
    }

    /// Puts what was in flight in the checkpoint that is restored before everything else: what came
    /// from producing subtasks of one of the streams that end here, in order.
    pub fn restore(&mut self, stream: usize, items: impl IntoIterator<Item = (u32, InFlight<T>)>) {
        let found = self.inbox.inputs().nth(stream);
        let found = found.map(|(base, input)| (base, input.count(), input.from.start));
        let Some((base, channels, first)) = found else { return };
        for (from, found) in items {
            // A producer that is no more is taken for one that is.
            let at = from.saturating_sub(first).min(channels.saturating_sub(1));
            let element = match found {
                InFlight::Batch(batch) => Element::Data(batch),
                InFlight::Watermark(time) => Element::Event(Event::Watermark(time)),
            };
            self.released.push_back((base + at, Delivery::Restored(element)));
        }
    }

    /// Lets the deliveries that are aside come before all others.
    pub fn release(&mut self) {
        self.noted = 0;
        // What is aside of a channel came before what is released of it.
        self.aside.append(&mut self.released);
        std::mem::swap(&mut self.aside, &mut self.released);
    }
}

/// The checkpoint of a barrier in a delivery.
fn barrier_of<T>(delivery: &Delivery<T>) -> Option<Barrier> {
    match delivery {
        Delivery::Overtaking(barrier) | Delivery::Event(Event::Barrier(barrier)) => Some(*barrier),
        _ => None,
    }
}

impl<T: Data> Overtaken for Gate<T> {
    fn count(&self) -> usize {
        self.channels()
    }

    fn take_all(&mut self) -> Option<Barrier> {
        self.inbox.take_all(&mut self.released);
        let barriers = self.released.iter().filter_map(|(_, delivery)| barrier_of(delivery));
        barriers.filter(|it| it.kind == BarrierKind::Unaligned).max_by_key(|it| it.checkpoint)
    }

    fn begin(&mut self) {
        self.release();
    }

    fn note(
        &mut self,
        first: usize,
        alignment: &mut BarrierAlignment,
        noted: &mut Vec<InFlightItems>,
    ) -> Result<(), ExchangeError> {
        let fresh = self.released.split_off(self.noted.min(self.released.len()));
        for (channel, delivery) in fresh {
            let number = first + channel as usize;
            let into = self.stream_of(channel).filter(|_| alignment.notes(number));
            let into = into.and_then(|(stream, at)| Some((noted.get_mut(stream)?, at)));
            match (&delivery, into) {
                (Delivery::Batch(batch) | Delivery::Restored(Element::Data(batch)), Some(into)) => {
                    into.0.add_batch(into.1, batch)?;
                }
                (Delivery::Frame(payload), Some(into)) => into.0.add_frame(into.1, payload),
                (Delivery::Overtaking(barrier) | Delivery::Event(Event::Barrier(barrier)), _) => {
                    alignment.note_barrier(number, barrier.checkpoint);
                }
                (Delivery::Event(Event::EndOfInput), _) => alignment.note_end(number),
                (
                    Delivery::Event(event) | Delivery::Restored(Element::Event(event)),
                    Some(into),
                ) => {
                    into.0.add_event(into.1, *event);
                }
                (_, None) | (Delivery::Lost(_), _) => {}
            }
            // One of an earlier checkpoint says nothing any more, and this one has been seen.
            if !matches!(delivery, Delivery::Overtaking(_)) {
                self.released.push_back((channel, delivery));
            }
        }
        self.noted = self.released.len();
        if noted.iter().map(InFlightItems::bytes).sum::<usize>() > IN_FLIGHT_BYTES_MAX {
            return Err(ExchangeError::InFlightTooMuch);
        }
        Ok(())
    }

    fn nothing_noted(&self, consumers: u32) -> Vec<InFlightItems> {
        let inputs = self.inbox.inputs();
        inputs.map(|(_, input)| InFlightItems::of::<T>(input.count(), consumers)).collect()
    }

    fn stream_of(&self, channel: u32) -> Option<(usize, FlightChannel)> {
        self.inbox.inputs().enumerate().find_map(|(stream, (base, input))| {
            let at = channel.checked_sub(base).filter(|at| *at < input.count())?;
            let channel = input.channel(input.from.start + at);
            Some((stream, FlightChannel { from: channel.from, to: channel.to }))
        })
    }
}

#[cfg(test)]
mod tests;
