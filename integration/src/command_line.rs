//! Running `millstream` and other commands as a user would.

use std::io::Write as _;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use millstream_soak::scale;

/// Time limits for any command, in CI and in the long run.
const DEADLINES: (Duration, Duration) = (Duration::from_secs(90), Duration::from_secs(600));

/// The end of a command.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The exit code; none after a signal.
    pub code: Option<i32>,
    /// All of standard output.
    pub stdout: String,
    /// All of standard error.
    pub stderr: String,
}

/// A command that runs.
#[derive(Debug)]
pub struct Started {
    name: String,
    pid: u32,
    end: JoinHandle<std::io::Result<Output>>,
}

impl Started {
    /// Starts a command.
    ///
    /// # Panics
    /// It cannot be started.
    #[must_use]
    pub fn new(command: Command) -> Self {
        Self::told(command, "")
    }

    /// Starts a command that reads this text and then the end of its input.
    ///
    /// # Panics
    /// It cannot be started.
    #[must_use]
    pub fn told(mut command: Command, text: &str) -> Self {
        let name = format!("{command:?}");
        let input = if text.is_empty() { Stdio::null() } else { Stdio::piped() };
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        dies_with_us(&mut command);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        if let Some(mut input) = child.stdin.take() {
            // A command that does not read it has its reason, which its outcome tells.
            let _ = input.write_all(text.as_bytes());
        }
        let pid = child.id();
        let end = std::thread::spawn(move || child.wait_with_output());
        Self { name, pid, end }
    }

    /// Presses Ctrl-C.
    pub fn interrupt(&self) {
        kill(self.pid, libc::SIGINT);
    }

    /// Asks it to end.
    pub fn terminate(&self) {
        kill(self.pid, libc::SIGTERM);
    }

    /// Kills it with signal 9.
    pub fn kill(&self) {
        kill(self.pid, libc::SIGKILL);
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// It does not end.
    #[must_use]
    pub fn finish(self) -> Outcome {
        let (start, deadline) = (Instant::now(), scale(DEADLINES.0, DEADLINES.1));
        while !self.end.is_finished() && start.elapsed() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        if !self.end.is_finished() {
            kill(self.pid, libc::SIGKILL);
            panic!("{} did not end within {deadline:?}", self.name);
        }
        let output = self.end.join().unwrap().unwrap();
        Outcome {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Outcome {
    /// Runs a command to its end.
    ///
    /// # Panics
    /// It cannot be started or does not end.
    #[must_use]
    pub fn of(command: Command) -> Self {
        Started::new(command).finish()
    }

    /// Itself, if it was a success.
    ///
    /// # Panics
    /// It was none.
    #[must_use = "only to be asked for its success, it is dropped with `let _`"]
    pub fn success(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self
    }

    /// The complaint of a command that failed as it should: a line on standard error, and the last
    /// words of a process under it.
    ///
    /// # Panics
    /// It did not fail with exit code 1.
    #[must_use]
    pub fn complaint(&self) -> &str {
        assert_eq!(self.code, Some(1), "{self:#?}");
        let start = match self.stderr.starts_with("error: ") {
            true => Some(0),
            false => self.stderr.find("\nerror: ").map(|before| before + 1),
        };
        start.map_or(self.stderr.as_str(), |start| &self.stderr[start..]).trim_end()
    }

    /// The id of the job that `run` has submitted.
    ///
    /// # Panics
    /// It submitted none.
    #[must_use]
    pub fn job_id(&self) -> String {
        let id = self.stdout.split_once("JobID ").map(|(_, rest)| rest.split_whitespace().next());
        id.flatten().unwrap_or_else(|| panic!("no job in {self:#?}")).to_owned()
    }
}

/// Has the kernel kill the process when the thread that starts it ends.
pub(crate) fn dies_with_us(command: &mut Command) {
    // SAFETY: prctl is async-signal-safe and touches nothing of this process.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
}

/// Sends a signal to one process.
pub(crate) fn kill(pid: u32, signal: i32) {
    let pid = libc::pid_t::try_from(pid).unwrap();
    // SAFETY: takes no pointers. The process may be gone already.
    unsafe { libc::kill(pid, signal) };
}
