//! The events and actions of the coordinator of checkpoints.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_types::{CheckpointId, ExecutionAttemptId, OperatorId, Timestamp, TriggerId};

use crate::metadata::{Committables, Kind, Metadata, StateDescription, SubtaskState};
use crate::plan::Subtask;

/// The time, by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The monotonic clock, by which everything is decided.
    pub instant: Instant,
    /// The wall clock, which statistics show.
    pub wall: Timestamp,
}

/// A complete checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completed {
    /// Its metadata.
    pub metadata: Arc<Metadata>,
    /// Whether it is the job's to remove when later ones are complete. One of a user (a
    /// savepoint, a checkpoint restored without a claim) is never touched.
    pub owned: bool,
    /// Its directory, if that is none of those where the job's checkpoints are.
    pub directory: Option<String>,
}

impl Completed {
    /// The checkpoint.
    #[must_use]
    pub fn id(&self) -> CheckpointId {
        self.metadata.checkpoint
    }
}

/// Orders the committers to publish; numbers grow and are never reused by one coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitId(u64);

impl CommitId {
    /// The first one.
    pub const FIRST: Self = Self(1);

    /// The order of this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The one after it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "commit-{}", self.0)
    }
}

/// The state of one operator in one task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorSnapshot {
    /// The operator.
    pub operator: OperatorId,
    /// The schema of its key, encoded, if it has one.
    pub key_schema: Option<Vec<u8>>,
    /// The states that it declares; handles name them by their place here.
    pub states: Vec<StateDescription>,
    /// The subtask's part.
    pub subtask: SubtaskState,
}

/// Measurements of a task's checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AckMetrics {
    /// Time from the trigger to the first barrier.
    pub start_delay: Duration,
    /// Time from the first barrier to the last.
    pub alignment_duration: Duration,
    /// Time during which the task stood still for its snapshot.
    pub sync_duration: Duration,
    /// Time during which it was uploaded beside the task's work.
    pub async_duration: Duration,
    /// Bytes written for this checkpoint.
    pub checkpointed_bytes: u64,
    /// Bytes of records that the task processed during the alignment.
    pub processed_bytes: u64,
    /// Bytes of records in flight that were stored.
    pub persisted_bytes: u64,
    /// Whether barriers overtook records.
    pub unaligned: bool,
}

/// The acknowledgement of a checkpoint by a task.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ack {
    /// The states of the task's operators. Files are those of the base of this checkpoint and new
    /// ones, none else.
    pub snapshots: Vec<OperatorSnapshot>,
    /// All committables that the task keeps, with the checkpoint for which each was pre-committed.
    pub committables: Vec<Arc<Committables>>,
    /// Measurements.
    pub metrics: AckMetrics,
}

/// The last report of a task that has finished: it counts for every later checkpoint. When all
/// tasks have finished, the final checkpoint is made of these reports alone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FinalReport {
    /// The last checkpoint whose barrier the task took. It has acknowledged that one before, or
    /// never will.
    pub last_barrier: Option<CheckpointId>,
    /// The states that its operators leave; none are needed, as the task does not run again.
    pub snapshots: Vec<OperatorSnapshot>,
    /// All committables that it keeps. Those that no barrier took have a number above that of
    /// `last_barrier` and of the checkpoint that was restored.
    pub committables: Vec<Arc<Committables>>,
}

/// The thing that a task waits for before it acknowledges a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum WaitsFor {
    /// It has said nothing yet: the barrier has not come, or its state is being written.
    #[default]
    Barrier,
    /// Barriers have come on some channels and not on all.
    Alignment {
        /// A channel without a barrier.
        channel: String,
    },
    /// Its output is full, so that the barrier cannot go on.
    Output,
    /// Its state is being copied.
    Snapshot,
    /// Its state is being written.
    Upload,
}

impl fmt::Display for WaitsFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Barrier => f.write_str("the barrier, or for its state to be written"),
            Self::Alignment { channel } => write!(f, "the barrier on {channel}"),
            Self::Output => f.write_str("room in its output"),
            Self::Snapshot => f.write_str("the copy of its state"),
            Self::Upload => f.write_str("the upload of its state"),
        }
    }
}

