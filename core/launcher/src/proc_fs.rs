//! Facts on processes from `/proc`. Everything may vanish between two reads, so everything is an
//! `Option`.

use std::fs;
use std::time::Duration;

use millstream_types::ByteSize;
use rustix::param::{clock_ticks_per_second, page_size};

/// The line `/proc/<pid>/stat`, as far as it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessStat {
    pub(crate) pid: u32,
    pub(crate) parent: u32,
    pub(crate) zombie: bool,
    /// In clock ticks since boot; tells two processes of one pid apart.
    pub(crate) start: u64,
    /// CPU time of the process and of the children that it has waited for, in clock ticks.
    pub(crate) cpu_ticks: u64,
}

/// Memory and CPU time of processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProcessUsage {
    /// Resident memory.
    pub resident: ByteSize,
    /// CPU time, of dead and waited-for children too.
    pub cpu_time: Duration,
}

/// The usage of this process. CPU time holds that of all its ended hosts.
#[must_use]
pub fn own_usage() -> ProcessUsage {
    usage(std::process::id())
}

pub(crate) fn usage(pid: u32) -> ProcessUsage {
    ProcessUsage {
        resident: ByteSize::from_bytes(resident_bytes(pid).unwrap_or(0)),
        cpu_time: stat(pid).map_or(Duration::ZERO, |stat| ticks(stat.cpu_ticks)),
    }
}

fn ticks(count: u64) -> Duration {
    Duration::from_millis(count.saturating_mul(1000) / clock_ticks_per_second().max(1))
}

/// All memory of the machine and what of it is available, of `/proc/meminfo`.
#[must_use]
pub fn machine_memory() -> (ByteSize, ByteSize) {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes = |name: &str| -> u64 {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.trim().split(' ').next()?.parse().ok())
            .unwrap_or(0)
    };
    let size = |name| ByteSize::from_bytes(kilobytes(name).saturating_mul(1024));
    (size("MemTotal:"), size("MemAvailable:"))
}

/// The number of cores that this process may use.
#[must_use]
pub fn machine_cores() -> u32 {
    std::thread::available_parallelism()
        .map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX))
}

pub(crate) fn stat(pid: u32) -> Option<ProcessStat> {
    parse_stat(pid, &fs::read(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(pid: u32, line: &[u8]) -> Option<ProcessStat> {
    // The name stands in parentheses and may hold anything, parentheses included.
    let end = line.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(line.get(end + 1..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(ProcessStat {
        pid,
        parent: u32::try_from(number(1)?).ok()?,
        zombie: matches!(*fields.first()?, "Z" | "X"),
        start: number(19)?,
        cpu_ticks: number(11)? + number(12)? + number(13)? + number(14)?,
    })
}

pub(crate) fn resident_bytes(pid: u32) -> Option<u64> {
    parse_resident(&fs::read_to_string(format!("/proc/{pid}/statm")).ok()?)
}

pub(crate) fn parse_resident(line: &str) -> Option<u64> {
    let pages: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages.saturating_mul(page_size() as u64))
}

/// The children of all threads of a process; `None` where the kernel does not list them.
pub(crate) fn children(pid: u32) -> Option<Vec<u32>> {
    let mut found = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        match fs::read_to_string(thread.path().join("children")) {
            Ok(list) => found.extend(list.split_ascii_whitespace().flat_map(str::parse::<u32>)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                // The thread has ended, or the kernel was built without the list.
                if thread.path().exists() {
                    return None;
                }
            }
            Err(_) => {}
        }
    }
    Some(found)
}

/// The children and their children and so on, without the process itself.
pub(crate) fn descendants(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let mut open = vec![pid];
    while let Some(next) = open.pop() {
        let Some(children) = children(next) else {
            return descendants_by_parent(pid, &all());
        };
        open.extend(&children);
        found.extend(children);
    }
    found
}

fn descendants_by_parent(pid: u32, table: &[ProcessStat]) -> Vec<u32> {
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(table.iter().filter(|stat| stat.parent == parent).map(|stat| stat.pid));
        next += 1;
    }
    found.split_off(1)
}

/// Every process that is visible.
pub(crate) fn all() -> Vec<ProcessStat> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter_map(stat)
        .collect()
}

/// The value of a variable in the environment that a process was started with.
pub(crate) fn variable(pid: u32, name: &str) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    environment.split(|byte| *byte == 0).find_map(|entry| {
        let (key, value) = std::str::from_utf8(entry).ok()?.split_once('=')?;
        (key == name).then(|| value.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_confuse() {
        let line = b"42 (a) Z (b)) S 7 42 42 0 -1 4194560 1 2 3 4 10 20 30 40 20 0 1 0 999 1 2";
        let stat = parse_stat(42, line).unwrap();
        assert_eq!((stat.parent, stat.zombie, stat.start, stat.cpu_ticks), (7, false, 999, 100));
        assert_eq!(parse_stat(42, b"42 (cut"), None);
        assert_eq!(parse_stat(42, b"42 (cut) S 1"), None);
    }

    #[test]
    fn this_process_is_seen() {
        let own = std::process::id();
        assert!(own_usage().resident > ByteSize::from_mib(1));
        assert!(all().iter().any(|stat| stat.pid == own && !stat.zombie));
        assert!(machine_memory().0 > machine_memory().1);
        assert_eq!(variable(own, "no such variable"), None);
    }

    #[test]
    fn both_ways_find_the_same_descendants() {
        let mut child =
            std::process::Command::new("sh").args(["-c", "sleep 60 & wait"]).spawn().unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while descendants(child.id()).is_empty() && std::time::Instant::now() < deadline {
            std::thread::yield_now();
        }
        let found = descendants(child.id());
        assert_eq!(found.len(), 1);
        assert_eq!(descendants_by_parent(child.id(), &all()), found);
        for pid in found {
            let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
        child.wait().unwrap();
    }
}
