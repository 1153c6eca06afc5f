//! The snapshots of a task, as its operators add to them and its host takes them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use millstream_mutants::Mutant;
use millstream_network::Overdraft;
use millstream_state::{
    InSlices, KeyedSnapshot, ListKind, ListSnapshot, PartSink, RestoredLists, SliceBudget,
    StateError, watermark_list,
};
use millstream_types::{Barrier, BarrierKind, CheckpointId, Clock, OperatorId, Schema, Timestamp};

/// An operator's part in a checkpoint.
#[derive(Debug)]
pub struct OperatorPart {
    /// The operator.
    pub operator: OperatorId,
    /// Splits with their positions, encoded.
    pub positions: Vec<Vec<u8>>,
    /// Its keyed states.
    pub keyed: Option<KeyedSnapshot>,
    /// Its states without keys.
    pub lists: Vec<ListSnapshot>,
}

/// The part of a checkpoint that an operator's subtask begins from.
#[derive(Debug, Default)]
pub struct RestoredOperator {
    /// Splits with their positions, encoded.
    pub positions: Vec<Vec<u8>>,
    /// The keyed states of all subtasks that had key groups of this one.
    pub keyed: Vec<KeyedSnapshot>,
    /// The states without keys.
    pub lists: RestoredLists,
}

/// Committables of a task's sink that are not published.
#[derive(Debug, PartialEq, Eq)]
pub struct PreCommitted {
    /// The sink's operator.
    pub operator: OperatorId,
    /// The checkpoint for which they were pre-committed.
    pub checkpoint: CheckpointId,
    /// Their number.
    pub count: u32,
    /// The committables, encoded.
    pub bytes: Vec<u8>,
}

/// The part of a task in a checkpoint.
#[derive(Debug)]
pub struct TaskSnapshot {
    /// The barrier that it belongs to.
    pub barrier: Barrier,
    /// The parts of its operators; the error is a sentence that says why there are none.
    pub parts: Result<Vec<OperatorPart>, String>,
    /// All committables that the task keeps.
    pub committables: Vec<Arc<PreCommitted>>,
    /// The records in flight that it stores.
    pub in_flight: InFlightSummary,
    /// The time for which the task stood still.
    pub sync: Duration,
    /// The time when its barrier had left the task. What was left then was written beside the
    /// task's work.
    pub left: Instant,
}

/// The records in flight in a task's snapshot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InFlightSummary {
    /// Whether its barrier overtook records.
    pub unaligned: bool,
    /// The bytes of those that are stored.
    pub bytes: u64,
    /// The time from the first barrier to the last.
    pub alignment: Duration,
    /// Whether the task had to wait for its output, or for a writer, before its snapshot.
    pub fell_back: bool,
}

/// The name with which every list of records in flight begins.
const IN_FLIGHT: &str = "in flight ";

/// Records in flight that an operator's subtask restores.
#[derive(Debug, Default)]
pub struct RestoredInFlight {
    /// The items of the stream, as they were written.
    pub items: Vec<Vec<u8>>,
    /// Whether they are those of all subtasks, of which there was another number.
    pub rescaled: bool,
}

/// Takes the snapshots of a task.
pub type SnapshotSender = Arc<dyn Fn(TaskSnapshot) + Send + Sync>;

/// Makes the sinks for parts of an operator's keyed states in a checkpoint. A sink that is dropped
/// before the snapshot was handed to the [`SnapshotSender`] belongs to a snapshot without an end.
pub type PartSinks = Arc<dyn Fn(CheckpointId, OperatorId) -> Arc<dyn PartSink> + Send + Sync>;

/// The bytes that an operator writes at once: at the barrier, and then in each slice. The work of a
/// task stands still for the time that this takes, a few tenths of a millisecond.
pub const SLICE_BYTES: usize = 256 << 10;

/// One slice of a task's snapshot, which its operators share.
#[derive(Debug)]
pub struct Slice<'a> {
    checkpoints: &'a TaskCheckpoints,
    budget: SliceBudget,
    /// The checkpoint was aborted: what is left of it is dropped.
    drops: bool,
}

