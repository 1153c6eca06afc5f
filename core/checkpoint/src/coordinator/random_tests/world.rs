//! The world around a coordinator: a JobMaster, tasks, a store, committers, users and faults.

mod life;
mod storage;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use millstream_soak::simulation::{self, Seen, Trace};
use millstream_types::{CheckpointId, ExecutionAttemptId, JobId, Timestamp, TriggerId, VertexId};

use super::faults::Fault;
use super::oracle::{Finished, Key, Oracle, key_of, keys_of};
use crate::coordinator::fixture::{
    Random, Time, committables, id, operator_id, place_of, plan, snapshot,
};
use crate::coordinator::{Coordinator, Known};
use crate::messages::{
    Ack, Action, Answer, CommitId, Completed, Event, FinalReport, Request, WaitsFor,
};
use crate::metadata::{Committables, Kind, Metadata, OperatorState};
use crate::plan::{Plan, Subtask};
use crate::settings::Settings;
use crate::stats::Outcome;

/// A message of the master to a task.
#[derive(Debug)]
enum Order {
    Barrier(CheckpointId, Option<CheckpointId>),
    Complete(CheckpointId),
}

#[derive(Debug)]
struct Task {
    attempt: u32,
    orders: VecDeque<Order>,
    kept: BTreeMap<Key, Arc<Committables>>,
    /// The kept ones that each acknowledgement carried.
    carried: BTreeMap<CheckpointId, BTreeSet<Key>>,
    last_barrier: Option<CheckpointId>,
    /// The checkpoint that it was restored from; 0 without one.
    restored: u64,
}

#[derive(Debug, Default)]
struct Store {
    counter: u64,
    pointers: BTreeMap<CheckpointId, Completed>,
    savepoints: BTreeMap<CheckpointId, Arc<Metadata>>,
    files: BTreeSet<String>,
}

/// The world.
pub(super) struct World {
    random: Random,
    time: Time,
    plan: Plan,
    settings: Settings,
    fault: Option<Fault>,
    coordinator: Coordinator,
    oracle: Oracle,
    pub(super) seen: Seen,
    trace: Trace,
    messages: Vec<Event>,
    tasks: BTreeMap<Subtask, Task>,
    attempt: u32,
    /// Whether the JobMaster is about to restart the tasks.
    restarts: bool,
    /// The next checkpoint takes the place of one that was given up.
    replaces: bool,
    /// The last one that did.
    instead: Option<CheckpointId>,
    /// The tasks that have failed, as long as it may do with a restart of their regions.
    failed: BTreeSet<Subtask>,
    /// The tasks of regions that wait for what they restart from.
    away: BTreeSet<Subtask>,
    host: bool,
    orders: VecDeque<(CommitId, Vec<Arc<Committables>>)>,
    published: BTreeSet<Key>,
    store: Store,
    requests: BTreeSet<TriggerId>,
    next_trigger: u128,
    next_file: u64,
    calm: bool,
    /// Whether faults are frequent.
    rough: bool,
    ended: bool,
    finished: bool,
    completions: u64,
}

/// A savepoint of another job to begin from, whose number is 40.
fn begun_elsewhere(plan: &Plan, owned: bool) -> Completed {
    let mut files = 0..;
    let mut operators: Vec<OperatorState> = Vec::new();
    for vertex in &plan.vertices {
        let subtasks = (0..vertex.parallelism).map(|index| {
            let task = ExecutionAttemptId { vertex: vertex.id, subtask: index, attempt: 9 };
            snapshot(task, &[format!("elsewhere-{}", files.next().unwrap())])
        });
        let snapshots: Vec<_> = subtasks.collect();
        let operator = &vertex.operators[0];
        operators.push(OperatorState {
            id: operator.id,
            uid: operator.uid.clone(),
            name: operator.name.clone(),
            max_parallelism: vertex.max_parallelism,
            key_schema: None,
            coordinator: operator.coordinated.then(Vec::new),
            states: snapshots[0].states.clone(),
            subtasks: snapshots.into_iter().map(|one| one.subtask).collect(),
        });
    }
    let last = ExecutionAttemptId { vertex: last_vertex(plan), subtask: 0, attempt: 9 };
    let metadata = Metadata {
        job: JobId::from_u128(8),
        checkpoint: id(40),
        kind: Kind::Savepoint,
        triggered: Timestamp::from_millis(0),
        operators,
        committables: vec![committables(last, 33), committables(last, 38)],
    };
    Completed { metadata: Arc::new(metadata), owned, directory: None }
}

