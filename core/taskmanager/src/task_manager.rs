//! The TaskManager's actor: carries out the decisions of the life cycle and the master's commands.

use std::collections::HashMap;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::BoxFuture;
use millstream_gateway::{
    ConnectError, ConnectionLost, JobManagerConnection, JobManagerConnector, JobManagerSender,
    TaskManagerRegistration,
};
use millstream_launcher::{
    HostListener, HostManager, HostProcessExit, machine_cores, machine_memory, own_usage,
};
use millstream_protocol::cluster::{self, from_task_manager, to_task_manager};
use millstream_protocol::host::{Failure, FromHost};
use millstream_types::{
    ArtifactHash, ByteSize, CauseKind, FailureCause, HostId, ResourceProfile, TaskManagerId,
};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::artifact_cache::ArtifactCache;
use crate::lifecycle::{Action, Event, ExitReason, Lifecycle, RegistrationPolicy};
use crate::{HostSettings, lock};

/// Time limit for the end of the hosts when the TaskManager ends.
const END_DEADLINE: Duration = Duration::from_secs(10);
/// So many log files are read at once.
const FILE_REQUESTS_MAX: usize = 8;

/// Settings of one TaskManager.
#[derive(Debug, Clone)]
pub struct TaskManagerConfig {
    /// Its name.
    pub id: TaskManagerId,
    /// Host name or address, for people and REST.
    pub address: String,
    /// The address that hosts bind their data ports to.
    pub bind_host: String,
    /// The fixed data port, 0 when hosts choose.
    pub data_port: u16,
    /// The ports that each host tries to bind, in order: one, a range or several.
    pub data_ports: String,
    /// The number of slots.
    pub slots: u32,
    /// Resources of each slot; a host's memory limit is the sum of its slots'.
    pub slot_profile: ResourceProfile,
    /// Memory of the whole TaskManager.
    pub memory_process: ByteSize,
    /// Settings of each host. Its `temp_dirs` are the TaskManager's own.
    pub hosts: HostSettings,
    /// Where copies of artifacts lie; the TaskManager's own.
    pub artifact_dir: PathBuf,
    /// Limit on their total size.
    pub artifact_bytes_max: ByteSize,
    /// Time limit for finding a master (`taskmanager.registration.timeout`).
    pub registration_timeout: Duration,
    /// The first pause between two attempts (`cluster.registration.initial-timeout`).
    pub registration_backoff_min: Duration,
    /// The longest (`cluster.registration.max-timeout`).
    pub registration_backoff_max: Duration,
}

/// Why a TaskManager could not even try to register.
#[derive(Debug, thiserror::Error)]
#[error("failed to make the artifact cache {path}", path = path.display())]
pub struct TaskManagerError {
    path: PathBuf,
    #[source]
    source: std::io::Error,
}

/// The TaskManager's description of itself for its registration.
#[must_use]
pub fn registration(config: &TaskManagerConfig) -> TaskManagerRegistration {
    TaskManagerRegistration {
        id: config.id.clone(),
        address: config.address.clone(),
        data_port: config.data_port,
        slots: config.slots,
        slot_profile: config.slot_profile,
        memory_process: config.memory_process,
        cpu_cores: machine_cores(),
        physical_memory: machine_memory().0,
        pid: std::process::id(),
    }
}

/// Runs a TaskManager until `shutdown`, a refusal, or a search for a master that took too long. No
/// host is left when it returns; when it is dropped before, hosts are killed too.
///
/// # Errors
/// The TaskManager's directories cannot be made.
pub async fn run(
    config: TaskManagerConfig,
    connector: Arc<dyn JobManagerConnector>,
    shutdown: CancellationToken,
) -> Result<ExitReason, TaskManagerError> {
    let path = config.artifact_dir.clone();
    let cache = ArtifactCache::new(path.clone(), config.artifact_bytes_max)
        .map_err(|source| TaskManagerError { path, source })?;
    let policy = RegistrationPolicy {
        timeout: config.registration_timeout,
        backoff_min: config.registration_backoff_min,
        backoff_max: config.registration_backoff_max,
    };
    let worker = TaskManager {
        lifecycle: Lifecycle::new(policy, Instant::now()),
        connector,
        hosts: Arc::default(),
        slots: Arc::default(),
        cache,
        file_requests: Arc::new(Semaphore::new(FILE_REQUESTS_MAX)),
        config: Arc::new(config),
        link: Link::None,
    };
    Ok(worker.run(shutdown).await)
}

