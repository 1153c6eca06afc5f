//! State handles of values that functions combine: each input changes the key's one value.

use std::fmt;

use millstream_types::State;

use crate::backend::KeyedContext;
use crate::error::StateError;
use crate::expiry::{Expiry, NoTtl};
use crate::handles::ValueState;

type Combine<V> = Box<dyn Fn(&mut V, V) + Send>;
type Init<A> = Box<dyn Fn() -> A + Send>;
type Add<A, I> = Box<dyn Fn(&mut A, I) + Send>;
type Finish<A, O> = Box<dyn Fn(&A) -> O + Send>;

/// One value per key, with which each value that is added is combined.
///
/// ```
/// # use millstream_state::*;
/// # use millstream_types::{Key, MaxParallelism};
/// # let mut states = KeyedBackend::<u32>::new(0..128, MaxParallelism::DEFAULT);
/// let most = states.reducing("most", |most: &mut u64, n| *most = n.max(*most))?;
/// # let ctx = &mut states;
/// # ctx.set_key(7, 7u32.stable_hash())?;
/// // In a keyed function, for the key of the record at hand:
/// assert_eq!(most.get(ctx)?, None);
/// most.add(ctx, 3)?;
/// most.add(ctx, 1)?;
/// assert_eq!(most.get(ctx)?, Some(&3));
/// most.clear(ctx)?;
/// assert_eq!(most.get(ctx)?, None);
/// # Ok::<(), StateError>(())
/// ```
pub struct ReducingState<V, E = NoTtl> {
    value: ValueState<V, E>,
    combine: Combine<V>,
}

impl<V: State, E: Expiry> ReducingState<V, E> {
    pub(crate) fn new(
        value: ValueState<V, E>,
        combine: impl Fn(&mut V, V) + Send + 'static,
    ) -> Self {
        Self { value, combine: Box::new(combine) }
    }

    /// The current key's value; `None` before the first one is added.
    ///
    /// # Errors
    /// [`StateError::Foreign`], or the store fails.
    pub fn get<'a, C: KeyedContext>(&self, ctx: &'a C) -> Result<Option<&'a V>, StateError> {
        self.value.get(ctx)
    }

    /// Combines a value with the current key's one, or sets it if there is none.
    ///
    /// # Errors
    /// [`StateError::Foreign`], or the store fails.
    pub fn add<C: KeyedContext>(&self, ctx: &mut C, value: V) -> Result<(), StateError> {
        if let Some(combined) = self.value.get_mut(ctx)? {
            (self.combine)(combined, value);
            return Ok(());
        }
        self.value.set(ctx, value)
    }

    /// Forgets the current key's value.
    ///
    /// # Errors
    /// [`StateError::Foreign`], or the store fails.
    pub fn clear<C: KeyedContext>(&self, ctx: &mut C) -> Result<(), StateError> {
        self.value.clear(ctx)
    }
}

impl<V, E> fmt::Debug for ReducingState<V, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReducingState").finish_non_exhaustive()
    }
}

/// One value per key, of type `A`, to which inputs are added and from which an output is made.
///
/// ```
/// # use millstream_state::*;
/// # use millstream_types::{Key, MaxParallelism};
/// # let mut states = KeyedBackend::<u32>::new(0..128, MaxParallelism::DEFAULT);
/// let mean: AggregatingState<u64, (u64, u64), f64> = states.aggregating(
///     "mean",
///     || (0, 0),
///     |(sum, count): &mut (u64, u64), n| (*sum, *count) = (*sum + n, *count + 1),
///     |(sum, count)| *sum as f64 / *count as f64,
/// )?;
/// # let ctx = &mut states;
/// # ctx.set_key(7, 7u32.stable_hash())?;
/// // In a keyed function, for the key of the record at hand:
/// assert_eq!(mean.get(ctx)?, None);
/// mean.add(ctx, 1)?;
/// mean.add(ctx, 4)?;
/// assert_eq!(mean.get(ctx)?, Some(2.5));
/// mean.clear(ctx)?;
/// assert_eq!(mean.get(ctx)?, None);
/// # Ok::<(), StateError>(())
/// ```
pub struct AggregatingState<I, A, O, E = NoTtl> {
    value: ValueState<A, E>,
    init: Init<A>,
    add: Add<A, I>,
    result: Finish<A, O>,
}

impl<I, A: State, O, E: Expiry> AggregatingState<I, A, O, E> {
    pub(crate) fn new(
        value: ValueState<A, E>,
        init: impl Fn() -> A + Send + 'static,
        add: impl Fn(&mut A, I) + Send + 'static,
        result: impl Fn(&A) -> O + Send + 'static,
    ) -> Self {
        Self { value, init: Box::new(init), add: Box::new(add), result: Box::new(result) }
    }

    /// The output for the current key; `None` before the first input is added.
    ///
    /// # Errors
    /// [`StateError::Foreign`], or the store fails.
    pub fn get<C: KeyedContext>(&self, ctx: &C) -> Result<Option<O>, StateError> {
        Ok(self.value.get(ctx)?.map(&self.result))
    }

    /// Adds an input to the current key's value.
    ///
    /// # Errors
    /// [`StateError::Foreign`], or the store fails.
    pub fn add<C: KeyedContext>(&self, ctx: &mut C, input: I) -> Result<(), StateError> {
        (self.add)(self.value.get_or_insert_with(ctx, &self.init)?, input);
        Ok(())
    }

    /// Forgets the current key's value.
    ///
    /// # Errors
    /// [`StateError::Foreign`], or the store fails.
    pub fn clear<C: KeyedContext>(&self, ctx: &mut C) -> Result<(), StateError> {
        self.value.clear(ctx)
    }
}

impl<I, A, O, E> fmt::Debug for AggregatingState<I, A, O, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AggregatingState").finish_non_exhaustive()
    }
}
