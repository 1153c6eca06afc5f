//! Decides what an ApplicationMaster says to YARN; pure, given the time.
//!
//! ```text
//! Unregistered ──registered──▶ Registered ──unregistered, or the attempt is over──▶ Ended
//!      ▲                           │
//!      └── the ResourceManager ────┘
//!          has forgotten us
//! ```
//!
//! Each request for a worker has a scheduler key of its own (`allocation_request_id`) with a count
//! of one. So a count is never stale: it was not answered yet, or there is nothing to say about
//! it. A container is matched by that key alone, never by its size, and one whose key is
//! not open is released at once.
//!
//! # Invariants
//! - one call to the ResourceManager at a time, composed when it is sent;
//! - a request is answered at most once, and no container is kept that answers none;
//! - the holder of a container hears of its end once, and not at all after releasing it;
//! - open requests, releases and the blacklist are repeated after every registration, because the
//!   ResourceManager may have forgotten them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use millstream_rm_driver::{ClusterStatus, DriverEvent, RequestId};
use millstream_types::TaskManagerId;

use crate::completion::{self, Blame};
use crate::credentials::Token;
use crate::ids::{AttemptId, ContainerId, Node};
use crate::ipc::IpcError;
use crate::node_manager::{StartError, WorkerStart};
use crate::proto::yarn::{
    AllocateRequestProto, AllocateResponseProto, AmCommandProto, ContainerProto,
    ContainerStatusProto, FinalApplicationStatusProto, FinishApplicationMasterRequestProto,
    NmTokenProto, NodeReportProto, NodeStateProto, PreemptionMessageProto, PriorityProto,
    RegisterApplicationMasterRequestProto, RegisterApplicationMasterResponseProto, ResourceProto,
    ResourceRequestProto,
};

mod answers;
mod blacklist;
mod calls;
mod refusal;
#[cfg(test)]
mod tests;

use blacklist::Blacklist;
use refusal::Refusal;

/// All workers ask with this priority; the master itself has 0.
const PRIORITY: i32 = 1;
/// The pause between two heartbeats right after something was asked for; doubled from there.
const PAUSE_SHORTEST: Duration = Duration::from_millis(50);
/// The pause after a refusal that may go away, and between two attempts to unregister.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
const FINISH_PAUSE: Duration = Duration::from_millis(100);
/// Longest time for which the ResourceManager may refuse our token, as it may after a failover.
const TOKEN_REFUSED_MAX: Duration = Duration::from_secs(60);
/// Longest time for which it may refuse every call for other reasons.
const REFUSED_MAX: Duration = Duration::from_secs(600);
/// Number of times in a row that the ResourceManager may reject the number of a message.
const WRONG_IDS_MAX: u32 = 3;
/// A worker that ends sooner than this has failed to start.
const START_TIME: Duration = Duration::from_secs(60);
/// After how long a wait for containers is explained, and how often it is explained again.
const EXPLAIN_AFTER: Duration = Duration::from_secs(5);
const EXPLAIN_INTERVAL: Duration = Duration::from_secs(30);
/// Limit on releases remembered until YARN reports that the containers ended.
const RELEASES_MAX: usize = 10_000;

/// Settings that stay the same while the master runs.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) attempt: AttemptId,
    pub(crate) host: String,
    pub(crate) rest_port: u16,
    pub(crate) tracking_url: String,
    pub(crate) history_url: String,
    pub(crate) vcores: u32,
    pub(crate) node_label: Option<String>,
    pub(crate) heartbeat_interval: Duration,
    pub(crate) pending_interval: Duration,
    pub(crate) node_failures_max: u32,
}

/// Inputs of the decider. Answers belong to the call that was decided last.
pub(crate) enum Event {
    Requested {
        request: RequestId,
        memory_mb: i64,
    },
    Withdrawn(RequestId),
    Released(TaskManagerId),
    Registered(Result<Box<RegisterApplicationMasterResponseProto>, IpcError>),
    Allocated(Result<Box<AllocateResponseProto>, IpcError>),
    /// Whether the end is on the books.
    Finished(Result<bool, IpcError>),
    Started {
        container: ContainerId,
        outcome: Result<(), StartError>,
    },
    /// The cluster has ended.
    Deregister {
        status: ClusterStatus,
        diagnostics: String,
    },
    /// The driver was dropped without deregistering the cluster.
    Dropped,
    Tick,
}

