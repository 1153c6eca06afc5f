//! The ResourceManager, as TaskManagers and JobMasters see it.

use std::sync::Arc;

use futures::future::BoxFuture;
use millstream_types::{AllocationId, ByteSize, JobId, ResourceProfile, TaskManagerId, Timestamp};

use crate::{FailureCause, JobMasterGateway, Stopped, TaskManagerGateway};

/// A number of slots of one kind.
#[derive(Debug, Clone, PartialEq)]
pub struct SlotRequirement {
    /// The least that each slot must offer.
    pub profile: ResourceProfile,
    /// The number of slots.
    pub count: u32,
}

/// The description of a TaskManager that registers.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskManagerRegistration {
    /// The id.
    pub id: TaskManagerId,
    /// Host name or address, for people and REST.
    pub address: String,
    /// The fixed data port, 0 when hosts choose.
    pub data_port: u16,
    /// The number of slots.
    pub slots: u32,
    /// The resources of each slot.
    pub slot_profile: ResourceProfile,
    /// Memory of the TaskManager with its hosts.
    pub memory_process: ByteSize,
    /// Cores of the machine.
    pub cpu_cores: u32,
    /// Memory of the machine.
    pub physical_memory: ByteSize,
    /// The id of the process.
    pub pid: u32,
}

/// The numbers that a TaskManager reports with each heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TaskManagerHeartbeat {
    /// Resident memory of the TaskManager's own process.
    pub resident_memory: ByteSize,
    /// Resident memory of its hosts.
    pub hosts_memory: ByteSize,
    /// Free memory of the machine.
    pub free_memory: ByteSize,
    /// CPU time of the TaskManager and its hosts, ended ones included, in milliseconds.
    pub cpu_time_ms: u64,
}

/// A TaskManager as REST shows it.
#[derive(Debug, Clone)]
pub struct TaskManagerDetails {
    /// The description with which it registered.
    pub registration: TaskManagerRegistration,
    /// The time of its registration.
    pub registered_at: Timestamp,
    /// The time of its last heartbeat.
    pub last_heartbeat: Timestamp,
    /// The numbers of its last heartbeat.
    pub heartbeat: TaskManagerHeartbeat,
    /// The slots that belong to a job, by number, and the job.
    pub allocated: Vec<(u32, JobId)>,
    /// The gateway, from which its logs are read.
    pub gateway: Arc<dyn TaskManagerGateway>,
}

/// The reason why a TaskManager may not join; it should end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the ResourceManager refused the TaskManager: {0}")]
pub struct RegistrationRefused(pub String);

/// The ResourceManager.
pub trait ResourceManagerGateway: Send + Sync + std::fmt::Debug {
    /// Replaces the total of slots that the job needs; slots that it holds count. An empty set says
    /// that it needs no more slots, but those that it holds stay its own until released.
    fn declare(
        &self,
        owner: Arc<dyn JobMasterGateway>,
        requirements: Vec<SlotRequirement>,
    ) -> BoxFuture<'_, Result<(), Stopped>>;

    /// Gives slots back. Unknown allocations are ignored.
    fn release(&self, allocations: Vec<AllocationId>) -> BoxFuture<'_, Result<(), Stopped>>;

    /// Adds a TaskManager. A second registration under the same id replaces the first.
    fn register(
        &self,
        registration: TaskManagerRegistration,
        gateway: Arc<dyn TaskManagerGateway>,
    ) -> BoxFuture<'_, Result<(), RegistrationRefused>>;

    /// Notes a heartbeat of a TaskManager.
    fn heartbeat(
        &self,
        task_manager: TaskManagerId,
        heartbeat: TaskManagerHeartbeat,
    ) -> BoxFuture<'_, Result<(), Stopped>>;

    /// Removes a TaskManager whose connection broke, or that was silent for too long. `gateway`
    /// tells it from an earlier one of the same id.
    fn lost(
        &self,
        gateway: Arc<dyn TaskManagerGateway>,
        cause: FailureCause,
    ) -> BoxFuture<'_, Result<(), Stopped>>;

    /// Returns all TaskManagers, by id.
    fn task_managers(&self) -> BoxFuture<'_, Result<Vec<TaskManagerDetails>, Stopped>>;
}
