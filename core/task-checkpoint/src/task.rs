//! The snapshots of a task, as its operators add to them and its host takes them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use millstream_state::{KeyedSnapshot, ListSnapshot, RestoredLists, StateError, watermark_list};
use millstream_types::{Barrier, CheckpointId, Clock, OperatorId, Timestamp};

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
    /// The time for which the task stood still.
    pub sync: Duration,
}

/// Takes the snapshots of a task.
pub type SnapshotSender = Arc<dyn Fn(TaskSnapshot) + Send + Sync>;

/// A snapshot that operators add to.
#[derive(Debug)]
struct Taking {
    barrier: Barrier,
    since: Instant,
    parts: Vec<OperatorPart>,
    refusal: Option<String>,
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
    sender: SnapshotSender,
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
        };
        Self { inner: Mutex::new(inner), sender, clock }
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

    /// Adds the splits of an operator to the snapshot of the barrier that passes.
    pub fn add_positions(&self, operator: OperatorId, positions: Vec<Vec<u8>>) {
        if let Some(part) = self.inner().part_of(operator) {
            part.positions = positions;
        }
    }

    /// Adds the keyed states of an operator, or the reason why there are none.
    pub fn add_keyed(&self, operator: OperatorId, keyed: Result<KeyedSnapshot, StateError>) {
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
        inner.taking = Some(Taking { barrier, since, parts: Vec::new(), refusal: None });
    }

    /// The barrier has left the task.
    pub(crate) fn finish(&self) {
        let snapshot = {
            let mut inner = self.inner();
            let Some(Taking { barrier, since, parts, refusal }) = inner.taking.take() else {
                return;
            };
            TaskSnapshot {
                barrier,
                parts: refusal.map_or(Ok(parts), Err),
                committables: inner.committables.clone(),
                sync: self.clock.now().saturating_duration_since(since),
            }
        };
        (self.sender)(snapshot);
    }

    // --- for the host ---

    /// Says what the operators begin from, before they are built.
    pub fn restore(&self, operators: BTreeMap<OperatorId, RestoredOperator>) {
        self.inner().restored = operators;
    }

    /// A checkpoint that publishes is complete: what it carries is not kept any more.
    pub fn on_committed(&self, id: CheckpointId) {
        self.inner().committables.retain(|kept| kept.checkpoint > id);
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
    use millstream_types::BarrierKind;

    use super::*;

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
}
