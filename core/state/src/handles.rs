//! State handles for user code: typed names of states, used with the context of the current record.
//! Those of one value and of a list are here.

use std::fmt;
use std::marker::PhantomData;
use std::slice;

use millstream_types::{Key, State};

use crate::backend::{KeyedBackend, KeyedContext, Slot};
use crate::changes::{on_read_all, on_read_one, replace, restore_bytes};
use crate::codec::encode;
use crate::error::StateError;
use crate::expiry::{Expiry, NoTtl};
use crate::keyed::Table;

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
pub struct ValueState<V, E = NoTtl> {
    slot: Slot,
    expiry: E,
    value: PhantomData<fn() -> V>,
}

impl<V: State> ValueState<V> {
    pub(crate) const fn slot(&self) -> Slot {
        self.slot
    }

    /// Says how to undo the changes that are made to the current key's value from now on, should
    /// they be taken back: the value is not copied for that then. Meant for large values of which a
    /// record changes a part. `undo` is given the value as it is then.
    ///
    /// # Errors
    /// [`StateError::Foreign`].
    pub fn undo_by<C: KeyedContext>(
        &self,
        ctx: &mut C,
        undo: impl FnOnce(&mut Option<V>) + Send + 'static,
    ) -> Result<(), StateError> {
        let backend = ctx.backend_mut();
        backend.at_mut::<V>(self.slot)?;
        backend.on_take_back::<V>(self.slot, move |table, hash, key| {
            let mut value = table.replace(hash, key, None)?;
            undo(&mut value);
            table.set(hash, key, value)
        });
        Ok(())
    }
}

impl<V: State, E: Expiry> ValueState<V, E> {
    pub(crate) const fn new(slot: Slot, expiry: E) -> Self {
        Self { slot, expiry, value: PhantomData }
    }

