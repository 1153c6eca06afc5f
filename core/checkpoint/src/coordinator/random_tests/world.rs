//! The world around a coordinator: a JobMaster, tasks, a store, committers, users and faults.

mod life;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use millstream_types::{CheckpointId, ExecutionAttemptId, JobId, Timestamp, TriggerId, VertexId};

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

/// A wrong coordinator, as the world sees it: its events or actions are changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Takes an acknowledgement of an old attempt.
    TakesOldAttempt,
    /// Completes without the tasks that are slow.
    CompletesEarly,
    /// Takes an outcome that is not known for a failure.
    TakesDoubtForFailure,
    /// Forgets the committables of aborted checkpoints.
    ForgetsAborted,
    /// Takes an order for its confirmation.
    ConfirmsBeforeCommit,
    /// Never confirms, so that published results are committed again and again.
    ForgetsConfirmation,
    /// Deletes a file of the newest checkpoint.
    DeletesLive,
    /// Deletes files although the pointer may be there.
    DeletesBeforePointer,
    /// Deletes nothing.
    ForgetsFiles,
    /// Restores an older checkpoint.
    RestoresOlder,
    /// A new master begins from the ids of complete checkpoints.
    ReusesIds,
    /// Commits what only a savepoint carries.
    CommitsSavepoint,
    /// Does not wait for tasks that start.
    StartsEarly,
    /// Starts no checkpoint any more.
    Stalls,
}

impl Fault {
    pub(super) const ALL: [Self; 14] = [
        Self::TakesOldAttempt,
        Self::CompletesEarly,
        Self::TakesDoubtForFailure,
        Self::ForgetsAborted,
        Self::ConfirmsBeforeCommit,
        Self::ForgetsConfirmation,
        Self::DeletesLive,
        Self::DeletesBeforePointer,
        Self::ForgetsFiles,
        Self::RestoresOlder,
        Self::ReusesIds,
        Self::CommitsSavepoint,
        Self::StartsEarly,
        Self::Stalls,
    ];
}

/// How often things happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Seen {
    counts: BTreeMap<&'static str, u64>,
}

impl Seen {
    fn one(&mut self, name: &'static str) {
        *self.counts.entry(name).or_default() += 1;
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (name, count) in &other.counts {
            *self.counts.entry(name).or_default() += count;
        }
    }

    /// A test that sees too little shows nothing.
    pub(super) fn assert_enough(&self) {
        for name in [
            "complete",
            "aborted",
            "restored",
            "restored from nothing",
            "takeover",
            "unknown",
            "read back",
            "declined",
            "task failed",
            "task finished",
            "old attempt ignored",
            "repeated ignored",
            "unknown ignored",
            "late",
            "host lost",
            "discarded",
            "not discarded",
            "deleted",
            "savepoint",
            "stopped",
            "final",
            "finished",
            "failed job",
            "answered",
            "refused",
            "restored in doubt",
            "committed",
            "complete while restarting",
            "inventory",
            "restored from a user's",
        ] {
            let count = self.counts.get(name).copied().unwrap_or_default();
            assert!(count >= 50, "{name} happened {count} times only");
        }
    }
}

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
    messages: Vec<Event>,
    tasks: BTreeMap<Subtask, Task>,
    attempt: u32,
    /// Whether the JobMaster is about to restart the tasks.
    restarts: bool,
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
    Completed { metadata: Arc::new(metadata), owned }
}

fn last_vertex(plan: &Plan) -> VertexId {
    plan.vertices[plan.vertices.len() - 1].id
}

