//! Partitionings: the spreading of a stream's records over the subtasks of the next operator. By
//! key: see [`Stream::key_by`].

use std::sync::Arc;

use millstream_graph::Partitioner;
use millstream_network::Data;
use millstream_operators::{WriterMaker, writer};

use super::{Function, Stream};

impl<T: Data> Stream<T> {
    pub(crate) fn partition(mut self, partitioner: Partitioner, writer: &WriterMaker) -> Self {
        for origin in &mut self.origins {
            origin.partitioner = Some(partitioner);
            origin.writer = Arc::clone(writer);
        }
        self
    }

    fn partition_plainly(self, partitioner: Partitioner) -> Self {
        let writer: WriterMaker = Arc::new(writer::plain::<T>);
        self.partition(partitioner, &writer)
    }

    /// Distributes records round-robin over all subtasks of the next operator.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing::run_on};
    /// let same = run_on([1, 2, 3], |n| n.rebalance().map(Ok).parallelism(2));
    /// assert_eq!(same.unwrap().len(), 3);
    /// ```
    pub fn rebalance(self) -> Self {
        self.partition_plainly(Partitioner::Rebalance)
    }

    /// Distributes records round-robin over a fixed subset of the next operator's subtasks, so that
    /// fewer connections are needed, as in Flink.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing::run_on};
    /// let same = run_on([1, 2, 3], |n| n.rescale().map(Ok).parallelism(2));
    /// assert_eq!(same.unwrap().len(), 3);
    /// ```
    pub fn rescale(self) -> Self {
        self.partition_plainly(Partitioner::Rescale)
    }

    /// Sends all records to the first subtask of the next operator.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing::run_on};
    /// let same = run_on([1, 2, 3], |n| n.global().map(Ok).parallelism(2));
    /// assert_eq!(same.unwrap(), [1, 2, 3]);
    /// ```
    pub fn global(self) -> Self {
        self.partition_plainly(Partitioner::Global)
    }

    /// Sends records to the subtask of the same number; both sides must be equally parallel.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing::run_on};
    /// let same = run_on([1, 2, 3], |n| n.forward().map(Ok));
    /// assert_eq!(same.unwrap(), [1, 2, 3]);
    /// ```
    pub fn forward(self) -> Self {
        self.partition_plainly(Partitioner::Forward)
    }

    /// Sends every record to every subtask of the next operator.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing::run_on};
    /// let twice = run_on([1, 2, 3], |n| n.broadcast().map(Ok).parallelism(2));
    /// assert_eq!(twice.unwrap().len(), 6);
    /// ```
    pub fn broadcast(self) -> Self
    where
        T: Clone,
    {
        let writer: WriterMaker = Arc::new(writer::broadcast::<T>);
        self.partition(Partitioner::Broadcast, &writer)
    }

    /// Sends each record to the subtask that `choose` names; it is given the record and the number
    /// of subtasks, and fails the task by naming one that does not exist.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing::run_on};
    /// let same = run_on([1, 2, 3], |numbers| {
    ///     numbers.partition_custom(|n, subtasks| n % subtasks).map(Ok).parallelism(2)
    /// });
    /// assert_eq!(same.unwrap().len(), 3);
    /// ```
    pub fn partition_custom<F: FnMut(&T, usize) -> usize + Function>(self, choose: F) -> Self {
        let writer: WriterMaker =
            Arc::new(move |ctx| writer::by_function::<T>(ctx, choose.clone()));
        self.partition(Partitioner::Custom, &writer)
    }
}
