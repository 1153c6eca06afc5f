//! One TaskManager's stream in the master, from its registration to its loss.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use millstream_gateway::{CauseKind, FailureCause, ResourceManagerGateway, TaskManagerGateway};
use millstream_protocol::cluster::{
    self, FromTaskManager, ToTaskManager, from_task_manager, to_task_manager,
};
use millstream_security::Identity;
use millstream_types::{HostId, LeaderEpoch, TaskManagerId};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::{IntervalStream, ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use crate::convert;
use crate::remote::{FileAnswer, RemoteTaskManager, WorkerLink};

/// Limits and deadlines of the master's port.
#[derive(Debug, Clone)]
pub struct ClusterServerConfig {
    /// The leader that this process is.
    pub epoch: LeaderEpoch,
    /// The time between two signs of life of a side (`heartbeat.interval`).
    pub heartbeat_interval: Duration,
    /// After how much silence the other side is lost (`heartbeat.timeout`).
    pub heartbeat_timeout: Duration,
    /// Time limit for a new connection to identify itself, and for a new stream to register.
    pub registration_deadline: Duration,
    /// The most connections at a time.
    pub connections_max: usize,
}

impl ClusterServerConfig {
    /// Usual limits.
    #[must_use]
    pub fn new(epoch: LeaderEpoch) -> Self {
        Self {
            epoch,
            heartbeat_interval: Duration::from_secs(10),
            heartbeat_timeout: Duration::from_secs(50),
            registration_deadline: Duration::from_secs(10),
            connections_max: 4096,
        }
    }
}

/// The counters of the port.
#[derive(Debug, Default)]
pub struct RpcStatistics {
    /// Messages and calls of another epoch, refused.
    pub stale_messages: AtomicU64,
}

/// The master's messages on one stream.
pub(crate) type Outgoing = BoxStream<'static, Result<ToTaskManager, Status>>;

/// Everything that one stream needs of the server.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) config: ClusterServerConfig,
    pub(crate) resource_manager: Arc<dyn ResourceManagerGateway>,
    pub(crate) statistics: Arc<RpcStatistics>,
    pub(crate) shutdown: CancellationToken,
}

impl Session {
    /// Serves one stream to its end. `answer` receives the messages to the TaskManager, once it is
    /// known whether it may join.
    pub(crate) async fn run(
        self,
        mut incoming: Streaming<FromTaskManager>,
        peer: Option<Identity>,
        answer: oneshot::Sender<Result<Outgoing, Status>>,
    ) {
        let registered = self.register(&mut incoming, peer);
        let registered = tokio::time::timeout(self.config.registration_deadline, registered);
        let (gateway, queued) = match registered.await {
            Ok(Ok(registered)) => registered,
            Ok(Err(refusal)) => {
                let _ = answer.send(refusal.map(|reason| self.refuse(reason)));
                return;
            }
            Err(_) => {
                let _ = answer.send(Err(Status::deadline_exceeded("no registration came in time")));
                return;
            }
        };
        let link = Arc::clone(&gateway.link);
        let cause = match answer.send(Ok(self.outgoing(&link, queued))) {
            Ok(()) => self.listen(&link, &mut incoming).await,
            Err(_) => lost(link.id(), "it went away while it registered"),
        };
        link.close();
        tracing::info!(worker = %link.id(), %cause, "stream ended");
        // A ResourceManager that has stopped needs no news.
        let _ = self.resource_manager.lost(gateway, cause).await;
    }

    /// The TaskManager's gateway; or a sentence for the TaskManager, or an error of the call.
    async fn register(
        &self,
        incoming: &mut Streaming<FromTaskManager>,
        peer: Option<Identity>,
    ) -> Result<(Arc<RemoteTaskManager>, mpsc::Receiver<ToTaskManager>), Result<String, Status>>
    {
        let first = incoming.message().await.map_err(Err)?;
        let Some(FromTaskManager {
            message: Some(from_task_manager::Message::Register(register)),
            ..
        }) = first
        else {
            return Err(Err(Status::invalid_argument("the first message must be Register")));
        };
        let registration = convert::registration(register).map_err(Ok)?;
        if let Some(peer) = peer.filter(|peer| peer.name != registration.id.as_str()) {
            return Err(Ok(format!(
                "its name is {}, its certificate says {peer}",
                registration.id
            )));
        }
        let closed = self.shutdown.child_token();
        let (link, queued) = WorkerLink::new(registration.id.clone(), self.config.epoch, closed);
        let gateway = Arc::new(RemoteTaskManager { link });
        // If this takes too long and is dropped, the TaskManager may be known already.
        let undo = Undo { session: self.clone(), gateway: Some(Arc::clone(&gateway)) };
        let joined = Arc::clone(&gateway) as Arc<dyn TaskManagerGateway>;
        let accepted = self.resource_manager.register(registration, joined).await;
        undo.disarm();
        accepted.map_err(|refused| Ok(refused.0))?;
        Ok((gateway, queued))
    }

    fn refuse(&self, reason: String) -> Outgoing {
        tracing::warn!(reason, "a TaskManager was refused");
        let refused = to_task_manager::Message::Refused(cluster::Refused { reason });
        stream::iter([Ok(self.message(refused))]).boxed()
    }

    fn message(&self, message: to_task_manager::Message) -> ToTaskManager {
        ToTaskManager { epoch: self.config.epoch.get(), message: Some(message) }
    }

