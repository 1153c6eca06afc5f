//! Snapshots in slices: a state is written while its values change.
//!
//! When a snapshot begins nothing is written yet. Slices then write the entries in the order of
//! their places. What is about to change or to go is written before that, as it was, and its place
//! is marked: slices pass it by. A new entry is marked without being written. So the snapshot has
//! the entries of the moment at which it began, in whatever order.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashTable;
use millstream_types::Key;
use serde::Serialize;

use crate::codec::encode_into;
use crate::error::StateError;
use crate::parts::{GroupSnapshot, PartSink};

/// The work that is left to a slice of a snapshot, as the number of bytes that it writes.
#[derive(Debug)]
pub struct SliceBudget(usize);

/// A place that is looked at costs about as much time as writing so many bytes.
const LOOK: usize = 2;

impl SliceBudget {
    /// A slice of about so many bytes: it ends behind the entry with which it has written them.
    #[must_use]
    pub const fn of(bytes: usize) -> Self {
        Self(bytes)
    }

    /// A slice with all that is left.
    #[must_use]
    pub const fn unlimited() -> Self {
        Self(usize::MAX)
    }

    /// Whether nothing is left.
    #[must_use]
    pub const fn is_spent(&self) -> bool {
        self.0 == 0
    }

    pub(crate) const fn spend(&mut self, bytes: usize) {
        // What is unlimited stays so.
        if self.0 != usize::MAX {
            self.0 = self.0.saturating_sub(bytes);
        }
    }
}

/// The entries of a state that are written, by key group.
#[derive(Debug)]
pub(crate) struct Written {
    first: u16,
    groups: Vec<GroupBytes>,
    /// Where full parts go, and the number of the state there.
    sink: Option<(Arc<dyn PartSink>, u32)>,
    /// Room for the next group.
    room: Vec<u8>,
    /// The number of tables that are not written to their ends.
    pub(crate) tables: usize,
    error: Option<StateError>,
}

/// Entries of one key group.
#[derive(Debug, Default)]
pub(crate) struct GroupBytes {
    entries: u64,
    bytes: Vec<u8>,
    /// Parts before these, with the number of their entries: a part has a bounded size, so that it
    /// is not moved as a whole each time when it grows.
    full: Vec<(u64, Vec<u8>)>,
}

/// The size of a part of a group.
const PART: usize = if cfg!(test) { 100 } else { 256 << 10 };

/// The rest of a group that a sink takes for itself.
const REST_MIN: usize = PART / 4;

/// The entries that several tables write.
pub(crate) type SharedWritten = Arc<Mutex<Written>>;

impl GroupBytes {
    /// Adds one entry.
    pub(crate) fn add<T: Serialize>(
        &mut self,
        state: &'static str,
        entry: &T,
    ) -> Result<(), StateError> {
        encode_into(state, entry, &mut self.bytes)?;
        self.entries += 1;
        Ok(())
    }

    /// All parts that have entries.
    fn into_parts(self) -> impl Iterator<Item = (u64, Vec<u8>)> {
        let parts = self.full.into_iter().chain([(self.entries, self.bytes)]);
        parts.filter(|(entries, _)| *entries > 0)
    }
}

impl Written {
    /// Nothing yet, of these key groups.
    pub(crate) fn of(groups: std::ops::Range<u16>) -> Self {
        let first = groups.start;
        let groups = groups.map(|_| GroupBytes::default()).collect();
        Self { first, groups, sink: None, room: Vec::new(), tables: 0, error: None }
    }

    /// All entries of key groups from the first on, each with the number of them.
    pub(crate) fn whole(first: u16, groups: Vec<(u64, Vec<u8>)>) -> Self {
        let of = |(entries, bytes)| GroupBytes { entries, bytes, full: Vec::new() };
        let groups = groups.into_iter().map(of).collect();
        Self { first, groups, sink: None, room: Vec::new(), tables: 0, error: None }
    }

    /// Has a sink take full parts, as those of the state of this number.
    pub(crate) fn send_parts(&mut self, sink: &Arc<dyn PartSink>, state: u32) {
        self.sink = Some((Arc::clone(sink), state));
    }

