//! A state's values as bytes in a store, of which one at a time is decoded.
//!
//! References to values lead into the entry at hand: that of the key that was asked for last. It is
//! loaded at the first access and written back when another key is asked for, if it was handed out
//! to be changed. Reading needs no exclusive access, so several states can be read at once.
//!
//! The store's key of an entry is the key group and the state's number, each as two bytes, and the
//! key's bytes: a group's entries lie side by side.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::io;
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};

use millstream_types::{Key, KeyGroup, MaxParallelism, State};

use crate::codec::{decode, encode};
use crate::error::StateError;

/// Values by keys, both bytes, in the order of the keys.
pub trait ByteStore: Debug + Send + Sync {
    /// The values of these keys, in their order.
    ///
    /// # Errors
    /// The store cannot be read.
    fn get(&self, keys: &[Vec<u8>]) -> io::Result<Vec<Option<Vec<u8>>>>;

    /// Sets the value of a key, or forgets the key.
    ///
    /// # Errors
    /// The store cannot be written.
    fn put(&self, key: Vec<u8>, value: Option<Vec<u8>>) -> io::Result<()>;

    /// Calls `each` with the keys that start with `prefix`, and their values, in order.
    ///
    /// # Errors
    /// The store cannot be read.
    fn scan(&self, prefix: &[u8], each: &mut dyn FnMut(&[u8], &[u8])) -> io::Result<()>;
}

/// A [`ByteStore`] in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    entries: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl ByteStore for MemoryStore {
    fn get(&self, keys: &[Vec<u8>]) -> io::Result<Vec<Option<Vec<u8>>>> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(keys.iter().map(|key| entries.get(key).cloned()).collect())
    }

    fn put(&self, key: Vec<u8>, value: Option<Vec<u8>>) -> io::Result<()> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        match value {
            Some(value) => entries.insert(key, value),
            None => entries.remove(&key),
        };
        Ok(())
    }

    fn scan(&self, prefix: &[u8], each: &mut dyn FnMut(&[u8], &[u8])) -> io::Result<()> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let from = (Bound::Included(prefix), Bound::Unbounded);
        for (key, value) in entries.range::<[u8], _>(from) {
            if !key.starts_with(prefix) {
                break;
            }
            each(key, value);
        }
        Ok(())
    }
}

/// The values of one state in a [`ByteStore`].
#[derive(Debug)]
pub struct StoreTable<V> {
    store: Arc<dyn ByteStore>,
    state: &'static str,
    number: u16,
    max_parallelism: MaxParallelism,
    /// The entry at hand.
    loaded: OnceCell<Loaded<V>>,
    /// Values of the batch at hand that were read ahead and not asked for yet.
    prepared: HashMap<Vec<u8>, Option<Vec<u8>>>,
}

#[derive(Debug)]
struct Loaded<V> {
    place: Vec<u8>,
    value: Option<V>,
    changed: bool,
}

impl<V: State> StoreTable<V> {
    pub(crate) fn new(
        store: Arc<dyn ByteStore>,
        state: &'static str,
        number: u16,
        max_parallelism: MaxParallelism,
    ) -> Self {
        let (loaded, prepared) = (OnceCell::new(), HashMap::new());
        Self { store, state, number, max_parallelism, loaded, prepared }
    }

    fn io(&self) -> impl Fn(io::Error) -> StateError + use<V> {
        let state = self.state;
        move |source| StateError::Io { state, source }
    }

    fn prefix(&self, group: u16) -> Vec<u8> {
        [group.to_be_bytes(), self.number.to_be_bytes()].concat()
    }

    fn place<K: Key>(&self, hash: u64, key: &K) -> Result<Vec<u8>, StateError> {
        let group = KeyGroup::of_hash(hash, self.max_parallelism).get();
        encode(self.state, key, self.prefix(group))
    }

    fn load(&self, place: Vec<u8>) -> Result<Loaded<V>, StateError> {
        let found = match self.prepared.get(&place) {
            Some(value) => value.clone(),
            None => {
                let values = self.store.get(std::slice::from_ref(&place)).map_err(self.io())?;
                values.into_iter().next().flatten()
            }
        };
        let value = found.map(|bytes| decode(self.state, &bytes)).transpose()?;
        Ok(Loaded { place, value, changed: false })
    }

