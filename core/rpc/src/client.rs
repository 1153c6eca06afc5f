//! The TaskManager's side: connects, registers, sends and fetches.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{StreamExt, TryFutureExt, TryStreamExt};
use hyper_util::rt::TokioIo;
use millstream_gateway::{
    ConnectError, ConnectionLost, FetchError, JobManagerConnection, JobManagerConnector,
    JobManagerSender, TaskManagerRegistration,
};
use millstream_protocol::cluster::cluster_client::ClusterClient;
use millstream_protocol::cluster::{
    FetchArtifactRequest, FromTaskManager, Registered, ToTaskManager, from_task_manager,
    to_task_manager,
};
use millstream_security::rustls::ClientConfig;
use millstream_security::{Credentials, Role, SecurityError, Stream};
use millstream_types::{ArtifactHash, LeaderEpoch, with_sources};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

use crate::{CONNECTION_WINDOW_BYTES, MESSAGE_BYTES_MAX, STREAM_WINDOW_BYTES, convert};

const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// Longer than the master gives a registration, so that its reason arrives.
const REGISTER_DEADLINE: Duration = Duration::from_secs(20);
/// So many messages wait for the master; more make hosts wait.
const QUEUE_MAX: usize = 64;

/// Connects to the master at one address.
#[derive(Debug)]
pub struct GrpcJobManager {
    address: String,
    newest_epoch: AtomicU64,
    stale_messages: Arc<AtomicU64>,
    tls: Option<Arc<ClientConfig>>,
}

impl GrpcJobManager {
    /// The master at `host:port`.
    #[must_use]
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            newest_epoch: AtomicU64::new(0),
            stale_messages: Arc::default(),
            tls: None,
        }
    }

    /// The same with TLS, as this TaskManager: only the JobManager of its cluster is talked to.
    ///
    /// # Errors
    /// The credentials cannot be used.
    pub fn secured(mut self, credentials: &Credentials) -> Result<Self, SecurityError> {
        self.tls = Some(credentials.client_config(Role::JobManager, None)?);
        Ok(self)
    }

    /// Number of messages of another epoch that were refused.
    #[must_use]
    pub fn stale_messages(&self) -> u64 {
        self.stale_messages.load(Ordering::Relaxed)
    }

    fn unreachable(&self, reason: impl Into<String>) -> ConnectError {
        ConnectError::Unreachable { address: self.address.clone(), reason: reason.into() }
    }

    async fn register(
        &self,
        registration: TaskManagerRegistration,
    ) -> Result<JobManagerConnection, ConnectError> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address))
            .map_err(|error| self.unreachable(with_sources(&error)))?
            .connect_timeout(CONNECT_DEADLINE)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        let (address, tls) = (self.address.clone(), self.tls.clone());
        let connector = tower::service_fn(move |_| {
            let (address, tls) = (address.clone(), tls.clone());
            async move { connect(&address, tls).await.map(TokioIo::new) }
        });
        let channel = endpoint.connect_with_connector(connector).await;
        let channel = channel.map_err(|error| self.unreachable(with_sources(&error)))?;
        let mut client = ClusterClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let (queue, queued) = mpsc::channel(QUEUE_MAX);
        let register = from_task_manager::Message::Register(convert::register(registration));
        // It has room: nothing was sent before.
        let _ = queue.try_send(FromTaskManager { epoch: 0, message: Some(register) });
        let failed = |status: Status| self.unreachable(sentence(&status));
        // A closed connection must end the stream of messages, even while a caller holds its
        // sending half.
        let closed = CancellationToken::new();
        let end = closed.clone().drop_guard();
        let messages = ReceiverStream::new(queued).take_until(closed.clone().cancelled_owned());
        let attached = client.attach(messages).await.map_err(failed)?;
        let mut incoming = attached.into_inner();
        let first = incoming.message().await.map_err(failed)?;
        let (epoch, registered) = self.check_answer(first)?;
        let sender = GrpcSender { epoch, queue, client, closed };
        Ok(JobManagerConnection {
            epoch,
            heartbeat_interval: Duration::from_millis(registered.heartbeat_interval_ms.max(1)),
            heartbeat_timeout: Duration::from_millis(registered.heartbeat_timeout_ms.max(1)),
            incoming: self.fenced(epoch, incoming, end),
            outgoing: Arc::new(sender),
        })
    }

    fn check_answer(
        &self,
        answer: Option<ToTaskManager>,
    ) -> Result<(LeaderEpoch, Registered), ConnectError> {
        let Some(ToTaskManager { epoch, message: Some(message) }) = answer else {
            return Err(self.unreachable("it closed the connection without an answer"));
        };
        let newest = self.newest_epoch.fetch_max(epoch, Ordering::Relaxed);
        if epoch < newest {
            self.stale_messages.fetch_add(1, Ordering::Relaxed);
            return Err(self.unreachable(format!("an older leader answered (epoch {epoch})")));
        }
        match message {
            to_task_manager::Message::Registered(registered) => {
                Ok((LeaderEpoch::new(epoch), registered))
            }
            to_task_manager::Message::Refused(refused) => {
                Err(ConnectError::Refused(refused.reason))
            }
            _ => Err(self.unreachable("it did not answer the registration")),
        }
    }

    /// The master's messages, until one of another leader comes. The connection ends when the
    /// stream is dropped.
    fn fenced(
        &self,
        epoch: LeaderEpoch,
        incoming: Streaming<ToTaskManager>,
        end: DropGuard,
    ) -> BoxStream<'static, Result<to_task_manager::Message, ConnectionLost>> {
        let stale_messages = Arc::clone(&self.stale_messages);
        incoming
            .map_err(|status| ConnectionLost(sentence(&status)))
            .and_then(move |message| {
                let _held = &end;
                let stale = message.epoch != epoch.get();
                if stale {
                    stale_messages.fetch_add(1, Ordering::Relaxed);
                }
                let fenced = "a message of another leader came on it".to_owned();
                let checked = if stale { Err(ConnectionLost(fenced)) } else { Ok(message.message) };
                std::future::ready(checked)
            })
            // Messages that only a newer minor version knows are empty.
            .try_filter_map(|message| std::future::ready(Ok(message)))
            .boxed()
    }
}

