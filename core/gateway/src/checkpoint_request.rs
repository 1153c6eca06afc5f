//! Checkpoints that users ask for, and what became of them.

use millstream_types::{CheckpointId, TriggerId};

/// A checkpoint that a user asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckpointRequest {
    /// A checkpoint like the periodic ones.
    Checkpoint,
    /// A savepoint.
    Savepoint {
        /// The directory in which it gets one of its own; `None`: the configured one.
        target: Option<String>,
        /// Whether the job is cancelled once the savepoint is complete.
        cancel: bool,
    },
    /// A savepoint after which the job ends.
    Stop {
        /// The directory in which it gets one of its own; `None`: the configured one.
        target: Option<String>,
        /// Whether event time goes to its end before, so that every window and timer fires.
        drain: bool,
    },
}

impl CheckpointRequest {
    /// Whether the job ends once the savepoint is complete.
    #[must_use]
    pub const fn ends_job(&self) -> bool {
        match self {
            Self::Checkpoint => false,
            Self::Savepoint { cancel, .. } => *cancel,
            Self::Stop { .. } => true,
        }
    }
}

/// The state of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestState {
    /// It is waiting or being taken.
    InProgress,
    /// It is complete. A stop is once the job has ended, too.
    Complete {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// The directory of a savepoint, as users name it to start from it.
        location: Option<String>,
    },
    /// There is none, for this reason.
    Failed(String),
}

/// A checkpoint that a user asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestDetails {
    /// Names the request.
    pub trigger: TriggerId,
    /// The request.
    pub request: CheckpointRequest,
    /// Its state.
    pub state: RequestState,
}
