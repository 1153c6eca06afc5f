//! The keys of a batch: hashed at once, and their entries asked for ahead of their use.

use std::mem::needs_drop;

use millstream_state::{KeySelector, KeyedBackend, KeyedValues, Place};
use millstream_types::Key;

use crate::Result;

/// The hashes of the records' keys.
pub(crate) fn hash_all<T, S: KeySelector<T>>(hashes: &mut Vec<u64>, records: &[T], selector: &S) {
    hashes.clear();
    hashes.extend(records.iter().map(|record| selector.with(record, Key::stable_hash)));
}

/// Whether most of the records' keys point somewhere, as far as some of them tell.
pub(crate) fn most_point<T, S: KeySelector<T>>(records: &[T], selector: &S) -> bool {
    let sample = records.iter().take(16);
    needs_drop::<S::Key>()
        && sample.filter(|record| selector.with(record, Key::prefetch)).count() * 2
            > records.len().min(16)
}

/// Number of records between asking for an entry and using it. Half way its key is asked for.
const LOOK_AHEAD: usize = 32;

/// Up to this size a table is near enough to a core that asking ahead costs more than it saves; a
/// quarter for all states of a function, which has timers beside. The tests see it in every table.
const CACHE_BYTES: usize = if cfg!(test) { 0 } else { 4 << 20 };

/// Asks for the entries of a batch ahead of their use, if their table is large.
pub(crate) struct Ahead<'a> {
    /// The hashes of the batch, if they are asked for.
    entries: &'a [u64],
    /// The same, if their keys are asked for too.
    keys: &'a [u64],
    /// The places of the next records' entries, each at its number modulo their number.
    places: [Place; LOOK_AHEAD],
}

impl<'a> Ahead<'a> {
    /// `far` says whether a comparison of two keys reads what they point to; it is asked only if
    /// the table is large.
    pub(crate) fn new<K, V>(
        hashes: &'a [u64],
        from: usize,
        values: &impl KeyedValues<K, V>,
        far: impl FnOnce() -> bool,
    ) -> Self {
        let entries = if values.bytes() > CACHE_BYTES { hashes } else { &[] };
        let keys = if !entries.is_empty() && far() { entries } else { &[] };
        let mut ahead = Self { entries, keys, places: [Place::NOWHERE; LOOK_AHEAD] };
        (from..from + LOOK_AHEAD).for_each(|at| ahead.ask(at, values));
        (from..from + LOOK_AHEAD / 2).for_each(|at| ahead.ask_key(at, values));
        ahead
    }

    #[inline]
    fn ask<K, V>(&mut self, at: usize, values: &impl KeyedValues<K, V>) {
        if let Some(hash) = self.entries.get(at) {
            self.places[at % LOOK_AHEAD] = values.prefetch(*hash);
        }
    }

    #[inline]
    fn ask_key<K, V>(&self, at: usize, values: &impl KeyedValues<K, V>) {
        if let Some(hash) = self.keys.get(at) {
            values.prefetch_key(*hash, self.places[at % LOOK_AHEAD]);
        }
    }

    #[inline]
    pub(crate) const fn is_wanted(&self) -> bool {
        !self.entries.is_empty()
    }

    /// Asks once more, before the record at this place in the batch. The place of its entry.
    #[inline]
    pub(crate) fn step<K, V>(&mut self, at: usize, values: &impl KeyedValues<K, V>) -> Place {
        let place = self.places[at % LOOK_AHEAD];
        self.ask(at + LOOK_AHEAD, values);
        self.ask_key(at + LOOK_AHEAD / 2, values);
        place
    }
}

/// The keys of a batch whose records a function processes one by one, with any states.
#[derive(Debug, Default)]
pub(crate) struct Upcoming {
    /// The hashes of the keys, if their entries are asked for ahead.
    hashes: Vec<u64>,
    /// The number of records that were processed.
    done: usize,
    /// A comparison of two keys reads what they point to.
    far: bool,
}

impl Upcoming {
    /// Begins with the records of a batch.
    ///
    /// # Errors
    /// Their state cannot be read from its store.
    pub(crate) fn begin<T, S: KeySelector<T>>(
        &mut self,
        records: &[T],
        selector: &S,
        states: &mut KeyedBackend<S::Key>,
    ) -> Result<()> {
        states.prepare(records.iter().map(|record| {
            let key = selector.owned(record);
            let hash = key.stable_hash();
            (key, hash)
        }))?;
        self.done = 0;
        self.hashes.clear();
        if states.bytes() > CACHE_BYTES / 4 {
            hash_all(&mut self.hashes, records, selector);
            self.far = most_point(records, selector);
            let first = |count| self.hashes.iter().take(count);
            first(LOOK_AHEAD).for_each(|hash| states.prefetch(*hash));
            if self.far {
                first(LOOK_AHEAD / 2).for_each(|hash| states.prefetch_key(*hash));
            }
        }
        Ok(())
    }

    /// The hash of the next record's key.
    #[inline]
    pub(crate) fn next<T, S: KeySelector<T>>(
        &mut self,
        record: &T,
        selector: &S,
        states: &KeyedBackend<S::Key>,
    ) -> u64 {
        let Some(hash) = self.hashes.get(self.done) else {
            return selector.with(record, Key::stable_hash);
        };
        if let Some(hash) = self.hashes.get(self.done + LOOK_AHEAD) {
            states.prefetch(*hash);
        }
        if self.far
            && let Some(hash) = self.hashes.get(self.done + LOOK_AHEAD / 2)
        {
            states.prefetch_key(*hash);
        }
        self.done += 1;
        *hash
    }
}
