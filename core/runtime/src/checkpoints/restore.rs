//! The state that a task begins from, out of the messages and files of a checkpoint.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_checkpoint_storage::CheckpointFiles;
use millstream_graph::JobVertex;
use millstream_operators::{Result, bail, ensure, error};
use millstream_protocol::host::{self, state_handle::Content};
use millstream_state::{
    GroupSnapshot, KeyedSnapshot, ListKind, ListSnapshot, RestoredLists, StateKind, StateSnapshot,
};
use millstream_storage::block_on;
use millstream_task_checkpoint::RestoredOperator;
use millstream_types::{OperatorId, Schema};

use super::HostCheckpointing;

/// The state that a task's operators begin from, where it is.
pub(crate) struct Restore {
    snapshots: Vec<host::OperatorSnapshot>,
    subtask: u32,
    parallelism: u32,
    checkpointing: Arc<HostCheckpointing>,
}

impl Restore {
    /// The state of a subtask of a vertex.
    pub(crate) fn new(
        snapshots: Vec<host::OperatorSnapshot>,
        subtask: u32,
        vertex: &JobVertex,
        checkpointing: &Arc<HostCheckpointing>,
    ) -> Self {
        let (parallelism, checkpointing) = (vertex.parallelism, Arc::clone(checkpointing));
        Self { snapshots, subtask, parallelism, checkpointing }
    }

    /// Reads it.
    ///
    /// # Errors
    /// A file is gone, truncated or altered, which the error names, or the message is malformed.
    pub(crate) fn read(self) -> Result<BTreeMap<OperatorId, RestoredOperator>> {
        let Self { snapshots, subtask, parallelism, checkpointing } = self;
        let mut operators = BTreeMap::new();
        for mut snapshot in snapshots {
            let operator = OperatorId::try_from(snapshot.operator_id.as_slice())?;
            let positions = std::mem::take(&mut snapshot.positions);
            let is_rescaled = snapshot.rescaled;
            let (keyed, lists) = states(snapshot, &checkpointing)?;
            let lists = match is_rescaled {
                true => RestoredLists::rescaled(lists, subtask, parallelism),
                false => RestoredLists::same(lists),
            };
            let keyed = keyed.into_iter().collect();
            operators.insert(operator, RestoredOperator { positions, keyed, lists });
        }
        Ok(operators)
    }
}

/// A state of a snapshot.
enum Described {
    Keyed(StateSnapshot),
    List(ListSnapshot),
}

impl Described {
    fn of(description: host::StateDescription) -> Result<Self> {
        let kind = match description.kind() {
            host::StateKind::OperatorList => ListKind::Divided,
            host::StateKind::OperatorUnion => ListKind::Union,
            host::StateKind::Broadcast => ListKind::Broadcast,
            _ => {
                let kind: StateKind = postcard::from_bytes(&description.schema)?;
                let (name, groups) = (description.name, Vec::new());
                return Ok(Self::Keyed(StateSnapshot { name, kind, groups }));
            }
        };
        let schema: Schema = postcard::from_bytes(&description.schema)?;
        let (name, items) = (description.name, Vec::new());
        Ok(Self::List(ListSnapshot { name, kind, schema, items }))
    }
}

/// The states of keys, and those without.
fn states(
    snapshot: host::OperatorSnapshot,
    checkpointing: &HostCheckpointing,
) -> Result<(Option<KeyedSnapshot>, Vec<ListSnapshot>)> {
    let states = snapshot.states.into_iter().map(Described::of);
    let mut states = states.collect::<Result<Vec<_>>>()?;
    for handle in snapshot.handles {
        let state = states.get_mut(handle.state as usize);
        let state =
            state.ok_or_else(|| error!("a handle of the unknown state {}", handle.state))?;
        let content = content(handle.content, checkpointing)?;
        match state {
            Described::Keyed(state) => add_groups(state, &handle.groups, &content)?,
            Described::List(list) => add_items(list, &content)?,
        }
    }
    let (mut keyed, mut lists) = (Vec::new(), Vec::new());
    for state in states {
        match state {
            Described::Keyed(state) => keyed.push(state),
            Described::List(list) => lists.push(list),
        }
    }
    let Some(key) = &snapshot.key_schema else { return Ok((None, lists)) };
    let (key, max_parallelism) = (postcard::from_bytes(key)?, snapshot.max_parallelism);
    Ok((Some(KeyedSnapshot { key, max_parallelism, states: keyed }), lists))
}

