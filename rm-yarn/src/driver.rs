//! Workers in YARN's containers: the actor around the application master.
//!
//! It carries out the master's actions and feeds their outcomes back. Calls to the ResourceManager
//! run in a task of their own, one at a time, and those to NodeManagers in others, so that no
//! heartbeat waits for them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use millstream_rm_driver::{
    ClusterStatus, DriverEvent, DriverEvents, RequestId, ResourceManagerDriver, WorkerRequest,
};
use millstream_types::TaskManagerId;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep_until, timeout};

use crate::application_master::{Action, ApplicationMaster, Event, Settings};
use crate::ids::AttemptId;
use crate::ipc::{Identity, Options};
use crate::launch::WorkerLaunch;
use crate::node_manager::NodeManagers;
use crate::proto::yarn::FinishApplicationMasterResponseProto;
use crate::resource_manager::ResourceManager;

/// Limit on waiting commands. The actor takes them at once, so a full queue means that it is gone.
const COMMANDS_MAX: usize = 1 << 16;
/// Number of commands taken from the queue at once.
const TOGETHER_MAX: usize = 1024;
/// Time limit for reporting the cluster's end to YARN. An end that is not reported counts as a
/// failure, so this is as long as Hadoop's own masters try.
const FINISH_DEADLINE: Duration = Duration::from_secs(15 * 60);
/// Time limit for stopping the last containers at their NodeManagers; the ResourceManager stops
/// them too.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// Settings of the driver.
#[derive(Debug)]
pub struct YarnDriverConfig {
    /// The ResourceManager's service for ApplicationMasters, as the AMRMToken, patient for 15
    /// minutes at least.
    pub resource_manager: ResourceManager,
    /// For calls to NodeManagers.
    pub node_manager_options: Options,
    /// This attempt.
    pub attempt: AttemptId,
    /// The host at which clients reach this cluster.
    pub host: String,
    /// The port of its REST server.
    pub rest_port: u16,
    /// Where the ResourceManager's web proxy finds it; may be empty.
    pub tracking_url: String,
    /// Where its history will be found when it has ended; may be empty.
    pub history_url: String,
    /// The kind of all workers.
    pub worker: WorkerRequest,
    /// Number of virtual cores of each worker.
    pub vcores: u32,
    /// The label of the nodes for workers, if not the queue's own.
    pub node_label: Option<String>,
    /// The time between two heartbeats (`yarn.heartbeat.interval`).
    pub heartbeat_interval: Duration,
    /// The same while workers are being waited for (`yarn.heartbeat.container-request-interval`).
    pub pending_interval: Duration,
    /// A node on which so many workers failed to start is avoided; 0: never.
    pub node_failures_max: u32,
}

#[derive(Debug)]
enum Command {
    Request { request: RequestId, memory_mb: i64 },
    Withdraw(RequestId),
    Release(TaskManagerId),
    Deregister { status: ClusterStatus, diagnostics: String, done: oneshot::Sender<()> },
}

/// The driver of a cluster on YARN; it lives in the container of the ApplicationMaster. A worker is
/// called like its container.
#[derive(Debug)]
pub struct YarnDriver {
    worker: WorkerRequest,
    requests: u64,
    commands: mpsc::Sender<Command>,
}