    /// The current key's value.
    ///
    /// # Errors
    /// [`StateError::Foreign`], or the store fails.
    #[inline]
    pub fn get<'a, C: KeyedContext>(&self, ctx: &'a C) -> Result<Option<&'a V>, StateError> {
        let backend = ctx.backend();
        let (table, hash, key) = backend.at::<E::Kept<V>>(self.slot)?;
        let Some(kept) = table.get(hash, key)? else { return Ok(None) };
        let now = E::now(backend.ages());
        on_read_one::<_, _, V, E>((backend, self.slot), self.expiry, table, (kept, now), || {
            Box::new(|kept: &mut E::Kept<V>| Some(kept))
        });
        Ok(E::live(kept, now))
    }

    /// The current key's value to change in place, if there is one.
    pub(crate) fn get_mut<'a, C: KeyedContext>(
        &self,
        ctx: &'a mut C,
    ) -> Result<Option<&'a mut V>, StateError> {
        let backend = ctx.backend_mut();
        self.remember(backend)?;
        let now = E::now(backend.ages());
        let (table, hash, key) = backend.at_mut::<E::Kept<V>>(self.slot)?;
        let kept = table.get_mut(hash, key)?.filter(|kept| E::live(kept, now).is_some());
        Ok(kept.map(|kept| self.expiry.write(kept, now)))
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
        self.remember(backend)?;
        let now = E::now(backend.ages());
        let (table, hash, key) = backend.at_mut::<E::Kept<V>>(self.slot)?;
        self.expiry.get_or_insert_with(table, (hash, key), vacant, now)
    }

    /// Remembers the current key's value before it is handed out, unless that is done already.
    #[inline]
    fn remember<K: Key>(&self, backend: &mut KeyedBackend<K>) -> Result<(), StateError> {
        if backend.keeps_undo() && !backend.is_changed(self.slot) {
            let (table, hash, key) = backend.at_mut::<E::Kept<V>>(self.slot)?;
            let name = self.slot.name();
            let before = table.get_mut(hash, key)?.map(|kept| encode(name, kept, Vec::new()));
            let before = before.transpose()?;
            backend.on_take_back(self.slot, restore_bytes::<_, E::Kept<V>>(name, before));
        }
        Ok(())
    }

    /// Sets the current key's value.
    ///
    /// # Errors
    /// [`StateError::Foreign`], or the store fails.
    #[inline]
    pub fn set<C: KeyedContext>(&self, ctx: &mut C, value: V) -> Result<(), StateError> {
        let backend = ctx.backend_mut();
        let now = E::now(backend.ages());
        let kept = self.expiry.keep(value, now, || {
            let (table, hash, key) = backend.at::<E::Kept<V>>(self.slot)?;
            table.get(hash, key)
        })?;
        replace(backend, self.slot, Some(kept))
    }

    /// Forgets the current key's value.
    ///
    /// # Errors
    /// [`StateError::Foreign`], or the store fails.
    pub fn clear<C: KeyedContext>(&self, ctx: &mut C) -> Result<(), StateError> {
        let backend = ctx.backend_mut();
        replace::<_, E::Kept<V>>(backend, self.slot, None)
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
pub struct ListState<V, E = NoTtl> {
    slot: Slot,
    expiry: E,
    value: PhantomData<fn() -> V>,
}

impl<V: State, E: Expiry> ListState<V, E> {
    pub(crate) const fn new(slot: Slot, expiry: E) -> Self {
        Self { slot, expiry, value: PhantomData }
    }

    /// The elements of the current key's list, in their order.
    ///
    /// # Errors
    /// [`StateError::Foreign`], or the store fails.
    pub fn elements<'a, C: KeyedContext>(
        &self,
        ctx: &'a C,
    ) -> Result<Elements<'a, V, E>, StateError> {
        let backend = ctx.backend();
        let (table, hash, key) = backend.at::<Vec<E::Kept<V>>>(self.slot)?;
        let now = E::now(backend.ages());
        let Some(list) = table.get(hash, key)? else {
            return Ok(Elements { kept: [].iter(), now });
        };
        let at = (backend, self.slot);
        on_read_all::<_, _, V, E>(at, self.expiry, table, (list, now), list.iter())?;
        Ok(Elements { kept: list.iter(), now })
    }

    /// Whether the current key's list has no element.
    ///
    /// # Errors
    /// [`StateError::Foreign`], or the store fails.
    pub fn is_empty<C: KeyedContext>(&self, ctx: &C) -> Result<bool, StateError> {
        let backend = ctx.backend();
        let (table, hash, key) = backend.at::<Vec<E::Kept<V>>>(self.slot)?;
        let now = E::now(backend.ages());
        let is_live = |kept: &E::Kept<V>| E::live(kept, now).is_some();
        Ok(!table.get(hash, key)?.is_some_and(|list| list.iter().any(is_live)))
    }

    /// Appends to the current key's list.
    ///
    /// # Errors
    /// [`StateError::Foreign`], or the store fails.
    pub fn add<C: KeyedContext>(&self, ctx: &mut C, value: V) -> Result<(), StateError> {
        let backend = ctx.backend_mut();
        let now = E::now(backend.ages());
        let kept = self.expiry.keep(value, now, || Ok::<_, StateError>(None))?;
        let (table, hash, key) = backend.at_mut::<Vec<E::Kept<V>>>(self.slot)?;
        table.get_or_insert_with(hash, key, Vec::new)?.push(kept);
        backend.on_take_back(self.slot, |table: &mut Table<C::Key, Vec<E::Kept<V>>>, hash, key| {
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
        let now = E::now(backend.ages());
        let list = self.expiry.keep_all(list, now);
        replace(backend, self.slot, Some(list).filter(|list| !list.is_empty()))
    }

    /// Takes the current key's list and leaves it empty.
    ///
    /// # Errors
    /// [`StateError::Foreign`], or the store fails.
    pub fn take<C: KeyedContext>(&self, ctx: &mut C) -> Result<Vec<V>, StateError> {
        let backend = ctx.backend_mut();
        let (keeps, now) = (backend.keeps_undo(), E::now(backend.ages()));
        let (table, hash, key) = backend.at_mut::<Vec<E::Kept<V>>>(self.slot)?;
        let list = table.replace(hash, key, None)?.unwrap_or_default();
        if keeps && !list.is_empty() {
            let name = self.slot.name();
            let before = encode(name, &list, Vec::new())?;
            let restore = restore_bytes::<_, Vec<E::Kept<V>>>(name, Some(before));
            backend.on_take_back(self.slot, restore);
        }
        Ok(E::all_live(list, now))
    }
}

/// The elements of a list, one after the other: a list may be larger than what a disk's backend
/// holds in memory, so each is lent until the next.
pub struct Elements<'a, V: State, E: Expiry = NoTtl> {
    kept: slice::Iter<'a, E::Kept<V>>,
    now: E::Now,
}

impl<V: State, E: Expiry> Elements<'_, V, E> {
    /// The next element; `None` after the last.
    ///
    /// # Errors
    /// The store fails.
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot lend")]
    #[inline]
    pub fn next(&mut self) -> Result<Option<&V>, StateError> {
        Ok(self.kept.find_map(|kept| E::live(kept, self.now)))
    }
}

impl<V: State, E: Expiry> fmt::Debug for Elements<'_, V, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Elements").field("left", &self.kept.len()).finish_non_exhaustive()
    }
}
