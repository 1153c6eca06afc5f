//! Shared by the deciders' tests: small graphs, a counting id source, and a driver of one job.

use std::collections::BTreeMap;
use std::io::Write;
use std::panic::{RefUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use millstream_checkpoint::messages::Now;
use millstream_gateway::testing::{TaskManagerCall, TestingTaskManager};
use millstream_gateway::{
    AllocatedSlot, CauseKind, Explanation, FailureCause, HostExit, JobDetails, JobMasterEvent,
    JobSubmission, StartHost,
};
use millstream_graph::{
    ChainedOperator, EdgeId, Fingerprint, JobEdge, JobGraph, JobSettings, JobVertex, NodeId,
    OutputName, Partitioner, RuntimeMode,
};
use millstream_protocol::host::{
    self, Deploy, Failure, FromHost, Ready, TaskId, from_host, to_host,
};
use millstream_soak::simulation;
use millstream_types::{
    AllocationId, ArtifactHash, ExecutionState, HostId, JobId, JobStatus, MaxParallelism,
    OperatorId, ResourceProfile, SlotId, TaskManagerId, Timestamp, VertexId,
};
use tokio::sync::mpsc::UnboundedReceiver;

use super::{Action, Event, JobMaster, Timer, TimerKind};
use crate::config::JobMasterConfig;
use crate::ids::IdSource;

/// A seeded source of choices: xorshift64*.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize) % bound
    }

    pub(crate) fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    pub(crate) fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        if from.is_empty() { None } else { Some(from[self.below(from.len())].clone()) }
    }
}

/// Runs `world` with one seed after the other and returns what each run saw; a failure prints its
/// seed. The environment can ask for others, see [`millstream_soak::simulation`].
pub(crate) fn for_seeds<T>(count: u64, world: impl Fn(u64) -> T + RefUnwindSafe) -> Vec<T> {
    let asked = simulation::asked();
    let run = |seed| {
        catch_unwind(|| world(seed)).unwrap_or_else(|panic| {
            let _ = writeln!(std::io::stderr(), "simulation: seed {seed} fails");
            resume_unwind(panic)
        })
    };
    let seen: Vec<T> = asked.clone().unwrap_or(1..=count).map(run).collect();
    if asked.is_some() {
        let test = std::thread::current().name().unwrap_or_default().to_owned();
        let _ = writeln!(std::io::stderr(), "simulation {test}: seeds {}", seen.len());
    }
    seen
}

/// Fills with a counter, so that ids are small numbers.
pub(crate) struct Counting(pub(crate) u128);

impl IdSource for Counting {
    fn fill(&mut self, bytes: &mut [u8]) {
        self.0 += 1;
        bytes.fill(0);
        let end = bytes.len();
        bytes[end - 16..].copy_from_slice(&self.0.to_be_bytes());
    }
}

pub(crate) fn vertex_id(at: usize) -> VertexId {
    VertexId::from_u128(0x100 + at as u128)
}

pub(crate) fn operator_id(at: usize) -> OperatorId {
    OperatorId::from_u128(0x200 + at as u128)
}

/// A chain of vertices, each with a name, a parallelism and a slot sharing group.
pub(crate) fn graph(vertices: &[(&str, u32, &str)]) -> JobGraph {
    let vertex = |(at, (name, parallelism, group)): (usize, &(&str, u32, &str))| JobVertex {
        id: vertex_id(at),
        name: (*name).to_owned(),
        parallelism: *parallelism,
        max_parallelism: MaxParallelism::DEFAULT,
        operators: vec![ChainedOperator {
            id: operator_id(at),
            node: NodeId(at as u32),
            uid: None,
            name: (*name).to_owned(),
            coordinated: false,
            restarts_alone: false,
            source: at == 0,
            upstream: None,
            output_type: "u64".to_owned(),
            timed: false,
        }],
        slot_sharing_group: (*group).to_owned(),
    };
    let edge = |at: usize| JobEdge {
        id: EdgeId(at as u32 - 1),
        source: vertex_id(at - 1),
        source_node: NodeId(at as u32 - 1),
        output: OutputName::Main,
        target: vertex_id(at),
        target_node: NodeId(at as u32),
        input: 0,
        partitioner: Partitioner::Rebalance,
    };
    JobGraph {
        name: "job".to_owned(),
        vertices: vertices.iter().enumerate().map(vertex).collect(),
        edges: (1..vertices.len()).map(edge).collect(),
        runtime_mode: RuntimeMode::Streaming,
        ordinal: 0,
        plan_values: BTreeMap::new(),
        settings: JobSettings::default(),
        fingerprint: Fingerprint::default(),
    }
}

