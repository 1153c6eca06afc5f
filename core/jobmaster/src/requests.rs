//! The checkpoints that users have asked a job for, and the outcome of each.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use millstream_gateway::{CheckpointRequest, RequestDetails, RequestState};
use millstream_types::{CheckpointId, JobStatus, TriggerId};

/// The number of requests that are remembered.
const REMEMBERED_MAX: usize = 128;
/// The number of requests that may wait for their end.
const OPEN_MAX: usize = 64;

/// The savepoint with which the job stops, once it is complete.
#[derive(Debug, Clone, Copy)]
struct Stopped {
    trigger: TriggerId,
    checkpoint: CheckpointId,
}

/// A job's requests.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    /// Oldest first.
    known: VecDeque<Arc<RequestDetails>>,
    /// The directories of savepoints that have not ended.
    directories: BTreeMap<TriggerId, String>,
    stopped: Option<Stopped>,
    last_savepoint: Option<CheckpointId>,
}

impl Requests {
    /// All that are remembered, oldest first.
    pub(crate) fn details(&self) -> Vec<Arc<RequestDetails>> {
        self.known.iter().cloned().collect()
    }

    /// Takes a request in; false if it is known already.
    pub(crate) fn begin(&mut self, trigger: TriggerId, request: CheckpointRequest) -> bool {
        if self.find(trigger).is_some() {
            return false;
        }
        let is_open = |known: &&Arc<RequestDetails>| known.state == RequestState::InProgress;
        let state = if self.known.iter().filter(is_open).count() < OPEN_MAX {
            RequestState::InProgress
        } else {
            RequestState::Failed(format!("{OPEN_MAX} requests wait already: try again later"))
        };
        let is_served = state == RequestState::InProgress;
        self.known.push_back(Arc::new(RequestDetails { trigger, request, state }));
        if self.known.len() > REMEMBERED_MAX
            && let Some(ended) = self.known.iter().position(|known| !is_open(&known))
        {
            self.known.remove(ended);
        }
        is_served
    }

    /// The request of this name.
    pub(crate) fn find(&self, trigger: TriggerId) -> Option<&RequestDetails> {
        self.known.iter().find(|known| known.trigger == trigger).map(AsRef::as_ref)
    }

    /// Notes the directory of a savepoint.
    pub(crate) fn place(&mut self, trigger: TriggerId, directory: String) {
        self.directories.insert(trigger, directory);
    }

    /// The directory of a savepoint that has not ended.
    pub(crate) fn directory(&self, trigger: TriggerId) -> Option<&str> {
        self.directories.get(&trigger).map(String::as_str)
    }

    fn end(&mut self, trigger: TriggerId, state: RequestState) {
        let mut known = self.known.iter_mut();
        if let Some(known) = known.find(|known| known.trigger == trigger)
            && known.state == RequestState::InProgress
        {
            Arc::make_mut(known).state = state;
        }
    }

    /// There will be no checkpoint; returns the directory of the savepoint.
    pub(crate) fn fail(&mut self, trigger: TriggerId, why: String) -> Option<String> {
        self.end(trigger, RequestState::Failed(why));
        self.directories.remove(&trigger)
    }

    /// The checkpoint is complete. A stop is when the job has ended.
    pub(crate) fn complete(&mut self, trigger: TriggerId, checkpoint: CheckpointId) {
        let stops = self.find(trigger).is_some_and(|known| known.request.ends_job());
        if self.directories.contains_key(&trigger) {
            self.last_savepoint = self.last_savepoint.max(Some(checkpoint));
        }
        if stops {
            self.stopped = Some(Stopped { trigger, checkpoint });
        } else {
            let location = self.directories.remove(&trigger);
            self.end(trigger, RequestState::Complete { checkpoint, location });
        }
    }

    /// The newest savepoint that is complete.
    pub(crate) const fn last_savepoint(&self) -> Option<CheckpointId> {
        self.last_savepoint
    }

    /// Whether the savepoint with which the job stops is complete.
    pub(crate) const fn has_stopped(&self) -> bool {
        self.stopped.is_some()
    }

