//! TaskManagers.
//!
//! Flink's fields name the pools of a JVM. Ours has the memory of the worker itself, shown as the
//! framework's, and that of its task hosts, shown as the tasks' heap; the other pools do not exist
//! and are zero.

use std::collections::BTreeMap;

use millstream_gateway::{JobDetails, TaskManagerDetails};
use millstream_types::{ByteSize, JobId, TaskManagerId};
use serde_json::{Map, Value, json};

/// What runs on a worker, as the jobs say.
#[derive(Debug, Default)]
pub(in crate::rest) struct Tasks {
    by_slot: BTreeMap<(JobId, u32), u32>,
    /// Where its task hosts listen for the records of others.
    data_ports: Vec<u16>,
}

impl Tasks {
    /// Adds what this job runs there.
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
pub(in crate::rest) fn row(worker: &TaskManagerDetails, tasks: &Tasks) -> Value {
    let registration = &worker.registration;
    let used = u32::try_from(worker.allocated.len()).unwrap_or(u32::MAX);
    let free = registration.slots.saturating_sub(used);
    let process = registration.memory_process;
    let task_heap = registration.slot_profile.memory.saturating_mul(registration.slots.into());
    let framework = process.saturating_sub(task_heap);
    // Without a fixed port every task host has its own; one of them stands for all.
    let fixed = Some(registration.data_port).filter(|port| *port != 0);
    let data_port = fixed.or_else(|| tasks.data_ports.iter().min().copied()).unwrap_or(0);
    json!({
        "id": registration.id,
        "path": format!("{}/{}", registration.address, registration.pid),
        "dataPort": data_port,
        "jmxPort": -1,
        "timeSinceLastHeartbeat": worker.last_heartbeat.as_millis(),
        "slotsNumber": registration.slots,
        "freeSlots": free,
        "totalResource": resource(worker, registration.slots),
        "freeResource": resource(worker, free),
        "assignedTasks": tasks.all(),
        "blocked": false,
        "hardware": {
            "cpuCores": registration.cpu_cores,
            "physicalMemory": registration.physical_memory.as_bytes(),
            "freeMemory": process.as_bytes(),
            "managedMemory": 0,
        },
        "memoryConfiguration": {
            "frameworkHeap": framework.as_bytes(),
            "taskHeap": task_heap.as_bytes(),
            "frameworkOffHeap": 0,
            "taskOffHeap": 0,
            "networkMemory": 0,
            "managedMemory": 0,
            "jvmMetaspace": 0,
            "jvmOverhead": 0,
            "totalFlinkMemory": process.as_bytes(),
            "totalProcessMemory": process.as_bytes(),
        },
    })
}

/// What so many slots of a worker offer; memory in MB.
fn resource(worker: &TaskManagerDetails, slots: u32) -> Value {
    let profile = worker.registration.slot_profile;
    json!({
        "cpuCores": profile.cpu_cores * f64::from(slots),
        "taskHeapMemory": profile.memory.saturating_mul(slots.into()).as_mib(),
        "taskOffHeapMemory": 0,
        "managedMemory": 0,
        "networkMemory": 0,
        "extendedResources": {},
    })
}

/// `/taskmanagers/:taskmanagerid`.
pub(in crate::rest) fn details(worker: &TaskManagerDetails, tasks: &Tasks) -> Value {
    let slot = |(index, job): &(u32, JobId)| {
        let assigned = tasks.by_slot.get(&(*job, *index)).copied().unwrap_or(0);
        json!({ "jobId": job, "resource": resource(worker, 1), "assignedTasks": assigned })
    };
    let slots: Vec<Value> = worker.allocated.iter().map(slot).collect();
    let used = resident(worker).as_bytes();
    let mut value = row(worker, tasks);
    let fields = [
        ("allocatedSlots".to_owned(), Value::Array(slots)),
        (
            "metrics".to_owned(),
            json!({
                "heapUsed": used,
                "heapCommitted": used,
                "heapMax": worker.registration.memory_process.as_bytes(),
                "nonHeapUsed": 0,
                "nonHeapCommitted": 0,
                "nonHeapMax": -1,
                "directCount": 0,
                "directUsed": 0,
                "directMax": 0,
                "mappedCount": 0,
                "mappedUsed": 0,
                "mappedMax": 0,
                "memorySegmentsAvailable": 0,
                "memorySegmentsTotal": 0,
                "nettyShuffleMemorySegmentsAvailable": 0,
                "nettyShuffleMemorySegmentsUsed": 0,
                "nettyShuffleMemorySegmentsTotal": 0,
                "nettyShuffleMemoryAvailable": 0,
                "nettyShuffleMemoryUsed": 0,
                "nettyShuffleMemoryTotal": 0,
                "garbageCollectors": [],
            }),
        ),
    ];
    super::merge(&mut value, Map::from_iter(fields));
    value
}

/// Resident memory of the worker and its hosts.
fn resident(worker: &TaskManagerDetails) -> ByteSize {
    let (own, hosts) = (worker.heartbeat.resident_memory, worker.heartbeat.hosts_memory);
    ByteSize::from_bytes(own.as_bytes().saturating_add(hosts.as_bytes()))
}

/// The metrics of a worker, by name.
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
