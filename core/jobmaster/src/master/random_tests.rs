//! One job in a small random world: TaskManagers that die, hosts that crash, hang or lie still,
//! news that overtakes other news, a user who cancels; half of the jobs take checkpoints, which
//! tasks decline and a storage loses or does not tell of, and savepoints on request. The
//! invariants hold after every step.
//!
//! The environment can ask for seeds, see [`millstream_soak::simulation`].

mod events;
mod regions;
mod requests;
mod storage;
mod sums;
mod takeover;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use millstream_checkpoint::Event as Answer;
use millstream_checkpoint::metadata::Kind;
use millstream_gateway::{
    AllocatedSlot, CauseKind, CheckpointRequest, Explanation, FailureCause, HostExit,
    JobMasterEvent, RequestState, StartHost,
};
use millstream_graph::{JobGraph, Partitioner};
use millstream_protocol::host::{
    self, Alive, Execution, FromHost, Ready, Settled, Task, TaskId, TaskState, from_host, to_host,
};
use millstream_soak::simulation::{self, STEPS_LEAST, Seen, Trace};
use millstream_types::{
    AllocationId, CheckpointId, HostId, JobStatus, TaskManagerId, Timestamp, TriggerId,
};

use super::fixture::{Job, Random, connected, failure, with_restarts};
use super::{Action, Event, Timer, TimerKind};
use crate::checkpoints::{StorageAnswer, StorageRequest};
use crate::config::{JobMasterConfig, SchedulingStrategy};

const SEEDS: u64 = 200;
/// The most jobs of a seed.
const JOBS_MAX: u64 = 1_000;
const CHAOS_STEPS: usize = 150;
const CALM_STEPS_MAX: usize = 2_000;
const SLOTS_PER_WORKER: u32 = 2;

/// A process as it really is.
struct Process {
    on: String,
    ready: bool,
    stopping: bool,
    hangs: bool,
    /// Its tasks and how far they are; those that ended are gone.
    tasks: Vec<(Task, Execution)>,
    cancelled: bool,
    /// Those that were told to stop by themselves.
    cancelled_tasks: Vec<TaskId>,
    /// Commits and aborts that it has not answered.
    settles: usize,
    /// Its next messages about checkpoints.
    answers: VecDeque<from_host::Message>,
    said: events::Said,
    heard: events::Heard,
    /// Whether its committers were told to recover, and have.
    recovered: bool,
    /// The savepoint with which its tasks stop, and whether that is complete.
    stop: Option<u64>,
    has_stopped: bool,
}

/// Sources and the sink that they have in common.
fn graph_of(
    parallelism: u32,
    sources: usize,
    partitioner: Partitioner,
    is_coordinated: impl Fn(bool) -> bool,
    restarts_alone: bool,
) -> JobGraph {
    let vertices = ["Source", "Sink", "Other"].map(|name| (name, parallelism, "default"));
    let edges = events::SOURCES.map(|source| (source, 1, partitioner));
    let mut graph = connected(&vertices[..=sources], &edges[..sources]);
    for (at, vertex) in graph.vertices.iter_mut().enumerate() {
        let operator = &mut vertex.operators[0];
        operator.source = events::SOURCES.contains(&at);
        operator.coordinated = is_coordinated(operator.source);
        operator.restarts_alone = restarts_alone;
    }
    graph
}

struct World {
    random: Random,
    job: Job,
    parallelism: usize,
    coordinated: bool,
    has_enumerator: bool,
    /// The part of the events that the coordinators' snapshots know of.
    snapshots: events::Snapshots,
    /// Each source has a channel to the sink of its number alone.
    has_regions: bool,
    /// The attempts of tasks that hosts were told to run.
    deployed_ever: BTreeSet<(Vec<u8>, u32, u32)>,
    /// The restarts that coordinators were told of, and those of which they have said so.
    restarts_told: BTreeSet<u32>,
    restarts_known: BTreeSet<u32>,
    /// Events on their way to the JobMaster, in order per sender.
    streams: BTreeMap<String, VecDeque<JobMasterEvent>>,
    timers: Vec<(Timestamp, Timer)>,
    processes: BTreeMap<HostId, Process>,
    workers: BTreeSet<String>,
    workers_ever: u32,
    free: Vec<(String, u32)>,
    declared: u32,
    granted: BTreeMap<AllocationId, AllocatedSlot>,

