//! The ends of an attempt: done, failed, cancelled; and what comes after it.
//!
//! All of them stop the tasks first, then have the coordinator host publish or discard, then stop
//! the hosts, and only when every host is gone does the job end or begin again.

use std::sync::Arc;
use std::time::Duration;

use millstream_gateway::{CauseKind, ExceptionEntry, FailureCause};
use millstream_protocol::host::{Abort, Cancel, Commit, Settled, to_host};
use millstream_types::{HostId, JobStatus};

use super::{Action, JobMaster, Outcome, Phase, TimerKind, Unseen};
use crate::causes;
use crate::config::RestartStrategy;
use crate::hosts::State;

impl JobMaster {
    /// All tasks have finished.
    pub(super) fn commit(&mut self) {
        match self.hosts.coordinator().map(|(id, _)| id) {
            Some(coordinator) => {
                self.enter(Phase::Committing);
                self.expect_signs_of_life();
                self.settles_due += 1;
                self.command(coordinator, to_host::Message::Commit(Commit {}));
            }
            None => self.stop_hosts(Outcome::Finish),
        }
    }

    pub(super) fn on_settled(&mut self, settled: Settled) {
        self.settles_due = self.settles_due.saturating_sub(1);
        let failure = settled.failure.map(causes::of_failure);
        match self.phase {
            Phase::Committing => match failure {
                None => self.stop_hosts(Outcome::Finish),
                Some(cause) => {
                    let cause = FailureCause { kind: CauseKind::Commit, ..cause };
                    let entry = self.entry(cause);
                    self.fail(entry);
                }
            },
            Phase::Aborting { then, .. } => {
                if let Some(cause) = failure {
                    let entry = self.entry(cause);
                    self.history.add_consequence(entry);
                }
                if self.settles_due == 0 {
                    self.stop_hosts(then);
                }
            }
            Phase::New
            | Phase::WaitingForSlots
            | Phase::StartingHosts
            | Phase::Running { .. }
            | Phase::CancellingTasks { .. }
            | Phase::StoppingHosts { .. }
            | Phase::WaitingForRestart
            | Phase::Ended => {}
        }
    }

    /// The attempt has failed. Once results may have been published a restart from the beginning
    /// would publish them twice, so then the job fails.
    pub(super) fn fail(&mut self, entry: ExceptionEntry) {
        let published = matches!(self.phase, Phase::Committing);
        let counts = self.counts(&entry);
        self.history.add(entry);
        match self.config.restart_strategy() {
            RestartStrategy::FixedDelay { attempts, delay }
                if attempts > 0
                    && !published
                    && (!counts || self.restarts - self.uncounted < attempts) =>
            {
                self.uncounted += u32::from(!counts);
                self.set_status(JobStatus::Restarting);
                self.cancel_tasks(Outcome::Restart { due: self.now.saturating_add(delay) });
            }
            RestartStrategy::FixedDelay { .. } | RestartStrategy::None => {
                self.set_status(JobStatus::Failing);
                self.cancel_tasks(Outcome::Fail);
            }
        }
    }