/// The host in each slot that is in use.
type Slots = Arc<Mutex<HashMap<u32, HostId>>>;

struct TaskManager {
    config: Arc<TaskManagerConfig>,
    lifecycle: Lifecycle,
    connector: Arc<dyn JobManagerConnector>,
    hosts: Arc<HostManager>,
    slots: Slots,
    cache: Arc<ArtifactCache>,
    file_requests: Arc<Semaphore>,
    link: Link,
}

/// The way to the master.
enum Link {
    None,
    Connecting(BoxFuture<'static, Result<JobManagerConnection, ConnectError>>),
    Connected { connection: JobManagerConnection, _heartbeats: Heartbeats },
}

/// The task that sends heartbeats as long as the connection is kept.
struct Heartbeats(JoinHandle<()>);

impl Drop for Heartbeats {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Events of the connection to the master.
enum News {
    Connected(Result<JobManagerConnection, ConnectError>),
    Said(Box<to_task_manager::Message>),
    Lost(String),
}

impl Link {
    /// Cancel-safe.
    async fn news(&mut self) -> News {
        match self {
            Self::None => std::future::pending().await,
            Self::Connecting(connect) => News::Connected(Pin::new(connect).await),
            Self::Connected { connection, .. } => match connection.incoming.next().await {
                Some(Ok(message)) => News::Said(Box::new(message)),
                Some(Err(error)) => News::Lost(error.to_string()),
                None => News::Lost("the JobManager closed the connection".to_owned()),
            },
        }
    }
}

impl TaskManager {
    async fn run(mut self, shutdown: CancellationToken) -> ExitReason {
        let mut exit = self.decide(Event::Started);
        loop {
            if let Some(reason) = exit {
                if tokio::time::timeout(END_DEADLINE, self.hosts.all_ended()).await.is_err() {
                    tracing::error!(hosts = self.hosts.count(), "hosts are left");
                }
                return reason;
            }
            let deadline = self.lifecycle.deadline().map(tokio::time::Instant::from_std);
            exit = tokio::select! {
                biased;
                () = shutdown.cancelled() => self.decide(Event::Shutdown),
                // Before the deadline: a message that has come already was not silence.
                news = self.link.news() => self.on_news(news),
                () = sleep_until(deadline) => self.decide(Event::Tick),
            };
        }
    }

    fn on_news(&mut self, news: News) -> Option<ExitReason> {
        match news {
            News::Connected(Ok(connection)) => {
                let heartbeat_timeout = connection.heartbeat_timeout;
                // Flink's words: the start script waits for them.
                tracing::info!(
                    worker = %self.config.id,
                    epoch = %connection.epoch,
                    "Successful registration at resource manager"
                );
                let heartbeats = self.heartbeats(&connection);
                self.link = Link::Connected { connection, _heartbeats: heartbeats };
                self.decide(Event::Connected { heartbeat_timeout })
            }
            News::Connected(Err(error)) => {
                tracing::warn!(%error, "registration failed");
                self.link = Link::None;
                self.decide(Event::ConnectFailed(error))
            }
            News::Said(message) => {
                self.on_message(*message);
                self.decide(Event::Heard)
            }
            News::Lost(reason) => {
                tracing::warn!(reason, "the JobManager is lost: all hosts are killed");
                self.decide(Event::Lost(reason))
            }
        }
    }

    /// Carries out the decisions of the life cycle; returns the reason to end, if it is over.
    fn decide(&mut self, event: Event) -> Option<ExitReason> {
        let mut exit = None;
        for action in self.lifecycle.on_event(Instant::now(), event) {
            match action {
                Action::Connect => {
                    let (hosts, connector) = (Arc::clone(&self.hosts), Arc::clone(&self.connector));
                    let registration = registration(&self.config);
                    self.link = Link::Connecting(Box::pin(async move {
                        // Its slots are free only then.
                        hosts.all_ended().await;
                        connector.connect(registration).await
                    }));
                }
                Action::Disconnect => self.link = Link::None,
                Action::KillHosts => self.hosts.kill_all(),
                Action::Exit(reason) => exit = Some(reason),
            }
        }
        exit
    }

