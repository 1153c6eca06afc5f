//! The state that a task begins from, out of the messages and files of a checkpoint.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_operators::{Result, bail, ensure, error};
use millstream_protocol::host::{self, state_handle::Content};
use millstream_state::{GroupSnapshot, KeyedSnapshot, StateKind, StateSnapshot};
use millstream_storage::block_on;
use millstream_task_checkpoint::RestoredOperator;
use millstream_types::OperatorId;

use super::HostCheckpointing;

/// The state that a task's operators begin from, where it is.
pub(crate) struct Restore {
    pub(crate) snapshots: Vec<host::OperatorSnapshot>,
    pub(crate) checkpointing: Arc<HostCheckpointing>,
}

impl Restore {
    /// Reads it.
    ///
    /// # Errors
    /// A file is gone, truncated or altered, which the error names, or the message is malformed.
    pub(crate) fn read(self) -> Result<BTreeMap<OperatorId, RestoredOperator>> {
        let mut operators = BTreeMap::new();
        for mut snapshot in self.snapshots {
            let operator = OperatorId::try_from(snapshot.operator_id.as_slice())?;
            let positions = std::mem::take(&mut snapshot.positions);
            let keyed = keyed(snapshot, &self.checkpointing)?.into_iter().collect();
            operators.insert(operator, RestoredOperator { positions, keyed });
        }
        Ok(operators)
    }
}

fn keyed(
    snapshot: host::OperatorSnapshot,
    checkpointing: &HostCheckpointing,
) -> Result<Option<KeyedSnapshot>> {
    let Some(key) = &snapshot.key_schema else { return Ok(None) };
    let (key, max_parallelism) = (postcard::from_bytes(key)?, snapshot.max_parallelism);
    let mut states = Vec::with_capacity(snapshot.states.len());
    for description in snapshot.states {
        let kind: StateKind = postcard::from_bytes(&description.schema)?;
        states.push(StateSnapshot { name: description.name, kind, groups: Vec::new() });
    }
    for handle in snapshot.handles {
        let state = states.get_mut(handle.state as usize);
        let state =
            state.ok_or_else(|| error!("a handle of the unknown state {}", handle.state))?;
        let content = content(handle.content, checkpointing)?;
        add_groups(state, &handle.groups, &content)?;
    }
    Ok(Some(KeyedSnapshot { key, max_parallelism, states }))
}

fn content(content: Option<Content>, checkpointing: &HostCheckpointing) -> Result<Vec<u8>> {
    let host::FileSegment { path, offset, length, crc32 } = match content {
        Some(Content::Inline(bytes)) => return Ok(bytes),
        Some(Content::File(file)) => file,
        None => bail!("a handle without content"),
    };
    let files = checkpointing.files.as_ref();
    let files =
        files.ok_or_else(|| error!("there is no directory to read state file {path} from"))?;
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
