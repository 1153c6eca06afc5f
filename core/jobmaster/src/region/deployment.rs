//! From slots to tasks that run: processes on the TaskManagers, deployment.

use std::collections::BTreeMap;

use millstream_gateway::{CauseKind, FailureCause, TaskLocation};
use millstream_protocol::host::{Deploy, OperatorSnapshot, PeerHost, Placement, Task, to_host};
use millstream_types::{HostId, TaskManagerId};
use prost::Message as _;

use super::{Action, Phase, Region, RegionHost, Share, Slots};
use crate::execution_graph::{Place, Subtask};
use crate::timer::TimerKind;

/// The most bytes of state that one message deploys, unless a single task has more.
const STATE_BYTES: usize = 16 << 20;

/// Tasks in lots whose state fits into a message each; one lot if there are none.
fn in_lots(tasks: Vec<Task>) -> Vec<Vec<Task>> {
    let mut lots = vec![Vec::new()];
    let mut bytes = 0;
    for task in tasks {
        let length: usize = task.snapshots.iter().map(OperatorSnapshot::encoded_len).sum();
        bytes += length;
        if bytes > STATE_BYTES && lots.last().is_some_and(|lot| !lot.is_empty()) {
            bytes = length;
            lots.push(Vec::new());
        }
        if let Some(lot) = lots.last_mut() {
            lot.push(task);
        }
    }
    lots
}

impl Region {
    /// Begins an attempt.
    pub(super) fn start(&mut self, slots: Option<Slots>) {
        if self.started {
            self.executions.reset(self.now);
        }
        (self.started, self.deployed, self.coordinator_ready) = (true, false, false);
        self.hosts.clear();
        let first = self.executions.deployable(self.eager);
        self.executions.schedule(self.now, &first);
        self.enter(Phase::WaitingForSlots);
        match slots {
            Some(slots) => self.start_hosts(slots),
            None => self.set_timer(TimerKind::SlotRequest, self.slot_request_timeout),
        }
    }

    /// One task host for all slots of a TaskManager, and the coordinator host.
    pub(super) fn start_hosts(&mut self, slots: Slots) {
        let mut shares: BTreeMap<TaskManagerId, Share> = BTreeMap::new();
        self.slots.clear();
        for (shared, slot) in slots {
            let on = slot.slot.task_manager.clone();
            let share = shares.entry(on.clone()).or_insert_with(|| Share {
                on: slot.gateway.clone(),
                address: slot.address.clone(),
                slots: Vec::new(),
            });
            share.slots.push(slot.slot.index);
            self.slots.entry(on).or_default().push((shared, slot));
        }
        let first = self.executions.deployable(self.eager);
        self.executions.start_deploying(self.now, &first);
        self.enter(Phase::StartingHosts);
        self.actions.push(Action::NeedHosts(shares.into_values().collect()));
        self.set_timer(TimerKind::HostStart, self.host_start_timeout);
    }

    /// Puts the subtasks of a TaskManager's slots where its host is.
    pub(super) fn on_host_started(&mut self, host: HostId, on: TaskManagerId) {
        let mut address = String::new();
        for (shared, slot) in self.slots.get(&on).into_iter().flatten() {
            address.clone_from(&slot.address);
            let location = TaskLocation {
                task_manager: on.clone(),
                address: slot.address.clone(),
                host,
                data_port: None,
            };
            let place = Place { location, slot: slot.slot.index };
            self.executions.place((&shared.group, shared.index), &place);
        }
        self.hosts.insert(host, RegionHost { on, address, data_address: None });
    }

    pub(super) fn on_host_ready(&mut self, id: HostId, data_address: String) {
        let Some(host) = self.hosts.get_mut(&id) else { return };
        self.executions.set_data_port(id, crate::hosts::port_of(&data_address));
        host.data_address = Some(data_address);
        self.run_if_ready();
    }

    pub(super) fn run_if_ready(&mut self) {
        if !matches!(self.phase, Phase::StartingHosts) {
            return;
        }
        self.actions.push(Action::Changed);
        let tasks_ready = self.hosts.values().all(|host| host.data_address.is_some());
        if tasks_ready && (self.coordinator_ready || !self.needs_coordinator) {
            self.enter(Phase::Running { held: None, exited: None });
            self.deploy();
        }
    }

