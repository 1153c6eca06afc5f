//! Vertices of a job and their subtasks.

use std::collections::BTreeMap;

use millstream_types::{ExecutionState, VertexId};
use serde::{Deserialize, Serialize};

use crate::EmptyList;

/// Subtasks in each state.
pub type StateCounts = BTreeMap<ExecutionState, u32>;

/// Bytes and records that subtasks exchanged, and their time in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct IoMetricsInfo {
    /// Bytes that entered from other processes.
    pub read_bytes: u64,
    /// Everything that entered has bytes: nothing came from the same process.
    pub read_bytes_complete: bool,
    /// Bytes that left to other processes.
    pub write_bytes: u64,
    /// Everything that left has bytes: nothing stayed in the same process.
    pub write_bytes_complete: bool,
    /// Records that entered from other tasks.
    pub read_records: u64,
    /// Always true.
    pub read_records_complete: bool,
    /// Records that left to other tasks.
    pub write_records: u64,
    /// Always true.
    pub write_records_complete: bool,
    /// Time with output that its consumers did not take.
    pub accumulated_backpressured_time: u64,
    /// Time without input.
    pub accumulated_idle_time: u64,
    /// Time spent working.
    pub accumulated_busy_time: f64,
}

/// The begin and the end of subtasks; -1 if there is none yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Span {
    /// The time of the first deployment.
    pub start_time: i64,
    /// The time of the last end.
    pub end_time: i64,
    /// The milliseconds from one to the other, or until now.
    pub duration: i64,
}

/// The place of a subtask; `(unassigned)` if it has none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Place {
    /// The address of the machine.
    pub host: String,
    /// The address with the port of the data exchange.
    pub endpoint: String,
    /// The TaskManager.
    pub taskmanager_id: String,
}

/// A distribution over subtasks, in whole numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Distribution {
    /// The smallest value.
    pub min: u64,
    /// The largest value.
    pub max: u64,
    /// The mean.
    pub avg: u64,
    /// The sum.
    pub sum: u64,
    /// The median.
    pub median: u64,
    /// A quarter is below it.
    pub p25: u64,
    /// Three quarters are below it.
    pub p75: u64,
    /// Nineteen of twenty are below it.
    pub p95: u64,
}

/// Distributions over the subtasks of a vertex or of a TaskManager.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AggregatedTaskDetailsInfo {
    /// Of the numbers of [`IoMetricsInfo`], by their names.
    pub metrics: BTreeMap<String, Distribution>,
    /// Of the milliseconds in each state.
    pub status_duration: BTreeMap<ExecutionState, Distribution>,
}

/// A counter that user code made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserAccumulator {
    /// The name.
    pub name: String,
    /// The type, as Flink calls it.
    #[serde(rename = "type")]
    pub kind: AccumulatorType,
    /// The number as text.
    pub value: String,
}

/// The type of [`UserAccumulator`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AccumulatorType {
    /// A whole number that is added to.
    LongCounter,
}

/// An entry of `vertices` in `GET /jobs/:jobid`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobDetailsVertexInfo {
    /// The vertex.
    pub id: VertexId,
    /// The slot sharing group, as 32 hexadecimal digits.
    pub slot_sharing_group_id: String,
    /// The name.
    pub name: String,
    /// The largest parallelism that its state allows.
    pub max_parallelism: u32,
    /// The parallelism.
    pub parallelism: u32,
    /// The state, from those of its subtasks.
    pub status: ExecutionState,
    /// The begin and the end of its subtasks.
    #[serde(flatten)]
    pub span: Span,
    /// Its subtasks in each state.
    pub tasks: StateCounts,
    /// The sums over its subtasks.
    pub metrics: IoMetricsInfo,
}

/// `GET /jobs/:jobid/vertices/:vertexid`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobVertexDetailsInfo {
    /// The vertex.
    pub id: VertexId,
    /// The name.
    pub name: String,
    /// The parallelism.
    pub parallelism: u32,
    /// The largest parallelism that its state allows.
    pub max_parallelism: u32,
    /// The time of this answer.
    pub now: i64,
    /// The subtasks, by number.
    pub subtasks: Vec<SubtaskExecutionAttemptDetailsInfo>,
    /// Distributions over them.
    pub aggregated: AggregatedTaskDetailsInfo,
}

/// `GET …/subtasks/:subtaskindex`, and that of an attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SubtaskExecutionAttemptDetailsInfo {
    /// The number, from 0.
    pub subtask: u32,
    /// The state.
    pub status: ExecutionState,
    /// The attempts before this one.
    pub attempt: u32,
    /// The begin and the end.
    #[serde(flatten)]
    pub span: Span,
    /// The begin once more, under the name of older clients.
    #[serde(rename = "start_time")]
    pub start_time: i64,
    /// The place.
    #[serde(flatten)]
    pub place: Place,
    /// The counters.
    pub metrics: IoMetricsInfo,
    /// The milliseconds in each state; -1 for a state that was not entered.
    pub status_duration: BTreeMap<ExecutionState, i64>,
    /// Attempts that run at the same time.
    pub other_concurrent_attempts: EmptyList,
}

/// `GET …/subtasktimes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubtasksTimesInfo {
    /// The vertex.
    pub id: VertexId,
    /// The name.
    pub name: String,
    /// The time of this answer.
    pub now: i64,
    /// The subtasks, by number.
    pub subtasks: Vec<SubtaskTimeInfo>,
}