    // Facts that the JobMaster must not forget.
    hosts_ever: BTreeSet<HostId>,
    hosts_gone: BTreeSet<HostId>,
    hosts_stopped: BTreeSet<HostId>,
    released: BTreeSet<AllocationId>,
    lost: BTreeSet<AllocationId>,
    attempts: Vec<u32>,
    ended: u32,
    status: JobStatus,
    deployed: bool,
    aborted: bool,
    published: bool,

    takes_checkpoints: bool,
    storage: VecDeque<StorageRequest>,
    /// Checkpoints whose metadata is in the storage.
    stored: BTreeSet<u64>,
    /// Savepoints whose metadata is in the storage, and their directories.
    savepoints: BTreeSet<u64>,
    directories: BTreeSet<String>,
    /// The newest one that the JobMaster was told of.
    newest: u64,
    /// The job was told that its stop savepoint is complete.
    has_stopped: bool,
    /// The number of requests.
    requests: u128,
    seen: Seen,
    trace: Trace,
}

impl World {
    fn new(seed: u64, job: u64, trace: Trace) -> Self {
        let mut random = Random::new(seed ^ job << 48);
        let parallelism = 1 + random.below(4) as u32;
        let coordinated_job = !random.one_in(3);
        // Without enumerators the coordinator host is replaced while tasks run.
        let has_enumerator = coordinated_job && random.one_in(2);
        let restarts_alone = random.one_in(2);
        let has_regions = random.one_in(2);
        let graph = graph_of(
            parallelism,
            1 + random.below(2),
            if has_regions { Partitioner::Forward } else { Partitioner::Rebalance },
            |is_source| coordinated_job && (has_enumerator || !is_source),
            restarts_alone,
        );
        let takes_checkpoints = job > 0 || random.one_in(2);
        let restarts = random.below(if takes_checkpoints { 12 + 60 * job as usize } else { 4 });
        let mut graph = with_restarts(graph, restarts as u32);
        if random.one_in(2) {
            let delay = "restart-strategy.fixed-delay.delay".to_owned();
            graph.settings.config.insert(delay, "0 s".to_owned());
        }
        let scheduling = random.one_in(3).then_some(SchedulingStrategy::LazyFromSource);
        let config = takeover::config_of(scheduling, takes_checkpoints);
        let mut world = Self {
            random,
            job: Job::with_config(graph, &config),
            parallelism: parallelism as usize,
            coordinated: coordinated_job,
            has_enumerator,
            snapshots: events::Snapshots::default(),
            has_regions,
            deployed_ever: BTreeSet::new(),
            restarts_told: BTreeSet::new(),
            restarts_known: BTreeSet::new(),
            streams: BTreeMap::new(),
            timers: Vec::new(),
            processes: BTreeMap::new(),
            workers: BTreeSet::new(),
            workers_ever: 0,
            free: Vec::new(),
            declared: 0,
            granted: BTreeMap::new(),
            hosts_ever: BTreeSet::new(),
            hosts_gone: BTreeSet::new(),
            hosts_stopped: BTreeSet::new(),
            released: BTreeSet::new(),
            lost: BTreeSet::new(),
            attempts: Vec::new(),
            ended: 0,
            status: JobStatus::Initializing,
            deployed: false,
            aborted: false,
            published: false,
            takes_checkpoints,
            storage: VecDeque::new(),
            stored: BTreeSet::new(),
            savepoints: BTreeSet::new(),
            directories: BTreeSet::new(),
            newest: 0,
            has_stopped: false,
            requests: 0,
            seen: Seen::default(),
            trace,
        };
        world.add_worker();
        world.add_worker();
        world
    }

    fn add_worker(&mut self) {
        self.workers_ever += 1;
        let name = format!("tm{}", self.workers_ever);
        self.free.extend((0..SLOTS_PER_WORKER).map(|slot| (name.clone(), slot)));
        self.workers.insert(name);
    }

    fn post(&mut self, from: &str, news: JobMasterEvent) {
        self.streams.entry(from.to_owned()).or_default().push_back(news);
    }

    fn says(&mut self, host: HostId, message: from_host::Message) {
        let from = self.processes[&host].on.clone();
        let message = FromHost { message: Some(message) };
        self.post(&from, JobMasterEvent::HostMessage { host, message: Box::new(message) });
    }

