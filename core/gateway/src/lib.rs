//! The traits and messages by which components call each other; no implementation.
//!
//! A component holds `Arc<dyn …Gateway>` of the others and never knows whether it calls an actor of
//! its own process or a stream to another one. A call that only informs is a *post*: it waits for
//! room in the receiver's bounded mailbox and no longer. A call to a TaskManager never waits: it is
//! queued on the TaskManager's connection, and a full queue counts as a lost connection.

mod checkpoint_request;
mod details;
mod dispatcher;
mod job_manager;
mod job_master;
mod resource_manager;
mod task_manager;
#[cfg(feature = "test-util")]
pub mod testing;

pub use checkpoint_request::{CheckpointRequest, RequestDetails, RequestState};
pub use details::{
    ExceptionEntry, JobDetails, JobOverview, Rates, SubtaskDetails, Subtasks, TaskLocation,
    TaskMetrics, VertexDetails,
};
pub use dispatcher::{
    DispatcherGateway, JobMasterFactory, JobSubmission, SubmitJobError, UnknownJob,
};
pub use job_manager::{
    ArtifactLocator, ConnectError, ConnectionLost, FetchError, JobManagerConnection,
    JobManagerConnector, JobManagerSender,
};
pub use job_master::{
    AllocatedSlot, Explanation, HostExit, JobMasterEvent, JobMasterGateway, TaskManagerGateway,
};
pub use millstream_types::{CauseKind, FailureCause};
pub use resource_manager::{
    RegistrationRefused, ResourceManagerGateway, SlotRequirement, TaskManagerDetails,
    TaskManagerHeartbeat, TaskManagerRegistration,
};
pub use task_manager::{
    FileChunk, FileError, FileInfo, HostCommand, StartHost, TaskManagerGone, WORKER_LOG,
    WORKER_STDOUT,
};

/// The receiver has stopped and will take no more messages; retrying cannot help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the component has stopped")]
pub struct Stopped;