impl Slice<'_> {
    /// Ends it; whether more slices are left.
    pub(crate) fn end(&self) -> bool {
        self.checkpoints.after_slice(self)
    }

    /// Writes a part of an operator's keyed states, if their snapshot is being written.
    pub fn write(&mut self, operator: OperatorId, states: &mut impl InSlices) {
        if self.drops {
            states.drop_slices();
        } else if !self.budget.is_spent()
            && let Some(written) = states.write_slice(&mut self.budget).transpose()
        {
            self.checkpoints.end_keyed(operator, written);
        }
    }
}

/// A snapshot that operators add to.
#[derive(Debug)]
struct Taking {
    barrier: Barrier,
    since: Instant,
    parts: Vec<OperatorPart>,
    refusal: Option<String>,
    /// The operators whose keyed states are being written in slices.
    in_slices: Vec<OperatorId>,
    /// The sinks that take parts of them before the snapshot is sent.
    sinks: Vec<Arc<dyn PartSink>>,
    /// The barrier has left the task.
    left: Option<Left>,
    is_aborted: bool,
    /// Records are in flight to the task that are not all noted.
    awaits_input: bool,
    in_flight: InFlightSummary,
}

/// The moment at which a barrier left.
#[derive(Debug)]
struct Left {
    at: Instant,
    sync: Duration,
    /// Those that the task kept then. Later ones, as those of the end of the input, are no part of
    /// the snapshot.
    committables: Vec<Arc<PreCommitted>>,
}

#[derive(Debug)]
struct Inner {
    /// The last checkpoint whose barrier has come, or that was restored.
    last: CheckpointId,
    /// The last one whose barrier has come.
    last_barrier: Option<CheckpointId>,
    taking: Option<Taking>,
    committables: Vec<Arc<PreCommitted>>,
    /// The operators that the restored checkpoint knows, until they take their parts.
    restored: BTreeMap<OperatorId, RestoredOperator>,
    /// The restored records in flight, by operator and name, until they are taken.
    in_flight: BTreeMap<(OperatorId, String), RestoredInFlight>,
    /// Some of them wait in the task's output.
    resumes: bool,
}

impl Inner {
    /// The part of an operator in the snapshot that is taken.
    fn part_of(&mut self, operator: OperatorId) -> Option<&mut OperatorPart> {
        let parts = &mut self.taking.as_mut()?.parts;
        let at = parts.iter().position(|part| part.operator == operator).unwrap_or(parts.len());
        if at == parts.len() {
            let (positions, lists) = (Vec::new(), Vec::new());
            parts.push(OperatorPart { operator, positions, keyed: None, lists });
        }
        parts.get_mut(at)
    }

    /// There is no snapshot for this barrier.
    fn refuse(&mut self, error: &StateError) {
        if let Some(taking) = &mut self.taking {
            taking.refusal.get_or_insert_with(|| error.to_string());
        }
    }
}

/// The part of one task in the checkpoints of its job.
pub struct TaskCheckpoints {
    inner: Mutex<Inner>,
    overdraft: Arc<Overdraft>,
    sender: SnapshotSender,
    sinks: Option<PartSinks>,
    clock: Clock,
}

