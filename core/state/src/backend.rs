//! An operator's keyed states and its current key.

use std::any::Any;
use std::cell::RefCell;
use std::ops::Range;

use millstream_types::{Clock, Key, MaxParallelism, Schema, State};

use crate::cleaning::Cleaning;
use crate::copying::{SharedWritten, SliceBudget};
use crate::error::StateError;
use crate::expiry::{Ages, Expire, Ttl};
use crate::keyed::{Backing, Table};
use crate::snapshot::{Restored, StateKind};
use crate::table::GroupTable;
use crate::timer_queue::AllTimers;

/// The context of a state handle: the keyed states and the key of the current record.
pub trait KeyedContext {
    /// The key's type.
    type Key: Key;

    /// The operator's states, to read.
    fn backend(&self) -> &KeyedBackend<Self::Key>;

    /// The operator's states, to change.
    fn backend_mut(&mut self) -> &mut KeyedBackend<Self::Key>;
}

/// The keyed states of one operator's subtask.
///
/// ```
/// # use millstream_state::*;
/// # use millstream_types::{Key, MaxParallelism};
/// # let mut states = KeyedBackend::<u32>::new(0..128, MaxParallelism::DEFAULT);
/// let last: ValueState<String> = states.value("last")?;
/// let all: ListState<String> = states.list("all")?;
/// let counts: MapState<String, u64> = states.map("counts")?;
/// assert!(states.value::<u64>("last").is_err()); // each state has a name of its own
/// # let _ = (last, all, counts);
/// # Ok::<(), StateError>(())
/// ```
#[derive(Debug)]
pub struct KeyedBackend<K> {
    backing: Backing,
    groups: Range<u16>,
    max_parallelism: MaxParallelism,
    declared: Vec<Declared>,
    tables: Vec<Box<dyn AnyTable<K>>>,
    pub(crate) current: Option<(K, u64)>,
    pub(crate) timers: AllTimers<K>,
    /// Undoes the changes since the key was set; `None` while changes are not remembered.
    undo: Option<RefCell<Vec<Undo<K>>>>,
    /// That, while changes are made that are never taken back.
    paused_undo: Option<RefCell<Vec<Undo<K>>>>,
    ages: Ages,
    pub(crate) restored: Restored,
    /// The snapshot that is being written.
    pub(crate) slices: Option<BackendSlices>,
}

/// A snapshot that is being written: the states and timers in the order of their declaration.
#[derive(Debug)]
pub(crate) struct BackendSlices {
    pub(crate) states: Vec<SharedWritten>,
    pub(crate) timers: Vec<SharedWritten>,
}

#[derive(Debug)]
struct Declared {
    name: &'static str,
    schema: Schema,
    ttl: Option<Ttl>,
}

/// A state's table, and the cleaning of one whose values expire.
struct Held<K, V> {
    table: Table<K, V>,
    cleaning: Option<Cleaning<V>>,
}

/// A state's table without the type of its values.
trait AnyTable<K>: Send {
    fn as_any(&self) -> &dyn Any;
    fn as_any_mut(&mut self) -> &mut dyn Any;
    fn leave(&mut self) -> Result<(), StateError>;
    fn prepare(&mut self, keys: &[(K, u64)]) -> Result<(), StateError>;
    fn bytes(&self) -> usize;
    fn prefetch(&self, hash: u64);
    fn prefetch_key(&self, hash: u64);
    fn contains(&self, hash: u64, key: &K, now: i64) -> Result<bool, StateError>;
    fn keys_of_group(&self, at: usize, now: i64) -> Result<Vec<K>, StateError>;
    fn clean(&mut self, now: i64, records: usize) -> Result<(), StateError>;
    fn begin_copy(&mut self, state: &'static str, now: i64) -> Result<SharedWritten, StateError>;
    fn copy_some(&mut self, budget: &mut SliceBudget) -> bool;
    fn drop_copy(&mut self);
}

impl<K: Key, V: State> AnyTable<K> for Held<K, V> {
    fn as_any(&self) -> &dyn Any {
        &self.table
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        &mut self.table
    }

