//! A second bookkeeping of checkpoints, made from the messages alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_types::{CheckpointId, ExecutionAttemptId, OperatorId};

use crate::messages::{CommitId, FinalReport};
use crate::metadata::{Committables, Kind, Metadata};
use crate::plan::Subtask;

/// Names committables.
pub(super) type Key = (CheckpointId, OperatorId, u32, u32);

pub(super) fn key_of(one: &Arc<Committables>) -> Key {
    (one.checkpoint, one.operator, one.subtask, one.owner.attempt)
}

pub(super) fn keys_of<'a>(all: impl IntoIterator<Item = &'a Arc<Committables>>) -> BTreeSet<Key> {
    all.into_iter().map(key_of).collect()
}

/// A checkpoint that has started and not ended.
#[derive(Debug)]
pub(super) struct Tracked {
    pub(super) kind: Option<Kind>,
    pub(super) base: Option<CheckpointId>,
    /// The tasks that have been told and have not acknowledged; `None` before the trigger.
    pub(super) waits: Option<BTreeSet<ExecutionAttemptId>>,
    /// The committables of all reports.
    pub(super) keys: BTreeSet<Key>,
    pub(super) files: BTreeSet<String>,
    pub(super) is_stored: bool,
}

/// The last report of a task: its committables and files.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) keys: BTreeSet<Key>,
    pub(super) files: BTreeSet<String>,
}

/// The attempts of tasks, by the messages that were delivered.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    pub(super) floor: u32,
    /// The attempt that may be heard of next.
    next: BTreeMap<Subtask, u32>,
    pub(super) running: BTreeMap<Subtask, u32>,
    pub(super) finished: BTreeMap<Subtask, Finished>,
}

/// The bookkeeping.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    pub(super) tracked: BTreeMap<CheckpointId, Tracked>,
    pub(super) attempts: Attempts,
    /// The committables of all complete checkpoints that commit.
    pub(super) due: BTreeSet<Key>,
    /// Those of them that nothing has confirmed to the present master.
    pub(super) unconfirmed: BTreeSet<Key>,
    pub(super) orders: BTreeMap<CommitId, BTreeSet<Key>>,
    /// Files that the present master has been told of.
    pub(super) told_files: BTreeSet<String>,
    /// Files of acknowledgements that came when their checkpoint had ended. Some may be those of
    /// its base, which are gone already, and are deleted once more.
    pub(super) late_files: BTreeSet<String>,
    pub(super) last_reserved: u64,
    pub(super) last_triggered: u64,
    pub(super) last_complete: u64,
}

impl Oracle {
    pub(super) fn on_running(&mut self, task: ExecutionAttemptId) {
        let attempts = &mut self.attempts;
        let next = attempts.next.get(&task.into()).copied().unwrap_or(attempts.floor);
        if task.attempt >= next && !attempts.finished.contains_key(&task.into()) {
            attempts.running.insert(task.into(), task.attempt);
            attempts.next.insert(task.into(), task.attempt + 1);
        }
    }

    fn runs(&self, task: ExecutionAttemptId) -> bool {
        self.attempts.running.get(&task.into()) == Some(&task.attempt)
    }

    /// The last report of a task counts for pending checkpoints whose barrier it has not taken.
    pub(super) fn on_finished(&mut self, task: ExecutionAttemptId, report: &FinalReport) {
        self.on_running(task);
        if !self.runs(task) {
            return;
        }
        let keys = keys_of(&report.committables);
        let files: BTreeSet<String> = files_of(report);
        self.attempts.running.remove(&task.into());
        self.told_files.extend(files.iter().cloned());
        let finished = Finished { keys: keys.clone(), files };
        self.attempts.finished.insert(task.into(), finished);
        for (id, tracked) in &mut self.tracked {
            let is_before = report.last_barrier.is_none_or(|last| last < *id);
            if let Some(waits) = &mut tracked.waits
                && is_before
                && waits.remove(&task)
            {
                tracked.keys.extend(keys.iter().copied());
            }
        }
    }

    pub(super) fn on_failed(&mut self, task: ExecutionAttemptId) {
        self.on_running(task);
        if self.runs(task) {
            self.attempts.running.remove(&task.into());
        }
    }

    pub(super) fn on_restarting(&mut self, attempt: u32) {
        self.attempts = Attempts { floor: attempt, ..Attempts::default() };
    }

    pub(super) fn on_regions_restarting(&mut self, tasks: &[Subtask], attempt: u32) {
        let attempts = &mut self.attempts;
        for task in tasks {
            attempts.running.remove(task);
            attempts.finished.remove(task);
            let next = attempts.next.entry(*task).or_insert(attempts.floor);
            *next = attempt.max(*next);
        }
    }

    pub(super) fn on_acknowledged(
        &mut self,
        id: CheckpointId,
        task: ExecutionAttemptId,
        committables: &[Arc<Committables>],
        files: BTreeSet<String>,
    ) {
        let runs = self.runs(task);
        let Some(tracked) = self.tracked.get_mut(&id) else {
            return self.late_files.extend(files);
        };
        if runs && tracked.waits.as_mut().is_some_and(|waits| waits.remove(&task)) {
            tracked.keys.extend(keys_of(committables));
            self.told_files.extend(files.iter().cloned());
            tracked.files.extend(files);
        }
    }

    pub(super) fn on_committed(&mut self, commit: CommitId) {
        for key in self.orders.remove(&commit).unwrap_or_default() {
            self.unconfirmed.remove(&key);
        }
    }

