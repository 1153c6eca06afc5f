//! State handles for user code: typed names of states, used with the context of the current record.

use std::marker::PhantomData;

use hashbrown::HashMap;
use millstream_types::Key;

use crate::backend::{KeyedBackend, KeyedContext, Slot, StateError};
use crate::table::GroupTable;

impl<K: Key> KeyedBackend<K> {
    /// Declares a state that holds one value per key.
    ///
    /// # Errors
    /// [`StateError::Duplicate`].
    pub fn value<V: Clone + Send + 'static>(
        &mut self,
        name: &'static str,
    ) -> Result<ValueState<V>, StateError> {
        self.declare::<V>(name).map(ValueState::new)
    }

    /// Declares a state that holds a list per key.
    ///
    /// # Errors
    /// [`StateError::Duplicate`].
    pub fn list<V: Clone + Send + 'static>(
        &mut self,
        name: &'static str,
    ) -> Result<ListState<V>, StateError> {
        self.declare::<Vec<V>>(name).map(ListState::new)
    }

    /// Declares a state that holds a map per key.
    ///
    /// # Errors
    /// [`StateError::Duplicate`].
    pub fn map<M, V>(&mut self, name: &'static str) -> Result<MapState<M, V>, StateError>
    where
        M: Key + std::hash::Hash,
        V: Clone + Send + 'static,
    {
        self.declare::<HashMap<M, V>>(name).map(MapState::new)
    }
}

/// One value per key.
///
/// ```
/// # use millstream_state::*;
/// # use millstream_types::{Key, MaxParallelism};
/// # let mut states = KeyedBackend::<u32>::new(0..128, MaxParallelism::DEFAULT);
/// let count: ValueState<u64> = states.value("count")?;
/// # let ctx = &mut states;
/// # ctx.set_key(7, 7u32.stable_hash());
/// // In a keyed function, for the key of the record at hand:
/// assert_eq!(count.get(ctx)?, None);
/// count.set(ctx, 1)?;
/// *count.get_or_insert_with(ctx, || 0)? += 1;
/// assert_eq!(count.get(ctx)?, Some(&2));
/// count.clear(ctx)?;
/// assert_eq!(count.get(ctx)?, None);
/// # Ok::<(), StateError>(())
/// ```
#[derive(Debug)]
pub struct ValueState<V> {
    slot: Slot,
    value: PhantomData<fn() -> V>,
}

impl<V: Clone + Send + 'static> ValueState<V> {
    pub(crate) const fn new(slot: Slot) -> Self {
        Self { slot, value: PhantomData }
    }

    /// The current key's value.
    ///
    /// # Errors
    /// [`StateError::Foreign`].
    #[inline]
    pub fn get<'a, C: KeyedContext>(&self, ctx: &'a C) -> Result<Option<&'a V>, StateError> {
        let (table, hash, key) = ctx.backend().at::<V>(self.slot)?;
        Ok(table.get(hash, key))
    }

    /// The current key's value to change in place, made by `vacant` if there is none.
    ///
    /// # Errors
    /// [`StateError::Foreign`].
    #[inline]
    pub fn get_or_insert_with<'a, C: KeyedContext>(
        &self,
        ctx: &'a mut C,
        vacant: impl FnOnce() -> V,
    ) -> Result<&'a mut V, StateError> {
        let backend = ctx.backend_mut();
        if backend.keeps_undo() && !backend.is_changed(self.slot) {
            let (table, hash, key) = backend.at_mut::<V>(self.slot)?;
            let before = table.get(hash, key).cloned();
            backend.on_take_back(self.slot, restore(before));
        }
        let (table, hash, key) = backend.at_mut::<V>(self.slot)?;
        Ok(table.get_or_insert_with(hash, key, vacant).0)
    }

    /// Sets the current key's value.
    ///
    /// # Errors
    /// [`StateError::Foreign`].
    #[inline]
    pub fn set<C: KeyedContext>(&self, ctx: &mut C, value: V) -> Result<(), StateError> {
        let backend = ctx.backend_mut();
        let (table, hash, key) = backend.at_mut::<V>(self.slot)?;
        let before = table.replace(hash, key, value);
        backend.on_take_back(self.slot, restore(before));
        Ok(())
    }

    /// Forgets the current key's value.
    ///
    /// # Errors
    /// [`StateError::Foreign`].
    pub fn clear<C: KeyedContext>(&self, ctx: &mut C) -> Result<(), StateError> {
        let backend = ctx.backend_mut();
        let (table, hash, key) = backend.at_mut::<V>(self.slot)?;
        let before = table.remove(hash, key);
        backend.on_take_back(self.slot, restore(before));
        Ok(())
    }
}

/// Gives a key the value that it had, or none.
fn restore<K: Key, V>(before: Option<V>) -> impl FnOnce(&mut GroupTable<K, V>, u64, &K) {
    move |table, hash, key| {
        match before {
            Some(value) => table.replace(hash, key, value),
            None => table.remove(hash, key),
        };
    }
}

