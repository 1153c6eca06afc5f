//! Streams that are partitioned by a key.

use std::sync::Arc;

use millstream_graph::Partitioner;
use millstream_network::{Batch, Data};
use millstream_state::{GroupTable, KeyedBackend};
use millstream_types::{Key, KeyGroup};

use crate::Result;
use crate::connected::KeyedConnectedStreams;
use crate::key::KeySelector;
use crate::operators::keyed::{KeyedProcess, ProcessStage, ReduceStage};
use crate::operators::{BadRecords, OnError};
use crate::program::WriterMaker;
use crate::stage::{Output, erase};
use crate::stream::{Function, Stream, groups};
use crate::writer;

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

impl<T: Data, S: KeySelector<T> + Sync> KeyedStream<T, S> {
    /// The stream with its partitioning set.
    pub(crate) fn partitioned(self) -> (Stream<T>, S) {
        let selector = self.selector.clone();
        let writer: WriterMaker = Arc::new(move |ctx| {
            let (groups, parallelism) = (ctx.target_max_parallelism, ctx.target_parallelism);
            let owners: Vec<u32> = (0..groups.get())
                .map(|group| u16::try_from(group).unwrap_or(u16::MAX))
                .map(|group| KeyGroup::new(group).owner(groups, parallelism))
                .collect();
            let selector = selector.clone();
            Ok(writer::by_function::<T>(ctx, move |record, _| {
                let hash = selector.with(record, Key::stable_hash);
                let group = KeyGroup::of_hash(hash, groups).get();
                owners.get(usize::from(group)).map_or(usize::MAX, |owner| *owner as usize)
            }))
        });
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
        self.stream.on_error = policy.0;
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
        T: Clone,
        F: FnMut(&mut T, T) -> Result<()> + Function,
    {
        let (stream, selector) = self.partitioned();
        let policy = stream.on_error.clone();
        stream.operator(
            "Reduce",
            Some(uid.to_owned()),
            true,
            Arc::new(move |ctx, outputs| {
                Ok(erase::<T>(Box::new(ReduceStage {
                    selector: selector.clone(),
                    function: combine.clone(),
                    table: GroupTable::new(groups(ctx.task), ctx.task.max_parallelism),
                    bad: BadRecords::of(&policy, ctx),
                    output: Output::new(outputs)?,
                    hashes: Vec::new(),
                    final_only: ctx.task.batch,
                    ending: false,
                    draining: None,
                })))
            }),
        )
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
    ///     fn process(&mut self, n: u32, ctx: &mut Context<'_, u32, u32>) -> Result<()> {
    ///         if self.0.get(ctx)?.is_none() {
    ///             self.0.set(ctx, ())?;
    ///             ctx.emit(n);
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
        F: Fn(&mut KeyedBackend<S::Key>) -> Result<P> + Function,
    {
        let (stream, selector) = self.partitioned();
        let policy = stream.on_error.clone();
        stream.operator(
            "Process",
            Some(uid.to_owned()),
            true,
            Arc::new(move |ctx, outputs| {
                let bad = BadRecords::of(&policy, ctx);
                let mut backend = KeyedBackend::new(groups(ctx.task), ctx.task.max_parallelism);
                let process = make(&mut backend)?;
                if bad.goes_on() {
                    backend.keep_undo();
                }
                let output = Output::new(outputs)?;
                Ok(erase::<T>(Box::new(ProcessStage {
                    selector: selector.clone(),
                    process,
                    backend,
                    bad,
                    records: Batch::empty(false).into_iter(),
                    results: output.results(),
                    output,
                })))
            }),
        )
    }

    /// This stream and another one of the same key, as the two inputs of one operator.
    /// See [`KeyedCoProcess`](crate::KeyedCoProcess) for an example.
    pub fn connect<B, U>(self, other: KeyedStream<B, U>) -> KeyedConnectedStreams<T, B, S, U>
    where
        B: Data,
        U: KeySelector<B, Key = S::Key> + Sync,
    {
        KeyedConnectedStreams { left: self, right: other }
    }
}
