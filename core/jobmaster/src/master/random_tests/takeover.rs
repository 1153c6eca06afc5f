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

pub(super) fn config_of(
    scheduling: Option<SchedulingStrategy>,
    takes_checkpoints: bool,
) -> JobMasterConfig {
    let mut config = JobMasterConfig { scheduling, ..JobMasterConfig::default() };
    if takes_checkpoints {
        config.checkpointing.settings.interval = Some(Duration::from_millis(50));
        config.checkpointing.settings.tolerable_failures = 3;
        config.checkpointing.directory = Some("/checkpoints".to_owned());
        config.checkpointing.savepoint_directory = Some("/savepoints".to_owned());
    }
    config
}

impl World {
    /// Checks a message to a host, as far as it is for none other.
    pub(super) fn check_told(&mut self, message: &to_host::Message) {
        if let to_host::Message::Deploy(deploy) = message {
            assert!(deploy.tasks.is_empty() || !self.has_stopped, "it runs behind its stop");
            self.check_restore(deploy);
            self.check_deployment(deploy);
        }
        if let (to_host::Message::TriggerCheckpoint(trigger), true) = (message, self.has_enumerator)
        {
            let host = self.snapshots.host_of(trigger.checkpoint);
            assert_eq!(host, Some(self.job.host("coordinators")), "of two instances");
        }
        if let to_host::Message::RestartSubtasks(restart) = message {
            assert!(self.restarts_told.insert(restart.attempt), "told twice of {restart:?}");
        }
    }

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
