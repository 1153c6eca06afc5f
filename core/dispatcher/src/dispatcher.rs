//! The actor that knows all jobs.
//!
//! It starts one JobMaster per submission, watches what each publishes, and remembers the last
//! picture of those that ended. It holds an artifact for every job that runs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use millstream_config::{ConfigError, Configuration, options};
use millstream_gateway::{
    CauseKind, CheckpointRequest, DispatcherGateway, ExceptionEntry, FailureCause, JobDetails,
    JobMasterEvent, JobMasterFactory, JobMasterGateway, JobOverview, JobSubmission,
    ResourceManagerGateway, SubmitJobError, UnknownJob,
};
use millstream_types::{ArtifactHash, JobId, JobStatus, Timestamp, TriggerId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::artifacts::ArtifactStore;
use crate::ended_jobs::EndedJobs;

/// Limit of waiting messages.
const MESSAGES_MAX: usize = 1024;
/// Interval at which timeouts are checked.
const TICK: Duration = Duration::from_secs(1);

/// Options of the Dispatcher.
#[derive(Debug, Clone)]
pub struct DispatcherConfig {
    /// Number of ended jobs that are remembered (`jobstore.max-capacity`).
    pub ended_jobs_max: usize,
    /// Time for which each is remembered (`jobstore.expiration-time`).
    pub ended_jobs_expiration: Duration,
}

impl Default for DispatcherConfig {
    fn default() -> Self {
        Self { ended_jobs_max: usize::MAX, ended_jobs_expiration: Duration::from_secs(3600) }
    }
}

impl DispatcherConfig {
    /// Reads the options.
    ///
    /// # Errors
    /// The value of an option does not parse.
    pub fn new(configuration: &Configuration) -> Result<Self, ConfigError> {
        let max = configuration.get(&options::JOBSTORE_MAX_CAPACITY)?;
        let expiration = configuration.get(&options::JOBSTORE_EXPIRATION_TIME)?;
        Ok(Self {
            ended_jobs_max: usize::try_from(max).unwrap_or(usize::MAX),
            ended_jobs_expiration: expiration.duration(),
        })
    }
}

enum Message {
    Submit(JobSubmission, oneshot::Sender<Result<JobId, SubmitJobError>>),
    Cancel(JobId, oneshot::Sender<Result<(), UnknownJob>>),
    Request(JobId, TriggerId, CheckpointRequest, oneshot::Sender<Result<(), UnknownJob>>),
    Job(JobId, oneshot::Sender<Result<Arc<JobDetails>, UnknownJob>>),
    Jobs(oneshot::Sender<Vec<JobOverview>>),
    Follow(JobId, oneshot::Sender<Option<watch::Receiver<Arc<JobDetails>>>>),
    ClientHeartbeat(JobId, Timestamp, oneshot::Sender<Result<(), UnknownJob>>),
    Ended(Arc<JobDetails>),
    Shutdown(oneshot::Sender<()>),
}

/// The handle by which others call the Dispatcher.
#[derive(Debug, Clone)]
pub struct DispatcherHandle {
    messages: mpsc::Sender<Message>,
}

impl DispatcherHandle {
    async fn ask<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> Message) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.messages.send(make(reply)).await.ok()?;
        answer.await.ok()
    }

    /// Returns a channel of a job's snapshots, or none if the id is unknown. The last snapshot
    /// stays readable.
    pub async fn follow(&self, job: JobId) -> Option<watch::Receiver<Arc<JobDetails>>> {
        self.ask(|reply| Message::Follow(job, reply)).await.flatten()
    }

    /// Notes that the client of a job lives; the job is cancelled at `expires` unless another
    /// heartbeat comes first.
    ///
    /// # Errors
    /// The id belongs to no job.
    pub async fn client_heartbeat(&self, job: JobId, expires: Timestamp) -> Result<(), UnknownJob> {
        self.ask(|reply| Message::ClientHeartbeat(job, expires, reply))
            .await
            .unwrap_or(Err(UnknownJob(job)))
    }

    /// Refuses new jobs, cancels all that run, and returns once they have ended. Jobs stay readable
    /// until the last handle is dropped.
    pub async fn shutdown(&self) {
        let _ = self.ask(Message::Shutdown).await;
    }
}

