//! A hash table per key group.

use std::cell::RefCell;
use std::ops::Range;

use hashbrown::HashTable;
use hashbrown::hash_table::{Entry, IntoIter};
use millstream_types::{Key, KeyGroup, MaxParallelism, prefetch};

use crate::copying::{Copying, SharedWritten, SliceBudget, WriteEntry};

/// Values by key, for a range of key groups. The stable hash of a key is computed once by the
/// caller: its middle bits choose the group, its low bits the bucket, its top bits the tag.
#[derive(Debug)]
pub struct GroupTable<K, V> {
    max_parallelism: MaxParallelism,
    first: u16,
    groups: Vec<HashTable<(K, V)>>,
    /// The copy for a snapshot that is being written: each entry is copied before it changes.
    copying: Option<Box<RefCell<Copying<K, V>>>>,
}

/// The place in its key group where an entry probably is: a hint and no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place(u32);

impl Place {
    /// No entry is here.
    pub const NOWHERE: Self = Self(u32::MAX);

    const fn index(self) -> usize {
        self.0 as usize
    }
}

impl<K: Key, V> GroupTable<K, V> {
    /// A table for these groups of `max_parallelism`.
    #[must_use]
    pub fn new(groups: Range<u16>, max_parallelism: MaxParallelism) -> Self {
        Self {
            max_parallelism,
            first: groups.start,
            groups: groups.map(|_| HashTable::new()).collect(),
            copying: None,
        }
    }

    /// As [`GroupTable::new`], with room for about so many keys in each group.
    pub(crate) fn sized(
        groups: Range<u16>,
        max_parallelism: MaxParallelism,
        sizes: impl Iterator<Item = usize>,
    ) -> Self {
        let first = groups.start;
        let sizes = groups.zip(sizes.chain(std::iter::repeat(0)));
        let groups = sizes.map(|(_, size)| HashTable::with_capacity(size)).collect();
        Self { max_parallelism, first, groups, copying: None }
    }

    /// An empty table for the same groups.
    pub(crate) fn with_same_groups<W>(&self) -> GroupTable<K, W> {
        let groups = self.groups.iter().map(|_| HashTable::new()).collect();
        let Self { max_parallelism, first, .. } = *self;
        GroupTable { max_parallelism, first, groups, copying: None }
    }

    /// The number of keys of each group.
    pub(crate) fn sizes(&self) -> impl Iterator<Item = usize> {
        self.groups.iter().map(HashTable::len)
    }

    #[inline]
    fn group(&self, hash: u64) -> usize {
        let group = KeyGroup::of_hash(hash, self.max_parallelism).get();
        usize::from(group.wrapping_sub(self.first))
    }

    #[inline]
    fn owned(&mut self, hash: u64) -> &mut HashTable<(K, V)> {
        let group = self.group(hash);
        self.groups.get_mut(group).expect("a record reached the owner of its key group")
    }

    /// The value of a key, made by `vacant` if there is none; `true` if it was there.
    ///
    /// # Panics
    /// If the key's group is not one of this table's: the record was sent to the wrong subtask.
    #[inline]
    pub fn get_or_insert_with(
        &mut self,
        hash: u64,
        key: &K,
        vacant: impl FnOnce() -> V,
    ) -> (&mut V, bool) {
        if self.copying.is_some() {
            return self.get_or_insert_beside_copy(hash, key, vacant);
        }
        match self.owned(hash).entry(hash, |(k, _)| k == key, |(k, _)| k.stable_hash()) {
            Entry::Occupied(entry) => (&mut entry.into_mut().1, true),
            Entry::Vacant(entry) => {
                (&mut entry.insert((key.clone(), vacant())).into_mut().1, false)
            }
        }
    }

