//! State handles for user code: typed names of states, used with the context of the current record.

use std::collections::{HashMap, hash_map};
use std::hash::Hash;
use std::marker::PhantomData;
use std::slice;

use hashbrown::DefaultHashBuilder;
use millstream_types::{Key, State};

use crate::backend::{KeyedBackend, KeyedContext, Slot};
use crate::codec::{decode, encode};
use crate::error::StateError;
use crate::keyed::Table;

/// The entries of one key.
type Map<M, V> = HashMap<M, V, DefaultHashBuilder>;

impl<K: Key> KeyedBackend<K> {
    /// The table of a state, for an operator that goes through a whole batch by itself. The current
    /// key is of no concern then, and nothing is undone.
    ///
    /// # Errors
    /// [`StateError::Foreign`].
    #[inline]
    pub fn table<V: State>(
        &mut self,
        state: &ValueState<V>,
    ) -> Result<&mut Table<K, V>, StateError> {
        self.table_of(state.slot)
    }

    /// Declares a state that holds one value per key.
    ///
    /// # Errors
    /// [`StateError::Duplicate`] or [`StateError::TooMany`].
    pub fn value<V: State>(&mut self, name: &'static str) -> Result<ValueState<V>, StateError> {
        self.declare::<V>(name).map(ValueState::new)
    }

    /// Declares a state that holds a list per key.
    ///
    /// # Errors
    /// [`StateError::Duplicate`] or [`StateError::TooMany`].
    pub fn list<V: State>(&mut self, name: &'static str) -> Result<ListState<V>, StateError> {
        self.declare::<Vec<V>>(name).map(ListState::new)
    }

    /// Declares a state that holds a map per key.
    ///
    /// # Errors
    /// [`StateError::Duplicate`] or [`StateError::TooMany`].
    pub fn map<M, V>(&mut self, name: &'static str) -> Result<MapState<M, V>, StateError>
    where
        M: Key + Hash,
        V: State,
    {
        self.declare::<Map<M, V>>(name).map(MapState::new)
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
/// # ctx.set_key(7, 7u32.stable_hash())?;
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

impl<V: State> ValueState<V> {
    pub(crate) const fn new(slot: Slot) -> Self {
        Self { slot, value: PhantomData }
    }

    /// The current key's value.
    ///
    /// # Errors
    /// [`StateError::Foreign`], or the store fails.
    #[inline]
    pub fn get<'a, C: KeyedContext>(&self, ctx: &'a C) -> Result<Option<&'a V>, StateError> {
        let (table, hash, key) = ctx.backend().at::<V>(self.slot)?;
        table.get(hash, key)
    }

    /// The current key's value to change in place, made by `vacant` if there is none.
    ///
    /// # Errors
    /// [`StateError::Foreign`], or the store fails.
    #[inline]
    pub fn get_or_insert_with<'a, C: KeyedContext>(
        &self,
        ctx: &'a mut C,
        vacant: impl FnOnce() -> V,
    ) -> Result<&'a mut V, StateError> {
        let backend = ctx.backend_mut();
        if backend.keeps_undo() && !backend.is_changed(self.slot) {
            let (table, hash, key) = backend.at_mut::<V>(self.slot)?;
            let name = self.slot.name();
            let before = table.get_mut(hash, key)?.map(|value| encode(name, value, Vec::new()));
            backend.on_take_back(self.slot, restore_bytes::<_, V>(name, before.transpose()?));
        }
        let (table, hash, key) = backend.at_mut::<V>(self.slot)?;
        table.get_or_insert_with(hash, key, vacant)
    }

    /// Sets the current key's value.
    ///
    /// # Errors
    /// [`StateError::Foreign`], or the store fails.
    #[inline]
    pub fn set<C: KeyedContext>(&self, ctx: &mut C, value: V) -> Result<(), StateError> {
        let backend = ctx.backend_mut();
        replace(backend, self.slot, Some(value))
    }

    /// Forgets the current key's value.
    ///
    /// # Errors
    /// [`StateError::Foreign`], or the store fails.
    pub fn clear<C: KeyedContext>(&self, ctx: &mut C) -> Result<(), StateError> {
        let backend = ctx.backend_mut();
        replace::<_, V>(backend, self.slot, None)
    }
}

