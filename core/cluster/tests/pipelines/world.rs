//! The world around a job: it gives turns to the parts of hosts, and carries all messages.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_api::Program;
use millstream_checkpoint::messages::Now;
use millstream_connectors::Random;
use millstream_gateway::testing::TestingTaskManager;
use millstream_gateway::{
    AllocatedSlot, CauseKind, FailureCause, HostExit, JobMasterEvent, JobSubmission,
    TaskManagerGateway,
};
use millstream_graph::JobGraph;
use millstream_jobmaster::{Action, Event, IdSource, JobMaster, JobMasterConfig, Timer, TimerKind};
use millstream_protocol::host::{Alive, Begin, FromHost, Shutdown, ToHost, from_host, to_host};
use millstream_soak::simulation::{self, Seen, Trace};
use millstream_types::{
    AllocationId, ArtifactHash, HostId, JobId, JobStatus, ManualClock, ResourceProfile, SlotId,
    TaskManagerId, Timestamp,
};

use crate::host::{End, Host};
use crate::ledger::Ledger;
use crate::legs::Leave;
use crate::network::Network;
use crate::program::{Plan, Trouble};
use crate::storage::Storage;

/// The most steps of a job.
const STEPS_MAX: u64 = 300_000;
/// The longest time of a step, in nanoseconds.
const STEP_NS: u64 = 60_000;
/// The name of the place where the coordinator host runs.
const COORDINATORS: &str = "coordinators";

/// Fills with a counter, so that ids are small numbers.
struct Counting(u128);

impl IdSource for Counting {
    fn fill(&mut self, bytes: &mut [u8]) {
        self.0 += 1;
        bytes.fill(0);
        let end = bytes.len();
        bytes[end - 16..].copy_from_slice(&self.0.to_be_bytes());
    }
}

/// A message of the JobMaster on its way to a TaskManager.
#[derive(Debug)]
enum Order {
    Start(HostId, Box<Begin>),
    Tell(HostId, Box<ToHost>),
    /// By force after so long.
    Stop(HostId, Duration),
}

/// A turn of one part of the world.
#[derive(Debug, Clone)]
enum Turn {
    /// News of this sender arrive at the JobMaster.
    News(String),
    /// An order arrives at this TaskManager.
    Order(String),
    Storage,
    Grant,
    Timer,
    /// A fault that lasted for a while is over.
    Recovery,
    Part(HostId, usize),
    Wire(HostId, HostId),
}

/// The process that is to be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    FirstTasks,
    LastTasks,
    Coordinators,
}

/// The JobMaster of a job with this number.
fn master_of(job: u128, graph: JobGraph, clock: &ManualClock) -> JobMaster {
    let submission = JobSubmission {
        job: JobId::from_u128(job << 96),
        graph: Arc::new(graph),
        artifact: ArtifactHash::new([0; 32]),
        artifact_size: 0,
    };
    let config = JobMasterConfig {
        heartbeat_timeout: Duration::from_secs(1),
        heartbeat_interval: Duration::from_millis(200),
        exchange_hold: Duration::from_millis(20),
        ..JobMasterConfig::default()
    };
    let now = Now { instant: clock.clock().now(), wall: clock.clock().wall() };
    let (coordinators, _) = TestingTaskManager::new(COORDINATORS);
    JobMaster::new(submission, &config, coordinators, Box::new(Counting(job << 32)), now)
}

pub struct World {
    pub random: Random,
    pub plan: Plan,
    pub clock: ManualClock,
    master: JobMaster,
    pub program: Arc<Program>,
    pub ledger: Ledger,
    pub trouble: Trouble,
    /// News on their way to the JobMaster, in order of each sender.
    pub streams: BTreeMap<String, VecDeque<(Instant, JobMasterEvent)>>,
    /// Orders on their way to TaskManagers, in order.
    orders: BTreeMap<String, VecDeque<(Instant, Order)>>,
    timers: Vec<(Instant, Timer)>,
    pub storage: Storage,
    pub network: Network,
    pub hosts: BTreeMap<HostId, Host>,
    pub workers: BTreeMap<String, Arc<TestingTaskManager>>,
    workers_ever: u32,
    free: Vec<(String, u32)>,
    declared: u32,
    granted: BTreeMap<AllocationId, SlotId>,
    allocations: u128,
    /// The faults that are still to come.
    pub faults_left: u64,
    /// The sink takes nothing until then.
    pub stalled_until: Option<Instant>,
    /// So many of the next snapshots cannot be written.
    pub declines: u64,
    /// The jobs that are still to follow.
    pub legs_left: u64,
    pub leave: Option<Leave>,
    pub requests: u128,
    jobs: u128,
    /// Kills a process at a step.
    pub kill: Option<(u64, Victim)>,
    has_ended: bool,
    status: JobStatus,
    pub seen: Seen,
    trace: Trace,
    shows: bool,
    start: Instant,
}

