//! Jobs.

use base64::Engine as _;
use millstream_gateway::{ExceptionEntry, JobDetails, JobOverview, TaskLocation};
use millstream_graph::RuntimeMode;
use millstream_types::{ExecutionState, JobStatus, Timestamp};
use serde_json::{Map, Value, json};

use super::vertex::Vertex;
use super::{IoMetrics, Neighbours, count_states, duration, or_unset};
use crate::java::serialized_throwable;
use millstream_graph::plan_json;

/// An entry of `/jobs/overview`.
pub(in crate::rest) fn overview(job: &JobOverview, now: Timestamp) -> Value {
    let mut tasks: Map<String, Value> = ExecutionState::ALL
        .iter()
        .map(|state| {
            (state.as_str().to_ascii_lowercase(), json!(job.tasks.get(state).unwrap_or(&0)))
        })
        .collect();
    tasks.insert("total".into(), json!(job.tasks.values().sum::<u32>()));
    json!({
        "jid": job.job,
        "name": job.name,
        "start-time": job.start_time.as_millis(),
        "end-time": or_unset(job.end_time),
        "duration": duration(job.start_time, job.end_time, now),
        "state": job.status,
        "last-modification": job.last_modification.as_millis(),
        "tasks": tasks,
        "pending-operators": 0,
        "jobType": if job.batch { "BATCH" } else { "STREAMING" },
        "schedulerType": "Default",
    })
}

/// `/jobs/:jobid`.
pub(in crate::rest) fn details(job: &JobDetails, now: Timestamp) -> Value {
    let timestamps: Map<String, Value> = JobStatus::ALL
        .iter()
        .map(|status| {
            let time = job.status_times.get(status).map_or(0, |time| time.as_millis());
            (status.as_str().to_owned(), json!(time))
        })
        .collect();
    let vertices: Vec<Value> = job
        .vertices
        .iter()
        .filter_map(|details| Some(Vertex::of(job, details.id)?.row(now)))
        .collect();
    let subtasks = job.vertices.iter().flat_map(|vertex| &vertex.subtasks);
    json!({
        "jid": job.job,
        "name": job.graph.name,
        "isStoppable": false,
        "state": job.status,
        "job-type": kind(job),
        "start-time": job.start_time.as_millis(),
        "end-time": or_unset(job.end_time),
        "duration": duration(job.start_time, job.end_time, now),
        "maxParallelism": job.graph.settings.max_parallelism.get(),
        "now": now.as_millis(),
        "timestamps": timestamps,
        "vertices": vertices,
        "status-counts": count_states(subtasks),
        "plan": plan_json(&job.graph, job.job),
        "pending-operators": 0,
        "schedulerType": "Default",
        "millstream": { "restarts": job.restarts, "waiting-for": job.waiting_for },
    })
}

fn kind(job: &JobDetails) -> &'static str {
    if job.graph.runtime_mode == RuntimeMode::Batch { "BATCH" } else { "STREAMING" }
}

/// `/jobs/:jobid/config`. The clients of Flink 1.20 require an execution mode, those of 2.x refuse
/// one.
pub(in crate::rest) fn config(job: &JobDetails, for_flink_1: bool) -> Value {
    let settings = &job.graph.settings;
    let shown = |(key, value): (&String, &String)| {
        (key.clone(), json!(if is_secret(key) { "******" } else { value.as_str() }))
    };
    let user: Map<String, Value> = settings.config.iter().map(shown).collect();
    let restart = settings.config.get("restart-strategy.type").map_or_else(
        || "Cluster level default restart strategy".to_owned(),
        |strategy| format!("Restart strategy: {strategy}"),
    );
    let mut execution = json!({
        "restart-strategy": restart,
        "job-parallelism": settings.parallelism,
        "object-reuse-mode": true,
        "user-config": user,
    });
    if for_flink_1 {
        let mode = ("execution-mode".to_owned(), json!("PIPELINED"));
        super::merge(&mut execution, Map::from_iter([mode]));
    }
    json!({ "jid": job.job, "name": job.graph.name, "execution-config": execution })
}

