//! The parts of a checkpoint from which the processes of an attempt begin.

use std::collections::BTreeSet;
use std::sync::Arc;

use millstream_checkpoint::metadata::{Handle, Metadata, OperatorState, StateKind};
use millstream_checkpoint::plan::Subtask;
use millstream_graph::{JobGraph, JobVertex};
use millstream_protocol::host;
use millstream_types::{KeyGroup, VertexId};

use super::convert;

/// The beginning of an attempt.
#[derive(Debug, Clone, Default)]
pub(crate) struct Restoring {
    pub(super) graph: Option<Arc<JobGraph>>,
    /// The checkpoint; `None`: the job begins from nothing.
    pub(super) metadata: Option<Arc<Metadata>>,
    /// The subtasks that had finished.
    pub(super) finished: BTreeSet<Subtask>,
}

impl Restoring {
    /// The states of the coordinators.
    pub(super) fn coordinators(&self) -> Vec<host::CoordinatorState> {
        let operators = self.metadata.iter().flat_map(|metadata| &metadata.operators);
        let states = operators.filter_map(|operator| {
            let state = operator.coordinator.clone()?;
            Some(host::CoordinatorState { operator_id: operator.id.as_bytes().to_vec(), state })
        });
        states.collect()
    }

    /// Adds to a task what it begins from.
    pub(crate) fn add_to(&self, task: &mut host::Task) {
        let Some(metadata) = &self.metadata else { return };
        let Ok(vertex) = VertexId::try_from(task.vertex.as_slice()) else { return };
        let vertex = self.graph.as_ref().and_then(|graph| graph.vertex(vertex));
        let Some(vertex) = vertex else { return };
        let subtask = Subtask { vertex: vertex.id, index: task.subtask };
        task.restored = metadata.checkpoint.get();
        task.finished = self.finished.contains(&subtask);
        if task.finished {
            return;
        }
        let known = vertex.operators.iter().filter_map(|planned| {
            let mut operators = metadata.operators.iter();
            operators.find(|operator| operator.id == planned.id)
        });
        let snapshots = known.map(|operator| snapshot(operator, vertex, task.subtask));
        task.snapshots = snapshots.collect();
    }
}

/// The part of an operator's state that belongs to a subtask: handles of its key groups, its lists
/// and its splits. After a change of the parallelism splits are dealt out anew, and each subtask
/// gets the lists of all.
fn snapshot(operator: &OperatorState, vertex: &JobVertex, subtask: u32) -> host::OperatorSnapshot {
    let (parallelism, max) = (vertex.parallelism.max(1), vertex.max_parallelism);
    let groups = KeyGroup::range_of(subtask, max, parallelism);
    let index = subtask as usize;
    let is_rescaled = operator.subtasks.len() != parallelism as usize;
    let (mut handles, mut copied) = (Vec::new(), BTreeSet::new());
    for (number, part) in operator.subtasks.iter().enumerate() {
        let is_own = |handle: &&Handle| {
            let state = operator.states.get(handle.state as usize);
            match state.and_then(|state| state.kind.without_keys()) {
                Some(StateKind::OperatorUnion) => true,
                // One copy is as good as another.
                Some(StateKind::Broadcast) if is_rescaled => copied.insert(handle.state),
                Some(_) => is_rescaled || number == index,
                None => handle.groups.iter().any(|at| groups.contains(&at.group.get())),
            }
        };
        handles.extend(part.handles.iter().filter(is_own).map(convert::of_handle));
    }
    let positions = if is_rescaled {
        let all = operator.subtasks.iter().flat_map(|part| &part.positions);
        all.skip(index).step_by(parallelism as usize).cloned().collect()
    } else {
        operator.subtasks.get(index).map(|part| part.positions.clone()).unwrap_or_default()
    };
    host::OperatorSnapshot {
        operator_id: operator.id.as_bytes().to_vec(),
        max_parallelism: operator.max_parallelism.get(),
        key_schema: operator.key_schema.clone(),
        states: operator.states.iter().map(convert::of_description).collect(),
        positions,
        handles,
        rescaled: is_rescaled,
    }
}
