//! The way of a barrier through a task, as the task's body follows it.

use std::sync::Arc;

use millstream_network::{Event, Flow};
use millstream_state::SliceBudget;
use millstream_types::BarrierKind;

use crate::task::{Slice, TaskCheckpoints};

/// Follows the barriers that a body hands to its first operator.
#[derive(Debug)]
pub struct Passage {
    /// `None` if the job takes no checkpoints.
    checkpoints: Option<Arc<TaskCheckpoints>>,
    is_under_way: bool,
    /// A snapshot is not whole: of the barrier that is under way, or of one that has left.
    is_open: bool,
    /// The barrier that is under way stops the job.
    stops: bool,
    has_stopped: bool,
}

impl Passage {
    /// No barrier is under way.
    #[must_use]
    pub const fn new(checkpoints: Option<Arc<TaskCheckpoints>>) -> Self {
        let (is_under_way, is_open) = (false, false);
        Self { checkpoints, is_under_way, is_open, stops: false, has_stopped: false }
    }

    /// Notes an event that is handed on next.
    pub fn before(&mut self, event: Event) {
        if let (Event::Barrier(barrier), Some(checkpoints)) = (event, &self.checkpoints) {
            checkpoints.begin(barrier);
            self.is_under_way = true;
            self.is_open = true;
            self.stops = matches!(barrier.kind, BarrierKind::Stop { .. });
        }
    }

    /// Notes the answer of the first operator. Once that is [`Flow::Ready`] the barrier has left
    /// the task, and its snapshot goes to the host as soon as it is whole.
    #[inline]
    pub fn after(&mut self, flow: Flow) {
        if self.is_under_way && flow == Flow::Ready {
            self.is_under_way = false;
            self.has_stopped = self.stops;
            if let Some(checkpoints) = &self.checkpoints {
                self.is_open = checkpoints.finish();
            }
        }
    }

    /// Whether a snapshot is not whole, so that slices of it may be left.
    #[inline]
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.is_open
    }

    /// Has `write` write a slice of the snapshot that is open, if there is something left; whether
    /// there still is.
    pub fn slice(&mut self, budget: SliceBudget, write: impl FnOnce(&mut Slice<'_>)) -> bool {
        if !self.is_open {
            return false;
        }
        let slice = self.checkpoints.as_ref().and_then(|checkpoints| checkpoints.slice(budget));
        let Some(mut slice) = slice else {
            // Until the barrier has left, operators may still begin.
            self.is_open = self.is_under_way;
            return false;
        };
        write(&mut slice);
        let is_left = slice.end();
        self.is_open = is_left || self.is_under_way;
        is_left
    }

    /// Whether a barrier that stops the job has left the task, which emits nothing behind it.
    #[must_use]
    pub const fn has_stopped(&self) -> bool {
        self.has_stopped
    }
}
