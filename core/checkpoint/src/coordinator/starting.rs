//! The start of a checkpoint: whether one may start, its id, the coordinators, the trigger.

use std::time::Instant;

use millstream_types::{CheckpointId, OperatorId, TriggerId};

use super::ending::Cause;
use super::{Coordinator, End, Mode, REMOVALS_MAX, REQUESTS_MAX, SAVEPOINTS_MAX};
use crate::messages::{Action, Answer, Now, Request};
use crate::metadata::Kind;
use crate::pending::{Pending, Start};
use crate::stats::Blocked;

/// The reason for a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    Periodic,
    /// One whose barriers waited too long was given up.
    Instead,
    Final,
    /// The request at this place.
    Request(usize),
}

impl Coordinator {
    /// Takes a request in, or answers it at once if it cannot be served.
    pub(super) fn on_request(&mut self, trigger: TriggerId, request: Request) {
        let mut known = self.requests.iter().map(|(known, _)| *known);
        let is_pending = self.pending.values().any(|pending| pending.trigger() == Some(trigger));
        if is_pending || known.any(|known| known == trigger) {
            self.ignored.repeated += 1;
            return;
        }
        let refusal = self.not_running().or_else(|| self.stopping()).map(|why| why.to_string());
        let refusal = refusal.or_else(|| {
            let is_full = self.requests.len() >= REQUESTS_MAX;
            is_full.then(|| format!("{REQUESTS_MAX} requests wait already: try again later"))
        });
        match refusal {
            Some(why) => self.answer(Some(trigger), || Answer::Failed(why)),
            None => self.requests.push_back((trigger, request)),
        }
    }

    /// The reason why tasks cannot be told of anything.
    fn not_running(&self) -> Option<Blocked> {
        let (running, of) = self.tasks.count();
        match (self.end, self.mode) {
            (End::Committing | End::Finished, _) => Some(Blocked::Ended),
            (End::None, Mode::Idle | Mode::Settling) => Some(Blocked::Restarting),
            (End::None, Mode::Running) if self.tasks.have_finished() => Some(Blocked::Finishing),
            (End::None, Mode::Running) if !self.tasks.are_ready() => {
                Some(Blocked::Tasks { running, of })
            }
            (End::None, Mode::Running) => None,
        }
    }

    fn stopping(&self) -> Option<Blocked> {
        let mut pending = self.pending.iter();
        let stop = pending.find(|(_, pending)| matches!(pending.kind(), Kind::Stop { .. }));
        stop.map(|(id, _)| Blocked::Stopping(*id))
    }

    /// The reason why no checkpoint that tells tasks may start now.
    fn blocked(&self) -> Option<Blocked> {
        if let Some(blocked) = self.not_running().or_else(|| self.stopping()) {
            Some(blocked)
        } else if !self.host_ready {
            Some(Blocked::CoordinatorHost)
        } else {
            self.no_room()
        }
    }

    /// The reason why one more checkpoint would be too many, whatever its kind.
    fn no_room(&self) -> Option<Blocked> {
        let starting = || self.pending.iter().find(|(_, pending)| pending.is_starting());
        let (uncommitted, max) = (self.commits.count(), self.settings.uncommitted_max);
        if let Some((id, _)) = starting() {
            Some(Blocked::Starting(*id))
        } else if uncommitted > max {
            Some(Blocked::Uncommitted { count: uncommitted, max })
        } else if self.retention.removals() > REMOVALS_MAX {
            Some(Blocked::Discarding(self.retention.removals()))
        } else if self.last.next() == self.last {
            Some(Blocked::Ids)
        } else {
            None
        }
    }

    /// The reason why no checkpoint, other than a savepoint, may start now.
    fn checkpoint_blocked(&self) -> Option<Blocked> {
        if let Some(blocked) = self.blocked().or_else(|| self.too_many()) {
            return Some(blocked);
        }
        let mut kinds = self.pending.values().map(Pending::kind);
        (self.settings.unaligned && kinds.any(Kind::is_savepoint)).then_some(Blocked::Savepoint)
    }

