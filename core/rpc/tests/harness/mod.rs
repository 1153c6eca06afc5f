//! A master without components, and TaskManagers; the example `worker_or_host` is the program of
//! hosts.
#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use millstream_gateway::testing::TestingJobMaster;
use millstream_gateway::{
    ArtifactLocator, FailureCause, JobDetails, JobMasterEvent, JobMasterGateway,
    RegistrationRefused, ResourceManagerGateway, SlotRequirement, Stopped, TaskManagerDetails,
    TaskManagerGateway, TaskManagerHeartbeat, TaskManagerRegistration,
};
use millstream_graph::{Fingerprint, JobGraph, JobSettings, RuntimeMode};
use millstream_protocol::host::Begin;
use millstream_rpc::{ClusterServer, ClusterServerConfig, GrpcJobManager, RpcStatistics};
use millstream_security::{Authority, Credentials, Role};
use millstream_taskmanager::{
    ExitReason, HostSettings, LogDirectory, TaskManagerConfig, TaskManagerError, TempDirs,
};
use millstream_types::{
    AllocationId, ArtifactHash, ByteSize, HostId, JobId, JobStatus, LeaderEpoch, ResourceProfile,
    TaskManagerId, Timestamp,
};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub const DAY: Duration = Duration::from_secs(86_400);

pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Number of processes that carry the host's mark.
pub fn marked(host: HostId) -> usize {
    let mark = format!("MILLSTREAM_HOST_ID={host}");
    let environment = |entry: std::fs::DirEntry| std::fs::read(entry.path().join("environ"));
    let marked = |environment: &Vec<u8>| {
        environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
    };
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes.filter_map(|entry| environment(entry).ok()).filter(marked).count()
}

/// A JobMaster whose mailbox is full for ever.
#[derive(Debug)]
pub struct DeafJobMaster;

impl JobMasterGateway for DeafJobMaster {
    fn job(&self) -> JobId {
        JobId::from_u128(1)
    }

    fn post(&self, _: JobMasterEvent) -> BoxFuture<'_, Result<(), Stopped>> {
        Box::pin(std::future::pending())
    }

    fn details(&self) -> tokio::sync::watch::Receiver<Arc<JobDetails>> {
        panic!("nothing asks for them")
    }
}

// ---- the master

/// Calls that reached the master's components.
#[derive(Debug)]
pub enum Heard {
    Registered(TaskManagerRegistration, Arc<dyn TaskManagerGateway>),
    Heartbeat(TaskManagerHeartbeat),
    Lost(Arc<dyn TaskManagerGateway>, FailureCause),
}

#[derive(Debug)]
struct TestingResourceManager {
    heard: UnboundedSender<Heard>,
    refusal: Option<String>,
}

impl ResourceManagerGateway for TestingResourceManager {
    fn declare(
        &self,
        _: Arc<dyn JobMasterGateway>,
        _: Vec<SlotRequirement>,
    ) -> BoxFuture<'_, Result<(), Stopped>> {
        Box::pin(async { Ok(()) })
    }

    fn release(&self, _: Vec<AllocationId>) -> BoxFuture<'_, Result<(), Stopped>> {
        Box::pin(async { Ok(()) })
    }

    fn register(
        &self,
        registration: TaskManagerRegistration,
        gateway: Arc<dyn TaskManagerGateway>,
    ) -> BoxFuture<'_, Result<(), RegistrationRefused>> {
        Box::pin(async move {
            if let Some(refusal) = &self.refusal {
                return Err(RegistrationRefused(refusal.clone()));
            }
            let _ = self.heard.send(Heard::Registered(registration, gateway));
            Ok(())
        })
    }

    fn heartbeat(
        &self,
        _: TaskManagerId,
        heartbeat: TaskManagerHeartbeat,
    ) -> BoxFuture<'_, Result<(), Stopped>> {
        let _ = self.heard.send(Heard::Heartbeat(heartbeat));
        Box::pin(async { Ok(()) })
    }

    fn lost(
        &self,
        gateway: Arc<dyn TaskManagerGateway>,
        cause: FailureCause,
    ) -> BoxFuture<'_, Result<(), Stopped>> {
        let _ = self.heard.send(Heard::Lost(gateway, cause));
        Box::pin(async { Ok(()) })
    }

    fn task_managers(&self) -> BoxFuture<'_, Result<Vec<TaskManagerDetails>, Stopped>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

/// Artifacts in a directory.
#[derive(Debug, Clone)]
pub struct Store {
    dir: Arc<TempDir>,
    files: Arc<Mutex<HashMap<ArtifactHash, PathBuf>>>,
}

