//! The requests of users for checkpoints and savepoints.

use super::*;

impl World {
    /// A user asks for a checkpoint, or asks for one again.
    pub(super) fn request(&mut self) {
        self.seen.one("asked");
        let is_new = self.requests == 0 || !self.random.one_in(4);
        self.requests += u128::from(is_new);
        let cancel = self.random.one_in(4);
        let request = match self.random.below(4) {
            0 => CheckpointRequest::Checkpoint,
            1 | 2 => CheckpointRequest::Savepoint { target: None, cancel },
            _ => CheckpointRequest::Stop { target: None, drain: false },
        };
        let trigger = TriggerId::from_u128(self.requests << 80);
        self.post("user", JobMasterEvent::Request { trigger, request });
    }

    /// Every request has ended, and a stop as the job has.
    pub(super) fn check_requests(&self) {
        for known in self.job.details().requests {
            let RequestState::Complete { location, .. } = &known.state else {
                assert!(known.state != RequestState::InProgress, "{known:?} does not end");
                continue;
            };
            let (is_placed, status) = match known.request {
                CheckpointRequest::Checkpoint => (false, None),
                CheckpointRequest::Savepoint { cancel: false, .. } => (true, None),
                CheckpointRequest::Savepoint { .. } => (true, Some(JobStatus::Canceled)),
                CheckpointRequest::Stop { .. } => (true, Some(JobStatus::Finished)),
            };
            assert_eq!(location.is_some(), is_placed, "{known:?}");
            assert!(status.is_none_or(|status| status == self.status), "{known:?}");
        }
    }
}
