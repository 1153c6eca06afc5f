//! The failures that a job saw, as many as are remembered.

use std::collections::VecDeque;

use millstream_gateway::{CauseKind, ExceptionEntry};
use millstream_types::TaskManagerId;

/// The newest failures first; what a failure brought about stands behind it, so that the first
/// entry of a failed job is always the reason.
#[derive(Debug)]
pub(crate) struct History {
    entries: VecDeque<ExceptionEntry>,
    size: usize,
    truncated: bool,
}

impl History {
    /// Remembers `size` failures, at least one.
    pub(crate) fn new(size: usize) -> Self {
        Self { entries: VecDeque::new(), size: size.max(1), truncated: false }
    }

    /// Adds a failure that starts something.
    pub(crate) fn add(&mut self, entry: ExceptionEntry) {
        self.entries.push_front(entry);
        self.truncate();
    }

    /// Adds what happened while the newest failure was being handled.
    pub(crate) fn add_consequence(&mut self, entry: ExceptionEntry) {
        self.entries.insert(1.min(self.entries.len()), entry);
        self.truncate();
    }

    /// Adds why a worker ended to the newest failure that its loss was; false if there is none.
    pub(crate) fn explain(&mut self, worker: &TaskManagerId, reason: &str) -> bool {
        let is_its_loss = |entry: &&mut ExceptionEntry| {
            let on = entry.location.as_ref().map(|location| &location.task_manager);
            entry.cause.kind == CauseKind::WorkerLost && on == Some(worker)
        };
        let Some(entry) = self.entries.iter_mut().find(is_its_loss) else { return false };
        entry.cause.message = format!("{}: {reason}", entry.cause.message);
        true
    }

    fn truncate(&mut self) {
        self.truncated |= self.entries.len() > self.size;
        self.entries.truncate(self.size);
    }

    /// The entries.
    pub(crate) fn entries(&self) -> Vec<ExceptionEntry> {
        self.entries.iter().cloned().collect()
    }

    /// Whether some were forgotten.
    pub(crate) fn is_truncated(&self) -> bool {
        self.truncated
    }
}

#[cfg(test)]
mod tests {
    use millstream_gateway::{FailureCause, TaskLocation};
    use millstream_types::{HostId, Timestamp};

    use super::*;

    fn entry(message: &str) -> ExceptionEntry {
        ExceptionEntry {
            timestamp: Timestamp::from_millis(0),
            cause: FailureCause::new(CauseKind::Error, message),
            task: None,
            location: None,
        }
    }

    fn messages(history: &History) -> Vec<String> {
        history.entries().into_iter().map(|entry| entry.cause.message).collect()
    }

    #[test]
    fn the_newest_reason_is_first_and_the_oldest_is_forgotten() {
        let mut history = History::new(3);
        history.add(entry("first"));
        history.add(entry("second"));
        history.add_consequence(entry("after second"));
        assert_eq!(messages(&history), ["second", "after second", "first"]);
        assert!(!history.is_truncated());
        history.add(entry("third"));
        assert_eq!(messages(&history), ["third", "second", "after second"]);
        assert!(history.is_truncated());
    }

    #[test]
    fn a_loss_is_explained_later() {
        let mut history = History::new(3);
        let worker = TaskManagerId::new("w");
        let mut lost = entry("TaskManager w is lost");
        lost.cause.kind = CauseKind::WorkerLost;
        lost.location = Some(TaskLocation {
            task_manager: worker.clone(),
            address: "here".to_owned(),
            host: HostId::from_bytes([1; 16]),
            data_port: None,
        });
        history.add(lost);
        history.add(entry("another"));
        assert!(history.explain(&worker, "it used 513 MB of 512 MB"));
        let expected = ["another", "TaskManager w is lost: it used 513 MB of 512 MB"];
        assert_eq!(messages(&history), expected);
        assert!(!history.explain(&TaskManagerId::new("v"), "it ended"));
    }
}
