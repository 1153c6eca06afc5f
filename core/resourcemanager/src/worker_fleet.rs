//! Decides which workers to request and to release; pure, given the time.
//!
//! Workers that were requested, are starting, or were left by an earlier attempt of the cluster and
//! have not registered yet all count as coming. Their number is brought in line with the missing
//! one, so that a worker which both times out and ends is replaced once. One that does not register
//! in time is released; too many failed starts within a minute pause requests.
//!
//! A registered worker without a granted slot is released when it has been idle for a while and no
//! job waits for slots, but not below the least number of workers. One whose connection broke
//! counts as gone at once; it is released after a grace in which it may come back, or its end be
//! reported with the reason. One that has ended or was released may not register again: it is a
//! process that the external manager could not end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use millstream_rm_driver::{RequestId, WorkerRequest};
use millstream_types::TaskManagerId;

/// The number of ended workers that are remembered: a node that comes back may have so many.
const ENDED_MAX: usize = 1000;

/// The failure rate is per this time.
const RATE_INTERVAL: Duration = Duration::from_secs(60);
/// The time that a worker whose connection broke may take to come back.
const LOST_GRACE: Duration = Duration::from_secs(10);

/// An instruction for the actor.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Request a worker, and say so by [`WorkerFleet::on_requested`].
    Request(WorkerRequest),
    /// Take a request back.
    Withdraw(RequestId),
    /// End a worker.
    Release(TaskManagerId),
}

/// The rules of a fleet.
#[derive(Debug, Clone)]
pub struct FleetConfig {
    /// The time that a started worker may take to register
    /// (`resourcemanager.taskmanager-registration.timeout`).
    pub registration_timeout: Duration,
    /// The number of starts that may fail in a minute before requests pause
    /// (`resourcemanager.start-worker.max-failure-rate`).
    pub start_failures_max: f64,
    /// The length of that pause (`resourcemanager.start-worker.retry-interval`).
    pub start_retry_interval: Duration,
    /// The time that a worker may be idle (`resourcemanager.taskmanager-timeout`).
    pub idle_timeout: Duration,
    /// The least number of slots (`slotmanager.number-of-slots.min`).
    pub slots_min: u32,
    /// The most slots (`slotmanager.number-of-slots.max`).
    pub slots_max: u32,
    /// The number of workers beyond those needed, for quick recovery
    /// (`slotmanager.redundant-taskmanager-num`).
    pub redundant: u32,
}

