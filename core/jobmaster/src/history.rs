//! The failures that a job saw, as many as are remembered.

use std::collections::VecDeque;

use millstream_gateway::ExceptionEntry;

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
    use millstream_gateway::{CauseKind, FailureCause};
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
}
