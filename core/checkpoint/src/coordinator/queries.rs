//! Questions to the coordinator that change nothing.

use std::time::Instant;

use millstream_types::CheckpointId;

use super::{Coordinator, End, Mode};
use crate::messages::Completed;
use crate::pending::Pending;
use crate::stats::{Ignored, Report, Status};

impl Coordinator {
    /// When to send the next [`crate::Event::Tick`], if time alone is waited for.
    #[must_use]
    pub fn next_time(&self) -> Option<Instant> {
        let deadlines = self.pending.values().filter_map(Pending::deadline);
        let deadlines = deadlines.chain(self.pending.values().filter_map(Pending::align_until));
        let looks = self.pending.values().filter_map(Pending::look_at);
        let others = self.next_start().into_iter().chain(self.retention.next_time());
        deadlines.chain(looks).chain(others).min()
    }

    /// The checkpoint that a restart begins from, unless one is being stored.
    #[must_use]
    pub fn latest(&self) -> Option<&Completed> {
        self.retention.latest()
    }

    /// The complete checkpoints that are kept, oldest first.
    pub fn retained(&self) -> impl Iterator<Item = &Completed> {
        self.retention.retained()
    }

    /// The pending checkpoints up to this one.
    pub fn pending_until(&self, last: CheckpointId) -> impl Iterator<Item = CheckpointId> {
        self.pending.range(..=last).map(|(id, _)| *id)
    }

    /// Whether it is certain which checkpoint a restart begins from: none is being stored.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.mode != Mode::Settling
    }

    /// Whether the last checkpoint of the job is complete: it does not run again.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.end != End::None
    }

    /// The newest id in use; 0 before the first one.
    #[must_use]
    pub const fn last_id(&self) -> CheckpointId {
        self.last
    }

    /// Counts of ignored messages.
    #[must_use]
    pub const fn ignored(&self) -> Ignored {
        self.ignored
    }

    /// The present state, with the reasons why a checkpoint does not complete or start.
    #[must_use]
    pub fn status(&self, now: Instant) -> Status {
        let pending = self.pending.values().map(|pending| pending.status(&self.plan, now));
        Status {
            blocked: self.periodic_blocked(),
            pending: pending.collect(),
            uncommitted: self.commits.count(),
            last_complete_age: self.last_complete.map(|at| now.saturating_duration_since(at)),
            failures_in_a_row: self.policy.failures(),
            ignored: self.ignored,
        }
    }

    /// The statistics for REST.
    #[must_use]
    pub fn report(&self) -> Report {
        self.history.report(self.pending.values().map(Pending::stats))
    }
}
