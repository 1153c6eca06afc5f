//! Jobs.

use std::collections::BTreeMap;

use millstream_gateway::{ExceptionEntry, JobDetails, JobOverview, TaskLocation, VertexDetails};
use millstream_graph::{RuntimeMode, plan_info};
use millstream_rest_types::jobs::{
    ApplicationStatus, ExecutionConfigInfo, ExecutionExceptionInfo, ExecutionMode, JobConfigInfo,
    JobDetailsInfo, JobExceptionHistory, JobExceptionsInfoWithHistory, JobExecutionResult,
    JobExecutionResultResponseBody, JobSummary, JobType, MillstreamJobInfo, QueueStatus,
    QueueStatusId, RootExceptionInfo, SchedulerType, SerializedThrowable,
};
use millstream_types::{ExecutionState, JobStatus, Timestamp};

use super::vertex::Vertex;
use super::{IoMetrics, Neighbours, checkpoint, count_states, duration, operation, or_unset};

/// An entry of `/jobs/overview`.
pub(in crate::rest) fn summary(job: &JobOverview, now: Timestamp) -> JobSummary {
    let count = |state: &ExecutionState| {
        (state.as_str().to_ascii_lowercase(), job.tasks.get(state).copied().unwrap_or(0))
    };
    let mut tasks: BTreeMap<String, u32> = ExecutionState::ALL.iter().map(count).collect();
    tasks.insert("total".to_owned(), job.tasks.values().sum());
    JobSummary {
        jid: job.job,
        name: job.name.clone(),
        start_time: job.start_time.as_millis(),
        end_time: or_unset(job.end_time),
        duration: duration(job.start_time, job.end_time, now),
        state: job.status,
        last_modification: job.last_modification.as_millis(),
        tasks,
        pending_operators: 0,
        job_type: job_type(job.batch),
        scheduler_type: SchedulerType::Default,
    }
}

/// `/jobs/:jobid`.
pub(in crate::rest) fn details(job: &JobDetails, now: Timestamp) -> JobDetailsInfo {
    let entered = |status: &JobStatus| {
        (*status, job.status_times.get(status).map_or(0, |time| time.as_millis()))
    };
    let row = |details: &VertexDetails| Some(Vertex::of(job, details.id)?.row(now));
    let subtasks = job.vertices.iter().flat_map(|vertex| &vertex.subtasks);
    JobDetailsInfo {
        jid: job.job,
        name: job.graph.name.clone(),
        is_stoppable: false,
        state: job.status,
        job_type: job_type(job.graph.runtime_mode == RuntimeMode::Batch),
        start_time: job.start_time.as_millis(),
        end_time: or_unset(job.end_time),
        duration: duration(job.start_time, job.end_time, now),
        max_parallelism: job.graph.settings.max_parallelism.map_or(-1, |max| i64::from(max.get())),
        now: now.as_millis(),
        timestamps: JobStatus::ALL.iter().map(entered).collect(),
        vertices: job.vertices.iter().filter_map(row).collect(),
        status_counts: count_states(subtasks),
        plan: plan_info(&job.graph, job.job),
        pending_operators: 0,
        scheduler_type: SchedulerType::Default,
        millstream: MillstreamJobInfo {
            restarts: job.restarts,
            waiting_for: job.waiting_for.clone(),
        },
    }
}

fn job_type(batch: bool) -> JobType {
    if batch { JobType::Batch } else { JobType::Streaming }
}

/// `/jobs/:jobid/config`. The clients of Flink 1.20 require an execution mode, those of 2.x refuse
/// one.
pub(in crate::rest) fn config(job: &JobDetails, for_flink_1: bool) -> JobConfigInfo {
    let settings = &job.graph.settings;
    let shown = |(key, value): (&String, &String)| {
        (key.clone(), if is_secret(key) { "******".to_owned() } else { value.clone() })
    };
    let restart_strategy = settings.config.get("restart-strategy.type").map_or_else(
        || "Cluster level default restart strategy".to_owned(),
        |strategy| format!("Restart strategy: {strategy}"),
    );
    let execution_config = ExecutionConfigInfo {
        restart_strategy,
        job_parallelism: settings.parallelism,
        object_reuse_mode: true,
        user_config: settings.config.iter().map(shown).collect(),
        execution_mode: for_flink_1.then_some(ExecutionMode::Pipelined),
    };
    JobConfigInfo { jid: job.job, name: job.graph.name.clone(), execution_config }
}

/// Returns true for a key of a job's own configuration that holds a secret.
fn is_secret(key: &str) -> bool {
    // Unknown keys are in no table, so the test is by name.
    let mut probe = millstream_config::Configuration::from_pairs([(key, "x")]).ok();
    let hidden = probe.as_mut().and_then(|probe| probe.shown().next().map(|(_, text)| text != "x"));
    let key = key.to_ascii_lowercase();
    hidden.unwrap_or(false)
        || ["password", "secret", "token", "credential", "private-key", "access-key", "apikey"]
            .iter()
            .any(|part| key.contains(part))
}

/// `/jobs/:jobid/exceptions`.
pub(in crate::rest) fn exceptions(job: &JobDetails, max: usize) -> JobExceptionsInfoWithHistory {
    let shown: Vec<&ExceptionEntry> = job.exceptions.iter().take(max).collect();
    let truncated = job.exceptions_truncated || shown.len() < job.exceptions.len();
    // As in Flink it stays after a restart that went well: it is the last failure.
    let newest = job.exceptions.first();
    let entries = shown.iter().map(|entry| exception(entry)).collect();
    JobExceptionsInfoWithHistory {
        root_exception: newest.map(stack_trace),
        timestamp: newest.map(|entry| entry.timestamp.as_millis()),
        all_exceptions: shown.iter().map(|entry| legacy_exception(entry)).collect(),
        truncated,
        exception_history: JobExceptionHistory { entries, truncated },
    }
}

