//! A worker's way to the master, and the master's artifacts as others see them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use millstream_protocol::cluster::{from_task_manager, to_task_manager};
use millstream_types::{ArtifactHash, LeaderEpoch};

use crate::TaskManagerRegistration;

/// Why a worker is not connected to the master.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answered, or not in time; retrying can help.
    #[error("the JobManager at {address} cannot be reached: {reason}")]
    Unreachable {
        /// Where it should be.
        address: String,
        /// What went wrong.
        reason: String,
    },
    /// The master does not want this worker; retrying cannot help.
    #[error("the JobManager refused this TaskManager: {0}")]
    Refused(String),
}

/// The connection to the master is gone or has misbehaved; a new one can be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the connection to the JobManager is lost: {0}")]
pub struct ConnectionLost(pub String);

/// The bytes of an artifact did not come; a new attempt may get them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FetchError(pub String);

/// Connects a worker to its master.
pub trait JobManagerConnector: Send + Sync + std::fmt::Debug {
    /// Connects and registers, with a deadline. Cancel-safe: an unfinished registration is undone.
    fn connect(
        &self,
        registration: TaskManagerRegistration,
    ) -> BoxFuture<'_, Result<JobManagerConnection, ConnectError>>;
}

/// A registered worker's connection; it closes when both halves are dropped.
pub struct JobManagerConnection {
    /// The leader that accepted the worker.
    pub epoch: LeaderEpoch,
    /// How often each side shows that it lives.
    pub heartbeat_interval: Duration,
    /// After how much silence the other side counts as lost.
    pub heartbeat_timeout: Duration,
    /// What the master says; ends with the connection. Fenced: nothing of another leader comes.
    pub incoming: BoxStream<'static, Result<to_task_manager::Message, ConnectionLost>>,
    /// To answer.
    pub outgoing: Arc<dyn JobManagerSender>,
}

impl std::fmt::Debug for JobManagerConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JobManagerConnection").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

/// The sending half of a worker's connection.
pub trait JobManagerSender: Send + Sync + std::fmt::Debug {
    /// Queues a message, waiting for room. Cancel-safe: the message is then lost.
    ///
    /// # Errors
    /// The connection is gone.
    fn send(
        &self,
        message: from_task_manager::Message,
    ) -> BoxFuture<'_, Result<(), ConnectionLost>>;

    /// The bytes of an artifact, in order, in chunks of at most 1 MiB. The receiver checks their
    /// hash.
    fn fetch_artifact(
        &self,
        artifact: ArtifactHash,
    ) -> BoxStream<'static, Result<Vec<u8>, FetchError>>;
}

/// Finds artifacts in the master's store.
pub trait ArtifactLocator: Send + Sync + std::fmt::Debug {
    /// The local file of an artifact, if the store has it. The file stays while a job uses it.
    fn locate(&self, artifact: ArtifactHash) -> BoxFuture<'_, Option<PathBuf>>;
}