/// A checkpoint that a user asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// A checkpoint like the periodic ones.
    Checkpoint,
    /// A savepoint.
    Savepoint {
        /// The directory that it goes to.
        directory: String,
    },
    /// A savepoint after which the job stops.
    Stop {
        /// The directory that it goes to.
        directory: String,
        /// Whether the end of time is emitted before the barrier.
        drain: bool,
    },
}

/// An event of the coordinator of checkpoints. One that does not fit, because it is late, repeated
/// or of another attempt, changes nothing and is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Time has passed; see [`crate::Coordinator::next_time`].
    Tick,
    /// The job starts, or all its tasks have been told to stop and will be started again. The first
    /// event of all.
    Restarting {
        /// The attempt that will run. Whatever tasks of earlier ones say is ignored.
        attempt: u32,
    },
    /// Some tasks have been told to stop and will be started again, while the others run. Ignored
    /// while all tasks do.
    RegionsRestarting {
        /// The tasks: all of each region that restarts.
        tasks: Vec<Subtask>,
        /// The attempt that will run. Whatever these tasks say of earlier ones is ignored.
        attempt: u32,
    },
    /// A task runs.
    TaskRunning(ExecutionAttemptId),
    /// A task has finished.
    TaskFinished {
        /// The task.
        task: ExecutionAttemptId,
        /// Its last report.
        report: Box<FinalReport>,
    },
    /// A task has failed or is lost.
    TaskFailed(ExecutionAttemptId),
    /// The coordinator host takes commands; its committers have been opened.
    CoordinatorHostReady,
    /// The coordinator host has ended.
    CoordinatorHostLost,
    /// A user asks for a checkpoint.
    Request {
        /// Names the request; one that repeats a known one changes nothing.
        trigger: TriggerId,
        /// The kind of the checkpoint.
        request: Request,
    },
    /// The id's counter is stored.
    IdReserved(CheckpointId),
    /// The id's counter could not be stored, or that is not known.
    IdNotReserved {
        /// The id.
        id: CheckpointId,
        /// The reason.
        reason: String,
    },
    /// The coordinators have snapshots.
    CoordinatorsSnapshot {
        /// The checkpoint.
        id: CheckpointId,
        /// The state of each.
        states: Vec<(OperatorId, Vec<u8>)>,
    },
    /// A coordinator has no snapshot.
    CoordinatorsDeclined {
        /// The checkpoint.
        id: CheckpointId,
        /// The reason.
        reason: String,
    },
    /// A task says what it waits for.
    Progress {
        /// The checkpoint.
        id: CheckpointId,
        /// The task.
        task: ExecutionAttemptId,
        /// The thing that it waits for.
        waits_for: WaitsFor,
    },
    /// A task has acknowledged.
    Acknowledged {
        /// The checkpoint.
        id: CheckpointId,
        /// The task.
        task: ExecutionAttemptId,
        /// Its acknowledgement.
        ack: Box<Ack>,
    },
    /// A task cannot take part.
    Declined {
        /// The checkpoint.
        id: CheckpointId,
        /// The task.
        task: ExecutionAttemptId,
        /// The reason.
        reason: String,
    },
    /// The metadata and the pointer to it are stored; also the answer of [`Action::ReadBack`].
    Stored(CheckpointId),
    /// The pointer is not stored and will not be.
    StoreFailed {
        /// The checkpoint.
        id: CheckpointId,
        /// The reason.
        reason: String,
    },
    /// Whether the pointer is stored is not known.
    StoreUnknown {
        /// The checkpoint.
        id: CheckpointId,
        /// The reason.
        reason: String,
    },
    /// The committers have published everything of this order.
    Committed(CommitId),
    /// The pointer of a checkpoint is gone.
    Discarded(CheckpointId),
    /// The pointer of a checkpoint is still there, or that is not known.
    NotDiscarded(CheckpointId),
}

/// The end of a requested checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is complete.
    Complete(CheckpointId),
    /// There is none.
    Failed(String),
}

