//! What clients ask of the Dispatcher, and what it asks of whoever makes JobMasters.

use std::sync::Arc;

use futures::future::BoxFuture;
use millstream_graph::JobGraph;
use millstream_types::{ArtifactHash, JobId};

use crate::{JobDetails, JobMasterGateway, JobOverview};

/// A job to run: its plan and the executable that rebuilds it.
#[derive(Debug, Clone)]
pub struct JobSubmission {
    /// Its id; chosen by the client or the Dispatcher.
    pub job: JobId,
    /// The plan.
    pub graph: Arc<JobGraph>,
    /// The executable; in the artifact store already.
    pub artifact: ArtifactHash,
    /// Its size in bytes.
    pub artifact_size: u64,
}

/// Why the Dispatcher refused a job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitJobError {
    /// A job of this id exists; retrying cannot help.
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
    /// The Dispatcher is going down; another leader may take the job.
    #[error("the cluster is shutting down")]
    ShuttingDown,
}

/// There is no job of this id, neither running nor among those that ended lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("job {0} not found")]
pub struct UnknownJob(pub JobId);

/// The Dispatcher.
pub trait DispatcherGateway: Send + Sync + std::fmt::Debug {
    /// Takes a job and starts its JobMaster.
    fn submit(&self, submission: JobSubmission) -> BoxFuture<'_, Result<JobId, SubmitJobError>>;

    /// Asks a job to end; answers once the request is on its way. Ended jobs are left as they are.
    fn cancel(&self, job: JobId) -> BoxFuture<'_, Result<(), UnknownJob>>;

    /// One job as it is now.
    fn job(&self, job: JobId) -> BoxFuture<'_, Result<Arc<JobDetails>, UnknownJob>>;

    /// All jobs, newest first, the ended ones included that are still remembered.
    fn jobs(&self) -> BoxFuture<'_, Vec<JobOverview>>;
}

/// Starts JobMasters; the Dispatcher's only way to one.
pub trait JobMasterFactory: Send + Sync + std::fmt::Debug {
    /// Starts the job at once; what becomes of it is in its details.
    fn start(&self, submission: JobSubmission) -> Arc<dyn JobMasterGateway>;
}
