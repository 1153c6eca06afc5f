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