    /// Finds the place where the entry of a key probably is, by its hash alone, and asks the
    /// processor to fetch it, for [`GroupTable::get_mut_at`] some records later. Saves most of the
    /// time of tables that are larger than a core's cache.
    #[inline]
    pub fn prefetch(&self, hash: u64) -> Place {
        let Some(table) = self.groups.get(self.group(hash)) else { return Place::NOWHERE };
        let found = table.find_bucket_index(hash, |(key, value)| {
            prefetch(key);
            prefetch(value);
            true
        });
        found.and_then(|at| u32::try_from(at).ok()).map_or(Place::NOWHERE, Place)
    }

    /// Asks the processor to fetch what the key at this place points to, for a lookup some records
    /// later. The entry itself was fetched before.
    #[inline]
    pub fn prefetch_key(&self, hash: u64, place: Place) {
        let table = self.groups.get(self.group(hash));
        if let Some((key, _)) = table.and_then(|table| table.get_bucket(place.index())) {
            key.prefetch();
        }
    }

    /// As [`GroupTable::get_mut`], for a key that was looked for before: its entry is probably at
    /// this place. The table may have changed since.
    #[inline]
    pub fn get_mut_at(&mut self, hash: u64, place: Place, key: &K) -> Option<&mut V> {
        if self.copying.is_some() {
            return self.get_beside_copy(hash, place, key);
        }
        let group = self.group(hash);
        let table = self.groups.get_mut(group)?;
        if place != Place::NOWHERE {
            let at = place.index();
            if table.get_bucket(at).is_some_and(|(k, _)| k == key) {
                return table.get_bucket_mut(at).map(|(_, value)| value);
            }
        }
        table.find_mut(hash, |(k, _)| k == key).map(|(_, value)| value)
    }

    /// The value of a key.
    #[inline]
    #[must_use]
    pub fn get(&self, hash: u64, key: &K) -> Option<&V> {
        self.groups.get(self.group(hash))?.find(hash, |(k, _)| k == key).map(|(_, value)| value)
    }

    /// The value of a key, to change it.
    #[inline]
    pub fn get_mut(&mut self, hash: u64, key: &K) -> Option<&mut V> {
        if self.copying.is_some() {
            return self.get_beside_copy(hash, Place::NOWHERE, key);
        }
        let group = self.group(hash);
        let table = self.groups.get_mut(group)?;
        table.find_mut(hash, |(k, _)| k == key).map(|(_, value)| value)
    }

    /// Sets the value of a key.
    ///
    /// # Panics
    /// As [`GroupTable::get_or_insert_with`].
    pub fn insert(&mut self, hash: u64, key: &K, value: V) {
        self.replace(hash, key, value);
    }

    /// Sets the value of a key; returns the one before it.
    ///
    /// # Panics
    /// As [`GroupTable::get_or_insert_with`].
    pub fn replace(&mut self, hash: u64, key: &K, value: V) -> Option<V> {
        if self.copying.is_some() {
            return self.replace_beside_copy(hash, key, value);
        }
        match self.owned(hash).entry(hash, |(k, _)| k == key, |(k, _)| k.stable_hash()) {
            Entry::Occupied(entry) => Some(std::mem::replace(&mut entry.into_mut().1, value)),
            Entry::Vacant(entry) => {
                entry.insert((key.clone(), value));
                None
            }
        }
    }

    /// Adds a key that has no value.
    ///
    /// # Panics
    /// As [`GroupTable::get_or_insert_with`].
    pub fn insert_new(&mut self, hash: u64, key: K, value: V) -> &mut V {
        if self.copying.is_some() {
            return self.insert_beside_copy(hash, key, value);
        }
        let table = self.owned(hash);
        &mut table.insert_unique(hash, (key, value), |(k, _)| k.stable_hash()).into_mut().1
    }

    /// Forgets a key; its value if it had one.
    pub fn remove(&mut self, hash: u64, key: &K) -> Option<V> {
        if self.copying.is_some() {
            self.copy_before(hash, key);
        }
        let group = self.group(hash);
        let table = self.groups.get_mut(group)?;
        let entry = table.find_entry(hash, |(k, _)| k == key).ok()?;
        Some(entry.remove().0.1)
    }