impl fmt::Debug for TaskCheckpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskCheckpoints").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl TaskCheckpoints {
    /// Those of a task that begins from a checkpoint, or from nothing.
    #[must_use]
    pub fn new(restored: Option<CheckpointId>, sender: SnapshotSender, clock: Clock) -> Self {
        let inner = Inner {
            last: restored.unwrap_or(CheckpointId::new(0)),
            last_barrier: None,
            taking: None,
            committables: Vec::new(),
            restored: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            resumes: false,
        };
        Self { inner: Mutex::new(inner), overdraft: Arc::default(), sender, sinks: None, clock }
    }

    /// Has sinks take parts of large states while they are being written. Those of savepoints wait
    /// for the whole snapshot.
    #[must_use]
    pub fn with_sinks(mut self, sinks: Option<PartSinks>) -> Self {
        self.sinks = sinks;
        self
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Whole parts are added and taken: nothing is left half done by a panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // --- for operators ---

    /// Takes what an operator begins from; `None` if the task begins from nothing, or from a
    /// checkpoint that does not know the operator.
    #[must_use]
    pub fn take_restored(&self, operator: OperatorId) -> Option<RestoredOperator> {
        self.inner().restored.remove(&operator)
    }

    /// The task's room beyond credits.
    #[must_use]
    pub const fn overdraft(&self) -> &Arc<Overdraft> {
        &self.overdraft
    }

    /// Takes the records in flight of a stream that an operator stored under this name.
    #[must_use]
    pub fn take_in_flight(&self, operator: OperatorId, name: &str) -> RestoredInFlight {
        let key = (operator, format!("{IN_FLIGHT}{name}"));
        self.inner().in_flight.remove(&key).unwrap_or_default()
    }

    /// Whether records in flight are restored at another parallelism than they had.
    #[must_use]
    pub fn is_in_flight_rescaled(&self) -> bool {
        self.inner().in_flight.values().any(|restored| restored.rescaled)
    }

    /// The name of restored records in flight that no stream has taken.
    #[must_use]
    pub fn in_flight_left(&self) -> Option<String> {
        self.inner().in_flight.keys().next().map(|(_, name)| name.clone())
    }

    /// Notes that restored records wait in the task's output.
    pub fn resume_first(&self) {
        self.inner().resumes = true;
    }

    /// Whether restored records wait in the task's output, so that it must be resumed first.
    #[must_use]
    pub fn must_resume(&self) -> bool {
        self.inner().resumes
    }

    /// Adds records in flight of a stream to the snapshot of the barrier that passes.
    pub fn add_in_flight(&self, operator: OperatorId, name: &str, items: Vec<Vec<u8>>) {
        if items.is_empty() {
            return;
        }
        let bytes: usize = items.iter().map(Vec::len).sum();
        let mut inner = self.inner();
        if let Some(taking) = &mut inner.taking {
            taking.in_flight.bytes += bytes as u64;
        }
        if let Some(part) = inner.part_of(operator) {
            part.lists.push(ListSnapshot {
                name: format!("{IN_FLIGHT}{name}"),
                kind: ListKind::Divided,
                schema: Schema::of::<Vec<u8>>(),
                items,
            });
        }
    }

    /// Adds the splits of an operator to the snapshot of the barrier that passes.
    pub fn add_positions(&self, operator: OperatorId, positions: Vec<Vec<u8>>) {
        if let Some(part) = self.inner().part_of(operator) {
            part.positions = positions;
            if Mutant::LosesSplit.strikes(3) {
                part.positions.pop();
            }
        }
    }

    /// Begins with the keyed states of an operator, as they are now: small ones are written at
    /// once, others in slices.
    pub fn begin_keyed(&self, operator: OperatorId, states: &mut impl InSlices) {
        let sink = self.sink(operator);
        let begun = states.begin_slices(sink.as_ref());
        let written = begun.and_then(|()| states.write_slice(&mut SliceBudget::of(SLICE_BYTES)));
        match written.transpose() {
            Some(written) => self.add_keyed(operator, written),
            None => {
                if let Some(taking) = &mut self.inner().taking {
                    taking.in_slices.push(operator);
                }
            }
        }
    }

    /// The sink for parts of an operator's states in the snapshot that is taken.
    fn sink(&self, operator: OperatorId) -> Option<Arc<dyn PartSink>> {
        let (sinks, mut inner) = (self.sinks.as_ref()?, self.inner());
        let taking = inner.taking.as_mut()?;
        let Barrier { checkpoint, kind, .. } = taking.barrier;
        if !matches!(kind, BarrierKind::Checkpoint | BarrierKind::Unaligned) {
            return None;
        }
        let sink = sinks(checkpoint, operator);
        taking.sinks.push(Arc::clone(&sink));
        Some(sink)
    }

    /// The keyed states of an operator that were written in slices are whole.
    fn end_keyed(&self, operator: OperatorId, keyed: Result<KeyedSnapshot, StateError>) {
        if let Some(taking) = &mut self.inner().taking {
            taking.in_slices.retain(|other| *other != operator);
        }
        self.add_keyed(operator, keyed);
    }

    /// Adds the keyed states of an operator, or the reason why there are none.
    fn add_keyed(&self, operator: OperatorId, keyed: Result<KeyedSnapshot, StateError>) {
        let mut inner = self.inner();
        match keyed {
            Ok(keyed) => {
                if let Some(part) = inner.part_of(operator) {
                    part.keyed = Some(keyed);
                }
            }
            Err(error) => inner.refuse(&error),
        }
    }

    /// Adds states without keys of an operator, or the reason why there are none.
    pub fn add_lists(&self, operator: OperatorId, lists: Result<Vec<ListSnapshot>, StateError>) {
        let mut inner = self.inner();
        match lists {
            Ok(lists) => {
                if let Some(part) = inner.part_of(operator) {
                    part.lists.extend(lists);
                }
            }
            Err(error) => inner.refuse(&error),
        }
    }

    /// Adds the watermark of an operator: after a restore it takes no record as timely that is late
    /// now.
    pub fn add_watermark(&self, operator: OperatorId, watermark: Timestamp) {
        self.add_lists(operator, watermark_list(watermark).map(|list| vec![list]));
    }

    /// Keeps committables until a checkpoint that carries them is complete; the bytes of all that
    /// are kept now, which each snapshot has.
    pub fn keep(&self, committables: PreCommitted) -> usize {
        let mut inner = self.inner();
        if committables.count > 0 {
            inner.committables.push(Arc::new(committables));
        }
        inner.committables.iter().map(|kept| kept.bytes.len()).sum()
    }

    /// The number for committables that no barrier takes: those at the end of the input.
    #[must_use]
    pub fn id_at_end(&self) -> CheckpointId {
        self.inner().last.next()
    }

    // --- for the body ---

    /// A barrier is handed on.
    pub(crate) fn begin(&self, barrier: Barrier) {
        let since = self.clock.now();
        let mut inner = self.inner();
        inner.last = inner.last.max(barrier.checkpoint);
        inner.last_barrier = Some(barrier.checkpoint);
        if Mutant::ForgetsCommittables.lives() {
            inner.committables.clear();
        }
        inner.taking = Some(Taking {
            barrier,
            since,
            parts: Vec::new(),
            refusal: None,
            in_slices: Vec::new(),
            sinks: Vec::new(),
            left: None,
            is_aborted: false,
            awaits_input: false,
            in_flight: InFlightSummary {
                unaligned: barrier.kind == BarrierKind::Unaligned,
                ..InFlightSummary::default()
            },
        });
    }

    /// The snapshot waits until all records are noted that are in flight to the task.
    pub(crate) fn await_input(&self, fell_back: bool) {
        if let Some(taking) = &mut self.inner().taking {
            taking.awaits_input = true;
            taking.in_flight.fell_back = fell_back;
        }
    }

    /// Whether the snapshot of this checkpoint waits for records in flight.
    pub(crate) fn wants_input(&self, id: CheckpointId) -> bool {
        let inner = self.inner();
        inner.taking.as_ref().is_some_and(|it| it.barrier.checkpoint == id && !it.is_aborted)
    }

    /// All records are noted that are in flight to the task, or why they cannot be stored.
    pub(crate) fn end_input(&self, refusal: Option<String>, alignment: Duration) {
        let is_whole = {
            let mut inner = self.inner();
            let Some(taking) = &mut inner.taking else { return };
            taking.awaits_input = false;
            taking.in_flight.alignment = alignment;
            if let Some(why) = refusal {
                taking.refusal.get_or_insert(why);
            }
            taking.left.is_some() && taking.in_slices.is_empty()
        };
        if is_whole {
            self.send();
        }
    }

    /// The barrier has left the task; whether slices of its snapshot are left.
    pub(crate) fn finish(&self) -> bool {
        let now = self.clock.now();
        let (is_open, awaits_input) = {
            let mut inner = self.inner();
            let committables = inner.committables.clone();
            inner.taking.as_mut().map_or((false, false), |taking| {
                let sync = now.saturating_duration_since(taking.since);
                taking.left = Some(Left { at: now, sync, committables });
                (!taking.in_slices.is_empty(), taking.awaits_input)
            })
        };
        if !is_open && !awaits_input {
            self.send();
        }
        is_open
    }

    /// A slice of the snapshot that is being written, if there is one.
    pub(crate) fn slice(&self, budget: SliceBudget) -> Option<Slice<'_>> {
        let inner = self.inner();
        let taking = inner.taking.as_ref().filter(|taking| !taking.in_slices.is_empty())?;
        Some(Slice { checkpoints: self, budget, drops: taking.is_aborted })
    }

    /// A slice was written; whether more of them are left.
    fn after_slice(&self, slice: &Slice<'_>) -> bool {
        {
            let mut inner = self.inner();
            let Some(taking) = &mut inner.taking else { return false };
            if slice.drops && taking.left.is_some() {
                inner.taking = None;
                return false;
            }
            if slice.drops {
                taking.in_slices.clear();
                taking.refusal.get_or_insert_with(|| "the checkpoint was aborted".to_owned());
            }
            if !taking.in_slices.is_empty() {
                return true;
            }
            if taking.left.is_none() || taking.awaits_input {
                return false;
            }
        }
        self.send();
        false
    }

    /// Hands the snapshot, which is whole, to the host.
    fn send(&self) {
        let (snapshot, _sinks) = {
            let mut inner = self.inner();
            let Some(taking) = inner.taking.take() else { return };
            let Taking { barrier, parts, refusal, left, in_flight, sinks, .. } = taking;
            let Some(Left { at: left, sync, committables }) = left else { return };
            let parts = refusal.map_or(Ok(parts), Err);
            (TaskSnapshot { barrier, parts, committables, in_flight, sync, left }, sinks)
        };
        (self.sender)(snapshot);
    }

    // --- for the host ---

    /// Says what the operators begin from, before they are built.
    pub fn restore(&self, mut operators: BTreeMap<OperatorId, RestoredOperator>) {
        let mut inner = self.inner();
        for (operator, restored) in &mut operators {
            for (name, items, rescaled) in restored.lists.take_named(IN_FLIGHT) {
                inner.in_flight.insert((*operator, name), RestoredInFlight { items, rescaled });
            }
        }
        inner.restored = operators;
    }

    /// A checkpoint that publishes is complete: what it carries is not kept any more.
    pub fn on_committed(&self, id: CheckpointId) {
        self.inner().committables.retain(|kept| kept.checkpoint > id);
    }

    /// A checkpoint was aborted: what is left to write of it is dropped.
    pub fn on_aborted(&self, id: CheckpointId) {
        if let Some(taking) = &mut self.inner().taking {
            taking.is_aborted |= taking.barrier.checkpoint == id;
        }
    }

    /// The last checkpoint whose barrier has left the task; 0: none.
    #[must_use]
    pub fn last_left(&self) -> CheckpointId {
        let inner = self.inner();
        let taking = inner.taking.as_ref().filter(|taking| taking.left.is_none());
        let last = inner.last_barrier.unwrap_or(CheckpointId::new(0));
        taking.map_or(last, |taking| CheckpointId::new(taking.barrier.checkpoint.get() - 1))
    }

    /// The last checkpoint whose barrier the task has taken, and all committables that it keeps.
    #[must_use]
    pub fn at_end(&self) -> (Option<CheckpointId>, Vec<Arc<PreCommitted>>) {
        let inner = self.inner();
        (inner.last_barrier, inner.committables.clone())
    }
}

