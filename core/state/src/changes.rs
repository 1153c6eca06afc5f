//! Changes of the current key's state, and how they are undone.

use millstream_types::{Key, State};

use crate::backend::{KeyedBackend, Slot};
use crate::codec::{decode, encode};
use crate::error::StateError;
use crate::expiry::Expiry;
use crate::keyed::Table;

/// Sets or forgets the current key's value; the value before is read only to be remembered.
#[inline]
pub(crate) fn replace<K: Key, V: State>(
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
pub(crate) fn restore_bytes<K: Key, V: State>(
    state: &'static str,
    before: Option<Vec<u8>>,
) -> impl FnOnce(&mut Table<K, V>, u64, &K) -> Result<(), StateError> {
    move |table, hash, key| {
        let before = before.map(|bytes| decode(state, &bytes)).transpose()?;
        table.set(hash, key, before)
    }
}

/// Prolongs the life of a value that is read; `find` finds it again, should the read be undone.
#[inline]
pub(crate) fn on_read_one<K: Key, S: State, V: State, E: Expiry>(
    (backend, slot): (&KeyedBackend<K>, Slot),
    expiry: E,
    table: &Table<K, S>,
    (kept, now): (&E::Kept<V>, E::Now),
    find: impl FnOnce() -> Find<S, E::Kept<V>>,
) {
    if !expiry.renews_on_read() {
        return;
    }
    backend.copy_current(table);
    let Some(until) = expiry.read(kept, now) else { return };
    table.touch();
    if backend.keeps_undo() {
        let find = find();
        backend.on_take_back_read::<S>(slot, move |table, hash, key| {
            if let Some(kept) = table.get_mut(hash, key)?.and_then(find) {
                E::unread(kept, until);
            }
            Ok(())
        });
    }
}

/// Finds a value in what is kept for a key.
pub(crate) type Find<S, V> = Box<dyn FnOnce(&mut S) -> Option<&mut V> + Send>;

/// Prolongs the lives of all values of a key, which are read.
#[inline]
pub(crate) fn on_read_all<'a, K: Key, S: State, V: State, E: Expiry>(
    (backend, slot): (&KeyedBackend<K>, Slot),
    expiry: E,
    table: &Table<K, S>,
    (all, now): (&'a S, E::Now),
    values: impl Iterator<Item = &'a E::Kept<V>>,
) -> Result<(), StateError> {
    if !expiry.renews_on_read() {
        return Ok(());
    }
    backend.copy_current(table);
    if backend.keeps_undo() {
        let before = encode(slot.name(), all, Vec::new())?;
        backend.on_take_back_read(slot, restore_bytes::<_, S>(slot.name(), Some(before)));
    }
    let renewed = values.filter(|kept| expiry.read(kept, now).is_some()).count();
    if renewed > 0 {
        table.touch();
    }
    Ok(())
}
