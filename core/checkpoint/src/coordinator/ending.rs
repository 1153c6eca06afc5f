//! Failures, restarts and the end of the job.

use std::sync::Arc;

use millstream_mutants::Mutant;
use millstream_types::{CheckpointId, ExecutionAttemptId};

use super::completing::files_of;
use super::{Coordinator, End, Mode};
use crate::files;
use crate::messages::{Action, Answer, Completed, FinalReport, Now, OperatorSnapshot, Request};
use crate::metadata::{Kind, Metadata};
use crate::pending::{Pending, Phase};
use crate::plan::{Plan, Subtask};
use crate::policy::RETRY_PAUSE;
use crate::stats::{Outcome, Restored};

/// The most late acknowledgements that are waited for, to delete their files.
const LATE_MAX: usize = 100_000;

/// The reason why a checkpoint is aborted.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cause<'a> {
    /// Its id could not be stored.
    Id(&'a str),
    /// A coordinator has no snapshot.
    Coordinators(&'a str),
    /// A task cannot take part.
    Declined(ExecutionAttemptId, &'a str),
    /// It was not acknowledged in time.
    Timeout,
    /// Its barriers wait for records; one whose barriers overtake takes its place.
    NotAligned,
    /// Subtasks contradict each other.
    Contradiction(&'a str),
    /// It could not be stored.
    Store(&'a str),
    /// A task has failed.
    TaskFailed(ExecutionAttemptId),
    /// A task has finished without an acknowledgement.
    TaskFinished(ExecutionAttemptId),
    /// A task does not run any more.
    TaskGone,
    /// The coordinator host is lost.
    HostLost,
    /// A later one is complete.
    Subsumed(CheckpointId),
    /// The job restarts.
    Restart,
    /// Some regions of the job restart.
    RegionsRestart,
    /// The job has ended.
    Ended,
}

impl Cause<'_> {
    /// Whether it counts as a failure of checkpoints, as in Flink: other causes say nothing about
    /// the next checkpoint, or fail the job by themselves.
    const fn counts(self) -> bool {
        match self {
            Self::Coordinators(_)
            | Self::Declined(..)
            | Self::Timeout
            | Self::Contradiction(_)
            | Self::Store(_) => true,
            Self::Id(_)
            | Self::NotAligned
            | Self::TaskFailed(_)
            | Self::TaskFinished(_)
            | Self::TaskGone
            | Self::HostLost
            | Self::Subsumed(_)
            | Self::Restart
            | Self::RegionsRestart
            | Self::Ended => false,
        }
    }
}

impl Coordinator {
    /// The sentence on a cause.
    fn sentence(&self, id: CheckpointId, pending: &Pending, cause: Cause<'_>) -> String {
        let name = |task: ExecutionAttemptId| self.plan.name_of(task.into());
        let kind = pending.kind();
        let why = match cause {
            Cause::Id(reason) => format!("its id could not be stored: {reason}"),
            Cause::Coordinators(reason) => format!("a coordinator has no snapshot: {reason}"),
            Cause::Declined(task, reason) => format!("{} declined it: {reason}", name(task)),
            Cause::Timeout => {
                let reason = pending.reason_of_delay(&self.plan);
                format!("it was not acknowledged within {:?}: {reason}", self.settings.timeout)
            }
            Cause::NotAligned => format!(
                "its barriers have not left all tasks within {:?}: one whose barriers overtake \
                 takes its place: {}",
                self.settings.aligned_timeout,
                pending.reason_of_delay(&self.plan)
            ),
            Cause::Contradiction(reason) => reason.to_owned(),
            Cause::Store(reason) => format!("it could not be stored: {reason}"),
            Cause::TaskFailed(task) => format!("{} failed", name(task)),
            Cause::TaskFinished(task) => format!("{} finished without it", name(task)),
            Cause::TaskGone => "not all tasks run any more".to_owned(),
            Cause::HostLost => "the coordinator host is lost".to_owned(),
            Cause::Subsumed(by) => format!("{by} is complete"),
            Cause::Restart => "the job restarts".to_owned(),
            Cause::RegionsRestart => "some of the job's tasks restart".to_owned(),
            Cause::Ended => "the job has ended".to_owned(),
        };
        format!("{kind} {id} failed: {why}")
    }

    /// Ends a checkpoint without success. It costs nothing but its id, unless too many have failed,
    /// or it would have stopped the job: its tasks do not go on behind the barrier.
    pub(super) fn abort(&mut self, now: Now, id: CheckpointId, cause: Cause<'_>) {
        let Some(pending) = self.pending.remove(&id) else { return };
        let reason = self.sentence(id, &pending, cause);
        let (kind, trigger, was_told) = (pending.kind(), pending.trigger(), !pending.is_starting());
        self.retention.unpin(pending.base());
        let (phase, mut stats) = pending.into_ended();
        match phase {
            Phase::Reserving | Phase::Coordinators => {}
            Phase::Tasks(contributions) | Phase::Queued(contributions) => {
                let held = files_of(&contributions);
                self.late.extend(contributions.waiting().map(|task| (id, task)));
                while self.late.len() > LATE_MAX {
                    self.late.pop_first();
                }
                self.retention.release(held.iter().map(String::as_str), self.last);
            }
            Phase::Storing(metadata) | Phase::InDoubt { metadata, .. } => {
                self.retention.release(metadata.files(), self.last);
            }
        }
        stats.outcome = Outcome::Failed { at: now.wall, reason: reason.clone() };
        self.history.on_end(stats);
        self.policy.on_end(now.instant);
        let tasks = if was_told { self.tasks.running().collect() } else { Vec::new() };
        self.actions.push(Action::Abort { id, tasks });
        match (cause, trigger) {
            (Cause::NotAligned, Some(trigger)) => {
                self.requests.push_front((trigger, Request::Checkpoint));
            }
            (_, trigger) => self.answer(trigger, || Answer::Failed(reason.clone())),
        }
        match kind {
            // Without tasks there is nothing to restart: the final checkpoint is still to come.
            Kind::Checkpoint if cause.counts() && !self.tasks.have_finished() => {
                if self.policy.on_failure() {
                    let failures = self.policy.failures();
                    let many = format!("{failures} checkpoints in a row failed, the last one so: ");
                    let prefix = if failures > 1 { many } else { String::new() };
                    self.fail_job(format!("{prefix}{reason}"));
                }
            }
            Kind::Final => self.final_again = now.instant.checked_add(RETRY_PAUSE),
            Kind::Stop { .. } if was_told => self.fail_job(reason),
            Kind::Checkpoint | Kind::Savepoint | Kind::Stop { .. } => {}
        }
    }

    /// Aborts all checkpoints that cannot be in the store.
    pub(super) fn abort_open(&mut self, now: Now, cause: Cause<'_>) {
        self.abort_those(now, cause, |pending| !pending.is_completing());
    }

    fn abort_those(&mut self, now: Now, cause: Cause<'_>, which: impl Fn(&Pending) -> bool) {
        let pending = self.pending.iter().filter(|(_, pending)| which(pending));
        let ids: Vec<CheckpointId> = pending.map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| self.abort(now, id, cause));
    }

    /// Aborts checkpoints whose barriers have not been sent.
    pub(super) fn abort_starting(&mut self, now: Now, cause: Cause<'_>) {
        self.abort_those(now, cause, Pending::is_starting);
    }

    /// Aborts checkpoints that are late.
    pub(super) fn give_up_late(&mut self, now: Now) {
        let is_late =
            |pending: &Pending| pending.deadline().is_some_and(|deadline| deadline <= now.instant);
        self.abort_those(now, Cause::Timeout, is_late);
    }

    /// Gives up checkpoints whose barriers wait for records too long.
    pub(super) fn give_up_aligned(&mut self, now: Now) {
        let late = self
            .pending
            .iter_mut()
            .find_map(|(id, pending)| pending.waits_too_long(now.instant).then_some(*id));
        if let Some(id) = late {
            self.overtakes = true;
            self.abort(now, id, Cause::NotAligned);
        }
    }

    /// Fails the tasks, once: the job restarts.
    pub(super) fn fail_job(&mut self, reason: String) {
        if self.mode == Mode::Running && self.end == End::None {
            self.mode = Mode::Idle;
            self.actions.push(Action::FailJob(reason));
        }
    }

    pub(super) fn refuse_requests(&mut self, why: &str) {
        let requests = std::mem::take(&mut self.requests);
        for (trigger, _) in requests {
            self.answer(Some(trigger), || Answer::Failed(why.to_owned()));
        }
    }

    pub(super) fn on_restarting(&mut self, now: Now, attempt: u32) {
        self.mode = Mode::Settling;
        self.overtakes = false;
        self.restarting.clear();
        self.abort_open(now, Cause::Restart);
        self.final_again = None;
        for report in self.tasks.restart(attempt) {
            self.retention.release(files::of(&report.snapshots), self.last);
        }
        self.policy.on_restart();
        self.refuse_requests("the job restarts");
    }

    /// Takes in that some tasks restart. If they fail a stop with their savepoint, all will.
    pub(super) fn on_regions_restarting(&mut self, now: Now, tasks: Vec<Subtask>, attempt: u32) {
        if self.mode != Mode::Running || self.end != End::None {
            return;
        }
        self.abort_open(now, Cause::RegionsRestart);
        for report in self.tasks.restart_some(&tasks, attempt) {
            self.retention.release(files::of(&report.snapshots), self.last);
        }
        self.policy.on_restart();
        self.restarting.extend(tasks);
    }

    /// Lets regions restart from the newest checkpoint, when it is certain which one that is.
    pub(super) fn settle_regions(&mut self, now: Now) {
        let may_run = self.mode == Mode::Running && self.end == End::None;
        if self.restarting.is_empty() || !may_run || self.is_storing() {
            return;
        }
        let tasks = std::mem::take(&mut self.restarting);
        let (from, finished) = self.restore(now, |subtask| tasks.contains(&subtask));
        self.actions.push(Action::RestoreRegions { from, finished });
    }

    /// Lets the job restart, from the newest checkpoint, when it is certain which one that is. A
    /// job whose last checkpoint is complete does not run again. If all subtasks had finished, the
    /// final checkpoint is due.
    pub(super) fn settle(&mut self, now: Now) {
        if self.mode != Mode::Settling || self.is_storing() {
            return;
        }
        self.mode = Mode::Running;
        if self.end != End::None {
            return;
        }
        let (from, finished) = self.restore(now, |_| true);
        self.actions.push(Action::Restore { from, finished });
    }

    /// The newest checkpoint, and those of the tasks that restart which had finished in it.
    fn restore(
        &mut self,
        now: Now,
        restarts: impl Fn(Subtask) -> bool,
    ) -> (Option<CheckpointId>, Vec<Subtask>) {
        let mut finished = Vec::new();
        let mut latest = self.retention.latest().cloned();
        if Mutant::RestoresOlderCheckpoint.lives() {
            latest = self.retention.retained().rev().take(2).last().cloned();
        }
        if let Some(Completed { metadata, directory, .. }) = &latest {
            let those = finished_in(&self.plan, metadata).into_iter();
            for (subtask, report) in those.filter(|(subtask, _)| restarts(*subtask)) {
                self.retention.hold(files::of(&report.snapshots));
                self.tasks.restore_finished(subtask, Arc::new(report));
                finished.push(subtask);
            }
            let (id, kind) = (metadata.checkpoint, metadata.kind);
            let directory = directory.clone();
            self.history.on_restored(Restored { id, kind, at: now.wall, directory });
        }
        (latest.map(|latest| latest.id()), finished)
    }

    pub(super) fn on_host_ready(&mut self) {
        if !self.host_ready {
            self.host_ready = true;
            self.recovered = false;
        }
    }

    /// Takes in that coordinators and committers are gone: what they held back for pending
    /// checkpoints is lost, and the next ones are told of all commits.
    pub(super) fn on_host_lost(&mut self, now: Now) {
        if !self.plan.needs_coordinator_host() {
            return;
        }
        self.host_ready = false;
        self.commits.on_host_lost();
        if !self.plan.coordinated().is_empty() {
            // The final checkpoint has no part of theirs.
            let is_theirs =
                |pending: &Pending| !pending.is_completing() && pending.kind() != Kind::Final;
            self.abort_those(now, Cause::HostLost, is_theirs);
        }
    }

    /// Ends the job when its last checkpoint is complete and published, and no savepoint is being
    /// stored.
    pub(super) fn finish(&mut self) {
        if self.end == End::Committing && self.commits.is_empty() && self.pending.is_empty() {
            self.end = End::Finished;
            self.actions.push(Action::Finish);
        }
    }
}

/// The subtasks of the job that had finished in a checkpoint, with their reports. After a change of
/// the parallelism an operator counts only if all its subtasks had finished.
fn finished_in(plan: &Plan, metadata: &Metadata) -> Vec<(Subtask, FinalReport)> {
    let operator = |id| metadata.operators.iter().find(|operator| operator.id == id);
    let mut finished = Vec::new();
    for vertex in &plan.vertices {
        let stored: Option<Vec<_>> =
            vertex.operators.iter().map(|planned| operator(planned.id)).collect();
        let Some(stored) = stored.filter(|stored| !stored.is_empty()) else { continue };
        let is_rescaled =
            stored.iter().any(|operator| operator.subtasks.len() != vertex.parallelism as usize);
        let all_finished =
            || stored.iter().all(|operator| operator.subtasks.iter().all(|part| part.finished));
        for index in 0..vertex.parallelism {
            let parts = || stored.iter().map(|operator| operator.subtasks.get(index as usize));
            let has_finished = if is_rescaled {
                all_finished()
            } else {
                parts().all(|part| part.is_some_and(|part| part.finished))
            };
            if !has_finished {
                continue;
            }
            let snapshots = stored.iter().zip(parts()).filter_map(|(operator, part)| {
                Some(OperatorSnapshot {
                    operator: operator.id,
                    key_schema: operator.key_schema.clone(),
                    states: operator.states.clone(),
                    subtask: part?.clone(),
                })
            });
            let report = FinalReport { snapshots: snapshots.collect(), ..FinalReport::default() };
            finished.push((Subtask { vertex: vertex.id, index }, report));
        }
    }
    finished
}
