//! Jobs.

use std::collections::BTreeMap;

use millstream_graph::PlanInfo;
use millstream_types::{JobId, JobStatus};
use serde::{Deserialize, Serialize};

use crate::vertices::{JobDetailsVertexInfo, StateCounts, UserAccumulator};
use crate::{EmptyList, EmptyObject};

/// `GET /jobs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobIdsWithStatusOverview {
    /// The jobs, newest first.
    pub jobs: Vec<JobIdWithStatus>,
}

/// One job of [`JobIdsWithStatusOverview`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobIdWithStatus {
    /// The job.
    pub id: JobId,
    /// Its state.
    pub status: JobStatus,
}

/// `GET /jobs/overview`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MultipleJobsDetails {
    /// The jobs, newest first.
    pub jobs: Vec<JobSummary>,
}

/// One job of [`MultipleJobsDetails`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct JobSummary {
    /// The job.
    pub jid: JobId,
    /// Its name.
    pub name: String,
    /// The time of its submission.
    pub start_time: i64,
    /// The time of its end, or -1.
    pub end_time: i64,
    /// The milliseconds from one to the other, or until now.
    pub duration: i64,
    /// Its state.
    pub state: JobStatus,
    /// The time at which its state last changed.
    pub last_modification: i64,
    /// Its tasks in each state, by lower-case name, and `total`.
    pub tasks: BTreeMap<String, u32>,
    /// Always 0.
    pub pending_operators: u32,
    /// Whether its input ends.
    #[serde(rename = "jobType")]
    pub job_type: JobType,
    /// The scheduler.
    #[serde(rename = "schedulerType")]
    pub scheduler_type: SchedulerType,
}

/// Whether a job runs as a stream or as a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum JobType {
    /// Its final results come at the end.
    Batch,
    /// Its results come as its input does.
    Streaming,
}

/// The scheduler of a job; there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SchedulerType {
    /// All tasks get their slots at the start.
    Default,
}

/// `GET /jobs/:jobid`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct JobDetailsInfo {
    /// The job.
    pub jid: JobId,
    /// Its name.
    pub name: String,
    /// It can be stopped with a savepoint.
    #[serde(rename = "isStoppable")]
    pub is_stoppable: bool,
    /// Its state.
    pub state: JobStatus,
    /// Whether its input ends.
    pub job_type: JobType,
    /// The time of its submission.
    pub start_time: i64,
    /// The time of its end, or -1.
    pub end_time: i64,
    /// The milliseconds from one to the other, or until now.
    pub duration: i64,
    /// The largest parallelism of operators that set none, or -1 if it is derived from each
    /// operator's.
    #[serde(rename = "maxParallelism")]
    pub max_parallelism: i64,
    /// The time of this answer.
    pub now: i64,
    /// The time at which it entered each state last; 0 if it did not.
    pub timestamps: BTreeMap<JobStatus, i64>,
    /// Its vertices, in the plan's order.
    pub vertices: Vec<JobDetailsVertexInfo>,
    /// Its subtasks in each state.
    pub status_counts: StateCounts,
    /// Its plan.
    pub plan: PlanInfo,
    /// Always 0.
    pub pending_operators: u32,
    /// The scheduler.
    #[serde(rename = "schedulerType")]
    pub scheduler_type: SchedulerType,
    /// The fields that Flink does not have.
    pub millstream: MillstreamJobInfo,
}

/// The fields of a job that Flink does not have.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MillstreamJobInfo {
    /// The number of restarts.
    pub restarts: u32,
    /// The missing thing that the job waits for, as words after "waiting for".
    pub waiting_for: Option<String>,
}

/// `GET /jobs/:jobid/status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobStatusInfo {
    /// The state.
    pub status: JobStatus,
}

/// `GET /jobs/:jobid/plan` and `/jars/:jarid/plan`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobPlanInfo {
    /// The plan.
    pub plan: PlanInfo,
}

/// `GET /jobs/:jobid/config`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct JobConfigInfo {
    /// The job.
    pub jid: JobId,
    /// Its name.
    pub name: String,
    /// Its configuration.
    pub execution_config: ExecutionConfigInfo,
}

/// The configuration of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ExecutionConfigInfo {
    /// The restart strategy, in words.
    pub restart_strategy: String,
    /// The parallelism of operators that set none.
    pub job_parallelism: u32,
    /// Records are handed on without a copy; always true.
    pub object_reuse_mode: bool,
    /// Options that the job was given, secrets hidden.
    pub user_config: BTreeMap<String, String>,
    /// The clients of Flink 1.20 require it, those of 2.x refuse it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution_mode: Option<ExecutionMode>,
}

