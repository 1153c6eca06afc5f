//! Values by pane of time and key.
//!
//! Windows are cut into panes, so that each record is added to one value, however many windows it
//! is in. A pane that records are still added to has a table of its own, and a record needs one
//! lookup in it. Once the first of its windows is complete, the values move to the other layout, a
//! list of panes for each key: the windows to come are made from that, key by key.
//!
//! Any number of panes can be open, most of them with a few keys: those share one small hash table
//! instead of one for each key group.

use std::collections::BTreeMap;
use std::ops::Range;

use hashbrown::HashTable;
use hashbrown::hash_table::IntoIter;
use millstream_types::{Key, KeyGroup, MaxParallelism};

use crate::copying::{GroupBytes, SharedWritten, SliceBudget, lock};
use crate::error::StateError;
use crate::keyed::KeyedValues;
use crate::table::{GroupTable, Place};

/// The number of keys from which on a pane has a table for each key group.
const MANY: usize = 32;

/// Panes are made with room for the keys of the last one that was taken, if no more than so many
/// are open or the one before has got half as many keys by now: room in many panes that records
/// come to by turns would be worth more than the time to grow.
const ROOMY_PANES: usize = 4;

/// Writes a value with its key and the first time of its pane.
pub(crate) type WritePane<K, V> = fn(&K, i64, &V, &mut GroupBytes) -> Result<(), StateError>;

/// The values of the keys in one pane.
#[derive(Debug)]
pub enum PaneValues<K, V> {
    /// One table for all key groups.
    Few(FewKeys<K, V>),
    /// A table for each key group.
    Many(GroupTable<K, V>),
}

/// The values of a few keys.
#[derive(Debug)]
pub struct FewKeys<K, V>(HashTable<(K, V)>);

impl<K: Key, V> KeyedValues<K, V> for FewKeys<K, V> {
    fn value_mut(
        &mut self,
        hash: u64,
        _place: Place,
        key: &K,
    ) -> Result<Option<&mut V>, StateError> {
        Ok(self.0.find_mut(hash, |(k, _)| k == key).map(|(_, value)| value))
    }

    fn add(&mut self, hash: u64, key: K, value: V) -> Result<&mut V, StateError> {
        Ok(&mut self.0.insert_unique(hash, (key, value), |(k, _)| k.stable_hash()).into_mut().1)
    }

    fn prefetch(&self, _hash: u64) -> Place {
        Place::NOWHERE
    }

    fn prefetch_key(&self, _hash: u64, _place: Place) {}

    fn bytes(&self) -> usize {
        0
    }
}

/// All keys of a pane with their values, in no order.
#[derive(Debug)]
pub struct PaneEntries<K, V> {
    group: IntoIter<(K, V)>,
    rest: Option<GroupTable<K, V>>,
}

impl<K: Key, V> Iterator for PaneEntries<K, V> {
    type Item = (K, V);

    #[inline]
    fn next(&mut self) -> Option<(K, V)> {
        loop {
            if let Some(entry) = self.group.next() {
                return Some(entry);
            }
            self.group = self.rest.as_mut()?.pop_group()?;
        }
    }
}

impl<K: Key, V> PaneValues<K, V> {
    /// The number of keys.
    fn len(&self) -> usize {
        match self {
            Self::Few(FewKeys(table)) => table.len(),
            Self::Many(table) => table.len(),
        }
    }

    /// Takes everything out.
    #[must_use]
    pub fn into_entries(self) -> PaneEntries<K, V> {
        match self {
            Self::Few(FewKeys(table)) => PaneEntries { group: table.into_iter(), rest: None },
            Self::Many(table) => PaneEntries { group: IntoIter::default(), rest: Some(table) },
        }
    }
}

/// The panes that records are added to: those of which no window is complete.
#[derive(Debug)]
pub struct OpenPanes<K, V> {
    groups: Range<u16>,
    max_parallelism: MaxParallelism,
    /// By the first time of the pane; with its last one.
    panes: BTreeMap<i64, (i64, PaneValues<K, V>)>,
    /// The number of keys in each group of the pane that was taken last.
    sizes: Vec<usize>,
    /// The first time of the pane that was opened last.
    newest: Option<i64>,
}

