//! The consuming end of a task's input: all its channels in one queue, in order of arrival.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;

use bytes::Bytes;

use crate::batch::{Batch, TimesError};
use crate::channel::Outlet;
use crate::connection::ConnectionHandle;
use crate::counters::TaskCounters;
use crate::wire::{self, Data, DecodeError, EncodeError, Event, WireError};

/// Why an input cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InboxError {
    /// A channel's other end is gone.
    #[error("lost the connection to an upstream task: {0}")]
    Lost(String),
    /// A channel's bytes are not what they should be.
    #[error(transparent)]
    Malformed(#[from] WireError),
    /// A record cannot be read back from its bytes.
    #[error(transparent)]
    Unreadable(#[from] DecodeError),
    /// A record cannot be sent.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// Records with event times and without came where only one kind can.
    #[error(transparent)]
    Times(#[from] TimesError),
}

/// What an input has.
#[derive(Debug)]
pub enum Received<T> {
    /// Records of one channel.
    Batch(u32, Batch<T>),
    /// An event of one channel.
    Event(u32, Event),
    /// Nothing now; the waker will be called.
    Nothing,
}

#[derive(Debug)]
enum Delivery<T> {
    Batch(Batch<T>),
    Frame(Bytes),
    Event(Event),
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
    Local(Arc<Outlet>),
    Remote(ConnectionHandle),
}

#[derive(Debug)]
struct ChannelEnd {
    number: u64,
    upstream: OnceLock<Upstream>,
    /// Batches consumed and not yet granted again; for remote channels, which grant in halves.
    owed: AtomicU32,
}

/// One input of one task. Producers and connections push, the task's thread pops.
#[derive(Debug)]
pub struct Inbox<T> {
    queue: Mutex<Queue<T>>,
    channels: Vec<ChannelEnd>,
    credits: u32,
    waker: Waker,
    counters: Arc<TaskCounters>,
}

/// What a connection sees of an inbox.
pub(crate) trait FrameSink: Send + Sync {
    /// Takes a data or event frame's payload. Refuses what the channel was not granted.
    fn deliver(&self, channel: u32, frame: RemoteDelivery) -> Result<(), WireError>;
}

/// What a connection brings.
pub(crate) enum RemoteDelivery {
    Data(Bytes),
    Event(Event),
    Lost(String),
}

impl<T: Data> Inbox<T> {
    /// An input with these channels, each with `credits` batches; `waker` wakes its task.
    #[must_use]
    pub fn new(
        channel_numbers: &[u64],
        credits: u32,
        waker: Waker,
        counters: Arc<TaskCounters>,
    ) -> Arc<Self> {
        let channels = channel_numbers
            .iter()
            .map(|number| ChannelEnd {
                number: *number,
                upstream: OnceLock::new(),
                owed: AtomicU32::new(0),
            })
            .collect();
        let queue = Queue { deliveries: VecDeque::new(), consumer_waits: false };
        Arc::new(Self { queue: Mutex::new(queue), channels, credits, waker, counters })
    }

    fn lock(&self) -> MutexGuard<'_, Queue<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, channel: u32, delivery: Delivery<T>) {
        let mut queue = self.lock();
        queue.deliveries.push_back((channel, delivery));
        let wake = std::mem::take(&mut queue.consumer_waits);
        drop(queue);
        if wake {
            self.waker.wake_by_ref();
        }
    }

    pub(crate) fn push_batch(&self, channel: u32, batch: Batch<T>) {
        self.push(channel, Delivery::Batch(batch));
    }

    /// Takes the payload of a data frame of this process.
    pub(crate) fn push_frame(&self, channel: u32, payload: Bytes) {
        self.push(channel, Delivery::Frame(payload));
    }

    pub(crate) fn push_event(&self, channel: u32, event: Event) {
        self.push(channel, Delivery::Event(event));
    }

    /// The number of channels.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.channels.len()
    }

    /// How many batches and events wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.lock().deliveries.len()
    }

    pub(crate) fn connect_local(&self, channel: u32, outlet: Arc<Outlet>) {
        outlet.grant(self.credits);
        if let Some(end) = self.channels.get(channel as usize) {
            let _ = end.upstream.set(Upstream::Local(outlet));
        }
    }

    pub(crate) fn connect_remote(&self, channel: u32, connection: ConnectionHandle) {
        if let Some(end) = self.channels.get(channel as usize) {
            connection.send(&wire::credit_frame(end.number, self.credits));
            let _ = end.upstream.set(Upstream::Remote(connection));
        }
    }

    /// Takes what arrived next and grants the channel what it used.
    ///
    /// # Errors
    /// An upstream process is gone or sent something malformed.
    pub fn receive(&self) -> Result<Received<T>, InboxError> {
        let mut queue = self.lock();
        let Some((channel, delivery)) = queue.deliveries.pop_front() else {
            queue.consumer_waits = true;
            return Ok(Received::Nothing);
        };
        drop(queue);
        match delivery {
            Delivery::Batch(batch) => {
                self.grant(channel);
                self.counters.add_records_in(batch.len() as u64);
                Ok(Received::Batch(channel, batch))
            }
            Delivery::Frame(payload) => {
                self.grant(channel);
                let batch = wire::decode_data(&payload)?;
                self.counters.add_records_in(batch.len() as u64);
                self.counters.add_bytes_in((payload.len() + wire::HEAD_BYTES) as u64);
                Ok(Received::Batch(channel, batch))
            }
            Delivery::Event(event) => Ok(Received::Event(channel, event)),
            Delivery::Lost(why) => Err(InboxError::Lost(why)),
        }
    }

    fn grant(&self, channel: u32) {
        let Some(end) = self.channels.get(channel as usize) else { return };
        match end.upstream.get() {
            None => {}
            Some(Upstream::Local(outlet)) => outlet.grant(1),
            Some(Upstream::Remote(connection)) => {
                let owed = end.owed.load(Ordering::Relaxed) + 1;
                if owed * 2 >= self.credits {
                    connection.send(&wire::credit_frame(end.number, owed));
                    end.owed.store(0, Ordering::Relaxed);
                } else {
                    end.owed.store(owed, Ordering::Relaxed);
                }
            }
        }
    }
}

impl<T: Data> FrameSink for Inbox<T> {
    fn deliver(&self, channel: u32, delivery: RemoteDelivery) -> Result<(), WireError> {
        let delivery = match delivery {
            RemoteDelivery::Event(event) => Delivery::Event(event),
            RemoteDelivery::Lost(why) => Delivery::Lost(why),
            RemoteDelivery::Data(payload) => Delivery::Frame(payload),
        };
        // Honest peers never exceed their credits; a bound beyond them catches the others.
        let bound = (self.credits as usize + 4096) * self.channels.len().max(1);
        if self.lock().deliveries.len() > bound {
            return Err(WireError("a channel sent more than it was granted"));
        }
        self.push(channel, delivery);
        Ok(())
    }
}
