//! Throws records away and counts them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use millstream_connector::{
    Batch, Blocks, CheckpointId, Flow, NoCommitter, Result, Sink, SinkWriter, WriterInfo,
};

/// Throws records away. Where the job runs in this process, [`DiscardSink::count`] says how many.
///
/// ```
/// # use millstream::{prelude::*, testing};
/// # let env = &mut testing::environment();
/// let nowhere = DiscardSink::new();
/// env.source("numbers", Datagen::sequence(0..1_000)).sink("nowhere", nowhere.clone());
/// env.execute("to nowhere")?;
/// assert_eq!(nowhere.count(), 1_000);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct DiscardSink {
    count: Arc<AtomicU64>,
}

impl DiscardSink {
    /// A sink that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of records that this sink and its clones have thrown away in this process.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

impl<T: Send + 'static> Sink<T> for DiscardSink {
    type Committable = ();
    type Writer = DiscardWriter;
    type Committer = NoCommitter<()>;

    fn writer(&self, _info: &WriterInfo) -> Result<DiscardWriter> {
        Ok(DiscardWriter { count: Arc::clone(&self.count) })
    }
}

/// Counts the records of one subtask.
#[derive(Debug)]
pub struct DiscardWriter {
    count: Arc<AtomicU64>,
}

impl<T> SinkWriter<T> for DiscardWriter {
    type Committable = ();

    fn blocks(&self) -> Blocks {
        Blocks::Nothing
    }

    fn write(&mut self, batch: Batch<T>) -> Result<Flow> {
        self.count.fetch_add(batch.len() as u64, Ordering::Relaxed);
        Ok(Flow::Ready)
    }

    fn pre_commit(&mut self, _id: CheckpointId) -> Result<Vec<()>> {
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::writer_info;

    #[test]
    fn all_subtasks_count_together() {
        let sink = DiscardSink::new();
        for subtask in 0..3 {
            let mut writer = Sink::<u64>::writer(&sink, &writer_info(subtask, 3, 0)).unwrap();
            writer.write(Batch::of(vec![1u64, 2])).unwrap();
        }
        assert_eq!(sink.count(), 6);
    }
}
