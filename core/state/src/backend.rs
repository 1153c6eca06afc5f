//! An operator's keyed states and its current key.

use std::any::Any;
use std::ops::Range;

use millstream_types::{Key, MaxParallelism};

use crate::table::GroupTable;

/// Why a state cannot be used.
///
/// ```
/// # use millstream_state::*;
/// # use millstream_types::{Key, MaxParallelism};
/// # let mut states = KeyedBackend::<u32>::new(0..128, MaxParallelism::DEFAULT);
/// let first: ValueState<u64> = states.value("count")?;
/// let second = states.value::<u64>("count").unwrap_err();
/// assert!(matches!(second, StateError::Duplicate(name) if name == "count"));
/// # let _ = first;
/// # Ok::<(), StateError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Two states of one operator have one name.
    #[error("state {0:?} is declared twice in one operator: give each state a name of its own")]
    Duplicate(String),
    /// A handle is used in another operator than the one that declared it.
    #[error("state {0:?} belongs to another operator: declare it where it is used")]
    Foreign(&'static str),
}

/// The context of a state handle: the keyed states and the key of the current record.
pub trait KeyedContext {
    /// The key's type.
    type Key: Key;

    /// The operator's states, to read.
    fn backend(&self) -> &KeyedBackend<Self::Key>;

    /// The operator's states, to change.
    fn backend_mut(&mut self) -> &mut KeyedBackend<Self::Key>;
}

/// The keyed states of one operator's subtask.
///
/// ```
/// # use millstream_state::*;
/// # use millstream_types::{Key, MaxParallelism};
/// # let mut states = KeyedBackend::<u32>::new(0..128, MaxParallelism::DEFAULT);
/// let last: ValueState<String> = states.value("last")?;
/// let all: ListState<String> = states.list("all")?;
/// let counts: MapState<String, u64> = states.map("counts")?;
/// assert!(states.value::<u64>("last").is_err()); // each state has a name of its own
/// # let _ = (last, all, counts);
/// # Ok::<(), StateError>(())
/// ```
#[derive(Debug)]
pub struct KeyedBackend<K> {
    groups: Range<u16>,
    max_parallelism: MaxParallelism,
    names: Vec<&'static str>,
    tables: Vec<Box<dyn AnyTable<K>>>,
    current: Option<(K, u64)>,
    /// Undoes the changes since the key was set; `None` while changes are not remembered.
    undo: Option<Vec<Undo<K>>>,
}

/// A state's table without the type of its values.
trait AnyTable<K>: Send {
    fn as_any(&self) -> &dyn Any;
    fn as_any_mut(&mut self) -> &mut dyn Any;
    fn contains(&self, hash: u64, key: &K) -> bool;
    fn keys_of_group<'a>(&'a self, at: usize) -> Box<dyn Iterator<Item = &'a K> + 'a>;
}

impl<K: Key, V: Send + 'static> AnyTable<K> for GroupTable<K, V> {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn contains(&self, hash: u64, key: &K) -> bool {
        self.get(hash, key).is_some()
    }

    fn keys_of_group<'a>(&'a self, at: usize) -> Box<dyn Iterator<Item = &'a K> + 'a> {
        Box::new(self.keys_of_group(at))
    }
}

impl<K> std::fmt::Debug for dyn AnyTable<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").finish_non_exhaustive()
    }
}

/// Undoes one change of the current key's state.
struct Undo<K> {
    slot: usize,
    run: BackendChange<K>,
}

type BackendChange<K> = Box<dyn FnOnce(&mut KeyedBackend<K>) + Send>;

impl<K> std::fmt::Debug for Undo<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Undo").field("slot", &self.slot).finish_non_exhaustive()
    }
}

impl<K: Key> KeyedBackend<K> {
    /// No state yet, for these key groups.
    #[must_use]
    pub fn new(groups: Range<u16>, max_parallelism: MaxParallelism) -> Self {
        let (names, tables) = (Vec::new(), Vec::new());
        Self { groups, max_parallelism, names, tables, current: None, undo: None }
    }

