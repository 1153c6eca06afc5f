//! Barriers, which mark in every stream which records are part of a checkpoint.

use std::fmt;

use crate::ids::CheckpointId;

/// The boundary of a checkpoint in a stream: the records before it are part of the checkpoint,
/// those behind it are not.
///
/// ```
/// # use millstream_types::{Barrier, BarrierKind, CheckpointId};
/// let barrier = Barrier::new(CheckpointId::new(7), BarrierKind::Savepoint);
/// assert_eq!(barrier.to_string(), "chk-7 (savepoint)");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Barrier {
    /// The checkpoint.
    pub checkpoint: CheckpointId,
    /// Its purpose.
    pub kind: BarrierKind,
}

/// The purpose of a checkpoint, as far as tasks need to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BarrierKind {
    /// The job may go on from it after a failure.
    Checkpoint,
    /// As [`BarrierKind::Checkpoint`]; it overtakes records, which are part of the checkpoint then.
    Unaligned,
    /// A user has asked for it and keeps it; the job goes on.
    Savepoint,
    /// A savepoint behind which no record is emitted: the job stops.
    Stop {
        /// Whether event time ends before it, so that all timers and windows fire.
        drain: bool,
    },
}

impl Barrier {
    /// The boundary of this checkpoint.
    #[must_use]
    pub const fn new(checkpoint: CheckpointId, kind: BarrierKind) -> Self {
        Self { checkpoint, kind }
    }
}

impl fmt::Display for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            BarrierKind::Checkpoint => return self.checkpoint.fmt(f),
            BarrierKind::Unaligned => "unaligned",
            BarrierKind::Savepoint => "savepoint",
            BarrierKind::Stop { drain: false } => "stop",
            BarrierKind::Stop { drain: true } => "stop and drain",
        };
        write!(f, "{} ({kind})", self.checkpoint)
    }
}