/// Sets or forgets the current key's value; the value before is read only to be remembered.
#[inline]
fn replace<K: Key, V: State>(
    backend: &mut KeyedBackend<K>,
    slot: Slot,
    value: Option<V>,
) -> Result<(), StateError> {
    let keeps = backend.keeps_undo();
    let (table, hash, key) = backend.at_mut::<V>(slot)?;
    if !keeps {
        return table.set(hash, key, value);
    }
    let before = table.replace(hash, key, value)?;
    backend.on_take_back::<V>(slot, move |table, hash, key| table.set(hash, key, before));
    Ok(())
}

/// Gives a key the value of these bytes, or none.
fn restore_bytes<K: Key, V: State>(
    state: &'static str,
    before: Option<Vec<u8>>,
) -> impl FnOnce(&mut Table<K, V>, u64, &K) -> Result<(), StateError> {
    move |table, hash, key| {
        let before = before.map(|bytes| decode(state, &bytes)).transpose()?;
        table.set(hash, key, before)
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
/// # ctx.set_key(7, 7u32.stable_hash())?;
/// // In a keyed function, for the key of the record at hand:
/// names.add(ctx, "a".to_owned())?;
/// names.add(ctx, "b".to_owned())?;
/// let mut all = names.elements(ctx)?;
/// while let Some(name) = all.next()? {
///     assert!(["a", "b"].contains(&name.as_str()));
/// }
/// names.update(ctx, vec!["c".to_owned()])?;
/// assert_eq!(names.take(ctx)?, ["c"]);
/// assert!(names.is_empty(ctx)?);
/// # Ok::<(), StateError>(())
/// ```
#[derive(Debug)]
pub struct ListState<V> {
    slot: Slot,
    value: PhantomData<fn() -> V>,
}

impl<V: State> ListState<V> {
    pub(crate) const fn new(slot: Slot) -> Self {
        Self { slot, value: PhantomData }
    }

    /// The elements of the current key's list, in their order.
    ///
    /// # Errors
    /// [`StateError::Foreign`], or the store fails.
    pub fn elements<'a, C: KeyedContext>(&self, ctx: &'a C) -> Result<Elements<'a, V>, StateError> {
        let (table, hash, key) = ctx.backend().at::<Vec<V>>(self.slot)?;
        Ok(Elements(table.get(hash, key)?.map_or(&[][..], Vec::as_slice).iter()))
    }

    /// Whether the current key's list has no element.
    ///
    /// # Errors
    /// [`StateError::Foreign`], or the store fails.
    pub fn is_empty<C: KeyedContext>(&self, ctx: &C) -> Result<bool, StateError> {
        let (table, hash, key) = ctx.backend().at::<Vec<V>>(self.slot)?;
        Ok(table.get(hash, key)?.is_none())
    }

    /// Appends to the current key's list.
    ///
    /// # Errors
    /// [`StateError::Foreign`], or the store fails.
    pub fn add<C: KeyedContext>(&self, ctx: &mut C, value: V) -> Result<(), StateError> {
        let backend = ctx.backend_mut();
        let (table, hash, key) = backend.at_mut::<Vec<V>>(self.slot)?;
        table.get_or_insert_with(hash, key, Vec::new)?.push(value);
        backend.on_take_back(self.slot, |table: &mut Table<C::Key, Vec<V>>, hash, key| {
            let Some(list) = table.get_mut(hash, key)? else { return Ok(()) };
            list.pop();
            if list.is_empty() { table.set(hash, key, None) } else { Ok(()) }
        });
        Ok(())
    }

    /// Replaces the current key's list; an empty one is forgotten.
    ///
    /// # Errors
    /// [`StateError::Foreign`], or the store fails.
    pub fn update<C: KeyedContext>(&self, ctx: &mut C, list: Vec<V>) -> Result<(), StateError> {
        let backend = ctx.backend_mut();
        replace(backend, self.slot, Some(list).filter(|list| !list.is_empty()))
    }

    /// Takes the current key's list and leaves it empty.
    ///
    /// # Errors
    /// [`StateError::Foreign`], or the store fails.
    pub fn take<C: KeyedContext>(&self, ctx: &mut C) -> Result<Vec<V>, StateError> {
        let backend = ctx.backend_mut();
        let keeps = backend.keeps_undo();
        let (table, hash, key) = backend.at_mut::<Vec<V>>(self.slot)?;
        let list = table.replace(hash, key, None)?.unwrap_or_default();
        if keeps && !list.is_empty() {
            let name = self.slot.name();
            let before = encode(name, &list, Vec::new())?;
            backend.on_take_back(self.slot, restore_bytes::<_, Vec<V>>(name, Some(before)));
        }
        Ok(list)
    }
}

