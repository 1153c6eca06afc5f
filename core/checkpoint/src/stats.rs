//! Statistics of checkpoints as Flink's REST shows them, and the status of those that are pending.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_types::{CheckpointId, ExecutionAttemptId, Timestamp};

use crate::messages::{AckMetrics, WaitsFor};
use crate::metadata::Kind;
use crate::plan::Subtask;
use crate::settings::Settings;

/// The outcome of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is pending.
    InProgress,
    /// It is complete.
    Completed {
        /// The time of its completion.
        at: Timestamp,
        /// Bytes of all states.
        state_bytes: u64,
        /// Whether it has been removed, as later ones are complete.
        discarded: bool,
    },
    /// It failed.
    Failed {
        /// The time of its end.
        at: Timestamp,
        /// One sentence.
        reason: String,
    },
}

/// The part of a subtask in a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubtaskStats {
    /// The time at which it acknowledged.
    pub acknowledged: Timestamp,
    /// Whether it had finished.
    pub finished: bool,
    /// Bytes of its states.
    pub state_bytes: u64,
    /// Its measurements.
    pub metrics: AckMetrics,
}

/// The statistics of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointStats {
    /// The checkpoint.
    pub id: CheckpointId,
    /// Its kind.
    pub kind: Kind,
    /// The time of its start.
    pub triggered: Timestamp,
    /// The number of subtasks that have to acknowledge it, or had finished; 0 before its trigger.
    pub subtasks_total: usize,
    /// The subtasks that have acknowledged it, or had finished.
    pub subtasks: BTreeMap<Subtask, SubtaskStats>,
    /// The outcome.
    pub outcome: Outcome,
}

impl CheckpointStats {
    /// Statistics of a checkpoint that starts.
    pub(crate) const fn new(id: CheckpointId, kind: Kind, triggered: Timestamp) -> Self {
        let subtasks = BTreeMap::new();
        Self { id, kind, triggered, subtasks_total: 0, subtasks, outcome: Outcome::InProgress }
    }

    /// The time of the last acknowledgement.
    #[must_use]
    pub fn latest_ack(&self) -> Option<Timestamp> {
        self.subtasks.values().map(|subtask| subtask.acknowledged).max()
    }

    /// Time from the start to the last acknowledgement.
    #[must_use]
    pub fn end_to_end(&self) -> Duration {
        let latest = self.latest_ack().unwrap_or(self.triggered);
        latest.saturating_since(self.triggered)
    }

    /// Bytes that were written for it.
    #[must_use]
    pub fn checkpointed_bytes(&self) -> u64 {
        self.sum(|subtask| subtask.metrics.checkpointed_bytes)
    }

    /// Bytes of all states.
    #[must_use]
    pub fn state_bytes(&self) -> u64 {
        self.sum(|subtask| subtask.state_bytes)
    }

    /// Bytes of records that were processed during alignments.
    #[must_use]
    pub fn processed_bytes(&self) -> u64 {
        self.sum(|subtask| subtask.metrics.processed_bytes)
    }

    /// Bytes of records in flight that were stored.
    #[must_use]
    pub fn persisted_bytes(&self) -> u64 {
        self.sum(|subtask| subtask.metrics.persisted_bytes)
    }

    fn sum(&self, of: impl Fn(&SubtaskStats) -> u64) -> u64 {
        self.subtasks.values().fold(0, |sum, subtask| sum.saturating_add(of(subtask)))
    }
}

/// The numbers of checkpoints since the job's start under this master.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Restores.
    pub restored: u64,
    /// Started checkpoints.
    pub total: u64,
    /// Pending ones.
    pub in_progress: u64,
    /// Complete ones.
    pub completed: u64,
    /// Failed ones.
    pub failed: u64,
}

/// The distribution of a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Summary {
    /// The least of all.
    pub min: u64,
    /// The greatest of all.
    pub max: u64,
    /// The mean of all.
    pub avg: u64,
    /// Quantiles of the latest 1,000: 50, 90, 95, 99 and 99.9 percent.
    pub quantiles: [u64; 5],
}

/// A restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// The checkpoint.
    pub id: CheckpointId,
    /// Its kind.
    pub kind: Kind,
    /// The time of the restore.
    pub at: Timestamp,
}