    /// Whether as many checkpoints as allowed are pending, savepoints apart.
    fn too_many(&self) -> Option<Blocked> {
        let max = self.settings.concurrent_max.get();
        let kinds = self.pending.values().map(Pending::kind);
        let checkpoints = kinds.filter(|kind| !kind.is_savepoint()).count();
        (checkpoints >= max as usize).then_some(Blocked::Pending(max))
    }

    /// Whether the final checkpoint may start, as far as its time has come. It needs neither tasks
    /// nor coordinators.
    fn is_final_due(&self) -> bool {
        let has_finished = self.mode == Mode::Running && self.tasks.have_finished();
        let mut kinds = self.pending.values().map(Pending::kind);
        has_finished
            && self.end == End::None
            && !kinds.any(|kind| kind == Kind::Final)
            && self.stopping().is_none()
            && self.no_room().is_none()
            && self.too_many().is_none()
    }

    /// The reason why no periodic checkpoint may start now, if it is due.
    pub(super) fn periodic_blocked(&self) -> Option<Blocked> {
        let blocked = self.checkpoint_blocked();
        blocked.or_else(|| {
            let goes_on = self.settings.after_tasks_finished || !self.tasks.some_finished();
            (!goes_on).then_some(Blocked::TasksFinished)
        })
    }

    /// The next start, and its time if that has to come first.
    fn next(&self) -> Option<(Reason, Option<Instant>)> {
        if self.is_final_due() {
            return Some((Reason::Final, self.final_again));
        }
        if self.blocked().is_some() {
            return None;
        }
        let is_checkpoint = |request: &Request| matches!(request, Request::Checkpoint);
        let mut requests = self.requests.iter();
        let savepoints = self.pending.values().filter(|one| one.kind().is_savepoint()).count();
        if let Some(at) = requests.position(|(_, request)| !is_checkpoint(request))
            && savepoints < SAVEPOINTS_MAX
        {
            return Some((Reason::Request(at), None));
        }
        if self.checkpoint_blocked().is_some() {
            return None;
        }
        if !self.requests.is_empty() {
            return Some((Reason::Request(0), None));
        }
        if self.periodic_blocked().is_some() {
            return None;
        }
        if self.overtakes {
            return Some((Reason::Instead, None));
        }
        Some((Reason::Periodic, Some(self.policy.next_periodic()?)))
    }

    /// The time of the next start that only waits for its time.
    pub(super) fn next_start(&self) -> Option<Instant> {
        self.next().and_then(|(_, at)| at)
    }

    /// Starts the next checkpoint if it is due.
    pub(super) fn start_next(&mut self, now: Now) {
        let Some((reason, at)) = self.next() else { return };
        if at.is_some_and(|at| at > now.instant) {
            return;
        }
        let (kind, trigger, directory) = match reason {
            Reason::Periodic => {
                self.policy.on_periodic(now.instant);
                (Kind::Checkpoint, None, None)
            }
            Reason::Instead => (Kind::Checkpoint, None, None),
            Reason::Final => (Kind::Final, None, None),
            Reason::Request(at) => match self.requests.remove(at) {
                Some((trigger, request)) => {
                    let (kind, directory) = requested(request);
                    (kind, Some(trigger), directory)
                }
                None => return,
            },
        };
        let timeout = self.settings.aligned_timeout;
        let may_overtake = kind == Kind::Checkpoint && self.settings.unaligned;
        let unaligned = may_overtake && (timeout.is_zero() || std::mem::take(&mut self.overtakes));
        let aligned_timeout = (may_overtake && !unaligned).then_some(timeout);
        self.start(now, Start { kind, trigger, directory, unaligned, aligned_timeout });
    }

