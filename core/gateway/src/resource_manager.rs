//! What workers and JobMasters ask of the ResourceManager.

use std::sync::Arc;

use futures::future::BoxFuture;
use millstream_types::{AllocationId, ByteSize, JobId, ResourceProfile, TaskManagerId, Timestamp};

use crate::{FailureCause, JobMasterGateway, Stopped, TaskManagerGateway};

/// So many slots of one kind.
#[derive(Debug, Clone, PartialEq)]
pub struct SlotRequirement {
    /// What each must offer at least.
    pub profile: ResourceProfile,
    /// How many.
    pub count: u32,
}

/// What a worker says of itself when it registers.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskManagerRegistration {
    /// Its name.
    pub id: TaskManagerId,
    /// Host name or address, for people and REST.
    pub address: String,
    /// The fixed data port, 0 when hosts choose.
    pub data_port: u16,
    /// The number of slots.
    pub slots: u32,
    /// What each slot offers.
    pub slot_profile: ResourceProfile,
    /// Memory of the whole worker.
    pub memory_process: ByteSize,
    /// Cores of the machine.
    pub cpu_cores: u32,
    /// Memory of the machine.
    pub physical_memory: ByteSize,
    /// The process.
    pub pid: u32,
}

/// What a worker reports regularly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TaskManagerHeartbeat {
    /// Resident memory of the worker's own process.
    pub resident_memory: ByteSize,
    /// Resident memory of its hosts.
    pub hosts_memory: ByteSize,
    /// Free memory of the machine.
    pub free_memory: ByteSize,
    /// CPU time of worker and hosts, dead ones included, in milliseconds.
    pub cpu_time_ms: u64,
}

/// A worker as REST shows it.
#[derive(Debug, Clone)]
pub struct TaskManagerDetails {
    /// What it registered as.
    pub registration: TaskManagerRegistration,
    /// When it registered.
    pub registered_at: Timestamp,
    /// When it was last heard of.
    pub last_heartbeat: Timestamp,
    /// What it last reported.
    pub heartbeat: TaskManagerHeartbeat,
    /// Which slots belong to which job.
    pub allocated: Vec<(u32, JobId)>,
    /// To read its logs.
    pub gateway: Arc<dyn TaskManagerGateway>,
}

/// Why a worker may not join; it should end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the ResourceManager refused the TaskManager: {0}")]
pub struct RegistrationRefused(pub String);

/// The ResourceManager.
pub trait ResourceManagerGateway: Send + Sync + std::fmt::Debug {
    /// Replaces what the job needs in all; what is granted already counts. An empty set says that
    /// it needs nothing more, but slots that it holds stay its own until released.
    fn declare(
        &self,
        owner: Arc<dyn JobMasterGateway>,
        requirements: Vec<SlotRequirement>,
    ) -> BoxFuture<'_, Result<(), Stopped>>;

    /// Gives slots back. Unknown allocations are ignored.
    fn release(&self, allocations: Vec<AllocationId>) -> BoxFuture<'_, Result<(), Stopped>>;

    /// A worker joins. One that registers again under its old name replaces its old self.
    fn register(
        &self,
        registration: TaskManagerRegistration,
        gateway: Arc<dyn TaskManagerGateway>,
    ) -> BoxFuture<'_, Result<(), RegistrationRefused>>;

    /// A worker was heard of.
    fn heartbeat(
        &self,
        task_manager: TaskManagerId,
        heartbeat: TaskManagerHeartbeat,
    ) -> BoxFuture<'_, Result<(), Stopped>>;

    /// A worker's connection broke, or it was silent for too long. `gateway` says which of two
    /// that had one name.
    fn lost(
        &self,
        gateway: Arc<dyn TaskManagerGateway>,
        cause: FailureCause,
    ) -> BoxFuture<'_, Result<(), Stopped>>;

    /// All workers, by name.
    fn task_managers(&self) -> BoxFuture<'_, Result<Vec<TaskManagerDetails>, Stopped>>;
}
