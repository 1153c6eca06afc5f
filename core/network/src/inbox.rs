//! The consuming end of a task's input: all its channels in one queue, in order of arrival.
//!
//! A channel's batches and events take a credit each, so the queue holds at most the credits of all
//! channels; of large batches a channel sends fewer, see [`FLIGHT_BYTES`]. A credit is granted
//! again when its batch or event leaves the queue.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;

use bytes::Bytes;
use millstream_types::{Barrier, HostId};

use crate::batch::Batch;
use crate::channel_id::{ChannelId, InputChannels};
use crate::counters::TaskCounters;
use crate::flight::FLIGHT_BYTES;
use crate::outgoing::ConnectionHandle;
use crate::outlet::{CREDITS_MAX, Outlet};
use crate::wire::{self, Credits, Data, Element, Event, InboxError, WireError};

/// The next element of an input.
#[derive(Debug)]
pub enum Received<T> {
    /// Records of one channel.
    Batch(u32, Batch<T>),
    /// An event of one channel.
    Event(u32, Event),
    /// Nothing now; the waker will be called.
    Nothing,
}

/// A delivery that waits.
#[derive(Debug)]
pub(crate) enum Delivery<T> {
    Batch(Batch<T>),
    Frame(Bytes),
    Event(Event),
    /// A barrier that has overtaken what waited at its sender. It came without a credit.
    Overtaking(Barrier),
    /// A batch or an event that was in flight in the checkpoint that is restored.
    Restored(Element<T>),
    Lost(String),
}

#[derive(Debug)]
struct Queue<T> {
    deliveries: VecDeque<(u32, Delivery<T>)>,
    consumer_waits: bool,
}

/// Where a channel's credits go.
#[derive(Debug)]
enum Upstream {
    Local(Outlet),
    Remote(ConnectionHandle),
}

#[derive(Debug, Default)]
struct ChannelEnd {
    upstream: OnceLock<Upstream>,
    /// Batches and events that came and whose credit was not granted again.
    held: AtomicU32,
    /// Batches and events consumed and not yet granted again; for remote channels, which grant in
    /// halves.
    owed: AtomicU32,
    /// The bytes of those.
    owed_bytes: AtomicU32,
}

/// One input of one task. Producers and connections push, the task's thread pops.
#[derive(Debug)]
pub struct Inbox<T> {
    queue: Mutex<Queue<T>>,
    /// The length of the queue.
    waiting: AtomicUsize,
    /// A barrier that overtakes has come since this was asked last.
    overtaking: AtomicBool,
    inputs: Vec<InputChannels>,
    /// The channels of all inputs.
    channels: Box<[ChannelEnd]>,
    credits: u32,
    waker: Waker,
    counters: Arc<TaskCounters>,
}

/// An inbox, as connections use it.
pub(crate) trait FrameSink: Send + Sync {
    /// Takes a data or event frame's payload. Refuses one of another host than the channel's, or
    /// for which the channel had no credit.
    fn deliver(&self, channel: u32, peer: HostId, frame: RemoteDelivery) -> Result<(), WireError>;

    /// Says that a host is gone, if channels come from there.
    fn lose(&self, peer: HostId, why: &str);
}

/// A delivery from a connection.
pub(crate) enum RemoteDelivery {
    Data(Bytes),
    Event(Event),
    Overtaking(Barrier),
}

impl<T: Data> Inbox<T> {
    /// An input with these channels, numbered in this order, each with room for `credits` batches
    /// and events, at most [`CREDITS_MAX`]; `waker` wakes its task.
    #[must_use]
    pub fn new(
        inputs: Vec<InputChannels>,
        credits: u32,
        waker: Waker,
        counters: Arc<TaskCounters>,
    ) -> Arc<Self> {
        let channels = inputs.iter().map(InputChannels::count).sum();
        let channels = (0..channels).map(|_| ChannelEnd::default()).collect();
        let queue = Queue { deliveries: VecDeque::new(), consumer_waits: false };
        let (queue, waiting) = (Mutex::new(queue), AtomicUsize::new(0));
        let credits = credits.clamp(1, CREDITS_MAX);
        let overtaking = AtomicBool::new(false);
        Arc::new(Self { queue, waiting, overtaking, inputs, channels, credits, waker, counters })
    }

