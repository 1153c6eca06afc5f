//! Makes the metadata of a checkpoint from the contributions of its subtasks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_types::{CheckpointId, JobId, OperatorId, Timestamp};

use crate::messages::OperatorSnapshot;
use crate::metadata::{
    Committables, Kind, Metadata, OperatorState, StateDescription, SubtaskState,
};
use crate::pending::Report;
use crate::plan::{Plan, PlannedOperator, PlannedVertex, Subtask};

/// The head of the metadata.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    pub(crate) job: JobId,
    pub(crate) checkpoint: CheckpointId,
    pub(crate) kind: Kind,
    pub(crate) triggered: Timestamp,
}

/// The most bytes of committables that wait for their commit: those of a recovery are one order,
/// which is one message of at most 64 MiB.
const COMMITTABLES_BYTES_MAX: usize = 48 << 20;
/// The most bytes that each of them takes beside its own.
const COMMITTABLES_HEAD_BYTES: usize = 80;

/// Refuses more committables than an order can carry, in a sentence that names the largest sink.
fn check_room(plan: &Plan, committables: &[Arc<Committables>]) -> Result<(), String> {
    let size = |one: &Committables| one.bytes.len() + COMMITTABLES_HEAD_BYTES;
    let bytes: usize = committables.iter().map(|one| size(one)).sum();
    if bytes <= COMMITTABLES_BYTES_MAX {
        return Ok(());
    }
    let mut of_sinks: BTreeMap<OperatorId, (usize, u64)> = BTreeMap::new();
    for one in committables {
        let (bytes, count) = of_sinks.entry(one.operator).or_default();
        *bytes += size(one);
        *count += u64::from(one.count);
    }
    let most = of_sinks.into_iter().max_by_key(|(_, (bytes, _))| *bytes);
    let (sink, (of_sink, count)) = most.unwrap_or((OperatorId::from_u128(0), (0, 0)));
    let mut operators = plan.vertices.iter().flat_map(|vertex| &vertex.operators);
    let name = operators.find(|operator| operator.id == sink).map(|operator| &operator.name);
    let name = name.map_or_else(|| sink.to_string(), |name| format!("{name:?}"));
    Err(format!(
        "the results that wait for their commit are named in {bytes} bytes, and \
         {COMMITTABLES_BYTES_MAX} are the most that one order to the committers carries; {count} \
         of them with {of_sink} bytes are of sink {name}: let it write fewer and larger ones, or \
         take checkpoints more often"
    ))
}

/// Makes the metadata.
///
/// # Errors
/// Subtasks of an operator contradict each other, or there are too many committables; the error is
/// a sentence.
pub(crate) fn assemble(
    plan: &Plan,
    head: Head,
    coordinators: Vec<(OperatorId, Vec<u8>)>,
    reports: BTreeMap<Subtask, Report>,
    committables: Vec<Arc<Committables>>,
) -> Result<Metadata, String> {
    check_room(plan, &committables)?;
    let mut coordinators: BTreeMap<_, _> = coordinators.into_iter().collect();
    let mut operators = BTreeMap::new();
    let mut of_subtasks = by_subtask(reports);
    for vertex in &plan.vertices {
        for planned in &vertex.operators {
            let coordinator = coordinators.remove(&planned.id);
            let mut operator = empty(vertex, planned, coordinator);
            for index in 0..vertex.parallelism {
                let subtask = Subtask { vertex: vertex.id, index };
                let Some((finished, snapshots)) = of_subtasks.get_mut(&subtask) else {
                    return Err(format!("{} has contributed nothing", plan.name_of(subtask)));
                };
                match snapshots.remove(&planned.id) {
                    Some(snapshot) => add(&mut operator, *finished, snapshot)?,
                    None => operator
                        .subtasks
                        .push(SubtaskState { finished: *finished, ..SubtaskState::default() }),
                }
            }
            operators.insert(planned.id, operator);
        }
    }
    let Head { job, checkpoint, kind, triggered } = head;
    let operators = operators.into_values().collect();
    Ok(Metadata { job, checkpoint, kind, triggered, operators, committables })
}

type Snapshots = BTreeMap<OperatorId, OperatorSnapshot>;

fn by_subtask(reports: BTreeMap<Subtask, Report>) -> BTreeMap<Subtask, (bool, Snapshots)> {
    let snapshots_of = |report| match report {
        Report::Acknowledged(ack) => (false, ack.snapshots),
        Report::Finished(report) => (true, report.snapshots.clone()),
    };
    let by_operator = |(subtask, report)| {
        let (finished, snapshots) = snapshots_of(report);
        let snapshots = snapshots.into_iter().map(|snapshot| (snapshot.operator, snapshot));
        (subtask, (finished, snapshots.collect()))
    };
    reports.into_iter().map(by_operator).collect()
}