fn stack_trace(entry: &ExceptionEntry) -> String {
    let cause = &entry.cause;
    let mut trace = format!("{}: {}", cause.kind.as_str(), cause.message);
    for line in cause.detail.lines() {
        trace.push_str("\n\t");
        trace.push_str(line);
    }
    trace
}

fn exception(entry: &ExceptionEntry) -> RootExceptionInfo {
    let address = entry.location.as_ref().map(TaskLocation::endpoint);
    RootExceptionInfo {
        exception_name: entry.cause.kind.as_str().to_owned(),
        stacktrace: stack_trace(entry),
        timestamp: entry.timestamp.as_millis(),
        failure_labels: BTreeMap::new(),
        task_name: entry.task.clone(),
        location: address.clone(),
        endpoint: address,
        task_manager_id: task_manager(entry),
        concurrent_exceptions: [],
    }
}

fn legacy_exception(entry: &ExceptionEntry) -> ExecutionExceptionInfo {
    let address = entry.location.as_ref().map(TaskLocation::endpoint);
    ExecutionExceptionInfo {
        exception: stack_trace(entry),
        task: entry.task.clone(),
        location: address.clone(),
        endpoint: address,
        timestamp: entry.timestamp.as_millis(),
        task_manager_id: task_manager(entry),
    }
}

fn task_manager(entry: &ExceptionEntry) -> Option<String> {
    entry.location.as_ref().map(|location| location.task_manager.to_string())
}

/// `/jobs/:jobid/execution-result`.
pub(in crate::rest) fn execution_result(job: &JobDetails) -> JobExecutionResultResponseBody {
    let application_status = match job.status {
        JobStatus::Finished => ApplicationStatus::Succeeded,
        JobStatus::Failed => ApplicationStatus::Failed,
        JobStatus::Canceled => ApplicationStatus::Canceled,
        JobStatus::Initializing
        | JobStatus::Created
        | JobStatus::Running
        | JobStatus::Failing
        | JobStatus::Cancelling
        | JobStatus::Restarting
        | JobStatus::Suspended
        | JobStatus::Reconciling => {
            let status = QueueStatus { id: QueueStatusId::InProgress };
            return JobExecutionResultResponseBody { status, job_execution_result: None };
        }
    };
    let cause = job.exceptions.first().filter(|_| job.status == JobStatus::Failed);
    let result = JobExecutionResult {
        id: job.job,
        name: job.graph.name.clone(),
        application_status,
        accumulator_results: BTreeMap::new(),
        net_runtime: duration(job.start_time, job.end_time, Timestamp::now()),
        start_time: job.start_time.as_millis(),
        end_time: or_unset(job.end_time),
        failure_cause: cause.map(throwable),
    };
    let status = QueueStatus { id: QueueStatusId::Completed };
    JobExecutionResultResponseBody { status, job_execution_result: Some(result) }
}

fn throwable(entry: &ExceptionEntry) -> SerializedThrowable {
    let (class, trace) = (entry.cause.kind.as_str(), stack_trace(entry));
    operation::throwable(class, &entry.cause.message, trace)
}

/// The metrics of a job, by name. The time in a state is the present stay's, and 0 in another
/// state. An ended job has neither up- nor downtime, which Flink says by -1.
pub(in crate::rest) fn metrics(job: &JobDetails, now: Timestamp) -> Vec<(String, f64)> {
    let current = |state: JobStatus| {
        let entered = job.status_times.get(&state).filter(|_| job.status == state);
        entered.map_or(0, |since| duration(*since, None, now))
    };
    let (uptime, downtime) = match job.status {
        status if status.is_globally_terminal() => (-1, -1),
        JobStatus::Running => (current(JobStatus::Running), 0),
        _ => (0, down_since(job).map_or(0, |since| duration(since, None, now))),
    };
    let subtasks = job.vertices.iter().flat_map(|vertex| &vertex.subtasks);
    let sum = IoMetrics::of(subtasks, &Neighbours::default());
    let of_checkpoints = job.checkpoints.as_deref().map(checkpoint::metrics).unwrap_or_default();
    [
        ("numRestarts", f64::from(job.restarts)),
        ("fullRestarts", f64::from(job.restarts)),
        ("uptime", millis(uptime)),
        ("downtime", millis(downtime)),
        ("initializingTime", millis(current(JobStatus::Initializing))),
        ("createdTime", millis(current(JobStatus::Created))),
        ("runningTime", millis(current(JobStatus::Running))),
        ("restartingTime", millis(current(JobStatus::Restarting))),
        ("failingTime", millis(current(JobStatus::Failing))),
        ("cancellingTime", millis(current(JobStatus::Cancelling))),
        ("busyTimeMs", millis(i64::try_from(sum.busy_ms).unwrap_or(i64::MAX))),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into_iter()
    .chain(of_checkpoints)
    .collect()
}

/// Returns the time at which a job that does not run any more stopped running.
fn down_since(job: &JobDetails) -> Option<Timestamp> {
    let ran = job.status_times.get(&JobStatus::Running)?;
    let later = |status| job.status_times.get(&status).filter(|since| *since >= ran).copied();
    [JobStatus::Failing, JobStatus::Restarting, JobStatus::Cancelling]
        .into_iter()
        .filter_map(later)
        .min()
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds are far below 2^53")]
fn millis(number: i64) -> f64 {
    number as f64
}
