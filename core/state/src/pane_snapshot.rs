//! Snapshots of the values of panes.
//!
//! An entry is a key, the first time of a pane, and the value. It does not tell whether the pane is
//! open: that follows from the watermark. The bytes are cut by key group, as those of other keyed
//! states.

use std::ops::Range;
use std::sync::Arc;

use millstream_types::{Key, MaxParallelism, Schema, State};

use crate::copying::{GroupBytes, SharedWritten, SliceBudget, Written, lock};
use crate::error::{StateError, incompatible};
use crate::panes::{ClosedPanes, OpenPanes};
use crate::parts::{GroupSnapshot, PartSink};
use crate::restoring::{check_fit, hash_in};
use crate::snapshot::{
    KeyedSnapshot, Restored, RestoredGroup, StateKind, StateSnapshot, read_entries,
};

/// The name of the state.
const PANES: &str = "panes";

fn kind<V: State>() -> StateKind {
    StateKind::Values { schema: Schema::of::<(i64, V)>(), expires: false }
}

/// A snapshot of all panes that is being written. Panes whose windows are fired meanwhile are part
/// of it: each key group is written before it is taken out of its pane.
#[derive(Debug)]
pub struct PaneSlices(SharedWritten);

impl PaneSlices {
    /// Begins with the values as they are now. The parts that a sink takes are not in the
    /// snapshot.
    #[must_use]
    pub fn begin<K: Key, V: State + Clone>(
        open: &mut OpenPanes<K, V>,
        closed: &mut ClosedPanes<K, V>,
        sink: Option<&Arc<dyn PartSink>>,
    ) -> Self {
        let mut written = Written::of(open.groups().0);
        if let Some(sink) = sink {
            written.send_parts(sink, 0);
        }
        let written = written.shared();
        let write = |key: &K, pane: i64, value: &V, bytes: &mut GroupBytes| {
            bytes.add(PANES, &(key, pane, value))
        };
        open.begin_copy(&written, write);
        closed.begin_copy(&written, write);
        Self(written)
    }

    /// Writes a part of it; the snapshot once it is whole.
    ///
    /// # Errors
    /// A key or value has no bytes.
    pub fn write<K: Key, V: State + Clone>(
        &self,
        open: &mut OpenPanes<K, V>,
        closed: &mut ClosedPanes<K, V>,
        budget: &mut SliceBudget,
    ) -> Result<Option<KeyedSnapshot>, StateError> {
        let are_whole = open.copy_some(budget) && closed.copy_some(budget);
        let mut written = lock(&self.0);
        // Others are being taken apart.
        if !are_whole || written.tables > 0 {
            return Ok(None);
        }
        let groups = GroupSnapshot::all(written.take()?);
        let state = StateSnapshot { name: PANES.to_owned(), kind: kind::<V>(), groups };
        let max_parallelism = open.groups().1.get();
        Ok(Some(KeyedSnapshot { key: Schema::of::<K>(), max_parallelism, states: vec![state] }))
    }

    /// Drops it.
    pub fn end<K: Key, V: State + Clone>(
        self,
        open: &mut OpenPanes<K, V>,
        closed: &mut ClosedPanes<K, V>,
    ) {
        open.drop_copy();
        closed.drop_copy();
    }
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
