//! The declarations of states.

use std::hash::Hash;

use millstream_types::{Key, State};

use crate::backend::KeyedBackend;
use crate::combined::{AggregatingState, ReducingState};
use crate::error::StateError;
use crate::expiry::{Expiring, NoTtl, Ttl};
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
        Ok(ValueState::new(self.declare::<V>(name)?, NoTtl))
    }

    /// Declares a state that holds a list per key.
    ///
    /// # Errors
    /// [`StateError::Duplicate`] or [`StateError::TooMany`].
    pub fn list<V: State>(&mut self, name: &'static str) -> Result<ListState<V>, StateError> {
        Ok(ListState::new(self.declare::<Vec<V>>(name)?, NoTtl))
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
        Ok(MapState::new(self.declare::<Map<M, V>>(name)?, NoTtl))
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

    /// Declares the next state with values that expire.
    pub const fn with_ttl(&mut self, ttl: Ttl) -> WithTtl<'_, K> {
        WithTtl { backend: self, ttl }
    }
}

/// Declares a state whose values expire; see [`Ttl`].
#[derive(Debug)]
pub struct WithTtl<'a, K> {
    backend: &'a mut KeyedBackend<K>,
    ttl: Ttl,
}

impl<K: Key> WithTtl<'_, K> {
    /// As [`KeyedBackend::value`].
    ///
    /// # Errors
    /// [`StateError::Duplicate`] or [`StateError::TooMany`].
    pub fn value<V: State>(self, name: &'static str) -> Result<ValueState<V, Ttl>, StateError> {
        let slot = self.backend.declare_expiring::<Expiring<V>>(name, self.ttl)?;
        Ok(ValueState::new(slot, self.ttl))
    }

    /// As [`KeyedBackend::list`]; each element expires on its own.
    ///
    /// # Errors
    /// [`StateError::Duplicate`] or [`StateError::TooMany`].
    pub fn list<V: State>(self, name: &'static str) -> Result<ListState<V, Ttl>, StateError> {
        let slot = self.backend.declare_expiring::<Vec<Expiring<V>>>(name, self.ttl)?;
        Ok(ListState::new(slot, self.ttl))
    }

    /// As [`KeyedBackend::map`]; each entry expires on its own.
    ///
    /// # Errors
    /// [`StateError::Duplicate`] or [`StateError::TooMany`].
    pub fn map<M, V>(self, name: &'static str) -> Result<MapState<M, V, Ttl>, StateError>
    where
        M: Key + Hash,
        V: State,
    {
        let slot = self.backend.declare_expiring::<Map<M, Expiring<V>>>(name, self.ttl)?;
        Ok(MapState::new(slot, self.ttl))
    }

    /// As [`KeyedBackend::reducing`]; adding to the value is a write.
    ///
    /// # Errors
    /// [`StateError::Duplicate`] or [`StateError::TooMany`].
    pub fn reducing<V: State>(
        self,
        name: &'static str,
        combine: impl Fn(&mut V, V) + Send + 'static,
    ) -> Result<ReducingState<V, Ttl>, StateError> {
        Ok(ReducingState::new(self.value(name)?, combine))
    }

    /// As [`KeyedBackend::aggregating`]; adding to the value is a write.
    ///
    /// # Errors
    /// [`StateError::Duplicate`] or [`StateError::TooMany`].
    pub fn aggregating<I, A: State, O>(
        self,
        name: &'static str,
        init: impl Fn() -> A + Send + 'static,
        add: impl Fn(&mut A, I) + Send + 'static,
        result: impl Fn(&A) -> O + Send + 'static,
    ) -> Result<AggregatingState<I, A, O, Ttl>, StateError> {
        Ok(AggregatingState::new(self.value(name)?, init, add, result))
    }
}