impl World {
    pub fn new(plan: Plan, random: Random, faults_left: u64, legs_left: u64, trace: Trace) -> Self {
        let clock = ManualClock::at(Timestamp::from_millis(1_000_000));
        let start = clock.clock().now();
        let (ledger, trouble) = (Ledger::new(plan.expected()), Trouble::default());
        let (program, graph) = plan.build(None, &clock.clock(), &ledger, &trouble);
        let master = master_of(1, graph, &clock);
        let mut world = Self {
            random,
            plan,
            clock,
            master,
            program: Arc::new(program),
            ledger,
            trouble,
            streams: BTreeMap::new(),
            orders: BTreeMap::new(),
            timers: Vec::new(),
            storage: Storage::default(),
            network: Network::default(),
            hosts: BTreeMap::new(),
            workers: BTreeMap::new(),
            workers_ever: 0,
            free: Vec::new(),
            declared: 0,
            granted: BTreeMap::new(),
            allocations: 0,
            faults_left,
            stalled_until: None,
            declines: 0,
            legs_left,
            leave: None,
            requests: 0,
            jobs: 1,
            kill: None,
            has_ended: false,
            status: JobStatus::Initializing,
            seen: Seen::default(),
            trace,
            shows: std::env::var_os("PIPELINES_SHOW").is_some(),
            start,
        };
        // Enough for any parallelism.
        (0..4 - world.plan.per_worker).for_each(|_| world.add_worker());
        world
    }

    /// The next job begins where one has ended.
    pub fn begin_job(&mut self, graph: JobGraph) {
        self.jobs += 1;
        self.master = master_of(self.jobs, graph, &self.clock);
        self.timers.clear();
        self.orders.clear();
        (self.has_ended, self.declared, self.status) = (false, 0, JobStatus::Initializing);
        assert!(self.granted.is_empty(), "slots leak: {:?}", self.granted);
    }

    pub fn now(&self) -> Instant {
        self.clock.clock().now()
    }

    /// Takes no more orders to a TaskManager.
    pub fn forget_worker(&mut self, worker: &str) {
        self.workers.remove(worker);
        self.free.retain(|(on, _)| on != worker);
        self.granted.retain(|_, slot| slot.task_manager.as_str() != worker);
    }

    pub fn add_worker(&mut self) {
        self.workers_ever += 1;
        let name = format!("tm{}", self.workers_ever);
        self.free.extend((0..self.plan.per_worker).map(|slot| (name.clone(), slot)));
        let (gateway, _) = TestingTaskManager::new(&name);
        self.workers.insert(name, gateway);
    }

    /// The time at which a message that is sent now arrives: most at once, some late.
    fn arrival(&mut self) -> Instant {
        let micros = match self.random.below(8) {
            0 => self.random.below(8_000),
            1..4 => self.random.below(300),
            _ => 0,
        };
        self.now() + Duration::from_micros(micros)
    }

    pub fn post(&mut self, from: &str, news: JobMasterEvent) {
        let is_worker = from.starts_with("tm");
        let late = if is_worker && !self.workers.contains_key(from) { 500 } else { 1 };
        let due = self.arrival() + Duration::from_millis(self.random.below(late));
        self.streams.entry(from.to_owned()).or_default().push_back((due, news));
    }

    // --- the JobMaster's side ---

    pub fn event(&mut self, event: Event) {
        match &event {
            // A gateway shows where it is in memory.
            Event::Gateway(JobMasterEvent::SlotsGranted(slots)) => self.noted(&slots.len()),
            Event::Gateway(JobMasterEvent::HostMessage { host, message }) => {
                self.noted(host);
                self.note(message);
            }
            Event::StartFrom(loaded) => self.noted(&loaded.metadata.checkpoint),
            event => self.noted(event),
        }
        let clock = self.clock.clock();
        let now = Now { instant: clock.now(), wall: clock.wall() };
        for action in self.master.on_event(now, event) {
            self.carry_out(action);
        }
    }

