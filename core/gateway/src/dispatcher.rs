//! The Dispatcher, and the factory from which it gets JobMasters.

use std::sync::Arc;

use futures::future::BoxFuture;
use millstream_graph::JobGraph;
use millstream_types::{ArtifactHash, JobId, TriggerId};

use crate::{CheckpointRequest, JobDetails, JobMasterGateway, JobOverview};

/// A job to run: its plan and the executable that rebuilds it.
#[derive(Debug, Clone)]
pub struct JobSubmission {
    /// The id of the job; chosen by the client or the Dispatcher.
    pub job: JobId,
    /// The plan.
    pub graph: Arc<JobGraph>,
    /// The executable; it is in the artifact store already.
    pub artifact: ArtifactHash,
    /// Its size in bytes.
    pub artifact_size: u64,
}

/// The reason why the Dispatcher refused a job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitJobError {
    /// The id belongs to a job that exists; retrying cannot help.
    #[error("job {job} exists already")]
    Duplicate {
        /// The job.
        job: JobId,
    },
    /// The artifact is not in the store; upload it first.
    #[error("artifact {artifact} is not in the store: upload it, then submit again")]
    UnknownArtifact {
        /// The artifact.
        artifact: ArtifactHash,
    },
    /// The Dispatcher is shutting down; another leader may take the job.
    #[error("the cluster is shutting down")]
    ShuttingDown,
}

/// The id belongs to no job, neither a running one nor one that ended lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("job {0} not found")]
pub struct UnknownJob(pub JobId);

/// The Dispatcher.
pub trait DispatcherGateway: Send + Sync + std::fmt::Debug {
    /// Takes a job and starts its JobMaster.
    fn submit(&self, submission: JobSubmission) -> BoxFuture<'_, Result<JobId, SubmitJobError>>;

    /// Asks a job to end; answers once the request is on its way. Ended jobs are left as they are.
    fn cancel(&self, job: JobId) -> BoxFuture<'_, Result<(), UnknownJob>>;

    /// Asks a job for a checkpoint, and answers once the request is on its way. What becomes of it
    /// stands in [`JobDetails::requests`]; a job that has ended drops it.
    fn request(
        &self,
        job: JobId,
        trigger: TriggerId,
        request: CheckpointRequest,
    ) -> BoxFuture<'_, Result<(), UnknownJob>>;

    /// Returns one job as it is now.
    fn job(&self, job: JobId) -> BoxFuture<'_, Result<Arc<JobDetails>, UnknownJob>>;

    /// Returns all jobs, newest first, with the ended ones that are still remembered.
    fn jobs(&self) -> BoxFuture<'_, Vec<JobOverview>>;
}

/// Starts JobMasters for the Dispatcher.
pub trait JobMasterFactory: Send + Sync + std::fmt::Debug {
    /// Starts the job at once; its details say how it fares.
    fn start(&self, submission: JobSubmission) -> Arc<dyn JobMasterGateway>;
}
