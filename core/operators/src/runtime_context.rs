//! The context of a function that is made in its subtask: numbers, names, metrics, states.

use std::ops::Deref;

use millstream_connector::{Counter, Gauge, Histogram, Result};
use millstream_state::{
    AggregatingState, KeyedBackend, ListState, MapState, ReducingState, StateError, TimeDomain,
    Timers, Ttl, ValueState, WithTtl,
};
use millstream_types::{JobId, Key, State};

use crate::ensure;
use crate::task::TaskContext;

/// The subtask that a function is made for; given to the closures of `map_with`, `filter_with`,
/// `flat_map_with` and `process`.
///
/// ```
/// # use millstream::{prelude::*, testing::run_on};
/// let lengths = run_on(["to".to_owned(), "be".to_owned()], |words| {
///     words.map_with(|ctx| {
///         let (subtask, words) = (ctx.subtask(), ctx.counter("words")?);
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

    /// The counter of this name, one per subtask: a sum that starts at zero with each attempt.
    ///
    /// REST shows it in the metrics of the subtask as `user.` and the name, and sums it over all
    /// subtasks in the job's accumulators. The same holds for its neighbours:
    ///
    /// | metric | shows | accumulated over the job |
    /// |---|---|---|
    /// | [`Counter`] | a sum | yes |
    /// | [`Gauge`] | the number that was set last | no |
    /// | [`Histogram`] | `_count`, `_min`, `_max`, `_mean`, `_median`, `_p99` and more | no |
    ///
    /// Numbers have no unit of their own: say it in the name, as in `latency_us` or `cache_bytes`.
    /// The operators of one task (a chain) share names.
    ///
    /// # Errors
    /// The name is not made of 1 to 100 letters, digits, `_`, `-` and `.`, or is taken by a metric
    /// of another kind or of the engine, or the subtask has 100 metrics already.
    pub fn counter(&self, name: &str) -> Result<Counter> {
        self.task.metrics.counter(name)
    }

    /// The gauge of this name, one per subtask: the present size of something.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing::run_on};
    /// let sizes = run_on(["to", "be", "to"].map(Str::from), |words| {
    ///     words.map_with(|ctx| {
    ///         let (mut seen, words_seen) = (vec![], ctx.gauge("words_seen")?);
    ///         Ok(move |word: Str| {
    ///             if !seen.contains(&word) {
    ///                 seen.push(word);
    ///             }
    ///             words_seen.set(seen.len() as f64);
    ///             Ok(words_seen.get())
    ///         })
    ///     })
    /// });
    /// assert_eq!(sizes?, [Some(1.0), Some(2.0), Some(2.0)]);
    /// # Ok::<(), millstream::Error>(())
    /// ```
    ///
    /// # Errors
    /// As of [`RuntimeContext::counter`].
    pub fn gauge(&self, name: &str) -> Result<Gauge> {
        self.task.metrics.gauge(name)
    }

    /// The histogram of this name, one per subtask: how values are distributed.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing::run_on};
    /// use std::time::Instant;
    ///
    /// let squares = run_on(0..100_u64, |numbers| {
    ///     numbers.map_with(|ctx| {
    ///         let lookup_us = ctx.histogram("lookup_us")?; // microseconds
    ///         Ok(move |n: u64| {
    ///             let started = Instant::now();
    ///             let square = n * n; // something slow
    ///             lookup_us.update(started.elapsed().as_micros() as u64);
    ///             Ok(square)
    ///         })
    ///     })
    /// });
    /// assert_eq!(squares?.len(), 100);
    /// # Ok::<(), millstream::Error>(())
    /// ```
    ///
    /// # Errors
    /// As of [`RuntimeContext::counter`].
    pub fn histogram(&self, name: &str) -> Result<Histogram> {
        self.task.metrics.histogram(name)
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
    /// Whether the records have event times.
    timed: bool,
}