impl Default for FleetConfig {
    /// Flink's defaults.
    fn default() -> Self {
        Self {
            registration_timeout: Duration::from_secs(300),
            start_failures_max: 10.0,
            start_retry_interval: Duration::from_secs(3),
            idle_timeout: Duration::from_secs(30),
            slots_min: 0,
            slots_max: i32::MAX.cast_unsigned(),
            redundant: 0,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct WorkerFleet {
    kind: WorkerRequest,
    config: FleetConfig,
    requested: BTreeSet<RequestId>,
    /// Not registered yet, and until when they must.
    starting: BTreeMap<TaskManagerId, Instant>,
    /// And since when each has been idle, if it is.
    registered: BTreeMap<TaskManagerId, Option<Instant>>,
    /// Registered ones that will be taken away.
    draining: BTreeSet<TaskManagerId>,
    /// Their connection broke, and until when they may come back.
    lost: BTreeMap<TaskManagerId, Instant>,
    /// Ended or released ones, the newest of them: they may not come back.
    ended: VecDeque<TaskManagerId>,
    /// The times of failed starts within the last minute.
    failures: VecDeque<Instant>,
    paused_until: Option<Instant>,
    /// The number of starts that failed since the last registration, and the last one's reason.
    failed_in_a_row: Option<(u32, String)>,
}

impl WorkerFleet {
    /// No worker yet.
    #[must_use]
    pub fn new(kind: WorkerRequest, config: FleetConfig) -> Self {
        Self {
            kind,
            config,
            requested: BTreeSet::new(),
            starting: BTreeMap::new(),
            registered: BTreeMap::new(),
            draining: BTreeSet::new(),
            lost: BTreeMap::new(),
            ended: VecDeque::new(),
            failures: VecDeque::new(),
            paused_until: None,
            failed_in_a_row: None,
        }
    }

    /// The reason why no worker comes, if the last start failed.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let (count, reason) = self.failed_in_a_row.as_ref()?;
        Some(match count {
            1 => format!("the last TaskManager could not be started: {reason}"),
            count => format!("{count} starts of TaskManagers in a row failed, the last: {reason}"),
        })
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
        if !self.registered.contains_key(&id) {
            self.starting.insert(id, now + self.config.registration_timeout);
        }
    }

    /// A request failed.
    pub fn on_request_failed(&mut self, now: Instant, request: RequestId, reason: &str) {
        self.requested.remove(&request);
        self.on_failure(now, reason);
    }

    /// A worker registered; one that the driver never named is not ours to release.
    pub fn on_registered(&mut self, id: &TaskManagerId) {
        let ours = self.starting.remove(id).is_some() | self.lost.remove(id).is_some();
        if ours {
            self.failed_in_a_row = None;
            self.registered.insert(id.clone(), None);
        }
    }

    /// A worker will be taken away.
    pub fn on_draining(&mut self, id: &TaskManagerId) {
        self.draining.insert(id.clone());
    }

    /// The connection to a worker broke.
    pub fn on_lost(&mut self, now: Instant, id: &TaskManagerId) {
        if self.registered.remove(id).is_some() {
            self.lost.insert(id.clone(), now + LOST_GRACE);
        }
    }

    /// A worker ended.
    pub fn on_terminated(&mut self, now: Instant, id: &TaskManagerId, reason: &str) {
        if self.starting.remove(id).is_some() {
            self.on_failure(now, reason);
        }
        self.registered.remove(id);
        self.lost.remove(id);
        self.draining.remove(id);
        self.remember_end(id);
    }

    /// True if a worker has ended, or was released: then a process that still says to be it is one
    /// that the external manager could not end.
    #[must_use]
    pub fn has_ended(&self, id: &TaskManagerId) -> bool {
        self.ended.contains(id)
    }

    fn remember_end(&mut self, id: &TaskManagerId) {
        if !self.has_ended(id) {
            self.ended.truncate(ENDED_MAX - 1);
            self.ended.push_front(id.clone());
        }
    }

    fn on_failure(&mut self, now: Instant, reason: &str) {
        let before = self.failed_in_a_row.as_ref().map_or(0, |(count, _)| *count);
        self.failed_in_a_row = Some((before.saturating_add(1), reason.to_owned()));
        while self.failures.front().is_some_and(|first| now - *first >= RATE_INTERVAL) {
            self.failures.pop_front();
        }
        self.failures.push_back(now);
        #[expect(clippy::cast_precision_loss, reason = "they are few")]
        let failures = self.failures.len() as f64;
        if failures >= self.config.start_failures_max {
            self.paused_until = Some(now + self.config.start_retry_interval);
            // More than the rate say nothing new.
            self.failures.pop_front();
        }
    }

    /// Brings the workers that are coming in line with the missing slots. `idle` are all workers
    /// without a granted slot.
    pub fn reconcile(
        &mut self,
        now: Instant,
        missing: u32,
        idle: &BTreeSet<TaskManagerId>,
    ) -> Vec<Action> {
        let mut actions = Vec::new();
        for (id, _) in self.starting.extract_if(.., |_, until| *until <= now).collect::<Vec<_>>() {
            let timeout = self.config.registration_timeout;
            self.on_failure(now, &format!("{id} did not register within {timeout:?}"));
            actions.push(Action::Release(id));
        }
        for (id, _) in self.lost.extract_if(.., |_, until| *until <= now) {
            actions.push(Action::Release(id));
        }
        self.note_idle(now, idle);
        self.release_draining(&mut actions);
        let coming = self.requested.len() + self.starting.len();
        let wanted = self.wanted(missing as usize);
        if coming < wanted && self.paused_until.is_none_or(|until| until <= now) {
            self.paused_until = None;
            actions.extend((coming..wanted).map(|_| Action::Request(self.kind)));
        }
        for _ in wanted..coming {
            // The newest first; requests before workers that exist already.
            if let Some(request) = self.requested.pop_last() {
                actions.push(Action::Withdraw(request));
            } else if let Some((id, _)) = self.starting.pop_last() {
                actions.push(Action::Release(id));
            }
        }
        if missing == 0 {
            self.release_idle(now, &mut actions);
        }
        for action in &actions {
            if let Action::Release(id) = action {
                self.remember_end(id);
            }
        }
        actions
    }

    /// The number of workers that should be coming.
    fn wanted(&self, missing: usize) -> usize {
        let slots = self.kind.slots.max(1);
        let least = self.config.slots_min.div_ceil(slots) as usize;
        let most = (self.config.slots_max / slots) as usize;
        let idle = self.registered.values().filter(|since| since.is_some()).count();
        let redundant = (self.config.redundant as usize).saturating_sub(idle);
        let there = self.registered.len();
        let wanted = (missing + redundant).max(least.saturating_sub(there));
        wanted.min(most.saturating_sub(there))
    }

    fn note_idle(&mut self, now: Instant, idle: &BTreeSet<TaskManagerId>) {
        for (id, since) in &mut self.registered {
            *since = idle.contains(id).then(|| since.unwrap_or(now));
        }
    }

    /// A worker that will be taken away is of no use once it is idle.
    fn release_draining(&mut self, actions: &mut Vec<Action>) {
        let draining = &self.draining;
        let useless = |id: &TaskManagerId, since: &mut Option<Instant>| {
            since.is_some() && draining.contains(id)
        };
        for (id, _) in self.registered.extract_if(.., useless).collect::<Vec<_>>() {
            self.draining.remove(&id);
            actions.push(Action::Release(id));
        }
    }

    fn release_idle(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let slots = self.kind.slots.max(1);
        let least = self.config.slots_min.div_ceil(slots) as usize;
        let idle = self.registered.values().filter(|since| since.is_some()).count();
        let spare = idle.saturating_sub(self.config.redundant as usize);
        let mut surplus = spare.min(self.registered.len().saturating_sub(least));
        let timeout = self.config.idle_timeout;
        let idle_too_long = |_: &TaskManagerId, since: &mut Option<Instant>| {
            let too_long = since.is_some_and(|since| now - since >= timeout) && surplus > 0;
            surplus -= usize::from(too_long);
            too_long
        };
        for (id, _) in self.registered.extract_if(.., idle_too_long) {
            actions.push(Action::Release(id));
        }
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

    fn config() -> FleetConfig {
        FleetConfig {
            registration_timeout: Duration::from_secs(300),
            start_failures_max: 2.0,
            start_retry_interval: Duration::from_secs(3),
            idle_timeout: Duration::from_secs(30),
            slots_min: 0,
            slots_max: 20,
            redundant: 0,
        }
    }

    fn fleet() -> (WorkerFleet, Instant) {
        (WorkerFleet::new(kind(), config()), Instant::now())
    }

    const fn none() -> BTreeSet<TaskManagerId> {
        BTreeSet::new()
    }

    fn worker(name: &str) -> TaskManagerId {
        TaskManagerId::new(name)
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn with_workers(config: FleetConfig, names: &[&str]) -> (WorkerFleet, Instant) {
        let (mut fleet, now) = (WorkerFleet::new(kind(), config), Instant::now());
        for name in names {
            fleet.on_starting(now, None, worker(name));
            fleet.on_registered(&worker(name));
        }
        (fleet, now)
    }

    #[test]
    fn who_has_ended_or_was_released_may_not_come_back() {
        let (mut fleet, now) = with_workers(config(), &["a", "b"]);
        fleet.on_terminated(now, &worker("a"), "ended");
        assert!(fleet.has_ended(&worker("a")) && !fleet.has_ended(&worker("b")));
        let later = now + seconds(30);
        assert_eq!(fleet.reconcile(now, 0, &BTreeSet::from([worker("b")])), []);
        let released = [Action::Release(worker("b"))];
        assert_eq!(fleet.reconcile(later, 0, &BTreeSet::from([worker("b")])), released);
        assert!(fleet.has_ended(&worker("b")));
        for number in 0..ENDED_MAX {
            fleet.on_terminated(later, &worker(&number.to_string()), "ended");
        }
        assert!(!fleet.has_ended(&worker("b")), "only so many are remembered");
    }

    #[test]
    fn exactly_the_missing_workers_are_requested_once() {
        let (mut fleet, now) = fleet();
        assert_eq!(fleet.reconcile(now, 2, &none()), vec![Action::Request(kind()); 2]);
        fleet.on_requested(RequestId::new(1));
        fleet.on_requested(RequestId::new(2));
        assert_eq!(fleet.reconcile(now, 2, &none()), vec![]);
        fleet.on_starting(now, Some(RequestId::new(1)), worker("a"));
        assert_eq!(fleet.reconcile(now, 2, &none()), vec![]);
    }

    #[test]
    fn surplus_requests_go_before_surplus_workers() {
        let (mut fleet, now) = fleet();
        fleet.on_requested(RequestId::new(1));
        fleet.on_starting(now, None, worker("a"));
        let actions = fleet.reconcile(now, 0, &none());
        let expected = [Action::Withdraw(RequestId::new(1)), Action::Release(worker("a"))];
        assert_eq!(actions, expected);
        assert_eq!(fleet.reconcile(now, 0, &none()), vec![]);
    }

    #[test]
    fn a_worker_that_times_out_and_then_ends_is_replaced_once() {
        let (mut fleet, now) = fleet();
        fleet.on_starting(now, None, worker("a"));
        let later = now + seconds(300);
        let actions = fleet.reconcile(later, 1, &none());
        assert_eq!(actions, [Action::Release(worker("a")), Action::Request(kind())]);
        fleet.on_requested(RequestId::new(1));
        fleet.on_terminated(later, &worker("a"), "ended");
        assert_eq!(fleet.reconcile(later, 1, &none()), vec![]);
    }

    #[test]
    fn failed_starts_are_told_until_a_worker_registers() {
        let (mut fleet, now) = fleet();
        assert_eq!(fleet.trouble(), None);
        fleet.on_starting(now, None, worker("a"));
        fleet.on_terminated(now, &worker("a"), "exit code 1");
        let trouble = fleet.trouble().unwrap();
        assert_eq!(trouble, "the last TaskManager could not be started: exit code 1");
        fleet.on_starting(now, None, worker("b"));
        let _ = fleet.reconcile(now + seconds(300), 1, &none());
        let trouble = fleet.trouble().unwrap();
        let expected = "2 starts of TaskManagers in a row failed, the last: b did not register";
        assert!(trouble.starts_with(expected), "{trouble}");
        fleet.on_starting(now, None, worker("c"));
        fleet.on_registered(&worker("c"));
        assert_eq!(fleet.trouble(), None);
        fleet.on_terminated(now, &worker("c"), "it ended long after its start");
        assert_eq!(fleet.trouble(), None);
    }

    #[test]
    fn requests_pause_only_when_too_many_starts_failed_within_a_minute() {
        let (mut fleet, now) = fleet();
        for (second, expected) in [(0, 1), (59, 0), (62, 0), (200, 1), (259, 0)] {
            let at = now + seconds(second);
            fleet.on_requested(RequestId::new(1));
            fleet.on_request_failed(at, RequestId::new(1), "refused");
            assert_eq!(fleet.reconcile(at, 1, &none()).len(), expected, "at {second} s");
        }
        assert_eq!(fleet.reconcile(now + seconds(262), 1, &none()), [Action::Request(kind())]);
    }

    #[test]
    fn idle_workers_go_after_a_while_unless_they_are_strangers_or_needed() {
        let (mut fleet, now) = with_workers(config(), &["ours"]);
        fleet.on_registered(&worker("stranger"));
        let idle = BTreeSet::from([worker("ours"), worker("stranger")]);
        assert_eq!(fleet.reconcile(now, 0, &idle), vec![]);
        assert_eq!(fleet.reconcile(now + seconds(20), 0, &none()), vec![], "used for a moment");
        assert_eq!(fleet.reconcile(now + seconds(31), 0, &idle), vec![]);
        let later = now + seconds(61);
        assert_eq!(fleet.reconcile(later, 1, &idle), [Action::Request(kind())]);
        assert_eq!(fleet.reconcile(later, 0, &idle), [Action::Release(worker("ours"))]);
        assert_eq!(fleet.reconcile(later, 0, &idle), vec![]);
    }

    #[test]
    fn least_and_most_slots_are_kept() {
        let few = FleetConfig { slots_min: 3, slots_max: 7, ..config() };
        let (mut fleet, now) = with_workers(few.clone(), &[]);
        assert_eq!(fleet.reconcile(now, 0, &none()).len(), 2, "3 slots are 2 workers");
        let (mut fleet, now) = with_workers(few, &["a", "b", "c"]);
        assert_eq!(fleet.reconcile(now, 5, &none()), [], "a fourth would make 8 slots");
        let idle = BTreeSet::from(["a", "b", "c"].map(worker));
        fleet.reconcile(now, 0, &idle);
        assert_eq!(fleet.reconcile(now + seconds(30), 0, &idle), [Action::Release(worker("a"))]);
        assert_eq!(fleet.reconcile(now + seconds(90), 0, &idle), []);
    }

    #[test]
    fn redundant_workers_stand_by() {
        let (mut fleet, now) =
            with_workers(FleetConfig { redundant: 1, ..config() }, &["busy", "spare"]);
        let idle = BTreeSet::from([worker("spare")]);
        assert_eq!(fleet.reconcile(now, 0, &idle), []);
        assert_eq!(fleet.reconcile(now + seconds(60), 0, &idle), []);
        assert_eq!(fleet.reconcile(now + seconds(61), 0, &none()), [Action::Request(kind())]);
    }

    #[test]
    fn a_draining_worker_goes_as_soon_as_it_is_idle() {
        let (mut fleet, now) = with_workers(config(), &["a", "b"]);
        fleet.on_draining(&worker("a"));
        assert_eq!(fleet.reconcile(now, 0, &BTreeSet::from([worker("b")])), []);
        let idle = BTreeSet::from([worker("a"), worker("b")]);
        assert_eq!(fleet.reconcile(now, 0, &idle), [Action::Release(worker("a"))]);
    }

    #[test]
    fn a_worker_whose_connection_broke_is_replaced_at_once_and_released_later() {
        let (mut fleet, now) = with_workers(config(), &["gone", "back", "ended"]);
        for name in ["gone", "back", "ended"] {
            fleet.on_lost(now, &worker(name));
        }
        assert_eq!(fleet.reconcile(now, 1, &none()), [Action::Request(kind())]);
        fleet.on_requested(RequestId::new(1));
        fleet.on_registered(&worker("back"));
        fleet.on_terminated(now, &worker("ended"), "ended");
        assert_eq!(fleet.reconcile(now, 1, &none()), []);
        assert_eq!(
            fleet.reconcile(now + seconds(10), 1, &none()),
            [Action::Release(worker("gone"))]
        );
    }
}
