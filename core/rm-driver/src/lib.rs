//! The contracts of a driver for an external manager: YARN, Mesos, or a fixed standalone set.
//!
//! - [`ResourceManagerDriver`]: obtains the workers of a cluster;
//! - [`ClusterDeployer`]: brings a cluster up for a command, finds it and ends it;
//! - [`EpochSource`]: gives each master a number above its predecessors';
//! - [`ClusterStore`]: holds the driver's entries that outlive its process.
//!
//! Each has a conformance suite. A driver is one crate that fulfils those of them that its external
//! manager has a use for. `tests/stub.rs` fulfils them all against a manager in memory, and
//! `docs/CONTRIBUTING.md` says where the rest of a driver goes.
//!
//! # Workers
//!
//! The ResourceManager decides how many workers of which kind must exist and tells its
//! [`ResourceManagerDriver`]; the driver talks to the external manager and reports outcomes as
//! [`DriverEvent`]s. Retries, registration timeouts and the pause after failed starts belong to the
//! ResourceManager, so that every driver has them alike.
//!
//! # Contract (checked by `conformance`, feature `test-util`)
//! - no call blocks; outcomes arrive as events;
//! - [`DriverEvent::Recovered`] is the first event, with an empty list too; it comes again only
//!   when more workers of an earlier attempt are found;
//! - a request is answered at most once, by `Allocated` or `RequestFailed`;
//! - `Allocated` comes before the worker can register;
//! - every worker that was allocated or recovered and not released is reported when it ends;
//! - after `release` no event that the driver had not posted before names that worker.

use std::fmt;
use std::time::Duration;

use futures::future::BoxFuture;
use millstream_types::{ByteSize, ResourceProfile, TaskManagerId};
use tokio::sync::mpsc;

pub use deployer::{
    ArtifactFile, ClusterDeployer, ClusterEnd, ClusterId, ClusterReport, DeployError, Deployment,
    Executable, ManagerWords, Progress, Purpose, Running,
};
pub use epoch::{EpochError, EpochSource, KnownEpoch};
pub use store::{ClusterStore, Entries, MemoryStore, StoreError, StoreKey, StoreKind};

#[cfg(feature = "test-util")]
pub mod conformance;
mod deployer;
mod epoch;
mod store;
#[cfg(feature = "test-util")]
pub mod testing;

/// Limit on events that wait for the ResourceManager; a driver waits when there are more.
const EVENTS_MAX: usize = 1024;

/// Names one request for a worker; never used twice by one driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(u64);

impl RequestId {
    /// The id of this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "request-{}", self.0)
    }
}

/// A kind of worker.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WorkerRequest {
    /// The number of slots.
    pub slots: u32,
    /// Resources of each slot.
    pub slot_profile: ResourceProfile,
    /// Memory of the whole worker: its own and that of all slots.
    pub memory_process: ByteSize,
}

/// An event of a driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DriverEvent {
    /// The workers that an earlier attempt of this cluster left and that may still register.
    Recovered(Vec<TaskManagerId>),
    /// A request got a worker; it is starting and will register under this name.
    Allocated {
        /// The request, answered by this.
        request: RequestId,
        /// The worker.
        worker: TaskManagerId,
    },
    /// A request will not be answered with a worker; another one may be.
    RequestFailed {
        /// The request, answered by this.
        request: RequestId,
        /// Why, in one sentence.
        reason: String,
    },
    /// Requests have been open for a while. It may come again with another reason, and is out of
    /// date with the next answer to a request.
    Waiting {
        /// The resource that the external manager lacks, in one sentence.
        reason: String,
    },
    /// A worker ended, or could not be started.
    Terminated {
        /// The worker.
        worker: TaskManagerId,
        /// Why, in one sentence.
        reason: String,
    },
    /// A worker will be taken away, or may be: nothing new should run there.
    Draining {
        /// The worker.
        worker: TaskManagerId,
        /// Why, in one sentence.
        reason: String,
        /// Time that the worker has left, if known.
        time_left: Option<Duration>,
    },
    /// The driver cannot go on; the process should end and let its successor try.
    Fatal {
        /// Why, in one sentence.
        reason: String,
    },
}

/// Where a driver posts its events.
#[derive(Debug, Clone)]
pub struct DriverEvents(mpsc::Sender<DriverEvent>);

impl DriverEvents {
    /// Posts an event, waiting for room. An event for a ResourceManager that is gone is dropped.
    /// Cancel-safe: the event is then not posted.
    pub async fn post(&self, event: DriverEvent) {
        let _ = self.0.send(event).await;
    }

    /// Posts an event if there is room at once, and says whether there was. The first
    /// event of a driver always finds room.
    #[must_use]
    pub fn try_post(&self, event: DriverEvent) -> bool {
        self.0.try_send(event).is_ok()
    }
}

/// Where the ResourceManager reads a driver's events.
#[derive(Debug)]
pub struct DriverEventReceiver(mpsc::Receiver<DriverEvent>);

impl DriverEventReceiver {
    /// The next event; none once the driver is gone. Cancel-safe.
    pub async fn next(&mut self) -> Option<DriverEvent> {
        self.0.recv().await
    }
}

/// The two ends of one driver's events.
#[must_use]
pub fn driver_events() -> (DriverEvents, DriverEventReceiver) {
    let (sender, receiver) = mpsc::channel(EVENTS_MAX);
    (DriverEvents(sender), DriverEventReceiver(receiver))
}

/// The end of the cluster, for the external manager's books.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterStatus {
    /// As intended: its jobs finished, or a user stopped it.
    Succeeded,
    /// A job, or the cluster itself, failed.
    Failed,
    /// A user cancelled the one job of the cluster.
    Cancelled,
}

/// Obtains workers from one external manager (YARN, Mesos, or a fixed standalone set).
///
/// A driver never decides *how many* workers exist; the SlotManager does. Calls return at once,
/// outcomes arrive as [`DriverEvent`]s, and after `release` no event names that worker again.
/// Dropping a driver withdraws its requests; workers go on.
pub trait ResourceManagerDriver: Send + fmt::Debug {
    /// The kind of worker that requests can get; none when workers come by themselves and no
    /// request is ever fulfilled. It never changes.
    fn obtainable(&self) -> Option<WorkerRequest>;

    /// Asks for one more worker.
    fn request(&mut self, worker: WorkerRequest) -> RequestId;

    /// Takes a request back. A worker that was allocated meanwhile is still reported, and is to be
    /// released then. One that is unknown or answered is ignored.
    fn withdraw(&mut self, request: RequestId);

    /// Ends a worker and gives its resources back. One that is unknown is ignored.
    fn release(&mut self, worker: &TaskManagerId);

    /// Gives everything back and tells the external manager that the cluster has ended, and how;
    /// nothing may be requested after it. Done when the manager knows, or cannot be told: then
    /// with a warning in the log.
    fn deregister(&mut self, status: ClusterStatus, diagnostics: String) -> BoxFuture<'static, ()>;
}