    fn lock(&self) -> MutexGuard<'_, Queue<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a batch or an event of a channel; an error if it has no credit for it.
    fn hold(&self, channel: u32) -> Result<(), WireError> {
        let Some(end) = self.channels.get(channel as usize) else {
            return Err(WireError("data came for a channel that the input does not have"));
        };
        if end.held.fetch_add(1, Ordering::AcqRel) < self.credits {
            Ok(())
        } else {
            Err(WireError("a channel sent more than it was granted"))
        }
    }

    fn push(&self, channel: u32, delivery: Delivery<T>) {
        let mut queue = self.lock();
        queue.deliveries.push_back((channel, delivery));
        self.waiting.store(queue.deliveries.len(), Ordering::Relaxed);
        let wake = std::mem::take(&mut queue.consumer_waits);
        drop(queue);
        if wake {
            self.waker.wake_by_ref();
        }
    }

    /// Takes a batch or event of a channel of this process, sent for a credit.
    fn push_local(&self, channel: u32, delivery: Delivery<T>) {
        let held = self.hold(channel);
        debug_assert_eq!(held, Ok(()), "a writer takes a credit first");
        self.push(channel, delivery);
    }

    pub(crate) fn push_batch(&self, channel: u32, batch: Batch<T>) {
        self.push_local(channel, Delivery::Batch(batch));
    }

    /// Takes the payload of a data frame of this process.
    pub(crate) fn push_frame(&self, channel: u32, payload: Bytes) {
        self.push_local(channel, Delivery::Frame(payload));
    }

    pub(crate) fn push_event(&self, channel: u32, event: Event) {
        self.push_local(channel, Delivery::Event(event));
    }

    /// Takes a barrier that has overtaken what waited at its sender, and wakes the task although it
    /// may wait for its output. It takes the place of an earlier one of its channel, so there are
    /// never more than channels.
    pub(crate) fn push_overtaking(&self, channel: u32, barrier: Barrier) {
        let mut queue = self.lock();
        queue.deliveries.retain(|(of, delivery)| {
            *of != channel || !matches!(delivery, Delivery::Overtaking(_))
        });
        queue.deliveries.push_back((channel, Delivery::Overtaking(barrier)));
        self.waiting.store(queue.deliveries.len(), Ordering::Relaxed);
        queue.consumer_waits = false;
        drop(queue);
        self.overtaking.store(true, Ordering::Release);
        self.waker.wake_by_ref();
    }

    /// Whether a barrier that overtakes has come since everything was taken.
    #[inline]
    pub(crate) fn is_overtaken(&self) -> bool {
        self.overtaking.load(Ordering::Acquire)
    }

    /// Takes everything that waits; the credits stay taken until the deliveries are opened. The
    /// task is woken by what comes next.
    pub(crate) fn take_all(&self, into: &mut VecDeque<(u32, Delivery<T>)>) {
        self.overtaking.store(false, Ordering::Release);
        let mut queue = self.lock();
        into.append(&mut queue.deliveries);
        queue.consumer_waits = true;
        self.waiting.store(0, Ordering::Relaxed);
    }

    /// Says that the producer of a channel is gone.
    pub(crate) fn push_lost(&self, channel: u32, why: &str) {
        self.push(channel, Delivery::Lost(why.to_owned()));
    }