impl<K: Key, V: 'static> OpenPanes<K, V> {
    /// No pane yet, for these key groups of `max_parallelism`.
    #[must_use]
    pub const fn new(groups: Range<u16>, max_parallelism: MaxParallelism) -> Self {
        Self { groups, max_parallelism, panes: BTreeMap::new(), sizes: Vec::new(), newest: None }
    }

    /// The pane that a time is in: its first and last time, and its values.
    pub fn find(&mut self, time: i64) -> Option<(i64, i64, &mut PaneValues<K, V>)> {
        let (first, (last, values)) = self.panes.range_mut(..=time).next_back()?;
        (time <= *last).then_some((*first, *last, values))
    }

    /// Opens the pane from a first to a last time, which overlaps none that is open.
    pub fn open(&mut self, first: i64, last: i64) -> &mut PaneValues<K, V> {
        let values = if self.has_room() {
            let sizes = self.sizes.iter().copied();
            let groups = self.groups.clone();
            PaneValues::Many(GroupTable::sized(groups, self.max_parallelism, sizes))
        } else {
            PaneValues::Few(FewKeys(HashTable::new()))
        };
        self.newest = Some(first);
        &mut self.panes.entry(first).or_insert((last, values)).1
    }

    /// Whether the next pane is made with room.
    fn has_room(&self) -> bool {
        let newest = self.newest.and_then(|first| self.panes.get(&first));
        let keys = newest.map_or(0, |(_, values)| values.len());
        let expected = self.sizes.iter().sum::<usize>();
        expected > 0 && (self.panes.len() < ROOMY_PANES || 2 * keys >= expected)
    }

    /// Adds a value that was restored to the pane from a first to a last time.
    pub fn put_back(&mut self, (first, last): (i64, i64), hash: u64, key: K, value: V) {
        if !self.panes.contains_key(&first) {
            self.open(first, last);
        }
        match self.panes.get_mut(&first) {
            Some((_, PaneValues::Few(FewKeys(table)))) => {
                table.insert_unique(hash, (key, value), |(key, _)| key.stable_hash());
            }
            Some((_, PaneValues::Many(table))) => {
                table.insert_new(hash, key, value);
            }
            None => {}
        }
        self.settle(first);
    }

    /// Begins a copy of the values as they are now. Those of panes with few keys are copied at
    /// once.
    pub(crate) fn begin_copy(&mut self, written: &SharedWritten, write: WritePane<K, V>) {
        let first_group = self.groups.start;
        for (first, (_, values)) in &mut self.panes {
            let first = *first;
            match values {
                PaneValues::Few(FewKeys(table)) => {
                    let mut written = lock(written);
                    for (key, value) in &*table {
                        let group = KeyGroup::of_hash(key.stable_hash(), self.max_parallelism);
                        let group = usize::from(group.get().wrapping_sub(first_group));
                        written.add(group, |bytes| write(key, first, value, bytes));
                    }
                }
                PaneValues::Many(table) => {
                    let write =
                        move |key: &K, value: &V, bytes: &mut _| write(key, first, value, bytes);
                    table.begin_copy(written, Box::new(write));
                }
            }
        }
    }

    /// Goes on with the copy; whether that of all panes is whole.
    pub(crate) fn copy_some(&mut self, budget: &mut SliceBudget) -> bool {
        self.tables().all(|table| table.copy_some(budget))
    }

    pub(crate) fn drop_copy(&mut self) {
        self.tables().for_each(GroupTable::drop_copy);
    }

    fn tables(&mut self) -> impl Iterator<Item = &mut GroupTable<K, V>> {
        self.panes.values_mut().filter_map(|(_, values)| match values {
            PaneValues::Few(_) => None,
            PaneValues::Many(table) => Some(table),
        })
    }

    pub(crate) fn groups(&self) -> (Range<u16>, MaxParallelism) {
        (self.groups.clone(), self.max_parallelism)
    }

    /// Gives a pane that has got many keys a table for each key group.
    pub fn settle(&mut self, first: i64) {
        if let Some((_, values @ PaneValues::Few(_))) = self.panes.get_mut(&first)
            && let PaneValues::Few(FewKeys(table)) = values
            && table.len() >= MANY
        {
            let table = std::mem::take(table);
            let groups = GroupTable::new(self.groups.clone(), self.max_parallelism);
            *values = PaneValues::Many(regrouped(table, groups));
        }
    }

    /// The first time of the earliest pane.
    #[must_use]
    pub fn earliest(&self) -> Option<i64> {
        self.panes.first_key_value().map(|(first, _)| *first)
    }

    /// Takes the earliest pane out if it begins before a time; its first time and its values.
    pub fn take_earliest(&mut self, before: i128) -> Option<(i64, PaneValues<K, V>)> {
        let entry = self.panes.first_entry()?;
        if i128::from(*entry.key()) >= before {
            return None;
        }
        let (first, (_, values)) = entry.remove_entry();
        self.sizes.clear();
        if let PaneValues::Many(table) = &values {
            self.sizes.extend(table.sizes());
        }
        Some((first, values))
    }
}

