//! The processes of one job: the users, progress and signs of life of each.
//!
//! A host is in the table from its start until its end was heard. It gives signs of life even while
//! its user code is busy. Silence is counted in intervals that this JobMaster has lived through
//! itself: when its own timer is late, the machine was busy or asleep, and messages of that time
//! may still be unread.
//!
//! # Restart policy
//! A task host that is lost is replaced when the regions begin again that had tasks in it, or when
//! all do: then every host is a new one. The coordinator host is replaced once, because a host must
//! discard the unpublished results; and as often as the restart strategy allows where its
//! enumerators restart alone.

#[cfg(test)]
mod random_tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use millstream_gateway::{
    CauseKind, FailureCause, HostCommand, HostExit, JobSubmission, StartHost, TaskLocation,
    TaskManagerGateway,
};
use millstream_protocol::HOST_PROTOCOL;
use millstream_protocol::host::{Begin, Checkpointing, Credentials, Role, ToHost, to_host};
use millstream_protocol::job;
use millstream_types::{HostId, LeaderEpoch, TaskManagerId, Timestamp};

use crate::causes;
use crate::config::JobMasterConfig;
use crate::ids::{HOST_LIFETIME, IdSource};

/// The number of coordinator hosts that one attempt may start.
const COORDINATORS_MAX: u32 = 2;

/// The part of the JobMaster that needs a host and hears of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum User {
    /// The tasks that run in it.
    Tasks,
    /// The settlement, whose enumerators and committers run in it.
    Settlement,
}

/// A host that someone needs.
#[derive(Debug)]
pub(crate) enum Need {
    /// A process for the tasks of a TaskManager's slots.
    Tasks {
        /// The TaskManager.
        on: Arc<dyn TaskManagerGateway>,
        /// Its address.
        address: String,
        /// The numbers of its slots.
        slots: Vec<u32>,
    },
    /// The process of enumerators and committers.
    Coordinator,
}

/// An event of the hosts.
#[expect(clippy::large_enum_variant, reason = "one at a time")]
#[derive(Debug)]
pub(crate) enum Event {
    /// An attempt of the job begins; no host is left of the one before.
    Attempt {
        number: u32,
        /// The part of its processes in checkpoints, if the job takes any.
        checkpointing: Option<Checkpointing>,
    },
    /// Earlier coordinator hosts of the attempt do not count any more, and the next one begins so:
    /// under the newest attempt of a task.
    ReplaceCoordinators { attempt: u32, checkpointing: Option<Checkpointing> },
    /// A host is needed.
    Need(Need),
    /// A message came from a host.
    Heard(HostId),
    /// A host takes commands from now on.
    Ready {
        host: HostId,
        /// The address of its data port; empty for the coordinator host.
        data_address: String,
    },
    /// A host says that it cannot go on.
    Broken { host: HostId, cause: FailureCause },
    /// A host has ended.
    Exited(HostExit),
    /// A TaskManager is gone, and with it its hosts.
    WorkerLost { worker: TaskManagerId, cause: FailureCause },
    /// A host shall be told this, if it is in a state to hear it.
    Tell(HostId, to_host::Message),
    /// A host shall end; after so long, by force.
    Stop(HostId, Duration),
    /// Every host shall end.
    StopAll,
    /// From now on silence counts.
    Watch,
    /// Silence does not count any more.
    Unwatch,
    /// The timer for signs of life has run out.
    Heartbeat { generation: u64 },
}

/// An instruction for the router, or news for the users.
#[derive(Debug)]
pub(crate) enum Action {
    Start(Arc<dyn TaskManagerGateway>, StartHost),
    Tell(Arc<dyn TaskManagerGateway>, HostCommand),
    Stop(Arc<dyn TaskManagerGateway>, HostId, Duration),
    /// Set the timer for signs of life.
    SetTimer {
        generation: u64,
        after: Duration,
    },
    /// A host that was needed has this name.
    Started {
        user: User,
        host: HostId,
        on: TaskManagerId,
    },
    /// The coordinator host is not replaced once more.
    NotReplaced,
    /// A host takes commands from now on.
    Ready {
        user: User,
        host: HostId,
        data_address: String,
    },
    /// Nothing more will come of a host's work.
    Lost(Loss),
}