    /// The number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.groups.iter().map(HashTable::len).sum()
    }

    /// About how much memory the entries take, without what they point to.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.groups.iter().map(HashTable::num_buckets).sum::<usize>() * size_of::<(K, V)>()
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.groups.iter().all(HashTable::is_empty)
    }

    /// The number of groups.
    pub(crate) const fn groups(&self) -> usize {
        self.groups.len()
    }

    /// The groups.
    pub(crate) fn range(&self) -> Range<u16> {
        let count = u16::try_from(self.groups.len()).unwrap_or(u16::MAX);
        self.first..self.first.saturating_add(count)
    }

    /// The entries of the group at this place (from 0, in the order of the range).
    pub(crate) fn entries_of_group(&self, at: usize) -> impl Iterator<Item = &(K, V)> {
        self.groups.get(at).into_iter().flatten()
    }

    /// Looks at one bucket of the group at this place (from 0), whose entry goes unless `keep` says
    /// otherwise. `false` beyond the last bucket.
    pub(crate) fn retain_bucket(
        &mut self,
        group: usize,
        bucket: usize,
        keep: impl FnOnce(&mut V) -> bool,
    ) -> bool {
        self.copy_at(group, bucket);
        let table = self.groups.get_mut(group).filter(|table| bucket < table.num_buckets());
        let Some(table) = table else { return false };
        if let Ok(mut entry) = table.get_bucket_entry(bucket)
            && !keep(&mut entry.get_mut().1)
        {
            entry.remove();
        }
        true
    }

    /// Takes the last group out, with all its keys; `None` once all are taken.
    pub fn pop_group(&mut self) -> Option<IntoIter<(K, V)>> {
        self.finish_group(self.groups.len().wrapping_sub(1));
        self.groups.pop().map(HashTable::into_iter)
    }

    /// Takes the keys of the group at this place out.
    pub(crate) fn take_group(&mut self, at: usize) -> IntoIter<(K, V)> {
        self.finish_group(at);
        self.groups.get_mut(at).map(std::mem::take).unwrap_or_default().into_iter()
    }

    /// The number of groups.
    pub(crate) const fn group_count(&self) -> usize {
        self.groups.len()
    }

    /// The first place from this one on that has an entry, in the group at a place.
    #[inline]
    pub(crate) fn next_place(&self, group: usize, from: usize) -> Option<usize> {
        let table = self.groups.get(group)?;
        (from..table.num_buckets()).find(|at| table.get_bucket(*at).is_some())
    }

    /// The entry at a place in the group at a place.
    pub(crate) fn entry_at(&mut self, group: usize, at: usize) -> Option<&mut (K, V)> {
        self.copy_at(group, at);
        self.groups.get_mut(group)?.get_bucket_mut(at)
    }

    /// Forgets the entry at a place in the group at a place. Others stay where they are.
    pub(crate) fn remove_at(&mut self, group: usize, at: usize) {
        self.copy_at(group, at);
        if let Some(Ok(entry)) = self.groups.get_mut(group).map(|table| table.get_bucket_entry(at))
        {
            entry.remove();
        }
    }
}

/// Copies for snapshots in slices.
impl<K: Key, V> GroupTable<K, V> {
    /// Begins a copy of the entries as they are now.
    pub(crate) fn begin_copy(&mut self, written: &SharedWritten, write: WriteEntry<K, V>) {
        let copying = Copying::new(self.groups.len(), written, write);
        self.copying = Some(Box::new(RefCell::new(copying)));
    }

    /// Goes on with the copy; whether it is whole, or there is none.
    pub(crate) fn copy_some(&mut self, budget: &mut SliceBudget) -> bool {
        let Some(copying) = &mut self.copying else { return true };
        let is_whole = copying.get_mut().slice(&self.groups, budget);
        if is_whole {
            self.copying = None;
        }
        is_whole
    }

