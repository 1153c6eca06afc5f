//! The parts of a checkpoint from which the processes of an attempt begin.

use std::collections::BTreeSet;
use std::sync::Arc;

use millstream_checkpoint::metadata::{Handle, Metadata, OperatorState, StateKind};
use millstream_checkpoint::plan::Subtask;
use millstream_graph::{JobGraph, JobVertex};
use millstream_mutants::Mutant;
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
        let metadata = self.metadata.as_ref().filter(|_| !Mutant::ReassignsFinishedSplit.lives());
        let operators = metadata.into_iter().flat_map(|metadata| &metadata.operators);
        let states = operators.filter_map(|operator| {
            let state = operator.coordinator.clone()?;
            Some(host::CoordinatorState { operator_id: operator.id.as_bytes().to_vec(), state })
        });
        states.collect()
    }

    /// The checkpoint; 0: none.
    pub(crate) fn checkpoint(&self) -> u64 {
        self.metadata.as_ref().map_or(0, |metadata| metadata.checkpoint.get())
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
    let index = if Mutant::RestoresOtherSubtask.lives() { 0 } else { subtask as usize };
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

#[cfg(test)]
mod tests {
    use millstream_checkpoint::metadata::{
        Content, GroupOffset, Owner, StateDescription, SubtaskState,
    };
    use millstream_protocol::host::state_handle;
    use millstream_types::{LeaderEpoch, MaxParallelism};

    use super::*;
    use crate::master::fixture;

    /// Two subtasks that each have a keyed state, a divided list, a union list and broadcast state.
    fn operator() -> OperatorState {
        let kinds = [
            StateKind::Value,
            StateKind::OperatorList,
            StateKind::OperatorUnion,
            StateKind::Broadcast,
        ];
        let max_parallelism = MaxParallelism::DEFAULT;
        let subtask = |index: u8| {
            let first = KeyGroup::range_of(u32::from(index), max_parallelism, 2).start;
            let handles = (0..4_u8).map(|state| Handle {
                state: u32::from(state),
                owner: Owner { epoch: LeaderEpoch::new(1), attempt: 0 },
                content: Content::Inline(vec![state, index]),
                groups: (state == 0)
                    .then(|| GroupOffset { group: KeyGroup::new(first), offset: 0 })
                    .into_iter()
                    .collect(),
            });
            SubtaskState { finished: false, positions: Vec::new(), handles: handles.collect() }
        };
        OperatorState {
            id: fixture::operator_id(0),
            uid: None,
            name: "kept".to_owned(),
            max_parallelism,
            key_schema: Some(Vec::new()),
            coordinator: None,
            states: kinds
                .map(|kind| StateDescription { name: "s".to_owned(), kind, schema: Vec::new() })
                .into(),
            subtasks: (0..2).map(subtask).collect(),
        }
    }

    /// The state and the writer of each handle that a subtask gets, and whether it is rescaled.
    fn handles(parallelism: u32, subtask: u32) -> (Vec<(u8, u8)>, bool) {
        let graph = fixture::graph(&[("kept", parallelism, "default")]);
        let snapshot = snapshot(&operator(), &graph.vertices[0], subtask);
        let handles = snapshot.handles.iter().map(|handle| match &handle.content {
            Some(state_handle::Content::Inline(bytes)) => (bytes[0], bytes[1]),
            other => panic!("{other:?}"),
        });
        (handles.collect(), snapshot.rescaled)
    }

    #[test]
    fn a_subtask_gets_its_own_lists_and_the_union_lists_of_all() {
        assert_eq!(handles(2, 0), (vec![(0, 0), (1, 0), (2, 0), (3, 0), (2, 1)], false));
        assert_eq!(handles(2, 1), (vec![(2, 0), (0, 1), (1, 1), (2, 1), (3, 1)], false));
    }

    #[test]
    fn a_subtask_of_another_parallelism_gets_the_lists_of_all_and_one_copy_of_what_is_broadcast() {
        let lists = |(handles, rescaled): (Vec<(u8, u8)>, bool)| {
            let lists: Vec<_> = handles.into_iter().filter(|(state, _)| *state > 0).collect();
            (lists, rescaled)
        };
        let all = (vec![(1, 0), (2, 0), (3, 0), (1, 1), (2, 1)], true);
        for (parallelism, subtask) in [(1, 0), (3, 0), (3, 2)] {
            assert_eq!(lists(handles(parallelism, subtask)), all, "{subtask} of {parallelism}");
        }
    }
}
