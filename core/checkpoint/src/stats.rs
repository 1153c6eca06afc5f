//! Statistics of checkpoints as Flink's REST shows them, and the status of those that are pending.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use millstream_types::{CheckpointId, ExecutionAttemptId, Timestamp, VertexId};

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
    /// The directory of a savepoint, as far as it is known; `None` for checkpoints.
    pub directory: Option<String>,
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
        Self {
            id,
            kind,
            triggered,
            directory: None,
            subtasks_total: 0,
            subtasks: BTreeMap::new(),
            outcome: Outcome::InProgress,
        }
    }

    /// The subtasks of a vertex that have acknowledged it, or had finished, by their numbers.
    pub fn of_vertex(&self, vertex: VertexId) -> impl Iterator<Item = (u32, &SubtaskStats)> {
        let all = Subtask { vertex, index: 0 }..=Subtask { vertex, index: u32::MAX };
        self.subtasks.range(all).map(|(subtask, stats)| (subtask.index, stats))
    }

    /// Whether barriers overtook records in some task.
    #[must_use]
    pub fn is_unaligned(&self) -> bool {
        self.subtasks.values().any(|subtask| subtask.metrics.unaligned)
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

impl Summary {
    /// The distribution of these values, all quantiles included; of none it is zero.
    #[must_use]
    pub fn of(mut values: Vec<u64>) -> Self {
        values.sort_unstable();
        let sum = values.iter().fold(0_u128, |sum, value| sum + u128::from(*value));
        let avg = sum.checked_div(values.len() as u128).unwrap_or_default();
        Self {
            min: values.first().copied().unwrap_or_default(),
            max: values.last().copied().unwrap_or_default(),
            avg: u64::try_from(avg).unwrap_or(u64::MAX),
            quantiles: quantiles(&values),
        }
    }
}

/// The quantiles of [`Summary`] of values in ascending order.
pub(crate) fn quantiles(sorted: &[u64]) -> [u64; 5] {
    let last = sorted.len().saturating_sub(1);
    let quantile = |per_mille: usize| sorted.get((last * per_mille).div_ceil(1_000)).copied();
    [500, 900, 950, 990, 999].map(|at| quantile(at).unwrap_or_default())
}

/// A restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The checkpoint.
    pub id: CheckpointId,
    /// Its kind.
    pub kind: Kind,
    /// The time of the restore.
    pub at: Timestamp,
    /// Its directory, if that is none of those where the job's checkpoints are.
    pub directory: Option<String>,
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

impl Report {
    /// The statistics of a checkpoint that is still remembered.
    #[must_use]
    pub fn find(&self, id: CheckpointId) -> Option<&Arc<CheckpointStats>> {
        let latest = [&self.latest_completed, &self.latest_savepoint, &self.latest_failed];
        self.history.iter().chain(latest.into_iter().flatten()).find(|stats| stats.id == id)
    }
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

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} waits for {}", self.name, self.waits_for)
    }
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

impl fmt::Display for WaitingFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// The most subtasks that the sentence names.
        const NAMED_MAX: usize = 3;
        match self {
            Self::Id => f.write_str("its id is being stored"),
            Self::Coordinators => f.write_str("the coordinators have not answered"),
            Self::Tasks(missing) => {
                for (at, one) in missing.iter().take(NAMED_MAX).enumerate() {
                    write!(f, "{}{one}", if at == 0 { "" } else { ", " })?;
                }
                match missing.len().saturating_sub(NAMED_MAX) {
                    0 => Ok(()),
                    more => write!(f, ", and {more} more"),
                }
            }
            Self::Earlier => f.write_str("an earlier checkpoint is being stored"),
            Self::Store => f.write_str("it is being stored"),
            Self::ReadBack(reason) => {
                write!(
                    f,
                    "it is not known whether it is stored: {reason}; the store is asked again"
                )
            }
        }
    }
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
    #[error("{0} of at most {0} checkpoints are pending")]
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
    /// Whether complete checkpoints stay when the job has failed.
    pub kept_on_failure: bool,
    /// Whether complete checkpoints stay when the job was cancelled.
    pub kept_on_cancellation: bool,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(number: u32, waits_for: WaitsFor) -> Missing {
        let task = Subtask { vertex: VertexId::from_u128(1), index: number - 1 }.attempt(0);
        Missing { task, name: format!("Map ({number}/9)"), waits_for }
    }

    #[test]
    fn three_tasks_that_are_waited_for_are_named() {
        let one = WaitingFor::Tasks(vec![missing(2, WaitsFor::Barrier)]);
        assert_eq!(
            one.to_string(),
            "Map (2/9) waits for the barrier, or for its state to be written"
        );
        let five = (1..=5).map(|number| missing(number, WaitsFor::Upload)).collect();
        let sentence = WaitingFor::Tasks(five).to_string();
        let end = "Map (3/9) waits for the upload of its state, and 2 more";
        assert!(sentence.ends_with(end), "{sentence}");
        assert!(!sentence.contains("(4/9)"), "{sentence}");
    }

    #[test]
    fn a_summary_is_that_of_all_values() {
        let quantiles = [3, 5, 5, 5, 5];
        let expected = Summary { min: 1, max: 5, avg: 3, quantiles };
        assert_eq!(Summary::of(vec![5, 1, 4, 2, 3]), expected);
        assert_eq!(Summary::of(vec![]), Summary::default());
    }
}
