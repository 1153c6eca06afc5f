//! A master that freezes while a host talks: the TaskManager gives it up and comes back.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod harness;

use std::sync::Mutex;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use harness::{Worker, begin, eventually, marked, script};
use millstream_protocol::cluster::cluster_server::{Cluster, ClusterServer};
use millstream_protocol::cluster::{
    ArtifactChunk, FetchArtifactRequest, FromTaskManager, Registered, StartHost, ToTaskManager,
    to_task_manager,
};
use millstream_types::{ArtifactHash, HostId};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming, async_trait};

/// Accepts, has a host started, and then neither reads nor speaks.
struct Frozen {
    host: HostId,
    attached: UnboundedSender<()>,
    unread: Mutex<Vec<Streaming<FromTaskManager>>>,
}

type Said<T> = BoxStream<'static, Result<T, Status>>;

#[async_trait]
impl Cluster for Frozen {
    type AttachStream = Said<ToTaskManager>;
    type FetchArtifactStream = Said<ArtifactChunk>;

    async fn attach(
        &self,
        request: Request<Streaming<FromTaskManager>>,
    ) -> Result<Response<Said<ToTaskManager>>, Status> {
        let mut incoming = request.into_inner();
        incoming.message().await?;
        self.unread.lock().unwrap().push(incoming);
        let artifact = script("chatter");
        let start = StartHost {
            host_id: self.host.as_bytes().to_vec(),
            sha256: ArtifactHash::new(Sha256::digest(&artifact).into()).to_string(),
            artifact_size: artifact.len() as u64,
            begin: Some(begin()),
            slots: vec![0],
        };
        let registered = Registered { heartbeat_interval_ms: 100, heartbeat_timeout_ms: 2000 };
        let said = [
            to_task_manager::Message::Registered(registered),
            to_task_manager::Message::StartHost(start),
        ];
        let said = said.map(|message| Ok(ToTaskManager { epoch: 1, message: Some(message) }));
        self.attached.send(()).unwrap();
        Ok(Response::new(stream::iter(said).chain(stream::pending()).boxed()))
    }

    async fn fetch_artifact(
        &self,
        _: Request<FetchArtifactRequest>,
    ) -> Result<Response<Said<ArtifactChunk>>, Status> {
        let chunk = ArtifactChunk { data: script("chatter") };
        Ok(Response::new(stream::iter([Ok(chunk)]).boxed()))
    }
}

#[tokio::test]
async fn a_frozen_master_is_given_up_although_hosts_wait_to_be_heard() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    #[expect(clippy::disallowed_methods, reason = "a test says how much comes")]
    let (attached, mut attaches) = mpsc::unbounded_channel();
    let host = HostId::from_u128(99 << 64 | u128::from(std::process::id()));
    let frozen = Frozen { host, attached, unread: Mutex::default() };
    let server = tonic::transport::Server::builder()
        .add_service(ClusterServer::new(frozen))
        .serve_with_incoming(TcpListenerStream::new(listener));
    let server = tokio::spawn(server);
    let worker = Worker::start(&address);
    for _ in 0..2 {
        let attach = tokio::time::timeout(Duration::from_secs(20), attaches.recv()).await;
        attach.expect("the worker comes back").unwrap();
        eventually("the host runs", || marked(host) > 0).await;
    }
    worker.shutdown.cancel();
    worker.done.await.unwrap();
    assert_eq!(marked(host), 0);
    server.abort();
}