fn last_vertex(plan: &Plan) -> VertexId {
    plan.vertices[plan.vertices.len() - 1].id
}

impl World {
    pub(super) fn new(seed: u64, fault: Option<Fault>, trace: Trace) -> Self {
        let mut random = Random::new(seed);
        let shapes: [&[u32]; 5] = [&[1], &[2], &[1, 2], &[2, 1], &[2, 2, 1]];
        let plan = plan(shapes[random.below(shapes.len())], random.one_in(2));
        let few = |random: &mut Random| {
            NonZeroU32::new(1 + u32::try_from(random.below(3)).unwrap()).unwrap()
        };
        let settings = Settings {
            interval: Some(Duration::from_millis(50)),
            timeout: Duration::from_millis(400),
            min_pause: Duration::from_millis(if random.one_in(2) { 0 } else { 30 }),
            concurrent_max: few(&mut random),
            tolerable_failures: u32::try_from(random.below(6)).unwrap(),
            retained: few(&mut random),
            after_tasks_finished: !random.one_in(4),
            unaligned: random.one_in(2),
            aligned_timeout: Duration::from_millis(random.below(4) as u64 * 300),
            uncommitted_max: if random.one_in(3) { 3 } else { 1_000 },
            history: 3,
        };
        let rough = random.one_in(2);
        let mut store = Store::default();
        let mut oracle = Oracle::default();
        if random.one_in(3) {
            let completed = begun_elsewhere(&plan, random.one_in(2));
            store.counter = completed.id().get();
            store.files.extend(completed.metadata.files().map(str::to_owned));
            oracle.due = keys_of(&completed.metadata.committables);
            oracle.unconfirmed.clone_from(&oracle.due);
            (oracle.last_reserved, oracle.last_complete) = (store.counter, store.counter);
            store.pointers.insert(completed.id(), completed);
        }
        let completed = store.pointers.values().cloned().collect();
        let known = Known { completed, ..Known::default() };
        let coordinator = Coordinator::new(settings.clone(), plan.clone(), known);
        Self {
            random,
            time: Time::new(),
            plan,
            settings,
            fault,
            coordinator,
            oracle,
            seen: Seen::default(),
            trace,
            messages: Vec::new(),
            tasks: BTreeMap::new(),
            attempt: 0,
            restarts: false,
            replaces: false,
            instead: None,
            failed: BTreeSet::new(),
            away: BTreeSet::new(),
            host: false,
            orders: VecDeque::new(),
            published: BTreeSet::new(),
            store,
            requests: BTreeSet::new(),
            next_trigger: 0,
            next_file: 0,
            calm: false,
            rough,
            ended: false,
            finished: false,
            completions: 0,
        }
    }

    pub(super) fn start(&mut self) {
        self.event(Event::Restarting { attempt: 0 });
    }

    /// Whether a fault happens now: one in so many times, or more seldom.
    fn bad_luck(&mut self, of: usize) -> bool {
        self.random.one_in(if self.rough { of } else { of * 6 }) && !self.calm
    }

    /// Whether a checkpoint was given up since its barriers wait for records.
    fn is_given_up(&self, id: CheckpointId) -> bool {
        let failed = self.coordinator.report().latest_failed;
        failed.filter(|failed| failed.id == id).is_some_and(|failed| match &failed.outcome {
            Outcome::Failed { reason, .. } => reason.contains("takes its place"),
            Outcome::InProgress | Outcome::Completed { .. } => false,
        })
    }

    /// Notes a checkpoint that takes the place of one that was given up.
    fn on_start(&mut self, id: CheckpointId) {
        let pending = self.coordinator.status(self.time.now().instant).pending;
        let started = pending.iter().find(|pending| pending.id == id);
        if started.is_some_and(|pending| pending.kind == Kind::Checkpoint)
            && std::mem::take(&mut self.replaces)
        {
            self.instead = Some(id);
        }
    }

    /// Barriers overtake where that is wanted, and beside no savepoint; with a timeout only in
    /// place of a checkpoint that was given up.
    fn check_overtaking(&mut self, id: CheckpointId, kind: Kind, unaligned: bool) {
        let Settings { unaligned: may, aligned_timeout, .. } = self.settings;
        let may = may && kind == Kind::Checkpoint;
        assert!(may || !unaligned, "{kind} {id} overtakes");
        if may && aligned_timeout.is_zero() {
            assert!(unaligned, "{id} is aligned");
        } else if may {
            assert_eq!(unaligned, self.instead == Some(id), "{id}");
            self.seen.many("unaligned instead", u64::from(unaligned));
        }
        let others = self.coordinator.status(self.time.now().instant).pending;
        let mut others = others.iter().filter(|other| other.id < id);
        assert!(!unaligned || !others.any(|other| other.kind.is_savepoint()), "{id}");
    }

