//! The attempts of a job's tasks, as far as checkpoints depend on them.
//!
//! ```text
//! Away --(runs)--> Running --(last report)--> Finished
//!  ^                  |                           |
//!  +--(fails, restart)+---------(restart)---------+
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_types::ExecutionAttemptId;

use crate::messages::FinalReport;
use crate::plan::{Plan, Subtask};

#[derive(Debug)]
enum State {
    Away,
    Running {
        attempt: u32,
    },
    /// Without an attempt if it had finished in the checkpoint that was restored.
    Finished {
        attempt: Option<u32>,
        report: Arc<FinalReport>,
    },
}

#[derive(Debug)]
struct Entry {
    /// Attempts below this one are over.
    next_attempt: u32,
    state: State,
}

/// The subtasks of a job with their attempts.
#[derive(Debug)]
pub(crate) struct Tasks {
    entries: BTreeMap<Subtask, Entry>,
    running: usize,
    finished: usize,
}

impl Tasks {
    /// No task runs.
    pub(crate) fn new(plan: &Plan) -> Self {
        let away = || Entry { next_attempt: 0, state: State::Away };
        let entries = plan.subtasks().map(|subtask| (subtask, away())).collect();
        Self { entries, running: 0, finished: 0 }
    }

    /// Whether an attempt has not been heard of and is not over.
    pub(crate) fn is_new(&self, task: ExecutionAttemptId) -> bool {
        self.entries.get(&task.into()).is_some_and(|entry| match entry.state {
            State::Away | State::Running { .. } => task.attempt >= entry.next_attempt,
            State::Finished { .. } => false,
        })
    }

    /// Takes in that a task runs; false if that is no news, or of an attempt that is over.
    pub(crate) fn on_running(&mut self, task: ExecutionAttemptId) -> bool {
        if !self.is_new(task) {
            return false;
        }
        let Some(entry) = self.entries.get_mut(&task.into()) else { return false };
        if matches!(entry.state, State::Away) {
            self.running += 1;
        }
        entry.next_attempt = task.attempt.saturating_add(1);
        entry.state = State::Running { attempt: task.attempt };
        true
    }

    /// Takes in that the attempt that runs has finished; false if it is another one.
    pub(crate) fn on_finished(
        &mut self,
        task: ExecutionAttemptId,
        report: &Arc<FinalReport>,
    ) -> bool {
        if !self.runs(task) {
            return false;
        }
        if let Some(entry) = self.entries.get_mut(&task.into()) {
            let attempt = Some(task.attempt);
            entry.state = State::Finished { attempt, report: Arc::clone(report) };
            self.running -= 1;
            self.finished += 1;
        }
        true
    }

    /// Takes in that the attempt that runs has failed; false if it is another one.
    pub(crate) fn on_failed(&mut self, task: ExecutionAttemptId) -> bool {
        if !self.runs(task) {
            return false;
        }
        if let Some(entry) = self.entries.get_mut(&task.into()) {
            entry.state = State::Away;
            self.running -= 1;
        }
        true
    }

    /// Forgets all tasks, and ignores attempts before this one. Returns the reports of those that
    /// had finished.
    pub(crate) fn restart(&mut self, attempt: u32) -> Vec<Arc<FinalReport>> {
        let mut reports = Vec::new();
        for entry in self.entries.values_mut() {
            entry.next_attempt = entry.next_attempt.max(attempt);
            match std::mem::replace(&mut entry.state, State::Away) {
                State::Away | State::Running { .. } => {}
                State::Finished { report, .. } => reports.push(report),
            }
        }
        (self.running, self.finished) = (0, 0);
        reports
    }

    /// As [`Tasks::restart`], of these subtasks alone.
    pub(crate) fn restart_some(
        &mut self,
        subtasks: &[Subtask],
        attempt: u32,
    ) -> Vec<Arc<FinalReport>> {
        let mut reports = Vec::new();
        for subtask in subtasks {
            let Some(entry) = self.entries.get_mut(subtask) else { continue };
            entry.next_attempt = entry.next_attempt.max(attempt);
            match std::mem::replace(&mut entry.state, State::Away) {
                State::Away => {}
                State::Running { .. } => self.running -= 1,
                State::Finished { report, .. } => {
                    self.finished -= 1;
                    reports.push(report);
                }
            }
        }
        reports
    }

    /// Takes in that a subtask had finished in the checkpoint that is restored.
    pub(crate) fn restore_finished(&mut self, subtask: Subtask, report: Arc<FinalReport>) {
        if let Some(entry) = self.entries.get_mut(&subtask)
            && matches!(entry.state, State::Away)
        {
            entry.state = State::Finished { attempt: None, report };
            self.finished += 1;
        }
    }

    /// Whether this attempt runs.
    pub(crate) fn runs(&self, task: ExecutionAttemptId) -> bool {
        self.entries.get(&task.into()).is_some_and(|entry| match entry.state {
            State::Running { attempt } => attempt == task.attempt,
            State::Away | State::Finished { .. } => false,
        })
    }

    /// Whether this attempt is the one that has finished.
    pub(crate) fn has_finished(&self, task: ExecutionAttemptId) -> bool {
        self.entries.get(&task.into()).is_some_and(|entry| match entry.state {
            State::Finished { attempt, .. } => attempt == Some(task.attempt),
            State::Away | State::Running { .. } => false,
        })
    }

    /// Whether each task runs or has finished, and some run.
    pub(crate) fn are_ready(&self) -> bool {
        self.running > 0 && self.running + self.finished == self.entries.len()
    }

    /// Whether all have finished, and none runs.
    pub(crate) fn have_finished(&self) -> bool {
        self.finished == self.entries.len()
    }

    /// Whether some have finished.
    pub(crate) const fn some_finished(&self) -> bool {
        self.finished > 0
    }

    /// The number of tasks that run or have finished, and of all.
    pub(crate) fn count(&self) -> (usize, usize) {
        (self.running + self.finished, self.entries.len())
    }

    /// The tasks that run.
    pub(crate) fn running(&self) -> impl Iterator<Item = ExecutionAttemptId> {
        self.entries.iter().filter_map(|(subtask, entry)| match entry.state {
            State::Running { attempt } => Some(subtask.attempt(attempt)),
            State::Away | State::Finished { .. } => None,
        })
    }

    /// The subtasks that have finished, with their last reports.
    pub(crate) fn finished(&self) -> impl Iterator<Item = (Subtask, &Arc<FinalReport>)> {
        self.entries.iter().filter_map(|(subtask, entry)| match &entry.state {
            State::Finished { report, .. } => Some((*subtask, report)),
            State::Away | State::Running { .. } => None,
        })
    }
}
