//! An operator's keyed states and timers, restored from snapshots.

use std::collections::BTreeSet;

use millstream_mutants::Mutant;
use millstream_types::{Key, KeyGroup, MaxParallelism, Schema, State};

use crate::backend::KeyedBackend;
use crate::error::{StateError, incompatible};
use crate::evolution::{Compatibility, compare};
use crate::keyed::Table;
use crate::snapshot::{KeyedSnapshot, StateKind, read_entries};
use crate::timer_queue::{Alarm, Timers};

impl<K: Key> KeyedBackend<K> {
    /// Gives the states and timers that are declared from now on the entries that these snapshots
    /// have of this subtask's key groups: those of all subtasks that had any of them.
    ///
    /// # Errors
    /// [`StateError::KeyType`] or [`StateError::MaxParallelism`]. Whether a state fits is known
    /// when it is declared: [`StateError::Incompatible`].
    pub fn restore(&mut self, snapshots: Vec<KeyedSnapshot>) -> Result<(), StateError> {
        check_fit::<K>(&snapshots, self.max_parallelism())?;
        self.restored.add(snapshots);
        Ok(())
    }

    /// The names of states and timers that snapshots have and that were not declared.
    #[must_use]
    pub fn not_declared(&self) -> BTreeSet<&str> {
        self.restored.names()
    }

    /// Fills the table of a state that is declared now.
    pub(crate) fn restore_values<V: State>(
        &mut self,
        table: &mut Table<K, V>,
        state: &'static str,
        expires: bool,
    ) -> Result<(), StateError> {
        if self.restored.is_empty() {
            return Ok(());
        }
        let kind = StateKind::Values { schema: Schema::of::<V>(), expires };
        for entries in self.restored.take(state, &kind)? {
            let group = entries.group.group;
            if !self.groups().contains(&group) {
                continue;
            }
            if Mutant::SkipsKeyGroup.lives() && group < self.groups().start + 8 {
                continue;
            }
            read_entries(state, &entries, |key: K, value: V| {
                let hash = self.hash_in(state, group, &key)?;
                match table.replace(hash, &key, Some(value))? {
                    None => Ok(()),
                    Some(_) => Err(self.twice(state, group)),
                }
            })?;
        }
        table.leave()
    }

    /// Sets the timers of a name that is declared now.
    pub(crate) fn restore_timers(&mut self, timers: Timers) -> Result<(), StateError> {
        let state = timers.name;
        for entries in self.restored.take(state, &StateKind::Timers(timers.domain))? {
            let group = entries.group.group;
            if !self.groups().contains(&group) {
                continue;
            }
            let mut all = Vec::new();
            read_entries(state, &entries, |millis: i64, key: K| {
                let hash = self.hash_in(state, group, &key)?;
                all.push((Alarm { millis, number: timers.number, hash }, key));
                Ok(())
            })?;
            for (alarm, key) in all {
                if !self.timers.queue_mut(timers.domain).set(alarm, &key) {
                    return Err(self.twice(state, group));
                }
            }
        }
        Ok(())
    }

    /// The hash of a key that was found in this key group.
    fn hash_in(&self, state: &str, group: u16, key: &K) -> Result<u64, StateError> {
        hash_in(state, group, key, self.max_parallelism())
    }

    fn twice(&self, state: &str, group: u16) -> StateError {
        incompatible(
            state,
            format!("key group {group} has an entry twice: two snapshots have the same part of it"),
        )
    }
}

/// Checks that snapshots are of these keys and cut into so many key groups.
pub(crate) fn check_fit<K: Key>(
    snapshots: &[KeyedSnapshot],
    max_parallelism: MaxParallelism,
) -> Result<(), StateError> {
    let (key, is) = (Schema::of::<K>(), max_parallelism.get());
    for snapshot in snapshots {
        // A key is found by its hash, so it is read as it was written or not at all.
        if compare(&snapshot.key, &key) != Ok(Compatibility::Same) {
            let (was, is) = (snapshot.key.to_string(), key.to_string());
            return Err(StateError::KeyType { was, is });
        }
        if snapshot.max_parallelism != is {
            return Err(StateError::MaxParallelism { was: snapshot.max_parallelism, is });
        }
    }
    Ok(())
}

/// The hash of a key that was found in this key group.
pub(crate) fn hash_in<K: Key>(
    state: &str,
    group: u16,
    key: &K,
    max_parallelism: MaxParallelism,
) -> Result<u64, StateError> {
    let hash = key.stable_hash();
    let own = KeyGroup::of_hash(hash, max_parallelism).get();
    if own == group {
        return Ok(hash);
    }
    Err(incompatible(
        state,
        format!(
            "a key of key group {group} belongs to key group {own}: the snapshot is damaged, or \
             the key's type is hashed in another way now"
        ),
    ))
}

#[cfg(test)]
mod tests;
