//! From a job that shall run to tasks that do: slots, hosts, deployment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_gateway::{
    AllocatedSlot, CauseKind, FailureCause, HostCommand, StartHost, TaskLocation,
    TaskManagerGateway,
};
use millstream_protocol::HOST_PROTOCOL;
use millstream_protocol::host::{Begin, Deploy, PeerHost, Placement, Role, Task, ToHost, to_host};
use millstream_types::{HostId, JobStatus, TaskManagerId};

use super::{Action, JobMaster, Outcome, Phase, TimerKind, Unseen};
use crate::config::SchedulingStrategy;
use crate::execution_graph::{Place, Subtask};
use crate::hosts::{self, Host};

/// What a worker's slots are for: its gateway, its address, its slots' numbers.
struct Share {
    host: HostId,
    on: Arc<dyn TaskManagerGateway>,
    address: String,
    slots: Vec<u32>,
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}

impl JobMaster {
    pub(super) fn start(&mut self) {
        if !matches!(self.phase, Phase::New) {
            return;
        }
        self.set_status(JobStatus::Created);
        if let Some(cause) = self.refused.take() {
            self.history.add(self.entry(cause));
            self.set_status(JobStatus::Failing);
            self.cancel_tasks(Outcome::Fail);
            return;
        }
        self.schedule();
    }

    /// Begins an attempt.
    pub(super) fn schedule(&mut self) {
        self.set_status(JobStatus::Running);
        self.may_have_output = false;
        self.settles_due = 0;
        let first = self.executions.deployable(self.is_eager());
        self.executions.schedule(self.now, &first);
        self.enter(Phase::WaitingForSlots);
        self.actions.push(Action::DeclareSlots(self.slots.requirements()));
        if self.slots.missing() == 0 {
            self.start_hosts();
        } else {
            self.set_timer(TimerKind::SlotRequest, self.config.slot_request_timeout);
        }
    }

    fn is_eager(&self) -> bool {
        self.scheduling == SchedulingStrategy::Eager
    }

    pub(super) fn on_slots_granted(&mut self, granted: Vec<AllocatedSlot>) {
        let surplus = match &self.phase {
            // Declared nothing, or nothing any more: these crossed the withdrawal on the way.
            Phase::New
            | Phase::Ended
            | Phase::CancellingTasks { then: Outcome::Finish | Outcome::Cancel | Outcome::Fail }
            | Phase::Aborting { then: Outcome::Finish | Outcome::Cancel | Outcome::Fail, .. }
            | Phase::StoppingHosts { then: Outcome::Finish | Outcome::Cancel | Outcome::Fail } => {
                granted.into_iter().map(|slot| slot.allocation).collect()
            }
            // After a loss, replacements are welcome before the next attempt starts.
            Phase::WaitingForSlots
            | Phase::StartingHosts
            | Phase::Running { .. }
            | Phase::Committing
            | Phase::CancellingTasks { then: Outcome::Restart { .. } }
            | Phase::Aborting { then: Outcome::Restart { .. }, .. }
            | Phase::StoppingHosts { then: Outcome::Restart { .. } }
            | Phase::WaitingForRestart => self.slots.offer(granted),
        };
        if !surplus.is_empty() {
            self.actions.push(Action::ReleaseSlots(surplus));
        }
        if matches!(self.phase, Phase::WaitingForSlots) {
            self.unseen = Unseen::State;
            if self.slots.missing() == 0 {
                self.start_hosts();
            }
        }
    }

    pub(super) fn on_shortage(&mut self, sentence: Option<String>) {
        self.shortage = sentence;
        self.unseen = Unseen::State;
    }

    pub(super) fn on_slots_late(&mut self) {
        if !matches!(self.phase, Phase::WaitingForSlots) {
            return;
        }
        let needed = self.slots.needed();
        let mut message = format!(
            "the job needs {needed} {} and got {} within {:?}",
            if needed == 1 { "slot" } else { "slots" },
            needed - self.slots.missing(),
            self.config.slot_request_timeout
        );
        if let Some(sentence) = &self.shortage {
            message = format!("{message}: {sentence}");
        }
        let entry = self.entry(FailureCause::new(CauseKind::NoSlots, message));
        self.fail(entry);
    }

    /// One task host for all of the job's slots on a worker, and the coordinator host.
    fn start_hosts(&mut self) {
        let mut shares: BTreeMap<TaskManagerId, Share> = BTreeMap::new();
        let mut places = BTreeMap::new();
        for (shared, slot) in self.slots.assignment() {
            let share = shares.entry(slot.slot.task_manager.clone()).or_insert_with(|| Share {
                host: self.ids.host_id(),
                on: Arc::clone(&slot.gateway),
                address: slot.address.clone(),
                slots: Vec::new(),
            });
            share.slots.push(slot.slot.index);
            let location = TaskLocation {
                task_manager: slot.slot.task_manager.clone(),
                address: slot.address.clone(),
                host: share.host,
                data_port: None,
            };
            let place = Place { location, slot: slot.slot.index };
            places.insert((shared.group.clone(), shared.index), place);
        }
        self.executions.place(&places);
        let first = self.executions.deployable(self.is_eager());
        self.executions.start_deploying(self.now, &first);
        self.enter(Phase::StartingHosts);
        let token = self.ids.token().to_vec();
        for share in shares.into_values() {
            let credentials = self.ids.host_credentials(self.submission.job, share.host);
            let begin = Begin {
                exchange_token: token.clone(),
                credentials,
                ..self.begin(share.host, Role::TaskHost)
            };
            let role = hosts::Role::Tasks { address: share.address };
            self.start_host(share.host, share.on, role, share.slots, begin);
        }
        if self.submission.graph.needs_coordinator() {
            self.start_coordinator();
        }
        self.set_timer(TimerKind::HostStart, self.config.host_start_timeout);
    }