/// Whether a key of a job's own configuration holds a secret.
fn is_secret(key: &str) -> bool {
    // Unknown keys are in nobody's table, so the test is by name.
    let mut probe = millstream_config::Configuration::from_pairs([(key, "x")]).ok();
    let hidden = probe.as_mut().and_then(|probe| probe.shown().next().map(|(_, text)| text != "x"));
    let key = key.to_ascii_lowercase();
    hidden.unwrap_or(false)
        || ["password", "secret", "token", "credential", "private-key", "access-key", "apikey"]
            .iter()
            .any(|part| key.contains(part))
}

/// `/jobs/:jobid/exceptions`.
pub(in crate::rest) fn exceptions(job: &JobDetails, max: usize) -> Value {
    let shown: Vec<&ExceptionEntry> = job.exceptions.iter().take(max).collect();
    let truncated = job.exceptions_truncated || shown.len() < job.exceptions.len();
    // As in Flink it stays after a restart that went well: it is the last failure.
    let newest = job.exceptions.first();
    json!({
        "root-exception": newest.map(stack_trace),
        "timestamp": newest.map(|entry| entry.timestamp.as_millis()),
        "all-exceptions": shown.iter().map(|entry| legacy_exception(entry)).collect::<Vec<_>>(),
        "truncated": truncated,
        "exceptionHistory": {
            "entries": shown.iter().map(|entry| exception(entry)).collect::<Vec<_>>(),
            "truncated": truncated,
        },
    })
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

fn exception(entry: &ExceptionEntry) -> Value {
    let address = entry.location.as_ref().map(TaskLocation::endpoint);
    json!({
        "exceptionName": entry.cause.kind.as_str(),
        "stacktrace": stack_trace(entry),
        "timestamp": entry.timestamp.as_millis(),
        "failureLabels": {},
        "taskName": entry.task,
        "location": address,
        "endpoint": address,
        "taskManagerId": entry.location.as_ref().map(|location| location.task_manager.as_str()),
        "concurrentExceptions": [],
    })
}

fn legacy_exception(entry: &ExceptionEntry) -> Value {
    let address = entry.location.as_ref().map(TaskLocation::endpoint);
    json!({
        "exception": stack_trace(entry),
        "task": entry.task,
        "location": address,
        "endpoint": address,
        "timestamp": entry.timestamp.as_millis(),
        "taskManagerId": entry.location.as_ref().map(|location| location.task_manager.as_str()),
    })
}

/// `/jobs/:jobid/execution-result`.
pub(in crate::rest) fn execution_result(job: &JobDetails) -> Value {
    if !job.status.is_globally_terminal() {
        return json!({ "status": { "id": "IN_PROGRESS" } });
    }
    let application_status = match job.status {
        JobStatus::Finished => "SUCCEEDED",
        JobStatus::Failed => "FAILED",
        JobStatus::Canceled => "CANCELED",
        JobStatus::Initializing
        | JobStatus::Created
        | JobStatus::Running
        | JobStatus::Failing
        | JobStatus::Cancelling
        | JobStatus::Restarting
        | JobStatus::Suspended
        | JobStatus::Reconciling => "UNKNOWN",
    };
    let mut result = json!({
        "id": job.job,
        "name": job.graph.name,
        "application-status": application_status,
        "accumulator-results": {},
        "net-runtime": duration(job.start_time, job.end_time, Timestamp::now()),
        "start-time": job.start_time.as_millis(),
        "end-time": or_unset(job.end_time),
    });
    if let Some(entry) = job.exceptions.first().filter(|_| job.status == JobStatus::Failed) {
        let (class, trace) = (entry.cause.kind.as_str(), stack_trace(entry));
        let blob = serialized_throwable(class, &entry.cause.message, &trace);
        let cause = json!({
            "class": class,
            "stack-trace": trace,
            "serialized-throwable": base64::engine::general_purpose::STANDARD.encode(blob),
        });
        super::merge(&mut result, Map::from_iter([("failure-cause".to_owned(), cause)]));
    }
    json!({ "status": { "id": "COMPLETED" }, "job-execution-result": result })
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
    .to_vec()
}

/// When a job that ran before, and does not run, left that state.
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
