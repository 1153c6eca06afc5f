//! Broadcast state: maps of which each subtask has a copy, made of records that all subtasks see.
//!
//! The maps are kept on the heap, in order of their names: subtasks that have seen the same records
//! go through them in the same order. A function with a `&BroadcastMaps` can read them, one with a
//! `&mut BroadcastMaps` can change them too: the compiler keeps readers from writing.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use millstream_types::{Schema, State};

use crate::codec::{decode, encode};
use crate::error::StateError;
use crate::lists::{ListKind, ListSnapshot, RestoredLists};

/// A map of which each subtask has a copy; the handle by which a function reads and changes it.
///
/// ```
/// # use millstream_state::*;
/// # let mut states = BroadcastBackend::default();
/// let limits: BroadcastState<String, u64> = states.declare("limits")?;
/// # let maps = states.maps_mut();
/// // In a function that is given `maps: &mut BroadcastMaps`:
/// let (a, b) = ("a".to_owned(), "b".to_owned());
/// limits.put(maps, a.clone(), 1)?;
/// limits.put(maps, b.clone(), 2)?;
/// assert_eq!(limits.remove(maps, &b)?, Some(2));
/// // There, and in a function that is given `maps: &BroadcastMaps`:
/// assert_eq!(limits.get(maps, &a)?, Some(&1));
/// assert!(limits.contains(maps, &a)? && !limits.contains(maps, &b)?);
/// for (name, limit) in limits.entries(maps)? {
///     assert_eq!((name, limit), (&a, &1));
/// }
/// limits.clear(maps)?;
/// assert!(limits.is_empty(maps)?);
/// # Ok::<(), StateError>(())
/// ```
#[derive(Debug)]
pub struct BroadcastState<M, V> {
    slot: usize,
    name: &'static str,
    value: PhantomData<fn() -> (M, V)>,
}

impl<M: State + Ord + Clone, V: State> BroadcastState<M, V> {
    /// The value of this name.
    ///
    /// # Errors
    /// [`StateError::Foreign`].
    #[inline]
    pub fn get<'a>(&self, maps: &'a BroadcastMaps, name: &M) -> Result<Option<&'a V>, StateError> {
        Ok(self.map(maps)?.get(name))
    }

    /// Whether there is a value of this name.
    ///
    /// # Errors
    /// [`StateError::Foreign`].
    pub fn contains(&self, maps: &BroadcastMaps, name: &M) -> Result<bool, StateError> {
        Ok(self.map(maps)?.contains_key(name))
    }

    /// Whether the map has no entry.
    ///
    /// # Errors
    /// [`StateError::Foreign`].
    pub fn is_empty(&self, maps: &BroadcastMaps) -> Result<bool, StateError> {
        Ok(self.map(maps)?.is_empty())
    }

    /// The names and their values, in order of the names.
    ///
    /// # Errors
    /// [`StateError::Foreign`].
    pub fn entries<'a>(
        &self,
        maps: &'a BroadcastMaps,
    ) -> Result<impl ExactSizeIterator<Item = (&'a M, &'a V)> + use<'a, M, V>, StateError> {
        Ok(self.map(maps)?.iter())
    }

    /// Sets the value of a name.
    ///
    /// # Errors
    /// [`StateError::Foreign`].
    pub fn put(&self, maps: &mut BroadcastMaps, name: M, value: V) -> Result<(), StateError> {
        let undone = maps.undo.is_some().then(|| name.clone());
        let before = self.map_mut(maps)?.insert(name, value);
        if let Some(name) = undone {
            self.on_take_back(maps, move |map| {
                restore(map, name, before);
                Ok(())
            });
        }
        Ok(())
    }

    /// Removes the value of a name; the value if there was one.
    ///
    /// # Errors
    /// [`StateError::Foreign`], or [`StateError::Codec`] if changes are remembered.
    pub fn remove(&self, maps: &mut BroadcastMaps, name: &M) -> Result<Option<V>, StateError> {
        let Some(value) = self.map_mut(maps)?.remove(name) else { return Ok(None) };
        if maps.undo.is_some() {
            let (state, name) = (self.name, name.clone());
            let before = encode(state, &value, Vec::new())?;
            self.on_take_back(maps, move |map| {
                restore(map, name, Some(decode(state, &before)?));
                Ok(())
            });
        }
        Ok(Some(value))
    }

    /// Removes all entries.
    ///
    /// # Errors
    /// [`StateError::Foreign`].
    pub fn clear(&self, maps: &mut BroadcastMaps) -> Result<(), StateError> {
        let before = std::mem::take(self.map_mut(maps)?);
        if maps.undo.is_some() {
            self.on_take_back(maps, move |map| {
                *map = before;
                Ok(())
            });
        }
        Ok(())
    }

    #[inline]
    fn map<'a>(&self, maps: &'a BroadcastMaps) -> Result<&'a BTreeMap<M, V>, StateError> {
        let map = maps.maps.get(self.slot).and_then(|map| map.downcast_ref());
        map.ok_or(StateError::Foreign(self.name))
    }

    fn map_mut<'a>(
        &self,
        maps: &'a mut BroadcastMaps,
    ) -> Result<&'a mut BTreeMap<M, V>, StateError> {
        let map = maps.maps.get_mut(self.slot).and_then(|map| map.downcast_mut());
        map.ok_or(StateError::Foreign(self.name))
    }

    /// Remembers how to undo a change of this map.
    fn on_take_back(
        &self,
        maps: &mut BroadcastMaps,
        undo: impl FnOnce(&mut BTreeMap<M, V>) -> Result<(), StateError> + Send + 'static,
    ) {
        let Self { slot, name, value } = *self;
        if let Some(all) = &mut maps.undo {
            all.push(Box::new(move |maps| undo(Self { slot, name, value }.map_mut(maps)?)));
        }
    }
}

