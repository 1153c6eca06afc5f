//! Why a task, a process or a job ended.

use std::error::Error;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The kind of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CauseKind {
    /// User code returned an error.
    Error,
    /// User code panicked.
    Panic,
    /// A process died of a signal.
    Signal,
    /// A process exited by itself.
    Exit,
    /// A process was over its memory limit and was killed.
    Memory,
    /// The program builds another graph than it was planned as, or speaks another protocol.
    Mismatch,
    /// A process or a worker could not be started, or an artifact not be fetched.
    Start,
    /// A TaskManager is gone or silent.
    WorkerLost,
    /// No slots came in time.
    NoSlots,
    /// A task did not stop when told to.
    Stuck,
    /// A connection between two hosts failed.
    Exchange,
    /// Publishing a sink's results failed.
    Commit,
    /// More checkpoints failed than are tolerated, or their directory cannot be used.
    Checkpoint,
    /// State cannot be restored: a file is gone or damaged, or the program has other types. The job
    /// does not restart, as every attempt would fail of it.
    State,
    /// A file system could not serve user code: it is away, in safe mode, or lost a file that was
    /// being written.
    Storage,
    /// It was asked for.
    Requested,
}

impl CauseKind {
    /// Every kind.
    pub const ALL: [Self; 16] = [
        Self::Error,
        Self::Panic,
        Self::Signal,
        Self::Exit,
        Self::Memory,
        Self::Mismatch,
        Self::Start,
        Self::WorkerLost,
        Self::NoSlots,
        Self::Stuck,
        Self::Exchange,
        Self::Commit,
        Self::Checkpoint,
        Self::State,
        Self::Storage,
        Self::Requested,
    ];

    /// The kind of this name, as [`CauseKind::as_str`] gives it.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

impl CauseKind {
    /// The name in REST answers (`exceptionName`).
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "UserError",
            Self::Panic => "UserPanic",
            Self::Signal => "HostKilled",
            Self::Exit => "HostExited",
            Self::Memory => "MemoryLimitExceeded",
            Self::Mismatch => "ArtifactMismatch",
            Self::Start => "HostStartFailed",
            Self::WorkerLost => "TaskManagerLost",
            Self::NoSlots => "NoResourceAvailable",
            Self::Stuck => "TaskNotStopping",
            Self::Exchange => "ExchangeFailed",
            Self::Commit => "CommitFailed",
            Self::Checkpoint => "CheckpointFailed",
            Self::State => "StateNotRestored",
            Self::Storage => "StorageUnavailable",
            Self::Requested => "Requested",
        }
    }
}

/// Why something ended: one sentence for people, detail for those who debug.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureCause {
    /// The kind of the failure.
    pub kind: CauseKind,
    /// One sentence.
    pub message: String,
    /// Place of a panic, chain of causes, last lines of standard error. May be empty.
    pub detail: String,
}

impl FailureCause {
    /// A cause without detail.
    #[must_use]
    pub fn new(kind: CauseKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), detail: String::new() }
    }

    /// The same with at most 4 KiB of message and 32 KiB of detail: user code wrote them, and they
    /// are kept, logged and shown.
    #[must_use]
    pub fn bounded(self) -> Self {
        let (message, detail) =
            (shortened(self.message, 4 << 10), shortened(self.detail, 32 << 10));
        Self { kind: self.kind, message, detail }
    }

    /// With detail.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }
}

/// An error and its causes, as one sentence; what a cause says in the words of the one above it is
/// said once.
#[must_use]
pub fn with_sources(error: &(dyn Error + 'static)) -> String {
    let mut parts = vec![error.to_string()];
    let mut source = error.source();
    while let Some(next) = source {
        parts.push(next.to_string());
        source = next.source();
    }
    parts.dedup();
    parts.join(": ")
}

fn shortened(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
        text.push('…');
    }
    text
}

impl fmt::Display for FailureCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_no_longer_than_people_read() {
        let cause = FailureCause::new(CauseKind::Panic, "ä".repeat(1 << 20)).bounded();
        assert_eq!(cause.message.len(), (4 << 10) + '…'.len_utf8());
        let short = FailureCause::new(CauseKind::Panic, "short").with_detail("d");
        assert_eq!(short.clone().bounded(), short);
    }
}