    pub(super) fn on_hosts_late(&mut self) {
        let late = self.hosts.iter().find(|(_, host)| host.data_address.is_none());
        let (name, location) = match late {
            Some((id, host)) => {
                (format!("the task host on TaskManager {}", host.on), self.location(*id))
            }
            None => ("the coordinator host".to_owned(), None),
        };
        let message = format!("{name} was not ready within {:?}", self.host_start_timeout);
        let mut entry = self.entry(FailureCause::new(CauseKind::Start, message));
        entry.location = location;
        self.actions.push(Action::Failed(entry));
    }

    /// Tells hosts to run the tasks that can run now. With the first deployment every host learns
    /// the addresses of its peers.
    pub(super) fn deploy(&mut self) {
        let subtasks = self.executions.deployable(self.eager);
        let first = !self.deployed;
        if subtasks.is_empty() && !first {
            return;
        }
        self.executions.schedule(self.now, &subtasks);
        self.executions.start_deploying(self.now, &subtasks);
        self.executions.mark_deployed(&subtasks);
        if first {
            self.deployed = true;
            self.actions.push(Action::Deployed);
        }
        self.actions.push(Action::Changed);
        let (peers, placements) = (self.peers(), self.placements());
        let mut tasks = self.tasks_by_host(&subtasks);
        for id in self.hosts.keys() {
            let tasks = tasks.remove(id).unwrap_or_default();
            if tasks.is_empty() && !first {
                continue;
            }
            for tasks in in_lots(tasks) {
                let deploy = Deploy { peers: peers.clone(), placements: placements.clone(), tasks };
                self.actions.push(Action::Tell(*id, to_host::Message::Deploy(deploy)));
            }
        }
    }

    fn peers(&self) -> Vec<PeerHost> {
        let peer = |(id, host): (&HostId, &RegionHost)| {
            let data_address = host.data_address.clone()?;
            Some(PeerHost { host_id: id.as_bytes().to_vec(), data_address })
        };
        self.hosts.iter().filter_map(peer).collect()
    }

    fn placements(&self) -> Vec<Placement> {
        let placement = |subtask: Subtask, location: &TaskLocation| {
            let (vertex, subtask) = self.executions.message_id(subtask);
            Placement { vertex, subtask, host_id: location.host.as_bytes().to_vec() }
        };
        self.executions
            .iter()
            .filter_map(|(subtask, execution)| Some(placement(subtask, execution.place()?.0)))
            .collect()
    }

    fn tasks_by_host(&self, subtasks: &[Subtask]) -> BTreeMap<HostId, Vec<Task>> {
        let mut tasks: BTreeMap<HostId, Vec<Task>> = BTreeMap::new();
        for at in subtasks {
            let Some(execution) = self.executions.get(*at) else { continue };
            let Some((location, slot)) = execution.place() else { continue };
            let (vertex, subtask) = self.executions.message_id(*at);
            let attempt = execution.attempt();
            let mut task = Task { vertex, subtask, attempt, slot, ..Task::default() };
            self.restoring.add_to(&mut task);
            tasks.entry(location.host).or_default().push(task);
        }
        tasks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_with_much_state_are_deployed_in_several_messages() {
        let task = |bytes: usize| {
            let snapshots =
                vec![OperatorSnapshot { positions: vec![vec![0; bytes]], ..Default::default() }];
            Task { snapshots, ..Task::default() }
        };
        let sizes = |tasks: &[usize]| -> Vec<usize> {
            let tasks = tasks.iter().map(|mib| task(mib << 20)).collect();
            in_lots(tasks).iter().map(Vec::len).collect()
        };
        assert_eq!(sizes(&[]), [0]);
        assert_eq!(sizes(&[1, 2, 3]), [3]);
        assert_eq!(sizes(&[7, 7, 7, 20, 1, 1]), [2, 1, 1, 2]);
    }
}
