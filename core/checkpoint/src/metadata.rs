//! The metadata of a checkpoint: everything that a restore needs to know, and where the state is.
//!
//! [`Metadata::encode`] makes its bytes and [`Metadata::decode`] reads them. The format is
//! versioned: a build reads the versions up to [`FORMAT_VERSION`] and refuses later ones. Nothing
//! is taken from damaged bytes: they are refused with the file, the section and the fault.
//!
//! Contents of users (state, positions of splits, committables) are bytes here. The JobManager
//! never decodes them.

mod check;
mod error;
mod format;
mod reader;
#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use millstream_types::{
    CheckpointId, JobId, KeyGroup, LeaderEpoch, MaxParallelism, OperatorId, Timestamp,
};

pub use error::{DecodeError, EncodeError, Fault, OtherJob, Section};
pub use format::FORMAT_VERSION;

/// The kind of a checkpoint, as its barriers say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A checkpoint, periodic or requested.
    Checkpoint,
    /// The last checkpoint of a bounded job, made of the last reports of its tasks when all of them
    /// have finished.
    Final,
    /// A savepoint. It commits nothing and removes no checkpoint.
    Savepoint,
    /// The savepoint with which a job stops. It commits.
    Stop {
        /// Whether the end of time is emitted before the barrier.
        drain: bool,
    },
}

impl Kind {
    /// Whether its completion commits what it carries and makes it the one to restore.
    #[must_use]
    pub const fn commits(self) -> bool {
        match self {
            Self::Checkpoint | Self::Final | Self::Stop { .. } => true,
            Self::Savepoint => false,
        }
    }

    /// Whether it belongs to the user and is stored in a directory of its own.
    #[must_use]
    pub const fn is_savepoint(self) -> bool {
        match self {
            Self::Savepoint | Self::Stop { .. } => true,
            Self::Checkpoint | Self::Final => false,
        }
    }

    /// Whether the job ends with it.
    #[must_use]
    pub const fn is_last(self) -> bool {
        match self {
            Self::Final | Self::Stop { .. } => true,
            Self::Checkpoint | Self::Savepoint => false,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Checkpoint => "checkpoint",
            Self::Final => "final checkpoint",
            Self::Savepoint => "savepoint",
            Self::Stop { .. } => "stop savepoint",
        })
    }
}

/// The attempt of a task that wrote something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// The epoch of the leader that deployed the attempt.
    pub epoch: LeaderEpoch,
    /// The attempt's number.
    pub attempt: u32,
}

/// A part of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSegment {
    /// The file, as the storage of checkpoints names it.
    pub path: String,
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub length: u64,
    /// CRC-32 (IEEE) of these bytes.
    pub crc32: u32,
}

/// The place of a state's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// They are few and stand in the metadata.
    Inline(Vec<u8>),
    /// They are in a file.
    File(FileSegment),
}

impl Content {
    /// The number of bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        match self {
            Self::Inline(bytes) => bytes.len() as u64,
            Self::File(segment) => segment.length,
        }
    }
}

/// The place of a key group within a content: from here to the next group, or to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupOffset {
    /// The key group.
    pub group: KeyGroup,
    /// Its first byte within the content.
    pub offset: u64,
}

/// A state of one subtask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handle {
    /// The state: its place in [`OperatorState::states`].
    pub state: u32,
    /// The attempt that wrote it.
    pub owner: Owner,
    /// Its bytes.
    pub content: Content,
    /// Its key groups, in ascending order, a large one in several parts; empty for state without
    /// keys.
    pub groups: Vec<GroupOffset>,
}

/// The kind of a declared state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StateKind {
    /// One value a key.
    Value,
    /// A list a key.
    List,
    /// A map a key.
    Map,
    /// One value a key, reduced from all that were added.
    Reducing,
    /// One accumulator a key.
    Aggregating,
    /// Timers.
    Timers,
    /// Broadcast state.
    Broadcast,
    /// A list of the operator, divided among its subtasks.
    OperatorList,
    /// A list of the operator that each subtask gets in whole.
    OperatorUnion,
}

impl StateKind {
    /// The kind without keys; `None` for state of keys. States of different kinds without keys, and
    /// a state of keys, may have one name.
    #[must_use]
    pub const fn without_keys(self) -> Option<Self> {
        match self {
            Self::Value
            | Self::List
            | Self::Map
            | Self::Reducing
            | Self::Aggregating
            | Self::Timers => None,
            Self::Broadcast | Self::OperatorList | Self::OperatorUnion => Some(self),
        }
    }
}