impl World {
    pub(super) fn new(seed: u64, fault: Option<Fault>) -> Self {
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
            messages: Vec::new(),
            tasks: BTreeMap::new(),
            attempt: 0,
            restarts: false,
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

    fn faulty(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    /// An event takes effect: the bookkeeping sees what happened, the coordinator what its fault
    /// makes of it.
    fn event(&mut self, event: Event) {
        self.note(&event);
        let event = self.changed(event);
        let before = self.coordinator.ignored();
        for event in self.invented(&event) {
            self.coordinator.on_event(self.time.now(), event);
        }
        let actions = self.coordinator.on_event(self.time.now(), event);
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
                task.attempt = self.attempt;
                event
            }
            Event::Committed(_) if self.faulty(Fault::ForgetsConfirmation) => {
                self.coordinator.on_event(self.time.now(), Event::CoordinatorHostLost);
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

    fn act(&mut self, action: Action) {
        match action {
            Action::ReserveId(id) => {
                self.oracle.on_reserve(id, self.settings.concurrent_max.get());
                if self.bad_luck(25) {
                    let reason = "away".to_owned();
                    return self.send(Event::IdNotReserved { id, reason });
                }
                self.store.counter = self.store.counter.max(id.get());
                self.send(Event::IdReserved(id));
            }
            Action::SnapshotCoordinators { id, operators } => {
                if self.host && self.bad_luck(25) {
                    let reason = "busy".to_owned();
                    self.send(Event::CoordinatorsDeclined { id, reason });
                } else if self.host {
                    let states = operators.into_iter().map(|operator| (operator, vec![1]));
                    self.send(Event::CoordinatorsSnapshot { id, states: states.collect() });
                }
            }
            Action::Trigger { id, kind, base, directory, tasks } => {
                let all = self.plan.subtasks().count();
                let max = self.settings.concurrent_max.get();
                self.oracle.on_trigger(id, kind, base, &tasks, all, max);
                assert!(!self.ended, "{id} starts after the last checkpoint");
                assert_eq!(directory.is_some(), kind.is_savepoint());
                assert!(base.is_none_or(|base| self.store.pointers.contains_key(&base)));
                if self.attempt > 0 && self.random.one_in(4) {
                    // A task of an old attempt, on a worker that was cut off, has met the barrier.
                    let old = ExecutionAttemptId { attempt: self.attempt - 1, ..tasks[0] };
                    let snapshots = vec![snapshot(old, &["file-of-a-zombie".to_owned()])];
                    let ack = Box::new(Ack { snapshots, ..Ack::default() });
                    self.send(Event::Acknowledged { id, task: old, ack });
                }
                for task in tasks {
                    self.order(task, Order::Barrier(id, base));
                }
            }
            Action::Abort { id, .. } => {
                self.seen.one("aborted");
                self.oracle.tracked.remove(&id).expect("it was pending");
            }
            Action::Store { id, metadata, directory } => self.on_store(id, metadata, directory),
            Action::ReadBack(id) => self.on_read_back(id),
            Action::Complete { id, kind, tasks } => self.on_complete(id, kind, tasks),
            Action::Commit { commit, committables, .. } => {
                assert!(self.host, "nobody is there to commit");
                self.oracle.on_commit(commit, &committables);
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
            Action::Restore { from, finished } => self.on_restore(from, &finished),
            Action::FailJob(reason) => {
                assert!(reason.contains("chk-"), "{reason}");
                self.seen.one("failed job");
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

    fn order(&mut self, task: ExecutionAttemptId, order: Order) {
        if let Some(known) = self.tasks.get_mut(&task.into())
            && known.attempt == task.attempt
        {
            known.orders.push_back(order);
        }
    }

    fn on_store(&mut self, id: CheckpointId, metadata: Arc<Metadata>, directory: Option<String>) {
        let mut stored = Metadata::clone(&metadata);
        if self.faulty(Fault::ForgetsAborted) {
            stored.committables.retain(|one| one.checkpoint == id);
        }
        self.oracle.on_store(id, &stored);
        assert_eq!(directory.is_some(), metadata.kind.is_savepoint());
        let bytes = metadata.encode().expect("it contradicts itself");
        assert_eq!(Metadata::decode("m", &bytes).as_ref(), Ok(&*metadata));
        match if self.bad_luck(1) { self.random.below(8) } else { 0 } {
            0..=4 => {
                self.point(metadata);
                self.send(Event::Stored(id));
            }
            5 => self.send(Event::StoreFailed { id, reason: "full".to_owned() }),
            other => {
                self.seen.one("unknown");
                if other == 6 {
                    self.point(metadata);
                }
                self.send(Event::StoreUnknown { id, reason: "away".to_owned() });
            }
        }
    }

    fn point(&mut self, metadata: Arc<Metadata>) {
        let (id, kind) = (metadata.checkpoint, metadata.kind);
        if kind.commits() {
            let owned = !kind.is_savepoint();
            self.store.pointers.insert(id, Completed { metadata, owned });
        } else {
            self.store.savepoints.insert(id, metadata);
        }
    }

    fn has_pointer(&self, id: CheckpointId) -> bool {
        self.store.pointers.contains_key(&id) || self.store.savepoints.contains_key(&id)
    }

    fn on_read_back(&mut self, id: CheckpointId) {
        self.seen.one("read back");
        let reason = "not there".to_owned();
        let answer = if self.random.one_in(3) && !self.calm {
            Event::StoreUnknown { id, reason }
        } else if self.has_pointer(id) {
            Event::Stored(id)
        } else {
            Event::StoreFailed { id, reason }
        };
        self.send(answer);
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
        if tasks.is_empty() {
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

    fn on_discard(&mut self, id: CheckpointId) {
        let newest = self.store.pointers.keys().next_back().copied();
        assert_ne!(newest, Some(id), "the newest checkpoint is removed");
        let is_owned = self.store.pointers.get(&id).is_none_or(|one| one.owned);
        assert!(is_owned, "{id} is the user's");
        let mut bases = self.oracle.tracked.values().filter_map(|tracked| tracked.base);
        assert!(bases.all(|base| base != id), "{id} is the base of a pending one");
        let luck = if self.calm { 0 } else { self.random.below(6) };
        if luck < 5 {
            self.store.pointers.remove(&id);
        }
        if luck < 4 {
            self.seen.one("discarded");
            self.send(Event::Discarded(id));
        } else {
            self.seen.one("not discarded");
            self.send(Event::NotDiscarded(id));
        }
    }

    fn on_delete(&mut self, checkpoint: Option<CheckpointId>, mut files: Vec<String>) {
        let kept = |id| self.store.pointers.contains_key(&id);
        assert!(!checkpoint.is_some_and(kept), "metadata goes before its pointer");
        if self.faulty(Fault::DeletesLive)
            && let Some((_, newest)) = self.store.pointers.iter().next_back()
        {
            files.extend(newest.metadata.files().map(str::to_owned));
        }
        let in_flight: BTreeSet<&String> = self.oracle.files_in_flight().collect();
        for file in &files {
            assert!(!in_flight.contains(file), "{file} is deleted, and is in flight");
            assert!(self.store.files.remove(file), "{file} is deleted twice");
        }
        self.seen.one("deleted");
    }

    fn on_restore(&mut self, from: Option<CheckpointId>, finished: &[Subtask]) {
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
        let restored = newest.map(|id| self.store.pointers[&id].metadata.clone());
        for subtask in self.plan.subtasks().collect::<Vec<_>>() {
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
