//! Work of an operator without a bound, in parts.

use std::task::Waker;

/// The number of calls or records after which other tasks have their turns.
const LONG: usize = if cfg!(test) { 40 } else { 1 << 14 };

/// The part that an operator does at once of work without a bound, like timers that are all due.
/// When it is over, the operator answers [`Flow::Full`](millstream_network::Flow::Full); its task
/// is awake and goes on in its next turn.
pub(crate) struct Stint {
    waker: Waker,
    done: usize,
}

impl Stint {
    pub(crate) fn of(waker: &Waker) -> Self {
        Self { waker: waker.clone(), done: 0 }
    }

    /// Notes so many calls or records.
    pub(crate) const fn add(&mut self, count: usize) {
        self.done += count;
    }

    /// Whether it has been long enough; if so, the task was woken.
    pub(crate) fn is_over(&self) -> bool {
        let is_over = self.done >= LONG;
        if is_over {
            self.waker.wake_by_ref();
        }
        is_over
    }
}