    /// The value of a key, which is the one at hand or there is none at hand.
    pub(crate) fn get<K: Key>(&self, hash: u64, key: &K) -> Result<Option<&V>, StateError> {
        if self.loaded.get().is_none() {
            let _ = self.loaded.set(self.load(self.place(hash, key)?)?);
        }
        Ok(self.loaded.get().and_then(|loaded| loaded.value.as_ref()))
    }

    /// The entry of a key, to change it.
    fn entry<K: Key>(&mut self, hash: u64, key: &K) -> Result<&mut Option<V>, StateError> {
        let place = self.place(hash, key)?;
        if self.loaded.get().is_some_and(|loaded| loaded.place != place) {
            self.leave()?;
        }
        if self.loaded.get().is_none() {
            let _ = self.loaded.set(self.load(place)?);
        }
        let loaded = self.loaded.get_mut().expect("the entry was loaded just now");
        loaded.changed = true;
        Ok(&mut loaded.value)
    }

    pub(crate) fn get_mut<K: Key>(
        &mut self,
        hash: u64,
        key: &K,
    ) -> Result<Option<&mut V>, StateError> {
        self.entry(hash, key).map(Option::as_mut)
    }

    pub(crate) fn get_or_insert_with<K: Key>(
        &mut self,
        hash: u64,
        key: &K,
        vacant: impl FnOnce() -> V,
    ) -> Result<&mut V, StateError> {
        self.entry(hash, key).map(|value| value.get_or_insert_with(vacant))
    }

    /// Sets or forgets a key's value without reading the one before it.
    pub(crate) fn set<K: Key>(
        &mut self,
        hash: u64,
        key: &K,
        value: Option<V>,
    ) -> Result<(), StateError> {
        let place = self.place(hash, key)?;
        if self.loaded.get().is_some_and(|loaded| loaded.place != place) {
            self.leave()?;
        }
        self.loaded = OnceCell::from(Loaded { place, value, changed: true });
        Ok(())
    }

    pub(crate) fn replace<K: Key>(
        &mut self,
        hash: u64,
        key: &K,
        value: Option<V>,
    ) -> Result<Option<V>, StateError> {
        self.entry(hash, key).map(|entry| std::mem::replace(entry, value))
    }

    /// Writes the entry at hand back if it was changed; none is at hand afterwards.
    pub(crate) fn leave(&mut self) -> Result<(), StateError> {
        let Some(Loaded { place, value, changed }) = self.loaded.take() else { return Ok(()) };
        if !changed {
            return Ok(());
        }
        let value = value.map(|value| encode(self.state, &value, Vec::new())).transpose()?;
        self.prepared.remove(&place);
        self.store.put(place, value).map_err(self.io())
    }

    /// Reads the values of these keys, which are asked for soon.
    pub(crate) fn prepare<K: Key>(&mut self, keys: &[(K, u64)]) -> Result<(), StateError> {
        self.leave()?;
        let places = keys.iter().map(|(key, hash)| self.place(*hash, key));
        let mut places = places.collect::<Result<Vec<_>, _>>()?;
        places.sort_unstable();
        places.dedup();
        let values = self.store.get(&places).map_err(self.io())?;
        self.prepared = places.into_iter().zip(values).collect();
        Ok(())
    }

    /// Whether a key has a value; the entry at hand is not looked at.
    pub(crate) fn contains<K: Key>(&self, hash: u64, key: &K) -> Result<bool, StateError> {
        let values = self.store.get(&[self.place(hash, key)?]).map_err(self.io())?;
        Ok(values.first().is_some_and(Option::is_some))
    }

    /// The entries of a group that are written.
    pub(crate) fn group<K: Key, T>(
        &self,
        group: u16,
        part: impl Fn(K, &[u8]) -> Result<T, StateError>,
    ) -> Result<Vec<T>, StateError> {
        let prefix = self.prefix(group);
        let mut parts = Vec::new();
        self.store
            .scan(&prefix, &mut |place, value| {
                let key = place.get(prefix.len()..).unwrap_or_default();
                parts.push(decode(self.state, key).and_then(|key| part(key, value)));
            })
            .map_err(self.io())?;
        parts.into_iter().collect()
    }

    /// Takes the entries of a group out.
    pub(crate) fn take_group<K: Key>(&mut self, group: u16) -> Result<Vec<(K, V)>, StateError> {
        self.leave()?;
        self.prepared.clear();
        let entries = self.group(group, |key: K, value| Ok((key, decode(self.state, value)?)))?;
        for (key, _) in &entries {
            let place = self.place(key.stable_hash(), key)?;
            self.store.put(place, None).map_err(self.io())?;
        }
        Ok(entries)
    }
}
