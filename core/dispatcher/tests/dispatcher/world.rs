//! A Dispatcher with JobMasters, TaskManagers and a planner of the test, and an HTTP client.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use millstream_config::Configuration;
use millstream_dispatcher::{
    ArtifactStore, DispatcherConfig, DispatcherHandle, Disposals, JarStore, LogFiles, PlanExtent,
    PlanFailed, Planner, ProxyServer, RestConfig, RestServer, RestServices, StoredSavepoints,
    start_dispatcher,
};
use millstream_gateway::{
    CauseKind, CheckpointRequest, DispatcherGateway as _, ExceptionEntry, FailureCause, FileChunk,
    FileError, FileInfo, HostCommand, JobDetails, JobMasterEvent, JobMasterFactory,
    JobMasterGateway, JobSubmission, Rates, RegistrationRefused, RequestDetails, RequestState,
    ResourceManagerGateway, SlotRequirement, StartHost, Stopped, SubtaskDetails, TaskLocation,
    TaskManagerDetails, TaskManagerGateway, TaskManagerGone, TaskManagerHeartbeat,
    TaskManagerRegistration, TaskMetrics, VertexDetails,
};
use millstream_graph::{JobGraph, JobSettings, NodeId, NodeKind, Partitioner, StreamGraph};
use millstream_security::Credentials;
use millstream_types::metrics::{HistogramSummary, MetricValue};
use millstream_types::{
    AllocationId, ArtifactHash, ByteSize, ExecutionState, HostId, JobId, JobStatus,
    ResourceProfile, TaskManagerId, Timestamp, TriggerId,
};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub const TASK_MANAGER: &str = "127.0.0.1:40001-abc";

/// The content of the file `secret` beside the log directory.
pub const HIDDEN: &str = "not for readers of logs";

/// A JobMaster that the test controls.
#[derive(Debug)]
pub struct FakeJobMaster {
    job: JobId,
    /// The requests for checkpoints, in the order in which they came, repeated ones too.
    pub requests: Mutex<Vec<(TriggerId, CheckpointRequest)>>,
    /// It shows no requests.
    pub deaf: AtomicBool,
    /// None once it is dead.
    publisher: Mutex<Option<watch::Sender<Arc<JobDetails>>>>,
    details: watch::Receiver<Arc<JobDetails>>,
}

impl FakeJobMaster {
    pub fn publish(&self, change: impl FnOnce(&mut JobDetails)) {
        let publisher = self.publisher.lock().unwrap();
        publisher.as_ref().unwrap().send_modify(|details| change(Arc::make_mut(details)));
    }

    pub fn set(&self, status: JobStatus) {
        self.publish(|details| {
            details.status = status;
            details.status_times.insert(status, Timestamp::now());
            if status.is_globally_terminal() {
                details.end_time = Some(Timestamp::now());
            }
        });
    }

    pub fn fail(&self) {
        self.publish(|details| details.exceptions = vec![exception()]);
        self.set(JobStatus::Failed);
    }

    /// Fails and is about to run again.
    pub fn restart(&self) {
        self.publish(|details| details.exceptions = vec![exception()]);
        self.set(JobStatus::Restarting);
    }

    fn request(&self, trigger: TriggerId, request: CheckpointRequest) {
        self.requests.lock().unwrap().push((trigger, request.clone()));
        if self.deaf.load(Ordering::SeqCst) {
            return;
        }
        self.publish(|details| {
            if details.requests.iter().all(|known| known.trigger != trigger) {
                let state = RequestState::InProgress;
                details.requests.push(Arc::new(RequestDetails { trigger, request, state }));
            }
        });
    }

    /// Changes the state of a request.
    pub fn settle(&self, trigger: TriggerId, state: RequestState) {
        self.publish(|details| {
            let mut all = details.requests.iter_mut();
            let found = all.find(|request| request.trigger == trigger).unwrap();
            Arc::make_mut(found).state = state;
        });
    }

    /// Ends without a word.
    pub fn die(&self) {
        self.publisher.lock().unwrap().take();
    }
}

impl JobMasterGateway for FakeJobMaster {
    fn job(&self) -> JobId {
        self.job
    }

    fn post(&self, event: JobMasterEvent) -> BoxFuture<'_, Result<(), Stopped>> {
        match event {
            JobMasterEvent::Cancel => self.set(JobStatus::Canceled),
            JobMasterEvent::Request { trigger, request } => self.request(trigger, request),
            _ => {}
        }
        Box::pin(async { Ok(()) })
    }

    fn details(&self) -> watch::Receiver<Arc<JobDetails>> {
        self.details.clone()
    }
}