    pub(super) fn start_coordinator(&mut self) {
        let host = self.ids.host_id();
        let begin = self.begin(host, Role::Coordinator);
        let on = Arc::clone(&self.coordinators);
        self.start_host(host, on, hosts::Role::Coordinator, Vec::new(), begin);
    }

    fn begin(&self, host: HostId, role: Role) -> Begin {
        Begin {
            role: role.into(),
            major: HOST_PROTOCOL.major,
            minor: HOST_PROTOCOL.minor,
            job_id: self.submission.job.as_bytes().to_vec(),
            job_graph: Some(self.graph_message.clone()),
            host_id: host.as_bytes().to_vec(),
            attempt: self.restarts,
            heartbeat_interval_ms: millis(self.config.sign_of_life_interval()),
            ..Begin::default()
        }
    }

    fn start_host(
        &mut self,
        host: HostId,
        on: Arc<dyn TaskManagerGateway>,
        role: hosts::Role,
        slots: Vec<u32>,
        begin: Begin,
    ) {
        let start = StartHost {
            host,
            artifact: self.submission.artifact,
            artifact_size: self.submission.artifact_size,
            slots,
            begin,
        };
        self.actions.push(Action::StartHost(Arc::clone(&on), start));
        let (state, silent_for) = (hosts::State::Starting, Duration::ZERO);
        self.hosts.insert(host, Host { on, role, state, silent_for });
    }

    pub(super) fn on_host_ready(&mut self, id: HostId, data_address: String) {
        let Some(host) = self.hosts.get_mut(id) else { return };
        if host.state != hosts::State::Starting {
            return;
        }
        host.state = hosts::State::Ready { data_address };
        self.executions.set_data_port(id, host.data_port());
        match &self.phase {
            Phase::StartingHosts => {
                self.unseen = Unseen::State;
                if self.hosts.iter().all(|(_, host)| host.is_ready()) {
                    self.enter(Phase::Running { held: None, exited: None });
                    self.expect_signs_of_life();
                    self.deploy();
                }
            }
            Phase::Aborting { .. } => self.command_abort(),
            Phase::New
            | Phase::WaitingForSlots
            | Phase::Running { .. }
            | Phase::Committing
            | Phase::CancellingTasks { .. }
            | Phase::StoppingHosts { .. }
            | Phase::WaitingForRestart
            | Phase::Ended => {}
        }
    }

    pub(super) fn on_hosts_late(&mut self) {
        if !matches!(self.phase, Phase::StartingHosts) {
            return;
        }
        let late = self.hosts.iter().find(|(_, host)| !host.is_ready());
        let Some((id, host)) = late else { return };
        let timeout = self.config.host_start_timeout;
        let message = format!("{} was not ready within {timeout:?}", host.description());
        let mut entry = self.entry(FailureCause::new(CauseKind::Start, message));
        entry.location = host.location(id);
        self.fail(entry);
    }

    /// Tells hosts to run what can run now. The first time every host hears who its peers are.
    pub(super) fn deploy(&mut self) {
        let subtasks = self.executions.deployable(self.is_eager());
        let first = !self.may_have_output;
        if subtasks.is_empty() && !first {
            return;
        }
        self.executions.schedule(self.now, &subtasks);
        self.executions.start_deploying(self.now, &subtasks);
        self.executions.mark_deployed(&subtasks);
        self.may_have_output = true;
        self.unseen = Unseen::State;
        let (peers, placements) = (self.peers(), self.placements());
        let mut tasks = self.tasks_by_host(&subtasks);
        let ready = |host: &Host| host.is_ready() && host.role != hosts::Role::Coordinator;
        for (id, host) in self.hosts.iter().filter(|(_, host)| ready(host)) {
            let tasks = tasks.remove(&id).unwrap_or_default();
            if tasks.is_empty() && !first {
                continue;
            }
            let deploy = Deploy { peers: peers.clone(), placements: placements.clone(), tasks };
            let message = ToHost { message: Some(to_host::Message::Deploy(deploy)) };
            let command = HostCommand { host: id, message };
            self.actions.push(Action::Command(Arc::clone(&host.on), command));
        }
    }

    fn peers(&self) -> Vec<PeerHost> {
        let peer = |(id, host): (HostId, &Host)| match (&host.role, &host.state) {
            (hosts::Role::Tasks { .. }, hosts::State::Ready { data_address }) => Some(PeerHost {
                host_id: id.as_bytes().to_vec(),
                data_address: data_address.clone(),
            }),
            _ => None,
        };
        self.hosts.iter().filter_map(peer).collect()
    }

    fn placements(&self) -> Vec<Placement> {
        let placement = |subtask: Subtask, place: &Place| {
            let (vertex, subtask) = self.executions.message_id(subtask);
            Placement { vertex, subtask, host_id: place.location.host.as_bytes().to_vec() }
        };
        self.executions
            .iter()
            .filter_map(|(subtask, execution)| Some(placement(subtask, execution.place()?)))
            .collect()
    }

    fn tasks_by_host(&self, subtasks: &[Subtask]) -> BTreeMap<HostId, Vec<Task>> {
        let mut tasks: BTreeMap<HostId, Vec<Task>> = BTreeMap::new();
        for at in subtasks {
            let Some(execution) = self.executions.get(*at) else { continue };
            let Some(place) = execution.place() else { continue };
            let (vertex, subtask) = self.executions.message_id(*at);
            let task = Task { vertex, subtask, attempt: execution.attempt(), slot: place.slot };
            tasks.entry(place.location.host).or_default().push(task);
        }
        tasks
    }
}
