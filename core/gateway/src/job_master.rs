//! The master of one job and the TaskManagers that run it. Each holds the gateway of the other, so
//! both traits stand here.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use millstream_protocol::host::FromHost;
use millstream_types::{
    AllocationId, ArtifactHash, HostId, JobId, ResourceProfile, SlotId, TaskManagerId, TriggerId,
};
use tokio::sync::watch;

use crate::{
    CheckpointRequest, FailureCause, FileChunk, FileError, FileInfo, HostCommand, JobDetails,
    StartHost, Stopped, TaskManagerGone,
};

/// A slot that now belongs to one job.
#[derive(Debug, Clone)]
pub struct AllocatedSlot {
    /// This grant.
    pub allocation: AllocationId,
    /// The slot.
    pub slot: SlotId,
    /// The resources of the slot.
    pub profile: ResourceProfile,
    /// The address of its TaskManager, for people.
    pub address: String,
    /// Its TaskManager.
    pub gateway: Arc<dyn TaskManagerGateway>,
}

/// The end of a host's process. No other event of this host follows; its children are gone too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostExit {
    /// The host.
    pub host: HostId,
    /// The cause in one sentence, also for an end that was requested.
    pub cause: FailureCause,
    /// The last lines that it wrote to standard error, at most 8 KiB.
    pub stderr_tail: String,
}

/// Says whether the reason of a TaskManager's loss is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Explanation {
    /// The cause is final.
    Complete,
    /// The external manager knows more: [`JobMasterEvent::TaskManagerEnded`] follows.
    Follows,
    /// The ResourceManager has not decided yet whether more follows.
    Unknown,
}

/// An event for a JobMaster.
#[derive(Debug, Clone)]
pub enum JobMasterEvent {
    /// Slots that the job had declared now belong to it.
    SlotsGranted(Vec<AllocatedSlot>),
    /// The declared slots exceed the cluster's own and those that it can get; the sentence says by
    /// how much.
    NotEnoughSlots(String),
    /// The cluster can now, or will soon, serve the declaration.
    EnoughSlots,
    /// A TaskManager is lost with all its slots and hosts.
    TaskManagerLost {
        /// The TaskManager.
        task_manager: TaskManagerId,
        /// The cause in one sentence.
        cause: FailureCause,
        /// Says whether [`Self::TaskManagerEnded`] follows.
        explanation: Explanation,
    },
    /// The external manager's reason for the end of a TaskManager that is lost already.
    TaskManagerEnded {
        /// The TaskManager.
        task_manager: TaskManagerId,
        /// The cause in one sentence.
        reason: String,
    },
    /// A task host or the coordinator host sent a message.
    HostMessage {
        /// The host.
        host: HostId,
        /// The message.
        message: Box<FromHost>,
    },
    /// A task host or the coordinator host ended.
    HostExited(HostExit),
    /// A user cancelled the job.
    Cancel,
    /// A user asks for a checkpoint; [`JobDetails::requests`] says what becomes of it.
    Request {
        /// Names the request; one that repeats a known one changes nothing.
        trigger: TriggerId,
        /// The request.
        request: CheckpointRequest,
    },
}

/// The master of one job.
pub trait JobMasterGateway: Send + Sync + std::fmt::Debug {
    /// Returns the id of the job.
    fn job(&self) -> JobId;

    /// Hands over an event, waiting for room in the mailbox. Cancel-safe: the event is then lost.
    ///
    /// # Errors
    /// The job has ended.
    fn post(&self, event: JobMasterEvent) -> BoxFuture<'_, Result<(), Stopped>>;

    /// Returns the latest snapshot of the job: refreshed at every change of state and, for metrics,
    /// at most ten times a second. The last value stays readable after the end.
    fn details(&self) -> watch::Receiver<Arc<JobDetails>>;
}

/// One registered TaskManager. Commands are queued; outcomes reach the host's owner as events.
pub trait TaskManagerGateway: Send + Sync + std::fmt::Debug {
    /// Returns the id of the TaskManager.
    fn id(&self) -> &TaskManagerId;

    /// Starts a host; its messages and its end are posted to `owner`.
    ///
    /// # Errors
    /// The connection is broken or closed; the owner hears of the lost TaskManager too.
    fn start_host(
        &self,
        owner: Arc<dyn JobMasterGateway>,
        start: StartHost,
    ) -> Result<(), TaskManagerGone>;

    /// Sends a message to a host; it is dropped if the host has ended.
    ///
    /// # Errors
    /// The connection is broken or closed.
    fn command(&self, command: HostCommand) -> Result<(), TaskManagerGone>;

    /// Stops a host and all processes that it started; `HostExited` follows. After `grace` the host
    /// is killed.
    ///
    /// # Errors
    /// The connection is broken or closed.
    fn stop_host(&self, host: HostId, grace: Duration) -> Result<(), TaskManagerGone>;

    /// Allows the TaskManager to delete its copy of an artifact that no job uses any more.
    ///
    /// # Errors
    /// The connection is broken or closed.
    fn release_artifact(&self, artifact: ArtifactHash) -> Result<(), TaskManagerGone>;

    /// Ends the connection to a TaskManager that the cluster has given up. The TaskManager kills
    /// its hosts, is refused when it connects again, and ends. Hosts of the master's own process
    /// are stopped by their jobs.
    fn dismiss(&self) {}

    /// Lists the files of the TaskManager's log directory. Cancel-safe.
    fn list_files(&self) -> BoxFuture<'static, Result<Vec<FileInfo>, FileError>>;

    /// Reads a part of one of those files, at most 1 MiB. Cancel-safe.
    fn read_file(
        &self,
        name: String,
        offset: u64,
        length: u32,
    ) -> BoxFuture<'static, Result<FileChunk, FileError>>;
}
