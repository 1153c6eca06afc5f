//! The functions of windows: those that add records to a value, and those that make results of it.

use std::marker::PhantomData;

use millstream_network::Data;
use millstream_types::State;

use crate::Result;
use crate::collector::Collector;
use crate::fold::{Emitted, Fold};
use crate::key::KeySelector;
use millstream_event_time::Window;

/// Makes one value of the records of a key in a window, as they come.
pub trait WindowFold<T>: Send {
    /// The value.
    type Value: State + Clone;

    /// Whether it may refuse a record.
    const REFUSES: bool = true;

    /// The value of the first record.
    ///
    /// # Errors
    /// The record is refused.
    fn first(&mut self, record: T) -> Result<Self::Value>;

    /// Adds a record to the value.
    ///
    /// # Errors
    /// The record is refused.
    fn add(&mut self, value: &mut Self::Value, record: T) -> Result<()>;

    /// Adds the value of later records.
    ///
    /// # Errors
    /// There is no value for all of them; the task fails.
    fn merge(&mut self, value: &mut Self::Value, later: Self::Value) -> Result<()>;
}

/// Combines records into one of their type.
#[derive(Clone)]
pub struct Reduced<F>(pub F);

impl<T, F> WindowFold<T> for Reduced<F>
where
    T: State + Clone,
    F: FnMut(&mut T, T) -> Result<()> + Send,
{
    type Value = T;

    #[inline]
    fn first(&mut self, record: T) -> Result<T> {
        Ok(record)
    }

    #[inline(always)]
    fn add(&mut self, value: &mut T, record: T) -> Result<()> {
        (self.0)(value, record)
    }

    #[inline]
    fn merge(&mut self, value: &mut T, later: T) -> Result<()> {
        (self.0)(value, later)
    }
}

/// Adds records to a value of another type.
#[derive(Clone)]
pub struct Aggregated<N, A, M> {
    /// Makes the value that the first record is added to.
    pub init: N,
    /// Adds a record.
    pub add: A,
    /// Adds the value of later records.
    pub merge: M,
}

impl<T, V, N, A, M> WindowFold<T> for Aggregated<N, A, M>
where
    V: State + Clone,
    N: Fn() -> V + Send,
    A: FnMut(&mut V, T) -> Result<()> + Send,
    M: FnMut(&mut V, V) -> Result<()> + Send,
{
    type Value = V;

    #[inline]
    fn first(&mut self, record: T) -> Result<V> {
        let mut value = (self.init)();
        (self.add)(&mut value, record)?;
        Ok(value)
    }

    #[inline(always)]
    fn add(&mut self, value: &mut V, record: T) -> Result<()> {
        (self.add)(value, record)
    }

    #[inline]
    fn merge(&mut self, value: &mut V, later: V) -> Result<()> {
        (self.merge)(value, later)
    }
}

/// As [`Aggregated`], with functions that only look at a record and need no value before the first.
#[derive(Clone)]
pub struct Summed<N, A, M> {
    /// The value of the first record.
    pub first: N,
    /// Adds a record.
    pub add: A,
    /// Adds the value of later records.
    pub merge: M,
}

impl<T, V, N, A, M> WindowFold<T> for Summed<N, A, M>
where
    V: State + Clone,
    N: FnMut(&T) -> Result<V> + Send,
    A: FnMut(&mut V, &T) -> Result<()> + Send,
    M: FnMut(&mut V, V) -> Result<()> + Send,
{
    type Value = V;

    #[inline]
    fn first(&mut self, record: T) -> Result<V> {
        (self.first)(&record)
    }

    #[inline(always)]
    fn add(&mut self, value: &mut V, record: T) -> Result<()> {
        (self.add)(value, &record)
    }

    #[inline]
    fn merge(&mut self, value: &mut V, later: V) -> Result<()> {
        (self.merge)(value, later)
    }
}

/// Keeps all records.
#[derive(Debug, Clone, Copy)]
pub struct Listed;

impl<T: State + Clone> WindowFold<T> for Listed {
    type Value = Vec<T>;

