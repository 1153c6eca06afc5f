//! Whether a job can start from a checkpoint or savepoint, as far as its metadata tells.

use millstream_checkpoint::metadata::{Metadata, OperatorState, StateKind};
use millstream_graph::{ChainedOperator, JobGraph, JobVertex};
use millstream_types::OperatorId;

/// The most operators that a sentence names.
const NAMED_MAX: usize = 3;
/// The name of the list with an operator's watermark. It alone is no state that can be lost.
const WATERMARK: &str = "watermark";

/// Checks that every operator with state is in the job, unless others are to be ignored, and that
/// none has another number of key groups. Results of sinks that the job lacks are left out.
///
/// # Errors
/// The job cannot start from it; the sentence names operator and remedy.
pub(super) fn check(
    metadata: &mut Metadata,
    graph: &JobGraph,
    ignore_unclaimed: bool,
) -> Result<(), String> {
    let results_of = |id: OperatorId| metadata.committables.iter().any(|one| one.operator == id);
    let unclaimed = metadata.operators.iter().filter(|operator| {
        find(graph, operator.id).is_none() && (has_state(operator) || results_of(operator.id))
    });
    let unclaimed: Vec<String> = unclaimed.map(name).collect();
    if !unclaimed.is_empty() && !ignore_unclaimed {
        let named = unclaimed.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
        let more = match unclaimed.len().saturating_sub(NAMED_MAX) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        return Err(format!(
            "it has state of {named}{more}, which the job does not have: give an operator this \
             uid, or leave the state out with --allowNonRestoredState \
             (execution.state-recovery.ignore-unclaimed-state)"
        ));
    }
    for stored in &metadata.operators {
        let Some((vertex, _)) = find(graph, stored.id) else { continue };
        let (was, is) = (stored.max_parallelism.get(), vertex.max_parallelism.get());
        if stored.key_schema.is_some() && was != is {
            return Err(format!(
                "{} was stored with a max parallelism of {was}, and the job has {is}: the key \
                 groups of its state cannot be told apart, so set the max parallelism to {was}",
                name(stored)
            ));
        }
    }
    metadata.committables.retain(|one| find(graph, one.operator).is_some());
    Ok(())
}

fn find(graph: &JobGraph, id: OperatorId) -> Option<(&JobVertex, &ChainedOperator)> {
    graph.vertices.iter().find_map(|vertex| {
        let mut operators = vertex.operators.iter();
        Some((vertex, operators.find(|operator| operator.id == id)?))
    })
}

fn has_state(operator: &OperatorState) -> bool {
    let is_watermark = |place: u32| {
        let state = operator.states.get(place as usize);
        state.is_some_and(|it| it.name == WATERMARK && it.kind == StateKind::OperatorList)
    };
    operator.coordinator.is_some()
        || operator.subtasks.iter().any(|subtask| {
            let mut handles = subtask.handles.iter();
            !subtask.positions.is_empty() || handles.any(|handle| !is_watermark(handle.state))
        })
}

fn name(operator: &OperatorState) -> String {
    match &operator.uid {
        Some(uid) => format!("operator {:?} (uid {uid:?})", operator.name),
        None => format!("operator {:?}", operator.name),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use millstream_checkpoint::metadata::{Committables, Kind, Owner, SubtaskState};
    use millstream_types::{CheckpointId, JobId, LeaderEpoch, MaxParallelism, Timestamp};

    use super::*;
    use crate::master::fixture;

    /// A savepoint with keyed state and an unpublished result of one operator.
    fn savepoint(max_parallelism: u32) -> Metadata {
        let (operator, checkpoint) = (fixture::operator_id(0), CheckpointId::new(40));
        let counts = OperatorState {
            id: operator,
            uid: Some("counts".to_owned()),
            name: "count".to_owned(),
            max_parallelism: MaxParallelism::new(max_parallelism).unwrap(),
            key_schema: Some(Vec::new()),
            coordinator: None,
            states: Vec::new(),
            subtasks: vec![SubtaskState { positions: vec![vec![1]], ..SubtaskState::default() }],
        };
        let committables = Committables {
            operator,
            subtask: 0,
            owner: Owner { epoch: LeaderEpoch::new(1), attempt: 0 },
            checkpoint,
            count: 1,
            bytes: vec![9],
        };
        Metadata {
            job: JobId::from_u128(8),
            checkpoint,
            kind: Kind::Savepoint,
            triggered: Timestamp::from_millis(0),
            operators: vec![counts],
            committables: vec![Arc::new(committables)],
        }
    }

    #[test]
    fn an_operator_that_the_job_lacks_is_named_or_left_out() {
        let mut with_it = savepoint(128);
        assert_eq!(check(&mut with_it, &fixture::graph(&[("count", 1, "default")]), false), Ok(()));
        assert_eq!(with_it.committables.len(), 1);

        let other = fixture::graph(&[]);
        let said = check(&mut savepoint(128), &other, false).unwrap_err();
        assert!(said.starts_with(r#"it has state of operator "count" (uid "counts"), "#), "{said}");
        assert!(said.contains("--allowNonRestoredState"), "{said}");
        let mut without = savepoint(128);
        assert_eq!(check(&mut without, &other, true), Ok(()));
        assert_eq!(without.committables, [], "the job has no sink for it");
    }

    #[test]
    fn another_max_parallelism_is_refused_with_both() {
        let graph = fixture::graph(&[("count", 1, "default")]);
        let said = check(&mut savepoint(64), &graph, true).unwrap_err();
        assert!(
            said.contains("stored with a max parallelism of 64, and the job has 128"),
            "{said}"
        );
        assert!(said.ends_with("set the max parallelism to 64"), "{said}");
    }
}