/// A host whose work is lost.
#[derive(Debug)]
pub(crate) struct Loss {
    pub(crate) user: User,
    pub(crate) host: HostId,
    /// The place where it ran, if it ran tasks.
    pub(crate) location: Option<TaskLocation>,
    pub(crate) cause: FailureCause,
    pub(crate) how: How,
}

/// The way in which the work of a host was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum How {
    /// It says that it cannot go on; its process is about to end.
    Broken,
    /// It said nothing and is being killed, so that it does not wake up in the middle of what
    /// follows.
    Silent,
    /// Its process has ended.
    Ended {
        /// True if it had not been stopped and had not said that it would end.
        unasked: bool,
        /// The end of its standard error, if it had been stopped.
        last_words: Option<String>,
    },
}

/// The state of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// It has not said that it is ready.
    Starting,
    /// It takes commands.
    Ready { data_port: Option<u16> },
    /// It said that it cannot go on and is about to exit.
    Broken,
    /// It was told to end.
    Stopping,
}

/// One process.
#[derive(Debug)]
struct Host {
    user: User,
    on: Arc<dyn TaskManagerGateway>,
    address: String,
    state: State,
    /// The time since its last message, while silence counted.
    silent_for: Duration,
    /// The time of its newest certificate, if it has one.
    certified: Option<Timestamp>,
}

impl Host {
    fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready { .. })
    }

    fn location(&self, host: HostId) -> Option<TaskLocation> {
        let data_port = match self.state {
            State::Ready { data_port } => data_port,
            State::Starting | State::Broken | State::Stopping => None,
        };
        (self.user == User::Tasks).then(|| TaskLocation {
            task_manager: self.on.id().clone(),
            address: self.address.clone(),
            host,
            data_port,
        })
    }

    /// A description for people.
    fn description(&self) -> String {
        match self.user {
            User::Tasks => format!("the task host on TaskManager {}", self.on.id()),
            User::Settlement => "the coordinator host".to_owned(),
        }
    }

    fn loss(&self, host: HostId, cause: FailureCause, how: How) -> Loss {
        Loss { user: self.user, host, location: self.location(host), cause, how }
    }
}