    fn faulty(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    /// An event takes effect: the bookkeeping sees what happened, the coordinator what its fault
    /// makes of it.
    fn event(&mut self, event: Event) {
        self.note(&event);
        self.replaces &= !matches!(event, Event::Restarting { .. });
        let event = self.changed(event);
        self.trace.note(&event);
        let before = self.coordinator.ignored();
        for event in self.invented(&event) {
            let _ = self.coordinator.on_event(self.time.now(), event);
        }
        let actions = self.coordinator.on_event(self.time.now(), event);
        self.trace.note(&actions);
        let after = self.coordinator.ignored();
        for (name, before, after) in [
            ("old attempt ignored", before.old_attempt, after.old_attempt),
            ("repeated ignored", before.repeated, after.repeated),
            ("unknown ignored", before.unknown_checkpoint, after.unknown_checkpoint),
        ] {
            (before..after).for_each(|_| self.seen.one(name));
        }
        for action in actions {
            self.act(action);
        }
        self.check();
    }

    fn note(&mut self, event: &Event) {
        match event {
            Event::TaskRunning(task) => self.oracle.on_running(*task),
            Event::TaskFinished { task, report } => self.oracle.on_finished(*task, report),
            Event::TaskFailed(task) => self.oracle.on_failed(*task),
            Event::Restarting { attempt } => self.oracle.on_restarting(*attempt),
            Event::RegionsRestarting { tasks, attempt } => {
                self.oracle.on_regions_restarting(tasks, *attempt);
            }
            Event::Committed(commit) => self.oracle.on_committed(*commit),
            Event::CoordinatorHostLost => self.oracle.orders.clear(),
            Event::Acknowledged { id, task, ack } => {
                let files = crate::files::of(&ack.snapshots).map(str::to_owned).collect();
                self.oracle.on_acknowledged(*id, *task, &ack.committables, files);
            }
            _ => {}
        }
    }

    fn changed(&mut self, mut event: Event) -> Event {
        let doubt = self.faulty(Fault::TakesDoubtForFailure);
        let pointer = self.faulty(Fault::DeletesBeforePointer);
        let old = self.faulty(Fault::TakesOldAttempt);
        match &mut event {
            Event::StoreUnknown { id, reason } if doubt => {
                Event::StoreFailed { id: *id, reason: reason.clone() }
            }
            Event::NotDiscarded(id) if pointer => Event::Discarded(*id),
            Event::Acknowledged { task, .. } if old => {
                let present = self.oracle.attempts.running.get(&(*task).into());
                task.attempt = present.copied().unwrap_or(task.attempt);
                event
            }
            Event::Committed(_) if self.faulty(Fault::ForgetsConfirmation) => {
                let _ = self.coordinator.on_event(self.time.now(), Event::CoordinatorHostLost);
                Event::CoordinatorHostReady
            }
            _ => event,
        }
    }

    /// Events that a fault makes up before another one.
    fn invented(&self, event: &Event) -> Vec<Event> {
        match event {
            Event::Acknowledged { id, .. } if self.faulty(Fault::CompletesEarly) => {
                let others = self.oracle.attempts.running.iter().skip(1);
                let ack = |(subtask, attempt): (&Subtask, &u32)| Event::Acknowledged {
                    id: *id,
                    task: subtask.attempt(*attempt),
                    ack: Box::default(),
                };
                others.map(ack).collect()
            }
            Event::TaskFinished { task, .. } if self.faulty(Fault::EndsEarly) => {
                let others = self.plan.subtasks().filter(|other| *other != (*task).into());
                let end = |other: Subtask| Event::TaskFinished {
                    task: other.attempt(task.attempt),
                    report: Box::default(),
                };
                others.map(end).collect()
            }
            Event::TaskRunning(task) if self.faulty(Fault::StartsEarly) => {
                let all = self.plan.subtasks();
                all.map(|subtask| Event::TaskRunning(subtask.attempt(task.attempt))).collect()
            }
            _ => Vec::new(),
        }
    }

    fn send(&mut self, event: Event) {
        if self.random.one_in(12) && !self.calm {
            self.messages.push(event.clone());
        }
        let is_stalled = self.calm && self.faulty(Fault::Stalls);
        if !(is_stalled && matches!(event, Event::IdReserved(_))) {
            self.messages.push(event);
        }
    }

    fn on_reserve(&mut self, id: CheckpointId) {
        self.oracle.on_reserve(id, self.settings.concurrent_max.get());
        if self.faulty(Fault::GivesUpFinal) && self.have_finished() {
            return;
        }
        if self.bad_luck(25) {
            let reason = "away".to_owned();
            return self.send(Event::IdNotReserved { id, reason });
        }
        self.store.counter = self.store.counter.max(id.get());
        self.send(Event::IdReserved(id));
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::ReserveId(id) => {
                self.on_start(id);
                self.on_reserve(id);
            }
            Action::SnapshotCoordinators { id, operators } => {
                assert!(!self.oracle.attempts.running.is_empty(), "{id} needs no coordinator");
                if self.host && self.bad_luck(25) {
                    let reason = "busy".to_owned();
                    self.send(Event::CoordinatorsDeclined { id, reason });
                } else if self.host {
                    let states = operators.into_iter().map(|operator| (operator, vec![1]));
                    self.send(Event::CoordinatorsSnapshot { id, states: states.collect() });
                }
            }
            Action::Trigger { id, kind, unaligned, base, directory, tasks } => {
                assert_eq!(directory.is_some(), kind.is_savepoint());
                self.check_overtaking(id, kind, unaligned);
                self.on_trigger(id, kind, base, tasks);
            }
            Action::Abort { id, .. } => {
                self.seen.one("aborted");
                self.replaces |= self.is_given_up(id);
                self.oracle.tracked.remove(&id).expect("it was pending");
            }
            Action::Store { id, metadata, directory } => self.on_store(id, metadata, directory),
            Action::ReadBack(id) => self.on_read_back(id),
            Action::Complete { id, kind, tasks } => self.on_complete(id, kind, tasks),
            Action::Commit { commit, recover, committables, .. } => {
                assert!(self.host, "nobody is there to commit");
                self.oracle.on_commit(commit, recover, &committables);
                if self.faulty(Fault::ConfirmsBeforeCommit) {
                    return self.messages.push(Event::Committed(commit));
                }
                self.orders.push_back((commit, committables));
            }
            Action::Discard(id) => self.on_discard(id),
            Action::Delete { .. } if self.faulty(Fault::ForgetsFiles) => {}
            Action::Delete { checkpoint, files } => self.on_delete(checkpoint, files),
            Action::Answer { trigger, answer } => {
                assert!(self.requests.remove(&trigger), "{trigger} is answered twice");
                self.seen.one(match answer {
                    Answer::Complete(_) => "answered",
                    Answer::Failed(_) => "refused",
                });
            }
            Action::Restore { from, finished } => self.on_restore(from, &finished, None),
            Action::RestoreRegions { from, finished } => {
                let away = std::mem::take(&mut self.away);
                self.on_restore(from, &finished, Some(away));
            }
            Action::FailJob(reason) => {
                assert!(reason.contains("chk-"), "{reason}");
                self.seen.one("failed job");
                self.failed.clear();
                self.restarts = true;
            }
            Action::Finish => {
                assert!(self.ended && !self.finished, "it has not ended, or twice");
                self.finished = true;
                assert_eq!(self.published, self.oracle.due, "results are lost at the end");
                self.seen.one("finished");
            }
        }
    }

