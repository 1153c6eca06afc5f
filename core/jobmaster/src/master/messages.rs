//! What hosts say, and their ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_gateway::{
    CauseKind, ExceptionEntry, FailureCause, HostCommand, HostExit, TaskMetrics,
};
use millstream_protocol::HOST_PROTOCOL;
use millstream_protocol::host::{self, FromHost, OperatorEvent, ToHost, from_host, to_host};
use millstream_types::{ExecutionState, HostId, TaskManagerId};

use super::{Action, JobMaster, Phase, TimerKind, Unseen};
use crate::causes;
use crate::execution_graph::Subtask;
use crate::hosts::{Host, Role, State};

impl JobMaster {
    pub(super) fn on_host_message(&mut self, id: HostId, message: FromHost) {
        let Some(host) = self.hosts.get_mut(id) else { return };
        host.silent_for = Duration::ZERO;
        let coordinates = host.role == Role::Coordinator;
        // One that cannot go on, or is being stopped, has nothing settled any more.
        let settles = coordinates && host.is_ready();
        match message.message {
            Some(from_host::Message::Ready(ready)) => self.on_host_ready(id, ready.data_address),
            Some(from_host::Message::TaskState(state)) => self.on_task_state(id, state),
            Some(from_host::Message::Metrics(metrics)) => self.on_metrics(id, metrics),
            Some(from_host::Message::OperatorEvent(event)) => {
                self.on_operator_event(id, coordinates, event);
            }
            Some(from_host::Message::Settled(settled)) if settles => self.on_settled(settled),
            Some(from_host::Message::Failure(failure)) => {
                self.on_host_broken(id, causes::of_failure(failure));
            }
            Some(from_host::Message::Finished(finished)) => {
                let none = || {
                    let message = "the program returned without reaching the execute() that it was \
                                   planned at: it behaves differently in a host";
                    FailureCause::new(CauseKind::Mismatch, message)
                };
                let cause = finished.failure.map_or_else(none, causes::of_failure);
                self.on_host_broken(id, cause);
            }
            Some(from_host::Message::Hello(hello)) if hello.major != HOST_PROTOCOL.major => {
                let message = format!(
                    "the artifact speaks version {}.{} of the host protocol and this cluster {}: \
                     rebuild it against the cluster's release",
                    hello.major, hello.minor, HOST_PROTOCOL
                );
                self.on_host_broken(id, FailureCause::new(CauseKind::Mismatch, message));
            }
            // A sign of life, a plan, an unexpected answer, or a message of a newer minor version.
            Some(
                from_host::Message::Hello(_)
                | from_host::Message::Alive(_)
                | from_host::Message::Planned(_)
                | from_host::Message::Settled(_),
            )
            | None => {}
        }
    }

    fn on_task_state(&mut self, id: HostId, report: host::TaskState) {
        let Some(subtask) = report.task.as_ref().and_then(|task| self.executions.find(id, task))
        else {
            return;
        };
        let state = match report.state() {
            host::Execution::Unspecified => return,
            host::Execution::Initializing => ExecutionState::Initializing,
            host::Execution::Running => ExecutionState::Running,
            host::Execution::Finished => ExecutionState::Finished,
            host::Execution::Canceled => ExecutionState::Canceled,
            host::Execution::Failed => ExecutionState::Failed,
        };
        if let Some(metrics) = report.metrics {
            self.executions.measure(subtask, metrics_of(metrics));
        }
        if !self.executions.report(self.now, subtask, state) {
            return;
        }
        self.unseen = Unseen::State;
        let cause = report.cause.map(causes::of_failure);
        match &self.phase {
            Phase::Running { .. } => self.on_progress(id, subtask, state, cause),
            Phase::CancellingTasks { .. } => self.abort_if_stopped(),
            Phase::New
            | Phase::WaitingForSlots
            | Phase::StartingHosts
            | Phase::Committing
            | Phase::Aborting { .. }
            | Phase::StoppingHosts { .. }
            | Phase::WaitingForRestart
            | Phase::Ended => {}
        }
    }

