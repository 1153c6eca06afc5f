//! Lifecycles of clusters: the purpose of each, and so the condition of its end.
//!
//! A session serves all clients; a cluster of one job ends with it; a cluster of an application
//! runs the program's build function beside the Dispatcher and ends when it has returned and its
//! jobs have ended. The components are the same in all three.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use millstream_dispatcher::{ArtifactStore, DispatcherHandle};
use millstream_gateway::{DispatcherGateway as _, JobDetails, JobSubmission};
use millstream_graph::{JobGraph, JobSettings};
use millstream_jobmaster::{IdSource, OsIds};
use millstream_launcher::{HostOutput, HostSpec, ProgramEvent, ProgramProcess};
use millstream_protocol::host::{Failure, JobQuery, JobResult, JobState, Role, Submitted, answer};
use millstream_rm_driver::ClusterStatus;
use millstream_taskmanager::LogDirectory;
use millstream_types::{ArtifactHash, ByteSize, HostId, JobId, JobStatus};
use prost::Message as _;
use tokio::task::JoinSet;

/// See the module.
#[derive(Debug, Clone)]
pub enum Lifecycle {
    /// Jobs come over REST until a client stops the cluster.
    Session,
    /// One job that was planned before.
    PerJob(PlannedJob),
    /// A program that plans here.
    Application(Application),
}

/// A job whose plan and executable are files of this machine.
#[derive(Debug, Clone)]
pub struct PlannedJob {
    /// Its id.
    pub job: JobId,
    /// Its plan, a `millstream.job.v1.JobGraph` without settings.
    pub graph: PathBuf,
    /// The plan's settings, which may hold secrets and so are in no file.
    pub settings: JobSettings,
    /// Its executable.
    pub artifact: PathBuf,
}

/// A program and how it is run.
#[derive(Debug, Clone)]
pub struct Application {
    /// The executable.
    pub artifact: PathBuf,
    /// The settings for its planning.
    pub settings: JobSettings,
    /// The id of its first job; the others follow, so that another run finds them again.
    pub first_job: JobId,
}

/// The end of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// For the external manager's books.
    pub(crate) status: ClusterStatus,
    /// In one sentence.
    pub(crate) diagnostics: String,
}

impl Outcome {
    pub(crate) fn new(status: ClusterStatus, diagnostics: impl Into<String>) -> Self {
        Self { status, diagnostics: diagnostics.into() }
    }

    fn failed(diagnostics: impl std::fmt::Display) -> Self {
        Self::new(ClusterStatus::Failed, diagnostics.to_string())
    }

    fn of(job: &JobDetails) -> Self {
        let status = match job.status {
            JobStatus::Finished => ClusterStatus::Succeeded,
            JobStatus::Canceled => ClusterStatus::Cancelled,
            _ => ClusterStatus::Failed,
        };
        Self::new(status, job.end_sentence())
    }
}

/// A cluster whose ports may open: clients can already ask for all that it has.
#[derive(Debug)]
pub(crate) enum Begun {
    Session,
    /// The one job has been submitted.
    Job(JobId),
    Application(Application),
    /// There is nothing to wait for.
    Over(Outcome),
}

/// Carries a life cycle out.
#[derive(Debug)]
pub(crate) struct Lifecycles {
    pub(crate) dispatcher: DispatcherHandle,
    pub(crate) artifacts: ArtifactStore,
    /// Variables of the application's process, beside a clean environment.
    pub(crate) variables: Vec<(OsString, OsString)>,
    pub(crate) temp_dir: PathBuf,
    pub(crate) logs: LogDirectory,
    pub(crate) memory: ByteSize,
}

impl Lifecycles {
    /// Whether a job has ended with a savepoint, whose outcome a client asks for now and then.
    pub(crate) async fn owes_answers(&self) -> bool {
        for job in self.dispatcher.jobs().await {
            let details = self.dispatcher.job(job.job).await;
            let requests = details.iter().flat_map(|details| &details.requests);
            let mut stops = requests.filter(|request| request.request.ends_job());
            if stops.next().is_some() {
                return true;
            }
        }
        false
    }

