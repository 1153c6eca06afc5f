//! Snapshots of tasks as messages. A content is the key groups of one state, one behind the other;
//! each begins with the number of its entries, in eight bytes with the least first, since entries
//! may have no bytes at all. The content of a state without keys is its items, each behind the
//! number of its bytes, also in eight bytes.

use std::sync::Arc;

use bytes::Bytes;
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

/// The bytes of one state. Large parts of them are chunks that are not moved again.
#[derive(Debug, Default)]
pub(crate) struct Content {
    chunks: Vec<Bytes>,
    /// The bytes behind the chunks.
    last: Vec<u8>,
    /// The number of bytes.
    pub(crate) length: u64,
}

/// Parts of fewer bytes are put together.
const CHUNK_MIN: usize = 32 << 10;

impl Content {
    fn add(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        self.last.extend(bytes);
    }

    fn push(&mut self, bytes: Vec<u8>) {
        if bytes.len() < CHUNK_MIN {
            return self.add(&bytes);
        }
        self.length += bytes.len() as u64;
        self.cut();
        self.chunks.push(bytes.into());
    }

    fn cut(&mut self) {
        if !self.last.is_empty() {
            self.chunks.push(std::mem::take(&mut self.last).into());
        }
    }

    /// The bytes in chunks.
    pub(crate) fn into_chunks(mut self) -> Vec<Bytes> {
        self.cut();
        self.chunks
    }

    /// The bytes in one piece.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        match &self.chunks[..] {
            [] => self.last,
            _ => self.into_chunks().concat(),
        }
    }
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
    contents: &mut Vec<Content>,
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
    contents: &mut Vec<Content>,
) -> host::StateHandle {
    let mut content = Content::default();
    let mut groups = Vec::with_capacity(state.groups.len());
    let mut parts = state.groups.into_iter().peekable();
    while let Some(GroupSnapshot { group, mut entries, bytes }) = parts.next() {
        groups.push(host::GroupOffset { group: u32::from(group), offset: content.length });
        let mut of_group = vec![bytes];
        while let Some(part) = parts.next_if(|part| part.group == group) {
            entries += part.entries;
            of_group.push(part.bytes);
        }
        content.add(&entries.to_le_bytes());
        of_group.into_iter().for_each(|bytes| content.push(bytes));
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
    contents: &mut Vec<Content>,
) -> host::StateHandle {
    let mut content = Content::default();
    for item in &list.items {
        content.add(&(item.len() as u64).to_le_bytes());
        content.add(item);
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