    // --- the JobMaster's side ---

    fn event(&mut self, event: Event) {
        match &event {
            Event::Gateway(JobMasterEvent::HostExited(exit)) => {
                self.hosts_gone.insert(exit.host);
            }
            Event::Gateway(JobMasterEvent::TaskManagerLost { task_manager, .. }) => {
                let lost = self.job.started.iter().filter(|(on, _)| on == task_manager.as_str());
                self.hosts_gone.extend(lost.map(|(_, start)| start.host));
            }
            Event::Gateway(_)
            | Event::Start
            | Event::StartFrom(_)
            | Event::Refuse(_)
            | Event::Storage(_)
            | Event::Timer(_) => {}
        }
        self.trace.note(&std::mem::discriminant(&event));
        let actions = self.job.event(event);
        takeover::check_alone(&actions);
        let barrier = actions.iter().position(|it| is_told(it, events::is_barrier));
        let behind = &actions[barrier.unwrap_or(actions.len())..];
        let held_back = behind.iter().filter(|action| is_told(action, events::is_event)).count();
        self.seen.many("event held back", held_back as u64);
        let shown = actions.iter().any(|action| matches!(action, Action::Publish));
        actions.into_iter().for_each(|action| self.carry_out(action));
        assert!(shown || self.job.details().status == self.status, "a status nobody sees");
        self.check_progress();
    }

    fn carry_out(&mut self, action: Action) {
        self.trace.note(&std::mem::discriminant(&action));
        match action {
            Action::DeclareSlots(slots) => {
                self.declared = slots.iter().map(|slots| slots.count).sum();
            }
            Action::ReleaseSlots(slots) => slots.into_iter().for_each(|slot| self.release(slot)),
            Action::StartHost(on, start) => {
                assert!(self.hosts_ever.insert(start.host), "a host is started twice");
                assert_eq!(self.ended, 0, "a host is started after the end");
                self.start_process(on.id().as_str(), &start);
            }
            Action::Command(_, command) => {
                assert!(!self.hosts_gone.contains(&command.host), "a dead host is told something");
                assert!(!self.hosts_stopped.contains(&command.host), "told after its stop");
                let message = command.message.message.expect("a command has a message");
                self.trace.note(&message);
                self.hear(command.host, message);
            }
            Action::StopHost(_, host, _) => {
                assert!(!self.hosts_gone.contains(&host), "a dead host is stopped");
                assert!(self.hosts_stopped.insert(host), "a host is stopped twice");
                if let Some(process) = self.processes.get_mut(&host) {
                    process.stopping = true;
                }
            }
            Action::SetTimer(timer, after) => {
                self.timers.push((self.job.now.saturating_add(after), timer));
            }
            Action::Publish => {}
            Action::Storage(request) => self.storage.push_back(request),
            Action::End => {
                self.ended += 1;
                assert!(self.hosts_ever.is_subset(&self.hosts_gone), "a host outlives the job");
            }
        }
    }

    fn release(&mut self, allocation: AllocationId) {
        assert!(self.released.insert(allocation), "a slot is released twice");
        if let Some(slot) = self.granted.remove(&allocation) {
            self.free.push((slot.slot.task_manager.as_str().to_owned(), slot.slot.index));
        } else {
            assert!(self.lost.contains(&allocation), "a slot is released that was never granted");
        }
    }

    fn start_process(&mut self, on: &str, start: &StartHost) {
        if on != "coordinators" && !self.workers.contains(on) {
            return; // The news of the worker's loss is on its way.
        }
        let process = Process {
            on: on.to_owned(),
            ready: false,
            stopping: false,
            hangs: self.random.one_in(20),
            tasks: Vec::new(),
            cancelled: false,
            cancelled_tasks: Vec::new(),
            settles: 0,
            answers: VecDeque::new(),
            said: events::Said::restored(&start.begin),
            heard: events::Heard::default(),
            recovered: false,
            stop: None,
            has_stopped: false,
        };
        self.processes.insert(start.host, process);
    }

