//! The messages of tasks: attempts, acknowledgements, refusals.

use std::sync::Arc;

use millstream_mutants::Mutant;
use millstream_types::{CheckpointId, ExecutionAttemptId};

use super::Coordinator;
use super::ending::Cause;
use crate::assembly::check_contribution;
use crate::files;
use crate::messages::{Ack, FinalReport, Now, WaitsFor};
use crate::metadata::Kind;
use crate::pending::{Fit, Pending, Report};
use crate::plan::Subtask;
use crate::stats::Blocked;

impl Coordinator {
    /// Takes in that a task runs. If another attempt of it did, its failure was not told.
    pub(super) fn on_task_running(&mut self, now: Now, task: ExecutionAttemptId) {
        let took_part = self.tasks.are_ready();
        if !self.tasks.on_running(task) {
            self.ignored.old_attempt += 1;
        } else if took_part {
            self.abort_open(now, Cause::TaskGone);
        }
    }

    /// Takes in the last report of a task. Pending checkpoints whose barrier it has not taken go on
    /// with this report; those whose barrier it has taken are lost.
    pub(super) fn on_task_finished(
        &mut self,
        now: Now,
        task: ExecutionAttemptId,
        report: FinalReport,
    ) {
        self.catch_up(now, task);
        let (snapshots, committables) = (&report.snapshots, &report.committables);
        let newest = self.last.next();
        let checked = check_contribution(&self.plan, task.into(), snapshots, committables, newest);
        if let Err(why) = checked {
            if self.tasks.runs(task) {
                let name = self.plan.name_of(task.into());
                self.fail_job(format!("the last report of {name} is wrong: {why}"));
            } else {
                self.ignored.old_attempt += 1;
            }
            return;
        }
        let report = Arc::new(report);
        if !self.tasks.on_finished(task, &report) {
            self.ignored.old_attempt += 1;
            return;
        }
        self.retention.hold(files::of(&report.snapshots));
        let last = report.last_barrier.unwrap_or(CheckpointId::new(0));
        let pre_committed = report.committables.iter().map(|one| one.checkpoint).max();
        let first = last.next().max(pre_committed.unwrap_or(last));
        let ids: Vec<CheckpointId> = self.pending.keys().copied().collect();
        for id in ids {
            let Some(pending) = self.pending.get_mut(&id) else { continue };
            if pending.fit(task) != Fit::Fits {
                continue;
            }
            let goes_on = self.settings.after_tasks_finished || pending.kind() != Kind::Checkpoint;
            if goes_on && id >= first {
                pending.on_report(task, Report::Finished(Arc::clone(&report)), now.wall);
            } else {
                self.abort(now, id, Cause::TaskFinished(task));
            }
        }
        if self.tasks.have_finished() {
            self.on_all_finished(now, task);
        }
    }

    /// Takes in that no task runs any more: whatever would have told the tasks is given up.
    fn on_all_finished(&mut self, now: Now, last: ExecutionAttemptId) {
        self.abort_starting(now, Cause::TaskFinished(last));
        self.refuse_requests(&Blocked::Finishing.to_string());
    }

    /// A task that has ended did run, even if that message comes later.
    fn catch_up(&mut self, now: Now, task: ExecutionAttemptId) {
        if self.tasks.is_new(task) {
            self.on_task_running(now, task);
        }
    }

    /// Takes in that a task has failed: nothing becomes of what is pending.
    pub(super) fn on_task_failed(&mut self, now: Now, task: ExecutionAttemptId) {
        self.catch_up(now, task);
        if self.tasks.on_failed(task) {
            self.abort_open(now, Cause::TaskFailed(task));
        } else {
            self.ignored.old_attempt += 1;
        }
    }

    /// Takes in what a task waits for, for people.
    pub(super) fn on_progress(
        &mut self,
        id: CheckpointId,
        task: ExecutionAttemptId,
        waits_for: WaitsFor,
    ) {
        // One that has said more since says it again.
        if let Some(pending) = self.pending.get_mut(&id)
            && pending.fit(task) == Fit::Fits
        {
            pending.on_progress(task, waits_for);
        }
    }

    pub(super) fn on_acknowledged(
        &mut self,
        now: Now,
        id: CheckpointId,
        task: ExecutionAttemptId,
        ack: Box<Ack>,
    ) {
        let mut task = task;
        if Mutant::TakesOldAck.lives() {
            let mut running = self.tasks.running();
            let present = |it: &ExecutionAttemptId| Subtask::from(*it) == Subtask::from(task);
            task = running.find(present).unwrap_or(task);
        }
        if !self.fits(id, task) {
            return self.on_late(id, task, &ack);
        }
        let checked =
            check_contribution(&self.plan, task.into(), &ack.snapshots, &ack.committables, id);
        if let Err(why) = checked {
            self.abort(now, id, Cause::Declined(task, &why));
            return;
        }
        let Some(pending) = self.pending.get_mut(&id) else { return };
        self.retention.hold(files::of(&ack.snapshots));
        pending.on_report(task, Report::Acknowledged(ack), now.wall);
    }

    /// The files of an acknowledgement that comes too late are of no use to anything.
    fn on_late(&mut self, id: CheckpointId, task: ExecutionAttemptId, ack: &Ack) {
        if self.late.remove(&(id, task)) {
            self.retention.hold(files::of(&ack.snapshots));
            self.retention.release(files::of(&ack.snapshots), self.last);
        }
    }

    pub(super) fn on_declined(
        &mut self,
        now: Now,
        id: CheckpointId,
        task: ExecutionAttemptId,
        reason: &str,
    ) {
        if self.fits(id, task) {
            self.abort(now, id, Cause::Declined(task, reason));
        }
    }

    /// Whether a task's message is about a checkpoint that waits for it; if not, it is counted.
    fn fits(&mut self, id: CheckpointId, task: ExecutionAttemptId) -> bool {
        let is_current = self.tasks.runs(task);
        if !is_current && !self.tasks.has_finished(task) {
            self.ignored.old_attempt += 1;
            return false;
        }
        match self.pending.get(&id).map(|pending| Pending::fit(pending, task)) {
            Some(Fit::Fits) if is_current => return true,
            Some(Fit::Fits | Fit::Repeated) => self.ignored.repeated += 1,
            Some(Fit::NotTold) | None => self.ignored.unknown_checkpoint += 1,
        }
        false
    }
}