    fn leave(&mut self) -> Result<(), StateError> {
        self.table.leave()
    }

    fn prepare(&mut self, keys: &[(K, u64)]) -> Result<(), StateError> {
        self.table.prepare(keys)
    }

    fn bytes(&self) -> usize {
        self.table.on_heap().map_or(0, GroupTable::bytes)
    }

    fn prefetch(&self, hash: u64) {
        if let Some(values) = self.table.on_heap() {
            values.prefetch(hash);
        }
    }

    fn prefetch_key(&self, hash: u64) {
        if let Some(values) = self.table.on_heap() {
            values.prefetch_key(hash, values.prefetch(hash));
        }
    }

    fn contains(&self, hash: u64, key: &K, now: i64) -> Result<bool, StateError> {
        let live = self.cleaning.as_ref().map(|cleaning| cleaning.live(now));
        self.table.contains(hash, key, live)
    }

    fn keys_of_group(&self, at: usize, now: i64) -> Result<Vec<K>, StateError> {
        let live = self.cleaning.as_ref().map(|cleaning| cleaning.live(now));
        self.table.keys_of_group(at, live)
    }

    fn clean(&mut self, now: i64, records: usize) -> Result<(), StateError> {
        match &mut self.cleaning {
            Some(cleaning) => cleaning.clean(&mut self.table, now, records),
            None => Ok(()),
        }
    }

    fn begin_copy(&mut self, state: &'static str, now: i64) -> Result<SharedWritten, StateError> {
        let live = self.cleaning.as_ref().map(|cleaning| cleaning.live(now));
        self.table.begin_copy(state, live)
    }

    fn copy_some(&mut self, budget: &mut SliceBudget) -> bool {
        self.table.copy_some(budget)
    }

    fn drop_copy(&mut self) {
        self.table.drop_copy();
    }
}

impl<K> std::fmt::Debug for dyn AnyTable<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").finish_non_exhaustive()
    }
}

/// Undoes one change of the current key's state or timers.
struct Undo<K> {
    /// The number of the state that was changed, if it was one.
    slot: Option<usize>,
    run: BackendChange<K>,
}

type BackendChange<K> = Box<dyn FnOnce(&mut KeyedBackend<K>) -> Result<(), StateError> + Send>;

impl<K> std::fmt::Debug for Undo<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Undo").field("slot", &self.slot).finish_non_exhaustive()
    }
}

impl<K: Key> KeyedBackend<K> {
    /// No state yet, for these key groups, on the heap.
    #[must_use]
    pub fn new(groups: Range<u16>, max_parallelism: MaxParallelism) -> Self {
        Self::on(Backing::Heap, groups, max_parallelism)
    }

    /// As [`KeyedBackend::new`], wherever the values are kept.
    #[must_use]
    pub fn on(backing: Backing, groups: Range<u16>, max_parallelism: MaxParallelism) -> Self {
        let (declared, tables, timers) = (Vec::new(), Vec::new(), AllTimers::new());
        let (current, undo) = (None, None);
        let ages = Ages::default();
        Self {
            backing,
            groups,
            max_parallelism,
            declared,
            tables,
            current,
            timers,
            undo,
            paused_undo: None,
            ages,
            restored: Restored::default(),
            slices: None,
        }
    }

    /// Sets the clock by which values expire; without it that is the system's.
    pub fn set_clock(&mut self, clock: Clock) {
        self.ages = Ages::of(clock);
    }

    pub(crate) const fn ages(&self) -> &Ages {
        &self.ages
    }

    /// Declares a state under a name that this operator has not used yet.
    pub(crate) fn declare<V: State>(&mut self, name: &'static str) -> Result<Slot, StateError> {
        self.add_table::<V>(name, None, None)
    }

    /// As [`KeyedBackend::declare`], of values that expire.
    pub(crate) fn declare_expiring<V: Expire>(
        &mut self,
        name: &'static str,
        ttl: Ttl,
    ) -> Result<Slot, StateError> {
        self.add_table::<V>(name, Some(ttl), Some(Cleaning::new()))
    }

