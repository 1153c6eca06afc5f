//! Common uses of keyed state: one value for each key, which every record changes.

use std::cmp::Ordering;

use millstream_network::Data;
use millstream_state::{KeySelector, ValueState};
use millstream_types::{Key, State};

use crate::Result;
use crate::collector::Collector;
use crate::fold::{Emitted, Fold};
use crate::keyed::{Context, KeyedProcess};
use crate::runtime_context::KeyedRuntimeContext;

/// Turns each record into another with the help of the key's state.
pub struct MapWithState<V, F> {
    state: ValueState<Option<V>>,
    function: F,
}

impl<V: State, F> MapWithState<V, F> {
    /// Calls `function` with the key's state and each record.
    ///
    /// # Errors
    /// The state cannot be declared.
    pub fn new<K: Key>(ctx: &mut KeyedRuntimeContext<'_, K>, function: F) -> Result<Self> {
        Ok(Self { state: ctx.value("state")?, function })
    }
}

impl<K, I, O, V, F> KeyedProcess<K, I> for MapWithState<V, F>
where
    K: Key,
    O: Data,
    V: State,
    F: FnMut(&mut Option<V>, I) -> Result<O> + Send,
{
    type Out = O;

    fn process(
        &mut self,
        record: I,
        ctx: &mut Context<'_, K>,
        out: &mut Collector<'_, O>,
    ) -> Result<()> {
        let state = self.state.get_or_insert_with(ctx, || None)?;
        let result = (self.function)(state, record)?;
        if state.is_none() {
            self.state.clear(ctx)?;
        }
        out.emit(result);
        Ok(())
    }
}

/// Combines the records of a key into one of their type; the first is the value.
#[derive(Clone)]
pub struct Reduce<F>(pub F);

impl<T, K, F> Fold<T, K> for Reduce<F>
where
    T: State + Clone,
    F: FnMut(&mut T, T) -> Result<()> + Send,
{
    type Value = T;
    type Out = T;

    #[inline]
    fn first(&mut self, record: T) -> Result<T> {
        Ok(record)
    }

    #[inline(always)]
    fn add<S: KeySelector<T, Key = K>>(
        &mut self,
        value: &mut T,
        record: T,
        _selector: &S,
        results: Emitted<'_, T>,
    ) -> Result<()> {
        (self.0)(value, record)?;
        results.emit(|| value.clone());
        Ok(())
    }

    #[inline]
    fn result(_key: &K, value: &T) -> T {
        value.clone()
    }

    fn last(_key: K, value: T) -> T {
        value
    }
}

/// Adds the records of a key to a value of another type; the results are keys with their values.
#[derive(Clone)]
pub struct Aggregate<N, F> {
    /// Makes the value that the first record is added to.
    pub init: N,
    /// Adds a record.
    pub add: F,
}

impl<T, K, A, N, F> Fold<T, K> for Aggregate<N, F>
where
    K: Key,
    A: State + Clone,
    N: Fn() -> A + Send,
    F: FnMut(&mut A, T) -> Result<()> + Send,
{
    type Value = A;
    type Out = (K, A);

    #[inline]
    fn first(&mut self, record: T) -> Result<A> {
        let mut value = (self.init)();
        (self.add)(&mut value, record)?;
        Ok(value)
    }

    #[inline(always)]
    fn add<S: KeySelector<T, Key = K>>(
        &mut self,
        value: &mut A,
        record: T,
        selector: &S,
        results: Emitted<'_, (K, A)>,
    ) -> Result<()> {
        if !results.is_wanted() {
            return (self.add)(value, record);
        }
        let key = selector.owned(&record);
        (self.add)(value, record)?;
        results.emit(|| (key, value.clone()));
        Ok(())
    }

    #[inline]
    fn result(key: &K, value: &A) -> (K, A) {
        (key.clone(), value.clone())
    }

    fn last(key: K, value: A) -> (K, A) {
        (key, value)
    }
}

/// As [`Aggregate`], with functions that only look at a record and need no value before the first.
#[derive(Clone)]
pub struct Summary<N, F> {
    /// The value after the first record.
    pub first: N,
    /// Adds a record.
    pub add: F,
}

impl<T, K, A, N, F> Fold<T, K> for Summary<N, F>
where
    K: Key,
    A: State + Clone,
    N: FnMut(&T) -> Result<A> + Send,
    F: FnMut(&mut A, &T) -> Result<()> + Send,
{
    type Value = A;
    type Out = (K, A);

    #[inline]
    fn first(&mut self, record: T) -> Result<A> {
        (self.first)(&record)
    }

    #[inline(always)]
    fn add<S: KeySelector<T, Key = K>>(
        &mut self,
        value: &mut A,
        record: T,
        selector: &S,
        results: Emitted<'_, (K, A)>,
    ) -> Result<()> {
        (self.add)(value, &record)?;
        results.emit(|| (selector.owned(&record), value.clone()));
        Ok(())
    }

    #[inline]
    fn result(key: &K, value: &A) -> (K, A) {
        (key.clone(), value.clone())
    }

    fn last(key: K, value: A) -> (K, A) {
        (key, value)
    }
}

/// A number that `KeyedStream::sum` adds up.
pub trait Number: Copy + State {
    /// Nothing.
    const ZERO: Self;

    /// The sum of both; `None` if the type cannot hold it.
    fn checked_sum(self, other: Self) -> Option<Self>;
}

macro_rules! integers {
    ($($type:ty)*) => {
        $(impl Number for $type {
            const ZERO: Self = 0;

            fn checked_sum(self, other: Self) -> Option<Self> {
                self.checked_add(other)
            }
        })*
    };
}
integers!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize);

macro_rules! floats {
    ($($type:ty)*) => {
        $(impl Number for $type {
            const ZERO: Self = 0.0;

            fn checked_sum(self, other: Self) -> Option<Self> {
                Some(self + other)
            }
        })*
    };
}
floats!(f32 f64);

/// Puts `value` in the place of `best` if it compares as `better`, or if `best` compares with
/// nothing (a NaN).
pub fn keep_better<V: PartialOrd>(best: &mut V, value: V, better: Ordering) {
    if value.partial_cmp(best) == Some(better) || best.partial_cmp(&best).is_none() {
        *best = value;
    }
}
