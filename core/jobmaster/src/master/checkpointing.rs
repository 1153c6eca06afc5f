//! Checkpoints between the parts of the JobMaster.

use std::collections::BTreeMap;

use millstream_checkpoint::messages::Now;
use millstream_gateway::{CauseKind, ExceptionEntry, FailureCause};
use millstream_protocol::host::{TaskId, TriggerCheckpoint, to_host};
use millstream_types::{ExecutionAttemptId, HostId, JobStatus};

use super::{Action, JobMaster, Outcome, Phase, Unseen};
use crate::checkpoints::{self, Checkpoints, StorageRequest};
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
            checkpoints::Action::Recovered => {
                self.tell_tasks(tasks::Event::CoordinatorReady);
                self.commit_again();
            }
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

    /// The committers may be others than those that were told that all results are published.
    fn commit_again(&mut self) {
        let has_finished = self.checkpoints.as_ref().is_some_and(Checkpoints::has_finished);
        if has_finished && matches!(self.phase, Phase::Committing) {
            self.tell_settlement(settlement::Event::Commit);
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

    /// The coordinators are gone: others take their place, as often as the restart strategy allows
    /// and after its pause.
    pub(super) fn replace_coordinators(&mut self, how: &How, entry: ExceptionEntry) {
        if !matches!(how, How::Ended { .. }) {
            return self.history.add(entry);
        }
        let Some(pause) = self.strategy.on_failure(self.now, true) else {
            return self.fail(entry);
        };
        self.history.add(entry);
        self.coordinators_due = true;
        if pause.is_zero() {
            self.start_coordinators();
        } else {
            self.set_timer(TimerKind::Restart, pause);
        }
    }

    /// The pause is over, or there is nothing to wait for any more.
    pub(super) fn start_coordinators(&mut self) {
        if !std::mem::take(&mut self.coordinators_due) {
            return;
        }
        let (attempt, runs) = (self.restarts, matches!(self.phase, Phase::Running));
        // When all tasks have finished, enumerators have nothing left to do.
        let newest = self.checkpoints.as_ref().filter(|_| runs).map(Checkpoints::newest);
        let restoring = newest.unwrap_or_default();
        let mut checkpointing = self.checkpoints.as_ref().map(|it| it.begin(&restoring));
        if let Some(checkpointing) = &mut checkpointing {
            checkpointing.running = self.tasks.executions().attempts();
        }
        self.tell_hosts(hosts::Event::ReplaceCoordinators { attempt, checkpointing });
        self.tell_settlement(settlement::Event::Open);
        if runs {
            self.begin_takeover(restoring.checkpoint());
        }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use millstream_gateway::{CauseKind, FailureCause};
    use millstream_graph::JobGraph;
    use millstream_protocol::host::{
        Committed, CoordinatorSnapshot, Execution, RestartSubtasks, Settled, SubtasksRestarted,
        from_host, to_host,
    };
    use millstream_types::JobStatus;

    use crate::config::JobMasterConfig;
    use crate::master::fixture::{Job, commands, coordinated, failure, forward, with_restarts};
    use crate::master::{Action, TimerKind};

    /// The coordinator host does what it is told; whether it is told that all is published.
    fn obeys(job: &mut Job, mut actions: Vec<Action>) -> bool {
        let mut is_told = false;
        while !actions.is_empty() {
            let (told, host) = (commands(&actions), job.host("coordinators"));
            actions = Vec::new();
            for (_, message) in told.into_iter().filter(|(to, _)| *to == host) {
                is_told |= matches!(message, to_host::Message::Commit(_));
                let answers: Vec<from_host::Message> = match message {
                    to_host::Message::CommitCheckpoint(order) => {
                        vec![from_host::Message::Committed(Committed { commit: order.commit })]
                    }
                    to_host::Message::SnapshotCoordinators(asked) => {
                        let snapshot = |operator_id| CoordinatorSnapshot {
                            operator_id,
                            checkpoint: asked.checkpoint,
                            ..CoordinatorSnapshot::default()
                        };
                        let snapshots = asked.operator_ids.into_iter().map(snapshot);
                        snapshots.map(from_host::Message::CoordinatorSnapshot).collect()
                    }
                    to_host::Message::RestartSubtasks(RestartSubtasks { attempt, .. }) => {
                        let restarted = SubtasksRestarted { attempt };
                        vec![from_host::Message::SubtasksRestarted(restarted)]
                    }
                    _ => Vec::new(),
                };
                for answer in answers {
                    actions.extend(job.says(host, answer));
                }
            }
        }
        is_told
    }

    /// A job that takes checkpoints and runs.
    fn running(graph: JobGraph, slots: &[(&str, u32)]) -> Job {
        let mut config = JobMasterConfig::default();
        config.checkpointing.settings.interval = Some(Duration::from_secs(1));
        let mut job = Job::with_config(with_restarts(graph, 3), &config);
        job.start();
        job.grant(slots);
        job.ready("tm1");
        let ready = job.ready("coordinators");
        obeys(&mut job, ready);
        job.all_report(Execution::Initializing);
        job.all_report(Execution::Running);
        job
    }

    /// The coordinator host is killed, and another one started when the strategy allows it.
    fn kill_coordinators(job: &mut Job) {
        let killed = FailureCause::new(CauseKind::Signal, "killed by signal 9");
        job.exits(job.host("coordinators"), killed, "");
        job.time_out(TimerKind::Restart);
    }

    #[test]
    fn committers_that_begin_again_touch_nothing_of_attempts_that_have_finished() {
        let mut graph = forward(2);
        graph.vertices[1].operators[0].coordinated = true;
        let mut job = running(graph, &[("tm1", 0), ("tm1", 1)]);
        job.reports((0, 1), Execution::Failed, Some(failure("error", "no")));
        let stopped = job.reports((1, 1), Execution::Canceled, None);
        obeys(&mut job, stopped);
        let again = job.time_out(TimerKind::Restart);
        obeys(&mut job, again);
        for state in [Execution::Initializing, Execution::Running] {
            job.reports((0, 1), state, None);
            job.reports((1, 1), state, None);
        }
        job.reports((0, 0), Execution::Finished, None);
        job.reports((1, 0), Execution::Finished, None);
        kill_coordinators(&mut job);
        let (_, start) = job.started.last().unwrap();
        let begin = start.begin.checkpointing.as_ref().unwrap();
        assert_eq!((start.begin.attempt, &begin.running[..]), (1, &[0, 1][..]));
    }

    #[test]
    fn a_host_that_dies_before_the_end_is_told_leaves_it_to_the_next_one() {
        let mut job = running(coordinated(1), &[("tm1", 0)]);
        let finished = job.all_report(Execution::Finished);
        // The last checkpoint may have to wait for its time.
        if !obeys(&mut job, finished) {
            let due = job.time_out(TimerKind::Checkpoint);
            assert!(obeys(&mut job, due), "{:?}", job.details());
        }
        kill_coordinators(&mut job);
        let ready = job.ready("coordinators");
        assert!(obeys(&mut job, ready), "the next host is not told of the end");
        job.says(job.host("coordinators"), from_host::Message::Settled(Settled { failure: None }));
        job.obeys("tm1");
        job.obeys("coordinators");
        assert_eq!(job.status(), JobStatus::Finished);
    }
}
