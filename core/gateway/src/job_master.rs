//! What reaches the master of one job.

use std::sync::Arc;

use futures::future::BoxFuture;
use millstream_protocol::host::FromHost;
use millstream_types::{HostId, JobId, TaskManagerId};
use tokio::sync::watch;

use crate::{AllocatedSlot, FailureCause, JobDetails, Stopped};

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
