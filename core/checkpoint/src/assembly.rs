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

/// Makes the metadata.
///
/// # Errors
/// Subtasks of an operator contradict each other; the error is a sentence.
pub(crate) fn assemble(
    plan: &Plan,
    head: Head,
    coordinators: Vec<(OperatorId, Vec<u8>)>,
    reports: BTreeMap<Subtask, Report>,
    committables: Vec<Arc<Committables>>,
) -> Result<Metadata, String> {
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
