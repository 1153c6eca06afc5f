//! The part of channels that their two ends share.

use std::any::Any;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::Waker;

use millstream_types::HostId;

use crate::channel_id::{ChannelId, EndId};
use crate::outgoing::ConnectionHandle;
use crate::wire::WireError;

/// The most batches and events that a channel's consumer grants beyond those that were sent. A peer
/// that grants more is refused: otherwise the frames that wait for its socket would have no limit.
pub const CREDITS_MAX: u32 = 1024;

/// Where a channel leads once its consumer is there.
#[derive(Debug)]
pub(crate) enum Target {
    Local { inbox: Arc<dyn Any + Send + Sync>, channel: u32 },
    Remote(ConnectionHandle),
}

/// The channels of one exchange that start at one subtask, as far as both of their ends share them.
#[derive(Debug)]
pub(crate) struct Output {
    id: EndId,
    /// The first subtask that it sends to.
    first: u32,
    channels: Box<[State]>,
    /// Wakes the producer.
    waker: Mutex<Option<Waker>>,
    /// Why other ends are gone, if some are.
    lost: OnceLock<String>,
}

#[derive(Debug, Default)]
struct State {
    credits: AtomicU32,
    /// The most credits that there were at once: all that the consumer grants.
    most: AtomicU32,
    producer_waits: AtomicBool,
    is_lost: AtomicBool,
    target: OnceLock<Target>,
}

impl Output {
    /// The channels to these subtasks.
    pub(crate) fn new(id: EndId, targets: Range<u32>) -> Arc<Self> {
        Arc::new(Self {
            id,
            first: targets.start,
            channels: targets.map(|_| State::default()).collect(),
            waker: Mutex::default(),
            lost: OnceLock::new(),
        })
    }

    /// The channel to a subtask; none if the producer does not send to it.
    pub(crate) fn outlet(self: &Arc<Self>, to: u32) -> Option<Outlet> {
        let at = to.checked_sub(self.first)?;
        self.channels.get(at as usize)?;
        Some(Outlet { output: Arc::clone(self), at })
    }

    pub(crate) fn set_waker(&self, waker: Waker) {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker);
    }

    /// Tells the producer that a host is gone, if channels lead there.
    pub(crate) fn lose(&self, peer: HostId, why: &str) {
        let mut leads_there = false;
        for channel in self.channels.iter().filter(|channel| channel.leads_to(peer)) {
            let _ = self.lost.set(why.to_owned());
            channel.is_lost.store(true, Ordering::Release);
            channel.producer_waits.store(false, Ordering::Release);
            leads_there = true;
        }
        if leads_there {
            self.wake();
        }
    }

    fn wake(&self) {
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl State {
    fn leads_to(&self, peer: HostId) -> bool {
        matches!(self.target.get(), Some(Target::Remote(to)) if to.peer() == peer)
    }
}

/// The part of a channel that both ends share: its credits and its target.
#[derive(Debug, Clone)]
pub(crate) struct Outlet {
    output: Arc<Output>,
    at: u32,
}

impl Outlet {
    /// An outlet that leads nowhere.
    pub(crate) fn nowhere(channel: ChannelId) -> Self {
        Self { output: Output::new(channel.output(), channel.to..channel.to + 1), at: 0 }
    }

    #[expect(clippy::indexing_slicing, reason = "an outlet is made for a channel that is there")]
    fn state(&self) -> &State {
        &self.output.channels[self.at as usize]
    }

    /// The channel's name.
    pub(crate) fn channel(&self) -> ChannelId {
        let EndId { edge, subtask, generation } = self.output.id;
        ChannelId { edge, from: subtask, to: self.output.first + self.at, generation }
    }

    pub(crate) fn attach(&self, target: Target) {
        let _ = self.state().target.set(target);
        self.wake();
    }

    pub(crate) fn grant(&self, credits: u32) {
        let state = self.state();
        let before = state.credits.fetch_add(credits, Ordering::AcqRel);
        state.most.fetch_max(before.saturating_add(credits), Ordering::Relaxed);
        self.wake();
    }

    /// As [`Self::attach`] and [`Self::grant`], of a consumer in another process.
    pub(crate) fn grant_from(
        &self,
        connection: &ConnectionHandle,
        credits: u32,
    ) -> Result<(), WireError> {
        let state = self.state();
        if state.target.get().is_none() {
            let _ = state.target.set(Target::Remote(connection.clone()));
        }
        if !state.leads_to(connection.peer()) {
            return Err(WireError("credits came for a channel that leads to another host"));
        }
        if credits.saturating_add(state.credits.load(Ordering::Acquire)) > CREDITS_MAX {
            return Err(WireError("a channel was granted more than any can use"));
        }
        self.grant(credits);
        Ok(())
    }

    fn wake(&self) {
        if self.state().producer_waits.swap(false, Ordering::AcqRel) {
            self.output.wake();
        }
    }

    pub(crate) fn target(&self) -> Option<&Target> {
        self.state().target.get()
    }

    /// Why the channel's other end is gone.
    pub(crate) fn lost(&self) -> Option<&str> {
        match self.is_lost() {
            true => self.output.lost.get().map(String::as_str),
            false => None,
        }
    }

    /// Has the producer woken by the next grant; whether it was said before.
    pub(crate) fn announce_wait(&self) -> bool {
        self.state().producer_waits.swap(true, Ordering::AcqRel)
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.state().is_lost.load(Ordering::Acquire)
    }

    pub(crate) fn has_credit(&self) -> bool {
        self.state().credits.load(Ordering::Acquire) > 0
    }

    /// The number of batches and events that were sent and whose credits are not back.
    pub(crate) fn in_flight(&self) -> u32 {
        let state = self.state();
        let credits = state.credits.load(Ordering::Acquire);
        state.most.load(Ordering::Relaxed).saturating_sub(credits)
    }

    /// Whether the consumer has come and more than half of its credits are here. (Consumers in
    /// other processes grant in halves, so it may have taken everything.)
    pub(crate) fn is_awaited(&self) -> bool {
        let state = self.state();
        let credits = state.credits.load(Ordering::Acquire);
        credits.saturating_mul(2) > state.most.load(Ordering::Relaxed)
    }

    pub(crate) fn take_credit(&self) -> bool {
        let credits = &self.state().credits;
        let less = |credits: u32| credits.checked_sub(1);
        credits.fetch_update(Ordering::AcqRel, Ordering::Acquire, less).is_ok()
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