/// Moves the entries of a table to groups.
fn regrouped<K: Key, V>(
    table: HashTable<(K, V)>,
    mut groups: GroupTable<K, V>,
) -> GroupTable<K, V> {
    for (key, value) in table {
        groups.insert_new(key.stable_hash(), key, value);
    }
    groups
}

/// The number of panes of a key from which on they are forgotten several at once.
const LONG: usize = 1_024;

/// The values of one key in the panes of which a window is complete, in order of time.
#[derive(Debug, Clone)]
pub struct KeyPanes<V>(Vec<(i64, V)>);

impl<V: Clone> KeyPanes<V> {
    /// No value yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The value in the pane with this first time; the error is the place for one.
    ///
    /// # Errors
    /// There is none.
    pub fn find(&mut self, first: i64) -> Result<&mut V, usize> {
        // Mostly the pane is later than all others.
        if self.0.last().is_none_or(|(last, _)| *last < first) {
            return Err(self.0.len());
        }
        let at = self.0.binary_search_by_key(&first, |(pane, _)| *pane)?;
        self.0.get_mut(at).map(|(_, value)| value).ok_or(at)
    }

    /// Adds a value at the place that [`KeyPanes::find`] gave.
    pub fn insert(&mut self, at: usize, first: i64, value: V) {
        self.0.insert(at, (first, value));
    }

    /// The values in panes from one time on and before another, in order of time.
    pub fn between(&self, from: i128, before: i128) -> impl Iterator<Item = &V> {
        let start = self.0.partition_point(|(pane, _)| i128::from(*pane) < from);
        let values = self.0.iter().skip(start);
        values.take_while(move |(pane, _)| i128::from(*pane) < before).map(|(_, value)| value)
    }

    /// Forgets the values of panes before a time, of very many panes several at once; `false` if
    /// none is left.
    pub fn keep_from(&mut self, from: i128) -> bool {
        let expired = self.0.partition_point(|(pane, _)| i128::from(*pane) < from);
        let count = self.0.len();
        // Each time all others move up.
        if expired == count || count < LONG || expired > count / 16 {
            self.0.drain(..expired);
        }
        !self.0.is_empty()
    }
}

impl<V: Clone> Default for KeyPanes<V> {
    fn default() -> Self {
        Self::new()
    }
}

/// The values of all keys in the panes of which a window is complete.
#[derive(Debug)]
pub struct ClosedPanes<K, V>(GroupTable<K, KeyPanes<V>>);

/// A place among the entries of a [`ClosedPanes`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Cursor {
    group: usize,
    /// The place behind the entry.
    next: usize,
}

impl<K: Key, V: Clone> ClosedPanes<K, V> {
    /// No value yet, for these key groups of `max_parallelism`.
    #[must_use]
    pub fn new(groups: Range<u16>, max_parallelism: MaxParallelism) -> Self {
        Self(GroupTable::new(groups, max_parallelism))
    }

    /// The panes of a key.
    pub fn of_key(&mut self, hash: u64, key: &K) -> &mut KeyPanes<V> {
        self.0.get_or_insert_with(hash, key, KeyPanes::new).0
    }

