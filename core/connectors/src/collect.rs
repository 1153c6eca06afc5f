//! Collects records in memory, for tests of jobs that run in the test's own process.

use std::sync::{Arc, Mutex, PoisonError};

use millstream_connector::{
    AttemptId, Batch, Blocks, CheckpointId, Flow, NoCommitter, Result, Sink, SinkWriter, WriterInfo,
};

/// The records that the subtasks of the latest attempt have collected.
#[derive(Debug)]
struct Collected<T> {
    attempt: AttemptId,
    records: Vec<T>,
}

/// Collects records. Keep a clone, run the job in local mode, then [`CollectSink::take`] them.
///
/// Records appear when a subtask has finished; those of an attempt that failed are dropped. On a
/// cluster the records stay in the task hosts, out of reach.
///
/// ```
/// # use millstream::{prelude::*, testing};
/// # let env = &mut testing::environment();
/// let squares = CollectSink::new();
/// env.source("numbers", Datagen::sequence(0..4)).map(|n| Ok(n * n)).sink("all", squares.clone());
/// env.execute("squares")?;
/// assert_eq!(squares.take(), [0, 1, 4, 9]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct CollectSink<T> {
    collected: Arc<Mutex<Collected<T>>>,
}

impl<T> Clone for CollectSink<T> {
    fn clone(&self) -> Self {
        Self { collected: Arc::clone(&self.collected) }
    }
}

impl<T> Default for CollectSink<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> CollectSink<T> {
    /// A sink without records.
    #[must_use]
    pub fn new() -> Self {
        let collected = Collected { attempt: AttemptId::new(0), records: Vec::new() };
        Self { collected: Arc::new(Mutex::new(collected)) }
    }

    /// Takes the records that were collected; their order between subtasks is by chance.
    #[must_use]
    pub fn take(&self) -> Vec<T> {
        let mut collected = self.collected.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut collected.records)
    }
}

impl<T: Send + 'static> Sink<T> for CollectSink<T> {
    type Committable = ();
    type Writer = CollectWriter<T>;
    type Committer = NoCommitter<()>;

    fn writer(&self, info: &WriterInfo) -> Result<CollectWriter<T>> {
        Ok(CollectWriter { sink: self.clone(), attempt: info.attempt, records: Vec::new() })
    }
}

/// Collects the records of one subtask.
#[derive(Debug)]
pub struct CollectWriter<T> {
    sink: CollectSink<T>,
    attempt: AttemptId,
    records: Vec<T>,
}

impl<T: Send> SinkWriter<T> for CollectWriter<T> {
    type Committable = ();

    fn blocks(&self) -> Blocks {
        Blocks::Nothing
    }

    fn write(&mut self, batch: Batch<T>) -> Result<Flow> {
        self.records.append(&mut batch.into_records());
        Ok(Flow::Ready)
    }

    fn pre_commit(&mut self, _id: CheckpointId) -> Result<Vec<()>> {
        let mut collected = self.sink.collected.lock().unwrap_or_else(PoisonError::into_inner);
        if collected.attempt < self.attempt {
            collected.attempt = self.attempt;
            collected.records.clear();
        }
        if collected.attempt == self.attempt {
            collected.records.append(&mut self.records);
        }
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::writer_info;

    #[test]
    fn only_the_latest_attempt_counts() {
        let sink = CollectSink::new();
        for (subtask, attempt) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let mut writer = sink.writer(&writer_info(subtask, 2, attempt)).unwrap();
            writer.write(Batch::of(vec![(subtask, attempt)])).unwrap();
            assert!(writer.pre_commit(CheckpointId::FIRST).unwrap().is_empty());
        }
        assert_eq!(sink.take(), [(0, 1), (1, 1)]);
        assert!(sink.take().is_empty());
    }
}