    fn on_trigger(
        &mut self,
        id: CheckpointId,
        kind: Kind,
        base: Option<CheckpointId>,
        tasks: Vec<ExecutionAttemptId>,
    ) {
        let all = self.plan.subtasks().count();
        let max = self.settings.concurrent_max.get();
        self.oracle.on_trigger(id, kind, base, &tasks, all, max);
        assert!(!self.ended, "{id} starts after the last checkpoint");
        assert!(base.is_none_or(|base| self.store.pointers.contains_key(&base)));
        if tasks[0].attempt > 0 && self.random.one_in(4) {
            // A task of an old attempt, on a worker that was cut off, has met the barrier.
            let old = ExecutionAttemptId { attempt: tasks[0].attempt - 1, ..tasks[0] };
            let snapshots = vec![snapshot(old, &["file-of-a-zombie".to_owned()])];
            let ack = Box::new(Ack { snapshots, ..Ack::default() });
            self.send(Event::Acknowledged { id, task: old, ack });
        }
        for task in tasks {
            self.order(task, Order::Barrier(id, base));
        }
    }

    /// Whether the coordinator was told that all tasks have finished.
    fn have_finished(&self) -> bool {
        self.oracle.attempts.finished.len() == self.plan.subtasks().count()
    }

    fn order(&mut self, task: ExecutionAttemptId, order: Order) {
        if let Some(known) = self.tasks.get_mut(&task.into())
            && known.attempt == task.attempt
        {
            known.orders.push_back(order);
        }
    }

