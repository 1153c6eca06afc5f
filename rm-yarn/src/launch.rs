//! What a worker's container runs: the driver starts it, whoever deployed the cluster composes it.

use std::fmt;

use millstream_types::TaskManagerId;

use crate::proto::yarn::ContainerLaunchContextProto;

/// Composes the launch context of each worker.
pub trait WorkerLaunch: Send + Sync + fmt::Debug {
    /// What the container of this worker, on the node of this host name, gets and runs.
    ///
    /// # Errors
    /// In one sentence, why this worker cannot be started; another one may be.
    fn context(
        &self,
        worker: &TaskManagerId,
        host: &str,
    ) -> Result<ContainerLaunchContextProto, String>;
}