    fn on_progress(
        &mut self,
        id: HostId,
        subtask: Subtask,
        state: ExecutionState,
        cause: Option<FailureCause>,
    ) {
        let unexplained = match state {
            ExecutionState::Failed => "the task failed without saying why",
            ExecutionState::Canceled => "the task stopped without being told to",
            ExecutionState::Finished if self.executions.is_finished() => {
                return self.commit();
            }
            ExecutionState::Running | ExecutionState::Finished => return self.deploy(),
            _ => return,
        };
        let unexplained = || FailureCause::new(CauseKind::Error, unexplained);
        let entry = ExceptionEntry {
            timestamp: self.now,
            cause: cause.unwrap_or_else(unexplained),
            task: Some(self.executions.name(subtask)),
            location: self.hosts.get(id).and_then(|host| host.location(id)),
        };
        self.on_task_failed(entry);
    }

    /// A broken exchange is mostly the echo of another end, whose news may come a little later.
    fn on_task_failed(&mut self, entry: ExceptionEntry) {
        let Phase::Running { held, exited } = &mut self.phase else { return };
        if entry.cause.kind != CauseKind::Exchange {
            self.fail(entry);
        } else if let Some(reason) = exited.take() {
            self.fail(reason);
        } else if held.is_none() {
            *held = Some(entry);
            self.set_timer(TimerKind::ExchangeHold, self.config.exchange_hold);
        }
    }

    pub(super) fn on_exchange_unexplained(&mut self) {
        if let Phase::Running { held, .. } = &mut self.phase
            && let Some(entry) = held.take()
        {
            self.fail(entry);
        }
    }

    fn on_metrics(&mut self, id: HostId, metrics: host::Metrics) {
        for task in metrics.tasks {
            if let Some(at) = task.task.as_ref().and_then(|task| self.executions.find(id, task)) {
                self.executions.measure(at, metrics_of(task));
                self.unseen = self.unseen.max(Unseen::Metrics);
            }
        }
    }

    /// From a task to the coordinator host, or from there to the task's host.
    fn on_operator_event(&mut self, from: HostId, coordinates: bool, event: OperatorEvent) {
        let task_host = self.executions.host_of_operator(&event.operator_id, event.subtask);
        let to = match (coordinates, task_host) {
            (true, Some(host)) => host,
            (false, Some(host)) if host == from => {
                let Some((coordinator, _)) = self.hosts.coordinator() else { return };
                coordinator
            }
            _ => return,
        };
        self.command(to, to_host::Message::OperatorEvent(event));
    }

    /// Tells a host something, if it is in a state to hear it.
    pub(super) fn command(&mut self, id: HostId, message: to_host::Message) {
        if let Some(host) = self.hosts.get(id).filter(|host| host.is_ready()) {
            let command = HostCommand { host: id, message: ToHost { message: Some(message) } };
            self.actions.push(Action::Command(Arc::clone(&host.on), command));
        }
    }

    /// A host says that it cannot go on. Its process ends soon; its tasks have ended already.
    fn on_host_broken(&mut self, id: HostId, cause: FailureCause) {
        let Some(host) = self.hosts.get_mut(id) else { return };
        if !matches!(host.state, State::Starting | State::Ready { .. }) {
            return;
        }
        host.state = State::Broken;
        let (coordinates, location) = (host.role == Role::Coordinator, host.location(id));
        let entry = ExceptionEntry { timestamp: self.now, cause, task: None, location };
        self.on_host_lost(&[id], coordinates, entry);
    }

    pub(super) fn on_host_exited(&mut self, exit: &HostExit) {
        let Some(host) = self.hosts.remove(exit.host) else { return };
        if host.state == State::Stopping {
            let place = host.location(exit.host).map(|location| location.host);
            self.history.quote(place, &exit.stderr_tail);
        }
        self.on_hosts_gone(vec![(exit.host, host)], &causes::of_exit(exit));
    }

    pub(super) fn on_task_manager_lost(&mut self, id: &TaskManagerId, cause: &FailureCause) {
        self.slots.lose(id);
        self.unseen = Unseen::State;
        let gone = self.hosts.remove_on(id);
        if !gone.is_empty() {
            self.on_hosts_gone(gone, cause);
        }
    }