    fn heartbeats(&self, connection: &JobManagerConnection) -> Heartbeats {
        let (outgoing, hosts) = (Arc::clone(&connection.outgoing), Arc::clone(&self.hosts));
        let mut interval = tokio::time::interval(connection.heartbeat_interval);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        Heartbeats(tokio::spawn(async move {
            loop {
                interval.tick().await;
                let heartbeat = from_task_manager::Message::Heartbeat(heartbeat(&hosts));
                if outgoing.send(heartbeat).await.is_err() {
                    return;
                }
            }
        }))
    }

    fn on_message(&self, message: to_task_manager::Message) {
        use to_task_manager::Message;
        let Link::Connected { connection, .. } = &self.link else { return };
        let outgoing = &connection.outgoing;
        match message {
            Message::StartHost(start) => self.start_host(start, outgoing),
            Message::HostCommand(command) => {
                if let (Some(host), Some(message)) = (host_id(&command.host_id), command.message) {
                    self.hosts.send(host, message);
                }
            }
            Message::StopHost(stop) => {
                if let Some(host) = host_id(&stop.host_id) {
                    self.hosts.stop(host, Duration::from_millis(stop.grace_ms));
                }
            }
            Message::ReleaseArtifact(release) => {
                if let Ok(artifact) = release.sha256.parse() {
                    self.cache.release(artifact);
                }
            }
            Message::ListFiles(request) => {
                let logs = self.config.hosts.logs.clone();
                self.answer(outgoing, async move {
                    let files = logs.list().await.into_iter().map(|file| cluster::FileInfo {
                        name: file.name,
                        size: file.size,
                        modified_ms: file.modified.as_millis(),
                    });
                    let request_id = request.request_id;
                    let list = cluster::FileList { request_id, files: files.collect() };
                    from_task_manager::Message::FileList(list)
                });
            }
            Message::ReadFile(request) => {
                let logs = self.config.hosts.logs.clone();
                self.answer(outgoing, async move {
                    let cluster::ReadFile { request_id, name, offset, length } = request;
                    let chunk = match logs.read(name, offset, length).await {
                        Ok(chunk) => cluster::FileChunk {
                            request_id,
                            data: chunk.data,
                            last: chunk.last,
                            error: None,
                        },
                        Err(error) => file_error(request_id, &error),
                    };
                    from_task_manager::Message::FileChunk(chunk)
                });
            }
            // Only signs of life, which the life cycle has counted.
            Message::Heartbeat(_) | Message::Registered(_) | Message::Refused(_) => {}
        }
    }

    /// Answers in a task of its own; requests beyond the limit are dropped and time out.
    fn answer(
        &self,
        outgoing: &Arc<dyn JobManagerSender>,
        answer: impl Future<Output = from_task_manager::Message> + Send + 'static,
    ) {
        let outgoing = Arc::clone(outgoing);
        match Arc::clone(&self.file_requests).try_acquire_owned() {
            Ok(permit) => {
                tokio::spawn(async move {
                    let _ = outgoing.send(answer.await).await;
                    drop(permit);
                });
            }
            Err(_) => tracing::warn!("too many requests for log files at once"),
        }
    }

