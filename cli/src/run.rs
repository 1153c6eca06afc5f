//! `run`: the program plans here, its jobs run on the cluster.
//!
//! The program is our child in the client role. Each graph that it hands over is submitted, with
//! an id of ours, so that a repeated or interrupted submission can be found again. The program is
//! told at once that the job was accepted (`execute_async` returns then), and how it ended when
//! it has (`execute` returns then). Between the two it may ask after its jobs and cancel them.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, anyhow, ensure};
use bytes::Bytes;
use hyper::{Method, StatusCode};
use millstream_config::{Configuration, options};
use millstream_launcher::{ProgramEvent, ProgramProcess};
use millstream_protocol::host::{Failure, JobQuery, JobResult, JobState, Role, Submitted, answer};
use millstream_protocol::job::JobGraph;
use millstream_rest_types::jobs::{JobClientHeartbeatRequestBody, JobDetailsInfo, JobStatusInfo};
use millstream_rm_driver::{ClusterDeployer, ClusterId};
use millstream_types::{Escaped, JobId, JobStatus};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use crate::arguments::RunArguments;
use crate::flows::per_job::PerJob;
use crate::job_end::{cause, left_out};
use crate::jobs::request_cancel;
use crate::program::{self, random_id};
use crate::progress::Progress;
use crate::rest::{Content, RestClient};
use crate::settings::ClientHeartbeat;
use crate::submission::Artifact;
use crate::target::{self, Target};
use crate::{console, flows, recovery, runtime, settings, signals};

/// A job is asked after at this interval, growing from the shortest to the longest.
const POLL_SHORTEST: Duration = Duration::from_millis(20);
const POLL_LONGEST: Duration = Duration::from_millis(500);
/// Time that an external manager may take to notice the end of a cluster that is silent.
const END_PATIENCE: Duration = Duration::from_secs(5);
/// Time limit of an interrupted command for the end of the jobs that it cancels.
const CANCEL_PATIENCE: Duration = Duration::from_secs(60);

/// Whether the configuration says not to wait. Flink's default of this option is for clusters; its
/// command line waits unless told not to.
fn sets_detached(configuration: &Configuration) -> Result<bool> {
    let is_set = configuration.text(options::EXECUTION_ATTACHED.key()).is_some();
    Ok(is_set && !configuration.get(&options::EXECUTION_ATTACHED)?)
}

impl RunArguments {
    /// Whether the end of this process cancels the jobs.
    fn cancels_on_exit(&self, configuration: &Configuration) -> Result<bool> {
        let configured = configuration.get(&options::EXECUTION_SHUTDOWN_ON_ATTACHED_EXIT)?;
        Ok(self.shutdown_on_attached_exit || configured)
    }
}

/// Runs a program's jobs.
pub(crate) fn run(arguments: &RunArguments) -> Result<ExitCode> {
    let own = recovery::properties(&arguments.recovery)?;
    let (configuration, properties) = target::configuration_with(&arguments.cluster, own)?;
    let target = target::target_of_program(&arguments.cluster, &configuration)?;
    if let Target::Application(driver) = target {
        return flows::application::run(driver, arguments, &configuration, &properties);
    }
    let job_settings = settings::job_settings(&configuration, &properties, &arguments.program)?;
    if !matches!(target, Target::PerJob(_)) {
        settings::hint_at_options_of_clusters(&arguments.cluster.properties);
    }
    let detached = arguments.detached || sets_detached(&configuration)?;
    let cancels_on_exit = arguments.cancels_on_exit(&configuration)?;
    let heartbeat = ClientHeartbeat::of(&configuration)?;
    let (path, _) = arguments.program.split();
    runtime()?.block_on(async {
        // Reading the file, planning and finding the cluster are done at once.
        let hashed = path.clone();
        let hashing = tokio::task::spawn_blocking(move || Artifact::read(&hashed));
        let place = async {
            anyhow::Ok(match target {
                Target::PerJob(driver) => {
                    Place::OwnCluster(Box::new(PerJob::new(driver, &configuration)?))
                }
                Target::Session(driver, id) => {
                    let mut deployer = driver.deployer(&configuration, Some(&id))?;
                    let found = flows::find(driver, deployer.as_mut(), &id, &configuration);
                    let client = found.await?.client;
                    Place::Deployed { deployer, id, client }
                }
                Target::Remote | Target::Application(_) => {
                    Place::Running(RestClient::new(&arguments.cluster, &configuration)?)
                }
            })
        };
        let plan_timeout = configuration.get(&options::PLAN_TIMEOUT)?;
        let (place, program) =
            tokio::join!(place, program::start(&path, Role::Client, &job_settings, plan_timeout));
        // Without a cluster, faults of the program do not matter.
        let (place, program) = (place?, program?);
        let mut session = Session {
            place,
            program,
            hashing: Some(hashing),
            artifact: None,
            detached,
            cancels_on_exit,
            heartbeat,
            watched: Vec::new(),
            submitted: BTreeSet::new(),
            cancelled: BTreeSet::new(),
            first_error: None,
        };
        let signal = tokio::select! {
            outcome = session.drive() => {
                session.place.finish().await;
                match outcome? {
                    Ended::Normally => return Ok(ExitCode::SUCCESS),
                    Ended::Interrupted => libc::SIGINT,
                }
            }
            signal = signals::interruption() => signal?,
        };
        tokio::select! {
            () = session.on_interruption() => {}
            _ = signals::interruption() => {}
        }
        Ok(signals::exit_code(signal))
    })
}