impl Default for Store {
    fn default() -> Self {
        Self { dir: Arc::new(tempfile::tempdir().unwrap()), files: Arc::default() }
    }
}

impl Store {
    pub fn add(&self, bytes: &[u8]) -> (ArtifactHash, u64) {
        use std::os::unix::fs::PermissionsExt;
        let artifact = ArtifactHash::new(Sha256::digest(bytes).into());
        let path = self.dir.path().join(artifact.to_string());
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        self.files.lock().unwrap().insert(artifact, path);
        (artifact, bytes.len() as u64)
    }
}

impl ArtifactLocator for Store {
    fn locate(&self, artifact: ArtifactHash) -> BoxFuture<'_, Option<PathBuf>> {
        let path = self.files.lock().unwrap().get(&artifact).cloned();
        Box::pin(async move { path })
    }
}

pub struct Master {
    pub address: String,
    pub statistics: Arc<RpcStatistics>,
    store: Store,
    heard: UnboundedReceiver<Heard>,
    shutdown: CancellationToken,
    server: JoinHandle<()>,
}

impl Master {
    pub async fn start(epoch: u64) -> Self {
        Self::start_on(TcpListener::bind("127.0.0.1:0").await.unwrap(), epoch).await
    }

    pub async fn start_on(listener: TcpListener, epoch: u64) -> Self {
        Self::serve(listener, epoch, None, None)
    }

    /// With TLS, as the JobManager of this authority's cluster.
    pub async fn secured(authority: &Authority) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = authority.issue(Role::JobManager, "jobmanager", DAY).unwrap();
        Self::serve(listener, 1, None, Some(&own))
    }

    pub async fn refusing(reason: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::serve(listener, 1, Some(reason.to_owned()), None)
    }

    fn serve(
        listener: TcpListener,
        epoch: u64,
        refusal: Option<String>,
        own: Option<&Credentials>,
    ) -> Self {
        let address = listener.local_addr().unwrap().to_string();
        #[expect(clippy::disallowed_methods, reason = "a test says how much comes")]
        let (heard, hears) = mpsc::unbounded_channel();
        let config = ClusterServerConfig {
            heartbeat_interval: Duration::from_millis(100),
            heartbeat_timeout: Duration::from_secs(2),
            registration_deadline: Duration::from_secs(1),
            connections_max: 64,
            ..ClusterServerConfig::new(LeaderEpoch::new(epoch))
        };
        let store = Store::default();
        let resource_manager = Arc::new(TestingResourceManager { heard, refusal });
        let server = ClusterServer::new(config, resource_manager, Arc::new(store.clone()));
        let server = match own {
            Some(own) => server.secured(own).unwrap(),
            None => server,
        };
        let statistics = server.statistics();
        let shutdown = CancellationToken::new();
        let serving = server.serve(listener, shutdown.clone());
        let server = tokio::spawn(async { serving.await.unwrap() });
        Self { address, statistics, store, heard: hears, shutdown, server }
    }

    /// Stops it and takes its port again.
    pub async fn stop(self) -> TcpListener {
        self.shutdown.cancel();
        self.server.await.unwrap();
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.address.parse().unwrap()).unwrap();
        socket.listen(16).unwrap()
    }

    pub fn add(&self, bytes: &[u8]) -> (ArtifactHash, u64) {
        self.store.add(bytes)
    }

    /// An artifact whose file was changed after it was stored.
    pub fn add_changed(&self, bytes: &[u8]) -> (ArtifactHash, u64) {
        let added = self.store.add(&[bytes, b"# other"].concat());
        let path = self.store.files.lock().unwrap().get(&added.0).cloned().unwrap();
        std::fs::write(path, [bytes, b"# 0ther"].concat()).unwrap();
        added
    }

    pub async fn heard(&mut self) -> Heard {
        let heard = tokio::time::timeout(Duration::from_secs(20), self.heard.recv()).await;
        heard.expect("the master hears something").unwrap()
    }

    pub async fn registered(&mut self) -> Arc<dyn TaskManagerGateway> {
        loop {
            if let Heard::Registered(_, gateway) = self.heard().await {
                return gateway;
            }
        }
    }

    pub async fn lost(&mut self) -> (Arc<dyn TaskManagerGateway>, FailureCause) {
        loop {
            if let Heard::Lost(gateway, cause) = self.heard().await {
                return (gateway, cause);
            }
        }
    }
}

