//! A job in one process, with nothing started.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use millstream_api::{JobResult, Program};
use millstream_gateway::{
    CheckpointRequest, ExceptionEntry, JobDetails, JobMasterEvent, JobMasterFactory,
    JobMasterGateway, JobSubmission, RegistrationRefused, ResourceManagerGateway,
    TaskManagerRegistration,
};
use millstream_graph::JobGraph;
use millstream_jobmaster::{Factory, IdSource, JobMasterConfig, OsIds};
use millstream_resourcemanager::{ResourceManagerConfig, start_resource_manager};
use millstream_rm_driver::{
    ClusterStatus, DriverEvent, DriverEvents, RequestId, ResourceManagerDriver, WorkerRequest,
    driver_events,
};
use millstream_types::{
    ArtifactHash, ByteSize, JobId, JobStatus, ResourceProfile, TaskManagerId, TriggerId,
};
use tokio::sync::watch;

use crate::in_process::InProcessHosts;

/// The end of a job that did not finish.
#[derive(Debug, thiserror::Error)]
pub enum JobFailed {
    /// It failed or was cancelled.
    #[error("{sentence}")]
    Ended {
        /// Failed or cancelled.
        status: JobStatus,
        /// The job, its end, and the newest cause.
        sentence: String,
    },
    /// One process cannot offer as many slots as the job needs.
    #[error("the job needs {slots} slots, more than one process can offer: lower its parallelism")]
    TooWide {
        /// Number of slots that the job needs.
        slots: u32,
        /// The ResourceManager's refusal.
        #[source]
        refused: RegistrationRefused,
    },
    /// The process cannot start threads or the like.
    #[error("failed to start the cluster of this process")]
    Start(#[source] std::io::Error),
}

/// A job that runs in this process. Dropping it abandons the job.
#[derive(Debug)]
pub struct MiniCluster {
    job: Arc<dyn JobMasterGateway>,
    runtime: tokio::runtime::Runtime,
}

impl MiniCluster {
    /// Starts the job with as many slots as it needs.
    ///
    /// # Errors
    /// [`JobFailed::Start`], [`JobFailed::TooWide`].
    pub fn start(
        program: Program,
        graph: JobGraph,
        config: JobMasterConfig,
    ) -> Result<Self, JobFailed> {
        Self::start_on(1, program, graph, config)
    }

    /// Starts the job on several TaskManagers of this process. The hosts of two TaskManagers
    /// exchange records over loopback, as those of two processes do.
    ///
    /// # Errors
    /// [`JobFailed::Start`], [`JobFailed::TooWide`].
    pub fn start_on(
        workers: u32,
        program: Program,
        graph: JobGraph,
        config: JobMasterConfig,
    ) -> Result<Self, JobFailed> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("mini-cluster")
            .enable_time()
            .build()
            .map_err(JobFailed::Start)?;
        let job = runtime.block_on(start(workers, Arc::new(program), graph, config))?;
        Ok(Self { job, runtime })
    }

    /// The job.
    #[must_use]
    pub fn job(&self) -> JobId {
        self.job.job()
    }

    /// Returns the job's details as clients see them, and their changes.
    #[must_use]
    pub fn details(&self) -> watch::Receiver<Arc<JobDetails>> {
        self.job.details()
    }

    /// The state of the job now.
    #[must_use]
    pub fn status(&self) -> JobStatus {
        self.job.details().borrow().status
    }

    /// Asks the job to stop; one that has ended stays as it is.
    pub fn cancel(&self) {
        // It is refused by a job that has ended.
        let _ = self.runtime.block_on(self.job.post(JobMasterEvent::Cancel));
    }

    /// Asks the job for a checkpoint or savepoint; its details say what becomes of it.
    pub fn request(&self, trigger: TriggerId, request: CheckpointRequest) {
        let _ = self.runtime.block_on(self.job.post(JobMasterEvent::Request { trigger, request }));
    }

