//! Carries out what slot manager and worker fleet decide.
//!
//! One task owns both. It never waits for a JobMaster: each has a courier, a task that delivers its
//! events in order. A JobMaster that has ended, or leaves [`UNREAD_MAX`] events unread, counts as
//! gone and loses its slots.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use millstream_gateway::{
    AllocatedSlot, CauseKind, Explanation, FailureCause, JobMasterEvent, JobMasterGateway,
    RegistrationRefused, ResourceManagerGateway, SlotRequirement, Stopped, TaskManagerDetails,
    TaskManagerGateway, TaskManagerHeartbeat, TaskManagerRegistration,
};
use millstream_rm_driver::{
    ClusterStatus, DriverEvent, DriverEventReceiver, RequestId, ResourceManagerDriver,
};
use millstream_types::{AllocationId, JobId, TaskManagerId, Timestamp};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::slot_manager::{Action, Event, Obtainable, SlotManager};
use crate::worker_fleet::{self, FleetConfig, WorkerFleet};

/// The number of events that a JobMaster may leave unread.
const UNREAD_MAX: usize = 1024;
/// The number of lost workers that wait for the external manager's reason.
const UNEXPLAINED_MAX: usize = 1024;
/// The number of messages that may wait for the ResourceManager.
const MESSAGES_MAX: usize = 1024;
/// The number of messages that are handled before the driver is told what follows.
const MESSAGES_PER_TURN: usize = 64;
/// The time between two looks at timeouts.
const TICK: Duration = Duration::from_secs(1);
/// The time that a TaskManager may take to answer whether it lives.
const LIFE_PATIENCE: Duration = Duration::from_secs(3);
/// More slots than any real TaskManager has; keeps a mad registration from eating the memory.
const SLOTS_MAX: u32 = 4096;

/// The settings of the ResourceManager.
#[derive(Debug, Clone)]
pub struct ResourceManagerConfig {
    /// The rules for workers that are started on demand.
    pub fleet: FleetConfig,
    /// Grants are named from here upwards; random, so that names differ from those of an earlier
    /// leader.
    pub first_allocation: u128,
}

impl ResourceManagerConfig {
    /// Flink's defaults, and the given first name of a grant.
    #[must_use]
    pub fn new(first_allocation: u128) -> Self {
        Self { fleet: FleetConfig::default(), first_allocation }
    }
}

/// The reason why the ResourceManager ended by itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResourceManagerError {
    /// The driver cannot go on; the process should end.
    #[error("the ResourceManager's driver failed: {0}")]
    Driver(String),
}

enum Message {
    Declare {
        owner: Arc<dyn JobMasterGateway>,
        requirements: Vec<SlotRequirement>,
    },
    Release(Vec<AllocationId>),
    Register(Newcomer),
    /// The TaskManager that has the name of one that wants to join was asked whether it lives.
    Contested {
        newcomer: Newcomer,
        known: Arc<dyn TaskManagerGateway>,
        lives: bool,
    },
    Heartbeat(TaskManagerId, TaskManagerHeartbeat),
    Lost(Arc<dyn TaskManagerGateway>, FailureCause),
    TaskManagers(oneshot::Sender<Vec<TaskManagerDetails>>),
    JobMasterGone(Arc<dyn JobMasterGateway>),
    Stop(ClusterStatus, String),
}

impl Message {
    /// False if the driver cannot have anything to do because of it.
    const fn changes_slots(&self) -> bool {
        !matches!(self, Self::Heartbeat(..) | Self::TaskManagers(_))
    }
}

/// A TaskManager that wants to join.
struct Newcomer {
    registration: TaskManagerRegistration,
    gateway: Arc<dyn TaskManagerGateway>,
    reply: oneshot::Sender<Result<(), RegistrationRefused>>,
}

/// The ResourceManager, as everyone else sees it.
#[derive(Debug, Clone)]
pub struct ResourceManagerHandle {
    messages: mpsc::Sender<Message>,
}

impl ResourceManagerHandle {
    async fn send(&self, message: Message) -> Result<(), Stopped> {
        self.messages.send(message).await.map_err(|_| Stopped)
    }

    /// Ends the ResourceManager: the external manager is told that the cluster ended, how, and
    /// more about it in words. Ending it twice changes nothing.
    pub async fn stop(&self, status: ClusterStatus, diagnostics: String) {
        let _ = self.send(Message::Stop(status, diagnostics)).await;
    }
}