    /// Has `write` add to the group at this place (from 0); the number of bytes.
    pub(crate) fn add(
        &mut self,
        at: usize,
        write: impl FnOnce(&mut GroupBytes) -> Result<(), StateError>,
    ) -> usize {
        let Some(group) = self.groups.get_mut(at) else { return 0 };
        if group.bytes.capacity() == 0 {
            std::mem::swap(&mut group.bytes, &mut self.room);
        }
        let before = group.bytes.len();
        match write(group) {
            Ok(()) => {
                let now = group.bytes.len();
                if now > PART - PART / 8 {
                    self.cut(at);
                }
                now - before
            }
            Err(error) => {
                self.error.get_or_insert(error);
                0
            }
        }
    }

    /// Begins a new part of a group.
    fn cut(&mut self, at: usize) {
        let Some(group) = self.groups.get_mut(at) else { return };
        let bytes = std::mem::take(&mut group.bytes);
        let entries = std::mem::take(&mut group.entries);
        let part = GroupSnapshot { group: self.first + at as u16, entries, bytes };
        let room = match &self.sink {
            Some((sink, state)) => sink.take(*state, part),
            None => Err(part),
        };
        group.bytes = room.unwrap_or_else(|part| {
            group.full.push((part.entries, part.bytes));
            Vec::with_capacity(PART)
        });
    }

    /// Hands on the rest of a group to which a table adds nothing more.
    fn end_group(&mut self, at: usize) {
        let is_large = |group: &GroupBytes| group.bytes.len() >= REST_MIN;
        if self.sink.is_none() || !self.groups.get(at).is_some_and(is_large) {
            return;
        }
        self.cut(at);
        if let Some(group) = self.groups.get_mut(at) {
            self.room = std::mem::take(&mut group.bytes);
        }
    }

    /// Takes the parts of the groups that have entries: each with its group and their number.
    pub(crate) fn take(&mut self) -> Result<Vec<(u16, u64, Vec<u8>)>, StateError> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let groups = (self.first..).zip(std::mem::take(&mut self.groups));
        let parts = groups.flat_map(|(group, bytes)| {
            let parts = bytes.into_parts();
            parts.map(move |(entries, bytes)| (group, entries, bytes))
        });
        Ok(parts.collect())
    }

    pub(crate) const fn has_failed(&self) -> bool {
        self.error.is_some()
    }

    pub(crate) fn shared(self) -> SharedWritten {
        Arc::new(Mutex::new(self))
    }
}

pub(crate) fn lock(written: &SharedWritten) -> MutexGuard<'_, Written> {
    written.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Places of which a part is marked; empty while none is.
#[derive(Debug, Default)]
pub(crate) struct Marks(Vec<u64>);

impl Marks {
    pub(crate) fn set(&mut self, at: usize) {
        let word = at / 64;
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        if let Some(word) = self.0.get_mut(word) {
            *word |= 1 << (at % 64);
        }
    }

    #[inline]
    pub(crate) fn has(&self, at: usize) -> bool {
        self.0.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }
}

/// Writes what is kept for a key.
pub(crate) type WriteEntry<K, V> =
    Box<dyn Fn(&K, &V, &mut GroupBytes) -> Result<(), StateError> + Send>;

/// The copy of a table's entries that is being written.
pub(crate) struct Copying<K, V> {
    write: WriteEntry<K, V>,
    written: SharedWritten,
    groups: Vec<GroupCopy>,
    /// The place of the group that slices have come to.
    at: usize,
}

/// The number of places of which one is about to change that are copied together, about, and the
/// number of bytes behind which no more of them are.
const BESIDE_PLACES: usize = 64;
const BESIDE: usize = 512;

/// The copy of one group.
#[derive(Debug, Default)]
struct GroupCopy {
    /// The entries before this place are copied.
    next: usize,
    /// Others that are copied, or new.
    marks: Marks,
}

/// The place behind all others.
const END: usize = usize::MAX;

impl<K, V> Copying<K, V> {
    /// None of so many groups is copied.
    pub(crate) fn new(groups: usize, written: &SharedWritten, write: WriteEntry<K, V>) -> Self {
        lock(written).tables += 1;
        let groups = (0..groups).map(|_| GroupCopy::default()).collect();
        Self { write, written: Arc::clone(written), groups, at: 0 }
    }

