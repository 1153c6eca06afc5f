//! The identity of a process: its id, its start time, and the boot of the machine.
//!
//! A process id alone may name another process by now, and the command line in `/proc` changes when
//! a process calls `exec`. The start time is fixed from the fork to the end.

use std::fs;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

/// Interval of polling for the end of a process.
pub(super) const NAP: Duration = Duration::from_millis(5);
/// Time limit for the kernel to end a process that was killed.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// One process, never confused with a later one of the same id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) pid: u32,
    /// In the kernel's ticks since the boot.
    start: u64,
    boot: String,
}

impl Identity {
    /// The living process with this id.
    pub(super) fn of(pid: u32) -> Option<Self> {
        match life(pid) {
            Life::Lives { start } => Some(Self { pid, start, boot: boot() }),
            Life::Gone | Life::Unknown => None,
        }
    }

    /// Reads what `Display` wrote.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let mut value = |key: &str| words.next()?.strip_prefix(key)?.strip_prefix('=');
        let pid = value("pid")?.parse().ok()?;
        let start = value("start")?.parse().ok()?;
        let boot = value("boot")?.to_owned();
        Some(Self { pid, start, boot })
    }

    /// Whether it has not ended; a zombie has. True if that cannot be found out.
    pub(super) fn lives(&self) -> bool {
        self.boot == boot()
            && match life(self.pid) {
                Life::Lives { start } => start == self.start,
                Life::Gone => false,
                Life::Unknown => true,
            }
    }

    /// Sends a signal, if it lives.
    pub(super) fn signal(&self, signal: i32) {
        if self.lives() {
            send(self.pid, signal);
        }
    }

    /// Kills it with its process group: the hosts of its jobs must not outlive it.
    fn kill(&self) {
        if let (true, Ok(pid)) = (self.lives(), i32::try_from(self.pid)) {
            // SAFETY: takes no pointers. A daemon leads a group of its own; if it does not, there
            // is no group of this number.
            unsafe { libc::kill(-pid, libc::SIGKILL) };
            send(self.pid, libc::SIGKILL);
        }
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "pid={} start={} boot={}", self.pid, self.start, self.boot)
    }
}

/// Waits until a process that was told to end has, and kills it after `patience`. False if it lives
/// even then.
pub(super) async fn ended(process: &Identity, patience: Duration, on_kill: impl FnOnce()) -> bool {
    if gone_within(process, patience).await {
        return true;
    }
    on_kill();
    process.kill();
    gone_within(process, KILL_PATIENCE).await
}

async fn gone_within(process: &Identity, patience: Duration) -> bool {
    let start = Instant::now();
    loop {
        if !process.lives() {
            return true;
        }
        if start.elapsed() > patience {
            return false;
        }
        tokio::time::sleep(NAP).await;
    }
}

/// Whether the process runs the engine; for pids that nothing else is known of.
pub(super) fn runs_engine(pid: u32) -> bool {
    let executable = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    let name = executable.file_name().unwrap_or_default().to_string_lossy().into_owned();
    name.trim_end_matches(" (deleted)") == "millstream"
}

enum Life {
    Lives { start: u64 },
    Gone,
    Unknown,
}

fn life(pid: u32) -> Life {
    let text = match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(text) => text,
        // The file, or the process behind an open file, is gone.
        Err(error) if error.kind() == ErrorKind::NotFound => return Life::Gone,
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Life::Gone,
        Err(_) => return Life::Unknown,
    };
    // The command's name stands in parentheses and may hold anything.
    let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields);
    let mut fields = fields.split_whitespace();
    match (fields.next(), fields.nth(18).and_then(|start| start.parse().ok())) {
        (Some("Z" | "X" | "x"), _) => Life::Gone,
        (Some(_), Some(start)) => Life::Lives { start },
        _ => Life::Unknown,
    }
}

fn boot() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let text = text.trim();
    if text.is_empty() { "unknown".to_owned() } else { text.to_owned() }
}

fn send(pid: u32, signal: i32) {
    if let Ok(pid) = i32::try_from(pid) {
        // SAFETY: takes no pointers. The process may be gone already.
        unsafe { libc::kill(pid, signal) };
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_is_known_by_its_start() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let identity = Identity::of(child.id()).unwrap();
        assert!(identity.lives());
        let later = Identity { start: identity.start + 1, ..identity.clone() };
        let rebooted = Identity { boot: "other".to_owned(), ..identity.clone() };
        assert!(!later.lives() && !rebooted.lives());
        assert_eq!(Identity::parse(&identity.to_string()), Some(identity.clone()));
        // A signal to one that has the number but is another process is not sent.
        later.signal(libc::SIGKILL);
        assert!(identity.lives());
        identity.signal(libc::SIGKILL);
        while identity.lives() {
            std::thread::sleep(NAP);
        }
        // It is a zombie now, which has ended too.
        assert_eq!(Identity::of(child.id()), None);
        child.wait().unwrap();
    }

    #[tokio::test]
    async fn a_process_that_ignores_a_signal_is_killed() {
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' TERM; echo; read line"]);
        let piped = std::process::Stdio::piped;
        let mut child = command.stdin(piped()).stdout(piped()).spawn().unwrap();
        let mut line = [0];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
        let identity = Identity::of(child.id()).unwrap();
        identity.signal(libc::SIGTERM);
        let mut killed = false;
        assert!(ended(&identity, Duration::from_millis(50), || killed = true).await);
        assert!(killed);
        child.wait().unwrap();
    }

    #[test]
    fn records_that_are_cut_off_name_nobody() {
        for text in
            ["", "12", "pid=12", "pid=12 start=3", "pid=x start=3 boot=b", "start=3 pid=1 boot=b"]
        {
            assert_eq!(Identity::parse(text), None, "{text}");
        }
    }
}
