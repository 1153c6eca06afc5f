//! The declarations of states.

use std::hash::Hash;

use millstream_types::{Key, State};

use crate::backend::KeyedBackend;
use crate::combined::{AggregatingState, ReducingState};
use crate::error::StateError;
use crate::handles::{ListState, ValueState};
use crate::keyed::Table;
use crate::maps::{Map, MapState};

impl<K: Key> KeyedBackend<K> {
    /// The table of a state, for an operator that goes through a whole batch by itself. The current
    /// key is of no concern then, and nothing is undone.
    ///
    /// # Errors
    /// [`StateError::Foreign`].
    #[inline]
    pub fn table<V: State>(
        &mut self,
        state: &ValueState<V>,
    ) -> Result<&mut Table<K, V>, StateError> {
        self.table_of(state.slot())
    }

    /// Declares a state that holds one value per key.
    ///
    /// # Errors
    /// [`StateError::Duplicate`] or [`StateError::TooMany`].
    pub fn value<V: State>(&mut self, name: &'static str) -> Result<ValueState<V>, StateError> {
        self.declare::<V>(name).map(ValueState::new)
    }

    /// Declares a state that holds a list per key.
    ///
    /// # Errors
    /// [`StateError::Duplicate`] or [`StateError::TooMany`].
    pub fn list<V: State>(&mut self, name: &'static str) -> Result<ListState<V>, StateError> {
        self.declare::<Vec<V>>(name).map(ListState::new)
    }

    /// Declares a state that holds a map per key.
    ///
    /// # Errors
    /// [`StateError::Duplicate`] or [`StateError::TooMany`].
    pub fn map<M, V>(&mut self, name: &'static str) -> Result<MapState<M, V>, StateError>
    where
        M: Key + Hash,
        V: State,
    {
        self.declare::<Map<M, V>>(name).map(MapState::new)
    }

    /// Declares a state that holds one value per key, with which `combine` combines each value that
    /// is added.
    ///
    /// # Errors
    /// [`StateError::Duplicate`] or [`StateError::TooMany`].
    pub fn reducing<V: State>(
        &mut self,
        name: &'static str,
        combine: impl Fn(&mut V, V) + Send + 'static,
    ) -> Result<ReducingState<V>, StateError> {
        Ok(ReducingState::new(self.value(name)?, combine))
    }

    /// Declares a state that holds one value per key, made by `init`, to which `add` adds inputs
    /// and from which `result` makes an output.
    ///
    /// # Errors
    /// [`StateError::Duplicate`] or [`StateError::TooMany`].
    pub fn aggregating<I, A: State, O>(
        &mut self,
        name: &'static str,
        init: impl Fn() -> A + Send + 'static,
        add: impl Fn(&mut A, I) + Send + 'static,
        result: impl Fn(&A) -> O + Send + 'static,
    ) -> Result<AggregatingState<I, A, O>, StateError> {
        Ok(AggregatingState::new(self.value(name)?, init, add, result))
    }
}
