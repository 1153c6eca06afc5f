//! The master's port: TaskManagers attach here and fetch artifacts.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use millstream_gateway::{ArtifactLocator, ResourceManagerGateway};
use millstream_protocol::cluster::cluster_server::{Cluster, ClusterServer as Service};
use millstream_protocol::cluster::{ArtifactChunk, FetchArtifactRequest, FromTaskManager};
use millstream_security::rustls::ServerConfig;
use millstream_security::{Credentials, Role, SecurityError};
use millstream_types::ArtifactHash;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, async_trait};

use crate::incoming::Peer;
use crate::session::{ClusterServerConfig, Outgoing, RpcStatistics, Session};
use crate::{CONNECTION_WINDOW_BYTES, MESSAGE_BYTES_MAX, STREAM_WINDOW_BYTES, incoming};

const CHUNK_BYTES: usize = 512 << 10;
/// Streams of one connection: its own and the artifacts that it fetches.
const STREAMS_MAX: u32 = 64;
const HEADER_BYTES_MAX: u32 = 16 << 10;
/// Time of silence after which HTTP/2 pings the other side.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Why the port is closed.
#[derive(Debug, thiserror::Error)]
#[error("the JobManager's RPC server failed")]
pub struct ServeError(#[source] tonic::transport::Error);

/// The master's side.
#[derive(Debug)]
pub struct ClusterServer {
    config: ClusterServerConfig,
    resource_manager: Arc<dyn ResourceManagerGateway>,
    artifacts: Arc<dyn ArtifactLocator>,
    statistics: Arc<RpcStatistics>,
    tls: Option<Arc<ServerConfig>>,
}

impl ClusterServer {
    /// A server that registers TaskManagers with `resource_manager` and hands out `artifacts`.
    #[must_use]
    pub fn new(
        config: ClusterServerConfig,
        resource_manager: Arc<dyn ResourceManagerGateway>,
        artifacts: Arc<dyn ArtifactLocator>,
    ) -> Self {
        Self { config, resource_manager, artifacts, statistics: Arc::default(), tls: None }
    }

    /// The same with TLS, as this JobManager: only TaskManagers of its cluster may attach and
    /// fetch, each under the name in its certificate.
    ///
    /// # Errors
    /// The credentials cannot be used.
    pub fn secured(mut self, credentials: &Credentials) -> Result<Self, SecurityError> {
        self.tls = Some(credentials.server_config(&[Role::Worker])?);
        Ok(self)
    }

    /// The server's counters, which change while it serves.
    #[must_use]
    pub fn statistics(&self) -> Arc<RpcStatistics> {
        Arc::clone(&self.statistics)
    }

    /// Serves until `shutdown`; every stream has ended then.
    ///
    /// # Errors
    /// The transport fails.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: CancellationToken,
    ) -> Result<(), ServeError> {
        // Streams end with the server, also when this future is dropped.
        let shutdown = shutdown.child_token();
        let _end = shutdown.clone().drop_guard();
        let (max, deadline) = (self.config.connections_max, self.config.registration_deadline);
        let incoming = incoming::accept(listener, self.tls, max, deadline, shutdown.clone());
        let calls = Calls {
            session: Session {
                config: self.config,
                resource_manager: self.resource_manager,
                statistics: self.statistics,
                shutdown: shutdown.clone(),
            },
            artifacts: self.artifacts,
        };
        let service = Service::new(calls)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        tonic::transport::Server::builder()
            .max_concurrent_streams(STREAMS_MAX)
            .http2_max_header_list_size(HEADER_BYTES_MAX)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keepalive_interval(Some(PING_INTERVAL))
            .http2_keepalive_timeout(Some(PING_TIMEOUT))
            .add_service(service)
            .serve_with_incoming_shutdown(incoming, shutdown.cancelled_owned())
            .await
            .map_err(ServeError)
    }
}

/// The calls of the service.
struct Calls {
    session: Session,
    artifacts: Arc<dyn ArtifactLocator>,
}

#[async_trait]
impl Cluster for Calls {
    type AttachStream = Outgoing;
    type FetchArtifactStream = BoxStream<'static, Result<ArtifactChunk, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<FromTaskManager>>,
    ) -> Result<Response<Outgoing>, Status> {
        let (answer, answered) = oneshot::channel();
        // A task of its own: this call is dropped when the TaskManager goes away, its session must
        // then still report the loss.
        let peer = request.extensions().get::<Peer>().and_then(|peer| peer.0.clone());
        let session = self.session.clone();
        tokio::spawn(session.run(request.into_inner(), peer, answer));
        let outgoing = answered.await.map_err(|_| Status::internal("the session ended"))??;
        Ok(Response::new(outgoing))
    }

    async fn fetch_artifact(
        &self,
        request: Request<FetchArtifactRequest>,
    ) -> Result<Response<Self::FetchArtifactStream>, Status> {
        let FetchArtifactRequest { epoch, sha256 } = request.into_inner();
        if epoch != self.session.config.epoch.get() {
            self.session.statistics.stale_messages.fetch_add(1, Ordering::Relaxed);
            return Err(Status::failed_precondition("another JobManager leads"));
        }
        let artifact: ArtifactHash = sha256
            .parse()
            .map_err(|_| Status::invalid_argument("the name of the artifact is no hash"))?;
        let missing = || Status::not_found(format!("artifact {artifact} is not in the store"));
        let path = self.artifacts.locate(artifact).await.ok_or_else(missing)?;
        Ok(Response::new(read(&path).await?))
    }
}

async fn read(path: &Path) -> Result<BoxStream<'static, Result<ArtifactChunk, Status>>, Status> {
    let failed = |error: std::io::Error| {
        Status::internal(format!("the JobManager failed to read the artifact: {error}"))
    };
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    let chunks = stream::try_unfold(file, move |mut file| async move {
        let mut data = Vec::with_capacity(CHUNK_BYTES);
        let mut part = (&mut file).take(CHUNK_BYTES as u64);
        let count = part.read_to_end(&mut data).await.map_err(failed)?;
        Ok((count > 0).then_some((ArtifactChunk { data }, file)))
    });
    Ok(chunks.boxed())
}