/// The port of an address like `[::1]:7`.
pub(crate) fn port_of(data_address: &str) -> Option<u16> {
    data_address.rsplit_once(':')?.1.parse().ok()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// The decider of a job's processes.
pub(crate) struct Hosts {
    submission: JobSubmission,
    /// The graph as hosts are told it.
    graph: job::JobGraph,
    coordinators: Arc<dyn TaskManagerGateway>,
    ids: Box<dyn IdSource>,
    epoch: LeaderEpoch,
    heartbeat_interval: Duration,
    heartbeat_timeout: Duration,
    stop_grace: Duration,

    now: Timestamp,
    attempt: u32,
    checkpointing: Option<Checkpointing>,
    /// The same of the next coordinator host.
    coordinators_begin: (u32, Option<Checkpointing>),
    /// The secret that the attempt's task hosts share.
    token: Vec<u8>,
    /// The number of coordinator hosts that this attempt has started.
    coordinators_started: u32,
    table: BTreeMap<HostId, Host>,
    /// Since when the present interval for signs of life lasts, while silence counts.
    watched_since: Option<Timestamp>,
    generation: u64,
    actions: Vec<Action>,
}

impl Hosts {
    /// No processes yet. `coordinators` starts coordinator hosts.
    pub(crate) fn new(
        submission: JobSubmission,
        config: &JobMasterConfig,
        coordinators: Arc<dyn TaskManagerGateway>,
        ids: Box<dyn IdSource>,
        now: Timestamp,
    ) -> Self {
        Self {
            graph: submission.graph.as_ref().into(),
            submission,
            coordinators,
            ids,
            epoch: config.epoch,
            heartbeat_interval: config.sign_of_life_interval(),
            heartbeat_timeout: config.heartbeat_timeout,
            stop_grace: config.stop_grace,
            now,
            attempt: 0,
            checkpointing: None,
            coordinators_begin: (0, None),
            token: Vec::new(),
            coordinators_started: 0,
            table: BTreeMap::new(),
            watched_since: None,
            generation: 0,
            actions: Vec::new(),
        }
    }

    /// Takes an event in and says what to do, in this order.
    pub(crate) fn on_event(&mut self, now: Timestamp, event: Event) -> Vec<Action> {
        self.now = now;
        match event {
            Event::Attempt { number, checkpointing } => {
                self.attempt = number;
                self.coordinators_begin = (number, checkpointing.clone());
                self.checkpointing = checkpointing;
                self.token = self.ids.token().to_vec();
                self.coordinators_started = 0;
            }
            Event::ReplaceCoordinators { attempt, checkpointing } => {
                self.coordinators_started = 0;
                self.coordinators_begin = (attempt, checkpointing);
            }
            Event::Need(need) => self.start(need),
            Event::Heard(host) => {
                if let Some(host) = self.table.get_mut(&host) {
                    host.silent_for = Duration::ZERO;
                }
            }
            Event::Ready { host, data_address } => self.on_ready(host, data_address),
            Event::Broken { host, cause } => self.on_broken(host, cause),
            Event::Exited(exit) => self.on_exited(&exit),
            Event::WorkerLost { worker, cause } => self.on_worker_lost(&worker, &cause),
            Event::Tell(host, message) => self.tell(host, message),
            Event::Stop(host, grace) => self.stop(host, grace),
            Event::StopAll => {
                let hosts: Vec<HostId> = self.table.keys().copied().collect();
                hosts.into_iter().for_each(|host| self.stop(host, self.stop_grace));
            }
            Event::Watch => self.watch(),
            Event::Unwatch => {
                self.generation += 1;
                self.watched_since = None;
            }
            Event::Heartbeat { generation } => {
                if generation == self.generation {
                    self.on_heartbeat();
                }
            }
        }
        std::mem::take(&mut self.actions)
    }

    /// The user of a host that is up, and true if it takes commands.
    pub(crate) fn user_of(&self, host: HostId) -> Option<(User, bool)> {
        self.table.get(&host).map(|host| (host.user, host.is_ready()))
    }

    /// The task hosts that are up and none of these.
    pub(crate) fn others(&self, than: &BTreeSet<HostId>) -> Vec<HostId> {
        let hosts = self.table.iter().filter(|(_, host)| host.user == User::Tasks);
        hosts.map(|(id, _)| *id).filter(|id| !than.contains(id)).collect()
    }

    /// The number of hosts that are up.
    pub(crate) fn count(&self) -> usize {
        self.table.len()
    }

    /// The number of hosts that are up and take no commands.
    pub(crate) fn count_not_ready(&self) -> usize {
        self.table.values().filter(|host| !host.is_ready()).count()
    }

    fn start(&mut self, need: Need) {
        let id = self.ids.host_id();
        let mut begin = self.begin(id);
        let (user, on, address, slots) = match need {
            Need::Tasks { on, address, slots } => {
                begin.role = Role::TaskHost.into();
                begin.exchange_token.clone_from(&self.token);
                begin.credentials = self.ids.host_credentials(self.submission.job, id);
                (User::Tasks, on, address, slots)
            }
            Need::Coordinator if self.coordinators_started == COORDINATORS_MAX => {
                return self.actions.push(Action::NotReplaced);
            }
            Need::Coordinator => {
                self.coordinators_started += 1;
                begin.role = Role::Coordinator.into();
                (begin.attempt, begin.checkpointing) = self.coordinators_begin.clone();
                let on = Arc::clone(&self.coordinators);
                (User::Settlement, on, String::new(), Vec::new())
            }
        };
        let certified = (!begin.credentials.is_empty()).then_some(self.now);
        let start = StartHost {
            host: id,
            artifact: self.submission.artifact,
            artifact_size: self.submission.artifact_size,
            slots,
            begin,
        };
        self.actions.push(Action::Start(Arc::clone(&on), start));
        self.actions.push(Action::Started { user, host: id, on: on.id().clone() });
        let (state, silent_for) = (State::Starting, Duration::ZERO);
        self.table.insert(id, Host { user, on, address, state, silent_for, certified });
    }

    fn begin(&self, host: HostId) -> Begin {
        Begin {
            major: HOST_PROTOCOL.major,
            minor: HOST_PROTOCOL.minor,
            job_id: self.submission.job.as_bytes().to_vec(),
            job_graph: Some(self.graph.clone()),
            host_id: host.as_bytes().to_vec(),
            epoch: self.epoch.get(),
            attempt: self.attempt,
            heartbeat_interval_ms: millis(self.heartbeat_interval),
            checkpointing: self.checkpointing.clone(),
            ..Begin::default()
        }
    }

    fn on_ready(&mut self, id: HostId, data_address: String) {
        let Some(host) = self.table.get_mut(&id) else { return };
        if host.state == State::Starting {
            host.state = State::Ready { data_port: port_of(&data_address) };
            let user = host.user;
            self.actions.push(Action::Ready { user, host: id, data_address });
        }
    }

    /// Its process ends soon; its tasks have ended already.
    fn on_broken(&mut self, id: HostId, cause: FailureCause) {
        let Some(host) = self.table.get_mut(&id) else { return };
        if matches!(host.state, State::Starting | State::Ready { .. }) {
            host.state = State::Broken;
            self.actions.push(Action::Lost(host.loss(id, cause, How::Broken)));
        }
    }

    fn on_exited(&mut self, exit: &HostExit) {
        let Some(host) = self.table.remove(&exit.host) else { return };
        let stopped = host.state == State::Stopping;
        let last_words = stopped.then(|| exit.stderr_tail.clone());
        self.on_ended(exit.host, &host, causes::of_exit(exit), last_words);
    }

    fn on_worker_lost(&mut self, worker: &TaskManagerId, cause: &FailureCause) {
        let lost: Vec<_> = self.table.extract_if(.., |_, host| host.on.id() == worker).collect();
        for (id, host) in lost {
            self.on_ended(id, &host, cause.clone(), None);
        }
    }

    fn on_ended(&mut self, id: HostId, host: &Host, cause: FailureCause, words: Option<String>) {
        let unasked = !matches!(host.state, State::Stopping | State::Broken);
        let how = How::Ended { unasked, last_words: words };
        self.actions.push(Action::Lost(host.loss(id, cause, how)));
    }

    fn tell(&mut self, id: HostId, message: to_host::Message) {
        if let Some(host) = self.table.get(&id).filter(|host| host.is_ready()) {
            let command = HostCommand { host: id, message: ToHost { message: Some(message) } };
            self.actions.push(Action::Tell(Arc::clone(&host.on), command));
        }
    }

    fn stop(&mut self, id: HostId, grace: Duration) {
        if let Some(host) = self.table.get_mut(&id)
            && host.state != State::Stopping
        {
            host.state = State::Stopping;
            self.actions.push(Action::Stop(Arc::clone(&host.on), id, grace));
        }
    }

    fn watch(&mut self) {
        self.watched_since = Some(self.now);
        let (generation, after) = (self.generation, self.heartbeat_interval);
        self.actions.push(Action::SetTimer { generation, after });
    }

    /// An interval has passed.
    fn on_heartbeat(&mut self) {
        let Some(since) = self.watched_since else { return };
        let passed = self.now.saturating_since(since).min(self.heartbeat_interval);
        let mut silent = Vec::new();
        for (id, host) in self.table.iter_mut().filter(|(_, host)| host.is_ready()) {
            host.silent_for = host.silent_for.saturating_add(passed);
            if host.silent_for >= self.heartbeat_timeout {
                silent.push(*id);
            }
        }
        for id in &silent {
            let Some(host) = self.table.get(id) else { continue };
            let message = format!(
                "{} said nothing for {:?} and was killed: its process was stopped, or something \
                 kept it from speaking",
                host.description(),
                self.heartbeat_timeout
            );
            let loss = host.loss(*id, FailureCause::new(CauseKind::Stuck, message), How::Silent);
            self.stop(*id, Duration::ZERO);
            self.actions.push(Action::Lost(loss));
        }
        self.renew_certificates();
        self.watch();
    }

    /// Gives hosts that have used up half the validity of their certificates new ones.
    fn renew_certificates(&mut self) {
        let now = self.now;
        let is_old = |at: Timestamp| now.saturating_since(at) >= HOST_LIFETIME / 2;
        let ready = self.table.iter_mut().filter(|(_, host)| host.is_ready());
        let mut old = Vec::new();
        for (id, host) in ready.filter(|(_, host)| host.certified.is_some_and(is_old)) {
            host.certified = Some(now);
            old.push(*id);
        }
        for id in old {
            let credentials = self.ids.host_credentials(self.submission.job, id);
            self.tell(id, to_host::Message::Credentials(Credentials { credentials }));
        }
    }
}