#[derive(Debug, Default)]
pub struct FakeFactory {
    pub masters: Mutex<BTreeMap<JobId, Arc<FakeJobMaster>>>,
    pub submissions: Mutex<Vec<JobSubmission>>,
}

impl FakeFactory {
    pub fn master(&self, job: JobId) -> Arc<FakeJobMaster> {
        self.masters.lock().unwrap()[&job].clone()
    }
}

impl JobMasterFactory for FakeFactory {
    fn start(&self, submission: JobSubmission) -> Arc<dyn JobMasterGateway> {
        let (publisher, details) = watch::channel(Arc::new(running(&submission)));
        let publisher = Mutex::new(Some(publisher));
        let (requests, deaf) = (Mutex::default(), AtomicBool::default());
        let master = FakeJobMaster { job: submission.job, requests, deaf, publisher, details };
        let master = Arc::new(master);
        self.masters.lock().unwrap().insert(submission.job, master.clone());
        self.submissions.lock().unwrap().push(submission);
        master
    }
}

fn location() -> TaskLocation {
    TaskLocation {
        task_manager: TaskManagerId::new(TASK_MANAGER),
        address: "127.0.0.1".into(),
        host: HostId::from_u128(1),
        data_port: Some(45_001),
    }
}

fn exception() -> ExceptionEntry {
    ExceptionEntry {
        timestamp: Timestamp::now(),
        cause: FailureCause::new(CauseKind::Panic, "probe failure at 150")
            .with_detail("src/main.rs:23:9\nstack"),
        task: Some("slow (2/2)".into()),
        location: Some(location()),
    }
}

/// A histogram of user code.
fn lookups() -> HistogramSummary {
    HistogramSummary {
        count: 9,
        min: 1,
        max: 100,
        mean: 12.5,
        stddev: 2.5,
        quantiles: [10, 20, 30, 40, 50, 60, 70],
    }
}

fn running(submission: &JobSubmission) -> JobDetails {
    let start = Timestamp::from_millis(Timestamp::now().as_millis() - 5_000);
    let at = |offset: u64| start.saturating_add(std::time::Duration::from_millis(offset));
    let subtask = |number: u32| SubtaskDetails {
        subtask: number,
        attempt: 0,
        state: ExecutionState::Running,
        state_times: BTreeMap::from([
            (ExecutionState::Created, at(0)),
            (ExecutionState::Scheduled, at(10)),
            (ExecutionState::Deploying, at(20)),
            (ExecutionState::Initializing, at(30)),
            (ExecutionState::Running, at(40)),
        ]),
        location: Some(location()),
        metrics: TaskMetrics {
            records_in: 10 * (u64::from(number) + 1),
            records_out: 7,
            bytes_in: 100,
            bytes_out: 70,
            busy_ns: 3_000_000,
            idle_ns: 4_000_000,
            backpressured_ns: 5_000_000,
            records_dropped: 3,
            watermark: (number == 1).then(|| Timestamp::from_millis(1_700_000_000_123)),
            input_watermarks: [None, (number == 1).then_some(Timestamp::MAX)],
            user: BTreeMap::from([
                ("seen".to_owned(), MetricValue::Counter(21)),
                ("numFilesSkipped".to_owned(), MetricValue::Counter(2)),
                ("cache_bytes".to_owned(), MetricValue::Gauge(0.5)),
                ("lookup_us".to_owned(), MetricValue::Histogram(lookups())),
            ]),
            ..TaskMetrics::default()
        },
        rates: Some(Rates {
            busy: 100.4,
            idle: 899.6 - 600.0 * f64::from(number),
            backpressured: 600.0 * f64::from(number),
            records_in: 10.0,
            records_out: 7.0,
        }),
        slot: Some(number),
    };
    let vertex = |vertex: &millstream_graph::JobVertex| VertexDetails {
        id: vertex.id,
        subtasks: (0..vertex.parallelism).map(subtask).map(Arc::new).collect(),
    };
    JobDetails {
        job: submission.job,
        graph: submission.graph.clone(),
        artifact: submission.artifact,
        status: JobStatus::Running,
        status_times: BTreeMap::from([
            (JobStatus::Initializing, at(0)),
            (JobStatus::Created, at(5)),
            (JobStatus::Running, at(10)),
        ]),
        start_time: start,
        end_time: None,
        vertices: submission.graph.vertices.iter().map(vertex).collect(),
        exceptions: vec![],
        exceptions_truncated: false,
        restarts: 0,
        waiting_for: None,
        checkpoints: None,
        requests: Vec::new(),
    }
}

