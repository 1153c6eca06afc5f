//! Coordinator hosts that are replaced while the tasks run on, and processes that answer badly.

use millstream_protocol::host::ReportHandedOut;

use super::*;

/// Nothing happens to a task in the step in which others are asked to report.
pub(super) fn check_alone(actions: &[Action]) {
    let is_asked = |it: &to_host::Message| matches!(it, to_host::Message::ReportHandedOut(_));
    let is_task = |it: &to_host::Message| {
        matches!(it, to_host::Message::Cancel(_) | to_host::Message::Deploy(_))
    };
    if actions.iter().any(|action| is_told(action, is_asked)) {
        let stops = actions.iter().any(|action| matches!(action, Action::StopHost(..)));
        let is_touched = stops || actions.iter().any(|action| is_told(action, is_task));
        assert!(!is_touched, "tasks do not run on: {actions:?}");
    }
}

impl World {
    /// A task host says what its tasks were given; then its readers ask again.
    pub(super) fn report(&mut self, host: HostId, asked: &ReportHandedOut) {
        let Some(process) = self.processes.get_mut(&host) else { return };
        let parts = process.heard.report(&mut self.random, asked);
        let running = process.tasks.iter().filter(|(_, state)| *state == Execution::Running);
        let again: Vec<_> = running.filter_map(|(task, _)| events::registration(task)).collect();
        parts.into_iter().chain(again).for_each(|message| self.says(host, message));
    }

    /// The answer of a process that cannot take part.
    pub(super) fn badly(&self, answer: from_host::Message) -> from_host::Message {
        match answer {
            from_host::Message::CheckpointAck(ack) => {
                from_host::Message::CheckpointDeclined(host::CheckpointDeclined {
                    task: ack.task,
                    checkpoint: ack.checkpoint,
                    reason: "the disk is full".to_owned(),
                })
            }
            from_host::Message::CoordinatorSnapshot(snapshot) => {
                let failure = Some(failure("error", "no luck"));
                from_host::Message::CoordinatorSnapshot(host::CoordinatorSnapshot {
                    failure,
                    ..snapshot
                })
            }
            // A committer that fails takes its host with it.
            from_host::Message::Committed(_) | from_host::Message::SubtasksRestarted(_) => {
                from_host::Message::Failure(failure("error", "the disk is full"))
            }
            other => other,
        }
    }
}
