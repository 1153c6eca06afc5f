//! The snapshot of an operator's keyed states and timers, at once or in slices.

use std::sync::Arc;

use millstream_types::{Key, Schema, State};

use crate::backend::{BackendSlices, KeyedBackend};
use crate::copying::{SharedWritten, SliceBudget, Written, lock};
use crate::error::StateError;
use crate::keyed::Table;
use crate::parts::{GroupSnapshot, PartSink};
use crate::snapshot::{KeyedSnapshot, StateKind, StateSnapshot};
use crate::timer_queue::TimeDomain;

/// Keyed states of which a snapshot is written in slices.
pub trait InSlices {
    /// Begins a snapshot of the states as they are now; one that is being written is dropped. The
    /// parts that a sink takes are not in the snapshot; it is dropped with it.
    ///
    /// # Errors
    /// The store fails, or a value cannot be written.
    fn begin_slices(&mut self, sink: Option<&Arc<dyn PartSink>>) -> Result<(), StateError>;

    /// Writes a part of the snapshot; the snapshot once it is whole. Without one it does nothing.
    ///
    /// # Errors
    /// A value cannot be written; the snapshot is dropped.
    fn write_slice(
        &mut self,
        budget: &mut SliceBudget,
    ) -> Result<Option<KeyedSnapshot>, StateError>;

    /// Drops the snapshot that is being written.
    fn drop_slices(&mut self);
}

impl<K: Key> KeyedBackend<K> {
    /// Writes all states and timers. Values that have expired are left out.
    ///
    /// # Errors
    /// The store fails, or a value cannot be written.
    pub fn snapshot(&mut self) -> Result<KeyedSnapshot, StateError> {
        self.begin_slices(None)?;
        let snapshot = self.write_slice(&mut SliceBudget::unlimited())?;
        Ok(snapshot.expect("a slice without a limit writes all that is left"))
    }

    /// Copies the entry of the current key, which is about to change while it is shared.
    #[inline]
    pub(crate) fn copy_current<V: State>(&self, table: &Table<K, V>) {
        if let (Some(_), Some((key, hash))) = (&self.slices, &self.current) {
            table.copy_before(*hash, key);
        }
    }

    fn begin_timers(&mut self) -> Vec<SharedWritten> {
        let (groups, max_parallelism) = (self.groups(), self.max_parallelism());
        let names = self.timers.names.clone();
        let all: Vec<_> = names.iter().map(|_| Written::of(groups.clone()).shared()).collect();
        for domain in [TimeDomain::Event, TimeDomain::Processing] {
            let of = names.iter().zip(&all).map(|(timers, written)| {
                (timers.domain == domain).then(|| (timers.name, SharedWritten::clone(written)))
            });
            let of = of.collect();
            self.timers.queue_mut(domain).begin_copy(of, groups.start, max_parallelism);
        }
        all
    }

    fn copy_timers(&mut self, budget: &mut SliceBudget) -> bool {
        self.timers.queue_mut(TimeDomain::Event).copy_some(budget)
            && self.timers.queue_mut(TimeDomain::Processing).copy_some(budget)
    }

    /// The snapshot that has been written.
    fn whole(&self, slices: &BackendSlices) -> Result<KeyedSnapshot, StateError> {
        let timers = self.timers.names.iter();
        let timers = timers.map(|timers| (timers.name, StateKind::Timers(timers.domain)));
        let states = self.kinds().zip(&slices.states).chain(timers.zip(&slices.timers));
        let states = states.map(|((name, kind), written)| {
            let groups = GroupSnapshot::all(lock(written).take()?);
            Ok(StateSnapshot { name: name.to_owned(), kind, groups })
        });
        let states = states.collect::<Result<_, _>>()?;
        let max_parallelism = self.max_parallelism().get();
        Ok(KeyedSnapshot { key: Schema::of::<K>(), max_parallelism, states })
    }
}

impl<K: Key> InSlices for KeyedBackend<K> {
    fn begin_slices(&mut self, sink: Option<&Arc<dyn PartSink>>) -> Result<(), StateError> {
        self.drop_slices();
        let begun = self.begin_copies();
        let Ok(states) = begun else {
            self.drop_slices();
            return begun.map(|_| ());
        };
        let timers = self.begin_timers();
        if let Some(sink) = sink {
            let all = (0..).zip(states.iter().chain(&timers));
            all.for_each(|(state, written)| lock(written).send_parts(sink, state));
        }
        self.slices = Some(BackendSlices { states, timers });
        Ok(())
    }

    fn write_slice(
        &mut self,
        budget: &mut SliceBudget,
    ) -> Result<Option<KeyedSnapshot>, StateError> {
        if self.slices.is_none() || !self.copy_some(budget) || !self.copy_timers(budget) {
            return Ok(None);
        }
        self.slices.take().map(|slices| self.whole(&slices)).transpose()
    }

    fn drop_slices(&mut self) {
        self.slices = None;
        self.drop_copies();
        self.timers.queue_mut(TimeDomain::Event).drop_copy();
        self.timers.queue_mut(TimeDomain::Processing).drop_copy();
    }
}
