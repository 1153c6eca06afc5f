//! Hands items from a thread that blocks to a task that must not.
//!
//! The queue is bounded: the thread waits when the task is slow, and learns that the task is gone
//! when it next hands something over. A thread that dies without saying that it is done is told
//! apart from one that is, so a panic there never looks like the end of the input.

use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::task::Waker;

/// Number of items that may wait.
const WAITING_MAX: usize = 2;

/// The thread's end.
pub(crate) struct Outlet<T> {
    sender: Option<SyncSender<Option<T>>>,
    waker: Waker,
}

/// The task's end.
pub(crate) struct Intake<T>(Receiver<Option<T>>);

/// The outcome of a look by the task.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken<T> {
    /// An item.
    Item(T),
    /// Nothing yet; the waker will be called.
    Nothing,
    /// The thread has handed over everything.
    Done,
    /// The thread is gone and did not say that it was done.
    Died,
}

/// Both ends; `waker` wakes the task.
pub(crate) fn handover<T>(waker: Waker) -> (Outlet<T>, Intake<T>) {
    let (sender, receiver) = sync_channel(WAITING_MAX);
    (Outlet { sender: Some(sender), waker }, Intake(receiver))
}

impl<T> Outlet<T> {
    /// Hands over an item, waiting for room; `false` if nobody wants it any more.
    pub(crate) fn send(&self, item: T) -> bool {
        self.put(Some(item))
    }

    /// Says that this was all.
    pub(crate) fn done(self) {
        self.put(None);
    }

    fn put(&self, item: Option<T>) -> bool {
        let sent = self.sender.as_ref().is_some_and(|sender| sender.send(item).is_ok());
        self.waker.wake_by_ref();
        sent
    }
}

impl<T> Drop for Outlet<T> {
    fn drop(&mut self) {
        self.sender = None;
        self.waker.wake_by_ref();
    }
}

impl<T> Intake<T> {
    /// Takes an item, waiting for it.
    pub(crate) fn wait(&self) -> Taken<T> {
        match self.0.recv() {
            Ok(Some(item)) => Taken::Item(item),
            Ok(None) => Taken::Done,
            Err(_) => Taken::Died,
        }
    }

    /// Takes an item without waiting.
    pub(crate) fn take(&self) -> Taken<T> {
        match self.0.try_recv() {
            Ok(Some(item)) => Taken::Item(item),
            Ok(None) => Taken::Done,
            Err(TryRecvError::Empty) => Taken::Nothing,
            Err(TryRecvError::Disconnected) => Taken::Died,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_in_order_and_then_the_end() {
        let (outlet, intake) = handover(Waker::noop().clone());
        assert_eq!(intake.take(), Taken::<u32>::Nothing);
        assert!(outlet.send(1));
        outlet.done();
        assert_eq!(intake.take(), Taken::Item(1));
        assert_eq!(intake.take(), Taken::Done);
    }

    #[test]
    fn a_thread_that_dies_is_not_the_end_of_the_input() {
        let (outlet, intake) = handover(Waker::noop().clone());
        assert!(outlet.send(1));
        drop(outlet);
        assert_eq!(intake.take(), Taken::Item(1));
        assert_eq!(intake.take(), Taken::Died);
    }

    #[test]
    fn nobody_hands_over_to_a_task_that_is_gone() {
        let (outlet, intake) = handover(Waker::noop().clone());
        drop(intake);
        assert!(!outlet.send(1));
    }
}