fn empty(
    vertex: &PlannedVertex,
    planned: &PlannedOperator,
    coordinator: Option<Vec<u8>>,
) -> OperatorState {
    OperatorState {
        id: planned.id,
        uid: planned.uid.clone(),
        name: planned.name.clone(),
        max_parallelism: vertex.max_parallelism,
        key_schema: None,
        coordinator,
        states: Vec::new(),
        subtasks: Vec::new(),
    }
}

/// Adds a subtask's part. Subtasks may declare their states in any order, and not all of them.
fn add(
    operator: &mut OperatorState,
    finished: bool,
    snapshot: OperatorSnapshot,
) -> Result<(), String> {
    match (&operator.key_schema, snapshot.key_schema) {
        (_, None) => {}
        (None, Some(schema)) => operator.key_schema = Some(schema),
        (Some(before), Some(schema)) if *before == schema => {}
        (Some(_), Some(_)) => {
            return Err(format!("subtasks of {} have keys of different types", operator.name));
        }
    }
    let mut places = Vec::with_capacity(snapshot.states.len());
    for state in snapshot.states {
        places.push(place_of(operator, state)?);
    }
    let mut subtask = snapshot.subtask;
    subtask.finished = finished;
    for handle in &mut subtask.handles {
        let place = places.get(handle.state as usize).copied();
        handle.state = place.ok_or_else(|| no_such_state(&operator.name, handle.state))?;
    }
    operator.subtasks.push(subtask);
    Ok(())
}

fn no_such_state(operator: &str, state: u32) -> String {
    format!("a subtask of {operator} has a handle of state {state}, which it does not declare")
}

fn place_of(operator: &mut OperatorState, state: StateDescription) -> Result<u32, String> {
    let is_same = |known: &StateDescription| {
        known.name == state.name && known.kind.without_keys() == state.kind.without_keys()
    };
    let known = operator.states.iter().position(is_same);
    let at = match known {
        Some(at) => {
            if operator.states.get(at) != Some(&state) {
                return Err(format!(
                    "subtasks of {} declare the state {} with different kinds or types",
                    operator.name, state.name
                ));
            }
            at
        }
        None => {
            operator.states.push(state);
            operator.states.len() - 1
        }
    };
    u32::try_from(at).map_err(|_| format!("{} declares too many states", operator.name))
}

/// Checks that a contribution of a subtask is about its own operators, and that its committables
/// are for checkpoints up to `newest`.
///
/// # Errors
/// It is about another operator or subtask; the error is a sentence.
pub(crate) fn check_contribution(
    plan: &Plan,
    subtask: Subtask,
    snapshots: &[OperatorSnapshot],
    committables: &[Arc<Committables>],
    newest: CheckpointId,
) -> Result<(), String> {
    let operators = plan.vertex(subtask.vertex).map_or(&[][..], |vertex| &vertex.operators);
    let has = |id: OperatorId| operators.iter().any(|operator| operator.id == id);
    let mut seen = BTreeSet::new();
    for snapshot in snapshots {
        if !has(snapshot.operator) || !seen.insert(snapshot.operator) {
            return Err(format!(
                "it has a state of operator {}, which it does not run or has reported twice",
                snapshot.operator
            ));
        }
        let declared = snapshot.states.len();
        let mut handles = snapshot.subtask.handles.iter();
        if let Some(handle) = handles.find(|handle| handle.state as usize >= declared) {
            return Err(no_such_state(&snapshot.operator.to_string(), handle.state));
        }
    }
    for one in committables {
        if !has(one.operator) || one.subtask != subtask.index {
            return Err(format!(
                "it has committables of subtask {} of operator {}, which it is not",
                one.subtask, one.operator
            ));
        }
        if one.checkpoint > newest {
            return Err(format!("it has committables for the later {}", one.checkpoint));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::fixture::{committables, plan, task};

    #[test]
    fn more_committables_than_an_order_carries_are_refused_with_their_sink() {
        let plan = plan(&[2, 2], false);
        let of = |subtask, bytes| {
            let mut one = Committables::clone(&committables(task(1, subtask, 0), 1));
            one.bytes = vec![0; bytes];
            Arc::new(one)
        };
        let half = COMMITTABLES_BYTES_MAX / 2 - COMMITTABLES_HEAD_BYTES;
        assert_eq!(check_room(&plan, &[of(0, half), of(1, half)]), Ok(()));
        let error = check_room(&plan, &[of(0, half), of(1, half + 1)]).unwrap_err();
        let name = &plan.vertices[1].operators[0].name;
        assert!(error.contains(&format!("of sink {name:?}")), "{error}");
        assert!(error.contains("50331649 bytes, and 50331648 are the most"), "{error}");
    }
}
