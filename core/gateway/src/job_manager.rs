//! The connection of a TaskManager to the master, and the master's artifacts as others see them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use millstream_protocol::cluster::{from_task_manager, to_task_manager};
use millstream_types::{ArtifactHash, LeaderEpoch};

use crate::TaskManagerRegistration;

/// The reason why a TaskManager is not connected to the master.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The address did not answer in time; retrying can help.
    #[error("the JobManager at {address} cannot be reached: {reason}")]
    Unreachable {
        /// The address of the JobManager.
        address: String,
        /// The failure in words.
        reason: String,
    },
    /// The master refused this TaskManager; retrying cannot help.
    #[error("the JobManager refused this TaskManager: {0}")]
    Refused(String),
}

/// The connection to the master is broken, or the master broke the protocol; connect again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the connection to the JobManager is lost: {0}")]
pub struct ConnectionLost(pub String);

/// The bytes of an artifact did not arrive; a new attempt may succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FetchError(pub String);

/// Connects a TaskManager to its master.
pub trait JobManagerConnector: Send + Sync + std::fmt::Debug {
    /// Connects and registers, with a deadline. Cancel-safe: an unfinished registration is undone.
    fn connect(
        &self,
        registration: TaskManagerRegistration,
    ) -> BoxFuture<'_, Result<JobManagerConnection, ConnectError>>;
}

/// The connection of a registered TaskManager; it closes when both halves are dropped.
pub struct JobManagerConnection {
    /// The epoch of the leader that accepted the TaskManager.
    pub epoch: LeaderEpoch,
    /// Interval of the heartbeats of each side.
    pub heartbeat_interval: Duration,
    /// Silence after which the other side counts as lost.
    pub heartbeat_timeout: Duration,
    /// Messages of the master; the stream ends with the connection. Fenced: messages of another
    /// leader are dropped.
    pub incoming: BoxStream<'static, Result<to_task_manager::Message, ConnectionLost>>,
    /// Sends messages to the master.
    pub outgoing: Arc<dyn JobManagerSender>,
}

impl std::fmt::Debug for JobManagerConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JobManagerConnection").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

/// The sending half of a TaskManager's connection.
pub trait JobManagerSender: Send + Sync + std::fmt::Debug {
    /// Queues a message, waiting for room. Cancel-safe: the message is then lost.
    ///
    /// # Errors
    /// The connection is broken or closed.
    fn send(
        &self,
        message: from_task_manager::Message,
    ) -> BoxFuture<'_, Result<(), ConnectionLost>>;

    /// Returns the bytes of an artifact, in order, in chunks of at most 1 MiB. The receiver checks
    /// their hash.
    fn fetch_artifact(
        &self,
        artifact: ArtifactHash,
    ) -> BoxStream<'static, Result<Vec<u8>, FetchError>>;
}

/// Finds artifacts in the master's store.
pub trait ArtifactLocator: Send + Sync + std::fmt::Debug {
    /// Returns the local file of an artifact, if the store has it. The file stays while a job uses
    /// it.
    fn locate(&self, artifact: ArtifactHash) -> BoxFuture<'_, Option<PathBuf>>;
}
