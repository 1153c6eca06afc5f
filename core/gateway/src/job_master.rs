//! The master of one job and the TaskManagers that run it. Each holds the gateway of the other, so
//! both traits stand here.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use millstream_protocol::host::FromHost;
use millstream_types::{
    AllocationId, ArtifactHash, HostId, JobId, ResourceProfile, SlotId, TaskManagerId,
};
use tokio::sync::watch;

use crate::{
    FailureCause, FileChunk, FileError, FileInfo, HostCommand, JobDetails, StartHost, Stopped,
    TaskManagerGone,
};

/// A slot that now belongs to one job.
#[derive(Debug, Clone)]
pub struct AllocatedSlot {
    /// This grant.
    pub allocation: AllocationId,
    /// The slot.
    pub slot: SlotId,
    /// What it offers.
    pub profile: ResourceProfile,
    /// Its worker's address, for people.
    pub address: String,
    /// Its worker.
    pub gateway: Arc<dyn TaskManagerGateway>,
}

/// How a host's process ended. The last word about it: its children are gone too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostExit {
    /// The host.
    pub host: HostId,
    /// The cause in one sentence; for an asked-for end too.
    pub cause: FailureCause,
    /// The last lines that it wrote to standard error, at most 8 KiB.
    pub stderr_tail: String,
}

/// Whether the reason of a worker's loss is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Explanation {
    /// The cause says all that will ever be said.
    Complete,
    /// The external manager knows more: [`JobMasterEvent::TaskManagerEnded`] follows.
    Follows,
    /// The ResourceManager has not said yet whether more follows.
    Unknown,
}

/// What a JobMaster hears.
#[derive(Debug, Clone)]
pub enum JobMasterEvent {
    /// Slots that were declared and are now this job's.
    SlotsGranted(Vec<AllocatedSlot>),
    /// The declared slots exceed what the cluster has and can get; the sentence says by how much.
    NotEnoughSlots(String),
    /// The cluster can now, or will soon, serve what is declared.
    EnoughSlots,
    /// A worker is gone with all its slots and hosts.
    TaskManagerLost {
        /// The worker.
        task_manager: TaskManagerId,
        /// Why, in one sentence.
        cause: FailureCause,
        /// Whether more will be said about it.
        explanation: Explanation,
    },
    /// What the external manager says about the end of a worker that is lost already.
    TaskManagerEnded {
        /// The worker.
        task_manager: TaskManagerId,
        /// Why, in one sentence.
        reason: String,
    },
    /// A task host or the coordinator host said something.
    HostMessage {
        /// The host.
        host: HostId,
        /// What it said.
        message: FromHost,
    },
    /// A task host or the coordinator host ended.
    HostExited(HostExit),
    /// A user asked for the job's end.
    Cancel,
}

/// The master of one job.
pub trait JobMasterGateway: Send + Sync + std::fmt::Debug {
    /// The job.
    fn job(&self) -> JobId;

    /// Hands over an event, waiting for room in the mailbox. Cancel-safe: the event is then lost.
    ///
    /// # Errors
    /// The job has ended.
    fn post(&self, event: JobMasterEvent) -> BoxFuture<'_, Result<(), Stopped>>;

    /// What the job looks like; refreshed at every change of state and, for metrics, at most ten
    /// times a second. The last value stays readable after the end.
    fn details(&self) -> watch::Receiver<Arc<JobDetails>>;
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