#[cfg(test)]
mod tests {
    use millstream_network::{Event, Flow};
    use millstream_state::{KeyedBackend, ValueState};
    use millstream_types::{Key, MaxParallelism};

    use super::*;
    use crate::passage::Passage;

    fn barrier(id: u64) -> Barrier {
        Barrier::new(CheckpointId::new(id), BarrierKind::Checkpoint)
    }

    fn committables(id: CheckpointId) -> PreCommitted {
        let operator = OperatorId::from_u128(1);
        PreCommitted { operator, checkpoint: id, count: 1, bytes: vec![7] }
    }

    fn task(restored: u64) -> (TaskCheckpoints, Arc<Mutex<Vec<TaskSnapshot>>>) {
        let sent = Arc::<Mutex<Vec<TaskSnapshot>>>::default();
        let into = Arc::clone(&sent);
        let restored = (restored > 0).then(|| CheckpointId::new(restored));
        let sender: SnapshotSender = Arc::new(move |snapshot| into.lock().unwrap().push(snapshot));
        (TaskCheckpoints::new(restored, sender, Clock::system()), sent)
    }

    #[test]
    fn committables_are_kept_until_a_checkpoint_that_carries_them_is_complete() {
        let (task, sent) = task(0);
        for id in 1..=3 {
            task.begin(barrier(id));
            task.keep(committables(CheckpointId::new(id)));
            task.finish();
        }
        let kept: Vec<usize> =
            sent.lock().unwrap().iter().map(|snapshot| snapshot.committables.len()).collect();
        assert_eq!(kept, [1, 2, 3], "the first two were aborted, as far as the task knows");
        task.on_committed(CheckpointId::new(2));
        task.keep(committables(task.id_at_end()));
        let (last, kept) = task.at_end();
        assert_eq!(last, Some(CheckpointId::new(3)));
        let ids: Vec<u64> = kept.iter().map(|kept| kept.checkpoint.get()).collect();
        assert_eq!(ids, [3, 4]);
    }

