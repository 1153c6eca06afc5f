//! Processes as the kernel sees them: CPU time, memory, and a way to end those that were started.

use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// CPU time of `root` and everything below it, dead children that were waited for included.
///
/// A child's time moves to its parent when it is waited for; a reading that a death fell into is
/// taken again, so that nothing counts twice or not at all.
pub fn tree_cpu(root: u32) -> Result<Duration> {
    for _ in 0..100 {
        let (before, _) = tree(root)?;
        let (after, ticks) = tree(root)?;
        if before == after {
            return Ok(Duration::from_nanos(ticks * 1_000_000_000 / ticks_per_second()));
        }
    }
    bail!("the children of process {root} never stood still")
}

/// Waits until `root` has no children, for at most `limit`.
pub fn wait_for_childless(root: u32, limit: Duration) -> Result<()> {
    let start = Instant::now();
    while tree(root)?.0.len() > 1 && start.elapsed() < limit {
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Number and length of the quiet windows in a row after which the machine counts as quiet.
const QUIET_WINDOWS: u32 = 3;
const QUIET_WINDOW: Duration = Duration::from_millis(100);
/// The part of a window that idle daemons may use.
const QUIET_BUSY_MAX: f64 = 0.15;
/// Patience with a busy machine: a process that runs for longer does not belong to the measurement.
const QUIET_PATIENCE: Duration = Duration::from_secs(30);

/// Waits until the measured processes have come to rest: one engine's last threads must not take
/// the processor from the other's figure.
pub fn wait_until_quiet() -> Result<()> {
    let start = Instant::now();
    let mut quiet = 0;
    let mut before = processor_ticks()?;
    while quiet < QUIET_WINDOWS {
        if start.elapsed() > QUIET_PATIENCE {
            bail!("the machine did not come to rest within {QUIET_PATIENCE:?}");
        }
        std::thread::sleep(QUIET_WINDOW);
        let now = processor_ticks()?;
        let (busy, all) = (now.0 - before.0, now.1 - before.1);
        before = now;
        quiet = if busy as f64 <= all as f64 * QUIET_BUSY_MAX { quiet + 1 } else { 0 };
    }
    Ok(())
}

/// Ticks that the processors were busy, and all their ticks, since the machine started.
fn processor_ticks() -> Result<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().unwrap_or_default();
    // user nice system idle iowait irq softirq steal; guests are in user already.
    let ticks: Vec<u64> =
        line.split_whitespace().skip(1).take(8).map_while(|field| field.parse().ok()).collect();
    let [_, _, _, idle, waiting, ..] = ticks.as_slice() else { bail!("/proc/stat says {line:?}") };
    let all = ticks.iter().sum::<u64>();
    Ok((all - idle - waiting, all))
}

/// The processes of a tree and the ticks that they used.
fn tree(root: u32) -> Result<(Vec<u32>, u64)> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir("/proc")? {
        let Ok(pid) = entry?.file_name().to_string_lossy().parse::<u32>() else { continue };
        if let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat"))
            && let Some(stat) = Stat::parse(&stat)
        {
            all.insert(pid, stat);
        }
    }
    let stat = all.get(&root).with_context(|| format!("process {root} is gone"))?;
    let (mut members, mut ticks, mut next) = (vec![root], stat.ticks, 0);
    while let Some(&parent) = members.get(next) {
        next += 1;
        for (&pid, stat) in all.iter().filter(|(_, stat)| stat.parent == parent) {
            members.push(pid);
            ticks += stat.ticks;
        }
    }
    Ok((members, ticks))
}

/// The part of `/proc/<pid>/stat` that matters here.
#[derive(Debug, PartialEq)]
struct Stat {
    parent: u32,
    ticks: u64,
}

impl Stat {
    fn parse(line: &str) -> Option<Self> {
        // The command's name stands in parentheses and may hold anything, a parenthesis too.
        let fields: Vec<&str> = line.rsplit_once(')')?.1.split_whitespace().collect();
        let times = fields.get(11..15)?.iter().map(|time| time.parse::<u64>().ok());
        Some(Self { parent: fields.get(1)?.parse().ok()?, ticks: times.sum::<Option<u64>>()? })
    }
}

/// Resident memory of one process in bytes.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("process {pid} is gone"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    Ok(kib.with_context(|| format!("process {pid} shows no VmRSS"))? * 1024)
}

/// Memory of `root` and of everything below it in bytes: a page that several processes share counts
/// once.
pub fn tree_pss_bytes(root: u32) -> Result<u64> {
    let mut kib = 0;
    for member in tree(root)?.0 {
        // A process that ended meanwhile has no memory.
        let rollup = std::fs::read_to_string(format!("/proc/{member}/smaps_rollup"));
        let rollup = rollup.unwrap_or_default();
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
        kib += line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0);
    }
    Ok(kib * 1024)
}

