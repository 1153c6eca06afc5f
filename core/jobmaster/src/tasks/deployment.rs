//! From slots to tasks that run: processes on the TaskManagers, deployment.

use std::collections::BTreeMap;

use millstream_gateway::{AllocatedSlot, CauseKind, FailureCause, TaskLocation};
use millstream_protocol::host::{Deploy, OperatorSnapshot, PeerHost, Placement, Task, to_host};
use millstream_types::{HostId, TaskManagerId};
use prost::Message as _;

use super::{Action, Phase, Share, Slots, TaskHost, Tasks};
use crate::checkpoints::Restoring;
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

impl Tasks {
    /// Begins an attempt.
    pub(super) fn start(&mut self, attempt: u32, slots: Option<Slots>) {
        if self.started {
            self.executions.reset(self.now, attempt);
        }
        (self.started, self.deployed, self.coordinator_ready) = (true, false, false);
        self.hosts.clear();
        self.shares.clear();
        self.failovers.clear();
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
        self.take_slots(&slots);
        let first = self.executions.deployable(self.eager);
        self.executions.start_deploying(self.now, &first);
        self.enter(Phase::StartingHosts);
        let shares = self.shares_without_host();
        self.actions.push(Action::NeedHosts(shares));
        self.set_timer(TimerKind::HostStart, self.host_start_timeout);
    }

    /// Takes in where the slots are.
    pub(super) fn take_slots(&mut self, slots: &Slots) {
        self.slots.clear();
        for (shared, slot) in slots {
            let on = slot.slot.task_manager.clone();
            self.slots.entry(on).or_default().push((shared.clone(), slot.clone()));
        }
    }

    /// The slots that are none of a process's, by TaskManager.
    pub(super) fn shares_without_host(&mut self) -> Vec<Share> {
        let mut shares = Vec::new();
        for (on, slots) in &self.slots {
            let has_host = |slot: &AllocatedSlot| {
                let index = slot.slot.index;
                self.hosts.values().any(|host| host.on == *on && host.slots.contains(&index))
            };
            let slots: Vec<_> =
                slots.iter().map(|(_, slot)| slot).filter(|slot| !has_host(slot)).collect();
            let Some(first) = slots.first() else { continue };
            let (gateway, address) = (first.gateway.clone(), first.address.clone());
            let slots: Vec<u32> = slots.iter().map(|slot| slot.slot.index).collect();
            self.shares.insert(on.clone(), slots.clone());
            shares.push(Share { on: gateway, address, slots });
        }
        shares
    }

    /// Puts the subtasks of a process's slots there.
    pub(super) fn on_host_started(&mut self, host: HostId, on: TaskManagerId) {
        let slots = self.shares.remove(&on).unwrap_or_default();
        let address = self.slots.get(&on).and_then(|slots| slots.first());
        let address = address.map(|(_, slot)| slot.address.clone()).unwrap_or_default();
        self.hosts.insert(host, TaskHost { on, address, slots, data_address: None });
        self.place_on(host);
    }

    /// Puts the subtasks of a process's slots there that begin and are nowhere yet.
    pub(super) fn place_on(&mut self, id: HostId) {
        let Some(host) = self.hosts.get(&id) else { return };
        let data_port = host.data_address.as_deref().and_then(crate::hosts::port_of);
        let (failovers, runs) = (&self.failovers, matches!(self.phase, Phase::Running { .. }));
        let begins = |task: &Subtask| !runs || failovers.values().any(|it| it.places(task));
        for (shared, slot) in self.slots.get(&host.on).into_iter().flatten() {
            if !host.slots.contains(&slot.slot.index) {
                continue;
            }
            let location = TaskLocation {
                task_manager: host.on.clone(),
                address: slot.address.clone(),
                host: id,
                data_port,
            };
            let place = Place { location, slot: slot.slot.index };
            self.executions.place((&shared.group, shared.index), &place, begins);
        }
    }

    pub(super) fn on_host_ready(&mut self, id: HostId, data_address: String) {
        let Some(host) = self.hosts.get_mut(&id) else { return };
        self.executions.set_data_port(id, crate::hosts::port_of(&data_address));
        host.data_address = Some(data_address);
        self.run_if_ready();
        self.run_failovers();
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

    /// Processes that these tasks wait for are late.
    pub(super) fn on_hosts_late(&mut self, tasks: Vec<Subtask>) {
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
        self.actions.push(Action::Failed(entry, tasks));
    }

    /// Tells hosts to run the tasks that can run now. With the first deployment every host learns
    /// the addresses of its peers.
    pub(super) fn deploy(&mut self) {
        let mut subtasks = self.executions.deployable(self.eager);
        subtasks.retain(|task| !self.failovers.values().any(|it| it.tasks.contains(task)));
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
        let tasks = self.tasks_by_host(&subtasks, &self.restoring);
        self.tell_tasks(tasks, first);
    }

    /// Tells hosts their tasks; those without tasks are told where the others are, if they are to
    /// know.
    pub(super) fn tell_tasks(&mut self, mut tasks: BTreeMap<HostId, Vec<Task>>, all: bool) {
        let (peers, placements) = (self.peers(), self.placements());
        for id in self.hosts.keys() {
            let tasks = tasks.remove(id).unwrap_or_default();
            if tasks.is_empty() && !all {
                continue;
            }
            for tasks in in_lots(tasks) {
                let deploy = Deploy { peers: peers.clone(), placements: placements.clone(), tasks };
                self.actions.push(Action::Tell(*id, to_host::Message::Deploy(deploy)));
            }
        }
    }

    fn peers(&self) -> Vec<PeerHost> {
        let peer = |(id, host): (&HostId, &TaskHost)| {
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

    pub(super) fn tasks_by_host<'a>(
        &self,
        subtasks: impl IntoIterator<Item = &'a Subtask>,
        restoring: &Restoring,
    ) -> BTreeMap<HostId, Vec<Task>> {
        let mut tasks: BTreeMap<HostId, Vec<Task>> = BTreeMap::new();
        for at in subtasks {
            let Some(execution) = self.executions.get(*at) else { continue };
            let Some((location, slot)) = execution.place() else { continue };
            let (vertex, subtask) = self.executions.message_id(*at);
            let attempt = execution.attempt();
            let mut task = Task { vertex, subtask, attempt, slot, ..Task::default() };
            restoring.add_to(&mut task);
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