    #[test]
    fn a_task_that_took_no_barrier_numbers_its_last_committables_behind_what_it_began_from() {
        let (task, _) = task(6);
        assert_eq!(task.id_at_end(), CheckpointId::new(7));
        assert_eq!(task.at_end().0, None);
    }

    #[test]
    fn an_operator_has_one_part_with_all_that_it_adds() {
        let (task, sent) = task(0);
        let operator = OperatorId::from_u128(2);
        task.begin(barrier(1));
        task.add_positions(operator, vec![vec![1]]);
        task.add_watermark(operator, Timestamp::from_millis(7));
        task.add_watermark(OperatorId::from_u128(3), Timestamp::MIN);
        task.finish();
        let sent = sent.lock().unwrap();
        let parts = sent[0].parts.as_ref().unwrap();
        assert_eq!(parts.len(), 2);
        assert_eq!((parts[0].positions.len(), parts[0].lists.len()), (1, 1));
    }

    #[test]
    fn a_refusal_takes_the_place_of_all_parts() {
        let (task, sent) = task(0);
        task.begin(barrier(1));
        task.add_positions(OperatorId::from_u128(2), vec![vec![1]]);
        task.add_keyed(OperatorId::from_u128(3), Err(StateError::TooMany));
        task.finish();
        task.begin(barrier(2));
        task.finish();
        let sent = sent.lock().unwrap();
        assert_eq!(*sent[0].parts.as_ref().unwrap_err(), StateError::TooMany.to_string());
        assert!(sent[1].parts.is_ok());
    }

