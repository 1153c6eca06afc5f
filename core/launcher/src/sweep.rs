//! Finds and kills what an ended host left behind.
//!
//! A process is of a host when it was seen among the host's descendants while the host lived, when
//! it carries the host's mark in the environment that it was started with, or when it descends from
//! such a process. Process ids are reused, so a process is known by id and start time.

use std::collections::HashSet;

use millstream_types::HostId;
use rustix::process::{Pid, Signal, WaitOptions};

use crate::proc_fs::{self, ProcessStat};
use crate::spec::HOST_MARK_VARIABLE;

/// A process that was seen once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Seen {
    pub(crate) pid: u32,
    pub(crate) start: u64,
}

impl From<&ProcessStat> for Seen {
    fn from(stat: &ProcessStat) -> Self {
        Self { pid: stat.pid, start: stat.start }
    }
}

/// True if the process was started by the host, or by a process that the host started.
pub(crate) fn mark(pid: u32) -> Option<HostId> {
    proc_fs::variable(pid, HOST_MARK_VARIABLE)?.parse().ok()
}

/// The hunt for one host's leftovers.
#[derive(Debug)]
pub(crate) struct Sweep {
    pub(crate) host: HostId,
    /// The start time of the host; no older process can be its own.
    pub(crate) since: u64,
    /// The processes that are known to be the host's.
    pub(crate) members: HashSet<Seen>,
}

impl Sweep {
    /// Kills all that is left and says whether that was nothing. `hosts` are spared: they end in
    /// their own way.
    pub(crate) fn step(&mut self, hosts: &HashSet<u32>) -> bool {
        let table: Vec<ProcessStat> = proc_fs::all()
            .into_iter()
            .filter(|stat| stat.start >= self.since && !hosts.contains(&stat.pid))
            .collect();
        self.find_members(&table);
        let own = std::process::id();
        let mut clean = true;
        for stat in table.iter().filter(|stat| self.members.contains(&Seen::from(*stat))) {
            if !stat.zombie {
                kill(stat.pid);
                clean = false;
            } else if stat.parent == own {
                reap(stat.pid);
            }
        }
        clean
    }

    fn find_members(&mut self, table: &[ProcessStat]) {
        for stat in table {
            if !self.members.contains(&stat.into()) && mark(stat.pid) == Some(self.host) {
                self.members.insert(stat.into());
            }
        }
        loop {
            let parents: HashSet<u32> = table
                .iter()
                .filter(|stat| self.members.contains(&Seen::from(*stat)))
                .map(|stat| stat.pid)
                .collect();
            let before = self.members.len();
            self.members
                .extend(table.iter().filter(|stat| parents.contains(&stat.parent)).map(Seen::from));
            if self.members.len() == before {
                return;
            }
        }
    }
}

pub(crate) fn kill(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended by itself since it was seen.
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
}

/// Takes the status of a dead child so that its entry goes away.
pub(crate) fn reap(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = rustix::process::waitpid(Some(pid), WaitOptions::NOHANG);
    }
}
