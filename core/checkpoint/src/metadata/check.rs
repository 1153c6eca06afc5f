//! Refuses metadata that contradicts itself, before it is written and after it was read.

use std::collections::BTreeSet;

use crate::metadata::{Content, Fault, Handle, Metadata, OperatorState, Section};

/// Looks for contradictions.
pub(crate) fn check(metadata: &Metadata) -> Result<(), (Section, Fault)> {
    let mut before = None;
    for (at, operator) in metadata.operators.iter().enumerate() {
        let section = Section::Operator(u32::try_from(at).unwrap_or(u32::MAX));
        if before.is_some_and(|before| before >= operator.id) {
            return Err((section, Fault::Operator(operator.id)));
        }
        before = Some(operator.id);
        check_operator(operator).map_err(|fault| (section, fault))?;
    }
    let mut before = None;
    for one in &metadata.committables {
        let key = (one.checkpoint, one.operator, one.subtask, one.owner);
        if before.is_some_and(|before| before >= key) {
            let (operator, checkpoint) = (one.operator, one.checkpoint);
            return Err((Section::Committables, Fault::Committables { operator, checkpoint }));
        }
        if one.checkpoint > metadata.checkpoint {
            let (operator, checkpoint) = (one.operator, one.checkpoint);
            return Err((Section::Committables, Fault::Later { operator, checkpoint }));
        }
        before = Some(key);
    }
    Ok(())
}

fn check_operator(operator: &OperatorState) -> Result<(), Fault> {
    let (subtasks, max_parallelism) = (operator.subtasks.len(), operator.max_parallelism.get());
    if subtasks > max_parallelism as usize {
        return Err(Fault::Subtasks { subtasks, max_parallelism });
    }
    let mut names = BTreeSet::new();
    if let Some(twice) =
        operator.states.iter().find(|state| !names.insert((state.kind.without_keys(), &state.name)))
    {
        return Err(Fault::StateTwice(twice.name.clone()));
    }
    let mut handles = operator.subtasks.iter().flat_map(|subtask| &subtask.handles);
    handles.try_for_each(|handle| check_handle(operator, handle))
}

fn check_handle(operator: &OperatorState, handle: &Handle) -> Result<(), Fault> {
    let declared = operator.states.len();
    if handle.state as usize >= declared {
        return Err(Fault::State { state: handle.state, declared });
    }
    if let Content::File(segment) = &handle.content
        && (segment.path.is_empty() || segment.offset.checked_add(segment.length).is_none())
    {
        return Err(Fault::Segment(segment.path.clone()));
    }
    let mut before = None;
    for at in &handle.groups {
        let group = at.group.get();
        let is_next = before.is_none_or(|(last, offset)| last <= group && offset <= at.offset);
        let is_within = u32::from(group) < operator.max_parallelism.get()
            && at.offset <= handle.content.length();
        if !is_next || !is_within {
            return Err(Fault::Group(group));
        }
        before = Some((group, at.offset));
    }
    Ok(())
}
