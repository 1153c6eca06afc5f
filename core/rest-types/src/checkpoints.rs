//! Checkpoints of a job.
//!
//! Sizes are bytes. `alignment_buffered` is 0: no version of Flink that has these answers buffers.

use std::collections::BTreeMap;

use millstream_types::VertexId;
use serde::{Deserialize, Serialize};

/// `GET /jobs/:jobid/checkpoints`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckpointingStatistics {
    /// The numbers of checkpoints.
    pub counts: Counts,
    /// Distributions over the complete ones.
    pub summary: Summary,
    /// The latest of each kind.
    pub latest: LatestCheckpoints,
    /// The pending ones and the latest that ended, newest first, without their tasks.
    pub history: Vec<CheckpointStatistics>,
    /// The fields that Flink does not have.
    pub millstream: MillstreamCheckpointsInfo,
}

/// The numbers of checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Restores of the job.
    pub restored: u64,
    /// Started ones.
    pub total: u64,
    /// Pending ones.
    pub in_progress: u64,
    /// Complete ones.
    pub completed: u64,
    /// Failed ones.
    pub failed: u64,
}

/// A distribution over checkpoints, or over the subtasks of a vertex.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StatsSummary {
    /// The smallest value.
    pub min: u64,
    /// The largest value.
    pub max: u64,
    /// The mean.
    pub avg: u64,
    /// The median.
    pub p50: f64,
    /// Nine of ten are at most this.
    pub p90: f64,
    /// Nineteen of twenty are at most this.
    pub p95: f64,
    /// 99 of 100 are at most this.
    pub p99: f64,
    /// 999 of 1,000 are at most this.
    pub p999: f64,
}

/// Distributions over complete checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Bytes written for each.
    pub checkpointed_size: StatsSummary,
    /// Bytes of all states of each.
    pub state_size: StatsSummary,
    /// Milliseconds from the start to the last acknowledgement.
    pub end_to_end_duration: StatsSummary,
    /// Zeros.
    pub alignment_buffered: StatsSummary,
    /// Bytes of records that were processed during alignments.
    pub processed_data: StatsSummary,
    /// Bytes of records in flight that were stored.
    pub persisted_data: StatsSummary,
}

/// The latest checkpoint of each kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatestCheckpoints {
    /// The latest complete checkpoint.
    pub completed: Option<CheckpointStatistics>,
    /// The latest complete savepoint.
    pub savepoint: Option<CheckpointStatistics>,
    /// The latest that failed.
    pub failed: Option<CheckpointStatistics>,
    /// The one from which the job was restored last.
    pub restored: Option<RestoredCheckpointStatistics>,
}

/// A checkpoint from which the job was restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoredCheckpointStatistics {
    /// The checkpoint.
    pub id: u64,
    /// The time of the restore.
    pub restore_timestamp: i64,
    /// It is a savepoint.
    pub is_savepoint: bool,
    /// Its directory.
    pub external_path: String,
}

/// `GET /jobs/:jobid/checkpoints/details/:checkpointid`, and an entry of the history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointStatistics {
    /// The outcome, with the fields that belong to it.
    #[serde(flatten)]
    pub outcome: CheckpointOutcome,
    /// The checkpoint.
    pub id: u64,
    /// The outcome as a word.
    pub status: CheckpointStatus,
    /// It is a savepoint.
    pub is_savepoint: bool,
    /// The format of a savepoint.
    #[serde(rename = "savepointFormat")]
    pub savepoint_format: Option<SavepointFormat>,
    /// The time of its start.
    pub trigger_timestamp: i64,
    /// The time of the last acknowledgement, or -1.
    pub latest_ack_timestamp: i64,
    /// Bytes written for it.
    pub checkpointed_size: u64,
    /// Bytes of all states.
    pub state_size: u64,
    /// Milliseconds from the start to the last acknowledgement, or to the failure; -1 before the
    /// first acknowledgement.
    pub end_to_end_duration: i64,
    /// Always 0.
    pub alignment_buffered: u64,
    /// Bytes of records that were processed during alignments.
    pub processed_data: u64,
    /// Bytes of records in flight that were stored.
    pub persisted_data: u64,
    /// The subtasks that have to acknowledge it.
    pub num_subtasks: u64,
    /// The subtasks that have acknowledged it.
    pub num_acknowledged_subtasks: u64,
    /// The kind.
    pub checkpoint_type: CheckpointType,
    /// The vertices; empty in lists.
    pub tasks: BTreeMap<VertexId, TaskCheckpointStatistics>,
}