/// Runs a program in a cluster of its own, build function and all.
pub(crate) fn run_application(arguments: &RunArguments) -> Result<ExitCode> {
    let own = recovery::properties(&arguments.recovery)?;
    let (configuration, properties) = target::configuration_with(&arguments.cluster, own)?;
    let driver = target::driver_of_application(&arguments.cluster, &configuration)?;
    flows::application::run(driver, arguments, &configuration, &properties)
}

/// Where the jobs run.
enum Place {
    /// A cluster that runs already.
    Running(RestClient),
    /// One that an external manager runs.
    Deployed { deployer: Box<dyn ClusterDeployer>, id: ClusterId, client: RestClient },
    /// A cluster that is deployed for the program's one job.
    OwnCluster(Box<PerJob>),
}

impl Place {
    fn client(&self) -> Option<&RestClient> {
        match self {
            Self::Running(client) | Self::Deployed { client, .. } => Some(client),
            Self::OwnCluster(per_job) => per_job.client(),
        }
    }

    /// Waits until the external manager reports the cluster's end; pending for ever if there is
    /// none.
    async fn end(&mut self) -> anyhow::Error {
        match self {
            Self::Running(_) => std::future::pending().await,
            Self::Deployed { deployer, id, .. } => flows::end_of(deployer.as_mut(), id).await,
            Self::OwnCluster(per_job) => per_job.end().await,
        }
    }

    /// Why the cluster does not answer, if others know within a moment; else the error.
    async fn explain(&mut self, error: anyhow::Error) -> anyhow::Error {
        match self {
            Self::Running(_) => error,
            _ => timeout(END_PATIENCE, self.end()).await.unwrap_or(error),
        }
    }

    /// Lets a cluster of our own go, which keeps its result for us.
    async fn finish(&mut self) {
        if let Self::OwnCluster(per_job) = self {
            per_job.finish().await;
        }
    }
}

enum Ended {
    Normally,
    Interrupted,
}

/// A job that this command watches until its end.
struct WatchedJob {
    job: JobId,
    progress: Progress,
}

struct Session {
    place: Place,
    program: ProgramProcess,
    hashing: Option<JoinHandle<Result<Artifact>>>,
    artifact: Option<Artifact>,
    detached: bool,
    cancels_on_exit: bool,
    heartbeat: ClientHeartbeat,
    watched: Vec<WatchedJob>,
    /// The program's jobs, and those that it has cancelled itself.
    submitted: BTreeSet<JobId>,
    cancelled: BTreeSet<JobId>,
    first_error: Option<anyhow::Error>,
}

impl Session {
    /// Until the program and the jobs that we wait for have ended.
    async fn drive(&mut self) -> Result<Ended> {
        let mut program_runs = true;
        let mut poll_interval = POLL_SHORTEST;
        let mut next_poll = Instant::now();
        let mut next_heartbeat = Instant::now();
        while program_runs || !self.watched.is_empty() {
            let waits = !self.watched.is_empty();
            tokio::select! {
                event = self.program.next(), if program_runs => match event {
                    ProgramEvent::Planned(graph) => {
                        self.on_planned(&graph).await;
                        poll_interval = POLL_SHORTEST;
                        next_poll = Instant::now() + poll_interval;
                        next_heartbeat = Instant::now();
                    }
                    ProgramEvent::Asked(query) => self.on_query(query).await,
                    ProgramEvent::Finished => {}
                    ProgramEvent::Failed(error) => self.fail(error.into()),
                    ProgramEvent::Interrupted => return Ok(Ended::Interrupted),
                    ProgramEvent::Ended => program_runs = false,
                },
                () = sleep_until(next_poll), if waits => {
                    self.poll().await;
                    poll_interval = (poll_interval * 2).min(POLL_LONGEST);
                    next_poll = Instant::now() + poll_interval;
                }
                () = sleep_until(next_heartbeat), if waits && self.depends_on_us() => {
                    self.send_heartbeats().await;
                    next_heartbeat = Instant::now() + self.heartbeat.interval;
                }
            }
        }
        self.first_error.take().map_or(Ok(Ended::Normally), Err)
    }

