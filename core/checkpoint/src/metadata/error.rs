//! Errors of metadata: where something is wrong, and what.

use std::fmt;

use millstream_types::{CheckpointId, JobId, OperatorId};

/// A part of the metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// Job, checkpoint, kind, time.
    Head,
    /// The operator at this place, from 0.
    Operator(u32),
    /// Committables.
    Committables,
    /// The size of all states, and what follows.
    End,
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head => f.write_str("the head"),
            Self::Operator(at) => write!(f, "operator {at}"),
            Self::Committables => f.write_str("the committables"),
            Self::End => f.write_str("the end"),
        }
    }
}

/// A contradiction in metadata.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A value or a length goes beyond the bytes.
    #[error("a value goes beyond the end")]
    CutOff,
    /// Bytes follow that belong to nothing.
    #[error("{0} bytes are left over")]
    LeftOver(u64),
    /// A byte that tells variants apart has none of its values.
    #[error("{found} is no {of}")]
    Tag {
        /// The thing that has variants.
        of: &'static str,
        /// The byte.
        found: u8,
    },
    /// Text is not UTF-8.
    #[error("a text is not UTF-8")]
    Text,
    /// The max parallelism is 0 or more than 32,768.
    #[error("a max parallelism of {0} is none between 1 and 32768")]
    MaxParallelism(u32),
    /// An operator has more subtasks than its max parallelism.
    #[error("{subtasks} subtasks are more than the max parallelism of {max_parallelism}")]
    Subtasks {
        /// The number of subtasks.
        subtasks: usize,
        /// The max parallelism.
        max_parallelism: u32,
    },
    /// A handle is of a state that the operator does not declare.
    #[error("a handle is of state {state}, and the operator declares {declared}")]
    State {
        /// The state's place, from 0.
        state: u32,
        /// The number of declared states.
        declared: usize,
    },
    /// Two states of an operator have the same name.
    #[error("the state {0:?} is declared twice")]
    StateTwice(String),
    /// The key groups of a handle are not in order, or beyond the max parallelism or the content.
    #[error("key group {0} is out of order, or beyond the max parallelism or the content")]
    Group(u16),
    /// A file has no name, or its segment ends beyond what a file can have.
    #[error("a segment of the file {0:?} is none")]
    Segment(String),
    /// Operators are not in ascending order of their ids.
    #[error("operator {0} is out of order or occurs twice")]
    Operator(OperatorId),
    /// Committables of one writer and checkpoint are out of order or occur twice.
    #[error("committables of operator {operator} for {checkpoint} are out of order or occur twice")]
    Committables {
        /// The operator.
        operator: OperatorId,
        /// The checkpoint.
        checkpoint: CheckpointId,
    },
    /// Committables were pre-committed for a later checkpoint than this one.
    #[error("committables of operator {operator} are for the later {checkpoint}")]
    Later {
        /// The operator.
        operator: OperatorId,
        /// The later checkpoint.
        checkpoint: CheckpointId,
    },
    /// The sum of the sizes of all states is another one than stated.
    #[error("its states have {found} bytes instead of {stated}")]
    Size {
        /// The size that is written down.
        stated: u64,
        /// The sum of all states.
        found: u64,
    },
}

/// Why metadata cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The file is something else.
    #[error("{file} is not the metadata of a checkpoint")]
    NotMetadata {
        /// The file.
        file: String,
    },
    /// The file was written by a later version of the engine.
    #[error(
        "{file} has version {found} of the format of metadata, and this build reads versions up to \
         {known}: use the build that wrote it, or a later one"
    )]
    NewerVersion {
        /// The file.
        file: String,
        /// The file's version.
        found: u32,
        /// The latest version that this build reads.
        known: u32,
    },
    /// The file has a version that never was.
    #[error("{file} has version {found} of the format of metadata, which there never was")]
    UnknownVersion {
        /// The file.
        file: String,
        /// The file's version.
        found: u32,
    },
    /// The file has been cut off or continued.
    #[error("{file} has {found} bytes instead of {expected}: it was cut off, or written to")]
    Length {
        /// The file.
        file: String,
        /// The length that its head states, or the least that a file has.
        expected: u64,
        /// Its length.
        found: u64,
    },
    /// The bytes are not those that were written.
    #[error("{file} is damaged: its checksum is {found:08x} instead of {expected:08x}")]
    Checksum {
        /// The file.
        file: String,
        /// The checksum that it states.
        expected: u32,
        /// The checksum of its bytes.
        found: u32,
    },
    /// The bytes are as they were written, and contradict themselves.
    #[error("{file} is malformed before byte {at}, in {section}")]
    Malformed {
        /// The file.
        file: String,
        /// The section.
        section: Section,
        /// The number of bytes that were read.
        at: u64,
        /// The contradiction.
        #[source]
        fault: Fault,
    },
}

/// Why metadata cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A text, a content or a list has more than 2^32 - 1 bytes or elements.
    #[error("{section} has a part of {length} bytes or elements, more than the format holds")]
    TooLong {
        /// The section.
        section: Section,
        /// The length.
        length: usize,
    },
    /// The metadata contradicts itself, and could not be read back.
    #[error("the metadata contradicts itself in {section}")]
    Invalid {
        /// The section.
        section: Section,
        /// The contradiction.
        #[source]
        fault: Fault,
    },
}

/// A checkpoint is another job's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{checkpoint} is one of job {found}, not of job {expected}")]
pub struct OtherJob {
    /// The checkpoint.
    pub checkpoint: CheckpointId,
    /// The job whose checkpoint it should be.
    pub expected: JobId,
    /// The job whose checkpoint it is.
    pub found: JobId,
}