    fn hear(&mut self, host: HostId, message: to_host::Message) {
        match &message {
            to_host::Message::Deploy(_) => (self.deployed, self.aborted) = (true, false),
            to_host::Message::Abort(_) => self.aborted = true,
            _ => {}
        }
        self.check_told(&message);
        let Some(process) = self.processes.get_mut(&host) else { return };
        assert!(process.ready, "a host is told something before it is ready");
        match message {
            to_host::Message::OperatorEvent(event) if process.on == "coordinators" => {
                let answer = process.said.register(event);
                process.answers.extend(answer);
            }
            to_host::Message::OperatorEvent(event) => {
                process.heard.event(&event);
                self.seen.one("event");
            }
            to_host::Message::TriggerCheckpoint(trigger) => {
                process.heard.barrier(&trigger, &self.snapshots);
                let is_stop = trigger.kind() == host::CheckpointKind::Stop;
                process.stop = is_stop.then_some(trigger.checkpoint).or(process.stop);
                let acks = trigger.tasks.into_iter().map(|task| {
                    from_host::Message::CheckpointAck(host::CheckpointAck {
                        task: Some(task),
                        checkpoint: trigger.checkpoint,
                        ..host::CheckpointAck::default()
                    })
                });
                process.answers.extend(acks);
            }
            to_host::Message::SnapshotCoordinators(asked) => {
                let (random, snapshots) = (&mut self.random, &mut self.snapshots);
                snapshots.gives(asked.checkpoint, host);
                process.answers.extend(process.said.snapshots(random, &asked, snapshots));
            }
            to_host::Message::CommitCheckpoint(order) => {
                assert_eq!(order.recover, !process.recovered, "committers recover once, first");
                process.recovered = true;
                let committed = host::Committed { commit: order.commit };
                process.answers.push_back(from_host::Message::Committed(committed));
            }
            to_host::Message::EndCheckpoint(end) => {
                process.heard.end_checkpoint(&end);
                process.has_stopped |= end.complete && process.stop == Some(end.checkpoint);
            }
            to_host::Message::Deploy(deploy) => {
                process.heard.deployment(&deploy);
                let tasks = deploy.tasks.into_iter();
                process.tasks.extend(tasks.map(|task| (task, Execution::Unspecified)));
            }
            to_host::Message::Cancel(cancel) => {
                process.cancelled |= cancel.tasks.is_empty();
                process.cancelled_tasks.extend(cancel.tasks);
            }
            to_host::Message::RestartSubtasks(restart) => {
                process.said.restart(&restart);
                let restarted = host::SubtasksRestarted { attempt: restart.attempt };
                process.answers.push_back(from_host::Message::SubtasksRestarted(restarted));
            }
            to_host::Message::Commit(_) | to_host::Message::Abort(_) => process.settles += 1,
            to_host::Message::ReportHandedOut(asked) => self.report(host, &asked),
            to_host::Message::TakeOver(before) => {
                process.said.take_over(&before);
                self.seen.one("taken over");
            }
            other => panic!("unexpected {other:?}"),
        }
    }

    /// Tasks begin from the newest checkpoint, and where committers have recovered.
    fn check_restore(&mut self, deploy: &host::Deploy) {
        if !self.takes_checkpoints || deploy.tasks.is_empty() {
            return;
        }
        let newest = self.stored.last().copied().unwrap_or(0);
        // Those that had finished begin nothing, and may come behind the final checkpoint.
        for task in deploy.tasks.iter().filter(|task| !task.finished) {
            assert!(task.restored >= self.newest, "it begins from an old checkpoint");
            assert!(task.restored <= newest, "it begins from a checkpoint that is not stored");
        }
        self.seen.many("restored", u64::from(newest > 0));
        if self.coordinated {
            let mut committers = self.processes.values().filter(|it| it.recovered);
            self.seen.many("recovered", u64::from(committers.next().is_some()));
        }
    }

    fn is_complete(&mut self, id: u64) {
        self.newest = self.newest.max(id);
        self.seen.one("complete");
    }

    fn check_progress(&mut self) {
        let details = self.job.details();
        let attempts: Vec<u32> = details
            .vertices
            .iter()
            .flat_map(|vertex| vertex.subtasks.iter().map(|subtask| subtask.attempt))
            .collect();
        assert!(attempts.iter().all(|attempt| *attempt <= details.restarts));
        if self.attempts != attempts {
            let steps = || self.attempts.iter().zip(&attempts);
            if !attempts.iter().all(|attempt| *attempt == details.restarts) {
                self.check_regions(&attempts);
                self.seen.one("regions restarted");
                self.attempts = attempts;
                return self.check_status(details.status);
            }
            assert!(steps().all(|(old, new)| old < new));
            let is_kept = self.takes_checkpoints || !self.coordinated || !self.deployed;
            assert!(is_kept || self.was_cleaned_up());
            self.deployed = false;
            self.attempts = attempts;
        }
        self.check_status(details.status);
    }

