//! Messages to a TaskManager, and the reasons for which they fail.

use millstream_protocol::host::{Begin, ToHost};
use millstream_types::{ArtifactHash, HostId, TaskManagerId, Timestamp};

/// The worker's connection is gone or does not drain; its loss is reported to everyone concerned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("TaskManager {0} cannot be reached")]
pub struct TaskManagerGone(pub TaskManagerId);

/// Starts one task host.
#[derive(Debug, Clone)]
pub struct StartHost {
    /// Its name; a host is never started twice.
    pub host: HostId,
    /// The executable.
    pub artifact: ArtifactHash,
    /// Its size in bytes.
    pub artifact_size: u64,
    /// The slots that it fills; its memory limit is their sum.
    pub slots: Vec<u32>,
    /// What it is told first. The worker fills in directories and addresses.
    pub begin: Begin,
}

/// A message for one host.
#[derive(Debug, Clone)]
pub struct HostCommand {
    /// The host.
    pub host: HostId,
    /// The message.
    pub message: ToHost,
}

/// A file of a worker's log directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileInfo {
    /// Its name, without a directory.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// When it was last written.
    pub modified: Timestamp,
}

/// What [`read_file`](crate::TaskManagerGateway::read_file) calls the worker's own log, whatever its file is called.
pub const WORKER_LOG: &str = ".log";

/// What [`read_file`](crate::TaskManagerGateway::read_file) calls the file of the worker's standard output.
pub const WORKER_STDOUT: &str = ".out";

/// A part of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChunk {
    /// The bytes from the offset that was asked for.
    pub data: Vec<u8>,
    /// Whether the file ends here.
    pub last: bool,
}

/// Why a worker's file could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// There is no such file, or the name is not a plain file name.
    #[error("there is no file {0:?} in the log directory")]
    NotFound(String),
    /// The worker cannot be reached.
    #[error(transparent)]
    Gone(#[from] TaskManagerGone),
    /// The worker could not read it.
    #[error("failed to read {name:?}: {reason}")]
    Unreadable {
        /// The file.
        name: String,
        /// What the worker's system said.
        reason: String,
    },
}