/// A TaskManager with two log files.
#[derive(Debug)]
struct FakeWorker {
    id: TaskManagerId,
    released: Arc<Mutex<Vec<ArtifactHash>>>,
}

impl TaskManagerGateway for FakeWorker {
    fn id(&self) -> &TaskManagerId {
        &self.id
    }

    fn start_host(
        &self,
        _owner: Arc<dyn JobMasterGateway>,
        _start: StartHost,
    ) -> Result<(), TaskManagerGone> {
        Ok(())
    }

    fn command(&self, _command: HostCommand) -> Result<(), TaskManagerGone> {
        Ok(())
    }

    fn stop_host(&self, _host: HostId, _grace: std::time::Duration) -> Result<(), TaskManagerGone> {
        Ok(())
    }

    fn release_artifact(&self, artifact: ArtifactHash) -> Result<(), TaskManagerGone> {
        self.released.lock().unwrap().push(artifact);
        Ok(())
    }

    fn list_files(&self) -> BoxFuture<'static, Result<Vec<FileInfo>, FileError>> {
        let modified = Timestamp::from_millis(1);
        Box::pin(async move { Ok(vec![FileInfo { name: "tm.log".into(), size: 3, modified }]) })
    }

    /// The log has 2,500,000 bytes.
    fn read_file(
        &self,
        name: String,
        offset: u64,
        length: u32,
    ) -> BoxFuture<'static, Result<FileChunk, FileError>> {
        Box::pin(async move {
            if name != ".log" && name != "tm.log" {
                return Err(FileError::NotFound(name));
            }
            let rest = 2_500_000_u64.saturating_sub(offset);
            let count = rest.min(length.into());
            let data = vec![b'x'; usize::try_from(count).unwrap()];
            Ok(FileChunk { data, last: count == rest })
        })
    }
}

#[derive(Debug)]
struct FakeResourceManager {
    released: Arc<Mutex<Vec<ArtifactHash>>>,
}

impl ResourceManagerGateway for FakeResourceManager {
    fn declare(
        &self,
        _owner: Arc<dyn JobMasterGateway>,
        _requirements: Vec<SlotRequirement>,
    ) -> BoxFuture<'_, Result<(), Stopped>> {
        Box::pin(async { Ok(()) })
    }

    fn release(&self, _allocations: Vec<AllocationId>) -> BoxFuture<'_, Result<(), Stopped>> {
        Box::pin(async { Ok(()) })
    }

    fn register(
        &self,
        _registration: TaskManagerRegistration,
        _gateway: Arc<dyn TaskManagerGateway>,
    ) -> BoxFuture<'_, Result<(), RegistrationRefused>> {
        Box::pin(async { Ok(()) })
    }

    fn heartbeat(
        &self,
        _task_manager: TaskManagerId,
        _heartbeat: TaskManagerHeartbeat,
    ) -> BoxFuture<'_, Result<(), Stopped>> {
        Box::pin(async { Ok(()) })
    }

    fn lost(
        &self,
        _gateway: Arc<dyn TaskManagerGateway>,
        _cause: FailureCause,
    ) -> BoxFuture<'_, Result<(), Stopped>> {
        Box::pin(async { Ok(()) })
    }

    fn task_managers(&self) -> BoxFuture<'_, Result<Vec<TaskManagerDetails>, Stopped>> {
        let id = TaskManagerId::new(TASK_MANAGER);
        let gateway = FakeWorker { id: id.clone(), released: self.released.clone() };
        let details = TaskManagerDetails {
            registration: TaskManagerRegistration {
                id,
                address: "127.0.0.1".into(),
                data_port: 0,
                slots: 4,
                slot_profile: ResourceProfile { cpu_cores: 1.0, memory: ByteSize::from_mib(256) },
                memory_process: ByteSize::from_mib(1200),
                cpu_cores: 2,
                physical_memory: ByteSize::from_mib(8000),
                pid: 7,
            },
            registered_at: Timestamp::now(),
            last_heartbeat: Timestamp::now(),
            heartbeat: TaskManagerHeartbeat {
                free_memory: ByteSize::from_mib(5000),
                ..TaskManagerHeartbeat::default()
            },
            allocated: vec![(0, JobId::from_u128(1)), (1, JobId::from_u128(1))],
            gateway: Arc::new(gateway),
        };
        Box::pin(async move { Ok(vec![details]) })
    }
}

