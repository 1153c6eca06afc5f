//! TaskManagers.
//!
//! Flink's fields name the pools of a JVM. The memory of the TaskManager itself stands as the
//! framework's, that of its task hosts as the tasks' heap; other pools do not exist and are 0.

use millstream_types::{JobId, TaskManagerId};
use serde::{Deserialize, Serialize};

use crate::{EmptyList, EmptyObject};

/// `GET /taskmanagers`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskManagersInfo {
    /// The registered TaskManagers.
    pub taskmanagers: Vec<TaskManagerInfo>,
}

/// One TaskManager of [`TaskManagersInfo`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskManagerInfo {
    /// The id.
    pub id: TaskManagerId,
    /// The address and the process.
    pub path: String,
    /// The port of its data exchange; that of one task host if each has its own, 0 if none is
    /// known.
    pub data_port: u16,
    /// The port of JMX; always -1.
    pub jmx_port: i32,
    /// The time of the last heartbeat.
    pub time_since_last_heartbeat: i64,
    /// All slots.
    pub slots_number: u32,
    /// Slots that belong to no job.
    pub free_slots: u32,
    /// The resources of all slots.
    pub total_resource: ResourceProfileInfo,
    /// The resources of free slots.
    pub free_resource: ResourceProfileInfo,
    /// Tasks that run on it.
    pub assigned_tasks: u32,
    /// It gets no tasks; never the case here.
    pub blocked: bool,
    /// The machine.
    pub hardware: HardwareDescription,
    /// The pools of memory.
    pub memory_configuration: TaskExecutorMemoryConfiguration,
}

/// `GET /taskmanagers/:taskmanagerid`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskManagerDetailsInfo {
    /// The fields of the list's entry.
    #[serde(flatten)]
    pub info: TaskManagerInfo,
    /// Slots that belong to a job.
    pub allocated_slots: Vec<SlotInfo>,
    /// Memory in use.
    pub metrics: TaskManagerMetricsInfo,
}

/// A slot that belongs to a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlotInfo {
    /// The job.
    pub job_id: JobId,
    /// The resources of the slot.
    pub resource: ResourceProfileInfo,
    /// Tasks that run in it.
    pub assigned_tasks: u32,
}

/// Resources of slots; memory in MB.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceProfileInfo {
    /// Cores, or parts of them.
    pub cpu_cores: f64,
    /// Memory of tasks.
    pub task_heap_memory: u64,
    /// Always 0.
    pub task_off_heap_memory: u64,
    /// Always 0.
    pub managed_memory: u64,
    /// Always 0.
    pub network_memory: u64,
    /// Other resources.
    pub extended_resources: EmptyObject,
}

/// The machine of a TaskManager; memory in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HardwareDescription {
    /// Cores.
    pub cpu_cores: u32,
    /// Memory of the machine.
    pub physical_memory: u64,
    /// Memory of the TaskManager with its task hosts.
    pub free_memory: u64,
    /// Always 0.
    pub managed_memory: u64,
}

/// The pools of memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskExecutorMemoryConfiguration {
    /// The TaskManager itself.
    pub framework_heap: u64,
    /// Its task hosts.
    pub task_heap: u64,
    /// Always 0.
    pub framework_off_heap: u64,
    /// Always 0.
    pub task_off_heap: u64,
    /// Always 0.
    pub network_memory: u64,
    /// Always 0.
    pub managed_memory: u64,
    /// Always 0.
    pub jvm_metaspace: u64,
    /// Always 0.
    pub jvm_overhead: u64,
    /// The TaskManager with its task hosts.
    pub total_flink_memory: u64,
    /// The same.
    pub total_process_memory: u64,
}

/// Memory in use, in bytes. Pools that do not exist are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskManagerMetricsInfo {
    /// Resident memory of the TaskManager and its task hosts.
    pub heap_used: u64,
    /// The same.
    pub heap_committed: u64,
    /// The most that it may be.
    pub heap_max: u64,
    /// Always 0.
    pub non_heap_used: u64,
    /// Always 0.
    pub non_heap_committed: u64,
    /// Always -1: there is no limit.
    pub non_heap_max: i64,
    /// Always 0.
    pub direct_count: u64,
    /// Always 0.
    pub direct_used: u64,
    /// Always 0.
    pub direct_max: u64,
    /// Always 0.
    pub mapped_count: u64,
    /// Always 0.
    pub mapped_used: u64,
    /// Always 0.
    pub mapped_max: u64,
    /// Always 0.
    pub memory_segments_available: u64,
    /// Always 0.
    pub memory_segments_total: u64,
    /// Always 0.
    pub netty_shuffle_memory_segments_available: u64,
    /// Always 0.
    pub netty_shuffle_memory_segments_used: u64,
    /// Always 0.
    pub netty_shuffle_memory_segments_total: u64,
    /// Always 0.
    pub netty_shuffle_memory_available: u64,
    /// Always 0.
    pub netty_shuffle_memory_used: u64,
    /// Always 0.
    pub netty_shuffle_memory_total: u64,
    /// The collectors of a JVM.
    pub garbage_collectors: EmptyList,
}