    const REFUSES: bool = false;

    fn first(&mut self, record: T) -> Result<Vec<T>> {
        Ok(vec![record])
    }

    fn add(&mut self, value: &mut Vec<T>, record: T) -> Result<()> {
        value.push(record);
        Ok(())
    }

    fn merge(&mut self, value: &mut Vec<T>, mut later: Vec<T>) -> Result<()> {
        value.append(&mut later);
        Ok(())
    }
}

/// A [`WindowFold`] for the loop that adds records, which gives no results.
pub(super) struct Silent<W>(pub(super) W);

impl<T, K, W: WindowFold<T>> Fold<T, K> for Silent<W> {
    type Value = W::Value;
    type Out = ();

    const REFUSES: bool = W::REFUSES;

    #[inline]
    fn first(&mut self, record: T) -> Result<W::Value> {
        self.0.first(record)
    }

    #[inline(always)]
    fn add<S: KeySelector<T, Key = K>>(
        &mut self,
        value: &mut W::Value,
        record: T,
        _selector: &S,
        _results: Emitted<'_, ()>,
    ) -> Result<()> {
        self.0.add(value, record)
    }

    fn result(_key: &K, _value: &W::Value) {}

    fn last(_key: K, _value: W::Value) {}
}

/// Makes results of a window.
///
/// ```
/// # use millstream::{prelude::*, testing::run_on};
/// # use std::time::Duration;
/// /// The middle one of the values of each second.
/// struct Median;
///
/// impl WindowFunction<(), Vec<(u32, i64)>> for Median {
///     type Out = (i64, u32);
///
///     fn process(
///         &mut self,
///         _key: (),
///         window: Window,
///         mut records: Vec<(u32, i64)>,
///         out: &mut Collector<'_, (i64, u32)>,
///     ) -> Result<()> {
///         records.sort();
///         out.emit((window.start, records[records.len() / 2].0));
///         Ok(())
///     }
/// }
///
/// let medians = run_on([(5, 0), (1, 300), (4, 600), (8, 1_000)], |readings| {
///     let times = WatermarkStrategy::monotonous().timestamps(|(_, time)| Ok(*time));
///     let seconds = Tumbling::event_time(Duration::from_secs(1));
///     let keyed = readings.assign_timestamps(times).key_by(|_| ());
///     keyed.window(seconds).process("medians", |_| Ok(Median))
/// });
/// assert_eq!(medians.unwrap(), [(0, 4), (1_000, 8)]);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` makes no results of windows with keys of type `{K}` and values of type \
               `{V}`",
    note = "implement `WindowFunction<{K}, {V}>` for it"
)]
pub trait WindowFunction<K, V>: Send {
    /// The type of its results.
    type Out: Data;

    /// Called when a window gives its result, with the key, the window, and the value of all its
    /// records: when the watermark or, in processing time, the clock has reached its end, for each
    /// record that comes late and is allowed to, or when a [`Trigger`](crate::Trigger) says so.
    ///
    /// # Errors
    /// The task fails, whatever [`OnError`](crate::OnError) says, unless a record makes a session or
    /// a window with a trigger give its result: that record is refused.
    fn process(
        &mut self,
        key: K,
        window: Window,
        value: V,
        out: &mut Collector<'_, Self::Out>,
    ) -> Result<()>;
}

/// A [`WindowFunction`] that makes one result by a closure.
pub struct Finish<F, O> {
    function: F,
    results: PhantomData<fn() -> O>,
}

impl<F, O> Finish<F, O> {
    /// Calls the function for each window.
    pub const fn new(function: F) -> Self {
        Self { function, results: PhantomData }
    }
}

impl<K, V, O, F> WindowFunction<K, V> for Finish<F, O>
where
    O: Data,
    F: FnMut(K, Window, V) -> Result<O> + Send,
{
    type Out = O;

    #[inline]
    fn process(
        &mut self,
        key: K,
        window: Window,
        value: V,
        out: &mut Collector<'_, O>,
    ) -> Result<()> {
        out.emit((self.function)(key, window, value)?);
        Ok(())
    }
}
