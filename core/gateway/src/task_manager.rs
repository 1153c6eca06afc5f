//! What the master asks of one worker.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use millstream_protocol::host::{Begin, ToHost};
use millstream_types::{ArtifactHash, HostId, TaskManagerId, Timestamp};

use crate::JobMasterGateway;

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

/// What [`TaskManagerGateway::read_file`] calls the worker's own log, whatever its file is called.
pub const WORKER_LOG: &str = ".log";

/// What [`TaskManagerGateway::read_file`] calls the file of the worker's standard output.
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

/// One registered worker. Commands are queued; outcomes reach the host's owner as events.
pub trait TaskManagerGateway: Send + Sync + std::fmt::Debug {
    /// The worker's name.
    fn id(&self) -> &TaskManagerId;

    /// Starts a host; everything that it says, and its end, is posted to `owner`.
    ///
    /// # Errors
    /// The connection is gone; the owner hears of the lost worker too.
    fn start_host(
        &self,
        owner: Arc<dyn JobMasterGateway>,
        start: StartHost,
    ) -> Result<(), TaskManagerGone>;

    /// Sends a host a message; one to a host that has ended is dropped.
    ///
    /// # Errors
    /// The connection is gone.
    fn command(&self, command: HostCommand) -> Result<(), TaskManagerGone>;

    /// Ends a host and everything that it started; `HostExited` follows. After `grace` it is
    /// killed.
    ///
    /// # Errors
    /// The connection is gone.
    fn stop_host(&self, host: HostId, grace: Duration) -> Result<(), TaskManagerGone>;

    /// No job uses the artifact any more; the worker may delete its copy.
    ///
    /// # Errors
    /// The connection is gone.
    fn release_artifact(&self, artifact: ArtifactHash) -> Result<(), TaskManagerGone>;

    /// Ends the connection to a worker that the cluster has given up. It kills its hosts, finds
    /// that it may not come back, and ends. Hosts of the master's own process are stopped by their
    /// jobs.
    fn dismiss(&self) {}

    /// The files of the worker's log directory. Cancel-safe.
    fn list_files(&self) -> BoxFuture<'static, Result<Vec<FileInfo>, FileError>>;

    /// A part of one of those files, at most 1 MiB. Cancel-safe.
    fn read_file(
        &self,
        name: String,
        offset: u64,
        length: u32,
    ) -> BoxFuture<'static, Result<FileChunk, FileError>>;
}
