//! The end of a checkpoint that all tasks have acknowledged: it is stored, completed, committed,
//! and removes older ones.

use std::sync::Arc;
use std::time::Instant;

use millstream_mutants::Mutant;
use millstream_types::CheckpointId;

use super::ending::Cause;
use super::{Coordinator, End};
use crate::assembly::{Head, assemble};
use crate::files;
use crate::messages::{Action, Answer, Completed, Now};
use crate::metadata::{Kind, Metadata};
use crate::pending::{Contributions, Pending, Phase, Report};
use crate::policy::RETRY_PAUSE;
use crate::stats::Outcome;

/// The most files of one action.
const DELETED_MAX: usize = 1_000;

impl Coordinator {
    /// Stores the oldest checkpoint that is acknowledged, unless another one is being stored.
    /// Savepoints that commit nothing are stored beside others.
    pub(super) fn store_next(&mut self, now: Now) {
        let is_queued = |pending: &Pending| matches!(pending.phase(), Phase::Queued(_));
        let queued: Vec<(CheckpointId, Kind)> = self
            .pending
            .iter()
            .filter(|(_, pending)| is_queued(pending))
            .map(|(id, pending)| (*id, pending.kind()))
            .collect();
        for (id, kind) in queued {
            if !kind.commits() || !self.is_storing() {
                self.store(now, id);
            }
        }
    }

    /// Whether a checkpoint that commits may be in the store without being complete.
    pub(super) fn is_storing(&self) -> bool {
        self.pending.values().any(|pending| pending.kind().commits() && pending.is_completing())
    }

    fn store(&mut self, now: Now, id: CheckpointId) {
        let Some(pending) = self.pending.get_mut(&id) else { return };
        let (job, kind) = (self.plan.job, pending.kind());
        let head = Head { job, checkpoint: id, kind, triggered: pending.started() };
        let (plan, commits) = (&self.plan, &self.commits);
        let mut held: Vec<String> = Vec::new();
        let stored = pending.store(|contributions| {
            held = files_of(&contributions);
            let (coordinators, reports) = contributions.into_parts();
            let carried = reports.values().flat_map(Report::committables);
            let carried = commits.carried(id, carried);
            assemble(plan, head, coordinators, reports, carried)
        });
        // From here on the metadata holds the files, no longer the acknowledgements.
        let directory = pending.directory();
        match stored {
            Ok(None) => {}
            Ok(Some(metadata)) => {
                self.retention.hold(metadata.files());
                self.retention.release(held.iter().map(String::as_str), self.last);
                if Mutant::CommitsBeforeCompletion.lives() {
                    self.commits.complete(id, &metadata.committables);
                }
                self.actions.push(Action::Store { id, metadata, directory });
            }
            Err(why) => {
                self.retention.release(held.iter().map(String::as_str), self.last);
                self.abort(now, id, Cause::Contradiction(&why));
            }
        }
    }

    pub(super) fn on_store_failed(&mut self, now: Now, id: CheckpointId, reason: &str) {
        if self.pending.get(&id).is_some_and(Pending::is_completing) {
            self.abort(now, id, Cause::Store(reason));
        } else {
            self.ignored.unknown_checkpoint += 1;
        }
    }

    /// Looks at once whether the pointer is there, and again after a pause as long as that is not
    /// known either.
    pub(super) fn on_store_unknown(&mut self, now: Now, id: CheckpointId, reason: String) {
        let look_at = now.instant.checked_add(RETRY_PAUSE).unwrap_or(now.instant);
        let is_storing = |pending: &Pending| matches!(pending.phase(), Phase::Storing(_));
        let is_first = self.pending.get(&id).is_some_and(is_storing);
        if !self.pending.get_mut(&id).is_some_and(|pending| pending.on_unknown(look_at, reason)) {
            self.ignored.unknown_checkpoint += 1;
        } else if Mutant::TakesDoubtForFailure.lives() {
            self.abort(now, id, Cause::Store("its outcome is not known"));
        } else if is_first {
            self.actions.push(Action::ReadBack(id));
        }
    }

    /// Looks again for checkpoints whose outcome is not known.
    pub(super) fn look_again(&mut self, now: Instant) {
        for (id, pending) in &mut self.pending {
            if pending.look_at().is_some_and(|at| at <= now) {
                pending.on_look();
                self.actions.push(Action::ReadBack(*id));
            }
        }
    }

