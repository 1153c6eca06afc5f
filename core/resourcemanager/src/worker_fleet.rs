//! Decides which workers to request and to release; pure, given the time.
//!
//! Workers that were requested, are starting, or were left by an earlier attempt of the cluster and
//! have not registered yet all count as coming. One that does not register in time is released and
//! another is requested; after a failed start the next request waits a while. Workers without a
//! granted slot are released as soon as nobody waits for slots.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use millstream_rm_driver::{RequestId, WorkerRequest};
use millstream_types::TaskManagerId;

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Request a worker, and say so by [`WorkerFleet::on_requested`].
    Request(WorkerRequest),
    /// Take a request back.
    Withdraw(RequestId),
    /// End a worker.
    Release(TaskManagerId),
}

/// See the module.
#[derive(Debug)]
pub struct WorkerFleet {
    kind: WorkerRequest,
    registration_timeout: Duration,
    retry_interval: Duration,
    requested: BTreeSet<RequestId>,
    /// Not registered yet, and until when they must.
    starting: BTreeMap<TaskManagerId, Instant>,
    registered: BTreeSet<TaskManagerId>,
    paused_until: Option<Instant>,
}

impl WorkerFleet {
    /// No worker yet.
    #[must_use]
    pub fn new(
        kind: WorkerRequest,
        registration_timeout: Duration,
        retry_interval: Duration,
    ) -> Self {
        Self {
            kind,
            registration_timeout,
            retry_interval,
            requested: BTreeSet::new(),
            starting: BTreeMap::new(),
            registered: BTreeSet::new(),
            paused_until: None,
        }
    }

    /// The driver took a request.
    pub fn on_requested(&mut self, request: RequestId) {
        self.requested.insert(request);
    }

    /// A worker is starting, for a request or since an earlier attempt of the cluster.
    pub fn on_starting(&mut self, now: Instant, request: Option<RequestId>, id: TaskManagerId) {
        if let Some(request) = request {
            self.requested.remove(&request);
        }
        if !self.registered.contains(&id) {
            self.starting.insert(id, now + self.registration_timeout);
        }
    }

    /// A request failed.
    pub fn on_request_failed(&mut self, now: Instant, request: RequestId) {
        self.requested.remove(&request);
        self.paused_until = Some(now + self.retry_interval);
    }

    /// A worker registered; one that the driver never named is not ours to release.
    pub fn on_registered(&mut self, id: &TaskManagerId) {
        if self.starting.remove(id).is_some() {
            self.registered.insert(id.clone());
        }
    }

    /// A worker ended.
    pub fn on_terminated(&mut self, now: Instant, id: &TaskManagerId) {
        if self.starting.remove(id).is_some() {
            self.paused_until = Some(now + self.retry_interval);
        }
        self.registered.remove(id);
    }

    /// Brings what is coming in line with what is missing.
    pub fn reconcile(&mut self, now: Instant, missing: u32, idle: &[TaskManagerId]) -> Vec<Action> {
        let mut actions = Vec::new();
        for (id, _) in self.starting.extract_if(.., |_, until| *until <= now) {
            actions.push(Action::Release(id));
        }
        let coming = self.requested.len() + self.starting.len();
        let missing = missing as usize;
        if coming < missing && self.paused_until.is_none_or(|until| until <= now) {
            self.paused_until = None;
            actions.extend((coming..missing).map(|_| Action::Request(self.kind)));
        }
        for _ in missing..coming {
            // The newest first; requests before workers that exist already.
            if let Some(request) = self.requested.pop_last() {
                actions.push(Action::Withdraw(request));
            } else if let Some((id, _)) = self.starting.pop_last() {
                actions.push(Action::Release(id));
            }
        }
        if missing == 0 {
            for id in idle.iter().filter(|id| self.registered.contains(*id)) {
                actions.push(Action::Release(id.clone()));
            }
            self.registered.retain(|id| !idle.contains(id));
        }
        actions
    }
}

#[cfg(test)]
mod tests {
    use millstream_types::{ByteSize, ResourceProfile};

    use super::*;

    fn kind() -> WorkerRequest {
        WorkerRequest {
            slots: 2,
            slot_profile: ResourceProfile::UNKNOWN,
            memory_process: ByteSize::from_mib(512),
        }
    }

    fn fleet() -> (WorkerFleet, Instant) {
        let fleet = WorkerFleet::new(kind(), Duration::from_secs(300), Duration::from_secs(3));
        (fleet, Instant::now())
    }

    fn worker(name: &str) -> TaskManagerId {
        TaskManagerId::new(name)
    }

    #[test]
    fn exactly_the_missing_workers_are_requested_once() {
        let (mut fleet, now) = fleet();
        assert_eq!(fleet.reconcile(now, 2, &[]), vec![Action::Request(kind()); 2]);
        fleet.on_requested(RequestId::new(1));
        fleet.on_requested(RequestId::new(2));
        assert_eq!(fleet.reconcile(now, 2, &[]), vec![]);
        fleet.on_starting(now, Some(RequestId::new(1)), worker("a"));
        assert_eq!(fleet.reconcile(now, 2, &[]), vec![]);
    }

    #[test]
    fn surplus_requests_go_before_surplus_workers() {
        let (mut fleet, now) = fleet();
        fleet.on_requested(RequestId::new(1));
        fleet.on_starting(now, None, worker("a"));
        let actions = fleet.reconcile(now, 0, &[]);
        let expected = [Action::Withdraw(RequestId::new(1)), Action::Release(worker("a"))];
        assert_eq!(actions, expected);
        assert_eq!(fleet.reconcile(now, 0, &[]), vec![]);
    }

    #[test]
    fn a_worker_that_does_not_register_in_time_is_replaced() {
        let (mut fleet, now) = fleet();
        fleet.on_starting(now, None, worker("a"));
        let later = now + Duration::from_secs(300);
        let actions = fleet.reconcile(later, 1, &[]);
        assert_eq!(actions, [Action::Release(worker("a")), Action::Request(kind())]);
    }

    #[test]
    fn a_failed_start_pauses_requests() {
        let (mut fleet, now) = fleet();
        fleet.on_requested(RequestId::new(1));
        fleet.on_request_failed(now, RequestId::new(1));
        assert_eq!(fleet.reconcile(now, 1, &[]), vec![]);
        let later = now + Duration::from_secs(3);
        assert_eq!(fleet.reconcile(later, 1, &[]), [Action::Request(kind())]);
    }

    #[test]
    fn idle_workers_are_released_unless_they_are_strangers_or_needed() {
        let (mut fleet, now) = fleet();
        fleet.on_starting(now, None, worker("ours"));
        fleet.on_registered(&worker("ours"));
        fleet.on_registered(&worker("stranger"));
        let idle = [worker("ours"), worker("stranger")];
        assert_eq!(fleet.reconcile(now, 1, &idle), [Action::Request(kind())]);
        assert_eq!(fleet.reconcile(now, 0, &idle), [Action::Release(worker("ours"))]);
        assert_eq!(fleet.reconcile(now, 0, &idle), vec![]);
    }
}