/// Adds the items of a content to a list.
fn add_items(list: &mut ListSnapshot, mut content: &[u8]) -> Result<()> {
    while !content.is_empty() {
        let item = content.split_first_chunk().and_then(|(length, rest)| {
            rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)
        });
        let Some((item, rest)) = item else {
            return Err(error!("item {} of state {:?} is cut off", list.items.len(), list.name));
        };
        list.items.push(item.to_vec());
        content = rest;
    }
    Ok(())
}

fn content(content: Option<Content>, checkpointing: &HostCheckpointing) -> Result<Vec<u8>> {
    let host::FileSegment { path, offset, length, crc32 } = match content {
        Some(Content::Inline(bytes)) => return Ok(bytes),
        Some(Content::File(file)) => file,
        None => bail!("a handle without content"),
    };
    // Those of a savepoint are elsewhere.
    let own = checkpointing.files.as_ref().filter(|files| files.contains(&path));
    let files = own.cloned().map_or_else(|| CheckpointFiles::of_file(&path), Ok)?;
    Ok(block_on(files.read(&path, offset, length, crc32))?)
}

/// Adds the key groups of a content to a state.
fn add_groups(
    state: &mut StateSnapshot,
    groups: &[host::GroupOffset],
    content: &[u8],
) -> Result<()> {
    let ends = groups.iter().skip(1).map(|group| group.offset).chain([content.len() as u64]);
    for (host::GroupOffset { group, offset }, end) in groups.iter().zip(ends) {
        let bytes = usize::try_from(*offset).ok().zip(usize::try_from(end).ok());
        let bytes = bytes.and_then(|(from, to)| content.get(from..to));
        let parts = bytes.and_then(|bytes| bytes.split_first_chunk());
        let Some((entries, bytes)) = parts else {
            return Err(error!("key group {group} of state {:?} is cut off", state.name));
        };
        ensure!(*group <= u32::from(u16::MAX), "there is no key group {group}");
        state.groups.push(GroupSnapshot {
            group: *group as u16,
            entries: u64::from_le_bytes(*entries),
            bytes: bytes.to_vec(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::{Owner, operators};
    use super::*;
    use millstream_task_checkpoint::OperatorPart;
    use millstream_types::LeaderEpoch;

    #[test]
    fn lists_are_read_as_they_were_written_and_cut_off_items_are_refused() {
        let items = vec![vec![1, 2, 3], Vec::new(), vec![4]];
        let (name, schema) = ("numbers".to_owned(), Schema::of::<u32>());
        let list = ListSnapshot { name, kind: ListKind::Union, schema, items };
        let operator = OperatorId::from_u128(1);
        let (positions, lists) = (Vec::new(), vec![list.clone()]);
        let part = OperatorPart { operator, positions, keyed: None, lists };
        let owner = Owner { epoch: LeaderEpoch::new(1), attempt: 0 };
        let mut contents = Vec::new();
        let mut snapshots = operators(vec![part], owner, &mut contents).unwrap();
        let mut snapshot = snapshots.remove(0);
        snapshot.handles[0].content = Some(Content::Inline(contents.remove(0).into_bytes()));
        let checkpointing = HostCheckpointing { files: None, inline_max: 0 };
        let (keyed, lists) = states(snapshot.clone(), &checkpointing).unwrap();
        assert!(keyed.is_none());
        assert_eq!(lists, [list]);
        let Some(Content::Inline(content)) = &mut snapshot.handles[0].content else { panic!() };
        content.pop();
        let said = states(snapshot, &checkpointing).unwrap_err().to_string();
        assert!(said.contains("item 2 of state \"numbers\" is cut off"), "{said}");
    }
}
