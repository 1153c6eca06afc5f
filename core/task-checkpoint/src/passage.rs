//! The way of a barrier through a task, as the task's body follows it.

use std::sync::Arc;

use millstream_network::{Event, Flow};
use millstream_types::BarrierKind;

use crate::task::TaskCheckpoints;

/// Follows the barriers that a body hands to its first operator.
#[derive(Debug)]
pub struct Passage {
    /// `None` if the job takes no checkpoints.
    checkpoints: Option<Arc<TaskCheckpoints>>,
    is_under_way: bool,
    /// The barrier that is under way stops the job.
    stops: bool,
    has_stopped: bool,
}

impl Passage {
    /// No barrier is under way.
    #[must_use]
    pub const fn new(checkpoints: Option<Arc<TaskCheckpoints>>) -> Self {
        Self { checkpoints, is_under_way: false, stops: false, has_stopped: false }
    }

    /// Notes an event that is handed on next.
    pub fn before(&mut self, event: Event) {
        if let (Event::Barrier(barrier), Some(checkpoints)) = (event, &self.checkpoints) {
            checkpoints.begin(barrier);
            self.is_under_way = true;
            self.stops = matches!(barrier.kind, BarrierKind::Stop { .. });
        }
    }

    /// Notes the answer of the first operator. Once that is [`Flow::Ready`] the barrier has left
    /// the task, and its snapshot goes to the host.
    #[inline]
    pub fn after(&mut self, flow: Flow) {
        if self.is_under_way && flow == Flow::Ready {
            self.is_under_way = false;
            self.has_stopped = self.stops;
            if let Some(checkpoints) = &self.checkpoints {
                checkpoints.finish();
            }
        }
    }

    /// Whether a barrier that stops the job has left the task, which emits nothing behind it.
    #[must_use]
    pub const fn has_stopped(&self) -> bool {
        self.has_stopped
    }
}
