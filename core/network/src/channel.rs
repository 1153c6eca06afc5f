//! The producing end of a channel.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use millstream_types::Barrier;

use crate::batch::Batch;
use crate::counters::TaskCounters;
use crate::error::ExchangeError;
use crate::flight::Flight;
use crate::inbox::Inbox;
use crate::outgoing::ConnectionHandle;
use crate::outlet::{Flow, Outlet, Target};
use crate::overdraft::Overdraft;
use crate::rows::encoded_bytes;
use crate::wire::{self, Data, Element, Event, FrameBuffer};

thread_local! {
    static FRAME_BUFFER: RefCell<FrameBuffer> = RefCell::default();
}

/// About the bytes of a batch, taking its records to be like the first.
#[must_use]
pub fn bytes_of<T: Data>(batch: &Batch<T>) -> usize {
    let size = match batch.records().first() {
        Some(first) if std::mem::needs_drop::<T>() => encoded_bytes(first).max(size_of::<T>()),
        _ => size_of::<T>(),
    };
    size.saturating_mul(batch.len())
}

/// The producing end of one channel. It takes everything and keeps batches and events that have no
/// credit yet; a producer stops giving it more once it answers [`Flow::Full`].
#[derive(Debug)]
pub struct ChannelWriter<T> {
    outlet: Outlet,
    flight: Flight,
    local: Option<(Arc<Inbox<T>>, u32)>,
    waiting: VecDeque<Element<T>>,
    counters: Arc<TaskCounters>,
    /// Whether batches are encoded for a consumer in this process too.
    encodes_always: bool,
    /// Whether a record was encoded and read back.
    checked: bool,
    /// Room beyond credits, which the channels of a task share.
    overdraft: Option<Arc<Overdraft>>,
}

impl<T: Data> ChannelWriter<T> {
    pub(crate) fn new(outlet: Outlet, counters: Arc<TaskCounters>, encodes_always: bool) -> Self {
        Self {
            outlet,
            flight: Flight::default(),
            local: None,
            waiting: VecDeque::new(),
            counters,
            encodes_always,
            checked: false,
            overdraft: None,
        }
    }

    /// Gives it a share of a task's room beyond credits.
    #[must_use]
    pub fn with_overdraft(mut self, overdraft: Option<Arc<Overdraft>>) -> Self {
        self.overdraft = overdraft;
        self
    }

    /// Whether there is room beyond credits.
    fn has_overdraft(&self) -> bool {
        self.overdraft.as_ref().is_some_and(|overdraft| overdraft.is_open())
    }

    /// Keeps a batch for which there is no credit.
    fn keep(&mut self, batch: Batch<T>) {
        if let Some(overdraft) = self.overdraft.as_ref().filter(|it| it.is_open()) {
            overdraft.charge(bytes_of(&batch));
        }
        self.waiting.push_back(Element::Data(batch));
    }

    /// Keeps what was in flight in the checkpoint that is restored.
    pub fn restore(&mut self, element: Element<T>) {
        self.waiting.push_back(element);
    }

    /// Sends a barrier before everything that waits; `note` is shown what it overtakes, in order.
    ///
    /// # Errors
    /// `note` fails, or the consumer is not the one that was planned.
    pub fn overtake(
        &mut self,
        barrier: Barrier,
        note: impl FnMut(&Element<T>) -> Result<(), ExchangeError>,
    ) -> Result<(), ExchangeError> {
        self.waiting.iter().try_for_each(note)?;
        self.find_local()?;
        if let Some((inbox, channel)) = &self.local {
            inbox.push_overtaking(*channel, barrier);
        } else if let Some(Target::Remote(connection)) = self.outlet.target() {
            let frame = wire::overtaking_frame(self.outlet.channel(), barrier);
            self.counters.add_bytes_out(frame.len() as u64);
            connection.send(&frame);
        } else {
            // The consumer has not come yet, so nothing was sent: it is the first that it gets.
            self.waiting.push_front(Element::Event(Event::Barrier(barrier)));
        }
        Ok(())
    }

