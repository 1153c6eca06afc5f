//! Counts the resources of a cluster: processes, open descriptors, files, listening ports.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The resources at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// Command lines by process id, the daemons' and everything that they started.
    pub processes: BTreeMap<u32, String>,
    /// The daemons' descriptors: how many of each kind.
    pub descriptors: BTreeMap<(String, String), usize>,
    /// Files and directories.
    pub files: BTreeSet<PathBuf>,
    /// Ports that the processes listen on.
    pub ports: BTreeSet<u16>,
}

impl Census {
    /// Counts the processes that carry `mark` in their environment, the descriptors of `daemons`,
    /// and the files below `directories`.
    #[must_use]
    pub fn take(mark: &str, daemons: &[(&str, u32)], directories: &[PathBuf]) -> Self {
        let processes = processes_marked(mark);
        let mut descriptors = BTreeMap::new();
        for (name, pid) in daemons {
            for kind in descriptors_of(*pid).iter().map(|target| kind(target)) {
                *descriptors.entry(((*name).to_owned(), kind)).or_insert(0) += 1;
            }
        }
        let mut files = BTreeSet::new();
        for directory in directories {
            list(directory, &mut files);
        }
        let ports = listening_ports(processes.keys().copied());
        Self { processes, descriptors, files, ports }
    }

    /// Resources that are new since `before`, and processes that are gone, one a line.
    #[must_use]
    pub fn since(&self, before: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        for (pid, command) in &self.processes {
            if !before.processes.contains_key(pid) {
                lines.push(format!("process {pid} is new: {command}"));
            }
        }
        for (pid, command) in &before.processes {
            if !self.processes.contains_key(pid) {
                lines.push(format!("process {pid} is gone: {command}"));
            }
        }
        for (key, count) in &self.descriptors {
            let was = before.descriptors.get(key).copied().unwrap_or(0);
            if *count > was {
                lines.push(format!("{} has {count} of {}, had {was}", key.0, key.1));
            }
        }
        let new_files = self.files.difference(&before.files);
        lines.extend(new_files.map(|path| format!("{} is new", path.display())));
        let new_ports = self.ports.difference(&before.ports);
        lines.extend(new_ports.map(|port| format!("port {port} is new")));
        lines
    }
}

/// The processes with this text in the environment that they were started with.
#[must_use]
pub fn processes_marked(mark: &str) -> BTreeMap<u32, String> {
    let Ok(entries) = fs::read_dir("/proc") else { return BTreeMap::new() };
    let ids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
    })
    .map(|pid| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        (pid, String::from_utf8_lossy(&command).replace('\0', " "))
    })
    .collect()
}

/// The parent of a process; none when it is gone.
#[must_use]
pub fn parent_of(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

/// The resident memory of a process in bytes; none when it is gone.
#[must_use]
pub fn process_memory(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib << 10)
}

fn descriptors_of(pid: u32) -> Vec<String> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let targets = entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    targets.map(|target| target.to_string_lossy().into_owned()).collect()
}

/// `socket` of `socket:[123]`; a file's path as it is.
fn kind(target: &str) -> String {
    target.split(":[").next().unwrap_or(target).to_owned()
}

fn list(directory: &Path, files: &mut BTreeSet<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            list(&entry.path(), files);
        }
        // A worker makes the place for its hosts when it needs it first, and keeps it.
        if entry.file_name() != "hosts" {
            files.insert(entry.path());
        }
    }
}

fn listening_ports(processes: impl Iterator<Item = u32>) -> BTreeSet<u16> {
    let sockets: HashSet<String> = processes.flat_map(descriptors_of).collect();
    let mut ports = BTreeSet::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        for line in fs::read_to_string(table).unwrap_or_default().lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [_, local, _, "0A", _, _, _, _, _, inode, ..] = fields.as_slice() else { continue };
            let port = local.rsplit(':').next().and_then(|hex| u16::from_str_radix(hex, 16).ok());
            if sockets.contains(&format!("socket:[{inode}]")) {
                ports.extend(port);
            }
        }
    }
    ports
}
