//! Checkpoints and savepoints that users ask for, and the one that a job starts from.

use millstream_checkpoint::messages::{Answer, Request};
use millstream_gateway::{CauseKind, CheckpointRequest, FailureCause};
use millstream_types::TriggerId;

use super::{Action, JobMaster, Unseen};
use crate::checkpoints::{self, Checkpoints, Loaded, StorageRequest};

/// The number of digits of the job's id, and of the request's, in the name of a savepoint.
const JOB_DIGITS: usize = 6;
const TRIGGER_DIGITS: usize = 12;

impl JobMaster {
    /// Starts from a checkpoint or savepoint, if the job can.
    pub(super) fn start_from(&mut self, loaded: Loaded) {
        let directory = loaded.directory.clone();
        let started = match (&mut self.checkpoints, &self.config.checkpointing.recovery) {
            (Some(checkpoints), Some(how)) => checkpoints.start_from(loaded, how),
            _ => Err("a batch job takes no checkpoints and starts from none".to_owned()),
        };
        if let Err(why) = started {
            let message = format!("the job cannot start from {directory}: {why}");
            let cause = FailureCause::new(CauseKind::Checkpoint, message);
            self.refused.get_or_insert(cause);
        }
        self.start();
    }

    pub(super) fn on_request(&mut self, trigger: TriggerId, request: CheckpointRequest) {
        if !self.requests.begin(trigger, request.clone()) {
            return;
        }
        self.unseen = Unseen::State;
        if let Err(why) = self.serve(trigger, &request) {
            self.requests.fail(trigger, why);
        }
    }

    fn serve(&mut self, trigger: TriggerId, request: &CheckpointRequest) -> Result<(), String> {
        if self.status.is_globally_terminal() {
            return Err(format!("the job has ended: it is {}", self.status));
        }
        if self.checkpoints.is_none() {
            return Err("the job takes no checkpoints: set execution.checkpointing.interval, and \
                        run it in streaming mode"
                .to_owned());
        }
        let target = match request {
            CheckpointRequest::Checkpoint => {
                let event = checkpoints::Event::Request(trigger, Request::Checkpoint);
                self.tell_checkpoints(event);
                return Ok(());
            }
            CheckpointRequest::Savepoint { target, .. } => target,
            CheckpointRequest::Stop { target, .. } => target,
        };
        let directory = self.savepoint_directory(trigger, target.as_deref())?;
        self.requests.place(trigger, directory.clone());
        self.actions.push(Action::Storage(StorageRequest::Prepare(trigger, directory)));
        Ok(())
    }

    /// The directory of its own that a savepoint gets, named as in Flink.
    fn savepoint_directory(
        &self,
        trigger: TriggerId,
        target: Option<&str>,
    ) -> Result<String, String> {
        let config = &self.config.checkpointing;
        let target = target.filter(|target| !target.is_empty());
        let target = target.or(config.savepoint_directory.as_deref()).ok_or(
            "there is no directory for the savepoint: name one, or set \
             execution.checkpointing.savepoint-dir",
        )?;
        let target = target.trim_end_matches('/');
        let (job, trigger) = (self.submission.job.to_string(), trigger.to_string());
        if let Some(own) = &config.directory {
            let own = format!("{}/{job}", own.trim_end_matches('/'));
            if target
                .strip_prefix(&own)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            {
                return Err(format!(
                    "{target} is in the directory of the job's own checkpoints, which goes when \
                     the job ends: name another one"
                ));
            }
        }
        let job = job.get(..JOB_DIGITS).unwrap_or_default();
        let trigger = trigger.get(..TRIGGER_DIGITS).unwrap_or_default();
        Ok(format!("{target}/savepoint-{job}-{trigger}"))
    }

    /// The directory of a savepoint is there, or cannot be used.
    pub(super) fn on_prepared(&mut self, trigger: TriggerId, prepared: Result<(), String>) {
        self.unseen = Unseen::State;
        let request = self.requests.find(trigger).map(|known| known.request.clone());
        let directory = self.requests.directory(trigger).map(str::to_owned);
        let (Some(request), Some(directory)) = (request, directory) else { return };
        if let Err(why) = prepared {
            self.requests.fail(trigger, why);
            return;
        }
        let request = match request {
            CheckpointRequest::Checkpoint => Request::Checkpoint,
            CheckpointRequest::Savepoint { cancel: false, .. } => Request::Savepoint { directory },
            // Nothing is published behind the savepoint, so the job is stopped before it is
            // cancelled.
            CheckpointRequest::Savepoint { cancel: true, .. } => {
                Request::Stop { directory, drain: false }
            }
            CheckpointRequest::Stop { drain, .. } => Request::Stop { directory, drain },
        };
        self.tell_checkpoints(checkpoints::Event::Request(trigger, request));
    }