impl ResourceManagerGateway for ResourceManagerHandle {
    fn declare(
        &self,
        owner: Arc<dyn JobMasterGateway>,
        requirements: Vec<SlotRequirement>,
    ) -> BoxFuture<'_, Result<(), Stopped>> {
        Box::pin(self.send(Message::Declare { owner, requirements }))
    }

    fn release(&self, allocations: Vec<AllocationId>) -> BoxFuture<'_, Result<(), Stopped>> {
        Box::pin(self.send(Message::Release(allocations)))
    }

    fn register(
        &self,
        registration: TaskManagerRegistration,
        gateway: Arc<dyn TaskManagerGateway>,
    ) -> BoxFuture<'_, Result<(), RegistrationRefused>> {
        Box::pin(async move {
            let stopped = || RegistrationRefused(Stopped.to_string());
            let (reply, answer) = oneshot::channel();
            let message = Message::Register(Newcomer { registration, gateway, reply });
            self.send(message).await.map_err(|_| stopped())?;
            answer.await.unwrap_or_else(|_| Err(stopped()))
        })
    }

    fn heartbeat(
        &self,
        task_manager: TaskManagerId,
        heartbeat: TaskManagerHeartbeat,
    ) -> BoxFuture<'_, Result<(), Stopped>> {
        Box::pin(self.send(Message::Heartbeat(task_manager, heartbeat)))
    }

    fn lost(
        &self,
        gateway: Arc<dyn TaskManagerGateway>,
        cause: FailureCause,
    ) -> BoxFuture<'_, Result<(), Stopped>> {
        Box::pin(self.send(Message::Lost(gateway, cause)))
    }

    fn task_managers(&self) -> BoxFuture<'_, Result<Vec<TaskManagerDetails>, Stopped>> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            self.send(Message::TaskManagers(reply)).await?;
            answer.await.map_err(|_| Stopped)
        })
    }
}

/// Starts the ResourceManager on the current runtime. The task ends after
/// [`ResourceManagerHandle::stop`], or with the driver's fatal error.
#[must_use]
pub fn start_resource_manager(
    config: &ResourceManagerConfig,
    driver: Box<dyn ResourceManagerDriver>,
    events: DriverEventReceiver,
) -> (ResourceManagerHandle, JoinHandle<Result<(), ResourceManagerError>>) {
    let (messages, received) = mpsc::channel(MESSAGES_MAX);
    let kind = driver.obtainable();
    let fleet = kind.map(|kind| WorkerFleet::new(kind, config.fleet.clone()));
    let slots_max = config.fleet.slots_max;
    let obtainable = kind.map(|kind| Obtainable { kind, slots_max });
    let actor = Actor {
        slots: SlotManager::new(obtainable, config.first_allocation),
        fleet,
        driver,
        workers: BTreeMap::new(),
        jobs: BTreeMap::new(),
        waits_for: None,
        unexplained: VecDeque::new(),
        to_self: messages.downgrade(),
    };
    let task = tokio::spawn(actor.run(received, events));
    (ResourceManagerHandle { messages }, task)
}

#[derive(Debug)]
struct Worker {
    registration: TaskManagerRegistration,
    gateway: Arc<dyn TaskManagerGateway>,
    registered_at: Timestamp,
    last_heartbeat: Timestamp,
    heartbeat: TaskManagerHeartbeat,
}

#[derive(Debug)]
struct Job {
    owner: Arc<dyn JobMasterGateway>,
    courier: mpsc::Sender<JobMasterEvent>,
}

/// A worker that a job lost, while the external manager has not said why. The job may be about to
/// end, and hold and need no slots any more.
#[derive(Debug)]
struct Unexplained {
    worker: TaskManagerId,
    courier: mpsc::Sender<JobMasterEvent>,
}

#[derive(Debug)]
struct Actor {
    slots: SlotManager,
    fleet: Option<WorkerFleet>,
    driver: Box<dyn ResourceManagerDriver>,
    workers: BTreeMap<TaskManagerId, Worker>,
    jobs: BTreeMap<JobId, Job>,
    /// The reason why the driver has no worker yet.
    waits_for: Option<String>,
    /// The jobs that lost workers for an unknown reason, the newest first.
    unexplained: VecDeque<Unexplained>,
    to_self: mpsc::WeakSender<Message>,
}