    /// Notes the consumer's inbox, if it is in this process.
    fn find_local(&mut self) -> Result<(), ExchangeError> {
        if self.local.is_none()
            && let Some(Target::Local { inbox, channel }) = self.outlet.target()
        {
            let inbox = Arc::clone(inbox).downcast::<Inbox<T>>().map_err(|_| {
                ExchangeError::Lost("the two ends disagree on the record type".into())
            })?;
            self.local = Some((inbox, *channel));
        }
        Ok(())
    }

    /// Encodes the channel's first record and reads it back, for a consumer in any process, so that
    /// a type which cannot do that fails in one process as in two.
    #[cold]
    fn check_first(&mut self, batch: &Batch<T>) -> Result<(), ExchangeError> {
        self.checked = true;
        let Some(record) = batch.records().first() else { return Ok(()) };
        FRAME_BUFFER.with_borrow_mut(|buffer| buffer.check_record(record))?;
        Ok(())
    }

    /// Takes a credit, unless so much is in flight that it must wait.
    fn take_credit(&self) -> bool {
        !self.flight.is_full(self.outlet.in_flight()) && self.outlet.take_credit()
    }

    /// Sends a batch, or keeps it until there is a credit.
    ///
    /// # Errors
    /// The consumer's process is gone, or a record cannot be encoded.
    pub fn send_batch(&mut self, batch: Batch<T>) -> Result<Flow, ExchangeError> {
        if !self.checked {
            self.check_first(&batch)?;
        }
        if self.waiting.is_empty() && self.take_credit() {
            self.transmit(Element::Data(batch))?;
        } else {
            self.keep(batch);
        }
        if self.waiting.is_empty() { Ok(Flow::Ready) } else { self.drain() }
    }

    /// Sends the records of `buffer`, which keeps its room: to another process they are encoded
    /// from where they are, else they are copied.
    ///
    /// # Errors
    /// The consumer's process is gone, or a record cannot be encoded.
    pub fn send_all_of(&mut self, buffer: &mut Batch<T>) -> Result<Flow, ExchangeError> {
        if !self.checked {
            self.check_first(buffer)?;
        }
        if self.waiting.is_empty()
            && let Some(Target::Remote(connection)) = self.outlet.target()
            && self.take_credit()
        {
            let (count, bytes) = self.transmit_remote(connection, buffer)?;
            self.flight.add(bytes);
            buffer.remove_first(count);
            if buffer.is_empty() {
                return Ok(Flow::Ready);
            }
        }
        self.send_batch(buffer.move_out())
    }

    /// Sends an event behind everything that was sent before it, or keeps it until there is a
    /// credit. It takes the place of an event that waits and that it makes meaningless.
    ///
    /// # Errors
    /// The consumer's process is gone.
    pub fn send_event(&mut self, event: Event) -> Result<Flow, ExchangeError> {
        match self.waiting.back_mut() {
            Some(Element::Event(last)) if event.replaces(*last) => *last = event,
            _ => self.waiting.push_back(Element::Event(event)),
        }
        self.drain()
    }