    /// Whether a savepoint may name results that are not published: they are kept for the job that
    /// starts from it.
    pub(super) fn has_unpublished_savepoint(&self) -> bool {
        let published = self.checkpoints.as_ref().and_then(Checkpoints::latest);
        self.requests.last_savepoint().is_some_and(|savepoint| {
            self.requests.has_stopped() || published.is_none_or(|published| published < savepoint)
        })
    }

    /// A requested checkpoint has ended.
    pub(super) fn on_answer(&mut self, trigger: TriggerId, answer: Answer) {
        self.unseen = Unseen::State;
        match answer {
            Answer::Complete(checkpoint) => self.requests.complete(trigger, checkpoint),
            Answer::Failed(why) => {
                if let Some(directory) = self.requests.fail(trigger, why) {
                    self.actions.push(Action::Storage(StorageRequest::Remove(directory)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use millstream_config::ClaimMode;
    use millstream_gateway::{JobMasterEvent, RequestState};
    use millstream_graph::{JobGraph, RuntimeMode};

    use super::*;
    use crate::config::{JobMasterConfig, Recovery};
    use crate::master::fixture::{Job, pipeline};

    const TRIGGER: TriggerId = TriggerId::from_u128(0x1234 << 112);

    /// Asks a job for a savepoint: the actions, and the state of the request.
    fn ask(
        graph: JobGraph,
        config: &JobMasterConfig,
        target: Option<&str>,
    ) -> (Vec<Action>, RequestState) {
        let mut job = Job::with_config(graph, config);
        job.start();
        let target = target.map(str::to_owned);
        let request = CheckpointRequest::Savepoint { target, cancel: false };
        let actions = job.news(JobMasterEvent::Request { trigger: TRIGGER, request });
        let state = job.details().requests[0].state.clone();
        (actions, state)
    }

    fn with_interval() -> JobMasterConfig {
        let mut config = JobMasterConfig::default();
        config.checkpointing.settings.interval = Some(Duration::from_secs(1));
        config
    }

    fn why(state: RequestState) -> String {
        let RequestState::Failed(why) = state else { panic!("{state:?}") };
        why
    }

    #[test]
    fn a_job_without_an_interval_and_a_batch_job_refuse_savepoints() {
        let mut without = JobMasterConfig::default();
        let (_, state) = ask(pipeline(1), &without, Some("/s"));
        let said = why(state);
        assert!(said.contains("set execution.checkpointing.interval"), "{said}");
        let batch = JobGraph { runtime_mode: RuntimeMode::Batch, ..pipeline(1) };
        let (_, state) = ask(batch, &with_interval(), Some("/s"));
        assert_eq!(why(state), said);
        let (path, claim) = ("/from".to_owned(), ClaimMode::NoClaim);
        let recovery = Recovery { path, ignore_unclaimed: false, claim };
        without.checkpointing.recovery = Some(recovery);
        let (_, state) = ask(pipeline(1), &without, Some("/s"));
        assert_eq!(state, RequestState::InProgress, "it has checkpoints: the one to start from");
    }

    #[test]
    fn a_savepoint_gets_a_directory_of_its_own_in_the_one_that_is_named_or_configured() {
        let mut config = with_interval();
        let (_, state) = ask(pipeline(1), &config, None);
        assert!(why(state).contains("set execution.checkpointing.savepoint-dir"));
        config.checkpointing.savepoint_directory = Some("hdfs:///configured/".to_owned());
        for (target, expected) in [
            (None, "hdfs:///configured/savepoint-000000-123400000000"),
            (Some("/named"), "/named/savepoint-000000-123400000000"),
        ] {
            let (actions, state) = ask(pipeline(1), &config, target);
            let is_prepared = |action: &Action| {
                let prepare = StorageRequest::Prepare(TRIGGER, expected.to_owned());
                matches!(action, Action::Storage(request) if *request == prepare)
            };
            assert!(actions.iter().any(is_prepared), "{actions:?}");
            assert_eq!(state, RequestState::InProgress);
        }
    }

    #[test]
    fn no_savepoint_is_in_the_directory_of_the_jobs_own_checkpoints() {
        let mut config = with_interval();
        config.checkpointing.directory = Some("/checkpoints".to_owned());
        let own = "/checkpoints/00000000000000000000000000000007/mine";
        let (_, state) = ask(pipeline(1), &config, Some(own));
        assert!(why(state).contains("name another one"));
        let (_, state) = ask(pipeline(1), &config, Some("/checkpoints/mine"));
        assert_eq!(state, RequestState::InProgress);
    }
}