/// Everything that the REST endpoint of a job's checkpoints shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Counts.
    pub counts: Counts,
    /// Time from start to last acknowledgement of complete ones, in milliseconds.
    pub end_to_end_ms: Summary,
    /// Bytes written for complete ones.
    pub checkpointed_bytes: Summary,
    /// Bytes of all states of complete ones.
    pub state_bytes: Summary,
    /// Bytes processed during alignments of complete ones.
    pub processed_bytes: Summary,
    /// Bytes in flight stored with complete ones.
    pub persisted_bytes: Summary,
    /// The latest complete checkpoint.
    pub latest_completed: Option<Arc<CheckpointStats>>,
    /// The latest complete savepoint.
    pub latest_savepoint: Option<Arc<CheckpointStats>>,
    /// The latest that failed.
    pub latest_failed: Option<Arc<CheckpointStats>>,
    /// The latest restore.
    pub latest_restored: Option<Restored>,
    /// Pending ones and the latest that ended, newest first.
    pub history: Vec<Arc<CheckpointStats>>,
}

/// A subtask that has not acknowledged a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The task.
    pub task: ExecutionAttemptId,
    /// Its name, for people.
    pub name: String,
    /// The thing that it waits for, as far as it has said.
    pub waits_for: WaitsFor,
}

/// The reason why a pending checkpoint is not complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitingFor {
    /// Its id is being stored.
    Id,
    /// Coordinators have not answered.
    Coordinators,
    /// These tasks have not acknowledged it.
    Tasks(Vec<Missing>),
    /// An earlier checkpoint is being stored.
    Earlier,
    /// It is being stored.
    Store,
    /// It may be stored, and that is not known for this reason; the store is asked again.
    ReadBack(String),
}

/// A pending checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingStatus {
    /// The checkpoint.
    pub id: CheckpointId,
    /// Its kind.
    pub kind: Kind,
    /// Time since its start.
    pub age: Duration,
    /// The reason why it is not complete.
    pub waiting_for: WaitingFor,
}

/// The reason why no checkpoint starts, although one may be due.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Blocked {
    /// The job is not running.
    #[error("the job is being restarted")]
    Restarting,
    /// The last checkpoint is complete.
    #[error("the job ends: its last checkpoint is complete")]
    Ended,
    /// Not all tasks run.
    #[error("{running} of {of} tasks run or have finished: checkpoints need all of them")]
    Tasks {
        /// The number of tasks that run or have finished.
        running: usize,
        /// The number of all.
        of: usize,
    },
    /// Some tasks have finished, and checkpoints do not go on after that.
    #[error("some tasks have finished, and checkpoints do not go on after that by configuration")]
    TasksFinished,
    /// All tasks have finished: the final checkpoint is due or being stored.
    #[error("all sources have ended: the job is about to finish")]
    Finishing,
    /// The coordinator host is not ready.
    #[error("the coordinator host is not ready")]
    CoordinatorHost,
    /// Another checkpoint is being started.
    #[error("{0} is being started")]
    Starting(CheckpointId),
    /// The job stops with a savepoint.
    #[error("the job stops with {0}")]
    Stopping(CheckpointId),
    /// As many checkpoints as allowed are pending.
    #[error("{0} checkpoints are pending, the most that may be")]
    Pending(u32),
    /// A savepoint is in flight, which barriers of a checkpoint could overtake.
    #[error("a savepoint is in flight, which an unaligned checkpoint could overtake")]
    Savepoint,
    /// Committers are behind.
    #[error("{count} committables wait for their commit, more than {max}")]
    Uncommitted {
        /// The number of those that wait.
        count: u64,
        /// The limit.
        max: u64,
    },
    /// Removed checkpoints could not be discarded.
    #[error("{0} old checkpoints could not be discarded")]
    Discarding(usize),
    /// Ids are used up.
    #[error("there is no higher checkpoint id")]
    Ids,
}

/// A job's checkpoints as the world sees them.
#[derive(Debug, Clone, PartialEq)]
pub struct Overview {
    /// The options.
    pub settings: Settings,
    /// The directory of the job's checkpoints; `None`: they are kept in memory.
    pub directory: Option<String>,
    /// The statistics.
    pub report: Report,
    /// The present state.
    pub status: Status,
}

/// Counts of messages that were ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ignored {
    /// Messages of attempts that are over.
    pub old_attempt: u64,
    /// Messages about checkpoints that are not pending.
    pub unknown_checkpoint: u64,
    /// Messages that had come before.
    pub repeated: u64,
}

/// The present state of a job's checkpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The reason why no periodic checkpoint starts when it is due.
    pub blocked: Option<Blocked>,
    /// Pending checkpoints in the order of their ids.
    pub pending: Vec<PendingStatus>,
    /// The number of committables that wait for their commit.
    pub uncommitted: u64,
    /// Time since the last completion under this master; `None` before the first.
    pub last_complete_age: Option<Duration>,
    /// The number of failures since the last success.
    pub failures_in_a_row: u32,
    /// Ignored messages.
    pub ignored: Ignored,
}
