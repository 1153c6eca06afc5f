//! Messages to a TaskManager, and the reasons for which they fail.

use millstream_protocol::host::{Begin, ToHost};
use millstream_types::{ArtifactHash, HostId, TaskManagerId, Timestamp};

/// The TaskManager's connection is broken, or its queue is full; every JobMaster with slots there
/// hears of the loss.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("TaskManager {0} cannot be reached")]
pub struct TaskManagerGone(pub TaskManagerId);

/// Starts one task host.
#[derive(Debug, Clone)]
pub struct StartHost {
    /// The id of the host; an id is used once.
    pub host: HostId,
    /// The executable.
    pub artifact: ArtifactHash,
    /// Its size in bytes.
    pub artifact_size: u64,
    /// The slots that the host fills; their memory is its limit.
    pub slots: Vec<u32>,
    /// The first message to the host. The TaskManager fills in directories and addresses.
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

/// A file of a TaskManager's log directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileInfo {
    /// Its name, without a directory.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// The time of the last write.
    pub modified: Timestamp,
}

/// The name of the TaskManager's own log in
/// [`read_file`](crate::TaskManagerGateway::read_file), independent of the file's name.
pub const WORKER_LOG: &str = ".log";

/// The name of the TaskManager's standard output in
/// [`read_file`](crate::TaskManagerGateway::read_file).
pub const WORKER_STDOUT: &str = ".out";

/// A part of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChunk {
    /// The bytes from the offset that was asked for.
    pub data: Vec<u8>,
    /// True if the file ends here.
    pub last: bool,
}

/// The reason why a TaskManager's file could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// The file does not exist, or the name is not a plain file name.
    #[error("there is no file {0:?} in the log directory")]
    NotFound(String),
    /// The TaskManager cannot be reached.
    #[error(transparent)]
    Gone(#[from] TaskManagerGone),
    /// The TaskManager failed to read the file.
    #[error("failed to read {name:?}: {reason}")]
    Unreadable {
        /// The file.
        name: String,
        /// The error of the TaskManager's system.
        reason: String,
    },
}
