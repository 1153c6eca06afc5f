//! The consuming end of a task's input, as the task takes it: deliveries of channels that are held
//! back wait aside. Their credits stay taken, so no more wait than what the channels were granted,
//! and their producers stop.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::inbox::{Delivery, Inbox, Received};
use crate::wire::{Data, InboxError};

/// An inbox whose channels can be held back, for the one task that takes from it.
#[derive(Debug)]
pub struct Gate<T> {
    inbox: Arc<Inbox<T>>,
    /// Deliveries of channels that are held back, in order.
    aside: VecDeque<(u32, Delivery<T>)>,
    /// Deliveries that were aside once, in order; they come before the inbox's.
    released: VecDeque<(u32, Delivery<T>)>,
}

impl<T: Data> Gate<T> {
    /// The gate before an inbox.
    #[must_use]
    pub const fn new(inbox: Arc<Inbox<T>>) -> Self {
        Self { inbox, aside: VecDeque::new(), released: VecDeque::new() }
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
        loop {
            let next = match self.released.pop_front() {
                None => self.inbox.take(),
                released => released,
            };
            let Some((channel, delivery)) = next else { return Ok(Received::Nothing) };
            if holds(channel) && !matches!(delivery, Delivery::Lost(_)) {
                self.aside.push_back((channel, delivery));
            } else {
                return self.inbox.open(channel, delivery);
            }
        }
    }

    /// Lets the deliveries that are aside come before all others.
    pub fn release(&mut self) {
        // What is aside of a channel came before what is released of it.
        self.aside.append(&mut self.released);
        std::mem::swap(&mut self.aside, &mut self.released);
    }
}

#[cfg(test)]
mod tests;
