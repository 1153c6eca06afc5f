//! The program to start, and its limits.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use millstream_types::{ByteSize, HostId};

/// The environment variable that marks a host's process and everything that it starts.
pub(crate) const HOST_MARK_VARIABLE: &str = "MILLSTREAM_HOST_ID";

/// The variable by which mimalloc, the allocator of users' programs, learns how much memory to
/// reserve at a time. Its own value of 1 GiB counts in full towards `RLIMIT_DATA`: where it just
/// fits, next to nothing is left for the stacks of threads.
pub(crate) const ALLOCATOR_RESERVE: (&str, &str) = ("MIMALLOC_ARENA_RESERVE", "128MiB");

/// The variables of the parent that a clean environment keeps.
const KEPT_VARIABLES: [&str; 12] = [
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "TZ",
    "RUST_BACKTRACE",
    "LD_LIBRARY_PATH",
    // The place and user of HDFS; never the file of tokens, which hold more rights than a job's.
    "HADOOP_CONF_DIR",
    "YARN_CONF_DIR",
    "HADOOP_HOME",
    "HADOOP_USER_NAME",
];

/// The part of the parent's environment that the process inherits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostEnvironment {
    /// Only `PATH`, `HOME`, `USER`, `LANG`, `LC_ALL`, `TZ`, `RUST_BACKTRACE`, `LD_LIBRARY_PATH`,
    /// and what leads to HDFS: `HADOOP_CONF_DIR`, `YARN_CONF_DIR`, `HADOOP_HOME` and
    /// `HADOOP_USER_NAME`.
    Clean,
    /// All of it: the user's own shell, for the client role.
    Inherited,
}

/// The destination of standard output and standard error.
#[derive(Debug, Clone)]
pub enum HostOutput {
    /// Appended to these files; they may be one and the same. The tail of standard error becomes
    /// part of the exit's cause.
    Files {
        /// Standard output.
        stdout: PathBuf,
        /// Standard error.
        stderr: PathBuf,
    },
    /// The parent's own.
    Inherited,
    /// The parent's own, from the hello on. Earlier output waits in pipes, which hold 64 KiB: a
    /// program that is none of ours cannot flood a terminal. The tail of standard error becomes
    /// part of the exit's cause.
    Relayed,
    /// Nowhere, so that nothing fills a disk; the tail of standard error becomes part of the exit's
    /// cause.
    Tail,
}

/// One process to start.
#[derive(Debug, Clone)]
pub struct HostSpec {
    /// Its name, unique among all hosts of this machine.
    pub host: HostId,
    /// The executable.
    pub executable: PathBuf,
    /// Its arguments; artifacts take none, they learn everything from `Begin`.
    pub args: Vec<OsString>,
    /// The part of the environment that it inherits.
    pub environment: HostEnvironment,
    /// Variables that it gets beside.
    pub variables: Vec<(OsString, OsString)>,
    /// Created for it, its `TMPDIR`, removed with all contents when it has ended.
    pub temp_dir: Option<PathBuf>,
    /// The destination of its output.
    pub output: HostOutput,
    /// Resident memory, of all its children too, above which it is killed.
    pub memory_limit: Option<ByteSize>,
    /// The time that it may take to say hello.
    pub start_timeout: Duration,
    /// The time that it may leave a message unread.
    pub drain_timeout: Duration,
}

impl HostSpec {
    /// A host with a clean environment, inherited output, no memory limit and usual deadlines.
    #[must_use]
    pub fn new(host: HostId, executable: impl Into<PathBuf>) -> Self {
        Self {
            host,
            executable: executable.into(),
            args: Vec::new(),
            environment: HostEnvironment::Clean,
            variables: Vec::new(),
            temp_dir: None,
            output: HostOutput::Inherited,
            memory_limit: None,
            start_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(30),
        }
    }

    /// `RLIMIT_DATA`: the backstop for growth that is faster than the watchdog. It counts reserved
    /// memory (thread stacks, allocator arenas), not touched memory, so it is twice the limit and
    /// 256 MiB: a slot of 10 MB has a few threads, of whose stacks of 2 MiB each touches little.
    pub(crate) fn data_limit(&self) -> Option<u64> {
        let limit = self.memory_limit?.as_bytes();
        Some(limit.saturating_mul(2).saturating_add(256 << 20))
    }

    /// The variables that the process inherits when its environment is clean.
    pub(crate) fn kept_variables() -> impl Iterator<Item = (&'static OsStr, OsString)> {
        KEPT_VARIABLES
            .into_iter()
            .filter_map(|name| std::env::var_os(name).map(|value| (OsStr::new(name), value)))
    }
}