    /// Whether jobs end when this command does.
    fn depends_on_us(&self) -> bool {
        self.cancels_on_exit || matches!(self.place, Place::OwnCluster(_))
    }

    /// Keeps the first failure as the command's result; later ones are its consequences.
    fn fail(&mut self, error: anyhow::Error) {
        self.first_error.get_or_insert(error);
    }

    async fn on_planned(&mut self, graph: &JobGraph) {
        let job = match random_id() {
            Ok(id) => JobId::from_bytes(id),
            Err(error) => return self.refuse(error),
        };
        if !self.detached {
            // Before it is submitted: an interruption meanwhile must find it.
            self.watched.push(WatchedJob { job, progress: Progress::new() });
        }
        if let Err(error) = self.submit(job, graph).await {
            self.watched.retain(|watched| watched.job != job);
            return self.refuse(error);
        }
        self.submitted.insert(job);
        console::print(format_args!("Job has been submitted with JobID {job}"));
        let job_id = job.as_bytes().to_vec();
        self.program.answer(answer::Answer::Submitted(Submitted { job_id: job_id.clone() }));
        if self.detached {
            // This command does not wait for the end: the program goes on while the job runs.
            let status = JobStatus::Running.as_str().to_owned();
            let result = JobResult { job_id, status, runtime_ms: 0, cause: None };
            self.program.answer(answer::Answer::Result(result));
        }
    }

    /// Tells the program how one of its jobs fares.
    async fn on_query(&mut self, query: JobQuery) {
        let (status, failure) = match self.ask(&query).await {
            Ok(status) => (status.as_str().to_owned(), None),
            Err(error) => (String::new(), Some(failure(&error))),
        };
        let state = JobState { job_id: query.job_id, status, failure };
        self.program.answer(answer::Answer::JobState(state));
    }

    async fn ask(&mut self, query: &JobQuery) -> Result<JobStatus> {
        let job = JobId::try_from(query.job_id.as_slice())?;
        ensure!(self.submitted.contains(&job), "job {job} is not one of this program");
        let client = self.place.client().context("the cluster of the job is gone")?;
        if query.cancel {
            request_cancel(client, job).await?;
            self.cancelled.insert(job);
        }
        let info: JobStatusInfo = client.get(&format!("/v1/jobs/{job}/status")).await?;
        Ok(info.status)
    }

    fn refuse(&mut self, error: anyhow::Error) {
        let failure = failure(&error);
        self.program.answer(answer::Answer::Refused(failure));
        self.fail(error);
    }

    async fn submit(&mut self, job: JobId, graph: &JobGraph) -> Result<()> {
        if let Some(hashing) = self.hashing.take() {
            self.artifact = Some(hashing.await.context("failed to read the program")??);
        }
        let artifact = self.artifact.as_ref().context("the program could not be read")?;
        match &mut self.place {
            Place::Running(client) | Place::Deployed { client, .. } => {
                artifact.submit(client, job, graph).await
            }
            Place::OwnCluster(per_job) => {
                per_job.submit(job, graph, artifact, !self.detached).await
            }
        }
    }

    async fn poll(&mut self) {
        let Some(client) = self.place.client().cloned() else { return };
        let mut at = 0;
        let mut all_ended = Vec::new();
        while let Some(watched) = self.watched.get_mut(at) {
            // A cluster that is gone does not say so itself.
            let looked = tokio::select! {
                looked = look_at(&client, watched) => looked,
                gone = self.place.end() => Err(gone),
            };
            let ended = match looked {
                Ok(None) => {
                    at += 1;
                    continue;
                }
                Ok(Some(ended)) => ended,
                Err(error) => {
                    let error = Some(self.place.explain(error).await);
                    JobEnd { status: None, runtime_ms: 0, left_out: Vec::new(), error }
                }
            };
            let watched = self.watched.remove(at);
            watched.progress.clear();
            all_ended.push((watched.job, ended));
        }
        for (job, ended) in all_ended {
            self.on_job_end(job, ended);
        }
    }