    /// The number of channels.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.channels.len()
    }

    /// Number of batches and events that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// The inputs, each with the number of its first channel.
    pub(crate) fn inputs(&self) -> impl Iterator<Item = (u32, &InputChannels)> {
        self.inputs.iter().scan(0, |next, input| {
            let base = *next;
            *next += input.count();
            Some((base, input))
        })
    }

    fn channel_id(&self, channel: u32) -> Option<ChannelId> {
        self.inputs().find_map(|(base, input)| {
            let at = channel.checked_sub(base).filter(|at| *at < input.count())?;
            Some(input.channel(input.from.start + at))
        })
    }

    pub(crate) fn connect_local(&self, channel: u32, outlet: Outlet) {
        // The upstream first: a credit that is used at once must find its way back.
        if let Some(end) = self.channels.get(channel as usize) {
            let _ = end.upstream.set(Upstream::Local(outlet.clone()));
        }
        outlet.grant(self.credits);
    }

    /// Connects channels that follow each other to one host.
    pub(crate) fn connect_remote(&self, channels: Range<u32>, connection: &ConnectionHandle) {
        let count = channels.end - channels.start;
        for channel in channels.clone() {
            if let Some(end) = self.channels.get(channel as usize) {
                let _ = end.upstream.set(Upstream::Remote(connection.clone()));
            }
        }
        if let Some(first) = self.channel_id(channels.start) {
            let credits = Credits { credits: self.credits, channels: count };
            connection.grant_first(first, credits);
        }
    }

    /// Takes the oldest delivery and grants its channel the credit again.
    ///
    /// # Errors
    /// An upstream process is gone or sent malformed bytes.
    pub fn receive(&self) -> Result<Received<T>, InboxError> {
        match self.take() {
            Some((channel, delivery)) => self.open(channel, delivery),
            None => Ok(Received::Nothing),
        }
    }

    /// Grants the credit of a delivery that was taken, and reads it.
    #[inline]
    pub(crate) fn open(
        &self,
        channel: u32,
        delivery: Delivery<T>,
    ) -> Result<Received<T>, InboxError> {
        match delivery {
            Delivery::Batch(batch) => {
                self.grant(channel, 0);
                self.counters.add_records_in(batch.len() as u64);
                Ok(Received::Batch(channel, batch))
            }
            Delivery::Frame(payload) => {
                let bytes = payload.len() + wire::HEAD_BYTES;
                self.grant(channel, bytes);
                let batch = wire::decode_data(&payload)?;
                self.counters.add_records_in(batch.len() as u64);
                self.counters.add_bytes_in(bytes as u64);
                Ok(Received::Batch(channel, batch))
            }
            Delivery::Event(event) => {
                self.grant(channel, 0);
                Ok(Received::Event(channel, event))
            }
            Delivery::Overtaking(barrier) => Ok(Received::Event(channel, Event::Barrier(barrier))),
            Delivery::Restored(Element::Data(batch)) => {
                self.counters.add_records_in(batch.len() as u64);
                Ok(Received::Batch(channel, batch))
            }
            Delivery::Restored(Element::Event(event)) => Ok(Received::Event(channel, event)),
            Delivery::Lost(why) => Err(InboxError::Lost(why)),
        }
    }

    /// Takes what arrived next; its credit stays taken until [`Inbox::grant`].
    pub(crate) fn take(&self) -> Option<(u32, Delivery<T>)> {
        let mut queue = self.lock();
        let next = queue.deliveries.pop_front();
        queue.consumer_waits = next.is_none();
        self.waiting.store(queue.deliveries.len(), Ordering::Relaxed);
        next
    }

    /// Gives a channel back the credit of a batch or an event that was taken; its frame had so many
    /// bytes.
    fn grant(&self, channel: u32, bytes: usize) {
        let Some(end) = self.channels.get(channel as usize) else { return };
        // First: the credit may be used before this thread goes on.
        end.held.fetch_sub(1, Ordering::AcqRel);
        match end.upstream.get() {
            None => {}
            Some(Upstream::Local(outlet)) => outlet.grant(1),
            Some(Upstream::Remote(connection)) => {
                let owed = end.owed.load(Ordering::Relaxed) + 1;
                let owed_bytes = end.owed_bytes.load(Ordering::Relaxed);
                let owed_bytes =
                    owed_bytes.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
                // Half of either: its producer never waits for less.
                let is_half = owed * 2 >= self.credits || owed_bytes as usize * 2 >= FLIGHT_BYTES;
                if is_half && let Some(id) = self.channel_id(channel) {
                    connection.grant(id, owed);
                }
                let (owed, owed_bytes) = if is_half { (0, 0) } else { (owed, owed_bytes) };
                end.owed.store(owed, Ordering::Relaxed);
                end.owed_bytes.store(owed_bytes, Ordering::Relaxed);
            }
        }
    }
}

impl ChannelEnd {
    fn comes_from(&self, peer: HostId) -> bool {
        matches!(self.upstream.get(), Some(Upstream::Remote(from)) if from.peer() == peer)
    }
}

impl<T: Data> FrameSink for Inbox<T> {
    fn deliver(
        &self,
        channel: u32,
        peer: HostId,
        delivery: RemoteDelivery,
    ) -> Result<(), WireError> {
        let end = self.channels.get(channel as usize);
        if !end.is_some_and(|end| end.comes_from(peer)) {
            return Err(WireError("data came for a channel that is not read from this host"));
        }
        let delivery = match delivery {
            RemoteDelivery::Event(event) => Delivery::Event(event),
            RemoteDelivery::Data(payload) => Delivery::Frame(payload),
            RemoteDelivery::Overtaking(barrier) => {
                self.push_overtaking(channel, barrier);
                return Ok(());
            }
        };
        self.hold(channel)?;
        self.push(channel, delivery);
        Ok(())
    }