    /// Prepares the cluster before its ports open: a client that waits for the one job of a cluster
    /// must not hear that there is no such job.
    pub(crate) async fn begin(&self, lifecycle: Lifecycle) -> Begun {
        match lifecycle {
            Lifecycle::Session => Begun::Session,
            Lifecycle::Application(application) => Begun::Application(application),
            Lifecycle::PerJob(planned) => match self.start_job(planned).await {
                Ok(job) => Begun::Job(job),
                Err(reason) => Begun::Over(Outcome::failed(reason)),
            },
        }
    }

    /// Runs until the lifecycle has ended; for ever in a session.
    pub(crate) async fn run(&self, begun: Begun) -> Outcome {
        let outcome = match begun {
            Begun::Session => std::future::pending().await,
            Begun::Job(job) => end_of(&self.dispatcher, job).await.map(|job| Outcome::of(&job)),
            Begun::Application(application) => self.run_application(application).await,
            Begun::Over(outcome) => Ok(outcome),
        };
        outcome.unwrap_or_else(Outcome::failed)
    }

    async fn start_job(&self, planned: PlannedJob) -> Result<JobId, String> {
        let file = planned.graph.display();
        let bytes = std::fs::read(&planned.graph)
            .map_err(|error| format!("failed to read the job graph {file}: {error}"))?;
        let mut graph = millstream_protocol::job::JobGraph::decode(bytes.as_slice())
            .map_err(|error| format!("{file} is no job graph: {error}"))?;
        graph.settings = Some((&planned.settings).into());
        let artifact = self.adopt(planned.artifact).await?;
        self.submit(planned.job, graph, artifact).await
    }

    async fn adopt(&self, artifact: PathBuf) -> Result<ArtifactHash, String> {
        let adopted = self.artifacts.adopt(artifact.clone()).await;
        adopted.map_err(|error| format!("cannot use {}: {error}", artifact.display()))
    }

    async fn submit(
        &self,
        job: JobId,
        graph: millstream_protocol::job::JobGraph,
        artifact: ArtifactHash,
    ) -> Result<JobId, String> {
        let graph = JobGraph::try_from(graph).map_err(|error| error.to_string())?;
        let submission = JobSubmission { job, graph: Arc::new(graph), artifact, artifact_size: 0 };
        self.dispatcher.submit(submission).await.map_err(|error| error.to_string())
    }

    async fn run_application(&self, application: Application) -> Result<Outcome, String> {
        let artifact = self.adopt(application.artifact).await?;
        let executable = self.artifacts.path(artifact).ok_or("the artifact is gone")?;
        let mut host = [0; 16];
        OsIds.fill(&mut host);
        let output = self.logs.dir.join(&self.logs.out_name);
        let spec = HostSpec {
            variables: self.variables.clone(),
            temp_dir: Some(self.temp_dir.join("application")),
            output: HostOutput::Files { stdout: output.clone(), stderr: output },
            memory_limit: Some(self.memory),
            ..HostSpec::new(HostId::from_bytes(host), executable)
        };
        let program = ProgramProcess::start(spec, Role::Application, &application.settings).await;
        let mut program = program.map_err(|error| error.to_string())?;
        let first = u128::from_be_bytes(*application.first_job.as_bytes());
        let (count, worst, cancelled) = (0, None, BTreeSet::new());
        let mut jobs = Jobs { lifecycles: self, artifact, first, count, worst, cancelled };
        let mut ends = JoinSet::new();
        let mut runs = true;
        while runs || !ends.is_empty() {
            tokio::select! {
                event = program.next(), if runs => match event {
                    ProgramEvent::Planned(graph) => jobs.start(*graph, &program, &mut ends).await,
                    ProgramEvent::Asked(query) => jobs.on_query(query, &program).await,
                    ProgramEvent::Finished => {}
                    ProgramEvent::Failed(error) => jobs.note(Outcome::failed(error)),
                    ProgramEvent::Interrupted => {
                        jobs.note(Outcome::failed("the program was interrupted"));
                    }
                    ProgramEvent::Ended => runs = false,
                },
                Some(ended) = ends.join_next(), if !ends.is_empty() => {
                    if let Ok(ended) = ended {
                        jobs.on_end(ended, &program);
                    }
                }
            }
        }
        let ended = match jobs.count {
            1 => "the program and its job ended".to_owned(),
            count => format!("the program and its {count} jobs ended"),
        };
        Ok(jobs.worst.unwrap_or_else(|| Outcome::new(ClusterStatus::Succeeded, ended)))
    }
}