impl YarnDriver {
    /// Starts on the current runtime. It registers with YARN in the background; a registration
    /// that fails is [`DriverEvent::Fatal`].
    #[must_use]
    pub fn start(
        config: YarnDriverConfig,
        launch: Box<dyn WorkerLaunch>,
        events: DriverEvents,
    ) -> Self {
        let (commands, received) = mpsc::channel(COMMANDS_MAX);
        let worker = config.worker;
        let identity = config.resource_manager.identity().clone();
        let settings = Settings {
            attempt: config.attempt,
            host: config.host,
            rest_port: config.rest_port,
            tracking_url: config.tracking_url,
            history_url: config.history_url,
            vcores: config.vcores,
            node_label: config.node_label,
            heartbeat_interval: config.heartbeat_interval,
            pending_interval: config.pending_interval,
            node_failures_max: config.node_failures_max,
        };
        let (answers, answered) = mpsc::channel(1);
        let actor = Actor {
            master: ApplicationMaster::new(settings),
            resource_manager: Some(config.resource_manager),
            call: None,
            answers,
            identities: [identity.clone(), identity],
            nodes: NodeManagers::new(launch, config.node_manager_options),
            events,
            outbox: VecDeque::new(),
            done: None,
        };
        tokio::spawn(actor.run(received, answered));
        Self { worker, requests: 0, commands }
    }

    fn command(&self, command: Command) {
        if let Err(error) = self.commands.try_send(command) {
            // Full or closed: the actor has ended, and has said why.
            tracing::debug!(%error, "the driver has ended");
        }
    }
}

impl ResourceManagerDriver for YarnDriver {
    fn obtainable(&self) -> Option<WorkerRequest> {
        Some(self.worker)
    }

    fn request(&mut self, worker: WorkerRequest) -> RequestId {
        self.requests += 1;
        let request = RequestId::new(self.requests);
        let memory_mb = worker.memory_process.as_bytes().div_ceil(1 << 20);
        let memory_mb = i64::try_from(memory_mb).unwrap_or(i64::MAX);
        self.command(Command::Request { request, memory_mb });
        request
    }

    fn withdraw(&mut self, request: RequestId) {
        self.command(Command::Withdraw(request));
    }

    fn release(&mut self, worker: &TaskManagerId) {
        self.command(Command::Release(worker.clone()));
    }

    fn deregister(&mut self, status: ClusterStatus, diagnostics: String) -> BoxFuture<'static, ()> {
        let (done, ended) = oneshot::channel();
        self.command(Command::Deregister { status, diagnostics, done });
        Box::pin(async move {
            let _ = ended.await;
        })
    }
}

#[derive(Debug)]
struct Deregistration {
    until: tokio::time::Instant,
    done: oneshot::Sender<()>,
}

/// The ResourceManager comes back with each answer.
type Answer = (ResourceManager, Event);

#[derive(Debug)]
struct Actor {
    master: ApplicationMaster,
    /// Here between two calls.
    resource_manager: Option<ResourceManager>,
    call: Option<JoinHandle<()>>,
    answers: mpsc::Sender<Answer>,
    /// The newest token for the ResourceManager, and the one before.
    identities: [Identity; 2],
    nodes: NodeManagers,
    events: DriverEvents,
    /// Events that the ResourceManager had no room for; as many as there are workers.
    outbox: VecDeque<DriverEvent>,
    done: Option<Deregistration>,
}

