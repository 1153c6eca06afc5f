//! The context of a function that is made in its subtask: numbers, names, counters, states.

use std::ops::Deref;

use millstream_connector::Counter;
use millstream_state::{KeyedBackend, ListState, MapState, StateError, ValueState};
use millstream_types::{JobId, Key, State};

use crate::task::TaskContext;

/// The subtask that a function is made for; given to the closures of `map_with`, `filter_with`,
/// `flat_map_with` and `process`.
///
/// ```
/// # use millstream::{prelude::*, testing::run_on};
/// let lengths = run_on(["to".to_owned(), "be".to_owned()], |words| {
///     words.map_with(|ctx| {
///         let (subtask, words) = (ctx.subtask(), ctx.counter("words"));
///         Ok(move |word: String| {
///             words.add(1); // shown as user.words in the metrics of the subtask
///             Ok((subtask, word.len()))
///         })
///     })
/// });
/// assert_eq!(lengths.unwrap(), [(0, 2), (0, 2)]);
/// ```
#[derive(Clone, Copy)]
pub struct RuntimeContext<'a> {
    task: &'a TaskContext,
}

impl<'a> RuntimeContext<'a> {
    pub(crate) const fn new(task: &'a TaskContext) -> Self {
        Self { task }
    }

    /// The job.
    #[must_use]
    pub const fn job(&self) -> JobId {
        self.task.job
    }

    /// The task's name with its number, as `Map (2/4)`.
    #[must_use]
    pub fn task_name(&self) -> &str {
        &self.task.name
    }

    /// The subtask's number, from 0.
    #[must_use]
    pub const fn subtask(&self) -> u32 {
        self.task.subtask
    }

    /// The number of subtasks.
    #[must_use]
    pub const fn parallelism(&self) -> u32 {
        self.task.parallelism
    }

    /// The number of key groups.
    #[must_use]
    pub const fn max_parallelism(&self) -> u32 {
        self.task.max_parallelism.get()
    }

    /// The number of attempts of this subtask before this one.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.task.attempt
    }

    /// The counter of this name, one per subtask; its metric is called `user.` and the name.
    #[must_use]
    pub fn counter(&self, name: &str) -> Counter {
        self.task.counter(name)
    }

    /// Whether only final results are emitted.
    pub(crate) const fn is_batch(&self) -> bool {
        self.task.batch
    }
}

/// As [`RuntimeContext`], for a function with keyed state: it declares its states here.
///
/// ```
/// # use millstream::{prelude::*, testing::run_on};
/// /// Numbers the records of each key.
/// struct Number {
///     last: ValueState<u64>,
///     subtask: u32,
/// }
///
/// impl KeyedProcess<bool, u64> for Number {
///     type Out = (u32, u64);
///
///     fn process(
///         &mut self,
///         _: u64,
///         ctx: &mut Context<'_, bool>,
///         out: &mut Collector<'_, (u32, u64)>,
///     ) -> Result<()> {
///         let last = self.last.get_or_insert_with(ctx, || 0)?;
///         *last += 1;
///         out.emit((self.subtask, *last));
///         Ok(())
///     }
/// }
///
/// let numbers = run_on([2, 3, 4], |numbers| {
///     numbers.key_by(|n| n % 2 == 0).process("number", |ctx| {
///         Ok(Number { last: ctx.value("last")?, subtask: ctx.subtask() })
///     })
/// });
/// assert_eq!(numbers.unwrap(), [(0, 1), (0, 1), (0, 2)]);
/// ```
pub struct KeyedRuntimeContext<'a, K> {
    runtime: RuntimeContext<'a>,
    backend: &'a mut KeyedBackend<K>,
}

impl<'a, K: Key> KeyedRuntimeContext<'a, K> {
    pub(crate) const fn new(task: &'a TaskContext, backend: &'a mut KeyedBackend<K>) -> Self {
        Self { runtime: RuntimeContext::new(task), backend }
    }

    /// Declares a state that holds one value per key.
    ///
    /// # Errors
    /// [`StateError::Duplicate`] or [`StateError::TooMany`].
    pub fn value<V: State>(&mut self, name: &'static str) -> Result<ValueState<V>, StateError> {
        self.backend.value(name)
    }

    /// Declares a state that holds a list per key.
    ///
    /// # Errors
    /// [`StateError::Duplicate`] or [`StateError::TooMany`].
    pub fn list<V: State>(&mut self, name: &'static str) -> Result<ListState<V>, StateError> {
        self.backend.list(name)
    }

    /// Declares a state that holds a map per key.
    ///
    /// # Errors
    /// [`StateError::Duplicate`] or [`StateError::TooMany`].
    pub fn map<M, V>(&mut self, name: &'static str) -> Result<MapState<M, V>, StateError>
    where
        M: Key + std::hash::Hash,
        V: State,
    {
        self.backend.map(name)
    }
}

impl<'a, K> Deref for KeyedRuntimeContext<'a, K> {
    type Target = RuntimeContext<'a>;

    fn deref(&self) -> &RuntimeContext<'a> {
        &self.runtime
    }
}
