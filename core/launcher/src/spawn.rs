//! Builds the command of one host: environment, descriptors, limits.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use millstream_protocol::{HOST_SOCKET_VARIABLE, HOST_START_VARIABLE};
use millstream_types::{CauseKind, FailureCause};
use rustix::fs::{Mode, OFlags};
use rustix::io::FdFlags;
use rustix::process::{Pid, Resource, Rlimit, Signal};

use crate::output::OutputPipes;
use crate::spec::{ALLOCATOR_RESERVE, HOST_MARK_VARIABLE};
use crate::{HostEnvironment, HostOutput, HostSpec};

/// The reason why a host was not started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The system refused to start the executable.
    #[error("failed to start {path}: {reason}", path = path.display())]
    Execute {
        /// The executable.
        path: PathBuf,
        /// The system's error, in words for the user.
        reason: String,
    },
    /// A log file or the temporary directory could not be made.
    #[error("failed to open {path} for a host: {error}", path = path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// This process has no descriptor, thread or memory to spare.
    #[error("failed to prepare the start of a host: {0}")]
    Prepare(io::Error),
}

impl From<&SpawnError> for FailureCause {
    fn from(error: &SpawnError) -> Self {
        Self::new(CauseKind::Start, error.to_string())
    }
}

pub(crate) fn execute_error(path: &Path, error: &io::Error) -> SpawnError {
    let reason = match error.raw_os_error() {
        Some(libc::ENOENT) => "it or its program loader does not exist".to_owned(),
        Some(libc::ENOEXEC) => "it is not an executable for this machine".to_owned(),
        Some(libc::EACCES) => "it may not be executed here (permissions, noexec)".to_owned(),
        _ => error.to_string(),
    };
    SpawnError::Execute { path: path.to_owned(), reason }
}

/// The kernel's preference for killing hosts when memory is short.
const OOM_SCORE_ADDED: i32 = 500;

/// A command, and our ends of the child's descriptors; its own live as long as the command.
pub(crate) struct Prepared {
    pub(crate) command: Command,
    /// Our end of the socket.
    pub(crate) socket: UnixStream,
    /// The pipes to read the child's output from, if it is relayed.
    pub(crate) output: Option<OutputPipes>,
}

/// Builds the command of a host.
pub(crate) fn command(spec: &HostSpec) -> Result<Prepared, SpawnError> {
    let (ours, theirs) = UnixStream::pair().map_err(SpawnError::Prepare)?;
    let theirs = OwnedFd::from(theirs);
    let mut command = Command::new(&spec.executable);
    command.args(&spec.args).stdin(Stdio::null());
    if spec.environment == HostEnvironment::Clean {
        command.env_clear().envs(HostSpec::kept_variables()).envs(millstream_mutants::variable());
    }
    if let Some(dir) = &spec.temp_dir {
        command.env("TMPDIR", dir);
    }
    command
        .env(ALLOCATOR_RESERVE.0, ALLOCATOR_RESERVE.1)
        .envs(spec.variables.iter().map(|(name, value)| (name, value)))
        .env(HOST_SOCKET_VARIABLE, theirs.as_raw_fd().to_string())
        .env(HOST_START_VARIABLE, spec.start_timeout.as_millis().to_string())
        .env(HOST_MARK_VARIABLE, spec.host.to_string());
    let mut output = None;
    match &spec.output {
        HostOutput::Files { stdout, stderr } => {
            command.stdout(append(stdout)?).stderr(append(stderr)?);
        }
        HostOutput::Relayed | HostOutput::Tail => {
            let (stdout, to_stdout) = std::io::pipe().map_err(SpawnError::Prepare)?;
            let (stderr, to_stderr) = std::io::pipe().map_err(SpawnError::Prepare)?;
            command.stdout(to_stdout).stderr(to_stderr);
            output = Some(OutputPipes { stdout, stderr });
        }
        HostOutput::Inherited => {}
    }
    confine(&mut command, theirs, spec.data_limit());
    Ok(Prepared { command, socket: ours, output })
}

fn append(path: &Path) -> Result<File, SpawnError> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.map_err(|error| SpawnError::File { path: path.to_owned(), error })
}

/// Settings that the child applies to itself between fork and exec.
fn confine(command: &mut Command, socket: OwnedFd, data_limit: Option<u64>) {
    let parent = Pid::from_raw(i32::try_from(std::process::id()).unwrap_or(0));
    let oom_score = raised_oom_score();
    let child = move || {
        close_others_at_exec();
        rustix::io::fcntl_setfd(&socket, FdFlags::empty())?;
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        if rustix::process::getppid() != parent {
            // The parent died before the signal was set; no process would ever end this one.
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        limit(Resource::Core, 0);
        if let Some(bytes) = data_limit {
            limit(Resource::Data, bytes);
        }
        raise_oom_score(oom_score.as_bytes());
        Ok(())
    };
    // SAFETY: between fork and exec of a process with threads only async-signal-safe calls are
    // allowed: the closure makes system calls alone and neither allocates, locks nor panics.
    unsafe {
        command.pre_exec(child);
    }
}

fn limit(resource: Resource, bytes: u64) {
    let old = rustix::process::getrlimit(resource);
    let bytes = old.maximum.map_or(bytes, |maximum| maximum.min(bytes));
    let limit = Rlimit { current: Some(bytes), maximum: Some(bytes) };
    // A host without this limit still has the watchdog's.
    let _ = rustix::process::setrlimit(resource, limit);
}

/// Descriptors that were handed to this process without close-on-exec stay out of hosts.
fn close_others_at_exec() {
    const FIRST: libc::c_uint = 3;
    const LAST_WITHOUT_RANGES: libc::c_int = 4096;
    // SAFETY: a system call on numbers; it changes flags of descriptors and no memory.
    let done = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            FIRST,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC as libc::c_uint,
        )
    };
    if done != 0 {
        for descriptor in 3..LAST_WITHOUT_RANGES {
            // SAFETY: as above; numbers that are no descriptors are refused by the kernel.
            unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
}

fn raised_oom_score() -> String {
    let own = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
    let own: i32 = own.trim().parse().unwrap_or(0);
    (own + OOM_SCORE_ADDED).min(1000).to_string()
}

fn raise_oom_score(score: &[u8]) {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    // Without it the kernel chooses by size, which is not wrong either.
    if let Ok(file) = rustix::fs::open(c"/proc/self/oom_score_adj", flags, Mode::empty()) {
        let _ = rustix::io::write(file, score);
    }
}
