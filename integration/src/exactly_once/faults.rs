//! Carries a fault out on the processes of a cluster.

use std::time::Duration;

use crate::cluster::Cluster;
use crate::command_line::kill;

use super::plan::{Fault, FaultKind};

/// A process that was stopped and has to go on.
#[derive(Debug, Clone, Copy)]
pub(super) enum Paused {
    /// A task host, by its process id.
    Host(u32),
    /// A TaskManager, by its process id.
    TaskManager(u32),
}

impl Paused {
    /// Lets the process go on, if it still exists.
    pub(super) fn resume(self, cluster: &Cluster) {
        match self {
            Self::Host(pid) if !cluster.children().contains(&pid) => {}
            Self::Host(pid) => kill(pid, libc::SIGCONT),
            Self::TaskManager(pid) => {
                let stopped = cluster.task_managers.iter().filter(|it| it.pid() == pid);
                stopped.for_each(|task_manager| task_manager.resume());
            }
        }
    }
}

/// A fault that was carried out.
#[derive(Debug)]
pub(super) struct Struck {
    /// The process that was hit, for the log.
    pub(super) victim: String,
    /// The process that has to go on after this time, unless it was killed.
    pub(super) paused: Option<(Paused, Duration)>,
}

/// Kills or stops the process that a fault selects; a TaskManager that is killed is replaced.
///
/// # Errors
/// The job has no task host, so there is no process to hit.
pub(super) fn strike(cluster: &mut Cluster, fault: &Fault) -> Result<Struck, String> {
    // In the order of their TaskManagers' start, so that the same pick means the same place.
    let hosts: Vec<(usize, u32)> = (0..)
        .zip(&cluster.task_managers)
        .flat_map(|(at, daemon)| cluster.children_of(daemon).into_iter().map(move |pid| (at, pid)))
        .collect();
    let selected = fault.pick.checked_rem(hosts.len() as u64).unwrap_or(0);
    let Some(&(at, host)) = hosts.get(selected as usize) else {
        return Err(format!("no task host of the job was found for the {}", fault.kind));
    };
    let name = cluster.task_managers[at].name.clone();
    Ok(match fault.kind {
        FaultKind::KillHost => {
            kill(host, libc::SIGKILL);
            Struck { victim: format!("task host {host} of {name}"), paused: None }
        }
        FaultKind::KillTaskManager => {
            cluster.task_managers.remove(at).kill();
            cluster.start_task_manager();
            Struck { victim: name, paused: None }
        }
        FaultKind::PauseHost(pause) => {
            kill(host, libc::SIGSTOP);
            let victim = format!("task host {host} of {name}");
            Struck { victim, paused: Some((Paused::Host(host), pause)) }
        }
        FaultKind::PauseTaskManager(pause) => {
            cluster.task_managers[at].pause();
            let paused = Paused::TaskManager(cluster.task_managers[at].pid());
            Struck { victim: name, paused: Some((paused, pause)) }
        }
    })
}