    /// Whether the consumer has taken so much of what was sent that it may be waiting for more.
    /// If not, its next grant of credits wakes the task.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        let is_awaited = || self.outlet.is_awaited() && self.flight.is_low(self.outlet.in_flight());
        // Announce the wait first, then look again: a grant in between is not lost.
        is_awaited() || {
            self.outlet.announce_wait();
            is_awaited()
        }
    }

    /// Number of batches and events that wait for credits.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Sends what waits as far as there are credits.
    ///
    /// # Errors
    /// The consumer's process is gone, or a record cannot be encoded.
    pub fn drain(&mut self) -> Result<Flow, ExchangeError> {
        loop {
            while !self.waiting.is_empty() && self.take_credit() {
                if let Some(element) = self.waiting.pop_front() {
                    self.transmit(element)?;
                }
            }
            if let Some(why) = self.outlet.lost() {
                return Err(ExchangeError::Lost(why.to_owned()));
            }
            if self.waiting.is_empty() {
                return Ok(Flow::Ready);
            }
            // Announce the wait first, then look again: a grant in between is not lost.
            if self.outlet.announce_wait() || !self.can_send() {
                return Ok(if self.has_overdraft() { Flow::Ready } else { Flow::Full });
            }
        }
    }

    /// Whether the next credit may be taken, or none will ever come.
    fn can_send(&self) -> bool {
        let is_full = self.flight.is_full(self.outlet.in_flight());
        self.outlet.is_lost() || !is_full && self.outlet.has_credit()
    }

    /// Sends one element. Its credit is taken; credits come only after the target is attached.
    /// What does not fit into one frame waits first for the next credit.
    fn transmit(&mut self, element: Element<T>) -> Result<(), ExchangeError> {
        if self.local.is_none() {
            match self.outlet.target() {
                Some(Target::Remote(connection)) => {
                    match element {
                        Element::Data(batch) => {
                            let sent = self.transmit_remote(connection, &batch)?;
                            self.keep_rest(batch, sent);
                        }
                        Element::Event(event) => {
                            let frame = wire::event_frame(self.outlet.channel(), event);
                            self.counters.add_bytes_out(frame.len() as u64);
                            connection.send(&frame);
                            self.flight.add(0);
                        }
                    }
                    return Ok(());
                }
                Some(Target::Local { .. }) => self.find_local()?,
                None => return Err(ExchangeError::Lost("a credit came before its grantor".into())),
            }
        }
        if let Some((inbox, channel)) = &self.local {
            match element {
                Element::Data(batch) if self.encodes_always => {
                    let sent = self.transmit_rows(inbox, *channel, &batch)?;
                    self.keep_rest(batch, sent);
                }
                Element::Data(batch) => {
                    self.counters.add_records_out(batch.len() as u64);
                    self.counters.add_buffers_out(1);
                    self.flight.add(bytes_of(&batch));
                    inbox.push_batch(*channel, batch);
                }
                Element::Event(event) => {
                    self.flight.add(0);
                    inbox.push_event(*channel, event);
                }
            }
        }
        Ok(())
    }

    /// Notes a frame of so many records and bytes, and keeps the records that did not fit into it.
    fn keep_rest(&mut self, mut batch: Batch<T>, (count, bytes): (usize, usize)) {
        self.flight.add(bytes);
        if count < batch.len() {
            batch.remove_first(count);
            self.waiting.push_front(Element::Data(batch));
        }
    }

    /// As [`ChannelWriter::transmit_remote`], to a consumer of this process.
    fn transmit_rows(
        &self,
        inbox: &Inbox<T>,
        channel: u32,
        batch: &Batch<T>,
    ) -> Result<(usize, usize), ExchangeError> {
        self.encode(batch, |frame| {
            let payload = frame.get(wire::HEAD_BYTES..).unwrap_or_default();
            inbox.push_frame(channel, Bytes::copy_from_slice(payload));
        })
    }

    /// Sends the first records of a batch, as many as fit into a frame. Returns their number, and
    /// that of the frame's bytes.
    fn transmit_remote(
        &self,
        connection: &ConnectionHandle,
        batch: &Batch<T>,
    ) -> Result<(usize, usize), ExchangeError> {
        self.encode(batch, |frame| connection.send(frame))
    }

    fn encode(
        &self,
        batch: &Batch<T>,
        send: impl FnOnce(&[u8]),
    ) -> Result<(usize, usize), ExchangeError> {
        FRAME_BUFFER.with_borrow_mut(|buffer| {
            let (frame, count) = buffer.data_frame(self.outlet.channel(), batch)?;
            self.counters.add_records_out(count as u64);
            self.counters.add_buffers_out(1);
            self.counters.add_bytes_out(frame.len() as u64);
            send(frame);
            Ok((count, frame.len()))
        })
    }
}
