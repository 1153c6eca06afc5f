//! The failures that a job saw, as many as are remembered.

use std::collections::VecDeque;

use millstream_gateway::{CauseKind, ExceptionEntry};
use millstream_types::{HostId, TaskManagerId};

/// The newest failures first; consequences stand behind their cause, so that the first entry of a
/// failed job is always the reason.
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

    /// Adds a failure that is no consequence of another.
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
        let its_loss = self.entries.iter_mut().find(|entry| is_loss_of(entry, worker));
        let Some(entry) = its_loss else { return false };
        entry.cause.message = format!("{}: {reason}", entry.cause.message);
        true
    }

    /// True if the history holds the loss of this TaskManager.
    pub(crate) fn tells_of_loss(&self, worker: &TaskManagerId) -> bool {
        self.entries.iter().any(|entry| is_loss_of(entry, worker))
    }

    /// Adds the last words of a host that did not get ready to the failure that this was; the
    /// coordinator host is the one without a place.
    pub(crate) fn quote(&mut self, host: Option<HostId>, stderr_tail: &str) {
        let Some(last) = last_words(stderr_tail) else { return };
        let is_it = |entry: &&mut ExceptionEntry| {
            let on = entry.location.as_ref().map(|location| location.host);
            entry.cause.kind == CauseKind::Start && on == host
        };
        if let Some(entry) = self.entries.iter_mut().find(is_it)
            && entry.cause.detail.is_empty()
        {
            let said = format!("{}: the last that it wrote is: {last}", entry.cause.message);
            entry.cause.message = said;
            stderr_tail.clone_into(&mut entry.cause.detail);
        }
    }

    fn truncate(&mut self) {
        self.truncated |= self.entries.len() > self.size;
        self.entries.truncate(self.size);
    }

    /// The entries.
    pub(crate) fn entries(&self) -> Vec<ExceptionEntry> {
        self.entries.iter().cloned().collect()
    }

    /// True if entries were forgotten.
    pub(crate) fn is_truncated(&self) -> bool {
        self.truncated
    }
}

fn is_loss_of(entry: &ExceptionEntry, worker: &TaskManagerId) -> bool {
    let on = entry.location.as_ref().map(|location| &location.task_manager);
    entry.cause.kind == CauseKind::WorkerLost && on == Some(worker)
}

/// The message of the last panic, else the last line: below a panic stands its backtrace.
fn last_words(stderr_tail: &str) -> Option<&str> {
    let panic = stderr_tail.rsplit_once(" panicked at ").map(|(_, panic)| panic);
    let message = panic.and_then(|panic| panic.lines().nth(1));
    let lines = stderr_tail.lines().rev().map(str::trim);
    message.into_iter().chain(lines).find(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use millstream_gateway::{FailureCause, TaskLocation};
    use millstream_types::Timestamp;

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
    fn last_words_are_those_of_a_panic_if_there_is_one() {
        let panic = "so\n\nthread 'main' (7) panicked at src/a.rs:1:2:\nno thread\nstack \
                     backtrace:\n 1: x\n";
        assert_eq!(last_words(panic), Some("no thread"));
        assert_eq!(last_words("so\nlong \n\n"), Some("long"));
        assert_eq!(last_words(" \n"), None);
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