    /// Copies an entry as it is, unless that is done, and entries beside it as far as they are
    /// small: one that follows is in memory that was fetched already, and is not looked for again.
    #[inline]
    pub(crate) fn copy_entry(&mut self, group: usize, at: usize, table: &HashTable<(K, V)>) {
        let copy = self.groups.get(group);
        if copy.is_some_and(|copy| at >= copy.next && !copy.marks.has(at)) {
            self.copy_beside(group, at, table);
        }
    }

    fn copy_beside(&mut self, group: usize, at: usize, table: &HashTable<(K, V)>) {
        let Some(copy) = self.groups.get_mut(group) else { return };
        let mut written = lock(&self.written);
        let mut budget = SliceBudget::of(BESIDE);
        let first = at / BESIDE_PLACES * BESIDE_PLACES;
        let end = (first + BESIDE_PLACES).min(table.num_buckets());
        for at in [at].into_iter().chain(first.max(copy.next)..end) {
            if budget.is_spent() {
                break;
            }
            if copy.marks.has(at) {
                continue;
            }
            copy.marks.set(at);
            if let Some((key, value)) = table.get_bucket(at) {
                budget.spend(written.add(group, |bytes| (self.write)(key, value, bytes)));
            }
        }
    }

    /// Whether a group is copied to its end.
    pub(crate) fn is_done(&self, group: usize) -> bool {
        self.groups.get(group).is_none_or(|copy| copy.next == END)
    }

    /// Notes a new entry.
    pub(crate) fn on_new(&mut self, group: usize, at: usize) {
        if let Some(copy) = self.groups.get_mut(group)
            && at >= copy.next
        {
            copy.marks.set(at);
        }
    }

    /// Copies what is left of a group.
    pub(crate) fn finish_group(&mut self, group: usize, table: &HashTable<(K, V)>) {
        let written = Arc::clone(&self.written);
        self.copy_some(group, table, &mut lock(&written), &mut SliceBudget::unlimited());
    }

    /// Copies entries of a group; whether that was the rest of them.
    fn copy_some(
        &mut self,
        group: usize,
        table: &HashTable<(K, V)>,
        written: &mut Written,
        budget: &mut SliceBudget,
    ) -> bool {
        let Some(copy) = self.groups.get_mut(group) else { return true };
        while copy.next < table.num_buckets() {
            if budget.is_spent() {
                return false;
            }
            let at = copy.next;
            copy.next += 1;
            budget.spend(LOOK);
            if let Some((key, value)) = table.get_bucket(at)
                && !copy.marks.has(at)
            {
                budget.spend(written.add(group, |bytes| (self.write)(key, value, bytes)));
            }
        }
        *copy = GroupCopy { next: END, marks: Marks::default() };
        written.end_group(group);
        true
    }

    /// Copies entries of all groups; whether these were the last ones.
    pub(crate) fn slice(&mut self, tables: &[HashTable<(K, V)>], budget: &mut SliceBudget) -> bool {
        let written = Arc::clone(&self.written);
        let mut written = lock(&written);
        while let Some(table) = tables.get(self.at) {
            if written.has_failed() {
                return true;
            }
            if !self.copy_some(self.at, table, &mut written, budget) {
                return false;
            }
            self.at += 1;
        }
        true
    }
}

impl<K: Key, V> Copying<K, V> {
    /// Has a group take one more entry without moving others unnoticed.
    pub(crate) fn make_room(&mut self, group: usize, table: &mut HashTable<(K, V)>) {
        let Some(copy) = self.groups.get_mut(group) else { return };
        if copy.next == END || table.len() < table.capacity() {
            return;
        }
        let mut larger = HashTable::with_capacity(2 * table.len().max(2));
        let mut marks = Marks::default();
        for at in 0..table.num_buckets() {
            let Ok(entry) = table.get_bucket_entry(at) else { continue };
            let (entry, _) = entry.remove();
            let hash = entry.0.stable_hash();
            let moved = larger.insert_unique(hash, entry, |(key, _)| key.stable_hash());
            if at < copy.next || copy.marks.has(at) {
                marks.set(moved.bucket_index());
            }
        }
        *table = larger;
        *copy = GroupCopy { next: 0, marks };
    }
}

impl<K, V> Drop for Copying<K, V> {
    fn drop(&mut self) {
        lock(&self.written).tables -= 1;
    }
}

impl<K, V> fmt::Debug for Copying<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Copying").field("at", &self.at).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