    /// Drops the copy.
    pub(crate) fn drop_copy(&mut self) {
        self.copying = None;
    }

    /// Copies the entry of a key that is about to change, if it has one.
    #[cold]
    pub(crate) fn copy_before(&self, hash: u64, key: &K) {
        let group = self.group(hash);
        if let (Some(copying), Some(table)) = (&self.copying, self.groups.get(group))
            && !copying.borrow().is_done(group)
            && let Some(at) = table.find_bucket_index(hash, |(k, _)| k == key)
        {
            copying.borrow_mut().copy_entry(group, at, table);
        }
    }

    /// Copies the entry at a place that is about to change, if there is one.
    #[inline]
    fn copy_at(&self, group: usize, at: usize) {
        if let (Some(copying), Some(table)) = (&self.copying, self.groups.get(group)) {
            copying.borrow_mut().copy_entry(group, at, table);
        }
    }

    /// Copies the rest of a group that goes.
    fn finish_group(&self, at: usize) {
        if let (Some(copying), Some(table)) = (&self.copying, self.groups.get(at)) {
            copying.borrow_mut().finish_group(at, table);
        }
    }

    /// As [`GroupTable::get_or_insert_with`]. An entry of the table itself would move others also
    /// if the key is there.
    #[cold]
    fn get_or_insert_beside_copy(
        &mut self,
        hash: u64,
        key: &K,
        vacant: impl FnOnce() -> V,
    ) -> (&mut V, bool) {
        let group = self.group(hash);
        let table = self.groups.get(group).expect("a record reached the owner of its key group");
        match table.find_bucket_index(hash, |(k, _)| k == key) {
            Some(at) => {
                self.copy_at(group, at);
                let entry = self.groups.get_mut(group).and_then(|table| table.get_bucket_mut(at));
                (&mut entry.expect("it was found just now").1, true)
            }
            None => (self.insert_beside_copy(hash, key.clone(), vacant()), false),
        }
    }

    /// As [`GroupTable::get_mut_at`].
    #[cold]
    fn get_beside_copy(&mut self, hash: u64, place: Place, key: &K) -> Option<&mut V> {
        let group = self.group(hash);
        let table = self.groups.get_mut(group)?;
        let at = match table.get_bucket(place.index()) {
            Some((k, _)) if k == key => place.index(),
            _ => table.find_bucket_index(hash, |(k, _)| k == key)?,
        };
        if let Some(copying) = &mut self.copying {
            copying.get_mut().copy_entry(group, at, table);
        }
        table.get_bucket_mut(at).map(|(_, value)| value)
    }

    /// As [`GroupTable::replace`].
    #[cold]
    fn replace_beside_copy(&mut self, hash: u64, key: &K, value: V) -> Option<V> {
        if let Some(found) = self.get_mut(hash, key) {
            return Some(std::mem::replace(found, value));
        }
        self.insert_beside_copy(hash, key.clone(), value);
        None
    }

