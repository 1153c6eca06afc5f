//! The way of a barrier through a task, as the task's body follows it.

use std::sync::Arc;
use std::time::Duration;

use millstream_network::{Event, Flow};
use millstream_state::SliceBudget;
use millstream_types::{BarrierKind, CheckpointId, OperatorId};

use crate::task::{Slice, TaskCheckpoints};

/// The operator that stores the records in flight of a stream, the stream's name, and the items.
pub type StreamItems = (OperatorId, String, Vec<Vec<u8>>);

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
    /// The barrier that is under way overtakes records.
    overtakes: bool,
    /// The checkpoint whose snapshot waits for the records that are in flight to the task.
    awaits_input: Option<CheckpointId>,
    /// There is room beyond credits for the barrier that waits.
    is_prepared: bool,
    /// The task waited for its output although it had room beyond credits.
    fell_back: bool,
}

impl Passage {
    /// No barrier is under way.
    #[must_use]
    pub const fn new(checkpoints: Option<Arc<TaskCheckpoints>>) -> Self {
        Self {
            checkpoints,
            is_under_way: false,
            is_open: false,
            stops: false,
            has_stopped: false,
            overtakes: false,
            awaits_input: None,
            is_prepared: false,
            fell_back: false,
        }
    }

    /// Notes an event that is handed on next.
    pub fn before(&mut self, event: Event) {
        if let (Event::Barrier(barrier), Some(checkpoints)) = (event, &self.checkpoints) {
            checkpoints.begin(barrier);
            self.is_under_way = true;
            self.is_open = true;
            self.stops = matches!(barrier.kind, BarrierKind::Stop { .. });
            self.overtakes = barrier.kind == BarrierKind::Unaligned;
            self.awaits_input = None;
            if self.overtakes {
                checkpoints.overdraft().open();
            }
        }
    }

    /// As [`Passage::before`]. If barriers may overtake the records of all inputs, the snapshot of
    /// an unaligned one waits for those that are in flight to the task.
    pub fn before_with_input(&mut self, event: Event, may_be_overtaken: bool) {
        self.before(event);
        if let (Event::Barrier(barrier), Some(checkpoints)) = (event, &self.checkpoints)
            && self.overtakes
            && may_be_overtaken
        {
            checkpoints.await_input(std::mem::take(&mut self.fell_back));
            self.awaits_input = Some(barrier.checkpoint);
        }
    }

    /// An unaligned barrier waits until what was accepted before it is handed on: there is room for
    /// that beyond credits, once for each barrier that leaves.
    pub fn prepare(&mut self) {
        if let Some(checkpoints) = &self.checkpoints
            && !std::mem::replace(&mut self.is_prepared, true)
        {
            checkpoints.overdraft().open();
        }
    }

    /// The output is full although there was room beyond credits: the barrier waits for it.
    pub fn fall_back(&mut self) {
        self.fell_back = true;
    }

    /// Whether the snapshot waits for the records that are in flight to the task.
    #[must_use]
    pub const fn awaits_input(&self) -> bool {
        self.awaits_input.is_some()
    }

    /// Whether the snapshot that waits for records in flight has become void.
    #[must_use]
    pub fn is_void(&self) -> bool {
        let wants = |id| self.checkpoints.as_ref().is_some_and(|it| it.wants_input(id));
        self.awaits_input.is_some_and(|id| !wants(id))
    }

    /// Ends the wait for the records in flight, which are these of each operator's streams, or
    /// cannot be stored.
    pub fn end_input(&mut self, alignment: Duration, streams: Result<Vec<StreamItems>, String>) {
        self.awaits_input = None;
        let Some(checkpoints) = &self.checkpoints else { return };
        let refusal = match streams {
            Ok(streams) => {
                for (operator, name, items) in streams {
                    checkpoints.add_in_flight(operator, &name, items);
                }
                None
            }
            Err(why) => Some(why),
        };
        checkpoints.end_input(refusal, alignment);
    }

    /// Notes the answer of the first operator. Once that is [`Flow::Ready`] the barrier has left
    /// the task, and its snapshot goes to the host as soon as it is whole. Returns whether the
    /// first operator must be resumed now: the barrier has overtaken records, and there is no more
    /// room for them.
    #[inline]
    #[must_use]
    pub fn after(&mut self, flow: Flow) -> bool {
        self.is_under_way && flow == Flow::Ready && self.leave()
    }

    #[cold]
    fn leave(&mut self) -> bool {
        self.is_under_way = false;
        self.has_stopped = self.stops;
        self.is_prepared = false;
        if let Some(checkpoints) = &self.checkpoints {
            self.is_open = checkpoints.finish();
            if self.overtakes {
                checkpoints.overdraft().close();
            }
        }
        std::mem::take(&mut self.overtakes)
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