fn restore<M: Ord, V>(map: &mut BTreeMap<M, V>, name: M, before: Option<V>) {
    match before {
        Some(value) => map.insert(name, value),
        None => map.remove(&name),
    };
}

/// Writes the entries of a map.
type Write = fn(&'static str, Schema, &dyn Any) -> Result<ListSnapshot, StateError>;

fn write<M: State + Ord, V: State>(
    name: &'static str,
    schema: Schema,
    map: &dyn Any,
) -> Result<ListSnapshot, StateError> {
    let map = map.downcast_ref::<BTreeMap<M, V>>().ok_or(StateError::Foreign(name))?;
    ListSnapshot::of(name, ListKind::Broadcast, schema, map)
}

type Undo = Box<dyn FnOnce(&mut BroadcastMaps) -> Result<(), StateError> + Send>;

/// A subtask's copies of the broadcast states that its function has declared. A function reads them
/// by `&BroadcastMaps` and changes them by `&mut BroadcastMaps`, each with a [`BroadcastState`].
pub struct BroadcastMaps {
    maps: Vec<Box<dyn Any + Send>>,
    /// Undoes the changes of the record at hand; `None` while changes are not remembered.
    undo: Option<Vec<Undo>>,
}

impl fmt::Debug for BroadcastMaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BroadcastMaps").field("maps", &self.maps.len()).finish_non_exhaustive()
    }
}

/// The broadcast states of one operator's subtask: their declarations, and their maps.
#[derive(Debug)]
pub struct BroadcastBackend {
    declared: Vec<(&'static str, Schema, Write)>,
    maps: BroadcastMaps,
    /// The lists of which states take theirs when they are declared.
    restored: RestoredLists,
}

impl Default for BroadcastBackend {
    fn default() -> Self {
        Self::restored(RestoredLists::default())
    }
}

impl BroadcastBackend {
    /// States that begin with their entries in these lists.
    #[must_use]
    pub const fn restored(restored: RestoredLists) -> Self {
        let maps = BroadcastMaps { maps: Vec::new(), undo: None };
        Self { declared: Vec::new(), maps, restored }
    }