    fn on_job_end(&mut self, job: JobId, ended: JobEnd) {
        let cause = ended.error.as_ref().map(failure);
        let by_program = ended.status == Some(JobStatus::Canceled) && self.cancelled.contains(&job);
        let status = ended.status.unwrap_or(JobStatus::Failed).as_str().to_owned();
        let job_id = job.as_bytes().to_vec();
        let runtime_ms = ended.runtime_ms;
        let result = JobResult { job_id, status, runtime_ms, cause };
        self.program.answer(answer::Answer::Result(result));
        match ended.error {
            Some(_) if by_program => {
                console::print(format_args!("Cancelled job {job}, as its program asked."));
            }
            Some(error) => self.fail(error),
            None => console::print(format_args!(
                "Program execution finished\nJob with JobID {job} has finished.\n\
                 Job Runtime: {runtime_ms} ms"
            )),
        }
        for line in ended.left_out {
            console::print(format_args!("{line}"));
        }
    }

    async fn send_heartbeats(&self) {
        let Some(client) = self.place.client() else { return };
        // The next poll reports an error, if there is one.
        if let Place::OwnCluster(_) = self.place {
            let _ = client.call(Method::PUT, "/v1/millstream/lease", &Content::None).await;
            return;
        }
        let expires = SystemTime::now() + self.heartbeat.timeout;
        let expires = expires.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let expired_timestamp = i64::try_from(expires).ok();
        let body = serde_json::to_vec(&JobClientHeartbeatRequestBody { expired_timestamp });
        let Ok(body) = body.map(Bytes::from) else { return };
        for watched in &self.watched {
            let path = format!("/v1/jobs/{}/clientHeartbeat", watched.job);
            let content = Content::Bytes { kind: "application/json", bytes: body.clone() };
            let _ = client.call(Method::PATCH, &path, &content).await;
        }
    }

    /// Cancels the watched jobs, or says that they go on.
    async fn on_interruption(&mut self) {
        self.program.stop();
        for watched in &self.watched {
            watched.progress.clear();
        }
        let client = match &mut self.place {
            Place::Running(client) | Place::Deployed { client, .. } => client,
            Place::OwnCluster(per_job) if !self.detached => return per_job.abandon().await,
            Place::OwnCluster(_) => return,
        };
        for watched in &self.watched {
            let job = watched.job;
            if !self.cancels_on_exit {
                console::warn(format_args!(
                    "job {job} goes on; `millstream cancel {job}` cancels it"
                ));
                continue;
            }
            console::print(format_args!("Cancelling job {job}."));
            let ended = timeout(CANCEL_PATIENCE, cancel(client, job)).await;
            match ended {
                Ok(Ok(())) => console::print(format_args!("Cancelled job {job}.")),
                Ok(Err(error)) => console::complain(format_args!("{error:#}")),
                Err(_) => console::complain(format_args!("job {job} is still being cancelled")),
            }
        }
    }
}

/// An error as programs are told it.
fn failure(error: &anyhow::Error) -> Failure {
    let message = format!("{error:#}");
    Failure { kind: "error".to_owned(), message, detail: String::new() }
}

/// Cancels a job and waits for its end.
async fn cancel(client: &RestClient, job: JobId) -> Result<()> {
    request_cancel(client, job).await?;
    loop {
        let info: JobStatusInfo = client.get(&format!("/v1/jobs/{job}/status")).await?;
        if info.status.is_globally_terminal() {
            return Ok(());
        }
        tokio::time::sleep(POLL_SHORTEST).await;
    }
}

/// The end of a job, as far as we know it.
struct JobEnd {
    status: Option<JobStatus>,
    runtime_ms: u64,
    /// Lines about records that sources and operators dropped or replaced.
    left_out: Vec<String>,
    error: Option<anyhow::Error>,
}

/// Polls a job; returns its end once it has ended.
async fn look_at(client: &RestClient, watched: &mut WatchedJob) -> Result<Option<JobEnd>> {
    let job = watched.job;
    let answer = client.call(Method::GET, &format!("/v1/jobs/{job}"), &Content::None).await?;
    if answer.status == StatusCode::NOT_FOUND {
        return Err(anyhow!("the cluster does not know job {job} any more: was it restarted?"));
    }
    let details: JobDetailsInfo = answer.read()?;
    let status = details.state;
    if !status.is_globally_terminal() {
        watched.progress.show(&details);
        return Ok(None);
    }
    let name = Escaped::line(&details.name);
    let error = match status {
        JobStatus::Finished => None,
        JobStatus::Canceled => Some(anyhow!("job {job} ({name}) was cancelled")),
        _ => {
            let why = match client.get(&format!("/v1/jobs/{job}/exceptions")).await {
                Ok(exceptions) => cause(&exceptions),
                Err(error) => format!("its cause could not be read: {error:#}"),
            };
            Some(anyhow!("job {job} ({name}) failed: {why}"))
        }
    };
    let runtime_ms = u64::try_from(details.duration).unwrap_or(0);
    let left_out = left_out(client, &details).await;
    Ok(Some(JobEnd { status: Some(status), runtime_ms, left_out, error }))
}
