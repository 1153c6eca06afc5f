//! Snapshots of tasks as messages. A content is the key groups of one state, one behind the other;
//! each begins with the number of its entries, in eight bytes with the least first, since entries
//! may have no bytes at all. The content of a state without keys is its items, each behind the
//! number of its bytes, also in eight bytes.

use std::sync::Arc;

use millstream_operators::Result;
use millstream_protocol::host;
use millstream_state::{
    GroupSnapshot, KeyedSnapshot, ListKind, ListSnapshot, StateKind, StateSnapshot,
};
use millstream_task_checkpoint::{OperatorPart, PreCommitted};
use millstream_types::LeaderEpoch;

/// The attempt that writes state.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner {
    pub(crate) epoch: LeaderEpoch,
    pub(crate) attempt: u32,
}

/// Committables as a message.
fn committables(
    kept: &PreCommitted,
    subtask: u32,
    Owner { epoch, attempt }: Owner,
) -> host::Committables {
    host::Committables {
        operator_id: kept.operator.as_bytes().to_vec(),
        subtask,
        epoch: epoch.get(),
        attempt,
        checkpoint: kept.checkpoint.get(),
        count: kept.count,
        payload: kept.bytes.clone(),
    }
}

/// The operators' parts as messages, without the bytes of their states: those of each handle, in
/// order, are added to `contents`.
pub(crate) fn operators(
    parts: Vec<OperatorPart>,
    owner: Owner,
    contents: &mut Vec<Vec<u8>>,
) -> Result<Vec<host::OperatorSnapshot>> {
    let mut snapshots: Vec<host::OperatorSnapshot> = Vec::new();
    for OperatorPart { operator, positions, keyed, lists } in parts {
        let mut snapshot = host::OperatorSnapshot {
            operator_id: operator.as_bytes().to_vec(),
            positions,
            ..host::OperatorSnapshot::default()
        };
        if let Some(KeyedSnapshot { key, max_parallelism, states }) = keyed {
            snapshot.key_schema = Some(postcard::to_stdvec(&key)?);
            snapshot.max_parallelism = max_parallelism;
            for (number, state) in (0..).zip(states) {
                snapshot.states.push(description(&state)?);
                snapshot.handles.push(handle(number, state, owner, contents));
            }
        }
        for (number, list) in (snapshot.states.len() as u32..).zip(lists) {
            snapshot.states.push(list_description(&list)?);
            snapshot.handles.push(list_handle(number, &list, owner, contents));
        }
        snapshots.push(snapshot);
    }
    Ok(snapshots)
}

fn description(state: &StateSnapshot) -> Result<host::StateDescription> {
    let kind = match state.kind {
        StateKind::Values { .. } => host::StateKind::Value,
        StateKind::Timers(_) => host::StateKind::Timers,
    };
    Ok(host::StateDescription {
        name: state.name.clone(),
        kind: kind.into(),
        schema: postcard::to_stdvec(&state.kind)?,
    })
}

fn handle(
    number: u32,
    state: StateSnapshot,
    owner: Owner,
    contents: &mut Vec<Vec<u8>>,
) -> host::StateHandle {
    let length = state.groups.iter().map(|group| group.bytes.len() + size_of::<u64>()).sum();
    let mut content = Vec::with_capacity(length);
    let mut groups = Vec::with_capacity(state.groups.len());
    let mut parts = state.groups.into_iter().peekable();
    while let Some(GroupSnapshot { group, mut entries, bytes }) = parts.next() {
        let offset = content.len();
        groups.push(host::GroupOffset { group: u32::from(group), offset: offset as u64 });
        content.extend(entries.to_le_bytes());
        content.extend(bytes);
        while let Some(part) = parts.next_if(|part| part.group == group) {
            entries += part.entries;
            content.extend(part.bytes);
        }
        if let Some(count) = content.get_mut(offset..offset + size_of::<u64>()) {
            count.copy_from_slice(&entries.to_le_bytes());
        }
    }
    contents.push(content);
    let Owner { epoch, attempt } = owner;
    host::StateHandle { state: number, epoch: epoch.get(), attempt, content: None, groups }
}

fn list_description(list: &ListSnapshot) -> Result<host::StateDescription> {
    let kind = match list.kind {
        ListKind::Divided => host::StateKind::OperatorList,
        ListKind::Union => host::StateKind::OperatorUnion,
        ListKind::Broadcast => host::StateKind::Broadcast,
    };
    let schema = postcard::to_stdvec(&list.schema)?;
    Ok(host::StateDescription { name: list.name.clone(), kind: kind.into(), schema })
}

fn list_handle(
    number: u32,
    list: &ListSnapshot,
    owner: Owner,
    contents: &mut Vec<Vec<u8>>,
) -> host::StateHandle {
    let length = list.items.iter().map(|item| item.len() + size_of::<u64>()).sum();
    let mut content = Vec::with_capacity(length);
    for item in &list.items {
        content.extend((item.len() as u64).to_le_bytes());
        content.extend(item);
    }
    contents.push(content);
    let Owner { epoch, attempt } = owner;
    let groups = Vec::new();
    host::StateHandle { state: number, epoch: epoch.get(), attempt, content: None, groups }
}

/// All that a task keeps, as messages.
pub(crate) fn all_committables(
    kept: &[Arc<PreCommitted>],
    subtask: u32,
    owner: Owner,
) -> Vec<host::Committables> {
    kept.iter().map(|kept| committables(kept, subtask, owner)).collect()
}
