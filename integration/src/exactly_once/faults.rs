//! Carries faults out on the processes of a cluster.

use crate::cluster::Cluster;
use crate::command_line::kill;

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
    pub(super) fn find(cluster: &Cluster, kind: Process, pick: u64) -> Option<Self> {
        select(all(cluster, kind), pick)
    }

    /// The same beside a process that is killed too: one that does not die with it. If there is
    /// none of the kind, one of another kind.
    pub(super) fn find_beside(&self, cluster: &Cluster, kind: Process, pick: u64) -> Option<Self> {
        let kinds = [kind, Process::CoordinatorHost, Process::TaskHost];
        kinds.into_iter().find_map(|kind| {
            let mut others = all(cluster, kind);
            others.retain(|other| !self.takes_along(other) && !other.takes_along(self));
            select(others, pick)
        })
    }

    /// Whether the other process is this one, or dies with it.
    fn takes_along(&self, other: &Self) -> bool {
        self.pid == other.pid || other.task_manager == Some(self.pid)
    }

    /// Kills it with signal 9; a TaskManager is replaced.
    pub(super) fn kill(&self, cluster: &mut Cluster) {
        let place = cluster.task_managers.iter().position(|it| it.pid() == self.pid);
        match place {
            None => kill(self.pid, libc::SIGKILL),
            Some(at) => {
                cluster.task_managers.remove(at).kill();
                cluster.start_task_manager();
            }
        }
    }

    /// Stops it where it is.
    pub(super) fn pause(&self, cluster: &Cluster) {
        match cluster.task_managers.iter().find(|it| it.pid() == self.pid) {
            None => kill(self.pid, libc::SIGSTOP),
            Some(task_manager) => task_manager.pause(),
        }
    }

    /// Lets it go on, if it still exists.
    pub(super) fn resume(&self, cluster: &Cluster) {
        match cluster.task_managers.iter().find(|it| it.pid() == self.pid) {
            Some(task_manager) => task_manager.resume(),
            None if cluster.children().contains(&self.pid) => kill(self.pid, libc::SIGCONT),
            None => {}
        }
    }
}

fn select(mut victims: Vec<Victim>, pick: u64) -> Option<Victim> {
    let selected = pick.checked_rem(victims.len() as u64)?;
    Some(victims.swap_remove(selected as usize))
}

/// The processes of a kind in the order of their TaskManagers' start, so that the same pick means
/// the same place. TaskManagers are those that have a task host, or all if none has.
fn all(cluster: &Cluster, kind: Process) -> Vec<Victim> {
    let task_manager = |daemon: &crate::daemon::Daemon| Victim {
        kind: Process::TaskManager,
        pid: daemon.pid(),
        task_manager: Some(daemon.pid()),
        name: daemon.name.clone(),
    };
    let mut hosts = Vec::new();
    let mut busy = Vec::new();
    for daemon in &cluster.task_managers {
        for pid in cluster.children_of(daemon) {
            let name = format!("task host {pid} of {}", daemon.name);
            let task_manager = Some(daemon.pid());
            hosts.push(Victim { kind: Process::TaskHost, pid, task_manager, name });
            busy.push(daemon);
        }
    }
    match kind {
        Process::TaskHost => hosts,
        Process::TaskManager if hosts.is_empty() => {
            cluster.task_managers.iter().map(task_manager).collect()
        }
        Process::TaskManager => busy.into_iter().map(task_manager).collect(),
        Process::CoordinatorHost => {
            let daemons = cluster.job_manager.iter();
            let pids = daemons.flat_map(|daemon| cluster.children_of(daemon));
            let name = |pid| format!("coordinator host {pid}");
            pids.map(|pid| Victim { kind, pid, task_manager: None, name: name(pid) }).collect()
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
