//! Plans a program for REST: in a child process with limits and a deadline.

use std::path::PathBuf;
use std::time::Duration;

use futures::future::BoxFuture;
use millstream_config::{ConfigError, Configuration, options};
use millstream_dispatcher::{PlanExtent, PlanFailed, Planner};
use millstream_graph::{JobGraph, JobSettings};
use millstream_jobmaster::{IdSource, OsIds};
use millstream_launcher::{HostOutput, HostSpec, ProgramEvent, ProgramFailed, ProgramProcess};
use millstream_protocol::host::{JobQuery, JobResult, JobState, Role, Submitted, answer};
use millstream_types::{ByteSize, HostId, JobStatus};

/// A program that goes on planning is stopped after so many jobs.
const JOBS_COUNTED_MAX: u32 = 100;
/// Advice for programs that the cluster cannot run.
const ELSEWHERE: &str = "run it with `millstream run`";

/// Starts programs in the plan role.
#[derive(Debug)]
pub(crate) struct ChildPlanner {
    /// Where each child gets a directory of its own.
    pub(crate) temp_dir: PathBuf,
    memory: ByteSize,
    timeout: Duration,
}

impl ChildPlanner {
    pub(crate) fn new(
        configuration: &Configuration,
        temp_dir: PathBuf,
    ) -> Result<Self, ConfigError> {
        Ok(Self {
            temp_dir,
            memory: configuration.get(&options::PLAN_MEMORY)?,
            timeout: configuration.get(&options::PLAN_TIMEOUT)?,
        })
    }

    async fn run(
        &self,
        artifact: PathBuf,
        settings: JobSettings,
        extent: PlanExtent,
    ) -> Result<JobGraph, PlanFailed> {
        let mut id = [0; 16];
        OsIds.fill(&mut id);
        let host = HostId::from_bytes(id);
        let temp_dir = self.temp_dir.join(format!("plan-{host}"));
        let spec = HostSpec {
            temp_dir: Some(temp_dir),
            output: HostOutput::Tail,
            memory_limit: Some(self.memory),
            start_timeout: self.timeout,
            // Relative paths have no meaning there.
            variables: vec![("MILLSTREAM_PLANNED_ON_CLUSTER".into(), "1".into())],
            ..HostSpec::new(host, artifact)
        };
        let role = match extent {
            PlanExtent::FirstJob => Role::Plan,
            // It goes on after each job, like a program of a detached client.
            PlanExtent::OnlyJob => Role::Client,
        };
        let program = ProgramProcess::start(spec, role, &settings).await.map_err(failed)?;
        let mut program = program.with_plan_timeout(self.timeout);
        let graph = match program.next().await {
            ProgramEvent::Planned(graph) => *graph,
            other => return Err(ended_early(other)),
        };
        if extent == PlanExtent::OnlyJob {
            let jobs = tokio::time::timeout(self.timeout, count_jobs(&mut program)).await;
            match jobs.unwrap_or_else(|_| Err(not_over(self.timeout)))? {
                1 => {}
                jobs => return Err(several(jobs)),
            }
        }
        program.stop();
        JobGraph::try_from(graph).map_err(|error| plan_failed(error.to_string()))
    }
}

impl Planner for ChildPlanner {
    fn plan(
        &self,
        artifact: PathBuf,
        settings: JobSettings,
        extent: PlanExtent,
    ) -> BoxFuture<'_, Result<JobGraph, PlanFailed>> {
        Box::pin(self.run(artifact, settings, extent))
    }
}

/// Lets a program go on to its end as if each of its jobs ran, and counts them.
async fn count_jobs(program: &mut ProgramProcess) -> Result<u32, PlanFailed> {
    let mut jobs = 1;
    pretend_that_it_runs(program);
    loop {
        match program.next().await {
            ProgramEvent::Planned(_) if jobs == JOBS_COUNTED_MAX => return Ok(jobs + 1),
            ProgramEvent::Planned(_) => {
                jobs += 1;
                pretend_that_it_runs(program);
            }
            ProgramEvent::Asked(JobQuery { job_id, .. }) => {
                let status = JobStatus::Running.as_str().to_owned();
                let state = JobState { job_id, status, failure: None };
                program.answer(answer::Answer::JobState(state));
            }
            ProgramEvent::Finished => return Ok(jobs),
            // The number of jobs is known, even if the program stumbles over results of jobs that
            // have not run.
            ProgramEvent::Failed(_) if jobs > 1 => return Ok(jobs),
            other => {
                let PlanFailed { message, detail } = ended_early(other);
                let message = format!(
                    "{message}; this was after its first job, for which a run over REST does not \
                     wait: {ELSEWHERE}"
                );
                return Err(PlanFailed { message, detail });
            }
        }
    }
}

/// Answers a program's plan as if its job ran and had a client that does not wait.
fn pretend_that_it_runs(program: &ProgramProcess) {
    let mut id = [0; 16];
    OsIds.fill(&mut id);
    let job_id = id.to_vec();
    program.answer(answer::Answer::Submitted(Submitted { job_id: job_id.clone() }));
    let status = JobStatus::Running.as_str().to_owned();
    let result = JobResult { job_id, status, runtime_ms: 0, cause: None };
    program.answer(answer::Answer::Result(result));
}

fn several(jobs: u32) -> PlanFailed {
    let jobs = match jobs > JOBS_COUNTED_MAX {
        true => format!("more than {JOBS_COUNTED_MAX}"),
        false => jobs.to_string(),
    };
    plan_failed(format!(
        "the program has {jobs} jobs (calls of execute), and a run over REST starts exactly one: \
         {ELSEWHERE}, or give it one job for each entry class"
    ))
}

fn not_over(timeout: Duration) -> PlanFailed {
    plan_failed(format!(
        "the program goes on for more than {timeout:?} (millstream.plan.timeout) after its first \
         execute, so that its jobs cannot be counted: {ELSEWHERE}"
    ))
}

/// Why a program has no plan.
fn ended_early(event: ProgramEvent) -> PlanFailed {
    match event {
        ProgramEvent::Failed(error) => failed(error),
        ProgramEvent::Interrupted => plan_failed("the program was interrupted"),
        ProgramEvent::Planned(_)
        | ProgramEvent::Asked(_)
        | ProgramEvent::Finished
        | ProgramEvent::Ended => plan_failed("the program's process ended without a word"),
    }
}

fn failed(error: ProgramFailed) -> PlanFailed {
    let message = format!("the program failed: {}", error.message());
    let detail = match message.contains(error.detail()) {
        true => String::new(),
        false => error.detail().to_owned(),
    };
    PlanFailed { message, detail }
}

fn plan_failed(message: impl Into<String>) -> PlanFailed {
    PlanFailed { message: message.into(), detail: String::new() }
}
