//! The ends of an attempt: done, failed, cancelled; and what comes after it.
//!
//! All of them stop the tasks first, then have the results published or discarded, then stop the
//! hosts, and only when every host is gone does the job end or begin again.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use millstream_gateway::{CauseKind, ExceptionEntry};
use millstream_types::JobStatus;

use super::{Action, JobMaster, Outcome, Phase};
use crate::checkpoints::{self, Checkpoints};
use crate::execution_graph::Subtask;
use crate::timer::TimerKind;
use crate::{hosts, settlement, tasks};

impl JobMaster {
    /// All tasks have finished.
    pub(super) fn commit(&mut self) {
        self.give_up_takeover();
        self.enter(Phase::Committing);
        self.start_coordinators();
        // What checkpoints carry is published before.
        if self.checkpoints.as_ref().is_none_or(Checkpoints::has_finished) {
            self.tell_settlement(settlement::Event::Commit);
        }
    }

    /// The attempt has failed. Once results may have been published a restart from the beginning
    /// would publish them twice, so then the job fails.
    pub(super) fn fail(&mut self, entry: ExceptionEntry) {
        self.fail_regions(entry, None);
    }

    /// As [`JobMaster::fail`]; these tasks alone restart, if the job restarts and there are any.
    pub(super) fn fail_regions(
        &mut self,
        mut entry: ExceptionEntry,
        regions: Option<BTreeSet<Subtask>>,
    ) {
        let published = match self.phase {
            Phase::Running => false,
            Phase::Committing => true,
            Phase::New
            | Phase::Cancelling { .. }
            | Phase::Aborting { .. }
            | Phase::StoppingHosts { .. }
            | Phase::WaitingForRestart
            | Phase::Ended => return,
        };
        let counts = self.counts(&entry);
        // Every attempt would begin from the same state.
        let is_of_state = entry.cause.kind == CauseKind::State;
        let is_final = published || is_of_state;
        if is_of_state && let Some(place) = self.checkpoints.as_ref().and_then(Checkpoints::origin)
        {
            let _ = write!(entry.cause.message, "; it began from {place}");
        }
        self.history.add(entry);
        if !published && self.checkpoints.as_ref().is_some_and(Checkpoints::has_ended) {
            // The tasks had only to say that they have finished.
            self.set_restarting();
            return self.cancel_tasks(Outcome::Restart { due: self.now });
        }
        let pause = if is_final { None } else { self.strategy.on_failure(self.now, counts) };
        match pause {
            Some(pause) => {
                self.set_restarting();
                let due = self.now.saturating_add(pause);
                match regions {
                    Some(tasks) => self.restart_regions(tasks, due),
                    None => self.cancel_tasks(Outcome::Restart { due }),
                }
            }
            None => {
                self.set_status(JobStatus::Failing);
                self.cancel_tasks(Outcome::Fail);
            }
        }
    }

    /// True if a failure costs one of the attempts that the restart strategy allows. While a
    /// storage is away all attempts fail of it, one after the other: together they cost one.
    fn counts(&mut self, entry: &ExceptionEntry) -> bool {
        if entry.cause.kind != CauseKind::Storage {
            return true;
        }
        let goes_on = self
            .outage_since
            .is_some_and(|since| self.now.saturating_since(since) < self.config.outage_max);
        if !goes_on {
            self.outage_since = Some(self.now);
        }
        !goes_on
    }

    /// A user asked for the end. Too late once the results are published.
    pub(super) fn on_cancel(&mut self) {
        match &mut self.phase {
            Phase::New | Phase::Running | Phase::Committing | Phase::WaitingForRestart => {
                self.set_status(JobStatus::Cancelling);
                self.cancel_tasks(Outcome::Cancel);
            }
            Phase::Cancelling { then }
            | Phase::Aborting { then }
            | Phase::StoppingHosts { then } => match *then {
                Outcome::Finish | Outcome::Cancel => {}
                Outcome::Fail => {
                    *then = Outcome::Cancel;
                    self.set_status(JobStatus::Cancelling);
                }
                Outcome::Restart { .. } => {
                    *then = Outcome::Cancel;
                    self.set_status(JobStatus::Cancelling);
                    self.declare_nothing_after(Outcome::Cancel);
                }
            },
            Phase::Ended => {}
        }
        self.end_if_explained();
    }

