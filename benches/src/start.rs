//! Rows about the start of large jobs: 3,200 tasks that are all connected, on real processes, and
//! 20,000 tasks on 10,000 slots, where TaskManagers and hosts are made up and the deciders of
//! ResourceManager and JobMaster do all that there is to do.

use crate::cluster::Cluster;
use crate::engine::Engine;
use crate::rows::{Job, Size, StartFigure};
use crate::wide_start::VERTICES;
use anyhow::{Result, bail, ensure};
use futures::future::BoxFuture;
use millstream_gateway::{
    AllocatedSlot, FileChunk, FileError, FileInfo, HostCommand, JobDetails, JobMasterEvent,
    JobMasterGateway, JobSubmission, StartHost, TaskManagerGateway, TaskManagerGone,
};
use millstream_graph::{
    ChainedOperator, EdgeId, Fingerprint, JobEdge, JobGraph, JobSettings, JobVertex, NodeId,
    OutputName, Partitioner, RuntimeMode,
};
use millstream_jobmaster::{Action, Event, JobMaster, JobMasterConfig, Now, OsIds};
use millstream_protocol::host::{
    Execution, FromHost, Ready, TaskId, TaskState, from_host, to_host,
};
use millstream_resourcemanager::slot_manager::{self, SlotManager};
use millstream_types::{
    ArtifactHash, ExecutionState, HostId, JobId, MaxParallelism, OperatorId, ResourceProfile,
    TaskManagerId, Timestamp, VertexId,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The parallelism of the job on real processes.
const PARALLELISM: u32 = 800;

/// The parallelism of the job on made-up TaskManagers, and the slots of each of these.
const SLOTS: u32 = 10_000;
const SLOTS_EACH: u32 = 100;

/// Seconds that Flink's own benchmarks publish for the scheduling and deployment of 8,000 tasks,
/// 4,000 times 4,000, on better hardware: the other side of the row on slots.
const FLINK_PUBLISHED_S: f64 = 17.2;

/// The number of events that are handled before their changes are published, as in a JobMaster.
const EVENTS_PER_TURN: usize = 64;

/// Measures it once. Flink's figure of slots is the published one; its buffers for the channels
/// of 3,200 tasks alone would take 60 GB.
pub fn measure(figure: StartFigure, engine: &Engine) -> Result<f64> {
    match figure {
        StartFigure::Slots if engine.is_flink() => Ok(FLINK_PUBLISHED_S),
        StartFigure::Slots if engine.name == "before" => {
            bail!("this program has the code of one commit: run it with --only ours")
        }
        StartFigure::Slots => Ok(schedule(SLOTS)?.as_secs_f64()),
        StartFigure::Seconds | StartFigure::JobManagerCpu => {
            ensure!(!engine.is_flink(), "Flink cannot run it here: use --only ours, or --before");
            let (workers, tls) = (2, false);
            let size = Size { workers, slots: PARALLELISM / workers, tls, memory_mb: 16_000 };
            let mut cluster = Cluster::tuned(engine, size)?;
            let artifact = cluster.upload(Job::WideStart)?;
            let tasks = (PARALLELISM, u64::from(PARALLELISM * VERTICES));
            let (took, cpu) = cluster.start_tasks(&artifact, Job::WideStart, tasks)?;
            Ok(if figure == StartFigure::Seconds { took } else { cpu }.as_secs_f64())
        }
    }
}

/// A TaskManager that is told and does nothing.
#[derive(Debug)]
struct Deaf(TaskManagerId);

impl TaskManagerGateway for Deaf {
    fn id(&self) -> &TaskManagerId {
        &self.0
    }

    fn start_host(
        &self,
        _owner: Arc<dyn JobMasterGateway>,
        _start: StartHost,
    ) -> Result<(), TaskManagerGone> {
        Ok(())
    }

    fn command(&self, _command: HostCommand) -> Result<(), TaskManagerGone> {
        Ok(())
    }

    fn stop_host(&self, _host: HostId, _grace: Duration) -> Result<(), TaskManagerGone> {
        Ok(())
    }

    fn release_artifact(&self, _artifact: ArtifactHash) -> Result<(), TaskManagerGone> {
        Ok(())
    }

    fn dismiss(&self) {}

    fn list_files(&self) -> BoxFuture<'static, Result<Vec<FileInfo>, FileError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn read_file(
        &self,
        name: String,
        _offset: u64,
        _length: u32,
    ) -> BoxFuture<'static, Result<FileChunk, FileError>> {
        Box::pin(std::future::ready(Err(FileError::NotFound(name))))
    }
}

/// A source and a sink, all of whose subtasks are connected.
fn graph(parallelism: u32) -> JobGraph {
    let vertex = |number: u32| JobVertex {
        id: VertexId::from_u128(number.into()),
        name: format!("vertex {number}"),
        parallelism,
        max_parallelism: MaxParallelism::DEFAULT,
        operators: vec![ChainedOperator {
            id: OperatorId::from_u128(number.into()),
            node: NodeId(number),
            uid: None,
            name: format!("operator {number}"),
            coordinated: false,
            restarts_alone: false,
            source: number == 0,
            upstream: None,
            output_type: "u64".to_owned(),
            timed: false,
        }],
        slot_sharing_group: "default".to_owned(),
    };
    let edge = JobEdge {
        id: EdgeId(0),
        source: VertexId::from_u128(0),
        source_node: NodeId(0),
        output: OutputName::Main,
        target: VertexId::from_u128(1),
        target_node: NodeId(1),
        input: 0,
        partitioner: Partitioner::Rebalance,
    };
    JobGraph {
        name: "job".to_owned(),
        vertices: vec![vertex(0), vertex(1)],
        edges: vec![edge],
        runtime_mode: RuntimeMode::Streaming,
        ordinal: 0,
        plan_values: BTreeMap::new(),
        settings: JobSettings::default(),
        fingerprint: Fingerprint::default(),
    }
}