/// The outcome of a checkpoint, with the fields that belong to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "className", rename_all = "snake_case")]
pub enum CheckpointOutcome {
    /// It is complete.
    Completed {
        /// Its directory.
        external_path: String,
        /// It has been removed, as later ones are complete.
        discarded: bool,
    },
    /// It failed.
    Failed {
        /// The time of the failure.
        failure_timestamp: i64,
        /// The reason.
        failure_message: Option<String>,
    },
    /// It is pending.
    InProgress,
}

/// The outcome of a checkpoint as a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CheckpointStatus {
    /// It is pending.
    InProgress,
    /// It is complete.
    Completed,
    /// It failed.
    Failed,
}

/// The format of a savepoint; there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SavepointFormat {
    /// It does not depend on where state is kept.
    Canonical,
}

/// The kind of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CheckpointType {
    /// A checkpoint.
    Checkpoint,
    /// A checkpoint whose barriers overtook records.
    UnalignedCheckpoint,
    /// A savepoint.
    Savepoint,
    /// The savepoint with which a job stops.
    SyncSavepoint,
}

/// One vertex in a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskCheckpointStatistics {
    /// The checkpoint.
    pub id: u64,
    /// The checkpoint's outcome.
    pub status: CheckpointStatus,
    /// The time of the last acknowledgement, or -1.
    pub latest_ack_timestamp: i64,
    /// Bytes written for it.
    pub checkpointed_size: u64,
    /// Bytes of all states.
    pub state_size: u64,
    /// Milliseconds from the checkpoint's start to the last acknowledgement, or -1.
    pub end_to_end_duration: i64,
    /// Always 0.
    pub alignment_buffered: u64,
    /// Bytes of records that were processed during alignments.
    pub processed_data: u64,
    /// Bytes of records in flight that were stored.
    pub persisted_data: u64,
    /// The subtasks.
    pub num_subtasks: u64,
    /// The subtasks that have acknowledged it.
    pub num_acknowledged_subtasks: u64,
}

/// `GET /jobs/:jobid/checkpoints/details/:checkpointid/subtasks/:vertexid`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskCheckpointStatisticsWithSubtaskDetails {
    /// The vertex as a whole.
    #[serde(flatten)]
    pub task: TaskCheckpointStatistics,
    /// Distributions over the subtasks that have acknowledged.
    pub summary: TaskSummary,
    /// The subtasks, by number.
    pub subtasks: Vec<SubtaskCheckpointStatistics>,
}

/// Distributions over the subtasks of a vertex.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TaskSummary {
    /// Bytes written.
    pub checkpointed_size: StatsSummary,
    /// Bytes of states.
    pub state_size: StatsSummary,
    /// Milliseconds from the checkpoint's start to the acknowledgement.
    pub end_to_end_duration: StatsSummary,
    /// Milliseconds of the snapshot.
    pub checkpoint_duration: CheckpointDuration<StatsSummary>,
    /// The alignment.
    pub alignment: CheckpointAlignment<StatsSummary>,
    /// Milliseconds from the trigger to the first barrier.
    pub start_delay: StatsSummary,
}

/// The milliseconds of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointDuration<T> {
    /// The part during which the task stood still.
    pub sync: T,
    /// The part beside the task's work.
    #[serde(rename = "async")]
    pub asynchronous: T,
}

/// The alignment of a task's inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointAlignment<T> {
    /// Always 0.
    pub buffered: T,
    /// Bytes of records that were processed meanwhile.
    pub processed: T,
    /// Bytes of records in flight that were stored.
    pub persisted: T,
    /// Milliseconds from the first barrier to the last.
    pub duration: T,
}