    /// Waits for the job's end.
    ///
    /// # Errors
    /// [`JobFailed::Ended`].
    pub fn wait(self) -> Result<JobResult, JobFailed> {
        let mut details = self.job.details();
        let ended = self.runtime.block_on(async {
            let ended = details.wait_for(|details| details.status.is_globally_terminal()).await;
            ended.map(|details| Arc::clone(&details)).ok()
        });
        let details = ended.unwrap_or_else(|| Arc::clone(&self.job.details().borrow()));
        // A task that is stuck in user code must not keep the process.
        self.runtime.shutdown_timeout(Duration::from_secs(1));
        result_of(&details)
    }
}

fn result_of(details: &JobDetails) -> Result<JobResult, JobFailed> {
    if details.status == JobStatus::Finished {
        let end = details.end_time.unwrap_or(details.start_time);
        let runtime = end.saturating_since(details.start_time);
        return Ok(JobResult { job: details.job, status: details.status, runtime });
    }
    // The location would always be the process's only TaskManager.
    let exceptions = details.exceptions.iter().cloned();
    let exceptions = exceptions.map(|entry| ExceptionEntry { location: None, ..entry }).collect();
    let sentence = JobDetails { exceptions, ..details.clone() }.end_sentence();
    Err(JobFailed::Ended { status: details.status, sentence })
}

async fn start(
    workers: u32,
    program: Arc<Program>,
    graph: JobGraph,
    config: JobMasterConfig,
) -> Result<Arc<dyn JobMasterGateway>, JobFailed> {
    let handle = tokio::runtime::Handle::current();
    let (events, received) = driver_events();
    events.post(DriverEvent::Recovered(Vec::new())).await;
    let driver = Box::new(NoOtherWorkers { _events: events });
    let first = ResourceManagerConfig::new(u128::from_be_bytes(random()));
    let (resources, _) = start_resource_manager(&first, driver, received);
    let slots: u32 = graph.slots_by_group().values().sum();
    for number in 0..workers {
        let id = if number == 0 { "local".to_owned() } else { format!("local-{number}") };
        let listens = workers > 1;
        let worker = InProcessHosts::new(&id, Arc::clone(&program), handle.clone(), listens);
        let registration = registration(&id, slots.div_ceil(workers));
        let registered = resources.register(registration, worker).await;
        registered.map_err(|refused| JobFailed::TooWide { slots, refused })?;
    }
    let factory = Factory {
        resource_manager: Arc::new(resources),
        coordinator_hosts: InProcessHosts::new("local-coordinators", program, handle, false),
        config,
    };
    Ok(factory.start(JobSubmission {
        job: JobId::from_bytes(random()),
        graph: Arc::new(graph),
        artifact: ArtifactHash::new([0; 32]),
        artifact_size: 0,
    }))
}

/// The registration of a TaskManager in this process.
fn registration(id: &str, slots: u32) -> TaskManagerRegistration {
    TaskManagerRegistration {
        id: TaskManagerId::new(id),
        address: "localhost".to_owned(),
        data_port: 0,
        slots,
        slot_profile: ResourceProfile { cpu_cores: 1.0, memory: ByteSize::from_mib(1024) },
        memory_process: ByteSize::from_mib(1024),
        cpu_cores: 1,
        physical_memory: ByteSize::from_mib(1024),
        pid: std::process::id(),
    }
}

/// 16 random bytes.
fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    OsIds.fill(&mut bytes);
    bytes
}

/// The driver of a process that has its one TaskManager and never gets another.
#[derive(Debug)]
struct NoOtherWorkers {
    _events: DriverEvents,
}

impl ResourceManagerDriver for NoOtherWorkers {
    fn obtainable(&self) -> Option<WorkerRequest> {
        None
    }

    fn request(&mut self, _worker: WorkerRequest) -> RequestId {
        RequestId::new(0)
    }

    fn withdraw(&mut self, _request: RequestId) {}

    fn release(&mut self, _worker: &TaskManagerId) {}

    fn deregister(&mut self, _: ClusterStatus, _: String) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}
