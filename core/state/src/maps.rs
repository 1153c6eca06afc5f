//! The state handle of a map.

use std::collections::{HashMap, hash_map};
use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;

use hashbrown::DefaultHashBuilder;
use millstream_types::{Key, State};

use crate::backend::{KeyedContext, Slot};
use crate::changes::{on_read_all, on_read_one, replace};
use crate::codec::{decode, encode};
use crate::error::StateError;
use crate::expiry::{Expiry, NoTtl};
use crate::keyed::Table;

/// The entries of one key.
pub(crate) type Map<M, V> = HashMap<M, V, DefaultHashBuilder>;

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
pub struct MapState<M, V, E = NoTtl> {
    slot: Slot,
    expiry: E,
    value: PhantomData<fn() -> (M, V)>,
}

impl<M: Key + Hash, V: State, E: Expiry> MapState<M, V, E> {
    pub(crate) const fn new(slot: Slot, expiry: E) -> Self {
        Self { slot, expiry, value: PhantomData }
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
        let backend = ctx.backend();
        let (table, hash, key) = backend.at::<Map<M, E::Kept<V>>>(self.slot)?;
        let Some(map) = table.get(hash, key)? else { return Ok(None) };
        let Some(kept) = map.get(name) else { return Ok(None) };
        let now = E::now(backend.ages());
        on_read_one::<_, _, V, E>((backend, self.slot), self.expiry, table, (kept, now), || {
            let name = name.clone();
            Box::new(move |map: &mut Map<M, E::Kept<V>>| map.get_mut(&name))
        });
        Ok(E::live(kept, now))
    }

    /// Sets an entry of the current key's map.
    ///
    /// # Errors
    /// [`StateError::Foreign`], or the store fails.
    pub fn put<C: KeyedContext>(&self, ctx: &mut C, name: M, value: V) -> Result<(), StateError> {
        let backend = ctx.backend_mut();
        let now = E::now(backend.ages());
        let undone = backend.keeps_undo().then(|| name.clone());
        let (table, hash, key) = backend.at_mut::<Map<M, E::Kept<V>>>(self.slot)?;
        let map = table.get_or_insert_with(hash, key, Map::default)?;
        let kept = self.expiry.keep(value, now, || Ok::<_, StateError>(map.get(&name)))?;
        let before = map.insert(name, kept);
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
        let (keeps, now) = (backend.keeps_undo(), E::now(backend.ages()));
        let (table, hash, key) = backend.at_mut::<Map<M, E::Kept<V>>>(self.slot)?;
        let Some(map) = table.get_mut(hash, key)? else { return Ok(None) };
        let Some(kept) = map.remove(name) else { return Ok(None) };
        if map.is_empty() {
            table.set(hash, key, None)?;
        }
        if keeps {
            let (state, name) = (self.slot.name(), name.clone());
            let before = encode(state, &kept, Vec::new())?;
            backend.on_take_back::<Map<M, E::Kept<V>>>(self.slot, move |table, hash, key| {
                let before: E::Kept<V> = decode(state, &before)?;
                restore_entry(table, (hash, key), name, Some(before))
            });
        }
        Ok(E::into_live(kept, now))
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
        let backend = ctx.backend();
        let (table, hash, key) = backend.at::<Map<M, E::Kept<V>>>(self.slot)?;
        let now = E::now(backend.ages());
        let is_live = |kept: &E::Kept<V>| E::live(kept, now).is_some();
        Ok(!table.get(hash, key)?.is_some_and(|map| map.values().any(is_live)))
    }

    /// The entries of the current key's map, in no order.
    ///
    /// # Errors
    /// [`StateError::Foreign`], or the store fails.
    pub fn entries<'a, C: KeyedContext>(
        &self,
        ctx: &'a C,
    ) -> Result<Entries<'a, M, V, E>, StateError> {
        let backend = ctx.backend();
        let (table, hash, key) = backend.at::<Map<M, E::Kept<V>>>(self.slot)?;
        let now = E::now(backend.ages());
        let Some(map) = table.get(hash, key)? else { return Ok(Entries { kept: None, now }) };
        let at = (backend, self.slot);
        on_read_all::<_, _, V, E>(at, self.expiry, table, (map, now), map.values())?;
        Ok(Entries { kept: Some(map.iter()), now })
    }

    /// The names of the current key's entries, in no order.
    ///
    /// # Errors
    /// [`StateError::Foreign`], or the store fails.
    pub fn keys<'a, C: KeyedContext>(&self, ctx: &'a C) -> Result<Keys<'a, M, V, E>, StateError> {
        self.entries(ctx).map(Keys)
    }

    /// The values of the current key's entries, in no order.
    ///
    /// # Errors
    /// [`StateError::Foreign`], or the store fails.
    pub fn values<'a, C: KeyedContext>(
        &self,
        ctx: &'a C,
    ) -> Result<Values<'a, M, V, E>, StateError> {
        self.entries(ctx).map(Values)
    }

    /// Forgets the current key's map.
    ///
    /// # Errors
    /// [`StateError::Foreign`], or the store fails.
    pub fn clear<C: KeyedContext>(&self, ctx: &mut C) -> Result<(), StateError> {
        let backend = ctx.backend_mut();
        replace::<_, Map<M, E::Kept<V>>>(backend, self.slot, None)
    }
}

/// The entries of a map, one after the other, each lent until the next; see
/// [`Elements`](crate::Elements).
pub struct Entries<'a, M, V: State, E: Expiry = NoTtl> {
    kept: Option<hash_map::Iter<'a, M, E::Kept<V>>>,
    now: E::Now,
}

impl<M, V: State, E: Expiry> Entries<'_, M, V, E> {
    /// The next entry; `None` after the last.
    ///
    /// # Errors
    /// The store fails.
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot lend")]
    #[inline]
    pub fn next(&mut self) -> Result<Option<(&M, &V)>, StateError> {
        let mut kept = self.kept.iter_mut().flatten();
        Ok(kept.find_map(|(name, kept)| Some((name, E::live(kept, self.now)?))))
    }
}

impl<M, V: State, E: Expiry> fmt::Debug for Entries<'_, M, V, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left = self.kept.as_ref().map_or(0, ExactSizeIterator::len);
        f.debug_struct("Entries").field("left", &left).finish_non_exhaustive()
    }
}

/// The names of a map's entries; see [`Entries`].
#[derive(Debug)]
pub struct Keys<'a, M, V: State, E: Expiry = NoTtl>(Entries<'a, M, V, E>);

impl<M, V: State, E: Expiry> Keys<'_, M, V, E> {
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
pub struct Values<'a, M, V: State, E: Expiry = NoTtl>(Entries<'a, M, V, E>);

impl<M, V: State, E: Expiry> Values<'_, M, V, E> {
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