    /// Whether a failure costs one of the attempts that the restart strategy allows. While a
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
            Phase::New
            | Phase::WaitingForSlots
            | Phase::StartingHosts
            | Phase::Running { .. }
            | Phase::Committing
            | Phase::WaitingForRestart => {
                self.set_status(JobStatus::Cancelling);
                self.cancel_tasks(Outcome::Cancel);
            }
            Phase::CancellingTasks { then }
            | Phase::Aborting { then, .. }
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
        self.executions.cancel(self.now);
        self.enter(Phase::CancellingTasks { then });
        let busy: Vec<HostId> = self.busy_hosts();
        for host in &busy {
            self.command(*host, to_host::Message::Cancel(Cancel { tasks: Vec::new() }));
        }
        if !busy.is_empty() {
            self.set_timer(TimerKind::Cancel, self.config.cancel_timeout);
        }
        self.abort_if_stopped();
    }

    /// Hosts with tasks that have not ended.
    fn busy_hosts(&self) -> Vec<HostId> {
        let busy = |id: HostId| !self.executions.active_on(id).is_empty();
        self.hosts.iter().map(|(id, _)| id).filter(|id| busy(*id)).collect()
    }

    /// Tasks do not stop: their processes are killed, which ends them.
    pub(super) fn on_tasks_stuck(&mut self) {
        let timeout = self.config.cancel_timeout;
        for id in self.busy_hosts() {
            let stuck = self.executions.active_on(id);
            let Some(first) = stuck.first().map(|task| self.executions.name(*task)) else {
                continue;
            };
            let others = match stuck.len() - 1 {
                0 => String::new(),
                others => format!(" and {others} more"),
            };
            let message = format!(
                "{first}{others} did not stop within {timeout:?}, its task host was killed"
            );
            let mut entry = self.entry(FailureCause::new(CauseKind::Stuck, message));
            entry.task = Some(first);
            entry.location = self.hosts.get(id).and_then(|host| host.location(id));
            self.history.add_consequence(entry);
            self.stop_host(id, Duration::ZERO);
        }
        self.unseen = Unseen::State;
    }

    /// Once no task runs, what was not published is discarded.
    pub(super) fn abort_if_stopped(&mut self) {
        let Phase::CancellingTasks { then } = self.phase else { return };
        if self.executions.active() > 0 {
            return;
        }
        let coordinator = self.hosts.coordinator().map(|(_, host)| host.is_ready());
        match coordinator {
            Some(true) => {
                self.enter(Phase::Aborting { then, fresh: false });
                self.command_abort();
                self.set_timer(TimerKind::Abort, self.config.abort_timeout);
            }
            // It may be opening its committers: it is told to discard when it has.
            Some(false) => {
                self.enter(Phase::Aborting { then, fresh: false });
                self.set_timer(TimerKind::Abort, self.config.cancel_timeout);
            }
            None if self.may_have_output && self.submission.graph.needs_coordinator() => {
                self.abort_in_fresh_host(then);
            }
            None => self.stop_hosts(then),
        }
    }

    /// The coordinator host is gone: another one discards what it left behind.
    fn abort_in_fresh_host(&mut self, then: Outcome) {
        self.enter(Phase::Aborting { then, fresh: true });
        self.start_coordinator();
        let timeout = self.config.host_start_timeout + self.config.abort_timeout;
        self.set_timer(TimerKind::Abort, timeout);
    }

    pub(super) fn command_abort(&mut self) {
        if let Some((id, _)) = self.hosts.coordinator() {
            self.settles_due += 1;
            self.command(id, to_host::Message::Abort(Abort {}));
        }
    }

    /// The coordinator host ended before it had discarded everything.
    pub(super) fn abort_again(&mut self, then: Outcome, fresh: bool) {
        if !self.may_have_output {
            self.stop_hosts(then);
        } else if fresh {
            self.give_up_aborting(then, "the coordinator host ended twice");
        } else {
            self.abort_in_fresh_host(then);
        }
    }

    pub(super) fn on_abort_late(&mut self) {
        if let Phase::Aborting { then, .. } = self.phase {
            if !self.may_have_output {
                self.stop_hosts(then);
                return;
            }
            self.give_up_aborting(then, "the coordinator host did not answer in time");
        }
    }

    fn give_up_aborting(&mut self, then: Outcome, why: &str) {
        let message = format!("unpublished output of the job may be left behind: {why}");
        let entry = self.entry(FailureCause::new(CauseKind::Commit, message));
        self.history.add_consequence(entry);
        self.stop_hosts(then);
    }

    pub(super) fn stop_host(&mut self, id: HostId, grace: Duration) {
        if let Some(host) = self.hosts.get_mut(id)
            && host.state != State::Stopping
        {
            host.state = State::Stopping;
            self.actions.push(Action::StopHost(Arc::clone(&host.on), id, grace));
        }
    }

    /// Ends every process; then goes on to `then`.
    fn stop_hosts(&mut self, then: Outcome) {
        if then == Outcome::Finish {
            self.declare_nothing_after(then);
        }
        self.enter(Phase::StoppingHosts { then });
        let ids: Vec<HostId> = self.hosts.iter().map(|(id, _)| id).collect();
        for id in ids {
            self.stop_host(id, self.config.stop_grace);
        }
        self.end_if_stopped(then);
    }

    /// Once no process is left, the job ends or begins again.
    pub(super) fn end_if_stopped(&mut self, then: Outcome) {
        if !self.hosts.is_empty() {
            return;
        }
        match then {
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
        if matches!(self.phase, Phase::WaitingForRestart) {
            self.restarts += 1;
            self.executions.reset(self.now);
            self.schedule();
        }
    }

    fn end(&mut self, status: JobStatus) {
        self.enter(Phase::Ended);
        self.set_status(status);
        let slots = self.slots.take_all();
        if !slots.is_empty() {
            self.actions.push(Action::ReleaseSlots(slots));
        }
        self.publish();
        self.actions.push(Action::End);
    }
}