pub fn job_master() -> (Arc<TestingJobMaster>, UnboundedReceiver<JobMasterEvent>) {
    let settings = JobSettings {
        args: Vec::new(),
        entry: None,
        parallelism: 1,
        max_parallelism: None,
        chaining: true,
        runtime_mode: RuntimeMode::Streaming,
        buffer_timeout_ms: 100,
        config: [].into(),
    };
    let graph = JobGraph {
        name: "test".to_owned(),
        vertices: Vec::new(),
        edges: Vec::new(),
        runtime_mode: RuntimeMode::Streaming,
        ordinal: 0,
        plan_values: [].into(),
        settings,
        fingerprint: Fingerprint([0; 32]),
    };
    TestingJobMaster::new(JobDetails {
        job: JobId::from_u128(1),
        graph: Arc::new(graph),
        artifact: ArtifactHash::new([0; 32]),
        status: JobStatus::Running,
        status_times: [].into(),
        start_time: Timestamp::from_millis(0),
        end_time: None,
        vertices: Vec::new(),
        exceptions: Vec::new(),
        exceptions_truncated: false,
        restarts: 0,
        waiting_for: None,
        checkpoints: None,
        requests: Vec::new(),
    })
}

// ---- TaskManagers

pub fn host_settings(dir: &Path) -> HostSettings {
    for name in ["log", "tmp"] {
        std::fs::create_dir_all(dir.join(name)).unwrap();
    }
    HostSettings {
        temp_dirs: TempDirs::new(dir.join("tmp"), []),
        logs: LogDirectory {
            dir: dir.join("log"),
            log_name: "tm.log".to_owned(),
            out_name: "tm.out".to_owned(),
        },
        variables: Vec::new(),
        start_timeout: Duration::from_secs(20),
        drain_timeout: Duration::from_secs(20),
    }
}

pub fn worker_config(dir: &Path, timeout: Duration) -> TaskManagerConfig {
    TaskManagerConfig {
        id: TaskManagerId::new("tm-1"),
        address: "127.0.0.1".to_owned(),
        bind_host: "127.0.0.1".to_owned(),
        data_port: 0,
        data_ports: "0".to_owned(),
        slots: 2,
        slot_profile: ResourceProfile { cpu_cores: 1.0, memory: ByteSize::from_mib(256) },
        memory_process: ByteSize::from_mib(640),
        hosts: host_settings(dir),
        artifact_dir: dir.join("artifacts"),
        artifact_bytes_max: ByteSize::from_mib(64),
        registration_timeout: timeout,
        registration_backoff_min: Duration::from_millis(10),
        registration_backoff_max: Duration::from_millis(100),
    }
}

pub struct Worker {
    dir: TempDir,
    pub shutdown: CancellationToken,
    pub done: BoxFuture<'static, Result<ExitReason, TaskManagerError>>,
    _end: tokio_util::sync::DropGuard,
}

impl Worker {
    pub fn start(address: &str) -> Self {
        Self::with_timeout(address, Duration::from_secs(60))
    }

    pub fn with_timeout(address: &str, timeout: Duration) -> Self {
        Self::with_connector(GrpcJobManager::new(address), timeout)
    }

    pub fn secured(address: &str, credentials: &Credentials, timeout: Duration) -> Self {
        Self::with_connector(GrpcJobManager::new(address).secured(credentials).unwrap(), timeout)
    }

    fn with_connector(connector: GrpcJobManager, timeout: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let shutdown = CancellationToken::new();
        let config = worker_config(dir.path(), timeout);
        let connector = Arc::new(connector);
        let run = tokio::spawn(millstream_taskmanager::run(config, connector, shutdown.clone()));
        let _end = shutdown.clone().drop_guard();
        Self { dir, shutdown, done: Box::pin(async { run.await.unwrap() }), _end }
    }

    pub fn log_dir(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// Number of files in its cache.
    pub fn artifacts(&self) -> usize {
        std::fs::read_dir(self.dir.path().join("artifacts")).unwrap().count()
    }
}

/// A TaskManager in a process of its own.
pub fn worker_process(address: &str) -> Child {
    Command::new(program()).args(["worker", address]).spawn().unwrap()
}

// ---- hosts

/// The program of TaskManagers and hosts: an example, which cargo builds with the tests of its
/// package.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("examples/worker_or_host");
    assert!(program.exists(), "{}: build it by `--example worker_or_host`", program.display());
    program
}

/// An artifact: a script that starts a host of one behaviour.
pub fn script(behaviour: &str) -> Vec<u8> {
    format!("#!/bin/sh\nexec {} {behaviour}\n", program().display()).into_bytes()
}

pub fn begin() -> Begin {
    Begin { major: 1, attempt: 3, ..Begin::default() }
}