/// A request to the planner.
pub type Planned = (PathBuf, JobSettings);

#[derive(Debug, Default)]
pub struct FakePlanner {
    pub asked: Mutex<Vec<Planned>>,
}

impl Planner for FakePlanner {
    /// The entry `broken` has no plan.
    fn plan(
        &self,
        artifact: PathBuf,
        settings: JobSettings,
        _extent: PlanExtent,
    ) -> BoxFuture<'_, Result<JobGraph, PlanFailed>> {
        let broken = settings.entry.as_deref() == Some("broken");
        self.asked.lock().unwrap().push((artifact, settings));
        let failed = PlanFailed { message: "the program panicked".into(), detail: "here".into() };
        Box::pin(async move { if broken { Err(failed) } else { Ok(graph()) } })
    }
}

/// A source and a keyed sum of two subtasks each, with a name that is HTML.
pub fn graph() -> JobGraph {
    let node = |id: u32, name: &str, kind: NodeKind| millstream_graph::StreamNode {
        id: NodeId(id),
        uid: Some(name.to_owned()),
        name: name.to_owned(),
        kind,
        stateful: false,
        assigns_times: false,
        needs_times: false,
        parallelism: Some(2),
        max_parallelism: None,
        slot_sharing_group: None,
        chaining: millstream_graph::Chaining::Always,
        output_type: "u64".into(),
    };
    let source = NodeKind::Source {
        boundedness: millstream_graph::Boundedness::Unbounded,
        coordinated: false,
        restarts_alone: true,
    };
    let stream = StreamGraph {
        nodes: vec![
            node(0, "Source: <b>numbers</b>", source),
            node(1, "count", NodeKind::Sink { coordinated: false }),
        ],
        edges: vec![millstream_graph::StreamEdge {
            source: NodeId(0),
            output: millstream_graph::OutputName::Main,
            target: NodeId(1),
            input: 0,
            partitioner: Some(Partitioner::Hash),
        }],
    };
    let settings = JobSettings {
        parallelism: 2,
        config: BTreeMap::from([("my.password".to_owned(), "hunter2".to_owned())]),
        ..JobSettings::default()
    };
    millstream_graph::plan(&stream, "probe-a", 0, BTreeMap::new(), &settings).unwrap()
}

pub struct World {
    pub directory: tempfile::TempDir,
    pub address: SocketAddr,
    pub dispatcher: DispatcherHandle,
    pub artifacts: ArtifactStore,
    pub factory: Arc<FakeFactory>,
    pub planner: Arc<FakePlanner>,
    pub released: Arc<Mutex<Vec<ArtifactHash>>>,
    pub shutdown: CancellationToken,
    pub stop: CancellationToken,
    rest: RestConfig,
    services: RestServices,
}

impl World {
    pub async fn start() -> Self {
        Self::configured(&[], DispatcherConfig::default()).await
    }

    pub async fn configured(pairs: &[(&str, &str)], config: DispatcherConfig) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let logs = directory.path().join("log");
        std::fs::create_dir(&logs).unwrap();
        std::fs::write(logs.join("jm.log"), "a line\n").unwrap();
        std::fs::write(directory.path().join("secret"), HIDDEN).unwrap();
        std::os::unix::fs::symlink("../secret", logs.join("link.log")).unwrap();