/// The elements of a list, one after the other: a list may be larger than what a disk's backend
/// holds in memory, so each is lent until the next.
#[derive(Debug)]
pub struct Elements<'a, V>(slice::Iter<'a, V>);

impl<V> Elements<'_, V> {
    /// The next element; `None` after the last.
    ///
    /// # Errors
    /// The store fails.
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot lend")]
    #[inline]
    pub fn next(&mut self) -> Result<Option<&V>, StateError> {
        Ok(self.0.next())
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
/// # ctx.set_key(7, 7u32.stable_hash())?;
/// // In a keyed function, for the key of the record at hand:
/// let (a, b) = ("a".to_owned(), "b".to_owned());
/// counts.put(ctx, a.clone(), 1)?;
/// assert_eq!(counts.get(ctx, &a)?, Some(&1));
/// assert_eq!(counts.remove(ctx, &b)?, None);
/// assert!(counts.contains(ctx, &a)? && !counts.contains(ctx, &b)?);
/// let mut entries = counts.entries(ctx)?;
/// while let Some((name, count)) = entries.next()? {
///     assert_eq!((name, count), (&a, &1));
/// }
/// assert_eq!(counts.keys(ctx)?.next()?, Some(&a));
/// assert_eq!(counts.values(ctx)?.next()?, Some(&1));
/// counts.clear(ctx)?;
/// assert!(counts.is_empty(ctx)?);
/// # Ok::<(), StateError>(())
/// ```
#[derive(Debug)]
pub struct MapState<M, V> {
    slot: Slot,
    value: PhantomData<fn() -> (M, V)>,
}

impl<M: Key + Hash, V: State> MapState<M, V> {
    pub(crate) const fn new(slot: Slot) -> Self {
        Self { slot, value: PhantomData }
    }

    /// An entry of the current key's map.
    ///
    /// # Errors
    /// [`StateError::Foreign`], or the store fails.
    pub fn get<'a, C: KeyedContext>(
        &self,
        ctx: &'a C,
        name: &M,
    ) -> Result<Option<&'a V>, StateError> {
        let (table, hash, key) = ctx.backend().at::<Map<M, V>>(self.slot)?;
        Ok(table.get(hash, key)?.and_then(|map| map.get(name)))
    }

    /// Sets an entry of the current key's map.
    ///
    /// # Errors
    /// [`StateError::Foreign`], or the store fails.
    pub fn put<C: KeyedContext>(&self, ctx: &mut C, name: M, value: V) -> Result<(), StateError> {
        let backend = ctx.backend_mut();
        let undone = backend.keeps_undo().then(|| name.clone());
        let (table, hash, key) = backend.at_mut::<Map<M, V>>(self.slot)?;
        let before = table.get_or_insert_with(hash, key, Map::default)?.insert(name, value);
        if let Some(name) = undone {
            backend.on_take_back(self.slot, |table, hash, key| {
                restore_entry(table, (hash, key), name, before)
            });
        }
        Ok(())
    }

    /// Removes an entry of the current key's map; its value if it was there. A map that becomes
    /// empty is forgotten.
    ///
    /// # Errors
    /// [`StateError::Foreign`], or the store fails.
    pub fn remove<C: KeyedContext>(&self, ctx: &mut C, name: &M) -> Result<Option<V>, StateError> {
        let backend = ctx.backend_mut();
        let keeps = backend.keeps_undo();
        let (table, hash, key) = backend.at_mut::<Map<M, V>>(self.slot)?;
        let Some(map) = table.get_mut(hash, key)? else { return Ok(None) };
        let Some(value) = map.remove(name) else { return Ok(None) };
        if map.is_empty() {
            table.set(hash, key, None)?;
        }
        if keeps {
            let (state, name) = (self.slot.name(), name.clone());
            let before = encode(state, &value, Vec::new())?;
            backend.on_take_back::<Map<M, V>>(self.slot, move |table, hash, key| {
                let before: V = decode(state, &before)?;
                restore_entry(table, (hash, key), name, Some(before))
            });
        }
        Ok(Some(value))
    }

    /// Whether the current key's map has an entry of this name.
    ///
    /// # Errors
    /// [`StateError::Foreign`], or the store fails.
    pub fn contains<C: KeyedContext>(&self, ctx: &C, name: &M) -> Result<bool, StateError> {
        Ok(self.get(ctx, name)?.is_some())
    }

    /// Whether the current key's map has no entry.
    ///
    /// # Errors
    /// [`StateError::Foreign`], or the store fails.
    pub fn is_empty<C: KeyedContext>(&self, ctx: &C) -> Result<bool, StateError> {
        let (table, hash, key) = ctx.backend().at::<Map<M, V>>(self.slot)?;
        Ok(table.get(hash, key)?.is_none())
    }

    /// The entries of the current key's map, in no order.
    ///
    /// # Errors
    /// [`StateError::Foreign`], or the store fails.
    pub fn entries<'a, C: KeyedContext>(
        &self,
        ctx: &'a C,
    ) -> Result<Entries<'a, M, V>, StateError> {
        let (table, hash, key) = ctx.backend().at::<Map<M, V>>(self.slot)?;
        Ok(Entries(table.get(hash, key)?.map(Map::iter)))
    }

    /// The names of the current key's entries, in no order.
    ///
    /// # Errors
    /// [`StateError::Foreign`], or the store fails.
    pub fn keys<'a, C: KeyedContext>(&self, ctx: &'a C) -> Result<Keys<'a, M, V>, StateError> {
        self.entries(ctx).map(Keys)
    }

    /// The values of the current key's entries, in no order.
    ///
    /// # Errors
    /// [`StateError::Foreign`], or the store fails.
    pub fn values<'a, C: KeyedContext>(&self, ctx: &'a C) -> Result<Values<'a, M, V>, StateError> {
        self.entries(ctx).map(Values)
    }

    /// Forgets the current key's map.
    ///
    /// # Errors
    /// [`StateError::Foreign`], or the store fails.
    pub fn clear<C: KeyedContext>(&self, ctx: &mut C) -> Result<(), StateError> {
        let backend = ctx.backend_mut();
        replace::<_, Map<M, V>>(backend, self.slot, None)
    }
}