/// An instruction of the coordinator of checkpoints, to be carried out in the order given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Store that ids up to this one are used. Answer: [`Event::IdReserved`] or
    /// [`Event::IdNotReserved`].
    ReserveId(CheckpointId),
    /// Ask the coordinators for snapshots, and hold back what they say to tasks until the trigger
    /// or the abort. The final checkpoint needs none. Answer: [`Event::CoordinatorsSnapshot`] or
    /// [`Event::CoordinatorsDeclined`].
    SnapshotCoordinators {
        /// The checkpoint.
        id: CheckpointId,
        /// The operators.
        operators: Vec<OperatorId>,
    },
    /// Tell the tasks of a checkpoint. A task whose inputs have all ended, as a source's have from
    /// the start, takes the barrier at once; the others wait for it on their channels. Triggers are
    /// sent in the order of their ids. The final checkpoint has none: no task runs.
    Trigger {
        /// The checkpoint.
        id: CheckpointId,
        /// Its kind.
        kind: Kind,
        /// Whether its barriers overtake records.
        unaligned: bool,
        /// A complete checkpoint whose files may be used again.
        base: Option<CheckpointId>,
        /// The directory of a savepoint.
        directory: Option<String>,
        /// Every task that runs, at least one.
        tasks: Vec<ExecutionAttemptId>,
    },
    /// Tell these tasks and the coordinators that nothing will become of a checkpoint.
    Abort {
        /// The checkpoint.
        id: CheckpointId,
        /// Those tasks of the trigger that run.
        tasks: Vec<ExecutionAttemptId>,
    },
    /// Write the metadata, then the pointer (a plain savepoint has none). Answer:
    /// [`Event::Stored`], [`Event::StoreFailed`] or [`Event::StoreUnknown`], within a deadline.
    Store {
        /// The checkpoint.
        id: CheckpointId,
        /// Its metadata.
        metadata: Arc<Metadata>,
        /// The directory of a savepoint.
        directory: Option<String>,
    },
    /// Look whether the pointer is there, under the leader's fencing token. Answer: as to
    /// [`Action::Store`].
    ReadBack(CheckpointId),
    /// Tell these tasks and the coordinators that a checkpoint is complete.
    Complete {
        /// The checkpoint.
        id: CheckpointId,
        /// Its kind. If it commits, tasks forget the committables that they acknowledged with it.
        kind: Kind,
        /// Every task that runs.
        tasks: Vec<ExecutionAttemptId>,
    },
    /// Let the committers publish. Answer: [`Event::Committed`].
    Commit {
        /// Names the order.
        commit: CommitId,
        /// The complete checkpoint.
        checkpoint: CheckpointId,
        /// Whether the host is a new one, so that `recover` is called instead of `commit`.
        recover: bool,
        /// Those that have not been told before, or all of them to a new host, which is told even
        /// if there are none: what earlier attempts left goes then.
        committables: Vec<Arc<Committables>>,
    },
    /// Remove the pointer of a checkpoint. Answer: [`Event::Discarded`] or
    /// [`Event::NotDiscarded`].
    Discard(CheckpointId),
    /// Delete files; a failure is left to the sweep of orphans.
    Delete {
        /// The checkpoint whose pointer is gone: its metadata goes too.
        checkpoint: Option<CheckpointId>,
        /// Files that no checkpoint refers to.
        files: Vec<String>,
    },
    /// Answer a request.
    Answer {
        /// The request.
        trigger: TriggerId,
        /// The answer.
        answer: Answer,
    },
    /// Start the tasks from this checkpoint, or from the beginning.
    Restore {
        /// The newest complete checkpoint.
        from: Option<CheckpointId>,
        /// Subtasks that had finished: they are not run. If these are all, the final checkpoint
        /// follows at once.
        finished: Vec<Subtask>,
    },
    /// Start the tasks of [`Event::RegionsRestarting`] from this checkpoint, or from the beginning.
    RestoreRegions {
        /// The newest complete checkpoint.
        from: Option<CheckpointId>,
        /// Those of them that had finished: they are not run.
        finished: Vec<Subtask>,
    },
    /// Fail the tasks that run, for this reason; the restart strategy decides what follows.
    FailJob(String),
    /// The last checkpoint is complete and everything is published: the job has ended.
    Finish,
}