/// Resident memory of the largest process whose command line holds this word, and of all below it.
pub fn container_resident_bytes(word: &str) -> Result<u64> {
    let mut largest = 0;
    for entry in std::fs::read_dir("/proc")? {
        let Ok(pid) = entry?.file_name().to_string_lossy().parse::<u32>() else { continue };
        let Ok(line) = std::fs::read(format!("/proc/{pid}/cmdline")) else { continue };
        // A shell that holds the whole line in one argument is not the process.
        let is_it = |argument: &[u8]| {
            let end = argument.rsplit(|byte| *byte == b'.').next().unwrap_or(argument);
            end == word.as_bytes()
        };
        if line.split(|byte| *byte == 0).any(is_it) {
            let mut bytes = 0;
            for member in tree(pid)?.0 {
                bytes += resident_bytes(member).unwrap_or(0);
            }
            largest = largest.max(bytes);
        }
    }
    match largest {
        0 => bail!("no process is a {word}"),
        bytes => Ok(bytes),
    }
}

/// CPU time of this process, all threads.
#[must_use]
pub fn own_cpu() -> Duration {
    usage(libc::RUSAGE_SELF)
}

/// CPU time of all children that were waited for, and of theirs.
#[must_use]
pub fn children_cpu() -> Duration {
    usage(libc::RUSAGE_CHILDREN)
}

fn usage(who: libc::c_int) -> Duration {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the kernel fills the struct that the pointer leads to; all-zero is valid besides.
    let usage = unsafe {
        libc::getrusage(who, usage.as_mut_ptr());
        usage.assume_init()
    };
    let time = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}

/// The monotonic clock, which all processes share.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel fills the struct that the pointer leads to.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn ticks_per_second() -> u64 {
    // SAFETY: sysconf reads a constant.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).unwrap_or(100).max(1)
}

/// Runs a command to its end; its output is only of interest when it failed.
pub fn check(mut command: Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} ended with {}: {}", output.status, said.trim());
    }
    Ok(())
}

/// A process that this program started, and all below it.
pub fn tree_of(root: u32) -> Result<Vec<u32>> {
    Ok(tree(root)?.0)
}

/// Kills a process that this program started, or one below it, with no time to do anything.
pub fn kill(pid: u32) {
    // SAFETY: a signal to a process by its id.
    unsafe { libc::kill(pid as libc::pid_t, libc::SIGKILL) };
}

/// Asks a process to end, and kills it when it has not after five seconds.
pub fn end(pid: u32) {
    for (signal, patience_ms) in [(libc::SIGTERM, 5_000), (libc::SIGKILL, 5_000)] {
        // SAFETY: a signal to a process that this program started, by its id.
        unsafe { libc::kill(pid as libc::pid_t, signal) };
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(patience_ms) {
            if !is_alive(pid) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Whether a process exists and is no zombie.
#[must_use]
pub fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" Z")))
}

/// A process in the foreground that dies with this program, however that ends.
pub struct Daemon {
    child: Child,
}

impl Daemon {
    /// Starts `command` with its output going to `log`.
    pub fn start(mut command: Command, log: &Path) -> Result<Self> {
        let out = File::create(log)?;
        command.stdin(Stdio::null()).stderr(out.try_clone()?).stdout(out);
        // SAFETY: prctl is async-signal-safe and touches nothing of the parent.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        Ok(Self { child })
    }

    /// The process; the scripts replace themselves with it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        end(self.pid());
        // It is dead or unkillable by now; waiting only clears the zombie.
        self.child.wait().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_behind_its_odd_name() {
        let line = "7 (a) b) S 3 7 7 0 -1 4194304 90 0 0 0 11 22 33 44 20 0 1 0 5 6 7";
        assert_eq!(Stat::parse(line), Some(Stat { parent: 3, ticks: 110 }));
        assert_eq!(Stat::parse("7 (short) S 3"), None);
    }

    #[test]
    fn a_dead_child_stays_in_the_tree() {
        let before = tree_cpu(std::process::id()).unwrap();
        let spin = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        assert!(Command::new("sh").args(["-c", spin]).status().unwrap().success());
        assert!(tree_cpu(std::process::id()).unwrap() > before);
        assert!(children_cpu() > Duration::ZERO);
    }

    #[test]
    fn a_dropped_daemon_is_dead() {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("sleep");
        command.arg("60");
        let daemon = Daemon::start(command, &directory.path().join("log")).unwrap();
        let pid = daemon.pid();
        assert!(is_alive(pid));
        drop(daemon);
        assert!(!is_alive(pid));
    }
}