/// One subtask of [`SubtasksTimesInfo`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubtaskTimeInfo {
    /// The number, from 0.
    pub subtask: u32,
    /// The place.
    #[serde(flatten)]
    pub place: Place,
    /// The milliseconds since its deployment, or up to its end.
    pub duration: i64,
    /// The time at which it entered each state; 0 if it did not.
    pub timestamps: BTreeMap<ExecutionState, i64>,
}

/// `GET …/taskmanagers` of a vertex.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobVertexTaskManagersInfo {
    /// The vertex.
    pub id: VertexId,
    /// The name.
    pub name: String,
    /// The time of this answer.
    pub now: i64,
    /// The TaskManagers that run its subtasks.
    pub taskmanagers: Vec<JobVertexTaskManagerInfo>,
}

/// One TaskManager of [`JobVertexTaskManagersInfo`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct JobVertexTaskManagerInfo {
    /// The place; here alone `host` has the port too.
    #[serde(flatten)]
    pub place: Place,
    /// The state, from those of its subtasks.
    pub status: ExecutionState,
    /// The begin and the end of its subtasks.
    #[serde(flatten)]
    pub span: Span,
    /// The sums over its subtasks.
    pub metrics: IoMetricsInfo,
    /// Its subtasks in each state.
    pub status_counts: StateCounts,
    /// Distributions over its subtasks.
    pub aggregated: AggregatedTaskDetailsInfo,
}

/// `GET …/accumulators` of a vertex.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct JobVertexAccumulatorsInfo {
    /// The vertex.
    pub id: VertexId,
    /// The sums over its subtasks.
    pub user_accumulators: Vec<UserAccumulator>,
}

/// `GET …/subtasks/accumulators`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubtasksAllAccumulatorsInfo {
    /// The vertex.
    pub id: VertexId,
    /// The parallelism.
    pub parallelism: u32,
    /// The subtasks, by number.
    pub subtasks: Vec<SubtaskAccumulatorsInfo>,
}

/// One subtask of [`SubtasksAllAccumulatorsInfo`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SubtaskAccumulatorsInfo {
    /// The number, from 0.
    pub subtask: u32,
    /// The attempts before this one.
    pub attempt: u32,
    /// The place.
    #[serde(flatten)]
    pub place: Place,
    /// The counters.
    pub user_accumulators: Vec<UserAccumulator>,
}

/// `GET …/subtasks/:subtaskindex/attempts/:attempt/accumulators`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SubtaskExecutionAttemptAccumulatorsInfo {
    /// The number, from 0.
    pub subtask: u32,
    /// The attempts before this one.
    pub attempt: u32,
    /// The attempt's id.
    pub id: String,
    /// The counters.
    pub user_accumulators: Vec<UserAccumulator>,
}

/// `GET …/backpressure`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct JobVertexBackPressureInfo {
    /// Whether there are numbers.
    pub status: VertexBackPressureStatus,
    /// The level of the worst subtask.
    #[serde(flatten)]
    pub level: Option<BackPressureLevels>,
    /// The time of this answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_timestamp: Option<i64>,
    /// The subtasks that have reported.
    pub subtasks: Vec<SubtaskBackPressureInfo>,
}

/// The status of [`JobVertexBackPressureInfo`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VertexBackPressureStatus {
    /// No subtask has reported.
    Deprecated,
    /// Subtasks have reported.
    Ok,
}

/// The share of its time that a subtask waits for its consumers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VertexBackPressureLevel {
    /// Up to a tenth.
    Ok,
    /// Up to a half.
    Low,
    /// More.
    High,
}

/// One level under the names of both versions of Flink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackPressureLevels {
    /// The name of Flink 2.x.
    #[serde(rename = "backpressureLevel")]
    pub camel: VertexBackPressureLevel,
    /// The name of Flink 1.20.
    #[serde(rename = "backpressure-level")]
    pub kebab: VertexBackPressureLevel,
}

impl From<VertexBackPressureLevel> for BackPressureLevels {
    fn from(level: VertexBackPressureLevel) -> Self {
        Self { camel: level, kebab: level }
    }
}

/// One subtask of [`JobVertexBackPressureInfo`]. The three ratios add up to 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SubtaskBackPressureInfo {
    /// The number, from 0.
    pub subtask: u32,
    /// The attempts before this one; absent if there were none.
    #[serde(rename = "attempt-number", skip_serializing_if = "Option::is_none")]
    pub attempt_number: Option<u32>,
    /// The level.
    #[serde(flatten)]
    pub level: BackPressureLevels,
    /// The share of time with output that its consumers did not take.
    pub ratio: f64,
    /// The share of time without input.
    pub idle_ratio: f64,
    /// The share of time spent working.
    pub busy_ratio: f64,
}

/// `GET …/flamegraph`: there are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VertexFlameGraph {
    /// -3: flame graphs are switched off.
    pub end_timestamp: i64,
    /// The graph.
    pub data: Option<()>,
}

/// An entry of `GET /jobs/:jobid/resource-requirements`, which is an object by vertex.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobVertexResourceRequirements {
    /// The bounds of the parallelism.
    pub parallelism: Parallelism,
}

/// The bounds of a vertex's parallelism: both are its own, since it cannot be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Parallelism {
    /// The smallest.
    pub lower_bound: u32,
    /// The largest.
    pub upper_bound: u32,
}
