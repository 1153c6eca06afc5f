//! TaskManagers.
//!
//! Flink's fields name the pools of a JVM. The memory of the TaskManager itself is shown as the
//! framework's, that of its task hosts as the tasks' heap; other pools do not exist and are 0.

use std::collections::BTreeMap;

use millstream_gateway::{JobDetails, TaskManagerDetails};
use millstream_rest_types::task_managers::{
    HardwareDescription, ResourceProfileInfo, SlotInfo, TaskExecutorMemoryConfiguration,
    TaskManagerDetailsInfo, TaskManagerInfo, TaskManagerMetricsInfo,
};
use millstream_types::{ByteSize, JobId, TaskManagerId};

/// The tasks on a TaskManager, as its jobs report them.
#[derive(Debug, Default)]
pub(in crate::rest) struct Tasks {
    by_slot: BTreeMap<(JobId, u32), u32>,
    /// The ports on which its task hosts receive records.
    data_ports: Vec<u16>,
}

impl Tasks {
    /// Adds the tasks of this job.
    pub(in crate::rest) fn add(&mut self, job: &JobDetails, worker: &TaskManagerId) {
        for subtask in job.vertices.iter().flat_map(|vertex| &vertex.subtasks) {
            let Some(location) = subtask.location.as_ref() else { continue };
            if location.task_manager != *worker || subtask.state.is_terminal() {
                continue;
            }
            self.data_ports.extend(location.data_port);
            if let Some(slot) = subtask.slot {
                *self.by_slot.entry((job.job, slot)).or_insert(0) += 1;
            }
        }
    }

    fn all(&self) -> u32 {
        self.by_slot.values().sum()
    }
}

/// An entry of `/taskmanagers`.
pub(in crate::rest) fn row(worker: &TaskManagerDetails, tasks: &Tasks) -> TaskManagerInfo {
    let registration = &worker.registration;
    let used = u32::try_from(worker.allocated.len()).unwrap_or(u32::MAX);
    let free = registration.slots.saturating_sub(used);
    let process = registration.memory_process;
    let task_heap = registration.slot_profile.memory.saturating_mul(registration.slots.into());
    let framework = process.saturating_sub(task_heap);
    // Without a fixed port every task host has its own; one of them stands for all.
    let fixed = Some(registration.data_port).filter(|port| *port != 0);
    let data_port = fixed.or_else(|| tasks.data_ports.iter().min().copied()).unwrap_or(0);
    TaskManagerInfo {
        id: registration.id.clone(),
        path: format!("{}/{}", registration.address, registration.pid),
        data_port,
        jmx_port: -1,
        time_since_last_heartbeat: worker.last_heartbeat.as_millis(),
        slots_number: registration.slots,
        free_slots: free,
        total_resource: resource(worker, registration.slots),
        free_resource: resource(worker, free),
        assigned_tasks: tasks.all(),
        blocked: false,
        hardware: HardwareDescription {
            cpu_cores: registration.cpu_cores,
            physical_memory: registration.physical_memory.as_bytes(),
            free_memory: process.as_bytes(),
            managed_memory: 0,
        },
        memory_configuration: TaskExecutorMemoryConfiguration {
            framework_heap: framework.as_bytes(),
            task_heap: task_heap.as_bytes(),
            total_flink_memory: process.as_bytes(),
            total_process_memory: process.as_bytes(),
            ..TaskExecutorMemoryConfiguration::default()
        },
    }
}

/// The resources of this number of slots; memory in MB.
fn resource(worker: &TaskManagerDetails, slots: u32) -> ResourceProfileInfo {
    let profile = worker.registration.slot_profile;
    ResourceProfileInfo {
        cpu_cores: profile.cpu_cores * f64::from(slots),
        task_heap_memory: profile.memory.saturating_mul(slots.into()).as_mib(),
        task_off_heap_memory: 0,
        managed_memory: 0,
        network_memory: 0,
        extended_resources: BTreeMap::new(),
    }
}

/// `/taskmanagers/:taskmanagerid`.
pub(in crate::rest) fn details(
    worker: &TaskManagerDetails,
    tasks: &Tasks,
) -> TaskManagerDetailsInfo {
    let slot = |(index, job): &(u32, JobId)| SlotInfo {
        job_id: *job,
        resource: resource(worker, 1),
        assigned_tasks: tasks.by_slot.get(&(*job, *index)).copied().unwrap_or(0),
    };
    let used = resident(worker).as_bytes();
    TaskManagerDetailsInfo {
        info: row(worker, tasks),
        allocated_slots: worker.allocated.iter().map(slot).collect(),
        metrics: TaskManagerMetricsInfo {
            heap_used: used,
            heap_committed: used,
            heap_max: worker.registration.memory_process.as_bytes(),
            non_heap_max: -1,
            ..TaskManagerMetricsInfo::default()
        },
    }
}

/// Resident memory of the TaskManager and its hosts.
fn resident(worker: &TaskManagerDetails) -> ByteSize {
    let (own, hosts) = (worker.heartbeat.resident_memory, worker.heartbeat.hosts_memory);
    ByteSize::from_bytes(own.as_bytes().saturating_add(hosts.as_bytes()))
}

/// The metrics of a TaskManager, by name.
#[expect(clippy::cast_precision_loss, reason = "a number on a dashboard")]
pub(in crate::rest) fn metrics(worker: &TaskManagerDetails) -> Vec<(String, f64)> {
    let used = resident(worker).as_bytes();
    [
        ("Status.JVM.Memory.Heap.Used", used),
        ("Status.JVM.Memory.Heap.Committed", used),
        ("Status.JVM.Memory.Heap.Max", worker.registration.memory_process.as_bytes()),
        ("Status.JVM.CPU.Time", worker.heartbeat.cpu_time_ms.saturating_mul(1_000_000)),
        ("Status.Process.ResidentMemory", worker.heartbeat.resident_memory.as_bytes()),
        ("Status.Hosts.ResidentMemory", worker.heartbeat.hosts_memory.as_bytes()),
        ("System.Memory.Available", worker.heartbeat.free_memory.as_bytes()),
        ("System.Memory.Total", worker.registration.physical_memory.as_bytes()),
    ]
    .map(|(name, value)| (name.to_owned(), value as f64))
    .to_vec()
}