/// The jobs of an application.
struct Jobs<'a> {
    lifecycles: &'a Lifecycles,
    artifact: ArtifactHash,
    first: u128,
    count: u128,
    /// The first thing that went wrong; what follows is its consequence.
    worst: Option<Outcome>,
    /// The jobs that the program has cancelled itself.
    cancelled: BTreeSet<JobId>,
}

type JobEnd = (JobId, Result<Arc<JobDetails>, String>);

impl Jobs<'_> {
    fn note(&mut self, outcome: Outcome) {
        if outcome.status != ClusterStatus::Succeeded {
            self.worst.get_or_insert(outcome);
        }
    }

    /// Starts the next job and tells the program; its end comes through `ends`.
    async fn start(
        &mut self,
        graph: millstream_protocol::job::JobGraph,
        program: &ProgramProcess,
        ends: &mut JoinSet<JobEnd>,
    ) {
        let job = JobId::from_u128(self.first.wrapping_add(self.count));
        self.count += 1;
        match self.lifecycles.submit(job, graph, self.artifact).await {
            Ok(job) => {
                let job_id = job.as_bytes().to_vec();
                program.answer(answer::Answer::Submitted(Submitted { job_id }));
                let dispatcher = self.lifecycles.dispatcher.clone();
                ends.spawn(async move { (job, end_of(&dispatcher, job).await) });
            }
            Err(reason) => {
                program.answer(answer::Answer::Refused(failure(reason.clone())));
                self.note(Outcome::failed(reason));
            }
        }
    }

    /// Tells the program how one of its jobs fares.
    async fn on_query(&mut self, query: JobQuery, program: &ProgramProcess) {
        let (status, failure) = match self.ask(&query).await {
            Ok(status) => (status.as_str().to_owned(), None),
            Err(reason) => (String::new(), Some(failure(reason))),
        };
        let state = JobState { job_id: query.job_id, status, failure };
        program.answer(answer::Answer::JobState(state));
    }

    async fn ask(&mut self, query: &JobQuery) -> Result<JobStatus, String> {
        let job = JobId::try_from(query.job_id.as_slice()).map_err(|error| error.to_string())?;
        let dispatcher = &self.lifecycles.dispatcher;
        if query.cancel {
            dispatcher.cancel(job).await.map_err(|error| error.to_string())?;
            self.cancelled.insert(job);
        }
        let details = dispatcher.job(job).await.map_err(|error| error.to_string())?;
        Ok(details.status)
    }

    /// A job has ended: the program that waits for it hears how.
    fn on_end(&mut self, (job, ended): JobEnd, program: &ProgramProcess) {
        let job_id = job.as_bytes().to_vec();
        let (outcome, status, runtime_ms) = match &ended {
            Ok(details) => {
                let end = details.end_time.unwrap_or(details.start_time);
                let runtime = end.as_millis().saturating_sub(details.start_time.as_millis());
                (Outcome::of(details), details.status, u64::try_from(runtime).unwrap_or(0))
            }
            Err(reason) => (Outcome::failed(reason), JobStatus::Failed, 0),
        };
        let failed = outcome.status != ClusterStatus::Succeeded;
        let cause = failed.then(|| failure(outcome.diagnostics.clone()));
        let status = status.as_str().to_owned();
        program.answer(answer::Answer::Result(JobResult { job_id, status, runtime_ms, cause }));
        let by_program = ended.is_ok_and(|details| details.status == JobStatus::Canceled)
            && self.cancelled.contains(&job);
        if !by_program {
            self.note(outcome);
        }
    }
}

/// A job's last picture.
async fn end_of(dispatcher: &DispatcherHandle, job: JobId) -> Result<Arc<JobDetails>, String> {
    let gone = || format!("job {job} is not known any more");
    let mut details = dispatcher.follow(job).await.ok_or_else(gone)?;
    let last = details.wait_for(|details| details.status.is_globally_terminal()).await;
    last.map(|details| Arc::clone(&details)).map_err(|_| gone())
}

fn failure(message: String) -> Failure {
    Failure { kind: "error".to_owned(), message, detail: String::new() }
}
