//! Streams that are partitioned by a key.

use std::cmp::Ordering;
use std::sync::Arc;

use millstream_graph::Partitioner;
use millstream_network::Data;
use millstream_operators::{
    self as operators, Aggregate, ByRef, ByValue, Fold, KeySelector, KeyedProcess,
    KeyedRuntimeContext, MapWithState, Number, OnError, Reduce, Summary, WriterMaker, keep_better,
    writer,
};
use millstream_types::{Key, State};

use crate::stream::{Function, Stream};
use crate::{ErrorContext as _, Result};

/// A stream that is partitioned by a key.
///
/// ```
/// # use millstream::{prelude::*, testing::run_on};
/// let totals = run_on([("a", 1), ("b", 2), ("a", 3)].map(|(k, n)| (k.to_owned(), n)), |pairs| {
///     pairs.key_by_ref(|(key, _)| key).reduce("total", |total, next| Ok(total.1 += next.1))
/// });
/// assert_eq!(totals.unwrap().last(), Some(&("a".to_owned(), 4)));
/// ```
#[must_use = "a stream that nothing reads is discarded"]
pub struct KeyedStream<T, S> {
    pub(crate) stream: Stream<T>,
    pub(crate) selector: S,
}

impl<T: Data> Stream<T> {
    /// Partitions by a key that is computed from the record.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing::run_on};
    /// let sums = run_on([1, 2, 3, 4], |numbers| {
    ///     numbers.key_by(|n| n % 2).reduce("sum", |sum, n| Ok(*sum += n))
    /// });
    /// assert_eq!(sums.unwrap(), [1, 2, 4, 6]);
    /// ```
    pub fn key_by<K, F>(self, key: F) -> KeyedStream<T, ByValue<F>>
    where
        K: Key,
        F: Fn(&T) -> K + Function,
    {
        KeyedStream { stream: self, selector: ByValue(key) }
    }

    /// Partitions by a key that is a part of the record; it is cloned once per distinct key only.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing::run_on};
    /// let words = [("to".to_owned(), 1), ("be".to_owned(), 1), ("to".to_owned(), 1)];
    /// let counts = run_on(words, |words| {
    ///     words.key_by_ref(|(word, _)| word).reduce("count", |total, next| Ok(total.1 += next.1))
    /// });
    /// assert_eq!(counts.unwrap().last(), Some(&("to".to_owned(), 2)));
    /// ```
    pub fn key_by_ref<K, F>(self, key: F) -> KeyedStream<T, ByRef<F>>
    where
        K: Key,
        F: Fn(&T) -> &K + Function,
    {
        KeyedStream { stream: self, selector: ByRef(key) }
    }
}

impl<T: Data, S: KeySelector<T> + Sync> KeyedStream<T, S> {
    /// The stream with its partitioning set.
    pub(crate) fn partitioned(self) -> (Stream<T>, S) {
        let selector = self.selector.clone();
        let writer: WriterMaker =
            Arc::new(move |ctx| writer::by_key::<T, S>(ctx, selector.clone()));
        (self.stream.partition(Partitioner::Hash, &writer), self.selector)
    }

    /// The stream as it is partitioned, for operators without state.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing::run_on};
    /// // Records of one key meet in one subtask.
    /// let same = run_on([1, 2, 3], |n| n.key_by(|n| n % 2).into_stream().map(Ok).parallelism(2));
    /// assert_eq!(same.unwrap().len(), 3);
    /// ```
    pub fn into_stream(self) -> Stream<T> {
        self.partitioned().0
    }

    /// Sets what happens when the function of the *next* operator returns `Err`: `reduce`,
    /// `process` or `connect`. A record that is refused leaves no trace in the key's state.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing::run_on};
    /// let sums = run_on([1u8, 255, 2], |numbers| {
    ///     numbers.key_by(|_| ()).on_error(OnError::drop_record()).reduce("sum", |sum, n| {
    ///         *sum = sum.checked_add(n).context("the sum is above 255")?;
    ///         Ok(())
    ///     })
    /// });
    /// assert_eq!(sums.unwrap(), [1, 3]);
    /// ```
    pub fn on_error(mut self, policy: OnError<T>) -> Self {
        self.stream.on_error = policy;
        self
    }

