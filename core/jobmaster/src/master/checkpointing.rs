//! Checkpoints between the parts of the JobMaster.

use std::collections::BTreeMap;

use millstream_checkpoint::messages::Now;
use millstream_gateway::{CauseKind, ExceptionEntry, FailureCause};
use millstream_protocol::host::{TaskId, TriggerCheckpoint, to_host};
use millstream_types::{ExecutionAttemptId, HostId, JobStatus};

use super::{Action, JobMaster, Outcome, Phase, Unseen};
use crate::checkpoints::{self, Checkpoints, Restoring, StorageRequest};
use crate::hosts::How;
use crate::tasks::attempt_of;
use crate::timer::{Owner, Timer, TimerKind};
use crate::{hosts, settlement, tasks};

impl JobMaster {
    pub(super) fn tell_checkpoints(&mut self, event: checkpoints::Event) {
        let Some(checkpoints) = &mut self.checkpoints else { return };
        let now = Now { instant: self.instant, wall: self.now };
        let actions = checkpoints.on_event(now, event);
        self.unseen = self.unseen.max(Unseen::Metrics);
        for action in actions {
            self.obey_checkpoints(action);
        }
        if !self.failovers.is_empty()
            && self.checkpoints.as_ref().is_some_and(Checkpoints::has_ended)
        {
            // A stop that was being stored is complete: no task runs again.
            self.set_restarting();
            self.cancel_tasks(Outcome::Restart { due: self.now });
        }
        if self.waits_to_abort {
            self.abort_if_settled();
        }
        if self.waits_for_restore && self.checkpoints.as_ref().is_some_and(Checkpoints::has_ended) {
            self.restart();
        }
    }

    fn obey_checkpoints(&mut self, action: checkpoints::Action) {
        match action {
            checkpoints::Action::TellCoordinator(message) => {
                self.tell_settlement(settlement::Event::Tell(message));
            }
            checkpoints::Action::Trigger(trigger, tasks) => self.trigger(&trigger, tasks),
            checkpoints::Action::TellAll(message) => {
                let hosts: Vec<HostId> = self.tasks.hosts().collect();
                for host in hosts {
                    self.tell_hosts(hosts::Event::Tell(host, message.clone()));
                }
            }
            checkpoints::Action::Deliver(event) => self.deliver(event),
            checkpoints::Action::Storage(request) => self.actions.push(Action::Storage(request)),
            checkpoints::Action::SetTimer(after) => {
                let (owner, kind) = (Owner::Checkpoints, TimerKind::Checkpoint);
                let timer = Timer { owner, kind, generation: 0 };
                self.actions.push(Action::SetTimer(timer, after));
            }
            checkpoints::Action::Restore(restoring) => {
                self.restoring = Some(restoring);
                if std::mem::take(&mut self.waits_for_restore) {
                    self.restart();
                }
            }
            checkpoints::Action::RestoreRegions(restoring) => self.on_restore_regions(&restoring),
            checkpoints::Action::Recovered => self.tell_tasks(tasks::Event::CoordinatorReady),
            checkpoints::Action::Answer(trigger, answer) => self.on_answer(trigger, answer),
            checkpoints::Action::Fail(reason) => {
                let cause = FailureCause::new(CauseKind::Checkpoint, reason);
                self.fail(self.entry(cause));
            }
            checkpoints::Action::Finish => {
                if matches!(self.phase, Phase::Committing) {
                    self.tell_settlement(settlement::Event::Commit);
                }
            }
        }
    }

    /// Tells each host of its own tasks.
    fn trigger(&mut self, trigger: &TriggerCheckpoint, tasks: Vec<ExecutionAttemptId>) {
        let mut by_host: BTreeMap<HostId, Vec<TaskId>> = BTreeMap::new();
        for task in tasks {
            if let Some(host) = self.tasks.executions().host_of(task) {
                let vertex = task.vertex.as_bytes().to_vec();
                let (subtask, attempt) = (task.subtask, task.attempt);
                by_host.entry(host).or_default().push(TaskId { vertex, subtask, attempt });
            }
        }
        for (host, tasks) in by_host {
            let trigger = TriggerCheckpoint { tasks, ..trigger.clone() };
            let trigger = to_host::Message::TriggerCheckpoint(trigger);
            self.tell_hosts(hosts::Event::Tell(host, trigger));
        }
    }

    /// The present attempt of a task that its host speaks of.
    pub(super) fn attempt_on(
        &self,
        host: HostId,
        task: Option<&TaskId>,
    ) -> Option<ExecutionAttemptId> {
        let task = task?;
        self.tasks.executions().find(host, task)?;
        attempt_of(task)
    }

    /// Whether the tasks run on while another coordinator host takes the place of one that is lost:
    /// committers begin with what the checkpoints carry, enumerators would have to know what their
    /// readers hold.
    pub(super) fn has_committers_alone(&self) -> bool {
        let operators = self.submission.graph.vertices.iter().flat_map(|it| &it.operators);
        let mut coordinated = operators.filter(|operator| operator.coordinated);
        self.checkpoints.is_some()
            && self.tasks.is_deployed()
            && self.failovers.is_empty()
            && coordinated.all(|operator| !operator.source)
    }

    /// The committers are gone: others publish the rest, as often as the restart strategy allows.
    pub(super) fn on_committers_lost(&mut self, how: &How, entry: ExceptionEntry) {
        if !matches!(how, How::Ended { .. }) {
            return self.history.add(entry);
        }
        if self.strategy.on_failure(self.now, true).is_none() {
            return self.fail(entry);
        }
        self.history.add(entry);
        let attempt = self.restarts;
        let mut checkpointing = self.checkpoints.as_ref().map(|it| it.begin(&Restoring::default()));
        if let Some(checkpointing) = &mut checkpointing {
            checkpointing.running = self.tasks.executions().running_attempts();
        }
        self.tell_hosts(hosts::Event::ReplaceCoordinators { attempt, checkpointing });
        self.tell_settlement(settlement::Event::Open);
    }

    /// Removes the checkpoints of a job that has ended, unless they are to be kept.
    pub(super) fn remove_checkpoints(&mut self, status: JobStatus) {
        if self.checkpoints.is_none() {
            return;
        }
        let retention = self.config.checkpointing.retention;
        let keeps = match status {
            JobStatus::Failed => retention.keeps_after_failure(),
            JobStatus::Canceled => retention.keeps_after_cancellation(),
            _ => false,
        };
        if !keeps {
            self.actions.push(Action::Storage(StorageRequest::DeleteAll));
        }
        if status == JobStatus::Finished {
            self.actions.push(Action::Storage(StorageRequest::DeleteClaimed));
        }
    }
}