/// The entries of a map, one after the other, each lent until the next; see [`Elements`].
#[derive(Debug)]
pub struct Entries<'a, M, V>(Option<hash_map::Iter<'a, M, V>>);

impl<M, V> Entries<'_, M, V> {
    /// The next entry; `None` after the last.
    ///
    /// # Errors
    /// The store fails.
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot lend")]
    #[inline]
    pub fn next(&mut self) -> Result<Option<(&M, &V)>, StateError> {
        Ok(self.0.as_mut().and_then(Iterator::next))
    }
}

/// The names of a map's entries; see [`Entries`].
#[derive(Debug)]
pub struct Keys<'a, M, V>(Entries<'a, M, V>);

impl<M, V> Keys<'_, M, V> {
    /// The next name; `None` after the last.
    ///
    /// # Errors
    /// The store fails.
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot lend")]
    #[inline]
    pub fn next(&mut self) -> Result<Option<&M>, StateError> {
        Ok(self.0.next()?.map(|(name, _)| name))
    }
}

/// The values of a map's entries; see [`Entries`].
#[derive(Debug)]
pub struct Values<'a, M, V>(Entries<'a, M, V>);

impl<M, V> Values<'_, M, V> {
    /// The next value; `None` after the last.
    ///
    /// # Errors
    /// The store fails.
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot lend")]
    #[inline]
    pub fn next(&mut self) -> Result<Option<&V>, StateError> {
        Ok(self.0.next()?.map(|(_, value)| value))
    }
}

/// Gives an entry of a key's map the value that it had, or none.
fn restore_entry<K: Key, M: Key + Hash, V: State>(
    table: &mut Table<K, Map<M, V>>,
    (hash, key): (u64, &K),
    name: M,
    before: Option<V>,
) -> Result<(), StateError> {
    let map = table.get_or_insert_with(hash, key, Map::default)?;
    match before {
        Some(value) => map.insert(name, value),
        None => map.remove(&name),
    };
    if map.is_empty() { table.set(hash, key, None) } else { Ok(()) }
}