    fn check_status(&mut self, status: JobStatus) {
        if status != self.status {
            assert!(!self.status.is_globally_terminal(), "a status follows {}", self.status);
            self.status = status;
        }
        assert_eq!(self.status.is_globally_terminal(), self.ended > 0);
        assert!(self.ended <= 1, "the job ends twice");
    }

    /// True if the attempt's output was discarded, or the job says that it could not be.
    fn was_cleaned_up(&self) -> bool {
        let details = self.job.details();
        let given_up = |message: &str| message.contains("may be left behind");
        self.aborted || details.exceptions.iter().any(|entry| given_up(&entry.cause.message))
    }

    // --- the world's side ---

    fn deliver(&mut self) -> bool {
        let waiting: Vec<String> = self.streams.keys().cloned().collect();
        let Some(from) = self.random.pick(&waiting) else { return false };
        let stream = self.streams.get_mut(&from).expect("picked from the keys");
        let news = stream.pop_front().expect("streams are never empty");
        if stream.is_empty() {
            self.streams.remove(&from);
        }
        self.event(Event::Gateway(news));
        true
    }

    fn time_passes(&mut self) -> bool {
        let earliest = self.timers.iter().enumerate().min_by_key(|(_, (due, _))| *due);
        let Some((at, _)) = earliest else { return false };
        let (due, timer) = self.timers.swap_remove(at);
        self.job.now = self.job.now.max(due);
        self.event(Event::Timer(timer));
        if timer.kind == TimerKind::Heartbeat {
            self.show_life();
        }
        true
    }

    /// All processes that do not hang do.
    fn show_life(&mut self) {
        let alive = self.processes.iter().filter(|(_, it)| it.ready && !it.stopping && !it.hangs);
        let alive: Vec<HostId> = alive.map(|(host, _)| *host).collect();
        alive.into_iter().for_each(|host| self.says(host, from_host::Message::Alive(Alive {})));
    }

    fn grant(&mut self) -> bool {
        let held = self.granted.len() as u32;
        let missing = (self.declared.saturating_sub(held) as usize).min(self.free.len());
        if missing == 0 {
            return false;
        }
        let count = 1 + self.random.below(missing);
        let mut slots = Vec::new();
        for _ in 0..count {
            let at = self.random.below(self.free.len());
            let (worker, index) = self.free.swap_remove(at);
            let slot = self.job.slot(&worker, index);
            self.granted.insert(slot.allocation, slot.clone());
            slots.push(slot);
        }
        self.post("resourcemanager", JobMasterEvent::SlotsGranted(slots));
        true
    }

    /// A process does the next thing that it would do; `false` if it waits.
    fn act(&mut self, host: HostId, faults: bool) -> bool {
        let process = &self.processes[&host];
        if process.stopping {
            self.exit(host, FailureCause::new(CauseKind::Requested, "was told to end"));
            return true;
        }
        if process.hangs && (process.ready || !faults) {
            return false;
        }
        if !process.ready {
            self.processes.get_mut(&host).expect("it lives").ready = true;
            let data_address = format!("{host}:1");
            self.says(host, from_host::Message::Ready(Ready { data_address }));
            return true;
        }
        if process.settles > 0 {
            self.processes.get_mut(&host).expect("it lives").settles -= 1;
            let failed = faults && self.random.one_in(10);
            let failure = failed.then(|| failure("commit", "disk full"));
            self.published |= failure.is_none();
            self.says(host, from_host::Message::Settled(Settled { failure }));
            return true;
        }
        if let Some(mut answer) =
            self.processes.get_mut(&host).and_then(|it| it.answers.pop_front())
        {
            if faults && self.random.one_in(10) {
                answer = self.badly(answer);
            }
            if let from_host::Message::SubtasksRestarted(restarted) = &answer {
                self.restarts_known.insert(restarted.attempt);
            }
            self.says(host, answer);
            return true;
        }
        // Coordinators have no tasks.
        if faults
            && self.random.one_in(4)
            && let Some(process) = self.processes.get_mut(&host)
            && let Some(event) = process.said.event(&mut self.random, None)
        {
            self.says(host, event);
            return true;
        }
        self.step_task(host, faults)
    }

