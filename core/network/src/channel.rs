//! The producing end of a channel.

use std::any::Any;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::Waker;

use bytes::Bytes;
use millstream_types::{HostId, LeaderEpoch};

use crate::batch::Batch;
use crate::connection::ConnectionHandle;
use crate::counters::TaskCounters;
use crate::exchange::ExchangeError;
use crate::inbox::Inbox;
use crate::wire::{self, Data, Element, Event, FrameBuffer, WireError};

thread_local! {
    static FRAME_BUFFER: RefCell<FrameBuffer> = RefCell::default();
}

/// The most batches and events that a channel's consumer grants beyond those that were sent. A peer
/// that grants more is refused: otherwise the frames that wait for its socket would have no limit.
pub const CREDITS_MAX: u32 = 1024;

/// An attempt to run a region: frames of another one than the channel's are dropped.
///
/// Attempts of a later leader are newer than all of the leaders before, which may have used the
/// same numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation {
    /// The epoch of the leader that deployed it.
    pub epoch: LeaderEpoch,
    /// The number of attempts of this leader before it.
    pub attempt: u32,
}

impl Generation {
    /// Before every other one.
    pub const FIRST: Self = Self { epoch: LeaderEpoch::new(0), attempt: 0 };
}

impl std::fmt::Display for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "attempt {} of {}", self.attempt, self.epoch)
    }
}

/// Names a channel: which edge of the job graph, from which subtask, to which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId {
    /// The edge's number, below 2^24.
    pub edge: u32,
    /// The producing subtask, below 2^20.
    pub from: u32,
    /// The consuming subtask, below 2^20.
    pub to: u32,
    /// The attempt that both ends belong to.
    pub generation: Generation,
}

impl ChannelId {
    /// The number that stands for it on the wire, beside its generation.
    #[must_use]
    pub(crate) const fn number(self) -> u64 {
        (self.edge as u64) << 40 | (self.from as u64 & 0xf_ffff) << 20 | self.to as u64 & 0xf_ffff
    }

    pub(crate) const fn of_wire(number: u64, generation: Generation) -> Self {
        let (from, to) = ((number >> 20) as u32 & 0xf_ffff, number as u32 & 0xf_ffff);
        Self { edge: (number >> 40) as u32, from, to, generation }
    }
}

/// Where a channel leads once its consumer is there.
#[derive(Debug)]
pub(crate) enum Target {
    Local { inbox: Arc<dyn Any + Send + Sync>, channel: u32 },
    Remote(ConnectionHandle),
}

/// The part of a channel that both ends share: its credits and its target.
#[derive(Debug, Default)]
pub(crate) struct Outlet {
    credits: AtomicU32,
    producer_waits: AtomicBool,
    waker: Mutex<Option<Waker>>,
    target: OnceLock<Target>,
    lost: OnceLock<String>,
}

impl Outlet {
    pub(crate) fn attach(&self, target: Target) {
        let _ = self.target.set(target);
        self.wake();
    }

    pub(crate) fn grant(&self, credits: u32) {
        self.credits.fetch_add(credits, Ordering::AcqRel);
        self.wake();
    }

    /// As [`Self::attach`] and [`Self::grant`], of a consumer in another process.
    pub(crate) fn grant_from(
        &self,
        connection: &ConnectionHandle,
        credits: u32,
    ) -> Result<(), WireError> {
        self.attach(Target::Remote(connection.clone()));
        if !self.leads_to(connection.peer()) {
            return Err(WireError("credits came for a channel that leads to another host"));
        }
        if credits.saturating_add(self.credits.load(Ordering::Acquire)) > CREDITS_MAX {
            return Err(WireError("a channel was granted more than any can use"));
        }
        self.grant(credits);
        Ok(())
    }

    pub(crate) fn leads_to(&self, peer: HostId) -> bool {
        matches!(self.target.get(), Some(Target::Remote(to)) if to.peer() == peer)
    }

    pub(crate) fn lose(&self, why: String) {
        let _ = self.lost.set(why);
        self.wake();
    }

    fn wake(&self) {
        if self.producer_waits.swap(false, Ordering::AcqRel) {
            let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    fn set_waker(&self, waker: Waker) {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker);
    }

    fn take_credit(&self) -> bool {
        let taken = self
            .credits
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |credits| credits.checked_sub(1));
        taken.is_ok()
    }
}

/// Whether a producer may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Yes: everything is on its way.
    Ready,
    /// Not before what waits has found credits; the task's waker will be called then.
    Full,
}

impl Flow {
    /// Ready if both are.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Ready, Self::Ready) => Self::Ready,
            (Self::Full, _) | (_, Self::Full) => Self::Full,
        }
    }
}

/// The producing end of one channel. It takes everything and keeps batches and events that have no
/// credit yet; a producer stops giving it more once it answers [`Flow::Full`].
#[derive(Debug)]
pub struct ChannelWriter<T> {
    channel: ChannelId,
    outlet: Arc<Outlet>,
    local: Option<(Arc<Inbox<T>>, u32)>,
    waiting: VecDeque<Element<T>>,
    counters: Arc<TaskCounters>,
    /// Whether batches are encoded for a consumer in this process too.
    encodes_always: bool,
    /// Whether a record was encoded and read back.
    checked: bool,
}

