//! A state's values as bytes in a store, of which one at a time is decoded.
//!
//! References to values lead into the entry at hand: that of the key that was asked for last. It is
//! loaded at the first access and written back when another key is asked for, if it was handed out
//! to be changed. Reading needs no exclusive access, so several states can be read at once.
//!
//! The store's key of an entry is the key group and the state's number, each as two bytes, and the
//! key's bytes: a group's entries lie side by side.

use std::cell::{Cell, OnceCell};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, ControlFlow};
use std::sync::{Arc, Mutex, PoisonError};

use millstream_types::{Key, KeyGroup, MaxParallelism, State};

use crate::codec::{decode, encode};
use crate::error::StateError;

/// Is called with a key and its value, and says whether to go on.
pub type Each<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

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

    /// Calls `each` with the keys that start with `prefix` and come after `after`, and with their
    /// values, in order, until it breaks. It must not call the store.
    ///
    /// # Errors
    /// The store cannot be read.
    fn scan(&self, prefix: &[u8], after: &[u8], each: &mut Each<'_>) -> io::Result<()>;
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

    fn scan(&self, prefix: &[u8], after: &[u8], each: &mut Each<'_>) -> io::Result<()> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let from = if after < prefix { Bound::Included(prefix) } else { Bound::Excluded(after) };
        for (key, value) in entries.range::<[u8], _>((from, Bound::Unbounded)) {
            if !key.starts_with(prefix) || each(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// Says whether a value is live at a time.
pub(crate) type Live<V> = (fn(&V, i64) -> bool, i64);

/// The fate of an entry that was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Visited {
    Unchanged,
    Changed,
    /// It goes.
    Gone,
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
    changed: Cell<bool>,
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
        Ok(Loaded { place, value, changed: Cell::new(false) })
    }

    /// The value of a key, which is the one at hand or there is none at hand.
    pub(crate) fn get<K: Key>(&self, hash: u64, key: &K) -> Result<Option<&V>, StateError> {
        if self.loaded.get().is_none() {
            let _ = self.loaded.set(self.load(self.place(hash, key)?)?);
        }
        Ok(self.loaded.get().and_then(|loaded| loaded.value.as_ref()))
    }

    /// Says that the value at hand was changed while it was shared.
    pub(crate) fn touch(&self) {
        if let Some(loaded) = self.loaded.get() {
            loaded.changed.set(true);
        }
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
        loaded.changed.set(true);
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
        self.loaded = OnceCell::from(Loaded { place, value, changed: Cell::new(true) });
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
        if !changed.get() {
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

    /// Whether a key has a value that is live; the entry at hand is not looked at.
    pub(crate) fn contains<K: Key>(
        &self,
        hash: u64,
        key: &K,
        live: Option<Live<V>>,
    ) -> Result<bool, StateError> {
        let values = self.store.get(&[self.place(hash, key)?]).map_err(self.io())?;
        match values.first() {
            Some(Some(bytes)) => self.is_live(bytes, live),
            Some(None) | None => Ok(false),
        }
    }

    fn is_live(&self, bytes: &[u8], live: Option<Live<V>>) -> Result<bool, StateError> {
        let Some((is_live, now)) = live else { return Ok(true) };
        Ok(is_live(&decode(self.state, bytes)?, now))
    }

    /// The keys of a group whose written values are live.
    pub(crate) fn keys<K: Key>(
        &self,
        group: u16,
        live: Option<Live<V>>,
    ) -> Result<Vec<K>, StateError> {
        let part = |key, bytes: &[u8]| Ok(self.is_live(bytes, live)?.then_some(key));
        Ok(self.group(group, part)?.into_iter().flatten().collect())
    }

    /// Looks at some entries of a group after the place `after`; `visit` may change a value, or say
    /// that its entry goes. The place of the last of them; `None` if there was none.
    pub(crate) fn visit(
        &mut self,
        group: u16,
        after: &[u8],
        entries_max: usize,
        mut visit: impl FnMut(&mut V) -> Visited,
    ) -> Result<Option<Vec<u8>>, StateError> {
        self.leave()?;
        let mut entries = Vec::new();
        let mut keep = |place: &[u8], bytes: &[u8]| {
            entries.push((place.to_vec(), decode(self.state, bytes)));
            if entries.len() < entries_max {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        };
        self.store.scan(&self.prefix(group), after, &mut keep).map_err(self.io())?;
        let mut last = None;
        for (place, value) in entries {
            let mut value = value?;
            let bytes = match visit(&mut value) {
                Visited::Unchanged => None,
                Visited::Changed => Some(Some(encode(self.state, &value, Vec::new())?)),
                Visited::Gone => Some(None),
            };
            if let Some(bytes) = bytes {
                self.prepared.remove(&place);
                self.store.put(place.clone(), bytes).map_err(self.io())?;
            }
            last = Some(place);
        }
        Ok(last)
    }

    /// The number and the bytes of the entries of a group that are written and live.
    pub(crate) fn write_group(
        &self,
        group: u16,
        live: Option<Live<V>>,
    ) -> Result<(u64, Vec<u8>), StateError> {
        let prefix = self.prefix(group);
        let mut written = Ok((0, Vec::new()));
        self.store
            .scan(&prefix, &[], &mut |place, value| {
                let Ok((count, bytes)) = &mut written else { return ControlFlow::Break(()) };
                match self.is_live(value, live) {
                    Ok(true) => {
                        *count += 1;
                        bytes.extend_from_slice(place.get(prefix.len()..).unwrap_or_default());
                        bytes.extend_from_slice(value);
                    }
                    Ok(false) => {}
                    Err(error) => written = Err(error),
                }
                ControlFlow::Continue(())
            })
            .map_err(self.io())?;
        written
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
            .scan(&prefix, &[], &mut |place, value| {
                let key = place.get(prefix.len()..).unwrap_or_default();
                parts.push(decode(self.state, key).and_then(|key| part(key, value)));
                ControlFlow::Continue(())
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