/// Vertices with these edges alone.
pub(crate) fn connected(
    vertices: &[(&str, u32, &str)],
    edges: &[(usize, usize, Partitioner)],
) -> JobGraph {
    let mut graph = graph(vertices);
    let edge = |(at, (source, target, partitioner)): (usize, &(usize, usize, Partitioner))| {
        let (id, input, partitioner) = (EdgeId(at as u32), 0, *partitioner);
        let (source_node, target_node) = (NodeId(*source as u32), NodeId(*target as u32));
        let (source, target) = (vertex_id(*source), vertex_id(*target));
        let output = OutputName::Main;
        JobEdge { id, source, source_node, output, target, target_node, input, partitioner }
    };
    graph.edges = edges.iter().enumerate().map(edge).collect();
    graph
}

/// Source and sink, of which each subtask has channels to the one of its number alone.
pub(crate) fn forward(parallelism: u32) -> JobGraph {
    let mut graph = pipeline(parallelism);
    graph.edges[0].partitioner = Partitioner::Forward;
    graph
}

/// Source and sink in one group.
pub(crate) fn pipeline(parallelism: u32) -> JobGraph {
    graph(&[("Source", parallelism, "default"), ("Sink", parallelism, "default")])
}

/// The same with a coordinator host.
pub(crate) fn coordinated(parallelism: u32) -> JobGraph {
    let mut graph = pipeline(parallelism);
    for vertex in &mut graph.vertices {
        vertex.operators[0].coordinated = true;
    }
    graph
}

pub(crate) fn with_restarts(mut graph: JobGraph, attempts: u32) -> JobGraph {
    let settings = [
        ("restart-strategy.type", "fixed-delay".to_owned()),
        ("restart-strategy.fixed-delay.attempts", attempts.to_string()),
        ("restart-strategy.fixed-delay.delay", "10 s".to_owned()),
    ];
    graph.settings.config = settings.map(|(key, value)| (key.to_owned(), value)).into();
    graph
}

pub(crate) fn submission(graph: JobGraph) -> JobSubmission {
    JobSubmission {
        job: JobId::from_u128(7),
        graph: Arc::new(graph),
        artifact: "ab".repeat(32).parse::<ArtifactHash>().unwrap(),
        artifact_size: 1000,
    }
}

pub(crate) fn failure(kind: &str, message: &str) -> Failure {
    Failure { kind: kind.to_owned(), message: message.to_owned(), detail: String::new() }
}

/// The time by both clocks, which start together.
fn both(wall: Timestamp) -> Now {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let since = wall.saturating_since(Timestamp::from_millis(0));
    Now { instant: *START + since, wall }
}

/// A job, the TaskManagers around it, and its requests so far.
pub(crate) struct Job {
    pub(crate) master: JobMaster,
    pub(crate) now: Timestamp,
    workers: BTreeMap<String, Arc<TestingTaskManager>>,
    _calls: Vec<UnboundedReceiver<TaskManagerCall>>,
    allocations: u128,
    /// Hosts that were started, oldest first, with the TaskManager.
    pub(crate) started: Vec<(String, StartHost)>,
    pub(crate) timers: Vec<(Timer, Duration)>,
}

impl Job {
    pub(crate) fn new(graph: JobGraph) -> Self {
        Self::with_config(graph, &JobMasterConfig::default())
    }

    pub(crate) fn with_config(graph: JobGraph, config: &JobMasterConfig) -> Self {
        let (coordinators, calls) = TestingTaskManager::new("coordinators");
        let now = Timestamp::from_millis(1_000_000);
        let ids = Box::new(Counting(0));
        Self {
            master: JobMaster::new(submission(graph), config, coordinators, ids, both(now)),
            now,
            workers: BTreeMap::new(),
            _calls: vec![calls],
            allocations: 0,
            started: Vec::new(),
            timers: Vec::new(),
        }
    }

