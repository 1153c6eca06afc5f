//! Changes of the current key's state, and how they are undone.

use millstream_types::{Key, State};

use crate::backend::{KeyedBackend, Slot};
use crate::codec::decode;
use crate::error::StateError;
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
