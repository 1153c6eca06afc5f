//! Common uses of keyed `process`: one state for each key, which every record changes.

use std::cmp::Ordering;

use millstream_network::Data;
use millstream_state::ValueState;
use millstream_types::{Key, State};

use crate::Result;
use crate::collector::Collector;
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

/// Makes one value of the records of a key.
pub struct Aggregate<A, F> {
    value: ValueState<Option<A>>,
    /// Adds a record; there is no value before the first.
    add: F,
    /// Emits the final value at the end of input instead of every update.
    final_only: bool,
}

impl<A: State + Clone, F> Aggregate<A, F> {
    /// Calls `add` with the key's value, if there is one yet, and each record.
    ///
    /// # Errors
    /// The state cannot be declared.
    pub fn new<K: Key>(ctx: &mut KeyedRuntimeContext<'_, K>, add: F) -> Result<Self> {
        Ok(Self { value: ctx.value("value")?, add, final_only: ctx.is_batch() })
    }
}

impl<K, I, A, F> KeyedProcess<K, I> for Aggregate<A, F>
where
    K: Key,
    A: State + Clone,
    F: FnMut(&mut Option<A>, I) -> Result<()> + Send,
{
    type Out = (K, A);

    fn process(
        &mut self,
        record: I,
        ctx: &mut Context<'_, K>,
        out: &mut Collector<'_, (K, A)>,
    ) -> Result<()> {
        let value = self.value.get_or_insert_with(ctx, || None)?;
        (self.add)(value, record)?;
        if !self.final_only
            && let Some(value) = value.clone()
        {
            out.emit((ctx.key().clone(), value));
        }
        Ok(())
    }

    fn finish_key(
        &mut self,
        ctx: &mut Context<'_, K>,
        out: &mut Collector<'_, (K, A)>,
    ) -> Result<()> {
        if self.final_only
            && let Some(Some(value)) = self.value.get(ctx)?
        {
            out.emit((ctx.key().clone(), value.clone()));
        }
        Ok(())
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
pub fn keep_better<V: PartialOrd>(best: &mut Option<V>, value: V, better: Ordering) {
    let replaces = match best {
        None => true,
        Some(best) => {
            let best = &*best;
            value.partial_cmp(best) == Some(better) || best.partial_cmp(best).is_none()
        }
    };
    if replaces {
        *best = Some(value);
    }
}