    fn step_task(&mut self, host: HostId, faults: bool) -> bool {
        let process = &self.processes[&host];
        if process.tasks.is_empty() {
            return false;
        }
        let at = self.random.below(process.tasks.len());
        let (task, state) = process.tasks[at].clone();
        let is_it = |id: &TaskId| {
            (&id.vertex, id.subtask, id.attempt) == (&task.vertex, task.subtask, task.attempt)
        };
        let cancelled = process.cancelled || process.cancelled_tasks.iter().any(is_it);
        let failed = faults && self.random.one_in(if self.takes_checkpoints { 90 } else { 30 });
        self.seen.many("task failed", u64::from(failed));
        let (next, cause) = match state {
            _ if cancelled => (Execution::Canceled, None),
            _ if failed => {
                let kind = self.random.pick(&["panic", "error", "exchange"]).expect("three kinds");
                (Execution::Failed, Some(failure(kind, kind)))
            }
            Execution::Unspecified => (Execution::Initializing, None),
            Execution::Initializing => (Execution::Running, None),
            // Behind the barrier of a stop there is nothing to do.
            _ if process.has_stopped => (Execution::Finished, None),
            _ if process.stop.is_some() => return false,
            // Tasks that take checkpoints go on for a while.
            _ if self.takes_checkpoints && faults && !self.random.one_in(40) => return true,
            // Its reader waits for an answer.
            _ if self.has_enumerator && process.heard.waits(&task) => return false,
            _ => (Execution::Finished, None),
        };
        let process = self.processes.get_mut(&host).expect("it lives");
        let id =
            TaskId { vertex: task.vertex.clone(), subtask: task.subtask, attempt: task.attempt };
        if next == Execution::Finished {
            // It has acknowledged before, or never will.
            process.answers.retain(|answer| match answer {
                from_host::Message::CheckpointAck(ack) => ack.task.as_ref() != Some(&id),
                _ => true,
            });
        }
        let registers = self.has_enumerator && next == Execution::Running;
        match next {
            Execution::Initializing | Execution::Running => process.tasks[at].1 = next,
            _ => drop(process.tasks.swap_remove(at)),
        }
        process.heard.task(&task, next);
        if let Some(registration) = registers.then(|| events::registration(&task)).flatten() {
            self.says(host, registration);
        }
        let report =
            TaskState { task: Some(id), state: next.into(), cause, ..TaskState::default() };
        self.says(host, from_host::Message::TaskState(report));
        true
    }

    fn exit(&mut self, host: HostId, cause: FailureCause) {
        self.seen.one("host ended");
        let process = self.processes.remove(&host).expect("it lives");
        let stderr_tail = String::new();
        self.post(&process.on, JobMasterEvent::HostExited(HostExit { host, cause, stderr_tail }));
    }

    fn kill_worker(&mut self) {
        let workers: Vec<String> = self.workers.iter().cloned().collect();
        let Some(worker) = self.random.pick(&workers) else { return };
        self.seen.one("TaskManager killed");
        self.workers.remove(&worker);
        self.streams.remove(&worker);
        self.free.retain(|(on, _)| *on != worker);
        self.processes.retain(|_, process| process.on != worker);
        let on = |slot: &AllocatedSlot| slot.slot.task_manager.as_str() == worker;
        let lost = self.granted.extract_if(.., |_, slot| on(slot));
        self.lost.extend(lost.map(|(allocation, _)| allocation));
        let explanation = [Explanation::Complete, Explanation::Follows, Explanation::Unknown];
        let explanation = self.random.pick(&explanation).expect("there are three");
        let task_manager = TaskManagerId::new(worker);
        let news = JobMasterEvent::TaskManagerLost {
            task_manager: task_manager.clone(),
            cause: FailureCause::new(CauseKind::WorkerLost, "the connection broke"),
            explanation,
        };
        self.post("resourcemanager", news);
        // The external manager keeps its word, or not.
        if explanation == Explanation::Follows && self.random.below(2) == 0 {
            let reason = "it was killed".to_owned();
            let news = JobMasterEvent::TaskManagerEnded { task_manager, reason };
            self.post("resourcemanager", news);
        }
        self.add_worker();
    }