    /// The answer to the registration, then commands and heartbeats until the link is closed.
    fn outgoing(&self, link: &WorkerLink, queued: mpsc::Receiver<ToTaskManager>) -> Outgoing {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let registered = self.message(to_task_manager::Message::Registered(cluster::Registered {
            heartbeat_interval_ms: millis(self.config.heartbeat_interval),
            heartbeat_timeout_ms: millis(self.config.heartbeat_timeout),
        }));
        let heartbeat =
            self.message(to_task_manager::Message::Heartbeat(cluster::JobManagerHeartbeat {}));
        // Made when it is its turn, so that heartbeats never fill a queue.
        let heartbeats = IntervalStream::new(tokio::time::interval(self.config.heartbeat_interval));
        let commands =
            stream::select(ReceiverStream::new(queued), heartbeats.map(move |_| heartbeat.clone()));
        stream::iter([registered])
            .chain(commands.take_until(link.closed.clone().cancelled_owned()))
            .map(Ok)
            .boxed()
    }

    /// Hears the TaskManager until it is lost, and says why.
    async fn listen(
        &self,
        link: &WorkerLink,
        incoming: &mut Streaming<FromTaskManager>,
    ) -> FailureCause {
        loop {
            let message = tokio::time::timeout(self.config.heartbeat_timeout, incoming.message());
            let message = tokio::select! {
                () = link.closed.cancelled() => {
                    let dismissed = link.dismissed.load(Ordering::Relaxed);
                    return match (self.shutdown.is_cancelled(), dismissed) {
                        (true, _) => lost(link.id(), "the JobManager is shutting down"),
                        (false, true) => lost(link.id(), "the cluster has given it up"),
                        (false, false) => lost(link.id(), "it does not take its messages"),
                    };
                }
                message = message => message,
            };
            let message = match message {
                Ok(Ok(Some(message))) => message,
                Ok(Ok(None)) => return lost(link.id(), "it closed the connection"),
                Ok(Err(status)) => {
                    // The transport's own words mean nothing to a user who reads why a job failed.
                    tracing::debug!(worker = %link.id(), %status, "the connection broke");
                    return lost(link.id(), "its connection broke");
                }
                Err(_) => {
                    let timeout = self.config.heartbeat_timeout;
                    return lost(link.id(), &format!("it was silent for {timeout:?}"));
                }
            };
            if message.epoch != self.config.epoch.get() {
                self.statistics.stale_messages.fetch_add(1, Ordering::Relaxed);
                let sentence = format!("it follows another leader (epoch {})", message.epoch);
                return lost(link.id(), &sentence);
            }
            let delivered = tokio::select! {
                () = link.closed.cancelled() => continue,
                delivered = self.deliver(link, message.message) => delivered,
            };
            if let Err(sentence) = delivered {
                return lost(link.id(), sentence);
            }
        }
    }

    async fn deliver(
        &self,
        link: &WorkerLink,
        message: Option<from_task_manager::Message>,
    ) -> Result<(), &'static str> {
        use from_task_manager::Message;
        match message {
            Some(Message::Heartbeat(heartbeat)) => {
                let heartbeat = convert::heartbeat(&heartbeat);
                let heard = self.resource_manager.heartbeat(link.id().clone(), heartbeat).await;
                heard.map_err(|_| "the ResourceManager has stopped")
            }
            Some(Message::HostMessage(cluster::HostMessage { host_id, message })) => {
                let host = HostId::try_from(host_id.as_slice());
                let host = host.map_err(|_| "it sent a host's name that is none")?;
                if let (Some(courier), Some(message)) = (link.courier(host), message)
                    && courier.message(host, message).is_err()
                {
                    tracing::warn!(worker = %link.id(), %host, "host says too much for its job");
                    // A connection that is gone ends its hosts.
                    let _ = link.stop_host(host, Duration::ZERO);
                }
                Ok(())
            }
            Some(Message::HostExited(exited)) => {
                let host = HostId::try_from(exited.host_id.as_slice());
                let host = host.map_err(|_| "it sent a host's name that is none")?;
                if let Some(courier) = link.remove_courier(host) {
                    courier.exited(convert::host_exit(host, exited));
                }
                Ok(())
            }
            Some(Message::FileChunk(chunk)) => {
                link.answer(chunk.request_id, FileAnswer::Chunk(chunk));
                Ok(())
            }
            Some(Message::FileList(list)) => {
                link.answer(list.request_id, FileAnswer::List(list.files));
                Ok(())
            }
            Some(Message::Register(_)) => Err("it registered twice on one connection"),
            // Of a newer minor version.
            None => Ok(()),
        }
    }
}

/// Reports the loss of a TaskManager whose registration was given up halfway.
struct Undo {
    session: Session,
    gateway: Option<Arc<RemoteTaskManager>>,
}

impl Undo {
    fn disarm(mut self) {
        self.gateway = None;
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        if let Some(gateway) = self.gateway.take() {
            let resource_manager = Arc::clone(&self.session.resource_manager);
            tokio::spawn(async move {
                gateway.link.close();
                let cause = lost(gateway.id(), "its registration took too long");
                let _ = resource_manager.lost(gateway, cause).await;
            });
        }
    }
}

fn lost(id: &TaskManagerId, why: &str) -> FailureCause {
    FailureCause::new(CauseKind::WorkerLost, format!("TaskManager {id} is lost: {why}"))
}