/// Outputs of the decider, for the actor to carry out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    Register(RegisterApplicationMasterRequestProto),
    Allocate(Box<AllocateRequestProto>),
    Finish(FinishApplicationMasterRequestProto),
    Start(Box<WorkerStart>),
    Stop {
        container: ContainerId,
        node: Node,
    },
    NodeToken {
        node: Node,
        token: Token,
    },
    /// Show this to the ResourceManager from now on, and keep the one before.
    NewToken(Token),
    /// Show the token before, or again the newest.
    OtherToken,
    Post(DriverEvent),
    /// There is nothing left to say.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Unregistered,
    Registered,
    Ended,
}

#[derive(Debug)]
struct Request {
    memory_mb: i64,
    /// Whether the ResourceManager has it on its books.
    asked: bool,
}

#[derive(Debug)]
struct Held {
    node: Node,
    since: Instant,
    draining: bool,
}

/// Content of the heartbeat under way, to be repeated if the call fails.
#[derive(Debug, Default)]
struct Told {
    asks: Vec<RequestId>,
    withdrawn: Vec<(RequestId, i64)>,
    releases: Vec<ContainerId>,
}

#[derive(Debug)]
struct Finish {
    status: ClusterStatus,
    diagnostics: String,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct ApplicationMaster {
    settings: Settings,
    phase: Phase,
    /// Whether a call is under way.
    calling: bool,
    recovered: bool,
    response_id: i32,
    maximum: Option<ResourceProto>,
    nodes: usize,
    requests: BTreeMap<RequestId, Request>,
    /// On the ResourceManager's books, but not wanted any more.
    withdrawn: BTreeMap<RequestId, i64>,
    held: BTreeMap<ContainerId, Held>,
    /// Containers whose start has no outcome yet, whether still held or already released.
    starting: BTreeMap<ContainerId, Node>,
    /// Released and not reported as ended; whether the ResourceManager was told.
    released: BTreeMap<ContainerId, bool>,
    told: Told,
    blacklist: Blacklist,
    wrong_ids: u32,
    refused_since: Option<Instant>,
    finish: Option<Finish>,
    dropped: bool,
    last_call: Option<Instant>,
    pause: Duration,
    not_before: Option<Instant>,
    /// Since when requests are open without any answer, and when that was said last.
    waits_since: Option<Instant>,
    wait_told: Option<Instant>,
}

impl ApplicationMaster {
    pub(crate) fn new(settings: Settings) -> Self {
        let blacklist = Blacklist::new(settings.node_failures_max);
        Self {
            settings,
            phase: Phase::Unregistered,
            calling: false,
            recovered: false,
            response_id: 0,
            maximum: None,
            nodes: 1,
            requests: BTreeMap::new(),
            withdrawn: BTreeMap::new(),
            held: BTreeMap::new(),
            starting: BTreeMap::new(),
            released: BTreeMap::new(),
            told: Told::default(),
            blacklist,
            wrong_ids: 0,
            refused_since: None,
            finish: None,
            dropped: false,
            last_call: None,
            pause: PAUSE_SHORTEST,
            not_before: None,
            waits_since: None,
            wait_told: None,
        }
    }

    /// Takes in what happened and says what follows; one call tells of all of it.
    pub(crate) fn on_events(
        &mut self,
        now: Instant,
        events: impl IntoIterator<Item = Event>,
    ) -> Vec<Action> {
        let mut actions = Vec::new();
        for event in events {
            if self.phase != Phase::Ended {
                self.on_event(now, event, &mut actions);
            } else if let Event::Deregister { .. } | Event::Dropped = event {
                actions.push(Action::End);
            }
        }
        let withdrawn = self.withdrawn.is_empty() && !self.calling;
        if self.dropped && withdrawn && self.finish.is_none() && self.phase != Phase::Ended {
            self.phase = Phase::Ended;
            actions.push(Action::End);
        }
        self.next_call(now, &mut actions);
        actions
    }