    fn start_host(&self, start: cluster::StartHost, outgoing: &Arc<dyn JobManagerSender>) {
        let Some(host) = host_id(&start.host_id) else {
            tracing::error!("a host without a name was to be started");
            return;
        };
        let listener = Relay { outgoing: Arc::clone(outgoing), slots: Arc::clone(&self.slots) };
        let prepared = self.take_slots(host, &start.slots).and_then(|()| {
            let artifact = start.sha256.parse::<ArtifactHash>();
            let refused = |what: String| FailureCause::new(CauseKind::Start, what);
            let artifact = artifact.map_err(|error| refused(error.to_string()))?;
            let begin = start.begin.ok_or_else(|| refused("the host has no task".to_owned()))?;
            Ok((artifact, begin))
        });
        let (config, cache) = (Arc::clone(&self.config), Arc::clone(&self.cache));
        let outgoing = Arc::clone(outgoing);
        let slots = u64::try_from(start.slots.len()).unwrap_or(u64::MAX);
        let prepare = Box::pin(async move {
            let (artifact, mut begin) = prepared?;
            begin.bind_address = format!("{}:{}", config.bind_host, config.data_ports);
            let fetch = || outgoing.fetch_artifact(artifact);
            let lease = cache.lease(artifact, start.artifact_size, fetch).await?;
            let limit = config.slot_profile.memory.saturating_mul(slots);
            let executable = lease.path();
            Ok(config.hosts.launch(host, executable, Box::new(lease), Some(limit), begin))
        });
        if let Err(error) = self.hosts.start(host, prepare, Arc::new(listener)) {
            tracing::error!(%error, "a host was started twice");
        }
    }

    fn take_slots(&self, host: HostId, wanted: &[u32]) -> Result<(), FailureCause> {
        let refused = |what: String| Err(FailureCause::new(CauseKind::Start, what));
        let mut slots = lock(&self.slots);
        if wanted.is_empty() {
            return refused("the host fills no slot".to_owned());
        }
        for slot in wanted {
            if *slot >= self.config.slots {
                return refused(format!("there is no slot {slot}"));
            }
            if let Some(other) = slots.get(slot) {
                return refused(format!("slot {slot} is still used by host {other}"));
            }
        }
        slots.extend(wanted.iter().map(|slot| (*slot, host)));
        Ok(())
    }
}

/// Relays messages of a host to the master that had it started.
struct Relay {
    outgoing: Arc<dyn JobManagerSender>,
    slots: Slots,
}

impl HostListener for Relay {
    fn on_message(&self, host: HostId, message: FromHost) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let host_id = host.as_bytes().to_vec();
            let message = cluster::HostMessage { host_id, message: Some(message) };
            // A lost connection kills the host anyway.
            let _: Result<(), ConnectionLost> =
                self.outgoing.send(from_task_manager::Message::HostMessage(message)).await;
        })
    }

    fn on_exited(&self, host: HostId, exit: HostProcessExit) -> BoxFuture<'_, ()> {
        lock(&self.slots).retain(|_, filling| *filling != host);
        tracing::info!(%host, cause = %exit.cause, "host ended");
        let exited = cluster::HostExited {
            host_id: host.as_bytes().to_vec(),
            exit_code: exit.exit_code,
            signal: exit.signal,
            cause: Some(Failure {
                kind: exit.cause.kind.as_str().to_owned(),
                message: exit.cause.message,
                detail: exit.cause.detail,
            }),
            stderr_tail: exit.stderr_tail,
        };
        Box::pin(async move {
            let _ = self.outgoing.send(from_task_manager::Message::HostExited(exited)).await;
        })
    }
}

fn host_id(bytes: &[u8]) -> Option<HostId> {
    HostId::try_from(bytes).ok()
}

fn file_error(request_id: u64, error: &millstream_gateway::FileError) -> cluster::FileChunk {
    // An empty reason says that there is no such file.
    let reason = match error {
        millstream_gateway::FileError::NotFound(_) => String::new(),
        millstream_gateway::FileError::Unreadable { reason, .. } => reason.clone(),
        millstream_gateway::FileError::Gone(gone) => gone.to_string(),
    };
    cluster::FileChunk { request_id, data: Vec::new(), last: true, error: Some(reason) }
}

fn heartbeat(hosts: &HostManager) -> cluster::TaskManagerHeartbeat {
    let (own, hosts) = (own_usage(), hosts.usage());
    let cpu_time = own.cpu_time.saturating_add(hosts.cpu_time);
    cluster::TaskManagerHeartbeat {
        resident_memory: own.resident.as_bytes(),
        hosts_memory: hosts.resident.as_bytes(),
        free_memory: machine_memory().1.as_bytes(),
        cpu_time_ms: u64::try_from(cpu_time.as_millis()).unwrap_or(u64::MAX),
    }
}

/// Waits until then; for ever without a time.
async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