    /// Completes a checkpoint.
    pub(super) fn on_stored(&mut self, now: Now, id: CheckpointId) {
        if !self.pending.get(&id).is_some_and(Pending::is_completing) {
            self.ignored.unknown_checkpoint += 1;
            return;
        }
        let Some(pending) = self.pending.remove(&id) else { return };
        let (kind, trigger, base) = (pending.kind(), pending.trigger(), pending.base());
        let directory = pending.directory();
        let (phase, mut stats) = pending.into_ended();
        let metadata = match phase {
            Phase::Storing(metadata) | Phase::InDoubt { metadata, .. } => metadata,
            Phase::Reserving | Phase::Coordinators | Phase::Tasks(_) | Phase::Queued(_) => return,
        };
        self.retention.unpin(base);
        let state_bytes = metadata.state_bytes();
        stats.outcome = Outcome::Completed { at: now.wall, state_bytes, discarded: false };
        self.history.on_end(stats);
        self.policy.on_end(now.instant);
        self.last_complete = Some(now.instant);
        let tasks = self.tasks.running().collect();
        self.actions.push(Action::Complete { id, kind, tasks });
        self.answer(trigger, || Answer::Complete(id));
        if kind.commits() {
            self.policy.on_success();
            self.commits.complete(id, &metadata.committables);
            self.supersede(now, id);
            self.keep(metadata, directory);
        } else {
            self.retention.give_away(metadata.files());
        }
        if kind.is_last() {
            self.end = End::Committing;
            self.abort_open(now, Cause::Ended);
            self.refuse_requests("the job has ended");
        }
    }

    fn keep(&mut self, metadata: Arc<Metadata>, directory: Option<String>) {
        let owned = !metadata.kind.is_savepoint();
        self.retention.add(Completed { metadata, owned, directory });
    }

    /// Aborts the older checkpoints that are pending still; savepoints go on.
    fn supersede(&mut self, now: Now, by: CheckpointId) {
        let is_older = |(id, pending): &(&CheckpointId, &Pending)| {
            **id < by && !pending.kind().is_savepoint() && !pending.is_completing()
        };
        let older: Vec<CheckpointId> =
            self.pending.iter().filter(is_older).map(|(id, _)| *id).collect();
        older.into_iter().for_each(|id| self.abort(now, id, Cause::Subsumed(by)));
    }

    /// Orders the committers to publish what they have not been told of. Those of a new host are
    /// told to recover in any case.
    pub(super) fn order_commits(&mut self) {
        if !self.host_ready || !self.plan.has_committers() {
            return;
        }
        let recover = !std::mem::replace(&mut self.recovered, true);
        if let Some((commit, committables)) = self.commits.order(recover) {
            let checkpoint = self.commits.through();
            self.actions.push(Action::Commit { commit, checkpoint, recover, committables });
        }
    }

    /// Removes pointers that are due, and files that nothing refers to.
    pub(super) fn remove(&mut self, now: Instant) {
        let due = self.retention.take_due(now);
        self.actions.extend(due.into_iter().map(Action::Discard));
        let mut open = self.pending.iter().filter(|(_, pending)| pending.is_open());
        let oldest_open = open.next().map(|(id, _)| *id);
        let unused = self.retention.unused(oldest_open);
        self.delete(None, unused);
    }

    fn delete(&mut self, checkpoint: Option<CheckpointId>, mut files: Vec<String>) {
        if checkpoint.is_none() && files.is_empty() {
            return;
        }
        let mut checkpoint = checkpoint;
        loop {
            let rest = files.split_off(files.len().min(DELETED_MAX));
            self.actions.push(Action::Delete { checkpoint: checkpoint.take(), files });
            if rest.is_empty() {
                return;
            }
            files = rest;
        }
    }

    pub(super) fn on_discarded(&mut self, id: CheckpointId) {
        match self.retention.on_discarded(id) {
            Some(files) => {
                self.history.on_discarded(id);
                self.delete(Some(id), files);
            }
            None => self.ignored.unknown_checkpoint += 1,
        }
    }

    pub(super) fn on_not_discarded(&mut self, now: Now, id: CheckpointId) {
        let again = now.instant.checked_add(RETRY_PAUSE).unwrap_or(now.instant);
        if !self.retention.on_not_discarded(id, again) {
            self.ignored.unknown_checkpoint += 1;
        }
    }
}

/// The files that acknowledgements refer to. Last reports hold theirs as long as the tasks are
/// known.
pub(super) fn files_of(contributions: &Contributions) -> Vec<String> {
    let acknowledged = contributions.reports().filter(|report| !report.is_finished());
    acknowledged.flat_map(|report| files::of(report.snapshots())).map(str::to_owned).collect()
}