/// One subtask in a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubtaskCheckpointStatistics {
    /// The number, from 0.
    pub index: u32,
    /// Whether it has acknowledged.
    pub status: SubtaskCheckpointStatus,
    /// Its acknowledgement.
    #[serde(flatten)]
    pub outcome: SubtaskCheckpointOutcome,
}

/// Whether a subtask has acknowledged a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubtaskCheckpointStatus {
    /// It has, or had finished before.
    Completed,
    /// It has not.
    PendingOrFailed,
}

/// The acknowledgement of a subtask, if there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "className", rename_all = "snake_case")]
pub enum SubtaskCheckpointOutcome {
    /// It has acknowledged.
    Completed(SubtaskAcknowledgement),
    /// It has not.
    Pending,
}

/// The acknowledgement of a subtask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubtaskAcknowledgement {
    /// The time.
    pub ack_timestamp: i64,
    /// Milliseconds since the checkpoint's start.
    pub end_to_end_duration: i64,
    /// Bytes written.
    pub checkpointed_size: u64,
    /// Bytes of its states.
    pub state_size: u64,
    /// Milliseconds of the snapshot.
    pub checkpoint: CheckpointDuration<u64>,
    /// The alignment.
    pub alignment: CheckpointAlignment<u64>,
    /// Milliseconds from the trigger to the first barrier.
    pub start_delay: u64,
    /// Barriers overtook records.
    pub unaligned_checkpoint: bool,
    /// Always false: a subtask that aborts does not acknowledge.
    pub aborted: bool,
}

/// `GET /jobs/:jobid/checkpoints/config`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointConfigInfo {
    /// The guarantee.
    pub mode: ProcessingMode,
    /// Milliseconds between two starts; 2^63-1 if only requested ones are taken.
    pub interval: i64,
    /// Milliseconds after which a checkpoint is aborted.
    pub timeout: i64,
    /// Least milliseconds between an end and the next start.
    pub min_pause: i64,
    /// The most that are pending at once.
    pub max_concurrent: u32,
    /// Whether complete ones stay when the job has ended.
    pub externalization: ExternalizedCheckpointInfo,
    /// The place of state, by the name of Flink's class.
    pub state_backend: String,
    /// The place of checkpoints, by the name of Flink's class.
    pub checkpoint_storage: String,
    /// Barriers may overtake records.
    pub unaligned_checkpoints: bool,
    /// The most that may fail in a row.
    pub tolerable_failed_checkpoints: u32,
    /// Always 0.
    pub aligned_checkpoint_timeout: i64,
    /// They go on after some tasks have finished.
    pub checkpoints_after_tasks_finish: bool,
    /// Always false.
    pub state_changelog_enabled: bool,
    /// Always -1: there is no changelog.
    pub changelog_periodic_materialization_interval: i64,
    /// Always `none`.
    pub changelog_storage: String,
}

/// The guarantee of checkpoints; there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessingMode {
    /// Every record takes effect once.
    ExactlyOnce,
}

/// Whether complete checkpoints stay when a job has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalizedCheckpointInfo {
    /// They stay when it failed.
    pub enabled: bool,
    /// They do not stay when it was cancelled.
    pub delete_on_cancellation: bool,
}

/// The fields of a job's checkpoints that Flink does not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MillstreamCheckpointsInfo {
    /// The reason why no checkpoint starts, although one may be due.
    pub blocked: Option<String>,
    /// The pending checkpoints, oldest first.
    pub pending: Vec<PendingCheckpointInfo>,
    /// The number of committables that wait for their commit.
    pub uncommitted: u64,
    /// The number of failures since the last success.
    pub failures_in_a_row: u32,
}

/// A pending checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingCheckpointInfo {
    /// The checkpoint.
    pub id: u64,
    /// Its kind: `checkpoint`, `final checkpoint`, `savepoint` or `stop savepoint`.
    pub kind: String,
    /// Milliseconds since its start.
    pub age_ms: u64,
    /// The reason why it is not complete, as a sentence.
    pub waiting_for: String,
}