impl Actor {
    async fn run(
        mut self,
        mut messages: mpsc::Receiver<Message>,
        mut events: DriverEventReceiver,
    ) -> Result<(), ResourceManagerError> {
        let mut tick = tokio::time::interval(TICK);
        let mut driver_lives = true;
        let mut news = Vec::new();
        loop {
            tokio::select! {
                count = messages.recv_many(&mut news, MESSAGES_PER_TURN) => {
                    let mut changes = false;
                    for message in news.drain(..) {
                        if let Message::Stop(status, diagnostics) = message {
                            self.driver.deregister(status, diagnostics).await;
                            return Ok(());
                        }
                        changes |= message.changes_slots();
                        self.on_message(message);
                    }
                    if count == 0 {
                        return Ok(());
                    }
                    if !changes {
                        continue;
                    }
                },
                event = events.next(), if driver_lives => match event {
                    None => driver_lives = false,
                    Some(event) => self.on_driver_event(event)?,
                },
                _ = tick.tick() => {}
            }
            self.drive();
        }
    }

    fn on_message(&mut self, message: Message) {
        match message {
            Message::Declare { owner, requirements } => {
                let job = owner.job();
                self.remember(owner);
                self.apply(Event::Declared { job, requirements });
            }
            Message::Release(allocations) => self.apply(Event::Released(allocations)),
            Message::Register(newcomer) => self.on_newcomer(newcomer),
            Message::Contested { newcomer, known, lives } => {
                self.on_contested(newcomer, &known, lives);
            }
            Message::Heartbeat(id, heartbeat) => {
                if let Some(worker) = self.workers.get_mut(&id) {
                    worker.heartbeat = heartbeat;
                    worker.last_heartbeat = Timestamp::now();
                }
            }
            Message::Lost(gateway, cause) => {
                let current = self.workers.get(gateway.id());
                if current.is_some_and(|worker| same(&worker.gateway, &gateway)) {
                    if let Some(fleet) = &mut self.fleet {
                        fleet.on_lost(Instant::now().into_std(), gateway.id());
                    }
                    self.lose(&gateway.id().clone(), cause);
                }
            }
            Message::TaskManagers(reply) => {
                let _ = reply.send(self.details());
            }
            Message::JobMasterGone(owner) => {
                let job = owner.job();
                if self.jobs.get(&job).is_some_and(|known| same(&known.owner, &owner)) {
                    self.apply(Event::JobGone(job));
                }
            }
            Message::Stop(..) => {}
        }
    }

    fn on_driver_event(&mut self, event: DriverEvent) -> Result<(), ResourceManagerError> {
        let now = Instant::now().into_std();
        match event {
            DriverEvent::Recovered(workers) => {
                info!(workers = workers.len(), "driver is ready");
                workers.into_iter().for_each(|worker| self.on_starting(None, worker));
            }
            DriverEvent::Allocated { request, worker } => {
                info!(%request, %worker, "worker is starting");
                self.waits_for = None;
                self.on_starting(Some(request), worker);
            }
            DriverEvent::Waiting { reason } => {
                info!(reason, "workers do not come yet");
                self.waits_for = Some(reason);
            }
            DriverEvent::RequestFailed { request, reason } => {
                warn!(%request, reason, "no worker could be obtained");
                if let Some(fleet) = &mut self.fleet {
                    fleet.on_request_failed(now, request, &reason);
                }
            }
            DriverEvent::Terminated { worker, reason } => {
                warn!(%worker, reason, "worker ended");
                if let Some(fleet) = &mut self.fleet {
                    fleet.on_terminated(now, &worker, &reason);
                }
                self.explain(&worker, &reason);
                self.dismiss(&worker);
                self.lose(&worker, FailureCause::new(CauseKind::WorkerLost, reason));
            }
            DriverEvent::Draining { worker, reason, .. } => {
                warn!(%worker, reason, "worker will be taken away");
                if let Some(fleet) = &mut self.fleet {
                    fleet.on_draining(&worker);
                }
                self.apply(Event::Draining(worker));
            }
            DriverEvent::Fatal { reason } => return Err(ResourceManagerError::Driver(reason)),
        }
        Ok(())
    }

    fn on_starting(&mut self, request: Option<RequestId>, worker: TaskManagerId) {
        let Some(fleet) = &mut self.fleet else { return };
        // Its registration may be read before the news that it exists.
        let registered = self.workers.contains_key(&worker).then(|| worker.clone());
        fleet.on_starting(Instant::now().into_std(), request, worker);
        if let Some(worker) = registered {
            fleet.on_registered(&worker);
        }
    }

    /// A name that is taken may belong to the same TaskManager, whose connection broke silently:
    /// the registered one is probed.
    fn on_newcomer(&mut self, newcomer: Newcomer) {
        let Some(worker) = self.workers.get(&newcomer.registration.id) else {
            let Newcomer { registration, gateway, reply } = newcomer;
            let _ = reply.send(self.register(registration, gateway));
            return;
        };
        let (known, to_self) = (Arc::clone(&worker.gateway), self.to_self.clone());
        tokio::spawn(async move {
            let answer = tokio::time::timeout(LIFE_PATIENCE, known.list_files()).await;
            let lives = matches!(answer, Ok(Ok(_)));
            if let Some(messages) = to_self.upgrade() {
                let _ = messages.send(Message::Contested { newcomer, known, lives }).await;
            }
        });
    }