impl<T: Data> ChannelWriter<T> {
    pub(crate) fn new(
        channel: ChannelId,
        outlet: Arc<Outlet>,
        waker: Waker,
        counters: Arc<TaskCounters>,
        encodes_always: bool,
    ) -> Self {
        outlet.set_waker(waker);
        Self {
            channel,
            outlet,
            local: None,
            waiting: VecDeque::new(),
            counters,
            encodes_always,
            checked: false,
        }
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

    /// Sends a batch, or keeps it until there is a credit.
    ///
    /// # Errors
    /// The consumer's process is gone, or a record cannot be encoded.
    pub fn send_batch(&mut self, batch: Batch<T>) -> Result<Flow, ExchangeError> {
        if !self.checked {
            self.check_first(&batch)?;
        }
        if self.waiting.is_empty() && self.outlet.take_credit() {
            self.transmit(Element::Data(batch))?;
        } else {
            self.waiting.push_back(Element::Data(batch));
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
            && let Some(Target::Remote(connection)) = self.outlet.target.get()
            && self.outlet.take_credit()
        {
            let count = self.transmit_remote(connection, buffer)?;
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
            while !self.waiting.is_empty() && self.outlet.take_credit() {
                if let Some(element) = self.waiting.pop_front() {
                    self.transmit(element)?;
                }
            }
            if let Some(why) = self.outlet.lost.get() {
                return Err(ExchangeError::Lost(why.clone()));
            }
            if self.waiting.is_empty() {
                return Ok(Flow::Ready);
            }
            // Announce the wait first, then look again: a grant in between is not lost.
            if self.outlet.producer_waits.swap(true, Ordering::AcqRel) || !self.can_send() {
                return Ok(Flow::Full);
            }
        }
    }

    fn can_send(&self) -> bool {
        self.outlet.lost.get().is_some() || self.outlet.credits.load(Ordering::Acquire) > 0
    }

    /// Sends one element. Its credit is taken; credits come only after the target is attached.
    /// What does not fit into one frame waits first for the next credit.
    fn transmit(&mut self, element: Element<T>) -> Result<(), ExchangeError> {
        if self.local.is_none() {
            match self.outlet.target.get() {
                Some(Target::Remote(connection)) => {
                    match element {
                        Element::Data(mut batch) => {
                            let count = self.transmit_remote(connection, &batch)?;
                            if count < batch.len() {
                                batch.remove_first(count);
                                self.waiting.push_front(Element::Data(batch));
                            }
                        }
                        Element::Event(event) => {
                            let frame = wire::event_frame(self.channel, event);
                            self.counters.add_bytes_out(frame.len() as u64);
                            connection.send(&frame);
                        }
                    }
                    return Ok(());
                }
                Some(Target::Local { inbox, channel }) => {
                    let inbox = Arc::clone(inbox).downcast::<Inbox<T>>().map_err(|_| {
                        ExchangeError::Lost("the two ends disagree on the record type".into())
                    })?;
                    self.local = Some((inbox, *channel));
                }
                None => return Err(ExchangeError::Lost("a credit came before its grantor".into())),
            }
        }
        if let Some((inbox, channel)) = &self.local {
            match element {
                Element::Data(mut batch) if self.encodes_always => {
                    let count = self.transmit_rows(inbox, *channel, &batch)?;
                    if count < batch.len() {
                        batch.remove_first(count);
                        self.waiting.push_front(Element::Data(batch));
                    }
                }
                Element::Data(batch) => {
                    self.counters.add_records_out(batch.len() as u64);
                    self.counters.add_buffers_out(1);
                    inbox.push_batch(*channel, batch);
                }
                Element::Event(event) => inbox.push_event(*channel, event),
            }
        }
        Ok(())
    }

    /// As [`ChannelWriter::transmit_remote`], to a consumer of this process.
    fn transmit_rows(
        &self,
        inbox: &Inbox<T>,
        channel: u32,
        batch: &Batch<T>,
    ) -> Result<usize, ExchangeError> {
        FRAME_BUFFER.with_borrow_mut(|buffer| {
            let (frame, count) = buffer.data_frame(self.channel, batch)?;
            self.counters.add_records_out(count as u64);
            self.counters.add_buffers_out(1);
            self.counters.add_bytes_out(frame.len() as u64);
            let payload = frame.get(wire::HEAD_BYTES..).unwrap_or_default();
            inbox.push_frame(channel, Bytes::copy_from_slice(payload));
            Ok(count)
        })
    }

    /// Sends the first records of a batch, as many as fit into a frame, and says how many.
    fn transmit_remote(
        &self,
        connection: &ConnectionHandle,
        batch: &Batch<T>,
    ) -> Result<usize, ExchangeError> {
        FRAME_BUFFER.with_borrow_mut(|buffer| {
            let (frame, count) = buffer.data_frame(self.channel, batch)?;
            self.counters.add_records_out(count as u64);
            self.counters.add_buffers_out(1);
            self.counters.add_bytes_out(frame.len() as u64);
            connection.send(frame);
            Ok(count)
        })
    }
}
