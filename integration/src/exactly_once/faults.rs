//! Carries faults out on the processes of a cluster.

use super::place::Place;
use super::plan::Process;

/// A process that a fault hits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Victim {
    kind: Process,
    pid: u32,
    /// The process id of its TaskManager; its own if it is one.
    task_manager: Option<u32>,
    /// Its name, for the log.
    pub(super) name: String,
}

impl Victim {
    /// The process of a kind that `pick` selects; `None` if there is none.
    pub(super) fn find(place: &Place, kind: Process, pick: u64) -> Option<Self> {
        select(all(place, kind), pick)
    }

    /// The same beside a process that is killed too: one that does not die with it. If there is
    /// none of the kind, one of another kind.
    pub(super) fn find_beside(&self, place: &Place, kind: Process, pick: u64) -> Option<Self> {
        let kinds = [kind, Process::CoordinatorHost, Process::TaskHost];
        kinds.into_iter().find_map(|kind| {
            let mut others = all(place, kind);
            others.retain(|other| !self.takes_along(other) && !other.takes_along(self));
            select(others, pick)
        })
    }

    /// Whether the other process is this one, or dies with it.
    fn takes_along(&self, other: &Self) -> bool {
        self.pid == other.pid || other.task_manager == Some(self.pid)
    }

    /// Kills it with signal 9; a TaskManager is replaced.
    pub(super) fn kill(&self, place: &mut Place) {
        place.kill(self.pid);
    }

    /// Stops it where it is.
    pub(super) fn pause(&self, place: &Place) {
        place.pause(self.pid);
    }

    /// Lets it go on, if it still exists.
    pub(super) fn resume(&self, place: &Place) {
        place.resume(self.pid);
    }
}

fn select(mut victims: Vec<Victim>, pick: u64) -> Option<Victim> {
    let selected = pick.checked_rem(victims.len() as u64)?;
    Some(victims.swap_remove(selected as usize))
}

/// The processes of a kind in the order of their TaskManagers' start, so that the same pick means
/// the same place. TaskManagers are those that have a task host, or all if none has.
fn all(place: &Place, kind: Process) -> Vec<Victim> {
    let task_managers = place.task_managers();
    let (hosts, coordinators) = place.hosts(&task_managers);
    let has_hosts = hosts.iter().any(|hosts| !hosts.is_empty());
    let with_hosts = task_managers.iter().zip(hosts);
    match kind {
        Process::TaskHost => with_hosts
            .flat_map(|(it, hosts)| {
                let name = |pid| format!("task host {pid} of {}", it.name);
                let victim =
                    move |pid| Victim { kind, pid, task_manager: Some(it.pid), name: name(pid) };
                hosts.into_iter().map(victim)
            })
            .collect(),
        Process::TaskManager => with_hosts
            .filter(|(_, hosts)| !has_hosts || !hosts.is_empty())
            .map(|(it, _)| {
                let (pid, name) = (it.pid, it.name.clone());
                Victim { kind, pid, task_manager: Some(pid), name }
            })
            .collect(),
        Process::CoordinatorHost => {
            let name = |pid| format!("coordinator host {pid}");
            let victim = |pid| Victim { kind, pid, task_manager: None, name: name(pid) };
            coordinators.into_iter().map(victim).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn victim(kind: Process, pid: u32, task_manager: Option<u32>) -> Victim {
        Victim { kind, pid, task_manager, name: String::new() }
    }

    #[test]
    fn a_task_manager_takes_its_hosts_along_and_nothing_else() {
        let task_manager = victim(Process::TaskManager, 1, Some(1));
        let host = victim(Process::TaskHost, 2, Some(1));
        let other = victim(Process::TaskHost, 4, Some(3));
        let coordinator = victim(Process::CoordinatorHost, 5, None);
        assert!(task_manager.takes_along(&host) && task_manager.takes_along(&task_manager));
        assert!(!host.takes_along(&task_manager) && !host.takes_along(&other));
        assert!(!task_manager.takes_along(&other) && !task_manager.takes_along(&coordinator));
    }

    #[test]
    fn a_pick_selects_one_if_there_is_any() {
        let two = || vec![victim(Process::TaskHost, 2, None), victim(Process::TaskHost, 3, None)];
        assert_eq!(select(two(), 7).map(|victim| victim.pid), Some(3));
        assert_eq!(select(Vec::new(), 7), None);
    }
}