    /// The name of a state in the lists that was not declared.
    #[must_use]
    pub fn not_declared(&self) -> Option<&str> {
        self.restored.not_taken(ListKind::Broadcast)
    }

    /// Writes all maps.
    ///
    /// # Errors
    /// An entry has no bytes.
    pub fn snapshot(&self) -> Result<Vec<ListSnapshot>, StateError> {
        let maps = self.declared.iter().zip(&self.maps.maps);
        maps.map(|((name, schema, write), map)| write(name, schema.clone(), &**map)).collect()
    }

    /// Declares a state under a name that no other broadcast state of this operator has.
    ///
    /// # Errors
    /// [`StateError::Duplicate`], or [`StateError::Incompatible`] if the entries that are restored
    /// are of other types.
    pub fn declare<M, V>(&mut self, name: &'static str) -> Result<BroadcastState<M, V>, StateError>
    where
        M: State + Ord + Clone,
        V: State,
    {
        if self.declared.iter().any(|(declared, ..)| *declared == name) {
            return Err(StateError::Duplicate(name.to_owned()));
        }
        let (slot, schema) = (self.maps.maps.len(), Schema::of::<BTreeMap<M, V>>());
        let entries = self.restored.take::<(M, V)>(name, ListKind::Broadcast, &schema)?;
        self.declared.push((name, schema, write::<M, V>));
        self.maps.maps.push(Box::new(entries.into_iter().collect::<BTreeMap<M, V>>()));
        Ok(BroadcastState { slot, name, value: PhantomData })
    }

    /// The names of the declared states, each with the schema of its map.
    pub fn schemas(&self) -> impl Iterator<Item = (&'static str, &Schema)> {
        self.declared.iter().map(|(name, schema, _)| (*name, schema))
    }

    /// The maps, to read.
    #[inline]
    #[must_use]
    pub const fn maps(&self) -> &BroadcastMaps {
        &self.maps
    }

    /// The maps, to change.
    #[inline]
    pub const fn maps_mut(&mut self) -> &mut BroadcastMaps {
        &mut self.maps
    }

    /// From now on remembers how to undo the changes since [`BroadcastBackend::begin`].
    pub fn keep_undo(&mut self) {
        self.maps.undo.get_or_insert_default();
    }

    /// Begins with a record: the changes before it stay.
    pub fn begin(&mut self) {
        if let Some(undo) = &mut self.maps.undo {
            undo.clear();
        }
    }

    /// Undoes the changes since [`BroadcastBackend::begin`], if they were remembered.
    ///
    /// # Errors
    /// A value cannot be read from the bytes that were kept.
    pub fn take_back(&mut self) -> Result<(), StateError> {
        while let Some(undo) = self.maps.undo.as_mut().and_then(Vec::pop) {
            undo(&mut self.maps)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_restored_and_one_of_another_type_is_refused() {
        let mut states = BroadcastBackend::default();
        let limits: BroadcastState<String, u64> = states.declare("limits").unwrap();
        let _: BroadcastState<u8, u8> = states.declare("empty").unwrap();
        limits.put(states.maps_mut(), "a".to_owned(), 7).unwrap();
        let lists = states.snapshot().unwrap();
        let mut again = BroadcastBackend::restored(RestoredLists::same(lists.clone()));
        let restored: BroadcastState<String, u64> = again.declare("limits").unwrap();
        assert_eq!(restored.get(again.maps(), &"a".to_owned()).unwrap(), Some(&7));
        assert_eq!(again.not_declared(), Some("empty"));
        let mut other = BroadcastBackend::restored(RestoredLists::same(lists));
        let said = other.declare::<String, String>("limits").unwrap_err().to_string();
        assert!(said.contains("\"limits\"") && said.contains("u64"), "{said}");
    }
}
