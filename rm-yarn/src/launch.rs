//! Composition of the launch contexts of workers: called by the driver, implemented by the
//! deployer.

use std::fmt;

use millstream_types::TaskManagerId;

use crate::proto::yarn::ContainerLaunchContextProto;

/// Composes the launch context of each worker.
pub trait WorkerLaunch: Send + Sync + fmt::Debug {
    /// The files, environment and command of this worker's container, on the node with this host
    /// name.
    ///
    /// # Errors
    /// In one sentence, why this worker cannot be started; another one may be.
    fn context(
        &self,
        worker: &TaskManagerId,
        host: &str,
    ) -> Result<ContainerLaunchContextProto, String>;
}