    /// Declares a state under a name that this operator has not used yet.
    pub(crate) fn declare<V: Send + 'static>(
        &mut self,
        name: &'static str,
    ) -> Result<Slot, StateError> {
        if self.names.contains(&name) {
            return Err(StateError::Duplicate(name.to_owned()));
        }
        let table = GroupTable::<K, V>::new(self.groups.clone(), self.max_parallelism);
        self.names.push(name);
        self.tables.push(Box::new(table));
        Ok(Slot { index: self.tables.len() - 1, name })
    }

    /// Makes this key the current one.
    #[inline]
    pub fn set_key(&mut self, key: K, hash: u64) {
        self.current = Some((key, hash));
        if let Some(undo) = &mut self.undo {
            undo.clear();
        }
    }

    /// Makes a copy of this key the current one, in the memory of the one before it.
    #[inline]
    pub fn copy_key(&mut self, key: &K, hash: u64) {
        match &mut self.current {
            Some((current, current_hash)) => {
                current.copy_from(key);
                *current_hash = hash;
            }
            None => self.current = Some((key.clone(), hash)),
        }
        if let Some(undo) = &mut self.undo {
            undo.clear();
        }
    }

    /// The keys that have a value in any state, each once, of the key group at this place (from 0);
    /// `None` beyond the last group.
    #[must_use]
    pub fn keys_of_group(&self, at: usize) -> Option<Vec<K>> {
        if at >= self.groups.len() {
            return None;
        }
        let mut keys = Vec::new();
        for (number, table) in self.tables.iter().enumerate() {
            let earlier = self.tables.get(..number).unwrap_or_default();
            keys.extend(
                table
                    .keys_of_group(at)
                    .filter(|key| {
                        let hash = key.stable_hash();
                        !earlier.iter().any(|table| table.contains(hash, key))
                    })
                    .cloned(),
            );
        }
        Some(keys)
    }

    /// From now on remembers how to undo what is done to the state of the key at hand. Changes cost
    /// more then, and those in place a copy of the value.
    pub fn keep_undo(&mut self) {
        self.undo.get_or_insert_default();
    }

    /// Undoes what was done since the key was set, if that was remembered.
    pub fn take_back(&mut self) {
        while let Some(undo) = self.undo.as_mut().and_then(Vec::pop) {
            (undo.run)(self);
        }
    }

    /// Whether changes are remembered.
    #[inline]
    pub(crate) const fn keeps_undo(&self) -> bool {
        self.undo.is_some()
    }

    /// Whether this state was changed since the key was set, as far as that is remembered.
    pub(crate) fn is_changed(&self, slot: Slot) -> bool {
        self.undo.iter().flatten().any(|undo| undo.slot == slot.index)
    }

    /// Remembers how to undo a change; `undo` is given the table, the key's hash and the key.
    #[inline]
    pub(crate) fn on_take_back<V: Send + 'static>(
        &mut self,
        slot: Slot,
        undo: impl FnOnce(&mut GroupTable<K, V>, u64, &K) + Send + 'static,
    ) {
        if let Some(all) = &mut self.undo {
            let run = Box::new(move |backend: &mut Self| {
                if let Ok((table, hash, key)) = backend.at_mut::<V>(slot) {
                    undo(table, hash, key);
                }
            });
            all.push(Undo { slot: slot.index, run });
        }
    }

    /// The current key.
    ///
    /// # Panics
    /// Outside of a record's processing: an operator always sets the key first.
    #[inline]
    #[must_use]
    pub fn key(&self) -> &K {
        &self.current.as_ref().expect("the operator sets the key before user code runs").0
    }

    /// The table of a declared state with the current key and its hash, to read.
    #[inline]
    pub(crate) fn at<V: Send + 'static>(
        &self,
        slot: Slot,
    ) -> Result<(&GroupTable<K, V>, u64, &K), StateError> {
        let table = self.tables.get(slot.index).and_then(|table| table.as_any().downcast_ref());
        match (table, &self.current) {
            (Some(table), Some((key, hash))) => Ok((table, *hash, key)),
            (None, _) | (_, None) => Err(StateError::Foreign(slot.name)),
        }
    }

    /// The table of a declared state with the current key and its hash, to change.
    #[inline]
    pub(crate) fn at_mut<V: Send + 'static>(
        &mut self,
        slot: Slot,
    ) -> Result<(&mut GroupTable<K, V>, u64, &K), StateError> {
        let table =
            self.tables.get_mut(slot.index).and_then(|table| table.as_any_mut().downcast_mut());
        match (table, &self.current) {
            (Some(table), Some((key, hash))) => Ok((table, *hash, key)),
            (None, _) | (_, None) => Err(StateError::Foreign(slot.name)),
        }
    }
}

impl<K: Key> KeyedContext for KeyedBackend<K> {
    type Key = K;

    fn backend(&self) -> &Self {
        self
    }

    fn backend_mut(&mut self) -> &mut Self {
        self
    }
}

/// Names the table of a state handle.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot {
    index: usize,
    name: &'static str,
}