    /// These processes have ended.
    fn on_hosts_gone(&mut self, gone: Vec<(HostId, Host)>, cause: &FailureCause) {
        self.unseen = Unseen::State;
        let coordinates = gone.iter().any(|(_, host)| host.role == Role::Coordinator);
        let location = gone.iter().find_map(|(id, host)| host.location(*id));
        let expected = |state: &State| matches!(state, State::Stopping | State::Broken);
        let unasked = gone.iter().any(|(_, host)| !expected(&host.state));
        let ids: Vec<HostId> = gone.iter().map(|(id, _)| *id).collect();
        let entry =
            ExceptionEntry { timestamp: self.now, cause: cause.clone(), task: None, location };
        if coordinates {
            self.settles_due = 0;
        }
        match self.phase {
            Phase::Aborting { then, fresh } if coordinates => self.abort_again(then, fresh),
            Phase::StoppingHosts { then } => self.end_if_stopped(then),
            Phase::CancellingTasks { .. } => {
                if unasked {
                    self.history.add_consequence(entry.clone());
                }
                self.on_host_lost(&ids, coordinates, entry);
            }
            Phase::New
            | Phase::WaitingForSlots
            | Phase::StartingHosts
            | Phase::Running { .. }
            | Phase::Committing
            | Phase::Aborting { .. }
            | Phase::WaitingForRestart
            | Phase::Ended => self.on_host_lost(&ids, coordinates, entry),
        }
    }

    /// The task that ended its process, as far as it is known: any of those that ran in it.
    fn suspects(&self, active: &[Subtask]) -> Option<String> {
        const NAMED_MAX: usize = 3;
        let names = active.iter().take(NAMED_MAX).map(|task| self.executions.name(*task));
        let names = names.collect::<Vec<_>>().join(", ");
        match active.len() {
            0 => None,
            1 => Some(names),
            count if count <= NAMED_MAX => Some(format!("one of {names}")),
            count => Some(format!("one of {names} and {} more", count - NAMED_MAX)),
        }
    }

    /// Nothing more will come of these hosts' tasks.
    fn on_host_lost(&mut self, ids: &[HostId], coordinates: bool, mut entry: ExceptionEntry) {
        let active: Vec<Subtask> =
            ids.iter().flat_map(|id| self.executions.active_on(*id)).collect();
        // Before they are all ready, hosts run the build function and no task.
        if !matches!(self.phase, Phase::StartingHosts) && entry.task.is_none() {
            entry.task = self.suspects(&active);
        }
        self.executions.fail(self.now, &active);
        match &mut self.phase {
            Phase::StartingHosts => self.fail(entry),
            Phase::Running { held, exited } => {
                if coordinates || !active.is_empty() || held.is_some() {
                    self.on_task_failed(entry);
                } else {
                    exited.get_or_insert(entry);
                }
            }
            Phase::Committing if coordinates => self.fail(entry),
            Phase::CancellingTasks { .. } => self.abort_if_stopped(),
            Phase::New
            | Phase::WaitingForSlots
            | Phase::Committing
            | Phase::Aborting { .. }
            | Phase::StoppingHosts { .. }
            | Phase::WaitingForRestart
            | Phase::Ended => {}
        }
    }
}

/// A task's counters.
fn metrics_of(message: host::TaskMetrics) -> TaskMetrics {
    TaskMetrics {
        records_in: message.records_in,
        records_out: message.records_out,
        bytes_in: message.bytes_in,
        bytes_out: message.bytes_out,
        busy_ns: message.busy_ns,
        idle_ns: message.idle_ns,
        backpressured_ns: message.backpressured_ns,
        records_dropped: message.records_dropped,
        buffers_in: message.buffers_in,
        buffers_out: message.buffers_out,
        user: message
            .user
            .into_iter()
            .map(|counter| (counter.name, counter.value))
            .collect::<BTreeMap<_, _>>(),
    }
}