    /// Adds a value that was restored to the pane with this first time.
    pub fn put_back(&mut self, first: i64, hash: u64, key: &K, value: V) {
        let panes = self.of_key(hash, key);
        if let Err(at) = panes.find(first) {
            panes.insert(at, first, value);
        }
    }

    /// Begins a copy of the values as they are now.
    pub(crate) fn begin_copy(&mut self, written: &SharedWritten, write: WritePane<K, V>)
    where
        V: 'static,
    {
        let each = move |key: &K, KeyPanes(panes): &KeyPanes<V>, bytes: &mut _| {
            panes.iter().try_for_each(|(first, value)| write(key, *first, value, bytes))
        };
        self.0.begin_copy(written, Box::new(each));
    }

    /// Goes on with the copy; whether it is whole.
    pub(crate) fn copy_some(&mut self, budget: &mut SliceBudget) -> bool {
        self.0.copy_some(budget)
    }

    pub(crate) fn drop_copy(&mut self) {
        self.0.drop_copy();
    }

    /// Forgets a key that has no values.
    pub fn forget_empty(&mut self, hash: u64, key: &K) {
        if self.0.get(hash, key).is_some_and(|panes| panes.0.is_empty()) {
            self.0.remove(hash, key);
        }
    }

    /// Takes in the values of a group at the cursor, which is at the group's begin, from panes that
    /// begin at these times.
    pub fn take_in(&mut self, cursor: Cursor, panes: &mut [(i64, GroupTable<K, V>)]) {
        for (first, table) in panes {
            for (key, value) in table.take_group(cursor.group) {
                let hash = key.stable_hash();
                match self.0.get_mut(hash, &key) {
                    Some(panes) => {
                        let at = panes.find(*first).err().unwrap_or(panes.0.len());
                        panes.insert(at, *first, value);
                    }
                    None => {
                        self.0.insert_new(hash, key, KeyPanes(vec![(*first, value)]));
                    }
                }
            }
        }
    }

    /// Moves the cursor to the next entry of its group; `false` if there is none.
    #[inline]
    pub fn next_entry(&self, cursor: &mut Cursor) -> bool {
        let found = self.0.next_place(cursor.group, cursor.next);
        cursor.next = found.map_or(usize::MAX, |at| at + 1);
        found.is_some()
    }

    /// The entry at the cursor.
    #[inline]
    pub fn entry(&mut self, cursor: Cursor) -> Option<&mut (K, KeyPanes<V>)> {
        self.0.entry_at(cursor.group, cursor.next.checked_sub(1)?)
    }

    /// Forgets the entry at the cursor.
    pub fn forget(&mut self, cursor: Cursor) {
        if let Some(at) = cursor.next.checked_sub(1) {
            self.0.remove_at(cursor.group, at);
        }
    }

    /// Moves the cursor to the next group; `false` if there is none.
    pub const fn next_group(&self, cursor: &mut Cursor) -> bool {
        *cursor = Cursor { group: cursor.group + 1, next: 0 };
        cursor.group < self.0.group_count()
    }

    /// The values of a pane by key group, to be taken in.
    pub fn grouped(&self, values: PaneValues<K, V>) -> GroupTable<K, V> {
        match values {
            PaneValues::Many(table) => table,
            PaneValues::Few(FewKeys(table)) => regrouped(table, self.0.with_same_groups()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_keeps_few_panes_that_are_over_and_forgets_all_in_the_end() {
        for count in [10, 100_000] {
            let mut panes = KeyPanes::new();
            for first in 0..count {
                let at = panes.find(first).unwrap_err();
                panes.insert(at, first, first);
            }
            for from in 1..count {
                assert!(panes.keep_from(from.into()));
                let live: Vec<_> = panes.between(from.into(), i128::from(from) + 3).collect();
                assert_eq!(live.first(), Some(&&from));
                assert!(live.len() <= 3 && live.is_sorted());
                let kept = i64::try_from(panes.0.len()).unwrap();
                let over = kept - (count - from);
                assert!(over == 0 || over <= kept / 16, "{over} of {kept} are over");
            }
            assert!(!panes.keep_from(count.into()));
        }
    }
}