    /// Whether the job has stopped with a savepoint behind which it was to be cancelled.
    pub(crate) fn is_cancelled(&self) -> bool {
        let request = self.stopped.and_then(|stopped| self.find(stopped.trigger));
        request.is_some_and(|known| {
            matches!(known.request, CheckpointRequest::Savepoint { cancel: true, .. })
        })
    }

    /// The job has ended.
    pub(crate) fn on_job_end(&mut self, status: JobStatus) {
        if let Some(Stopped { trigger, checkpoint }) = self.stopped.take() {
            let location = self.directories.remove(&trigger);
            let wanted = match self.find(trigger).map(|known| &known.request) {
                Some(CheckpointRequest::Savepoint { .. }) => JobStatus::Canceled,
                _ => JobStatus::Finished,
            };
            self.end(trigger, match location {
                location if status == wanted => RequestState::Complete { checkpoint, location },
                location => RequestState::Failed(format!(
                    "savepoint {} is complete, but the job did not stop with it: it is {status}",
                    location.unwrap_or_default()
                )),
            });
        }
        let open = self.known.iter().filter(|known| known.state == RequestState::InProgress);
        let open: Vec<TriggerId> = open.map(|known| known.trigger).collect();
        for trigger in open {
            self.fail(trigger, format!("the job has ended before: it is {status}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHECKPOINT: CheckpointId = CheckpointId::new(7);

    fn trigger(number: u128) -> TriggerId {
        TriggerId::from_u128(number)
    }

    fn state(requests: &Requests, number: u128) -> RequestState {
        requests.find(trigger(number)).unwrap().state.clone()
    }

    #[test]
    fn a_repeated_request_changes_nothing() {
        let mut requests = Requests::default();
        assert!(requests.begin(trigger(1), CheckpointRequest::Checkpoint));
        requests.complete(trigger(1), CHECKPOINT);
        assert!(!requests.begin(trigger(1), CheckpointRequest::Checkpoint));
        let complete = RequestState::Complete { checkpoint: CHECKPOINT, location: None };
        assert_eq!(state(&requests, 1), complete);
    }

    #[test]
    fn few_requests_wait_and_not_many_are_remembered() {
        let mut requests = Requests::default();
        let served = (0..1_000)
            .filter(|number| requests.begin(trigger(*number), CheckpointRequest::Checkpoint));
        assert_eq!(served.count(), OPEN_MAX);
        assert_eq!(requests.details().len(), REMEMBERED_MAX);
        assert_eq!(state(&requests, 0), RequestState::InProgress);
        let RequestState::Failed(why) = state(&requests, 999) else { panic!() };
        assert_eq!(why, "64 requests wait already: try again later");
    }

    #[test]
    fn a_stop_is_complete_when_the_job_has_ended_with_it() {
        for (cancel, ended, good) in [
            (false, JobStatus::Finished, true),
            (false, JobStatus::Failed, false),
            (true, JobStatus::Canceled, true),
            (true, JobStatus::Failed, false),
        ] {
            let mut requests = Requests::default();
            let request = match cancel {
                false => CheckpointRequest::Stop { target: None, drain: false },
                true => CheckpointRequest::Savepoint { target: None, cancel },
            };
            requests.begin(trigger(1), request);
            requests.place(trigger(1), "/s".to_owned());
            requests.complete(trigger(1), CHECKPOINT);
            assert_eq!(state(&requests, 1), RequestState::InProgress);
            assert_eq!(requests.is_cancelled(), cancel);
            requests.on_job_end(ended);
            let complete =
                RequestState::Complete { checkpoint: CHECKPOINT, location: Some("/s".to_owned()) };
            assert_eq!(state(&requests, 1) == complete, good, "{cancel} {ended}");
        }
    }

    #[test]
    fn requests_do_not_outlive_the_job() {
        let mut requests = Requests::default();
        requests.begin(trigger(1), CheckpointRequest::Checkpoint);
        requests.on_job_end(JobStatus::Canceled);
        let RequestState::Failed(why) = state(&requests, 1) else { panic!() };
        assert_eq!(why, "the job has ended before: it is CANCELED");
    }
}