        let (limit, unused_for) = (ByteSize::from_mib(4), Duration::from_secs(3));
        let artifacts = directory.path().join("artifacts");
        let artifacts = ArtifactStore::open(&artifacts, limit, unused_for).unwrap();
        let jars = JarStore::open(&directory.path().join("jars"), artifacts.clone()).unwrap();
        let (factory, planner) = (Arc::<FakeFactory>::default(), Arc::<FakePlanner>::default());
        let released = Arc::<Mutex<Vec<ArtifactHash>>>::default();
        let resource_manager = Arc::new(FakeResourceManager { released: released.clone() });
        let (dispatcher, _) =
            start_dispatcher(&config, artifacts.clone(), factory.clone(), resource_manager.clone());
        let configuration = Configuration::from_pairs(pairs.iter().copied()).unwrap();
        let mut rest = RestConfig::new(configuration).unwrap();
        rest.logs = LogFiles { directory: Some(logs), log: Some("jm.log".into()), stdout: None };
        let shutdown = CancellationToken::new();
        let services = RestServices {
            dispatcher: dispatcher.clone(),
            resource_manager,
            artifacts: artifacts.clone(),
            jars,
            planner: planner.clone(),
            disposals: Disposals::new(Arc::new(StoredSavepoints)),
            lease: None,
            shutdown_requested: shutdown.clone(),
        };
        let server = RestServer::bind("127.0.0.1", [0]).await.unwrap();
        let (address, stop) = (server.local_addr(), CancellationToken::new());
        tokio::spawn(server.serve(rest.clone(), services.clone(), stop.clone()));
        Self {
            directory,
            address,
            dispatcher,
            artifacts,
            factory,
            planner,
            released,
            shutdown,
            stop,
            rest,
            services,
        }
    }

    /// Serves the same on another port, as YARN's web proxy at these addresses sees it, and talks
    /// to that from now on.
    pub async fn proxied(&mut self, peers: &[&str]) {
        let peers = peers.iter().map(|peer| peer.parse().unwrap());
        let server = ProxyServer::bind("127.0.0.1", [0], peers).await.unwrap();
        self.address = server.local_addr();
        tokio::spawn(server.serve(self.rest.clone(), self.services.clone(), self.stop.clone()));
    }

    /// Serves the same on another port with TLS, and talks to that from now on.
    pub async fn secured(&mut self, own: &Credentials) {
        let server = RestServer::bind("127.0.0.1", [0]).await.unwrap().secured(own).unwrap();
        self.address = server.local_addr();
        tokio::spawn(server.serve(self.rest.clone(), self.services.clone(), self.stop.clone()));
    }

    /// Stores these bytes.
    pub async fn artifact(&self, bytes: &[u8]) -> ArtifactHash {
        let mut upload = self.artifacts.upload().await.unwrap();
        upload.write(bytes).await.unwrap();
        upload.finish(None).await.unwrap().0
    }

    pub fn submission(job: u128, artifact: ArtifactHash) -> JobSubmission {
        let graph = Arc::new(graph());
        JobSubmission { job: JobId::from_u128(job), graph, artifact, artifact_size: 0 }
    }

    /// Submits a job of this number.
    pub async fn job(&self, number: u128) -> JobId {
        let artifact = self.artifact(b"program").await;
        self.dispatcher.submit(Self::submission(number, artifact)).await.unwrap()
    }

    pub async fn get(&self, path: &str) -> Response {
        self.send("GET", path, &[], b"").await
    }

    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if headers.iter().all(|(name, _)| !name.eq_ignore_ascii_case("host")) {
            head += &format!("Host: {}\r\n", self.address);
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        let mut bytes = (head + "\r\n").into_bytes();
        bytes.extend(body);
        self.raw(&bytes).await.unwrap_or_else(|| panic!("no answer to {method} {path}"))
    }

    /// Sends these bytes and reads an answer until the connection closes.
    pub async fn raw(&self, bytes: &[u8]) -> Option<Response> {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // The server may refuse early and close.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        Response::parse(&answer)
    }
}

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let split = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = String::from_utf8(bytes[..split].to_vec()).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers: BTreeMap<String, String> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let mut body = bytes[split + 4..].to_vec();
        if headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked") {
            body = unchunked(&body);
        }
        Some(Self { status, headers, body })
    }

    pub fn json(&self) -> Value {
        assert_eq!(self.headers["content-type"], "application/json; charset=UTF-8");
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The one sentence of an error.
    pub fn error(&self) -> String {
        let json = self.json();
        let object = json.as_object().unwrap();
        assert_eq!(object.len(), 1, "{json}");
        let errors = object["errors"].as_array().unwrap();
        assert_eq!(errors.len(), 1, "{json}");
        errors[0].as_str().unwrap().to_owned()
    }
}

fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|window| window == b"\r\n") {
        let length = std::str::from_utf8(&rest[..end]).unwrap();
        let length = usize::from_str_radix(length, 16).unwrap();
        body.extend(&rest[end + 2..end + 2 + length]);
        rest = &rest[end + 2 + length + 2..];
    }
    body
}

/// Waits until a condition holds.
pub async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}