impl Actor {
    async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut answers: mpsc::Receiver<Answer>,
    ) {
        let mut happened = vec![Event::Tick];
        let mut dropped = false;
        loop {
            for action in self.master.on_events(Instant::now(), happened.drain(..)) {
                if action == Action::End {
                    return self.end().await;
                }
                self.carry_out(action);
            }
            let deadline = self.master.deadline().map(tokio::time::Instant::from_std);
            let finish_by = self.done.as_ref().map(|done| done.until);
            tokio::select! {
                command = commands.recv(), if !dropped => match command {
                    Some(command) => {
                        happened.push(self.on_command(command));
                        // Requests come in crowds, and one call tells of all.
                        while happened.len() < TOGETHER_MAX
                            && let Ok(command) = commands.try_recv()
                        {
                            happened.push(self.on_command(command));
                        }
                    }
                    None => {
                        dropped = true;
                        happened.push(Event::Dropped);
                    }
                },
                Some((resource_manager, event)) = answers.recv() => {
                    self.resource_manager = Some(resource_manager);
                    happened.push(event);
                }
                outcomes = self.nodes.next() => happened.extend(
                    outcomes
                        .into_iter()
                        .map(|(container, outcome)| Event::Started { container, outcome }),
                ),
                () = post_first(&self.events, &self.outbox), if !self.outbox.is_empty() => {
                    self.outbox.pop_front();
                }
                () = until(deadline) => happened.push(Event::Tick),
                () = until(finish_by) => {
                    tracing::warn!("YARN could not be told in time how the cluster ended");
                    return self.end().await;
                }
            };
        }
    }

    fn on_command(&mut self, command: Command) -> Event {
        match command {
            Command::Request { request, memory_mb } => Event::Requested { request, memory_mb },
            Command::Withdraw(request) => Event::Withdrawn(request),
            Command::Release(worker) => Event::Released(worker),
            Command::Deregister { status, diagnostics, done } => {
                let until = tokio::time::Instant::now() + FINISH_DEADLINE;
                self.done = Some(Deregistration { until, done });
                Event::Deregister { status, diagnostics }
            }
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Register(_) | Action::Allocate(_) | Action::Finish(_) => self.call(action),
            Action::Start(start) => self.nodes.start(start),
            Action::Stop { container, node } => self.nodes.stop(container, node),
            Action::NodeToken { node, token } => self.nodes.identify_as(node, token),
            Action::NewToken(token) => {
                let [newest, _] = &self.identities;
                self.identities = [Identity::Token(token), newest.clone()];
                self.identify();
            }
            Action::OtherToken => {
                self.identities.reverse();
                self.identify();
            }
            Action::Post(event) => self.outbox.push_back(event),
            Action::End => {}
        }
        self.post();
    }

    fn identify(&mut self) {
        let [identity, _] = &self.identities;
        if let Some(manager) = &mut self.resource_manager {
            manager.identify_as(identity.clone());
        }
    }

    /// Posts what there is room for, so that workers are named before they are started.
    fn post(&mut self) {
        while let Some(event) = self.outbox.pop_front() {
            if !self.events.try_post(event.clone()) {
                return self.outbox.push_front(event);
            }
        }
    }

    fn call(&mut self, action: Action) {
        let Some(mut manager) = self.resource_manager.take() else { return };
        let answers = self.answers.clone();
        self.call = Some(tokio::spawn(async move {
            if let Some(event) = ask(&mut manager, action).await {
                let _ = answers.send((manager, event)).await;
            }
        }));
    }

    async fn end(mut self) {
        if let Some(call) = self.call.take() {
            call.abort();
        }
        let stopped = async {
            while !self.nodes.is_idle() {
                self.nodes.next().await;
            }
        };
        if self.done.is_some() && timeout(STOP_DEADLINE, stopped).await.is_err() {
            tracing::debug!("the last containers are left to the ResourceManager to stop");
        }
        while let Some(event) = self.outbox.pop_front() {
            self.events.post(event).await;
        }
        if let Some(Deregistration { done, .. }) = self.done {
            let _ = done.send(());
        }
    }
}

async fn until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Cancel-safe: the event is then not posted.
async fn post_first(events: &DriverEvents, outbox: &VecDeque<DriverEvent>) {
    if let Some(event) = outbox.front() {
        events.post(event.clone()).await;
    }
}

/// Makes the call that is wanted.
async fn ask(manager: &mut ResourceManager, action: Action) -> Option<Event> {
    Some(match action {
        Action::Register(request) => Event::Registered(
            manager.call("registerApplicationMaster", &request).await.map(Box::new),
        ),
        Action::Allocate(request) => {
            Event::Allocated(manager.call("allocate", &*request).await.map(Box::new))
        }
        Action::Finish(request) => {
            let answer = manager.call("finishApplicationMaster", &request).await;
            Event::Finished(
                answer.map(|it: FinishApplicationMasterResponseProto| it.is_unregistered()),
            )
        }
        _ => return None,
    })
}