    fn lose(&self, peer: HostId, why: &str) {
        let lost = self.channels.iter().position(|end| end.comes_from(peer));
        if let Some(channel) = lost.and_then(|at| u32::try_from(at).ok()) {
            // The first one ends the task.
            self.push_lost(channel, why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel_id::{EndId, Generation};
    use millstream_types::{BarrierKind, CheckpointId};

    use crate::wire::BARRIER;

    const PEER: HostId = HostId::from_u128(2);

    fn inbox(channels: u32, credits: u32) -> Arc<Inbox<u64>> {
        let end = EndId { edge: 0, subtask: 0, generation: Generation::FIRST };
        let hosts = vec![PEER; channels as usize].into();
        let inputs = vec![InputChannels { end, from: 0..channels, hosts }];
        let inbox = Inbox::new(inputs, credits, Waker::noop().clone(), Arc::default());
        inbox.connect_remote(0..channels, &ConnectionHandle::new(PEER));
        inbox
    }

    fn deliver(inbox: &Inbox<u64>, channel: u32) -> Result<(), WireError> {
        inbox.deliver(channel, PEER, RemoteDelivery::Event(BARRIER))
    }

    #[test]
    fn a_host_sends_through_no_channel_of_another_one() {
        let inbox = inbox(1, 2);
        let other = HostId::from_u128(3);
        assert!(inbox.deliver(0, other, RemoteDelivery::Event(BARRIER)).is_err());
        inbox.lose(other, "it ended");
        assert!(matches!(inbox.receive(), Ok(Received::Nothing)));
        inbox.lose(PEER, "it ended");
        assert_eq!(inbox.receive().unwrap_err(), InboxError::Lost("it ended".to_owned()));
    }

    #[test]
    fn a_channel_that_sends_more_than_its_credits_is_refused_and_others_are_not() {
        let inbox = inbox(2, 3);
        assert!((0..3).all(|_| deliver(&inbox, 0).is_ok()));
        assert_eq!(inbox.waiting(), 3);
        let error = Err(WireError("a channel sent more than it was granted"));
        assert_eq!(deliver(&inbox, 0), error);
        assert_eq!(inbox.waiting(), 3, "what is refused is not kept");
        assert!(deliver(&inbox, 1).is_ok(), "another channel has credits of its own");
        assert!(deliver(&inbox, 2).is_err(), "there is no such channel");
    }

    #[test]
    fn a_credit_is_back_when_its_batch_or_event_was_received() {
        let inbox = inbox(1, 2);
        for _ in 0..100 {
            assert!(deliver(&inbox, 0).is_ok());
            assert!(matches!(inbox.receive(), Ok(Received::Event(0, _))));
        }
        assert!(matches!(inbox.receive(), Ok(Received::Nothing)));
    }

    #[test]
    fn what_was_taken_keeps_its_credit_until_it_is_granted() {
        for granted in [false, true] {
            let inbox = inbox(1, 1);
            deliver(&inbox, 0).unwrap();
            assert!(inbox.take().is_some());
            if granted {
                inbox.grant(0, 0);
            }
            assert_eq!(deliver(&inbox, 0).is_ok(), granted, "the only credit is taken");
        }
    }

    #[test]
    fn a_barrier_that_overtakes_needs_no_credit_and_takes_the_place_of_an_earlier_one() {
        let inbox = inbox(2, 1);
        deliver(&inbox, 0).unwrap();
        assert!(!inbox.is_overtaken());
        for number in 1..=100 {
            let barrier = Barrier::new(CheckpointId::new(number), BarrierKind::Unaligned);
            let barrier = RemoteDelivery::Overtaking(barrier);
            assert!(inbox.deliver(0, PEER, barrier).is_ok());
        }
        assert!(inbox.is_overtaken());
        let mut taken = VecDeque::new();
        inbox.take_all(&mut taken);
        assert!(!inbox.is_overtaken() && inbox.waiting() == 0);
        let last = Barrier::new(CheckpointId::new(100), BarrierKind::Unaligned);
        let is_last = matches!(&taken[1], (0, Delivery::Overtaking(barrier)) if *barrier == last);
        assert!(taken.len() == 2 && is_last, "{taken:?}");
        assert!(deliver(&inbox, 0).is_err(), "the credit of the first delivery is still taken");
    }
}
