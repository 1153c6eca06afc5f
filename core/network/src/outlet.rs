//! The part of a channel that its two ends share.

use std::any::Any;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::Waker;

use millstream_types::HostId;

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

/// The part of a channel that both ends share: its credits and its target.
#[derive(Debug, Default)]
pub(crate) struct Outlet {
    credits: AtomicU32,
    /// The most credits that there were at once: all that the consumer grants.
    most: AtomicU32,
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
        let before = self.credits.fetch_add(credits, Ordering::AcqRel);
        self.most.fetch_max(before.saturating_add(credits), Ordering::Relaxed);
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

    pub(crate) fn target(&self) -> Option<&Target> {
        self.target.get()
    }

    /// Why the channel's other end is gone.
    pub(crate) fn lost(&self) -> Option<&str> {
        self.lost.get().map(String::as_str)
    }

    /// Has the producer woken by the next grant; whether it was said before.
    pub(crate) fn announce_wait(&self) -> bool {
        self.producer_waits.swap(true, Ordering::AcqRel)
    }

    /// Whether there is a credit, or none will ever come.
    pub(crate) fn can_send(&self) -> bool {
        self.lost.get().is_some() || self.credits.load(Ordering::Acquire) > 0
    }

    /// Whether the consumer has come and more than half of its credits are here. (Consumers in
    /// other processes grant in halves, so it may have taken everything.)
    pub(crate) fn is_awaited(&self) -> bool {
        let credits = self.credits.load(Ordering::Acquire);
        credits.saturating_mul(2) > self.most.load(Ordering::Relaxed)
    }

    pub(crate) fn set_waker(&self, waker: Waker) {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker);
    }

    pub(crate) fn take_credit(&self) -> bool {
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