    pub(crate) fn event(&mut self, event: Event) -> Vec<Action> {
        let actions = self.master.on_event(both(self.now), event);
        for action in &actions {
            match action {
                Action::StartHost(on, start) => {
                    self.started.push((on.id().to_string(), start.clone()));
                }
                Action::SetTimer(timer, after) => self.timers.push((*timer, *after)),
                _ => {}
            }
        }
        actions
    }

    pub(crate) fn news(&mut self, news: JobMasterEvent) -> Vec<Action> {
        self.event(Event::Gateway(news))
    }

    pub(crate) fn start(&mut self) -> Vec<Action> {
        self.event(Event::Start)
    }

    /// The newest timer of this kind runs out.
    pub(crate) fn time_out(&mut self, kind: TimerKind) -> Vec<Action> {
        let (timer, after) =
            *self.timers.iter().rfind(|(timer, _)| timer.kind == kind).expect("timer is set");
        self.now = self.now.saturating_add(after);
        self.event(Event::Timer(timer))
    }

    pub(crate) fn slot(&mut self, worker: &str, index: u32) -> AllocatedSlot {
        let calls = &mut self._calls;
        let gateway = self.workers.entry(worker.to_owned()).or_insert_with(|| {
            let (gateway, received) = TestingTaskManager::new(worker);
            calls.push(received);
            gateway
        });
        self.allocations += 1;
        AllocatedSlot {
            allocation: AllocationId::from_u128(self.allocations),
            slot: SlotId { task_manager: TaskManagerId::new(worker), index },
            profile: ResourceProfile::UNKNOWN,
            address: format!("{worker}.local"),
            gateway: gateway.clone(),
        }
    }

    pub(crate) fn grant(&mut self, slots: &[(&str, u32)]) -> Vec<Action> {
        let slots = slots.iter().map(|(worker, index)| self.slot(worker, *index)).collect();
        self.news(JobMasterEvent::SlotsGranted(slots))
    }

    /// The newest host that was started on this TaskManager.
    pub(crate) fn host(&self, worker: &str) -> HostId {
        let newest = self.started.iter().rfind(|(on, _)| on == worker);
        newest.unwrap_or_else(|| panic!("no host on {worker}")).1.host
    }

    pub(crate) fn says(&mut self, host: HostId, message: from_host::Message) -> Vec<Action> {
        let message = FromHost { message: Some(message) };
        self.news(JobMasterEvent::HostMessage { host, message: Box::new(message) })
    }

    pub(crate) fn ready(&mut self, worker: &str) -> Vec<Action> {
        let data_address = format!("{worker}:1");
        let host = self.host(worker);
        self.says(host, from_host::Message::Ready(Ready { data_address }))
    }

    /// A task of the current attempt reports from the host in which it was placed.
    pub(crate) fn reports(
        &mut self,
        (vertex, subtask): (usize, u32),
        state: host::Execution,
        cause: Option<Failure>,
    ) -> Vec<Action> {
        let details = self.details();
        let current = details.vertices[vertex].subtasks.get(subtask as usize).unwrap();
        let task = TaskId {
            vertex: vertex_id(vertex).as_bytes().to_vec(),
            subtask,
            attempt: current.attempt,
        };
        let host = current.location.as_ref().expect("subtask is placed").host;
        let report =
            host::TaskState { task: Some(task), state: state.into(), cause, ..Default::default() };
        self.says(host, from_host::Message::TaskState(report))
    }

    pub(crate) fn all_report(&mut self, state: host::Execution) -> Vec<Action> {
        let mut actions = Vec::new();
        for (vertex, details) in self.details().vertices.iter().enumerate() {
            for subtask in details.subtasks.iter().filter(|subtask| !subtask.state.is_terminal()) {
                actions = self.reports((vertex, subtask.subtask), state, None);
            }
        }
        actions
    }

    pub(crate) fn exits(&mut self, host: HostId, cause: FailureCause, tail: &str) -> Vec<Action> {
        self.news(JobMasterEvent::HostExited(HostExit {
            host,
            cause,
            stderr_tail: tail.to_owned(),
        }))
    }