    fn on_contested(
        &mut self,
        newcomer: Newcomer,
        known: &Arc<dyn TaskManagerGateway>,
        lives: bool,
    ) {
        if newcomer.reply.is_closed() {
            return;
        }
        match self.workers.get(&newcomer.registration.id) {
            Some(worker) if !same(&worker.gateway, known) => return self.on_newcomer(newcomer),
            Some(worker) if lives => {
                let TaskManagerRegistration { id, address, pid, .. } = &worker.registration;
                let _ = newcomer.reply.send(Err(RegistrationRefused(format!(
                    "another TaskManager of the name {id} is registered and lives (process {pid} \
                     on {address}): give each one a taskmanager.resource-id of its own"
                ))));
                return;
            }
            Some(_) | None => {}
        }
        let Newcomer { registration, gateway, reply } = newcomer;
        let _ = reply.send(self.register(registration, gateway));
    }

    fn register(
        &mut self,
        registration: TaskManagerRegistration,
        gateway: Arc<dyn TaskManagerGateway>,
    ) -> Result<(), RegistrationRefused> {
        let (id, slots) = (registration.id.clone(), registration.slots);
        let profile = registration.slot_profile;
        if slots == 0 || slots > SLOTS_MAX {
            return Err(RegistrationRefused(format!(
                "it offers {slots} slots, but must offer 1 to {SLOTS_MAX} \
                 (taskmanager.numberOfTaskSlots)"
            )));
        }
        if !profile.cpu_cores.is_finite() || profile.cpu_cores < 0.0 || id.as_str().is_empty() {
            return Err(RegistrationRefused("its name or its slot profile is malformed".into()));
        }
        if self.fleet.as_ref().is_some_and(|fleet| fleet.has_ended(&id)) {
            return Err(RegistrationRefused("its container was released, or has ended".into()));
        }
        info!(worker = %id, slots, slot = %profile, "TaskManager registered");
        if let Some(fleet) = &mut self.fleet {
            fleet.on_registered(&id);
        }
        let now = Timestamp::now();
        let heartbeat = TaskManagerHeartbeat::default();
        let worker =
            Worker { registration, gateway, registered_at: now, last_heartbeat: now, heartbeat };
        self.workers.insert(id.clone(), worker);
        self.apply(Event::Registered { worker: id, slots, profile });
        Ok(())
    }

    /// The external manager may be unable to end a worker, on a node that it has lost for example.
    fn dismiss(&self, id: &TaskManagerId) {
        if let Some(worker) = self.workers.get(id) {
            worker.gateway.dismiss();
        }
    }

    /// The news of a worker's end often comes after its connection broke.
    fn explain(&mut self, id: &TaskManagerId, reason: &str) {
        for lost in self.unexplained.iter().filter(|lost| lost.worker == *id) {
            let (task_manager, reason) = (id.clone(), reason.to_owned());
            // A JobMaster that has ended, or reads nothing, does without.
            let _ =
                lost.courier.try_send(JobMasterEvent::TaskManagerEnded { task_manager, reason });
        }
        self.unexplained.retain(|lost| lost.worker != *id);
    }

    fn lose(&mut self, id: &TaskManagerId, cause: FailureCause) {
        if self.workers.remove(id).is_some() {
            warn!(worker = %id, cause = %cause, "TaskManager lost");
            self.apply(Event::Lost { worker: id.clone(), cause });
        }
    }

    fn apply(&mut self, event: Event) {
        let actions = self.slots.on_event(event);
        for action in actions {
            match action {
                Action::Grant { job, slots } => {
                    info!(%job, slots = slots.len(), "slots granted");
                    let slots = slots.into_iter().filter_map(|grant| self.allocated(grant));
                    let slots = slots.collect();
                    self.tell(job, JobMasterEvent::SlotsGranted(slots));
                }
                Action::TellLost { job, worker, cause } => self.tell_lost(job, worker, cause),
                Action::TellNotEnough { job, reason } => {
                    info!(%job, reason, "not enough slots");
                    self.tell(job, JobMasterEvent::NotEnoughSlots(reason));
                }
                Action::TellEnough(job) => self.tell(job, JobMasterEvent::EnoughSlots),
            }
        }
        let slots = &self.slots;
        self.jobs.retain(|job, _| slots.knows(*job));
    }