impl<'a, K: Key> KeyedRuntimeContext<'a, K> {
    pub(crate) const fn new(
        task: &'a TaskContext,
        backend: &'a mut KeyedBackend<K>,
        timed: bool,
    ) -> Self {
        Self { runtime: RuntimeContext::new(task), backend, timed }
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

    /// Declares a state that holds one value per key, with which `combine` combines each value that
    /// is added.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing::run_on};
    /// /// Says for each number whether it is the largest of its key so far.
    /// struct IsRecord(ReducingState<u32>);
    ///
    /// impl KeyedProcess<bool, u32> for IsRecord {
    ///     type Out = bool;
    ///
    ///     fn process(
    ///         &mut self,
    ///         n: u32,
    ///         ctx: &mut Context<'_, bool>,
    ///         out: &mut Collector<'_, bool>,
    ///     ) -> Result<()> {
    ///         out.emit(self.0.get(ctx)?.is_none_or(|most| n > *most));
    ///         Ok(self.0.add(ctx, n)?)
    ///     }
    /// }
    ///
    /// let records = run_on([3, 1, 5], |numbers| {
    ///     numbers.key_by(|n| n % 2 == 0).process("is record", |states| {
    ///         Ok(IsRecord(states.reducing("most", |most: &mut u32, n| *most = n.max(*most))?))
    ///     })
    /// });
    /// assert_eq!(records?, [true, false, true]);
    /// # Ok::<(), millstream::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`StateError::Duplicate`] or [`StateError::TooMany`].
    pub fn reducing<V: State>(
        &mut self,
        name: &'static str,
        combine: impl Fn(&mut V, V) + Send + 'static,
    ) -> Result<ReducingState<V>, StateError> {
        self.backend.reducing(name, combine)
    }

    /// Declares a state that holds one value per key, made by `init`, to which `add` adds inputs
    /// and from which `result` makes an output.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing::run_on};
    /// /// The mean of each key's numbers so far.
    /// struct Mean(AggregatingState<u32, (u32, u32), f64>);
    ///
    /// impl KeyedProcess<bool, u32> for Mean {
    ///     type Out = f64;
    ///
    ///     fn process(
    ///         &mut self,
    ///         n: u32,
    ///         ctx: &mut Context<'_, bool>,
    ///         out: &mut Collector<'_, f64>,
    ///     ) -> Result<()> {
    ///         self.0.add(ctx, n)?;
    ///         self.0.get(ctx)?.into_iter().for_each(|mean| out.emit(mean));
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let means = run_on([1, 3, 8], |numbers| {
    ///     numbers.key_by(|_| true).process("mean", |states| {
    ///         Ok(Mean(states.aggregating(
    ///             "sum and count",
    ///             || (0, 0),
    ///             |(sum, count): &mut (u32, u32), n| (*sum, *count) = (*sum + n, *count + 1),
    ///             |(sum, count)| f64::from(*sum) / f64::from(*count),
    ///         )?))
    ///     })
    /// });
    /// assert_eq!(means?, [1.0, 2.0, 4.0]);
    /// # Ok::<(), millstream::Error>(())
    /// ```
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
        self.backend.aggregating(name, init, add, result)
    }

    /// Declares the next state with values that expire, by the wall clock.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing::run_on};
    /// use std::time::Duration;
    ///
    /// /// Drops the records of which one with the same key came within the last hour.
    /// struct Once(ValueState<(), Ttl>);
    ///
    /// impl KeyedProcess<Str, Str> for Once {
    ///     type Out = Str;
    ///
    ///     fn process(
    ///         &mut self,
    ///         word: Str,
    ///         ctx: &mut Context<'_, Str>,
    ///         out: &mut Collector<'_, Str>,
    ///     ) -> Result<()> {
    ///         if self.0.get(ctx)?.is_none() {
    ///             out.emit(word);
    ///         }
    ///         Ok(self.0.set(ctx, ())?)
    ///     }
    /// }
    ///
    /// let words = run_on(["to", "be", "to"].map(Str::from), |words| {
    ///     words.key_by_ref(|word| word).process("once", |states| {
    ///         let hour = Ttl::after(Duration::from_secs(3600));
    ///         Ok(Once(states.with_ttl(hour).value("seen")?))
    ///     })
    /// });
    /// assert_eq!(words?, ["to", "be"]);
    /// # Ok::<(), millstream::Error>(())
    /// ```
    ///
    /// Lists expire by the element and maps by the entry. See [`Ttl`] for what prolongs the life of
    /// a value.
    pub const fn with_ttl(&mut self, ttl: Ttl) -> WithTtl<'_, K> {
        self.backend.with_ttl(ttl)
    }

    /// Declares timers of event time, which are due when the watermark has reached them.
    ///
    /// # Errors
    /// The records have no event times, or as of [`KeyedRuntimeContext::value`].
    pub fn event_timers(&mut self, name: &'static str) -> Result<Timers> {
        ensure!(
            self.timed,
            "the timers {name:?} wait for event time, and the records have none: use \
             assign_timestamps() before, or processing_timers()"
        );
        Ok(self.backend.timers(name, TimeDomain::Event)?)
    }

    /// Declares timers of processing time, which are due when the wall clock has reached them.
    ///
    /// # Errors
    /// As of [`KeyedRuntimeContext::value`].
    pub fn processing_timers(&mut self, name: &'static str) -> Result<Timers, StateError> {
        self.backend.timers(name, TimeDomain::Processing)
    }
}

impl<'a, K> Deref for KeyedRuntimeContext<'a, K> {
    type Target = RuntimeContext<'a>;

    fn deref(&self) -> &RuntimeContext<'a> {
        &self.runtime
    }
}