/// The JobMaster with everything around it.
struct World {
    slots: SlotManager,
    task_managers: BTreeMap<TaskManagerId, Arc<dyn TaskManagerGateway>>,
    master: JobMaster,
    job: JobId,
    events: VecDeque<Event>,
    details: JobDetails,
}

/// The time from a job's submission until all its tasks run, two for each slot.
fn schedule(slots: u32) -> Result<Duration> {
    let mut manager = SlotManager::new(None, 1);
    let mut task_managers: BTreeMap<_, Arc<dyn TaskManagerGateway>> = BTreeMap::new();
    for number in 0..slots / SLOTS_EACH {
        let worker = TaskManagerId::new(format!("worker-{number}"));
        task_managers.insert(worker.clone(), Arc::new(Deaf(worker.clone())));
        let profile = ResourceProfile::UNKNOWN;
        manager.on_event(slot_manager::Event::Registered { worker, slots: SLOTS_EACH, profile });
    }
    let (job, start) = (JobId::from_u128(1), Instant::now());
    let submission = JobSubmission {
        job,
        graph: Arc::new(graph(slots)),
        artifact: ArtifactHash::new([0; 32]),
        artifact_size: 1,
    };
    let coordinators = Arc::new(Deaf(TaskManagerId::new("coordinators")));
    let config = JobMasterConfig::default();
    let ids = Box::new(OsIds);
    let master = JobMaster::new(submission, &config, coordinators, ids, now());
    let (details, events) = (master.details(), VecDeque::from([Event::Start]));
    let mut world = World { slots: manager, task_managers, master, job, events, details };
    while world.turn() {}
    let subtasks = world.details.vertices.iter().flat_map(|vertex| &vertex.subtasks);
    let running = subtasks.filter(|subtask| subtask.state == ExecutionState::Running).count();
    ensure!(running == 2 * slots as usize, "{running} of {} tasks run", 2 * slots);
    Ok(start.elapsed())
}

/// The time by both clocks.
fn now() -> Now {
    Now { instant: Instant::now(), wall: Timestamp::now() }
}

impl World {
    /// Handles some events; `false` when there is none.
    fn turn(&mut self) -> bool {
        let (mut handled, mut publish) = (0, false);
        while handled < EVENTS_PER_TURN
            && let Some(event) = self.events.pop_front()
        {
            handled += 1;
            for action in self.master.on_event(now(), event) {
                match action {
                    Action::Publish => publish = true,
                    action => self.obey(action),
                }
            }
        }
        if publish {
            self.details = self.master.details();
        }
        handled > 0
    }

    fn obey(&mut self, action: Action) {
        match action {
            Action::DeclareSlots(requirements) => {
                let declared = slot_manager::Event::Declared { job: self.job, requirements };
                for action in self.slots.on_event(declared) {
                    if let slot_manager::Action::Grant { slots, .. } = action {
                        let slots = slots.into_iter().filter_map(|grant| self.allocated(grant));
                        let granted = JobMasterEvent::SlotsGranted(slots.collect());
                        self.events.push_back(Event::Gateway(granted));
                    }
                }
            }
            Action::StartHost(_, StartHost { host, .. }) => {
                let data_address = "127.0.0.1:1".to_owned();
                self.hear(host, from_host::Message::Ready(Ready { data_address }));
            }
            Action::Command(_, HostCommand { host, message }) => {
                let Some(to_host::Message::Deploy(deploy)) = message.message else { return };
                for task in deploy.tasks {
                    let (vertex, subtask, attempt) = (task.vertex, task.subtask, task.attempt);
                    for state in [Execution::Initializing, Execution::Running] {
                        let task = Some(TaskId { vertex: vertex.clone(), subtask, attempt });
                        let report =
                            TaskState { task, state: state.into(), ..TaskState::default() };
                        self.hear(host, from_host::Message::TaskState(report));
                    }
                }
            }
            _ => {}
        }
    }

    fn hear(&mut self, host: HostId, message: from_host::Message) {
        let message = FromHost { message: Some(message) };
        let heard = JobMasterEvent::HostMessage { host, message: Box::new(message) };
        self.events.push_back(Event::Gateway(heard));
    }

    fn allocated(&self, grant: slot_manager::Grant) -> Option<AllocatedSlot> {
        let gateway = Arc::clone(self.task_managers.get(&grant.slot.task_manager)?);
        let slot_manager::Grant { allocation, slot, profile } = grant;
        Some(AllocatedSlot { allocation, slot, profile, address: "localhost".to_owned(), gateway })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_tasks_of_a_job_on_many_slots_run() {
        schedule(1_000).unwrap();
    }
}