/// A list per key.
///
/// ```
/// # use millstream_state::*;
/// # use millstream_types::{Key, MaxParallelism};
/// # let mut states = KeyedBackend::<u32>::new(0..128, MaxParallelism::DEFAULT);
/// let names: ListState<String> = states.list("names")?;
/// # let ctx = &mut states;
/// # ctx.set_key(7, 7u32.stable_hash());
/// // In a keyed function, for the key of the record at hand:
/// names.add(ctx, "a".to_owned())?;
/// names.add(ctx, "b".to_owned())?;
/// assert_eq!(names.get(ctx)?, ["a", "b"]);
/// names.update(ctx, vec!["c".to_owned()])?;
/// assert_eq!(names.take(ctx)?, ["c"]);
/// assert!(names.get(ctx)?.is_empty());
/// # Ok::<(), StateError>(())
/// ```
#[derive(Debug)]
pub struct ListState<V> {
    slot: Slot,
    value: PhantomData<fn() -> V>,
}

impl<V: Clone + Send + 'static> ListState<V> {
    pub(crate) const fn new(slot: Slot) -> Self {
        Self { slot, value: PhantomData }
    }

    /// The current key's list; empty if nothing was added.
    ///
    /// # Errors
    /// [`StateError::Foreign`].
    pub fn get<'a, C: KeyedContext>(&self, ctx: &'a C) -> Result<&'a [V], StateError> {
        let (table, hash, key) = ctx.backend().at::<Vec<V>>(self.slot)?;
        Ok(table.get(hash, key).map_or(&[], Vec::as_slice))
    }

    /// Appends to the current key's list.
    ///
    /// # Errors
    /// [`StateError::Foreign`].
    pub fn add<C: KeyedContext>(&self, ctx: &mut C, value: V) -> Result<(), StateError> {
        let backend = ctx.backend_mut();
        let (table, hash, key) = backend.at_mut::<Vec<V>>(self.slot)?;
        table.get_or_insert_with(hash, key, Vec::new).0.push(value);
        backend.on_take_back(self.slot, |table: &mut GroupTable<C::Key, Vec<V>>, hash, key| {
            if let Some(list) = table.get_mut(hash, key) {
                list.pop();
                if list.is_empty() {
                    table.remove(hash, key);
                }
            }
        });
        Ok(())
    }

    /// Replaces the current key's list; an empty one is forgotten.
    ///
    /// # Errors
    /// [`StateError::Foreign`].
    pub fn update<C: KeyedContext>(&self, ctx: &mut C, list: Vec<V>) -> Result<(), StateError> {
        let backend = ctx.backend_mut();
        let (table, hash, key) = backend.at_mut::<Vec<V>>(self.slot)?;
        let before = match list.is_empty() {
            true => table.remove(hash, key),
            false => table.replace(hash, key, list),
        };
        backend.on_take_back(self.slot, restore(before));
        Ok(())
    }

    /// Takes the current key's list and leaves it empty.
    ///
    /// # Errors
    /// [`StateError::Foreign`].
    pub fn take<C: KeyedContext>(&self, ctx: &mut C) -> Result<Vec<V>, StateError> {
        let backend = ctx.backend_mut();
        let keeps = backend.keeps_undo();
        let (table, hash, key) = backend.at_mut::<Vec<V>>(self.slot)?;
        let list = table.remove(hash, key).unwrap_or_default();
        if keeps && !list.is_empty() {
            backend.on_take_back(self.slot, restore(Some(list.clone())));
        }
        Ok(list)
    }
}

/// A map per key.
///
/// ```
/// # use millstream_state::*;
/// # use millstream_types::{Key, MaxParallelism};
/// # let mut states = KeyedBackend::<u32>::new(0..128, MaxParallelism::DEFAULT);
/// let counts: MapState<String, u64> = states.map("counts")?;
/// # let ctx = &mut states;
/// # ctx.set_key(7, 7u32.stable_hash());
/// // In a keyed function, for the key of the record at hand:
/// let (a, b) = ("a".to_owned(), "b".to_owned());
/// counts.put(ctx, a.clone(), 1)?;
/// assert_eq!(counts.get(ctx, &a)?, Some(&1));
/// assert_eq!(counts.remove(ctx, &b)?, None);
/// assert!(counts.contains(ctx, &a)? && !counts.contains(ctx, &b)?);
/// assert_eq!(counts.iter(ctx)?.map(|(_, count)| count).sum::<u64>(), 1);
/// assert_eq!((counts.keys(ctx)?.count(), counts.values(ctx)?.sum::<u64>()), (1, 1));
/// counts.clear(ctx)?;
/// assert!(counts.is_empty(ctx)?);
/// # Ok::<(), StateError>(())
/// ```
#[derive(Debug)]
pub struct MapState<M, V> {
    slot: Slot,
    value: PhantomData<fn() -> (M, V)>,
}