    /// A job that is about to end needs no more slots.
    fn declare_nothing_after(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Restart { .. } => {}
            Outcome::Finish | Outcome::Cancel | Outcome::Fail => {
                self.actions.push(Action::DeclareSlots(Vec::new()));
            }
        }
    }

    /// Stops every task; then goes on to `then`.
    pub(super) fn cancel_tasks(&mut self, then: Outcome) {
        self.declare_nothing_after(then);
        self.enter(Phase::Cancelling { then });
        self.failovers.clear();
        self.coordinators_due = false;
        self.tell_checkpoints(checkpoints::Event::Attempt(self.restarts + 1));
        self.give_up_takeover();
        self.tell_hosts(hosts::Event::Unwatch);
        self.tell_tasks(tasks::Event::Cancel);
    }

    /// No task runs any more: unpublished results are discarded.
    pub(super) fn abort(&mut self) {
        let Phase::Cancelling { then } = self.phase else { return };
        if self.checkpoints.is_some() && matches!(then, Outcome::Restart { .. }) {
            self.owes_abort = true;
            return self.stop_hosts(then);
        }
        self.enter(Phase::Aborting { then });
        self.abort_if_settled();
    }

    /// While it is not certain which checkpoint is the last one, it is not certain either what is
    /// to be discarded, and whether the results of a savepoint are to stay.
    pub(super) fn abort_if_settled(&mut self) {
        self.waits_to_abort = !self.checkpoints.as_ref().is_none_or(Checkpoints::is_settled);
        if self.waits_to_abort {
            return;
        }
        if self.has_unpublished_savepoint() {
            self.on_discarded();
        } else {
            self.tell_settlement(settlement::Event::Abort);
        }
    }

    pub(super) fn on_discarded(&mut self) {
        if let Phase::Aborting { then } = self.phase {
            self.stop_hosts(then);
        }
    }

    /// Ends every process; then goes on to `then`.
    pub(super) fn stop_hosts(&mut self, then: Outcome) {
        if then == Outcome::Finish {
            self.declare_nothing_after(then);
        }
        self.enter(Phase::StoppingHosts { then });
        self.tell_hosts(hosts::Event::Unwatch);
        self.tell_hosts(hosts::Event::StopAll);
        self.end_if_stopped(then);
    }

    /// Once no process is left, the job ends or begins again.
    pub(super) fn end_if_stopped(&mut self, then: Outcome) {
        if self.hosts.count() > 0 {
            return;
        }
        match then {
            // It was going to restart.
            Outcome::Cancel | Outcome::Fail if std::mem::take(&mut self.owes_abort) => {
                self.enter(Phase::Aborting { then });
                self.abort_if_settled();
            }
            Outcome::Finish if self.requests.is_cancelled() => {
                self.set_status(JobStatus::Cancelling);
                self.end(JobStatus::Canceled);
            }
            Outcome::Finish => self.end(JobStatus::Finished),
            Outcome::Cancel => self.end(JobStatus::Canceled),
            Outcome::Fail => {
                if !self.waits_for_explanation() {
                    self.end(JobStatus::Failed);
                }
            }
            Outcome::Restart { due } => {
                self.enter(Phase::WaitingForRestart);
                let wait = due.saturating_since(self.now);
                if wait.is_zero() {
                    self.restart();
                } else {
                    self.set_timer(TimerKind::Restart, wait);
                }
            }
        }
    }

    pub(super) fn restart(&mut self) {
        if matches!(self.phase, Phase::WaitingForRestart)
            && self.checkpoints.as_ref().is_some_and(Checkpoints::has_ended)
        {
            return self.publish_rest();
        }
        if matches!(self.phase, Phase::WaitingForRestart) && self.knows_restore() {
            self.restarts += 1;
            self.schedule();
        }
    }

    /// The last checkpoint is complete: the committers alone have something left to do.
    fn publish_rest(&mut self) {
        self.waits_for_restore = false;
        self.begin_attempt();
        // The attempts before have left some, if it cannot be published.
        self.tell_settlement(settlement::Event::Deployed);
        self.tell_settlement(settlement::Event::Open);
        self.commit();
    }

    fn end(&mut self, status: JobStatus) {
        self.enter(Phase::Ended);
        self.set_status(status);
        self.requests.on_job_end(status);
        self.remove_checkpoints(status);
        let slots = self.slots.take_all();
        if !slots.is_empty() {
            self.actions.push(Action::ReleaseSlots(slots));
        }
        self.publish();
        self.actions.push(Action::End);
    }
}
