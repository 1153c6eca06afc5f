//! Snapshots of the values of panes.
//!
//! An entry is a key, the first time of a pane, and the value. It does not tell whether the pane is
//! open: that follows from the watermark. The bytes are cut by key group, as those of other keyed
//! states.

use std::ops::Range;

use millstream_types::{Key, KeyGroup, MaxParallelism, Schema, State};

use crate::codec::encode;
use crate::error::{StateError, incompatible};
use crate::panes::{ClosedPanes, OpenPanes};
use crate::restoring::{check_fit, hash_in};
use crate::snapshot::{
    GroupSnapshot, KeyedSnapshot, Restored, RestoredGroup, StateKind, StateSnapshot, read_entries,
};

/// The name of the state.
const PANES: &str = "panes";

fn kind<V: State>() -> StateKind {
    StateKind::Values { schema: Schema::of::<(i64, V)>(), expires: false }
}

/// Writes the values of all panes of these key groups.
///
/// # Errors
/// A key or value has no bytes.
pub fn snapshot_panes<K: Key, V: State + Clone>(
    open: &OpenPanes<K, V>,
    closed: &ClosedPanes<K, V>,
    groups: Range<u16>,
    max_parallelism: MaxParallelism,
) -> Result<KeyedSnapshot, StateError> {
    let first = groups.start;
    let mut all: Vec<_> =
        groups.map(|group| GroupSnapshot { group, entries: 0, bytes: Vec::new() }).collect();
    let mut write = |key: &K, pane: i64, value: &V| {
        let group = KeyGroup::of_hash(key.stable_hash(), max_parallelism).get();
        let Some(group) = all.get_mut(usize::from(group.wrapping_sub(first))) else {
            return Ok(());
        };
        group.entries += 1;
        let bytes = std::mem::take(&mut group.bytes);
        group.bytes = encode(PANES, &(key, pane, value), bytes)?;
        Ok(())
    };
    open.each(&mut write)?;
    closed.each(&mut write)?;
    all.retain(|group| group.entries > 0);
    let state = StateSnapshot { name: PANES.to_owned(), kind: kind::<V>(), groups: all };
    let max_parallelism = max_parallelism.get();
    Ok(KeyedSnapshot { key: Schema::of::<K>(), max_parallelism, states: vec![state] })
}

/// The values of panes out of snapshots: those of all subtasks that had any of these key groups.
#[derive(Debug)]
pub struct RestoredPanes {
    groups: Vec<RestoredGroup>,
    max_parallelism: MaxParallelism,
}

impl RestoredPanes {
    /// Those of these key groups of `max_parallelism`, with keys and values of these types.
    ///
    /// # Errors
    /// The keys or values are of other types, or there are other key groups or another state.
    pub fn of<K: Key, V: State>(
        snapshots: Vec<KeyedSnapshot>,
        groups: &Range<u16>,
        max_parallelism: MaxParallelism,
    ) -> Result<Self, StateError> {
        check_fit::<K>(&snapshots, max_parallelism)?;
        let mut restored = Restored::default();
        restored.add(snapshots);
        let mut all = restored.take(PANES, &kind::<V>())?;
        if let Some(other) = restored.names().into_iter().next() {
            let reason = "the operator has windows of a fixed length now, and no such state";
            return Err(incompatible(other, reason.to_owned()));
        }
        all.retain(|entries| groups.contains(&entries.group.group));
        Ok(Self { groups: all, max_parallelism })
    }

    /// Hands each value to `put`: with the hash of its key, the key, and the first time of its
    /// pane. `put` says whether there is such a pane.
    ///
    /// # Errors
    /// The bytes are damaged, or there is no such pane.
    pub fn each<K: Key, V: State>(
        self,
        mut put: impl FnMut(u64, K, i64, V) -> bool,
    ) -> Result<(), StateError> {
        for entries in &self.groups {
            let group = entries.group.group;
            read_entries(PANES, entries, |key: K, (pane, value): (i64, V)| {
                let hash = hash_in(PANES, group, &key, self.max_parallelism)?;
                if put(hash, key, pane, value) {
                    return Ok(());
                }
                let reason = format!(
                    "the program's windows are cut at other times than {pane} ms: they must have \
                     the same size, slide and offset as before"
                );
                Err(incompatible(PANES, reason))
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