    fn chaos(&mut self) {
        let hosts: Vec<HostId> = self.processes.keys().copied().collect();
        // Jobs that take checkpoints have more time between their faults.
        let choices = if self.takes_checkpoints { 300 } else { 100 };
        match self.random.below(choices) {
            0..45 | 100..180 => {
                self.deliver();
            }
            45..80 | 180..260 => {
                if let Some(host) = self.random.pick(&hosts) {
                    self.act(host, true);
                }
            }
            80..85 => {
                self.grant();
            }
            85..90 | 260..280 => {
                self.store(true);
            }
            90..93 | 280..292 => {
                self.time_passes();
            }
            93..95 => {
                if let Some(host) = self.random.pick(&hosts) {
                    self.exit(host, FailureCause::new(CauseKind::Signal, "killed by signal 9"));
                }
            }
            95 => {
                if let Some(host) = self.random.pick(&hosts) {
                    self.says(host, from_host::Message::Failure(failure("error", "cannot go on")));
                }
            }
            96 => self.kill_worker(),
            97 if self.random.one_in(3) => self.post("user", JobMasterEvent::Cancel),
            98 | 292..300 => self.request(),
            _ => self.job.now = self.job.now.saturating_add(Duration::from_millis(50)),
        }
    }

    /// Everything that can happen happens; time passes only when nothing else does.
    fn calm(&mut self) {
        for _ in 0..CALM_STEPS_MAX {
            if self.ended > 0 {
                return;
            }
            let hosts: Vec<HostId> = self.processes.keys().copied().collect();
            let acted = hosts.into_iter().fold(false, |acted, host| self.act(host, false) | acted);
            while (self.workers.len() as u32) * SLOTS_PER_WORKER < 4 {
                self.add_worker();
            }
            let moved =
                self.deliver() | self.grant() | self.store(false) | acted || self.time_passes();
            assert!(moved, "the job waits for nothing: {:?}", self.job.details());
        }
        panic!("the job does not end: {:?}", self.job.details());
    }

    fn run(&mut self) {
        self.event(Event::Start);
        let steps = if self.takes_checkpoints { 4 * CHAOS_STEPS } else { CHAOS_STEPS };
        for _ in 0..steps {
            let is_behind = self.newest > 0 && self.ended == 0;
            self.seen.many(simulation::STEPS, u64::from(is_behind));
            self.chaos();
        }
        self.calm();
        while self.deliver() || self.time_passes() {}
        self.seen.one(match self.status {
            JobStatus::Finished => "finished",
            JobStatus::Canceled => "canceled",
            _ => "failed",
        });
        let millis = self.job.now.as_millis().cast_unsigned();
        self.seen.many("virtual seconds", millis / 1_000);
        assert!(self.granted.is_empty(), "slots leak: {:?}", self.granted.keys());
        self.check_requests();
        if self.status == JobStatus::Finished {
            assert!(!self.coordinated || self.published, "finished without publication");
        } else {
            let is_kept = self.keeps_results();
            assert!(is_kept || !self.coordinated || !self.deployed || self.was_cleaned_up());
        }
    }

    /// Whether results that are not published may be those of a savepoint.
    fn keeps_results(&self) -> bool {
        let newest = self.savepoints.last().copied().unwrap_or(0);
        self.has_stopped || newest > self.newest
    }
}

fn is_told(action: &Action, what: fn(&to_host::Message) -> bool) -> bool {
    match action {
        Action::Command(_, command) => command.message.message.as_ref().is_some_and(what),
        _ => false,
    }
}

/// One job after the other: if they take checkpoints, until enough has happened behind complete
/// ones.
fn run(seed: u64, trace: &Trace) -> Seen {
    let mut seen = Seen::default();
    for job in 0..JOBS_MAX {
        let mut world = World::new(seed, job, trace.clone());
        world.run();
        seen.add(&world.seen);
        if seen.count(simulation::STEPS) >= STEPS_LEAST {
            return seen;
        }
    }
    panic!("too little happens behind complete checkpoints: {seen}");
}

#[test]
fn whatever_happens_a_job_ends_once_and_leaves_nothing() {
    simulation::World { name: "jobs", seeds: SEEDS, least: sums::LEAST }.simulate(run);
}