    fn start(&mut self, now: Now, start: Start) {
        let id = self.last.next();
        self.last = id;
        let base = match start.kind {
            Kind::Checkpoint => self.retention.base(),
            // A savepoint stands alone; of the final checkpoint no task writes a part.
            Kind::Savepoint | Kind::Stop { .. } | Kind::Final => None,
        };
        self.retention.pin(base);
        self.history.on_start();
        let deadline = now.instant.checked_add(self.settings.timeout);
        self.pending.insert(id, Pending::new(id, start, base, now, deadline));
        self.actions.push(Action::ReserveId(id));
    }

    /// Goes on to the coordinators, or to the tasks if no coordinator has state. The state of
    /// coordinators is of no use in the final checkpoint: nothing runs from it.
    pub(super) fn on_id_reserved(&mut self, now: Now, id: CheckpointId) {
        if !self.pending.get_mut(&id).is_some_and(Pending::on_reserved) {
            self.ignored.unknown_checkpoint += 1;
            return;
        }
        let is_final = self.pending.get(&id).is_some_and(|one| one.kind() == Kind::Final);
        let operators = self.plan.coordinated();
        if is_final || operators.is_empty() {
            self.trigger(now, id, Vec::new());
        } else {
            self.actions.push(Action::SnapshotCoordinators { id, operators });
        }
    }

    pub(super) fn on_id_not_reserved(&mut self, now: Now, id: CheckpointId, reason: &str) {
        match self.pending.get(&id) {
            Some(pending) if pending.is_starting() && !pending.awaits_coordinators() => {
                self.abort(now, id, Cause::Id(reason));
            }
            Some(_) | None => self.ignored.unknown_checkpoint += 1,
        }
    }

    /// Goes on to the tasks.
    pub(super) fn on_coordinators(
        &mut self,
        now: Now,
        id: CheckpointId,
        states: Vec<(OperatorId, Vec<u8>)>,
    ) {
        if !self.pending.get(&id).is_some_and(Pending::awaits_coordinators) {
            self.ignored.unknown_checkpoint += 1;
            return;
        }
        let mut answered: Vec<OperatorId> = states.iter().map(|(operator, _)| *operator).collect();
        let mut asked = self.plan.coordinated();
        answered.sort_unstable();
        asked.sort_unstable();
        if answered == asked {
            self.trigger(now, id, states);
        } else {
            self.abort(now, id, Cause::Coordinators("not every coordinator has answered once"));
        }
    }

    pub(super) fn on_coordinators_declined(&mut self, now: Now, id: CheckpointId, reason: &str) {
        if self.pending.get(&id).is_some_and(Pending::awaits_coordinators) {
            self.abort(now, id, Cause::Coordinators(reason));
        } else {
            self.ignored.unknown_checkpoint += 1;
        }
    }

    /// Tells the tasks; the final checkpoint has none to tell, and only needs to be stored.
    fn trigger(&mut self, now: Now, id: CheckpointId, states: Vec<(OperatorId, Vec<u8>)>) {
        let Some(pending) = self.pending.get_mut(&id) else { return };
        let is_final = pending.kind() == Kind::Final;
        let is_possible =
            if is_final { self.tasks.have_finished() } else { self.tasks.are_ready() };
        if !is_possible {
            self.abort(now, id, Cause::TaskGone);
            return;
        }
        pending.on_triggered(states, self.tasks.running(), self.tasks.finished(), now.wall);
        if is_final {
            return;
        }
        self.actions.push(Action::Trigger {
            id,
            kind: pending.kind(),
            unaligned: pending.is_unaligned(),
            base: pending.base(),
            directory: pending.directory(),
            tasks: self.tasks.running().collect(),
        });
    }
}

/// The kind of a checkpoint that is asked for, and its directory.
fn requested(request: Request) -> (Kind, Option<String>) {
    match request {
        Request::Checkpoint => (Kind::Checkpoint, None),
        Request::Savepoint { directory } => (Kind::Savepoint, Some(directory)),
        Request::Stop { directory, drain } => (Kind::Stop { drain }, Some(directory)),
    }
}