impl<M: Key + std::hash::Hash, V: Clone + Send + 'static> MapState<M, V> {
    pub(crate) const fn new(slot: Slot) -> Self {
        Self { slot, value: PhantomData }
    }

    /// An entry of the current key's map.
    ///
    /// # Errors
    /// [`StateError::Foreign`].
    pub fn get<'a, C: KeyedContext>(
        &self,
        ctx: &'a C,
        name: &M,
    ) -> Result<Option<&'a V>, StateError> {
        let (table, hash, key) = ctx.backend().at::<HashMap<M, V>>(self.slot)?;
        Ok(table.get(hash, key).and_then(|map| map.get(name)))
    }

    /// Sets an entry of the current key's map.
    ///
    /// # Errors
    /// [`StateError::Foreign`].
    pub fn put<C: KeyedContext>(&self, ctx: &mut C, name: M, value: V) -> Result<(), StateError> {
        let backend = ctx.backend_mut();
        let undone = backend.keeps_undo().then(|| name.clone());
        let (table, hash, key) = backend.at_mut::<HashMap<M, V>>(self.slot)?;
        let before = table.get_or_insert_with(hash, key, HashMap::new).0.insert(name, value);
        if let Some(name) = undone {
            backend.on_take_back(self.slot, restore_entry(name, before));
        }
        Ok(())
    }

    /// Removes an entry of the current key's map; its value if it was there. A map that becomes
    /// empty is forgotten.
    ///
    /// # Errors
    /// [`StateError::Foreign`].
    pub fn remove<C: KeyedContext>(&self, ctx: &mut C, name: &M) -> Result<Option<V>, StateError> {
        let backend = ctx.backend_mut();
        let keeps = backend.keeps_undo();
        let (table, hash, key) = backend.at_mut::<HashMap<M, V>>(self.slot)?;
        let Some(map) = table.get_mut(hash, key) else { return Ok(None) };
        let value = map.remove(name);
        if map.is_empty() {
            table.remove(hash, key);
        }
        if keeps && value.is_some() {
            backend.on_take_back(self.slot, restore_entry(name.clone(), value.clone()));
        }
        Ok(value)
    }

    /// Whether the current key's map has an entry of this name.
    ///
    /// # Errors
    /// [`StateError::Foreign`].
    pub fn contains<C: KeyedContext>(&self, ctx: &C, name: &M) -> Result<bool, StateError> {
        Ok(self.get(ctx, name)?.is_some())
    }

    /// Whether the current key's map has no entry.
    ///
    /// # Errors
    /// [`StateError::Foreign`].
    pub fn is_empty<C: KeyedContext>(&self, ctx: &C) -> Result<bool, StateError> {
        Ok(self.iter(ctx)?.next().is_none())
    }

    /// The entries of the current key's map, in no order.
    ///
    /// # Errors
    /// [`StateError::Foreign`].
    pub fn iter<'a, C: KeyedContext>(
        &self,
        ctx: &'a C,
    ) -> Result<impl Iterator<Item = (&'a M, &'a V)> + use<'a, M, V, C>, StateError> {
        let (table, hash, key) = ctx.backend().at::<HashMap<M, V>>(self.slot)?;
        Ok(table.get(hash, key).into_iter().flatten())
    }

    /// The names of the current key's entries, in no order.
    ///
    /// # Errors
    /// [`StateError::Foreign`].
    pub fn keys<'a, C: KeyedContext>(
        &self,
        ctx: &'a C,
    ) -> Result<impl Iterator<Item = &'a M> + use<'a, M, V, C>, StateError> {
        Ok(self.iter(ctx)?.map(|(name, _)| name))
    }

    /// The values of the current key's entries, in no order.
    ///
    /// # Errors
    /// [`StateError::Foreign`].
    pub fn values<'a, C: KeyedContext>(
        &self,
        ctx: &'a C,
    ) -> Result<impl Iterator<Item = &'a V> + use<'a, M, V, C>, StateError> {
        Ok(self.iter(ctx)?.map(|(_, value)| value))
    }

    /// Forgets the current key's map.
    ///
    /// # Errors
    /// [`StateError::Foreign`].
    pub fn clear<C: KeyedContext>(&self, ctx: &mut C) -> Result<(), StateError> {
        let backend = ctx.backend_mut();
        let (table, hash, key) = backend.at_mut::<HashMap<M, V>>(self.slot)?;
        let before = table.remove(hash, key);
        backend.on_take_back(self.slot, restore(before));
        Ok(())
    }
}

/// Gives an entry of a key's map the value that it had, or none.
fn restore_entry<K: Key, M: Key + std::hash::Hash, V>(
    name: M,
    before: Option<V>,
) -> impl FnOnce(&mut GroupTable<K, HashMap<M, V>>, u64, &K) {
    move |table, hash, key| {
        let map = table.get_or_insert_with(hash, key, HashMap::new).0;
        match before {
            Some(value) => map.insert(name, value),
            None => map.remove(&name),
        };
        if map.is_empty() {
            table.remove(hash, key);
        }
    }
}