impl DispatcherGateway for DispatcherHandle {
    fn submit(&self, submission: JobSubmission) -> BoxFuture<'_, Result<JobId, SubmitJobError>> {
        Box::pin(async move {
            self.ask(|reply| Message::Submit(submission, reply))
                .await
                .unwrap_or(Err(SubmitJobError::ShuttingDown))
        })
    }

    fn cancel(&self, job: JobId) -> BoxFuture<'_, Result<(), UnknownJob>> {
        Box::pin(async move {
            self.ask(|reply| Message::Cancel(job, reply)).await.unwrap_or(Err(UnknownJob(job)))
        })
    }

    fn request(
        &self,
        job: JobId,
        trigger: TriggerId,
        request: CheckpointRequest,
    ) -> BoxFuture<'_, Result<(), UnknownJob>> {
        Box::pin(async move {
            self.ask(|reply| Message::Request(job, trigger, request, reply))
                .await
                .unwrap_or(Err(UnknownJob(job)))
        })
    }

    fn job(&self, job: JobId) -> BoxFuture<'_, Result<Arc<JobDetails>, UnknownJob>> {
        Box::pin(async move {
            self.ask(|reply| Message::Job(job, reply)).await.unwrap_or(Err(UnknownJob(job)))
        })
    }

    fn jobs(&self) -> BoxFuture<'_, Vec<JobOverview>> {
        Box::pin(async move { self.ask(Message::Jobs).await.unwrap_or_default() })
    }
}

/// Starts the Dispatcher on the current runtime. The task ends when all handles are dropped.
#[must_use]
pub fn start_dispatcher(
    config: &DispatcherConfig,
    artifacts: ArtifactStore,
    factory: Arc<dyn JobMasterFactory>,
    resource_manager: Arc<dyn ResourceManagerGateway>,
) -> (DispatcherHandle, JoinHandle<()>) {
    let (messages, received) = mpsc::channel(MESSAGES_MAX);
    let actor = Actor {
        factory,
        artifacts,
        resource_manager,
        running: BTreeMap::new(),
        ended: EndedJobs::new(config.ended_jobs_max, config.ended_jobs_expiration),
        stopping: Vec::new(),
        shut_down: false,
        to_self: messages.downgrade(),
    };
    (DispatcherHandle { messages }, tokio::spawn(actor.run(received)))
}

#[derive(Debug)]
struct Running {
    master: Arc<dyn JobMasterGateway>,
    details: watch::Receiver<Arc<JobDetails>>,
    artifact: ArtifactHash,
    client_expires: Option<Timestamp>,
}

#[derive(Debug)]
struct Actor {
    factory: Arc<dyn JobMasterFactory>,
    artifacts: ArtifactStore,
    resource_manager: Arc<dyn ResourceManagerGateway>,
    running: BTreeMap<JobId, Running>,
    ended: EndedJobs,
    /// Callers of `shutdown` that wait for the end of all jobs.
    stopping: Vec<oneshot::Sender<()>>,
    shut_down: bool,
    to_self: mpsc::WeakSender<Message>,
}

