//! The values of one state by key: typed on the heap, or bytes in a store.

use std::ops::Range;
use std::sync::Arc;

use millstream_types::{Key, MaxParallelism, State};

use crate::copying::{GroupBytes, SharedWritten, SliceBudget, Written};
use crate::error::StateError;
use crate::store::{ByteStore, Live, StoreTable, Visited};
use crate::table::{GroupTable, Place};

/// Where an operator keeps its states.
#[derive(Debug, Clone)]
pub enum Backing {
    /// Typed values on the heap.
    Heap,
    /// Bytes in a store.
    Store(Arc<dyn ByteStore>),
}

/// The values of one state by key. Each call branches once; on the heap nothing is virtual, and no
/// call fails.
#[derive(Debug)]
pub struct Table<K, V>(Kind<K, V>);

#[derive(Debug)]
enum Kind<K, V> {
    Heap(GroupTable<K, V>),
    Store { values: StoreTable<V>, groups: Range<u16> },
}

/// The values of a [`Table`] by their backing: a loop that branches here once keeps in registers
/// what it needs for the one backing (6 % of the time of `reduce`).
#[derive(Debug)]
pub enum Backed<'a, K, V> {
    /// Typed values.
    Heap(&'a mut GroupTable<K, V>),
    /// Bytes.
    Store(&'a mut StoreTable<V>),
}

/// Values by key, on the heap or in a store.
pub trait KeyedValues<K, V> {
    /// The value of a key, to change it, which was asked for before if `place` is anywhere.
    ///
    /// # Errors
    /// The store fails, or its bytes are no value; never on the heap.
    fn value_mut(&mut self, hash: u64, place: Place, key: &K)
    -> Result<Option<&mut V>, StateError>;

    /// Adds a key that has no value.
    ///
    /// # Errors
    /// As [`KeyedValues::value_mut`].
    fn add(&mut self, hash: u64, key: K, value: V) -> Result<&mut V, StateError>;

    /// Asks the processor to fetch the entry of a key that is on the heap; its place.
    fn prefetch(&self, hash: u64) -> Place;

    /// Asks the processor to fetch what the key at a place points to.
    fn prefetch_key(&self, hash: u64, place: Place);

    /// About how much heap the entries take, without what they point to.
    fn bytes(&self) -> usize;
}

impl<K: Key, V> KeyedValues<K, V> for GroupTable<K, V> {
    #[inline]
    fn value_mut(
        &mut self,
        hash: u64,
        place: Place,
        key: &K,
    ) -> Result<Option<&mut V>, StateError> {
        Ok(self.get_mut_at(hash, place, key))
    }

    #[inline]
    fn add(&mut self, hash: u64, key: K, value: V) -> Result<&mut V, StateError> {
        Ok(self.insert_new(hash, key, value))
    }

    #[inline]
    fn prefetch(&self, hash: u64) -> Place {
        GroupTable::prefetch(self, hash)
    }

    #[inline]
    fn prefetch_key(&self, hash: u64, place: Place) {
        GroupTable::prefetch_key(self, hash, place);
    }

    fn bytes(&self) -> usize {
        GroupTable::bytes(self)
    }
}

impl<K: Key, V: State> KeyedValues<K, V> for StoreTable<V> {
    fn value_mut(
        &mut self,
        hash: u64,
        _place: Place,
        key: &K,
    ) -> Result<Option<&mut V>, StateError> {
        self.get_mut(hash, key)
    }

    fn add(&mut self, hash: u64, key: K, value: V) -> Result<&mut V, StateError> {
        self.get_or_insert_with(hash, &key, || value)
    }

    fn prefetch(&self, _hash: u64) -> Place {
        Place::NOWHERE
    }

    fn prefetch_key(&self, _hash: u64, _place: Place) {}

    fn bytes(&self) -> usize {
        0
    }
}

/// The entries of a key group that were taken out of a table.
pub type Group<K, V> = Box<dyn Iterator<Item = (K, V)> + Send>;

impl<K: Key, V: State> Table<K, V> {
    pub(crate) fn new(
        backing: &Backing,
        groups: Range<u16>,
        max_parallelism: MaxParallelism,
        state: &'static str,
        number: u16,
    ) -> Self {
        Self(match backing {
            Backing::Heap => Kind::Heap(GroupTable::new(groups, max_parallelism)),
            Backing::Store(store) => {
                let store = Arc::clone(store);
                let values = StoreTable::new(store, state, number, max_parallelism);
                Kind::Store { values, groups }
            }
        })
    }

    /// The value of a key, which no other key was asked for after the last
    /// [`leave`](Table::leave).
    #[inline]
    pub(crate) fn get(&self, hash: u64, key: &K) -> Result<Option<&V>, StateError> {
        match &self.0 {
            Kind::Heap(table) => Ok(table.get(hash, key)),
            Kind::Store { values, .. } => values.get(hash, key),
        }
    }

    /// The value of a key, to change it.
    ///
    /// # Errors
    /// The store fails, or its bytes are no value.
    #[inline]
    pub(crate) fn get_mut(&mut self, hash: u64, key: &K) -> Result<Option<&mut V>, StateError> {
        match &mut self.0 {
            Kind::Heap(table) => Ok(table.get_mut(hash, key)),
            Kind::Store { values, .. } => values.get_mut(hash, key),
        }
    }

    /// The value of a key, made by `vacant` if there is none.
    ///
    /// # Errors
    /// As [`Table::get_mut`].
    #[inline]
    pub(crate) fn get_or_insert_with(
        &mut self,
        hash: u64,
        key: &K,
        vacant: impl FnOnce() -> V,
    ) -> Result<&mut V, StateError> {
        match &mut self.0 {
            Kind::Heap(table) => Ok(table.get_or_insert_with(hash, key, vacant).0),
            Kind::Store { values, .. } => values.get_or_insert_with(hash, key, vacant),
        }
    }

    /// Sets a key's value, or forgets the key, without reading the value before.
    #[inline]
    pub(crate) fn set(&mut self, hash: u64, key: &K, value: Option<V>) -> Result<(), StateError> {
        match &mut self.0 {
            Kind::Heap(table) => {
                match value {
                    Some(value) => table.replace(hash, key, value),
                    None => table.remove(hash, key),
                };
                Ok(())
            }
            Kind::Store { values, .. } => values.set(hash, key, value),
        }
    }

    /// Sets a key's value, or forgets the key; the value before.
    pub(crate) fn replace(
        &mut self,
        hash: u64,
        key: &K,
        value: Option<V>,
    ) -> Result<Option<V>, StateError> {
        match &mut self.0 {
            Kind::Heap(table) => Ok(match value {
                Some(value) => table.replace(hash, key, value),
                None => table.remove(hash, key),
            }),
            Kind::Store { values, .. } => values.replace(hash, key, value),
        }
    }

    /// The values, if they are on the heap.
    pub(crate) const fn on_heap(&self) -> Option<&GroupTable<K, V>> {
        match &self.0 {
            Kind::Heap(table) => Some(table),
            Kind::Store { .. } => None,
        }
    }

    /// The values by their backing, for a loop over a batch.
    #[inline]
    pub fn backed(&mut self) -> Backed<'_, K, V> {
        match &mut self.0 {
            Kind::Heap(table) => Backed::Heap(table),
            Kind::Store { values, .. } => Backed::Store(values),
        }
    }

    /// Takes the last group out, with all its keys; `None` once all are taken.
    ///
    /// # Errors
    /// The store fails, or its bytes are no value.
    pub fn pop_group(&mut self) -> Result<Option<Group<K, V>>, StateError> {
        match &mut self.0 {
            Kind::Heap(table) => Ok(table.pop_group().map(|group| Box::new(group) as Group<K, V>)),
            Kind::Store { values, groups } => {
                let Some(group) = groups.next_back() else { return Ok(None) };
                Ok(Some(Box::new(values.take_group(group)?.into_iter())))
            }
        }
    }

    /// Ends the use of the key at hand: what was changed is written.
    pub(crate) fn leave(&mut self) -> Result<(), StateError> {
        match &mut self.0 {
            Kind::Heap(_) => Ok(()),
            Kind::Store { values, .. } => values.leave(),
        }
    }

    pub(crate) fn prepare(&mut self, keys: &[(K, u64)]) -> Result<(), StateError> {
        match &mut self.0 {
            Kind::Heap(_) => Ok(()),
            Kind::Store { values, .. } => values.prepare(keys),
        }
    }

    /// Whether a key has a value, which is live if that is asked.
    pub(crate) fn contains(
        &self,
        hash: u64,
        key: &K,
        live: Option<Live<V>>,
    ) -> Result<bool, StateError> {
        match &self.0 {
            Kind::Heap(table) => Ok(table.get(hash, key).is_some_and(|value| is_live(value, live))),
            Kind::Store { values, .. } => values.contains(hash, key, live),
        }
    }

    /// The keys of the group at this place (from 0), whose values are live if that is asked.
    pub(crate) fn keys_of_group(
        &self,
        at: usize,
        live: Option<Live<V>>,
    ) -> Result<Vec<K>, StateError> {
        match &self.0 {
            Kind::Heap(table) => {
                let entries = table.entries_of_group(at);
                let live = entries.filter(|(_, value)| is_live(value, live));
                Ok(live.map(|(key, _)| key.clone()).collect())
            }
            Kind::Store { values, groups } => match groups.clone().nth(at) {
                Some(group) => values.keys(group, live),
                None => Ok(Vec::new()),
            },
        }
    }

    /// Begins a copy of the entries that are live if that is asked: each is its key and its value.
    /// A store's entries are copied at once.
    ///
    /// # Errors
    /// The store fails.
    pub(crate) fn begin_copy(
        &mut self,
        state: &'static str,
        live: Option<Live<V>>,
    ) -> Result<SharedWritten, StateError> {
        match &mut self.0 {
            Kind::Heap(table) => {
                let written = Written::of(table.range()).shared();
                let write = move |key: &K, value: &V, bytes: &mut GroupBytes| match live {
                    Some((is_live, now)) if !is_live(value, now) => Ok(()),
                    Some(_) | None => bytes.add(state, &(key, value)),
                };
                table.begin_copy(&written, Box::new(write));
                Ok(written)
            }
            Kind::Store { values, groups } => {
                let all = groups.clone().map(|group| values.write_group(group, live));
                let all = all.collect::<Result<Vec<_>, _>>()?;
                Ok(Written::whole(groups.start, all).shared())
            }
        }
    }

    /// Goes on with the copy; whether it is whole, or there is none.
    pub(crate) fn copy_some(&mut self, budget: &mut SliceBudget) -> bool {
        match &mut self.0 {
            Kind::Heap(table) => table.copy_some(budget),
            Kind::Store { .. } => true,
        }
    }

    /// Drops the copy.
    pub(crate) fn drop_copy(&mut self) {
        match &mut self.0 {
            Kind::Heap(table) => table.drop_copy(),
            Kind::Store { .. } => {}
        }
    }

    /// Copies the entry of a key that is about to change while it is shared.
    #[inline]
    pub(crate) fn copy_before(&self, hash: u64, key: &K) {
        match &self.0 {
            Kind::Heap(table) => table.copy_before(hash, key),
            Kind::Store { .. } => {}
        }
    }

    /// Says that the value at hand was changed while it was shared.
    #[inline]
    pub(crate) fn touch(&self) {
        match &self.0 {
            Kind::Heap(_) => {}
            Kind::Store { values, .. } => values.touch(),
        }
    }

    /// Looks at the entries behind `at`, some in a store and at most one on the heap; `visit` may
    /// change a value, or say that its entry goes. Moves `at` on, and from the end of the last
    /// group back to the start, which `false` tells.
    pub(crate) fn visit(
        &mut self,
        at: &mut VisitedAt,
        visit: impl FnMut(&mut V) -> Visited,
    ) -> Result<bool, StateError> {
        let (more, last) = match &mut self.0 {
            Kind::Heap(table) => {
                let mut visit = visit;
                let keep = |value: &mut V| visit(value) != Visited::Gone;
                let more = table.retain_bucket(at.group, at.bucket, keep);
                at.bucket += 1;
                (more, at.group + 1 >= table.groups())
            }
            Kind::Store { values, groups } => {
                let Some(group) = groups.clone().nth(at.group) else {
                    *at = VisitedAt::default();
                    return Ok(false);
                };
                let place = values.visit(group, &at.place, VISITED_AT_ONCE, visit)?;
                let more = place.is_some();
                at.place = place.unwrap_or_default();
                (more, at.group + 1 >= groups.len())
            }
        };
        if more {
            return Ok(true);
        }
        *at = VisitedAt { group: at.group + 1, ..VisitedAt::default() };
        if last {
            *at = VisitedAt::default();
        }
        Ok(!last)
    }
}

/// A place between the entries of a table, from which on they are looked at next.
#[derive(Debug, Default)]
pub(crate) struct VisitedAt {
    /// The place of the group, from 0.
    group: usize,
    /// The next bucket, on the heap.
    bucket: usize,
    /// The last entry, in a store.
    place: Vec<u8>,
}

/// The most entries of a store that are looked at in one step.
const VISITED_AT_ONCE: usize = 8;

fn is_live<V>(value: &V, live: Option<Live<V>>) -> bool {
    live.is_none_or(|(is_live, now)| is_live(value, now))
}