    /// The newest host on this TaskManager ends as it was told to.
    pub(crate) fn obeys(&mut self, worker: &str) -> Vec<Action> {
        let host = self.host(worker);
        self.exits(host, FailureCause::new(CauseKind::Requested, "was told to end"), "")
    }

    pub(crate) fn loses(&mut self, worker: &str) -> Vec<Action> {
        self.loses_with(worker, Explanation::Complete)
    }

    pub(crate) fn loses_with(&mut self, worker: &str, explanation: Explanation) -> Vec<Action> {
        self.workers.remove(worker);
        self.news(JobMasterEvent::TaskManagerLost {
            task_manager: TaskManagerId::new(worker),
            cause: FailureCause::new(CauseKind::WorkerLost, format!("TaskManager {worker} died")),
            explanation,
        })
    }

    /// The external manager says why a worker ended.
    pub(crate) fn explains(&mut self, worker: &str, reason: &str) -> Vec<Action> {
        let (task_manager, reason) = (TaskManagerId::new(worker), reason.to_owned());
        self.news(JobMasterEvent::TaskManagerEnded { task_manager, reason })
    }

    pub(crate) fn details(&self) -> JobDetails {
        self.master.details()
    }

    pub(crate) fn status(&self) -> JobStatus {
        self.details().status
    }

    pub(crate) fn state(&self, (vertex, subtask): (usize, usize)) -> ExecutionState {
        self.details().vertices[vertex].subtasks.get(subtask).unwrap().state
    }

    /// Messages of the failures, newest first.
    pub(crate) fn causes(&self) -> Vec<String> {
        self.details().exceptions.into_iter().map(|entry| entry.cause.message).collect()
    }

    /// Started on one TaskManager with as many slots as it takes, all tasks running.
    pub(crate) fn running_on(graph: JobGraph, slots: &[(&str, u32)]) -> Self {
        let mut job = Self::new(graph);
        job.start();
        job.run_on(slots);
        job
    }

    /// From the slots to running tasks.
    pub(crate) fn run_on(&mut self, slots: &[(&str, u32)]) {
        let before = self.started.len();
        self.grant(slots);
        self.run_hosts(before);
    }

    /// All hosts that were started after the first `before` get ready, and their tasks run.
    pub(crate) fn run_hosts(&mut self, before: usize) {
        let workers: Vec<String> =
            self.started[before..].iter().map(|(on, _)| on.clone()).collect();
        for worker in workers {
            self.ready(&worker);
        }
        self.all_report(host::Execution::Initializing);
        self.all_report(host::Execution::Running);
    }
}

/// The messages that `actions` send, each with its host.
pub(crate) fn commands(actions: &[Action]) -> Vec<(HostId, to_host::Message)> {
    let command = |action: &Action| match action {
        Action::Command(_, command) => Some((command.host, command.message.message.clone()?)),
        _ => None,
    };
    actions.iter().filter_map(command).collect()
}

/// The deployments among `actions`, by host.
pub(crate) fn deployments(actions: &[Action]) -> BTreeMap<HostId, Deploy> {
    let deploy = |(host, message)| match message {
        to_host::Message::Deploy(deploy) => Some((host, deploy)),
        _ => None,
    };
    commands(actions).into_iter().filter_map(deploy).collect()
}

/// The hosts that `actions` stop, each with its grace.
pub(crate) fn stops(actions: &[Action]) -> Vec<(HostId, Duration)> {
    let stop = |action: &Action| match action {
        Action::StopHost(_, host, grace) => Some((*host, *grace)),
        _ => None,
    };
    actions.iter().filter_map(stop).collect()
}

/// The slots that `actions` give back.
pub(crate) fn released(actions: &[Action]) -> Vec<AllocationId> {
    let release = |action: &Action| match action {
        Action::ReleaseSlots(slots) => slots.clone(),
        _ => Vec::new(),
    };
    actions.iter().flat_map(release).collect()
}

/// The number of slots that `actions` declare last.
pub(crate) fn declared(actions: &[Action]) -> Option<u32> {
    actions.iter().rev().find_map(|action| match action {
        Action::DeclareSlots(slots) => Some(slots.iter().map(|slots| slots.count).sum()),
        _ => None,
    })
}

pub(crate) fn ends(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::End))
}