    fn add_table<V: State>(
        &mut self,
        name: &'static str,
        ttl: Option<Ttl>,
        cleaning: Option<Cleaning<V>>,
    ) -> Result<Slot, StateError> {
        self.ensure_new(name)?;
        let index = self.tables.len();
        let number = u16::try_from(index).map_err(|_| StateError::TooMany)?;
        let (groups, max_parallelism) = (self.groups.clone(), self.max_parallelism);
        let mut table = Table::<K, V>::new(&self.backing, groups, max_parallelism, name, number);
        self.restore_values(&mut table, name, ttl.is_some())?;
        self.declared.push(Declared { name, schema: Schema::of::<V>(), ttl });
        self.tables.push(Box::new(Held { table, cleaning }));
        Ok(Slot { index, name })
    }

    /// An error if a state or timer has this name.
    pub(crate) fn ensure_new(&self, name: &str) -> Result<(), StateError> {
        let is_state = self.declared.iter().any(|declared| declared.name == name);
        if is_state || self.timers.is_declared(name) {
            return Err(StateError::Duplicate(name.to_owned()));
        }
        Ok(())
    }

    /// The names of the declared states, each with the schema of what it keeps for a key, and its
    /// time-to-live. A value that expires is kept as a pair of that time and itself.
    pub fn schemas(&self) -> impl Iterator<Item = (&'static str, &Schema, Option<Ttl>)> {
        self.declared.iter().map(|declared| (declared.name, &declared.schema, declared.ttl))
    }

    /// Deletes expired values, of which it looks for a few: so many records pay for it. An operator
    /// calls this once per batch, before any key of it is set. While a snapshot is being written
    /// nothing is deleted: what it has not written yet would be.
    ///
    /// # Errors
    /// The store fails; never on the heap.
    pub fn clean(&mut self, records: usize) -> Result<(), StateError> {
        let none_expires = self.declared.iter().all(|declared| declared.ttl.is_none());
        if none_expires || self.slices.is_some() {
            return Ok(());
        }
        let now = self.ages.now();
        self.tables.iter_mut().try_for_each(|table| table.clean(now, records))
    }

    /// Makes this key the current one.
    ///
    /// # Errors
    /// The state of the key before it cannot be written; never on the heap.
    #[inline]
    pub fn set_key(&mut self, key: K, hash: u64) -> Result<(), StateError> {
        self.leave_key()?;
        self.current = Some((key, hash));
        Ok(())
    }

    /// Makes a copy of this key the current one, in the memory of the one before it.
    ///
    /// # Errors
    /// As [`KeyedBackend::set_key`].
    #[inline]
    pub fn copy_key(&mut self, key: &K, hash: u64) -> Result<(), StateError> {
        self.leave_key()?;
        match &mut self.current {
            Some((current, current_hash)) => {
                current.copy_from(key);
                *current_hash = hash;
            }
            None => self.current = Some((key.clone(), hash)),
        }
        Ok(())
    }

    #[inline]
    fn leave_key(&mut self) -> Result<(), StateError> {
        if let Some(undo) = &mut self.undo {
            undo.get_mut().clear();
        }
        match self.backing {
            Backing::Heap => Ok(()),
            Backing::Store(_) => self.tables.iter_mut().try_for_each(|table| table.leave()),
        }
    }

    /// Says which keys come next, with their hashes, so that a store reads their values at once. On
    /// the heap `keys` is not asked for any.
    ///
    /// # Errors
    /// The store fails.
    #[inline]
    pub fn prepare(&mut self, keys: impl Iterator<Item = (K, u64)>) -> Result<(), StateError> {
        match self.backing {
            Backing::Heap => Ok(()),
            Backing::Store(_) => {
                let keys: Vec<_> = keys.collect();
                self.tables.iter_mut().try_for_each(|table| table.prepare(&keys))
            }
        }
    }