    /// Notes what happens, and shows it if the environment asks for it by `PIPELINES_SHOW`.
    pub fn noted(&self, what: &impl std::fmt::Debug) {
        if self.shows {
            let at = self.now().saturating_duration_since(self.start);
            let _ = writeln!(std::io::stdout(), "{:>9} us {what:?}", at.as_micros());
        }
        self.trace.note(what);
    }

    /// Notes a message. The order of a map's entries in a snapshot is not always the same.
    fn note(&self, message: &FromHost) {
        match &message.message {
            Some(from_host::Message::CheckpointAck(ack)) => {
                self.noted(&(&ack.task, ack.checkpoint, &ack.metrics, &ack.committables));
            }
            other => self.noted(other),
        }
    }

    fn order(&mut self, on: &Arc<dyn TaskManagerGateway>, order: Order) {
        let due = self.arrival();
        self.orders.entry(on.id().as_str().to_owned()).or_default().push_back((due, order));
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::DeclareSlots(slots) => {
                self.declared = slots.iter().map(|slots| slots.count).sum();
            }
            Action::ReleaseSlots(slots) => {
                for slot in slots.iter().filter_map(|slot| self.granted.remove(slot)) {
                    self.free.push((slot.task_manager.as_str().to_owned(), slot.index));
                }
            }
            Action::StartHost(on, start) => {
                self.order(&on, Order::Start(start.host, Box::new(start.begin)));
            }
            Action::Command(on, command) => {
                self.order(&on, Order::Tell(command.host, Box::new(command.message)));
            }
            Action::StopHost(on, host, grace) => self.order(&on, Order::Stop(host, grace)),
            Action::SetTimer(timer, after) => self.timers.push((self.now() + after, timer)),
            Action::Storage(request) => {
                let due = self.arrival();
                self.storage.ask(due, request);
            }
            Action::Publish => self.on_details(),
            Action::End => self.has_ended = true,
        }
    }

    fn on_details(&mut self) {
        let details = self.master.details();
        self.status = details.status;
    }

    fn deliver(&mut self, from: &str) -> bool {
        let now = self.now();
        let Some(stream) = self.streams.get_mut(from) else { return false };
        let Some((_, news)) = stream.pop_front_if(|(due, _)| *due <= now) else { return false };
        if stream.is_empty() {
            self.streams.remove(from);
        }
        if let JobMasterEvent::HostMessage { message, .. } = &news {
            self.count(message);
            let is_lost = from.starts_with("tm") && !self.workers.contains_key(from);
            self.seen.many("heard of a lost host", u64::from(is_lost));
        }
        self.event(Event::Gateway(news));
        true
    }

    fn count(&mut self, message: &FromHost) {
        match &message.message {
            Some(from_host::Message::CheckpointAck(ack)) => {
                let metrics = ack.metrics.unwrap_or_default();
                self.seen.many("unaligned snapshot", u64::from(metrics.unaligned));
                self.seen.many("snapshot with records", u64::from(metrics.persisted_bytes > 0));
            }
            Some(from_host::Message::CheckpointDeclined(_)) => self.seen.one("snapshot declined"),
            _ => {}
        }
    }

    // --- the side of the TaskManagers ---

    fn obey(&mut self, on: &str) -> bool {
        let now = self.now();
        let Some(orders) = self.orders.get_mut(on) else { return false };
        let Some((_, order)) = orders.pop_front_if(|(due, _)| *due <= now) else { return false };
        if orders.is_empty() {
            self.orders.remove(on);
        }
        if on != COORDINATORS && !self.workers.contains_key(on) {
            return true; // The news of its loss is on its way.
        }
        match &order {
            Order::Tell(host, _) => self.noted(host),
            order => self.noted(order),
        }
        match order {
            Order::Start(host, begin) => self.start(host, on, &begin),
            Order::Tell(host, message) => self.tell(host, *message),
            Order::Stop(host, grace) => {
                self.tell(host, ToHost { message: Some(to_host::Message::Shutdown(Shutdown {})) });
                if let Some(host) = self.hosts.get_mut(&host) {
                    host.killed_at = Some(now + grace);
                }
            }
        }
        true
    }

    fn tell(&mut self, host: HostId, message: ToHost) {
        let Some(told) = self.hosts.get(&host) else { return };
        let takes_over = matches!(message.message, Some(to_host::Message::TakeOver(_)));
        self.seen.many("coordinators taken over", u64::from(takes_over));
        if let Some(to_host::Message::Deploy(deploy)) = &message.message {
            let deploy = deploy.clone();
            told.tell(message);
            let restored = deploy.tasks.iter().filter(|task| task.restored > 0).count();
            self.seen.many("task restored", restored as u64);
            self.connect(host, &deploy);
        } else {
            told.tell(message);
        }
    }

    fn start(&mut self, id: HostId, on: &str, begin: &Begin) {
        match Host::start(begin, on, &self.program, &self.clock.clock()) {
            Ok(host) => {
                self.hosts.insert(id, host);
                self.hear(id);
            }
            Err(why) => self.exited(id, on, FailureCause::new(CauseKind::Error, why)),
        }
    }

    /// Takes what a host has said.
    fn hear(&mut self, id: HostId) {
        let Some(host) = self.hosts.get_mut(&id) else { return };
        let (on, mut said) = (host.on.clone(), Vec::new());
        while let Some(message) = host.said() {
            said.push(message);
        }
        for message in said {
            let message = self.said(message);
            self.post(&on, JobMasterEvent::HostMessage { host: id, message: Box::new(message) });
        }
    }

    fn exited(&mut self, host: HostId, on: &str, cause: FailureCause) {
        let stderr_tail = String::new();
        self.post(on, JobMasterEvent::HostExited(HostExit { host, cause, stderr_tail }));
    }

    /// A host's process ends.
    pub fn end(&mut self, id: HostId, cause: FailureCause) {
        let Some(host) = self.hosts.remove(&id) else { return };
        self.exited(id, &host.on, cause);
        drop(host);
        self.disconnect(id);
    }

    fn part(&mut self, id: HostId, part: usize) -> bool {
        let now = self.now();
        let choice = self.random.below(1 << 20) as usize;
        let Some(host) = self.hosts.get_mut(&id) else { return false };
        if host.killed_at.is_some_and(|at| at <= now) {
            self.end(id, FailureCause::new(CauseKind::Requested, "was killed"));
            return true;
        }
        if host.is_silent(now) {
            return false;
        }
        let (done, end) = host.turn(part, choice, now);
        self.hear(id);
        match end {
            None => {}
            Some(End::Asked) => {
                self.end(id, FailureCause::new(CauseKind::Requested, "was told to end"));
            }
            Some(End::Failed(why)) => self.end(id, FailureCause::new(CauseKind::Error, why)),
        }
        done
    }

    fn grant(&mut self) -> bool {
        let missing = (self.declared as usize).saturating_sub(self.granted.len());
        let count = missing.min(self.free.len());
        if count == 0 || self.has_ended {
            return false;
        }
        let mut slots = Vec::new();
        for _ in 0..1 + self.random.below(count as u64) {
            let at = self.random.below(self.free.len() as u64) as usize;
            let (worker, index) = self.free.swap_remove(at);
            self.allocations += 1;
            let allocation = AllocationId::from_u128(self.allocations);
            let slot = SlotId { task_manager: TaskManagerId::new(worker.clone()), index };
            self.granted.insert(allocation, slot.clone());
            let gateway = Arc::clone(&self.workers[&worker]);
            let (profile, address) = (ResourceProfile::UNKNOWN, format!("{worker}.local"));
            slots.push(AllocatedSlot { allocation, slot, profile, address, gateway });
        }
        self.post("resourcemanager", JobMasterEvent::SlotsGranted(slots));
        true
    }

    fn time_out(&mut self) -> bool {
        let now = self.now();
        let due = self.timers.iter().enumerate().filter(|(_, (due, _))| *due <= now);
        let Some((at, _)) = due.min_by_key(|(_, (due, _))| *due) else { return false };
        let (_, timer) = self.timers.remove(at);
        self.event(Event::Timer(timer));
        if timer.kind == TimerKind::Heartbeat {
            self.show_life();
        }
        true
    }

    /// All hosts that do not hang do.
    fn show_life(&mut self) {
        let now = self.now();
        let alive = self.hosts.iter().filter(|(_, host)| !host.is_silent(now));
        let alive: Vec<(HostId, String)> = alive.map(|(id, it)| (*id, it.on.clone())).collect();
        for (host, on) in alive {
            self.hosts[&host].send_metrics();
            self.hear(host);
            let message = FromHost { message: Some(from_host::Message::Alive(Alive {})) };
            self.post(&on, JobMasterEvent::HostMessage { host, message: Box::new(message) });
        }
    }

    // --- turns ---

    /// The turns of all parts that may have something to do.
    fn turns(&mut self) -> Vec<Turn> {
        let mut turns = vec![Turn::Storage, Turn::Grant, Turn::Timer, Turn::Recovery];
        turns.extend(self.streams.keys().cloned().map(Turn::News));
        turns.extend(self.orders.keys().cloned().map(Turn::Order));
        for (id, host) in &mut self.hosts {
            turns.extend((0..host.parts()).map(|part| Turn::Part(*id, part)));
        }
        turns.extend(self.network.directions().map(|(from, to)| Turn::Wire(from, to)));
        turns
    }

    fn take(&mut self, turn: &Turn) -> bool {
        match turn {
            Turn::News(from) => self.deliver(from),
            Turn::Order(on) => self.obey(on),
            Turn::Storage => self.answer(),
            Turn::Grant => self.grant(),
            Turn::Timer => self.time_out(),
            Turn::Recovery => self.recover(),
            Turn::Part(host, part) => self.part(*host, *part),
            Turn::Wire(from, to) => self.carry((*from, *to)),
        }
    }

    /// One part of the world does the next thing; if none can, time passes until something is due.
    pub fn step(&mut self) {
        self.break_something();
        self.have_job_leave();
        let turns = self.turns();
        let first = self.random.below(turns.len() as u64) as usize;
        let order = turns[first..].iter().chain(&turns[..first]);
        let taken = order.into_iter().find(|turn| self.take(turn));
        self.noted(&taken);
        let passed = match taken {
            Some(_) => Duration::from_nanos(self.random.below(STEP_NS)),
            None => {
                let due = self.next_time().unwrap_or_else(|| {
                    panic!("the job waits for nothing: {:?}", self.master.details())
                });
                due.saturating_duration_since(self.now())
            }
        };
        self.clock.advance(passed);
    }

    fn next_time(&self) -> Option<Instant> {
        let now = self.now();
        let streams = self.streams.values().filter_map(|it| it.front()).map(|(due, _)| *due);
        let orders = self.orders.values().filter_map(|it| it.front()).map(|(due, _)| *due);
        let timers = self.timers.iter().map(|(due, _)| *due);
        let hosts = self.hosts.values().filter_map(|host| host.next_time(now));
        let all = streams.chain(orders).chain(timers).chain(hosts);
        all.chain(self.storage.next_time()).chain(self.stalled_until).min()
    }

    /// Runs until the results are complete: the number of steps.
    pub fn run(&mut self) -> u64 {
        self.event(Event::Start);
        let mut steps = 0;
        while !self.has_ended || self.go_on(&self.master.details()) {
            if let Some((at, victim)) = self.kill
                && at == steps
            {
                self.kill_victim(victim);
            }
            self.step();
            steps += 1;
            self.seen.many(simulation::STEPS, u64::from(self.storage.has_any()));
            if let Some(fault) = self.ledger.fault() {
                panic!("{fault}: {:?}", self.plan);
            }
            assert!(steps < STEPS_MAX, "the job does not end: {:#?}", self.master.details());
        }
        self.finish(steps);
        steps
    }

    fn finish(&mut self, steps: u64) {
        self.hand_in_late_news();
        assert!(self.granted.is_empty(), "slots leak: {:?}", self.granted);
        let details = self.master.details();
        let ended = (details.status, self.ledger.missing());
        let causes = details.exceptions.iter().map(|it| it.cause.message.as_str());
        let causes: Vec<&str> = causes.collect();
        assert_eq!(ended, (JobStatus::Finished, None), "{:?} {causes:#?}", self.plan);
        self.seen.many("steps", steps);
        self.seen.one("finished");
        let passed = self.now().saturating_duration_since(self.start);
        self.seen.many("virtual milliseconds", passed.as_millis() as u64);
        let [results, full, repeated, discarded, back] = self.ledger.counts();
        self.seen.many("result published", results);
        self.seen.many("sink full", full);
        self.seen.many("commit repeated", repeated);
        self.seen.many("part discarded", discarded);
        self.seen.many("record handed back", back);
    }
}