    /// A state that is larger than a slice.
    fn large() -> (KeyedBackend<u64>, ValueState<String>) {
        let mut backend = KeyedBackend::new(0..4, MaxParallelism::new(4).unwrap());
        let state = backend.value("text").unwrap();
        for key in 0..3_000_u64 {
            backend.set_key(key, key.stable_hash()).unwrap();
            state.set(&mut backend, "begin".repeat(100)).unwrap();
        }
        (backend, state)
    }

    fn budget() -> SliceBudget {
        SliceBudget::of(100_000)
    }

    /// The number of keys with this value in a snapshot.
    fn count(snapshot: &TaskSnapshot, value: &str) -> usize {
        let keyed = snapshot.parts.as_ref().unwrap()[0].keyed.clone().unwrap();
        let mut backend = KeyedBackend::<u64>::new(0..4, MaxParallelism::new(4).unwrap());
        backend.restore(vec![keyed]).unwrap();
        let state: ValueState<String> = backend.value("text").unwrap();
        let is_it = |key: &u64| {
            backend.set_key(*key, key.stable_hash()).unwrap();
            state.get(&backend).unwrap().is_some_and(|text| text == value)
        };
        (0..10_000).filter(is_it).count()
    }

    #[test]
    fn a_large_state_is_written_in_slices_behind_the_barrier() {
        let (task, sent) = task(0);
        let (operator, (mut backend, state)) = (OperatorId::from_u128(2), large());
        task.begin(barrier(1));
        task.begin_keyed(operator, &mut backend);
        task.add_watermark(operator, Timestamp::MIN);
        task.keep(committables(CheckpointId::new(1)));
        assert!(task.finish(), "slices are left");
        task.keep(committables(task.id_at_end()));
        let mut slices = 0;
        for key in (0..).step_by(7) {
            backend.set_key(key, key.stable_hash()).unwrap();
            state.set(&mut backend, "later".to_owned()).unwrap();
            assert!(sent.lock().unwrap().is_empty());
            let mut slice = task.slice(budget()).unwrap();
            slice.write(operator, &mut backend);
            slices += 1;
            if !task.after_slice(&slice) {
                break;
            }
        }
        assert!(slices > 5, "{slices}");
        let sent = sent.lock().unwrap();
        assert_eq!((sent.len(), count(&sent[0], &"begin".repeat(100))), (1, 3_000));
        assert_eq!(sent[0].parts.as_ref().unwrap()[0].lists.len(), 1);
        assert_eq!(*sent[0].committables, [Arc::new(committables(CheckpointId::new(1)))]);
        assert!(task.slice(budget()).is_none());
    }