    /// As [`GroupTable::insert_new`], of an entry that is no part of the copy.
    #[cold]
    fn insert_beside_copy(&mut self, hash: u64, key: K, value: V) -> &mut V {
        let group = self.group(hash);
        let table = self.groups.get_mut(group).expect("a record reached the owner of its group");
        let mut copying = self.copying.as_mut().map(|copying| copying.get_mut());
        if let Some(copying) = &mut copying {
            copying.make_room(group, table);
        }
        let entry = table.insert_unique(hash, (key, value), |(k, _)| k.stable_hash());
        if let Some(copying) = copying {
            copying.on_new(group, entry.bucket_index());
        }
        &mut entry.into_mut().1
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use millstream_types::schema::{Kind, SchemaBuilder};
    use millstream_types::{KeyHasher, State, Str};
    use proptest::prelude::*;

    use super::*;

    fn table() -> GroupTable<u64, u64> {
        GroupTable::new(0..128, MaxParallelism::DEFAULT)
    }

    proptest! {
        #[test]
        fn behaves_like_a_map(
            steps in proptest::collection::vec((0..4u8, 0..50u64, any::<u64>()), 0..400)
        ) {
            let mut table = table();
            let mut model = HashMap::new();
            for (step, key, value) in steps {
                let hash = key.stable_hash();
                match step {
                    0 => {
                        prop_assert_eq!(
                            table.replace(hash, &key, value),
                            model.insert(key, value)
                        );
                    }
                    1 => {
                        let (found, was_there) = table.get_or_insert_with(hash, &key, || value);
                        prop_assert_eq!(was_there, model.contains_key(&key));
                        prop_assert_eq!(*found, *model.entry(key).or_insert(value));
                    }
                    2 => prop_assert_eq!(table.remove(hash, &key), model.remove(&key)),
                    _ => prop_assert_eq!(table.get(hash, &key), model.get(&key)),
                }
                prop_assert_eq!(table.len(), model.len());
            }
            let mut taken = HashMap::new();
            while let Some(group) = table.pop_group() {
                taken.extend(group);
            }
            prop_assert_eq!(taken, model);
        }
    }

    /// A text of which many have the same hash.
    #[derive(
        Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
    )]
    struct Alike(String);

    impl State for Alike {
        fn schema(builder: &mut SchemaBuilder) -> Kind {
            builder.kind_of::<String>()
        }
    }

    impl Key for Alike {
        fn write(&self, hasher: &mut KeyHasher) {
            hasher.write_word(self.0.len() as u64 % 3);
        }

        fn prefetch(&self) -> bool {
            self.0.prefetch()
        }
    }

    /// Puts, removes and reads these keys in turn, with hints before each step, beside a map.
    fn run<K: Key + Ord + std::fmt::Debug>(keys: &[K], steps: Vec<(u8, usize, u64)>) {
        let mut table = GroupTable::new(0..128, MaxParallelism::DEFAULT);
        let mut model = BTreeMap::new();
        let mut hint = Place::NOWHERE;
        for (step, at, value) in steps {
            let key = &keys[at % keys.len()];
            let hash = key.stable_hash();
            let place = table.prefetch(hash);
            table.prefetch_key(hash, place);
            // The hint of some step before, for whatever key.
            let place = std::mem::replace(&mut hint, place);
            assert_eq!(table.get_mut_at(hash, place, key), model.get_mut(key));
            assert_eq!(table.get_mut_at(hash, hint, key), model.get_mut(key));
            match step {
                0 => assert_eq!(table.remove(hash, key), model.remove(key)),
                1 => {
                    let (found, was_there) = table.get_or_insert_with(hash, key, || value);
                    assert_eq!(was_there, model.contains_key(key));
                    assert_eq!(*found, *model.entry(key.clone()).or_insert(value));
                }
                _ => {
                    assert_eq!(table.get_mut(hash, key), model.get_mut(key));
                    assert_eq!(table.replace(hash, key, value), model.insert(key.clone(), value));
                }
            }
        }
        let mut taken = BTreeMap::new();
        while let Some(group) = table.pop_group() {
            taken.extend(group);
        }
        assert_eq!(taken, model);
    }

    proptest! {
        #[test]
        fn texts_of_any_length_are_keys(
            texts in proptest::collection::btree_set("[ab\u{e9}\u{1f980}]{0,40}|\\PC{0,99}", 1..60),
            steps in proptest::collection::vec((0..4u8, any::<usize>(), any::<u64>()), 0..400)
        ) {
            let texts: Vec<String> = texts.into_iter().collect();
            let short: Vec<Str> = texts.iter().map(|text| Str::from(text.as_str())).collect();
            let pairs: Vec<_> = texts.iter().map(|text| (text.clone(), 7u8)).collect();
            let alike: Vec<_> = texts.iter().cloned().map(Alike).collect();
            run(&texts, steps.clone());
            run(&short, steps.clone());
            run(&pairs, steps.clone());
            run(&alike, steps);
        }
    }
}