impl JobManagerConnector for GrpcJobManager {
    fn connect(
        &self,
        registration: TaskManagerRegistration,
    ) -> BoxFuture<'_, Result<JobManagerConnection, ConnectError>> {
        Box::pin(async move {
            match tokio::time::timeout(REGISTER_DEADLINE, self.register(registration)).await {
                Ok(result) => result,
                Err(_) => Err(self.unreachable(format!("no answer within {REGISTER_DEADLINE:?}"))),
            }
        })
    }
}

#[derive(Debug)]
struct GrpcSender {
    epoch: LeaderEpoch,
    queue: mpsc::Sender<FromTaskManager>,
    client: ClusterClient<Channel>,
    closed: CancellationToken,
}

impl JobManagerSender for GrpcSender {
    fn send(
        &self,
        message: from_task_manager::Message,
    ) -> BoxFuture<'_, Result<(), ConnectionLost>> {
        let message = FromTaskManager { epoch: self.epoch.get(), message: Some(message) };
        Box::pin(async move {
            let sent = self.closed.run_until_cancelled(self.queue.send(message)).await;
            match sent {
                Some(Ok(())) => Ok(()),
                Some(Err(_)) | None => Err(ConnectionLost("it is closed".to_owned())),
            }
        })
    }

    fn fetch_artifact(
        &self,
        artifact: ArtifactHash,
    ) -> BoxStream<'static, Result<Vec<u8>, FetchError>> {
        let request =
            FetchArtifactRequest { epoch: self.epoch.get(), sha256: artifact.to_string() };
        let mut client = self.client.clone();
        let failed = |status: Status| FetchError(sentence(&status));
        async move { client.fetch_artifact(request).await.map(tonic::Response::into_inner) }
            .map_err(failed)
            .map_ok(move |chunks| chunks.map_ok(|chunk| chunk.data).map_err(failed))
            .try_flatten_stream()
            .boxed()
    }
}

async fn connect(address: &str, tls: Option<Arc<ClientConfig>>) -> std::io::Result<Stream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Stream::connect(stream, tls).await
}

fn sentence(status: &Status) -> String {
    let text = match status.message() {
        "" => status.code().to_string(),
        message => message.to_owned(),
    };
    // Sources from the transport: that the other side refused our certificate, for example.
    let causes = status.source().map(with_sources).filter(|causes| *causes != text);
    match causes {
        Some(causes) => format!("{text}: {causes}"),
        None => text,
    }
}