    /// About how much heap the entries of the largest state take, without what they point to.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.tables.iter().map(|table| table.bytes()).max().unwrap_or(0)
    }

    /// Asks the processor to fetch the entries of a key that are on the heap.
    pub fn prefetch(&self, hash: u64) {
        self.tables.iter().for_each(|table| table.prefetch(hash));
    }

    /// Asks the processor to fetch what the key of these entries points to.
    pub fn prefetch_key(&self, hash: u64) {
        self.tables.iter().for_each(|table| table.prefetch_key(hash));
    }

    /// The keys of the key group at this place (from 0) that have a value in any state, unless that
    /// has expired, each once; `None` beyond the last group.
    ///
    /// # Errors
    /// The store fails; never on the heap.
    pub fn keys_of_group(&mut self, at: usize) -> Result<Option<Vec<K>>, StateError> {
        if at >= self.groups.len() {
            return Ok(None);
        }
        self.leave_key()?;
        let now = self.ages.now();
        let mut keys = Vec::new();
        for (number, table) in self.tables.iter().enumerate() {
            let earlier = self.tables.get(..number).unwrap_or_default();
            for key in table.keys_of_group(at, now)? {
                let hash = key.stable_hash();
                let mut is_known = false;
                for table in earlier {
                    is_known = is_known || table.contains(hash, &key, now)?;
                }
                if !is_known {
                    keys.push(key);
                }
            }
        }
        Ok(Some(keys))
    }

    #[cfg(any(test, feature = "test-util"))]
    pub(crate) const fn backing(&self) -> &Backing {
        &self.backing
    }

    pub(crate) fn groups(&self) -> Range<u16> {
        self.groups.clone()
    }

    pub(crate) const fn max_parallelism(&self) -> MaxParallelism {
        self.max_parallelism
    }

    /// Begins copies of the states, without timers.
    pub(crate) fn begin_copies(&mut self) -> Result<Vec<SharedWritten>, StateError> {
        self.leave_key()?;
        let now = self.ages.now();
        let tables = self.declared.iter().zip(&mut self.tables);
        tables.map(|(declared, table)| table.begin_copy(declared.name, now)).collect()
    }

    /// Goes on with the copies of the states; whether they are whole.
    pub(crate) fn copy_some(&mut self, budget: &mut SliceBudget) -> bool {
        self.tables.iter_mut().all(|table| table.copy_some(budget))
    }

    pub(crate) fn drop_copies(&mut self) {
        self.tables.iter_mut().for_each(|table| table.drop_copy());
    }

    /// The names and kinds of the states, without timers.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = (&'static str, StateKind)> {
        self.declared.iter().map(|Declared { name, schema, ttl }| {
            let kind = StateKind::Values { schema: schema.clone(), expires: ttl.is_some() };
            (*name, kind)
        })
    }

    /// From now on remembers how to undo what is done to the state of the key at hand. Changes cost
    /// more then: the bytes of a value are kept before it is handed out to be changed.
    pub fn keep_undo(&mut self) {
        self.undo.get_or_insert_default();
    }

    /// Remembers nothing until [`KeyedBackend::resume_undo`]: for changes that are never undone.
    pub fn pause_undo(&mut self) {
        self.paused_undo = self.undo.take();
    }

    /// Ends [`KeyedBackend::pause_undo`].
    pub fn resume_undo(&mut self) {
        self.undo = self.undo.take().or(self.paused_undo.take());
    }

    /// Undoes what was done since the key was set, if that was remembered.
    ///
    /// # Errors
    /// The store fails, or a value cannot be read from the bytes that were kept.
    pub fn take_back(&mut self) -> Result<(), StateError> {
        while let Some(undo) = self.undo.as_mut().and_then(|undo| undo.get_mut().pop()) {
            (undo.run)(self)?;
        }
        Ok(())
    }

    /// The table of a declared state.
    #[inline]
    pub(crate) fn table_of<V: State>(
        &mut self,
        slot: Slot,
    ) -> Result<&mut Table<K, V>, StateError> {
        let table = self.tables.get_mut(slot.index);
        let table = table.and_then(|table| table.as_any_mut().downcast_mut());
        table.ok_or(StateError::Foreign(slot.name))
    }

    /// Whether changes are remembered.
    #[inline]
    #[must_use]
    pub const fn keeps_undo(&self) -> bool {
        self.undo.is_some()
    }

    /// Whether this state was changed since the key was set, as far as that is remembered.
    pub(crate) fn is_changed(&self, slot: Slot) -> bool {
        let undo = self.undo.as_ref().map(RefCell::borrow);
        undo.is_some_and(|undo| undo.iter().any(|undo| undo.slot == Some(slot.index)))
    }

    /// Remembers how to undo a change; `undo` is given the table, the key's hash and the key.
    #[inline]
    pub(crate) fn on_take_back<V: State>(
        &self,
        slot: Slot,
        undo: impl FnOnce(&mut Table<K, V>, u64, &K) -> Result<(), StateError> + Send + 'static,
    ) {
        self.remember(Some(slot.index), slot, undo);
    }

    /// As [`KeyedBackend::on_take_back`], of a read, after which the value is still unchanged.
    pub(crate) fn on_take_back_read<V: State>(
        &self,
        slot: Slot,
        undo: impl FnOnce(&mut Table<K, V>, u64, &K) -> Result<(), StateError> + Send + 'static,
    ) {
        self.remember(None, slot, undo);
    }

    #[inline]
    fn remember<V: State>(
        &self,
        changed: Option<usize>,
        slot: Slot,
        undo: impl FnOnce(&mut Table<K, V>, u64, &K) -> Result<(), StateError> + Send + 'static,
    ) {
        if let Some(all) = &self.undo {
            let run = Box::new(move |backend: &mut Self| {
                let (table, hash, key) = backend.at_mut::<V>(slot)?;
                undo(table, hash, key)
            });
            all.borrow_mut().push(Undo { slot: changed, run });
        }
    }

    /// Remembers how to undo a change of the current key's timers.
    #[inline]
    pub(crate) fn on_undo(
        &mut self,
        undo: impl FnOnce(&mut Self) -> Result<(), StateError> + Send + 'static,
    ) {
        if let Some(all) = &mut self.undo {
            all.get_mut().push(Undo { slot: None, run: Box::new(undo) });
        }
    }

    /// The current key.
    ///
    /// # Panics
    /// Outside of a record's processing: an operator always sets the key first.
    #[inline]
    #[must_use]
    pub fn key(&self) -> &K {
        &self.current.as_ref().expect("the operator sets the key before user code runs").0
    }

    /// The table of a declared state with the current key and its hash, to read.
    #[inline]
    pub(crate) fn at<V: State>(&self, slot: Slot) -> Result<(&Table<K, V>, u64, &K), StateError> {
        let table = self.tables.get(slot.index).and_then(|table| table.as_any().downcast_ref());
        match (table, &self.current) {
            (Some(table), Some((key, hash))) => Ok((table, *hash, key)),
            (None, _) | (_, None) => Err(StateError::Foreign(slot.name)),
        }
    }

    /// The table of a declared state with the current key and its hash, to change.
    #[inline]
    pub(crate) fn at_mut<V: State>(
        &mut self,
        slot: Slot,
    ) -> Result<(&mut Table<K, V>, u64, &K), StateError> {
        let table =
            self.tables.get_mut(slot.index).and_then(|table| table.as_any_mut().downcast_mut());
        match (table, &self.current) {
            (Some(table), Some((key, hash))) => Ok((table, *hash, key)),
            (None, _) | (_, None) => Err(StateError::Foreign(slot.name)),
        }
    }
}

impl<K: Key> KeyedContext for KeyedBackend<K> {
    type Key = K;

    fn backend(&self) -> &Self {
        self
    }

    fn backend_mut(&mut self) -> &mut Self {
        self
    }
}

/// Names the table of a state handle.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot {
    index: usize,
    name: &'static str,
}

impl Slot {
    pub(crate) const fn name(self) -> &'static str {
        self.name
    }
}