/// The execution mode of Flink 1.20.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ExecutionMode {
    /// Tasks exchange records while they run.
    Pipelined,
}

/// `GET /jobs/:jobid/exceptions`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct JobExceptionsInfoWithHistory {
    /// The newest failure; it stays after a restart that went well.
    pub root_exception: Option<String>,
    /// The time of the newest failure.
    pub timestamp: Option<i64>,
    /// Failures in the form of older clients, newest first.
    pub all_exceptions: Vec<ExecutionExceptionInfo>,
    /// There were more failures than are listed.
    pub truncated: bool,
    /// Failures, newest first.
    #[serde(rename = "exceptionHistory")]
    pub exception_history: JobExceptionHistory,
}

/// The failures of a job.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct JobExceptionHistory {
    /// The failures, newest first.
    pub entries: Vec<RootExceptionInfo>,
    /// There were more failures than are listed.
    pub truncated: bool,
}

/// One failure of [`JobExceptionHistory`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RootExceptionInfo {
    /// The kind of the cause.
    pub exception_name: String,
    /// The kind, the sentence, and the detail line by line.
    pub stacktrace: String,
    /// The time.
    pub timestamp: i64,
    /// Labels of failure enrichers.
    pub failure_labels: EmptyObject,
    /// The task, as `name (2/4)`; none for a failure of the whole job.
    pub task_name: Option<String>,
    /// The address of the task, with its data port.
    pub location: Option<String>,
    /// The same, under the name of newer clients.
    pub endpoint: Option<String>,
    /// The TaskManager.
    pub task_manager_id: Option<String>,
    /// Failures at the same time.
    pub concurrent_exceptions: EmptyList,
}

/// One failure in the form of older clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutionExceptionInfo {
    /// The kind, the sentence, and the detail line by line.
    pub exception: String,
    /// The task, as `name (2/4)`; none for a failure of the whole job.
    pub task: Option<String>,
    /// The address of the task, with its data port.
    pub location: Option<String>,
    /// The same, under the name of newer clients.
    pub endpoint: Option<String>,
    /// The time.
    pub timestamp: i64,
    /// The TaskManager.
    #[serde(rename = "taskManagerId")]
    pub task_manager_id: Option<String>,
}

/// `GET /jobs/:jobid/accumulators`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct JobAccumulatorsInfo {
    /// Accumulators of the whole job.
    pub job_accumulators: EmptyList,
    /// The sums over all subtasks, by name.
    pub user_task_accumulators: Vec<UserAccumulator>,
    /// The same as Java objects.
    pub serialized_user_task_accumulators: EmptyObject,
}

/// `GET /jobs/:jobid/execution-result`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct JobExecutionResultResponseBody {
    /// Whether there is a result.
    pub status: QueueStatus,
    /// The result of a job that has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_execution_result: Option<JobExecutionResult>,
}

/// The status of an operation that takes time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueStatus {
    /// The status.
    pub id: QueueStatusId,
}

/// The status of [`QueueStatus`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum QueueStatusId {
    /// It goes on.
    InProgress,
    /// It has ended.
    Completed,
}

/// The result of a job that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct JobExecutionResult {
    /// The job.
    pub id: JobId,
    /// Its name.
    pub name: String,
    /// The kind of its end.
    pub application_status: ApplicationStatus,
    /// Accumulators as Java objects.
    pub accumulator_results: EmptyObject,
    /// The milliseconds from its submission to its end.
    pub net_runtime: i64,
    /// The time of its submission.
    pub start_time: i64,
    /// The time of its end.
    pub end_time: i64,
    /// The cause, if it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_cause: Option<SerializedThrowable>,
}

/// The kind of a job's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ApplicationStatus {
    /// It ended by itself.
    Succeeded,
    /// It failed.
    Failed,
    /// A user cancelled it.
    Canceled,
}

/// A failure for Flink's Java clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SerializedThrowable {
    /// The kind of the cause.
    pub class: String,
    /// The kind, the sentence, and the detail line by line.
    pub stack_trace: String,
    /// A serialized Java object of the same content, in base64.
    pub serialized_throwable: String,
}

/// The body of `PATCH /jobs/:jobid/clientHeartbeat`: the job's client lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobClientHeartbeatRequestBody {
    /// The time after which the client counts as gone.
    pub expired_timestamp: Option<i64>,
}