    fn on_event(&mut self, now: Instant, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::Requested { request, memory_mb } => {
                self.on_requested(request, memory_mb, actions);
            }
            Event::Withdrawn(request) => self.withdraw(request),
            Event::Released(worker) => {
                if let Ok(container) = worker.as_str().parse() {
                    self.release(container, actions);
                }
            }
            Event::Registered(answer) => self.on_registered(now, answer, actions),
            Event::Allocated(Ok(answer)) => self.on_allocated(now, *answer, actions),
            Event::Allocated(Err(error)) => {
                self.calling = false;
                self.on_refused(now, Refusal::from(&error), actions);
            }
            Event::Finished(answer) => self.on_finished(now, answer, actions),
            Event::Started { container, outcome } => {
                self.on_started(now, container, outcome, actions);
            }
            Event::Deregister { status, diagnostics } => {
                self.give_everything_back(actions);
                self.finish = Some(Finish { status, diagnostics });
            }
            Event::Dropped => {
                let open: Vec<RequestId> = self.requests.keys().copied().collect();
                open.into_iter().for_each(|request| self.withdraw(request));
                self.dropped = true;
            }
            Event::Tick => {}
        }
    }

    /// When to be called again if nothing happens until then.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.calling || self.phase == Phase::Ended {
            true => None,
            false => self.due(),
        }
    }

    /// When the next call is due; none: at once.
    fn due(&self) -> Option<Instant> {
        let heartbeat = match (self.phase, &self.finish) {
            (Phase::Registered, None) => self.last_call.map(|last| last + self.interval()),
            (Phase::Unregistered | Phase::Registered | Phase::Ended, _) => None,
        };
        heartbeat.max(self.not_before)
    }

    fn interval(&self) -> Duration {
        let news = self.blacklist.has_news()
            || !self.withdrawn.is_empty()
            || self.requests.values().any(|request| !request.asked)
            || self.released.values().any(|told| !told);
        match (news, self.requests.is_empty()) {
            (true, _) => PAUSE_SHORTEST,
            (false, false) => self.pause,
            (false, true) => self.settings.heartbeat_interval,
        }
    }

    fn on_requested(&mut self, request: RequestId, memory_mb: i64, actions: &mut Vec<Action>) {
        if let Some(reason) = self.beyond_maximum(memory_mb) {
            actions.push(Action::Post(DriverEvent::RequestFailed { request, reason }));
        } else if self.finish.is_none() {
            self.requests.insert(request, Request { memory_mb, asked: false });
        }
    }

    fn withdraw(&mut self, id: RequestId) {
        if let Some(request) = self.requests.remove(&id)
            && request.asked
        {
            self.withdrawn.insert(id, request.memory_mb);
        }
    }

    /// Gives a container back, both to its node and to the ResourceManager.
    fn release(&mut self, container: ContainerId, actions: &mut Vec<Action>) {
        let Some(held) = self.held.remove(&container) else { return };
        if !self.starting.contains_key(&container) {
            actions.push(Action::Stop { container, node: held.node });
        }
        self.give_back(container);
    }

    fn give_back(&mut self, container: ContainerId) {
        self.released.insert(container, false);
        if self.released.len() > RELEASES_MAX {
            // The oldest that was told: its end will not be reported any more.
            let told = self.released.iter().find(|(_, told)| **told).map(|(id, _)| *id);
            told.map(|id| self.released.remove(&id));
        }
    }

    fn give_everything_back(&mut self, actions: &mut Vec<Action>) {
        self.requests.clear();
        let held: Vec<ContainerId> = self.held.keys().copied().collect();
        held.into_iter().for_each(|container| self.release(container, actions));
    }

    fn beyond_maximum(&self, memory_mb: i64) -> Option<String> {
        let maximum = self.maximum.as_ref()?;
        if memory_mb > maximum.memory() {
            return Some(format!(
                "a worker needs {memory_mb} MB but YARN gives a container {} MB at most \
                 (yarn.scheduler.maximum-allocation-mb, or the queue's own maximum): lower \
                 taskmanager.memory.process.size",
                maximum.memory()
            ));
        }
        let vcores = i32::try_from(self.settings.vcores).unwrap_or(i32::MAX);
        (vcores > maximum.virtual_cores()).then(|| {
            format!(
                "a worker needs {vcores} vcores but YARN gives a container {} at most \
                 (yarn.scheduler.maximum-allocation-vcores, or the queue's own maximum): lower \
                 yarn.containers.vcores or taskmanager.numberOfTaskSlots",
                maximum.virtual_cores()
            )
        })
    }

    fn on_registered(
        &mut self,
        now: Instant,
        answer: Result<Box<RegisterApplicationMasterResponseProto>, IpcError>,
        actions: &mut Vec<Action>,
    ) {
        self.calling = false;
        let answer = match answer.map_err(|error| Refusal::from(&error)) {
            Ok(answer) => *answer,
            Err(Refusal::AlreadyRegistered) => RegisterApplicationMasterResponseProto::default(),
            Err(refusal) if self.recovered => return self.on_refused(now, refusal, actions),
            Err(refusal) => {
                let reason = format!("failed to register with YARN: {}", refusal.text());
                return self.fail(reason, actions);
            }
        };
        self.refused_since = None;
        self.phase = Phase::Registered;
        self.last_call = None;
        self.response_id = 0;
        self.untold();
        let attempt = self.settings.attempt;
        tracing::info!(%attempt, queue = answer.queue(), "registered with YARN");
        self.maximum = answer.maximum_capability.or(self.maximum.take());
        take_node_tokens(answer.nm_tokens_from_previous_attempts, actions);
        let containers = answer.containers_from_previous_attempts;
        self.on_recovered(now, containers, actions);
        self.validate(actions);
    }

    /// Nothing that was ever said counts any more.
    fn untold(&mut self) {
        self.told = Told::default();
        self.withdrawn.clear();
        self.requests.values_mut().for_each(|request| request.asked = false);
        self.released.values_mut().for_each(|told| *told = false);
        self.blacklist.untold();
    }

    /// Refuses what no container can be big enough for.
    fn validate(&mut self, actions: &mut Vec<Action>) {
        let impossible: Vec<(RequestId, String)> = self
            .requests
            .iter()
            .filter_map(|(id, request)| Some((*id, self.beyond_maximum(request.memory_mb)?)))
            .collect();
        for (request, reason) in impossible {
            self.withdraw(request);
            actions.push(Action::Post(DriverEvent::RequestFailed { request, reason }));
        }
    }

    fn on_recovered(
        &mut self,
        now: Instant,
        containers: Vec<ContainerProto>,
        actions: &mut Vec<Action>,
    ) {
        let mut found = Vec::new();
        for container in containers {
            let id = ContainerId::from(&container.id.unwrap_or_default());
            if self.held.contains_key(&id) || self.released.contains_key(&id) {
                continue;
            }
            let node = Node::from(container.node_id.unwrap_or_default());
            self.held.insert(id, Held { node, since: now, draining: false });
            found.push(worker(id));
        }
        if !self.recovered || !found.is_empty() {
            self.recovered = true;
            actions.push(Action::Post(DriverEvent::Recovered(found)));
        }
    }
}

fn worker(container: ContainerId) -> TaskManagerId {
    TaskManagerId::new(container.to_string())
}

fn take_node_tokens(tokens: Vec<NmTokenProto>, actions: &mut Vec<Action>) {
    for one in tokens {
        let (node, token) = (one.node_id.unwrap_or_default().into(), one.token);
        if let Some(token) = token.map(Token::from) {
            actions.push(Action::NodeToken { node, token });
        }
    }
}