    fn tell_lost(&mut self, job: JobId, worker: TaskManagerId, cause: FailureCause) {
        let follows = self.fleet.as_ref().is_some_and(|fleet| !fleet.has_ended(&worker));
        let explanation = if follows { Explanation::Follows } else { Explanation::Complete };
        if let Some(known) = self.jobs.get(&job).filter(|_| follows) {
            self.unexplained.truncate(UNEXPLAINED_MAX - 1);
            let (worker, courier) = (worker.clone(), known.courier.clone());
            self.unexplained.push_front(Unexplained { worker, courier });
        }
        let lost = JobMasterEvent::TaskManagerLost { task_manager: worker, cause, explanation };
        self.tell(job, lost);
    }

    fn allocated(&self, grant: crate::slot_manager::Grant) -> Option<AllocatedSlot> {
        let worker = self.workers.get(&grant.slot.task_manager)?;
        Some(AllocatedSlot {
            allocation: grant.allocation,
            slot: grant.slot,
            profile: grant.profile,
            address: worker.registration.address.clone(),
            gateway: worker.gateway.clone(),
        })
    }

    /// Brings the driver's workers in line with the slots that the slot manager lacks.
    fn drive(&mut self) {
        let Some(fleet) = &mut self.fleet else { return };
        let (missing, idle) = (self.slots.workers_missing(), self.slots.idle_workers());
        let mut released = Vec::new();
        for action in fleet.reconcile(Instant::now().into_std(), missing, idle) {
            match action {
                worker_fleet::Action::Request(kind) => {
                    fleet.on_requested(self.driver.request(kind))
                }
                worker_fleet::Action::Withdraw(request) => self.driver.withdraw(request),
                worker_fleet::Action::Release(worker) => {
                    self.driver.release(&worker);
                    released.push(worker);
                }
            }
        }
        released.iter().for_each(|worker| self.dismiss(worker));
        self.tell_trouble();
    }

    /// Tells the jobs that wait for slots why no worker comes.
    fn tell_trouble(&mut self) {
        let failed = self.fleet.as_ref().and_then(WorkerFleet::trouble);
        let waits = self.waits_for.clone();
        let trouble: Vec<String> = failed.into_iter().chain(waits).collect();
        let trouble = (!trouble.is_empty()).then(|| trouble.join("; "));
        if trouble.as_deref() != self.slots.trouble() {
            self.apply(Event::Trouble(trouble));
        }
    }

    fn tell(&mut self, job: JobId, event: JobMasterEvent) {
        let Some(known) = self.jobs.get(&job) else { return };
        let Err(error) = known.courier.try_send(event) else { return };
        let owner = known.owner.clone();
        if let mpsc::error::TrySendError::Full(_) = error {
            warn!(%job, unread = UNREAD_MAX, "JobMaster does not read its events");
        }
        // The actor must not wait for its own mailbox.
        let to_self = self.to_self.clone();
        tokio::spawn(async move { report_gone(&to_self, owner).await });
    }

    fn remember(&mut self, owner: Arc<dyn JobMasterGateway>) {
        let job = owner.job();
        if self.jobs.get(&job).is_some_and(|known| same(&known.owner, &owner)) {
            return;
        }
        let (courier, mut undelivered) = mpsc::channel(UNREAD_MAX);
        let (receiver, to_self) = (owner.clone(), self.to_self.clone());
        tokio::spawn(async move {
            while let Some(event) = undelivered.recv().await {
                if receiver.post(event).await.is_err() {
                    return report_gone(&to_self, receiver).await;
                }
            }
        });
        self.jobs.insert(job, Job { owner, courier });
    }

    fn details(&self) -> Vec<TaskManagerDetails> {
        self.workers
            .iter()
            .map(|(id, worker)| TaskManagerDetails {
                registration: worker.registration.clone(),
                registered_at: worker.registered_at,
                last_heartbeat: worker.last_heartbeat,
                heartbeat: worker.heartbeat,
                allocated: self.slots.allocated(id),
                gateway: worker.gateway.clone(),
            })
            .collect()
    }
}

async fn report_gone(to_self: &mpsc::WeakSender<Message>, owner: Arc<dyn JobMasterGateway>) {
    if let Some(messages) = to_self.upgrade() {
        let _ = messages.send(Message::JobMasterGone(owner)).await;
    }
}

fn same<T: ?Sized>(a: &Arc<T>, b: &Arc<T>) -> bool {
    std::ptr::addr_eq(Arc::as_ptr(a), Arc::as_ptr(b))
}

#[cfg(test)]
mod tests;