    pub(super) fn on_reserve(&mut self, id: CheckpointId, concurrent_max: u32) {
        assert!(id.get() > self.last_reserved, "{id} is reused or out of order");
        self.last_reserved = id.get();
        let tracked = Tracked {
            kind: None,
            base: None,
            waits: None,
            keys: BTreeSet::new(),
            files: BTreeSet::new(),
            is_stored: false,
        };
        self.tracked.insert(id, tracked);
        let is_savepoint = |one: &&Tracked| one.kind.is_some_and(Kind::is_savepoint);
        let savepoints = self.tracked.values().filter(is_savepoint).count();
        // Whether the new one is a savepoint is not known yet.
        let others = self.tracked.len() - savepoints - 1;
        assert!(others <= concurrent_max as usize, "{} are pending", self.tracked.len());
    }

    pub(super) fn on_trigger(
        &mut self,
        id: CheckpointId,
        kind: Kind,
        base: Option<CheckpointId>,
        tasks: &[ExecutionAttemptId],
        all: usize,
        concurrent_max: u32,
    ) {
        assert!(id.get() > self.last_triggered, "the barrier of {id} overtakes another");
        self.last_triggered = id.get();
        let running: BTreeSet<_> = self
            .attempts
            .running
            .iter()
            .map(|(subtask, attempt)| subtask.attempt(*attempt))
            .collect();
        let told: BTreeSet<_> = tasks.iter().copied().collect();
        assert_eq!(told, running, "{id} is told to other tasks than those that run");
        let finished = self.attempts.finished.values();
        assert!(!told.is_empty() && kind != Kind::Final, "{id} needs no trigger");
        assert_eq!(told.len() + finished.len(), all, "{id} starts before all tasks run");
        let keys: BTreeSet<Key> = finished.flat_map(|one| one.keys.iter().copied()).collect();
        let tracked = self.tracked.get_mut(&id).expect("it has an id");
        (tracked.kind, tracked.base, tracked.waits) = (Some(kind), base, Some(told));
        tracked.keys = keys;
        let is_checkpoint = |one: &&Tracked| one.kind.is_some_and(|kind| !kind.is_savepoint());
        let pending = self.tracked.values().filter(is_checkpoint).count();
        assert!(pending <= concurrent_max as usize, "{pending} checkpoints are pending");
    }

    /// The final checkpoint needs no acknowledgement: it is made of the last reports of all tasks.
    pub(super) fn on_final(&mut self, id: CheckpointId, all: usize) {
        assert!(id.get() > self.last_triggered, "{id} overtakes another");
        self.last_triggered = id.get();
        let attempts = &self.attempts;
        assert!(attempts.running.is_empty(), "{id} ends the job, and {:?} run", attempts.running);
        assert_eq!(attempts.finished.len(), all, "{id} ends the job before all have finished");
        let tracked = self.tracked.get_mut(&id).expect("it has an id");
        assert_eq!(tracked.waits, None, "{id} was told to tasks");
        (tracked.kind, tracked.waits) = (Some(Kind::Final), Some(BTreeSet::new()));
        let finished = attempts.finished.values();
        tracked.keys = finished.flat_map(|one| one.keys.iter().copied()).collect();
    }

    /// Metadata carries each committable that is not confirmed, and none that is.
    pub(super) fn on_store(&mut self, id: CheckpointId, metadata: &Metadata) {
        let tracked = self.tracked.get_mut(&id).expect("it has started");
        let waits = tracked.waits.as_ref().expect("it was triggered");
        assert!(waits.is_empty(), "{id} is stored without {waits:?}");
        let new = tracked.keys.difference(&self.due).copied();
        let unconfirmed = self.unconfirmed.iter().filter(|key| key.0 <= id).copied();
        let expected: BTreeSet<Key> = unconfirmed.chain(new).collect();
        let carried = keys_of(&metadata.committables);
        assert_eq!(carried, expected, "{id} does not carry what is not confirmed");
        tracked.is_stored = true;
        tracked.files = metadata.files().map(str::to_owned).collect();
    }

    pub(super) fn on_complete(&mut self, id: CheckpointId, kind: Kind) {
        let tracked = self.tracked.remove(&id).expect("it was pending");
        assert!(tracked.is_stored && tracked.kind == Some(kind), "{id} was not stored");
        if !kind.commits() {
            return;
        }
        assert!(id.get() > self.last_complete, "{id} completes after a later one");
        self.last_complete = id.get();
        let new: Vec<Key> = tracked.keys.difference(&self.due).copied().collect();
        self.due.extend(new.iter().copied());
        self.unconfirmed.extend(new);
    }

    pub(super) fn on_commit(
        &mut self,
        commit: CommitId,
        recover: bool,
        committables: &[Arc<Committables>],
    ) {
        let keys = keys_of(committables);
        assert!(recover || !keys.is_empty(), "{commit} is empty");
        for key in &keys {
            assert!(self.due.contains(key), "{key:?} is of no complete checkpoint");
            assert!(self.unconfirmed.contains(key), "{key:?} is committed after its confirmation");
        }
        let told = self.orders.values().any(|order| !order.is_disjoint(&keys));
        assert!(!told, "{commit} repeats an order to the same host");
        self.orders.insert(commit, keys);
    }

    /// All files that something refers to, other than what is in the store.
    pub(super) fn files_in_flight(&self) -> impl Iterator<Item = &String> {
        let pending = self.tracked.values().flat_map(|tracked| &tracked.files);
        pending.chain(self.attempts.finished.values().flat_map(|one| &one.files))
    }
}

pub(super) fn files_of(report: &FinalReport) -> BTreeSet<String> {
    crate::files::of(&report.snapshots).map(str::to_owned).collect()
}