/// A state that an operator declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDescription {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: StateKind,
    /// Its schema, encoded.
    pub schema: Vec<u8>,
}

/// The part of an operator's state that one subtask had.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SubtaskState {
    /// Whether the subtask had finished: a restore does not run it again.
    pub finished: bool,
    /// Its splits with their positions, encoded.
    pub positions: Vec<Vec<u8>>,
    /// Its states.
    pub handles: Vec<Handle>,
}

/// The state of an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorState {
    /// The operator.
    pub id: OperatorId,
    /// Its uid, if it has one.
    pub uid: Option<String>,
    /// Its name, for people.
    pub name: String,
    /// The number of its key groups.
    pub max_parallelism: MaxParallelism,
    /// The schema of its key, encoded, if it has one.
    pub key_schema: Option<Vec<u8>>,
    /// The state of its coordinator, if it has one.
    pub coordinator: Option<Vec<u8>>,
    /// The states that it declares.
    pub states: Vec<StateDescription>,
    /// The subtasks, in the order of their numbers.
    pub subtasks: Vec<SubtaskState>,
}

/// Committables of one writer that were pre-committed for one checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committables {
    /// The sink's operator.
    pub operator: OperatorId,
    /// The writer's subtask.
    pub subtask: u32,
    /// The writer's attempt.
    pub owner: Owner,
    /// The checkpoint for which they were pre-committed.
    pub checkpoint: CheckpointId,
    /// Number of committables.
    pub count: u32,
    /// The committables, encoded.
    pub bytes: Vec<u8>,
}

/// Everything about a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// The job.
    pub job: JobId,
    /// The checkpoint.
    pub checkpoint: CheckpointId,
    /// Its kind.
    pub kind: Kind,
    /// The time of its start.
    pub triggered: Timestamp,
    /// Operators, in ascending order of their ids.
    pub operators: Vec<OperatorState>,
    /// All committables whose commit was not confirmed, also those of earlier checkpoints.
    pub committables: Vec<Arc<Committables>>,
}

impl Metadata {
    /// Encodes it in the format of [`FORMAT_VERSION`].
    ///
    /// # Errors
    /// It has more than the format can hold, or it contradicts itself.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        check::check(self).map_err(|(section, fault)| EncodeError::Invalid { section, fault })?;
        format::encode(self)
    }

    /// Decodes the bytes of a `file`, whose name is for errors alone.
    ///
    /// # Errors
    /// The bytes are those of another or a later format, incomplete, damaged or contradictory.
    pub fn decode(file: &str, bytes: &[u8]) -> Result<Self, DecodeError> {
        let metadata = format::decode(file, bytes)?;
        check::check(&metadata).map_err(|(section, fault)| DecodeError::Malformed {
            file: file.to_owned(),
            section,
            at: bytes.len() as u64,
            fault,
        })?;
        Ok(metadata)
    }

    /// Checks whose checkpoint it is. Decoding does not: a savepoint may start another job.
    ///
    /// # Errors
    /// It is another job's, which the error names.
    pub fn check_job(&self, job: JobId) -> Result<(), OtherJob> {
        if self.job == job {
            return Ok(());
        }
        Err(OtherJob { checkpoint: self.checkpoint, expected: job, found: self.job })
    }

    /// The number of bytes of all states, inline or in files.
    #[must_use]
    pub fn state_bytes(&self) -> u64 {
        let handles = self.subtasks().flat_map(|subtask| &subtask.handles);
        handles.fold(0, |sum, handle| handle.content.length().saturating_add(sum))
    }

    /// The paths of all files; a file with several segments comes several times.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.subtasks().flat_map(SubtaskState::files)
    }

    fn subtasks(&self) -> impl Iterator<Item = &SubtaskState> {
        self.operators.iter().flat_map(|operator| &operator.subtasks)
    }
}

impl SubtaskState {
    /// The paths of its files; a file with several segments comes several times.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.handles.iter().filter_map(|handle| match &handle.content {
            Content::Inline(_) => None,
            Content::File(segment) => Some(segment.path.as_str()),
        })
    }
}