    #[test]
    fn what_is_left_of_an_aborted_checkpoint_is_dropped() {
        let (task, sent) = task(0);
        let (operator, (mut backend, _)) = (OperatorId::from_u128(2), large());
        task.begin(barrier(1));
        task.begin_keyed(operator, &mut backend);
        task.finish();
        task.on_aborted(CheckpointId::new(7));
        let mut slice = task.slice(budget()).unwrap();
        slice.write(operator, &mut backend);
        assert!(task.after_slice(&slice), "another one was aborted");
        task.on_aborted(CheckpointId::new(1));
        let mut slice = task.slice(budget()).unwrap();
        slice.write(operator, &mut backend);
        assert!(!task.after_slice(&slice) && sent.lock().unwrap().is_empty());
        assert!(backend.write_slice(&mut SliceBudget::unlimited()).unwrap().is_none());
        task.begin(barrier(2));
        task.begin_keyed(operator, &mut backend);
        assert!(task.finish());
    }

    #[test]
    fn a_small_state_leaves_with_the_barrier() {
        let (task, sent) = task(0);
        let mut backend = KeyedBackend::<u64>::new(0..4, MaxParallelism::new(4).unwrap());
        let _: ValueState<String> = backend.value("text").unwrap();
        task.begin(barrier(1));
        task.begin_keyed(OperatorId::from_u128(2), &mut backend);
        assert!(!task.finish());
        assert!(sent.lock().unwrap()[0].parts.as_ref().unwrap()[0].keyed.is_some());
    }

    #[test]
    fn slices_are_written_also_while_the_barrier_is_under_way() {
        let (task, sent) = task(0);
        let (operator, (mut backend, _)) = (OperatorId::from_u128(2), large());
        let task = Arc::new(task);
        let mut passage = Passage::new(Some(Arc::clone(&task)));
        passage.before(Event::Barrier(barrier(1)));
        assert!(!passage.slice(budget(), |_| panic!("no operator has begun")));
        task.begin_keyed(operator, &mut backend);
        assert!(!passage.after(Flow::Full));
        while passage.slice(budget(), |slice| slice.write(operator, &mut backend)) {
            assert!(passage.is_open());
        }
        assert!(sent.lock().unwrap().is_empty() && passage.is_open());
        assert!(!passage.after(Flow::Ready));
        assert!(sent.lock().unwrap().len() == 1 && !passage.is_open());
    }
}