    /// Combines the records of each key: `combine` adds a record to the key's value. In streaming
    /// mode every update is emitted, in batch mode the final value.
    ///
    /// If the records have event times, an update has the time of the record that made it, and a
    /// final value has the end of time (`i64::MAX`), as in Flink: it stands for all the input.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing::run_on};
    /// let most = run_on([3, 1, 4], |numbers| {
    ///     numbers.key_by(|_| ()).reduce("most", |most, n| Ok(*most = n.max(*most)))
    /// });
    /// assert_eq!(most.unwrap(), [3, 3, 4]);
    /// ```
    pub fn reduce<F>(self, uid: &str, combine: F) -> Stream<T>
    where
        T: State + Clone,
        F: FnMut(&mut T, T) -> Result<()> + Function,
    {
        self.folded("Reduce", uid, Reduce(combine))
    }

    fn folded<F>(self, name: &'static str, uid: &str, fold: F) -> Stream<F::Out>
    where
        F: Fold<T, S::Key> + Clone + Sync + 'static,
        F::Out: Data,
    {
        let (stream, selector) = self.partitioned();
        let stage = operators::fold(stream.on_error.clone(), selector, fold);
        stream.operator(name, Some(uid.to_owned()), true, stage)
    }

    /// Adds the records of each key to a value of another type, which `init` makes. In streaming
    /// mode every update is emitted with its key, in batch mode the final value.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing::run_on};
    /// let words = ["to", "be", "to"].map(str::to_owned);
    /// let lengths = run_on(words, |words| {
    ///     words.key_by(|word| word.len()).aggregate("words", Vec::new, |words, word| {
    ///         words.push(word);
    ///         Ok(())
    ///     })
    /// });
    /// let all = ["to", "be", "to"].map(str::to_owned).to_vec();
    /// assert_eq!(lengths.unwrap().last(), Some(&(2, all)));
    /// ```
    pub fn aggregate<A, N, F>(self, uid: &str, init: N, add: F) -> Stream<(S::Key, A)>
    where
        S::Key: Data,
        A: Data + State + Clone,
        N: Fn() -> A + Function,
        F: FnMut(&mut A, T) -> Result<()> + Function,
    {
        self.folded("Aggregate", uid, Aggregate { init, add })
    }

    /// Counts the records of each key. In streaming mode every count is emitted with its key, in
    /// batch mode the final one.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing::run_on};
    /// let counts = run_on(["to", "be", "to"].map(str::to_owned), |words| {
    ///     words.key_by_ref(|word| word).count("count")
    /// });
    /// assert_eq!(counts.unwrap().last(), Some(&("to".to_owned(), 2)));
    /// ```
    pub fn count(self, uid: &str) -> Stream<(S::Key, u64)>
    where
        S::Key: Data,
    {
        let add = |count: &mut u64, _: &T| {
            *count += 1;
            Ok(())
        };
        self.folded("Count", uid, Summary { first: |_: &T| Ok(1), add })
    }

    /// Adds up a number of the records of each key. In streaming mode every sum is emitted with its
    /// key, in batch mode the final one. A sum of integers that its type cannot hold is an error,
    /// for which [`KeyedStream::on_error`] decides.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing::run_on};
    /// let sums = run_on([1, 2, 3, 4], |numbers| numbers.key_by(|n| n % 2).sum("sum", |n| *n));
    /// assert_eq!(sums.unwrap(), [(1, 1), (0, 2), (1, 4), (0, 6)]);
    /// ```
    pub fn sum<N, F>(self, uid: &str, number: F) -> Stream<(S::Key, N)>
    where
        S::Key: Data,
        N: Number + Data,
        F: Fn(&T) -> N + Function,
    {
        let sum = move |before: N, record: &T| sum_of(before, number(record));
        let first = sum.clone();
        let first = move |record: &T| first(N::ZERO, record);
        let add = move |value: &mut N, record: &T| {
            *value = sum(*value, record)?;
            Ok(())
        };
        self.folded("Sum", uid, Summary { first, add })
    }

    /// The smallest value of the records of each key. In streaming mode the smallest so far is
    /// emitted with its key for every record, in batch mode the final one. A value that compares
    /// with nothing, like a NaN, gives way to any other.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing::run_on};
    /// let prices = [3.5, 1.5, f64::NAN];
    /// let least = run_on(prices, |prices| prices.key_by(|_| ()).min("least", |price| *price));
    /// assert_eq!(least.unwrap(), [((), 3.5), ((), 1.5), ((), 1.5)]);
    /// ```
    pub fn min<V, F>(self, uid: &str, value: F) -> Stream<(S::Key, V)>
    where
        S::Key: Data,
        V: PartialOrd + Clone + Data + State,
        F: Fn(&T) -> V + Function,
    {
        self.best("Min", uid, Ordering::Less, value)
    }

    /// The largest value of the records of each key; see [`KeyedStream::min`].
    ///
    /// ```
    /// # use millstream::{prelude::*, testing::run_on};
    /// let most = run_on([3, 1, 4], |numbers| numbers.key_by(|_| ()).max("most", |n| *n));
    /// assert_eq!(most.unwrap(), [((), 3), ((), 3), ((), 4)]);
    /// ```
    pub fn max<V, F>(self, uid: &str, value: F) -> Stream<(S::Key, V)>
    where
        S::Key: Data,
        V: PartialOrd + Clone + Data + State,
        F: Fn(&T) -> V + Function,
    {
        self.best("Max", uid, Ordering::Greater, value)
    }

    fn best<V, F>(
        self,
        name: &'static str,
        uid: &str,
        better: Ordering,
        value: F,
    ) -> Stream<(S::Key, V)>
    where
        S::Key: Data,
        V: PartialOrd + Clone + Data + State,
        F: Fn(&T) -> V + Function,
    {
        let first = value.clone();
        let first = move |record: &T| Ok(first(record));
        let add = move |best: &mut V, record: &T| {
            keep_better(best, value(record), better);
            Ok(())
        };
        self.folded(name, uid, Summary { first, add })
    }

    /// Turns each record into another with the help of the key's state, which is `None` before the
    /// first record and forgotten if the function leaves `None`.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing::run_on};
    /// let differences = run_on([3, 5, 4], |numbers| {
    ///     numbers.key_by(|_| ()).map_with_state("difference", |last: &mut Option<i32>, n| {
    ///         Ok(n - last.replace(n).unwrap_or(n))
    ///     })
    /// });
    /// assert_eq!(differences.unwrap(), [0, 2, -1]);
    /// ```
    pub fn map_with_state<V, O, F>(self, uid: &str, function: F) -> Stream<O>
    where
        V: State,
        O: Data,
        F: FnMut(&mut Option<V>, T) -> Result<O> + Function,
    {
        self.process(uid, move |ctx| MapWithState::new(ctx, function.clone())).name("Map")
    }

    /// Runs a function with state on each record. `make` makes one instance per subtask and
    /// declares its states.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing::run_on};
    /// /// Lets a record through if its key has none before it.
    /// struct First(ValueState<()>);
    ///
    /// impl KeyedProcess<u32, u32> for First {
    ///     type Out = u32;
    ///
    ///     fn process(
    ///         &mut self,
    ///         n: u32,
    ///         ctx: &mut Context<'_, u32>,
    ///         out: &mut Collector<'_, u32>,
    ///     ) -> Result<()> {
    ///         if self.0.get(ctx)?.is_none() {
    ///             self.0.set(ctx, ())?;
    ///             out.emit(n);
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let distinct = run_on([1, 2, 1], |numbers| {
    ///     numbers.key_by(|n| *n).process("first", |states| Ok(First(states.value("seen")?)))
    /// });
    /// assert_eq!(distinct.unwrap(), [1, 2]);
    /// ```
    pub fn process<P, F>(self, uid: &str, make: F) -> Stream<P::Out>
    where
        P: KeyedProcess<S::Key, T> + 'static,
        P::Out: Data,
        F: Fn(&mut KeyedRuntimeContext<'_, S::Key>) -> Result<P> + Function,
    {
        let (stream, selector) = self.partitioned();
        let stage = operators::keyed_process(stream.on_error.clone(), selector, make);
        stream.operator("Process", Some(uid.to_owned()), true, stage)
    }
}

/// The sum of two numbers.
#[inline]
pub(crate) fn sum_of<N: Number>(before: N, more: N) -> Result<N> {
    before.checked_sum(more).with_context(|| {
        format!("the sum is beyond what a {} can hold", std::any::type_name::<N>())
    })
}