impl Actor {
    async fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                message = messages.recv() => match message {
                    None => return,
                    Some(message) => self.on_message(message),
                },
                _ = tick.tick() => self.on_tick(),
            }
        }
    }

    fn on_message(&mut self, message: Message) {
        match message {
            Message::Submit(submission, reply) => {
                let _ = reply.send(self.submit(submission));
            }
            Message::Cancel(job, reply) => {
                let _ = reply.send(self.tell(job, JobMasterEvent::Cancel));
            }
            Message::Request(job, trigger, request, reply) => {
                let event = JobMasterEvent::Request { trigger, request };
                let _ = reply.send(self.tell(job, event));
            }
            Message::Job(job, reply) => {
                let _ = reply.send(self.details(job).ok_or(UnknownJob(job)));
            }
            Message::Follow(job, reply) => {
                let running = self.running.get(&job).map(|running| running.details.clone());
                let ended = || self.ended.get(job).map(|last| watch::channel(last.clone()).1);
                let _ = reply.send(running.or_else(ended));
            }
            Message::Jobs(reply) => {
                let running = self.running.values().map(|job| job.details.borrow().overview());
                let ended = self.ended.all().map(|details| details.overview());
                let mut jobs: Vec<_> = running.chain(ended).collect();
                jobs.sort_by_key(|job| std::cmp::Reverse((job.start_time, job.job)));
                let _ = reply.send(jobs);
            }
            Message::ClientHeartbeat(job, expires, reply) => {
                if let Some(running) = self.running.get_mut(&job) {
                    running.client_expires = Some(expires);
                }
                let _ = reply.send(self.details(job).map(|_| ()).ok_or(UnknownJob(job)));
            }
            Message::Ended(details) => self.on_ended(details),
            Message::Shutdown(reply) => {
                self.shut_down = true;
                self.stopping.push(reply);
                let jobs: Vec<JobId> = self.running.keys().copied().collect();
                for job in jobs {
                    let _ = self.tell(job, JobMasterEvent::Cancel);
                }
                self.finish_shutdown();
            }
        }
    }

    fn on_tick(&mut self) {
        self.ended.expire(Instant::now());
        let now = Timestamp::now();
        for (job, running) in &mut self.running {
            if running.client_expires.is_some_and(|expires| expires < now) {
                info!(%job, "the job's client is gone, so the job is cancelled");
                running.client_expires = None;
                post(running.master.clone(), JobMasterEvent::Cancel);
            }
        }
        let artifacts = self.artifacts.clone();
        let resource_manager = self.resource_manager.clone();
        tokio::spawn(async move {
            let dropped = artifacts.sweep(Instant::now()).await;
            if dropped.is_empty() {
                return;
            }
            for worker in resource_manager.task_managers().await.unwrap_or_default() {
                for artifact in &dropped {
                    // A TaskManager that is gone has no copy.
                    let _ = worker.gateway.release_artifact(*artifact);
                }
            }
        });
    }

    fn submit(&mut self, mut submission: JobSubmission) -> Result<JobId, SubmitJobError> {
        let (job, artifact) = (submission.job, submission.artifact);
        if self.shut_down {
            return Err(SubmitJobError::ShuttingDown);
        }
        if self.running.contains_key(&job) || self.ended.get(job).is_some() {
            return Err(SubmitJobError::Duplicate { job });
        }
        let Some(size) = self.artifacts.hold(artifact) else {
            return Err(SubmitJobError::UnknownArtifact { artifact });
        };
        submission.artifact_size = size;
        info!(%job, name = submission.graph.name, %artifact, "job submitted");
        let master = self.factory.start(submission);
        let details = master.details();
        self.watch(details.clone());
        self.running.insert(job, Running { master, details, artifact, client_expires: None });
        Ok(job)
    }

    /// Reports the job's last picture once it has ended.
    fn watch(&self, mut details: watch::Receiver<Arc<JobDetails>>) {
        let to_self = self.to_self.clone();
        tokio::spawn(async move {
            let ended = details.wait_for(|details| details.status.is_globally_terminal()).await;
            let last = match ended.map(|details| details.clone()) {
                Ok(last) => last,
                Err(_) => Arc::new(gone(&details.borrow())),
            };
            if let Some(messages) = to_self.upgrade() {
                let _ = messages.send(Message::Ended(last)).await;
            }
        });
    }

    fn on_ended(&mut self, details: Arc<JobDetails>) {
        let job = details.job;
        if let Some(running) = self.running.remove(&job) {
            self.artifacts.release(running.artifact);
            info!(%job, status = %details.status, "job ended");
        }
        self.ended.remember(Instant::now(), details);
        self.finish_shutdown();
    }

    fn finish_shutdown(&mut self) {
        if self.running.is_empty() {
            for waiting in self.stopping.drain(..) {
                let _ = waiting.send(());
            }
        }
    }

    /// Tells a job's master something; nothing if the job has ended.
    fn tell(&self, job: JobId, event: JobMasterEvent) -> Result<(), UnknownJob> {
        match self.running.get(&job) {
            Some(running) => post(running.master.clone(), event),
            None if self.ended.get(job).is_some() => {}
            None => return Err(UnknownJob(job)),
        }
        Ok(())
    }

    fn details(&self, job: JobId) -> Option<Arc<JobDetails>> {
        let running = self.running.get(&job).map(|running| running.details.borrow().clone());
        running.or_else(|| self.ended.get(job).cloned())
    }
}

/// Posts without waiting for room in the JobMaster's mailbox, so that the Dispatcher never blocks.
fn post(master: Arc<dyn JobMasterGateway>, event: JobMasterEvent) {
    tokio::spawn(async move {
        // A JobMaster that has stopped has nothing left to do.
        let _ = master.post(event).await;
    });
}

/// Makes the last snapshot of a job whose JobMaster stopped before the job ended.
fn gone(last: &JobDetails) -> JobDetails {
    warn!(job = %last.job, "the JobMaster is gone before its job ended");
    let now = Timestamp::now();
    let mut details = last.clone();
    details.status = JobStatus::Failed;
    details.status_times.insert(JobStatus::Failed, now);
    details.end_time = Some(now);
    let cause =
        FailureCause::new(CauseKind::Exit, "the job's JobMaster stopped because of a bug in it");
    details
        .exceptions
        .insert(0, ExceptionEntry { timestamp: now, cause, task: None, location: None });
    details
}