    fn on_complete(&mut self, id: CheckpointId, kind: Kind, tasks: Vec<ExecutionAttemptId>) {
        self.oracle.on_complete(id, kind);
        assert!(self.has_pointer(id), "{id} completes without its pointer");
        self.completions += u64::from(kind.commits());
        self.seen.one(match kind {
            Kind::Checkpoint => "complete",
            Kind::Final => "final",
            Kind::Savepoint => "savepoint",
            Kind::Stop { .. } => "stopped",
        });
        if tasks.is_empty() && !self.have_finished() {
            self.seen.one("complete while restarting");
        }
        self.ended |= kind.is_last();
        if kind == Kind::Savepoint && self.faulty(Fault::CommitsSavepoint) {
            let committables = self.store.savepoints[&id].committables.clone();
            let commit = CommitId::FIRST.next();
            self.act(Action::Commit { commit, checkpoint: id, recover: false, committables });
        }
        for task in tasks.into_iter().filter(|_| kind.commits()) {
            self.order(task, Order::Complete(id));
        }
    }

    fn on_restore(
        &mut self,
        from: Option<CheckpointId>,
        finished: &[Subtask],
        away: Option<BTreeSet<Subtask>>,
    ) {
        self.seen.many("regions restored", u64::from(away.is_some()));
        let tasks = away.unwrap_or_else(|| self.plan.subtasks().collect());
        let mut from = from;
        if self.faulty(Fault::RestoresOlder) {
            from = self.coordinator.retained().next().map(Completed::id);
        }
        assert!(!self.ended, "a job runs again after its last checkpoint");
        let newest = self.store.pointers.keys().next_back().copied();
        assert_eq!(from, newest, "another checkpoint is restored than the newest one");
        assert!(from.map_or(0, CheckpointId::get) >= self.oracle.last_complete);
        if from.is_some_and(|id| !self.store.pointers[&id].owned) {
            self.seen.one("restored from a user's");
        }
        self.seen.one(if from.is_some() { "restored" } else { "restored from nothing" });
        if finished.len() == self.plan.subtasks().count() {
            self.seen.one("final follows a restore");
        }
        let restored = newest.map(|id| self.store.pointers[&id].metadata.clone());
        assert!(finished.iter().all(|subtask| tasks.contains(subtask)), "others run");
        for subtask in tasks {
            let operator = operator_id(place_of(subtask.vertex));
            let stored = restored.iter().flat_map(|it| &it.operators);
            let mut parts = stored.filter(|one| one.id == operator);
            let part = parts.next().map(|one| &one.subtasks[subtask.index as usize]);
            let had_finished = part.is_some_and(|part| part.finished);
            assert_eq!(finished.contains(&subtask), had_finished, "{subtask:?}");
            if had_finished {
                let files = part.unwrap().files().map(str::to_owned).collect();
                let entry = Finished { keys: BTreeSet::new(), files };
                self.oracle.attempts.finished.insert(subtask, entry);
                continue;
            }
            let task = Task {
                attempt: self.attempt,
                orders: VecDeque::new(),
                kept: BTreeMap::new(),
                carried: BTreeMap::new(),
                last_barrier: None,
                restored: from.map_or(0, CheckpointId::get),
            };
            self.tasks.insert(subtask, task);
            self.send(Event::TaskRunning(subtask.attempt(self.attempt)));
        }
    }

    /// Every file that a pointer refers to is there.
    fn check(&self) {
        let pointers = self.store.pointers.values().map(|one| &one.metadata);
        for metadata in pointers.chain(self.store.savepoints.values()) {
            for file in metadata.files() {
                let id = metadata.checkpoint;
                assert!(self.store.files.contains(file), "{file} of {id} is gone");
            }
        }
        let status = self.coordinator.status(self.time.now().instant);
        assert_eq!(status.pending.len(), self.oracle.tracked.len());
        assert!(self.coordinator.report().history.len() <= 3 + status.pending.len());
    }
}
