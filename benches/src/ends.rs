//! The source and the sink of most jobs: numbers, and the digest of what arrives.

use std::fs;
use std::path::PathBuf;

use millstream::connectors::{
    CheckpointId, Flow, NoCommitter, NoEnumerator, Polled, ReaderContext, ReaderOutput, Sink,
    SinkWriter, Source, SourceReader, WriterInfo,
};
use millstream::{Batch, Boundedness, Data, Result};

use crate::records::Digest;

/// The numbers from 0, an even range per subtask.
pub struct Sequence {
    /// Of all subtasks.
    pub records: u64,
}

/// The reader of [`Sequence`].
pub struct SequenceReader {
    next: u64,
    end: u64,
}

impl Source for Sequence {
    type Out = u64;
    type Split = ();
    type Reader = SequenceReader;
    type Enumerator = NoEnumerator<()>;

    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    fn reader(&self, ctx: &ReaderContext) -> Result<SequenceReader> {
        let bound = |subtask| self.records * u64::from(subtask) / u64::from(ctx.parallelism);
        Ok(SequenceReader { next: bound(ctx.subtask), end: bound(ctx.subtask + 1) })
    }
}

impl SourceReader for SequenceReader {
    type Out = u64;
    type Split = ();

    fn add_splits(&mut self, _splits: Vec<()>) -> Result<()> {
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Vec<()>> {
        Ok(Vec::new())
    }

    fn poll(&mut self, batch: &mut ReaderOutput<'_, u64>) -> Result<Polled> {
        let end = self.end.min(self.next + 1_024);
        batch.extend(self.next..end)?;
        self.next = end;
        Ok(if self.next == self.end { Polled::Finished } else { Polled::Ready })
    }
}

/// Counts the records and sums their folds; at the end of input every subtask writes both to a file
/// of its own.
pub struct DigestSink<W> {
    /// Where the files go.
    pub directory: PathBuf,
    /// The word of a record.
    pub word: W,
}

/// The writer of [`DigestSink`].
pub struct DigestWriter<W> {
    file: PathBuf,
    word: W,
    digest: Digest,
}

impl<T, W> Sink<T> for DigestSink<W>
where
    T: Data,
    W: Fn(&T) -> u64 + Clone + Send + Sync + 'static,
{
    type Committable = ();
    type Writer = DigestWriter<W>;
    type Committer = NoCommitter<()>;

    fn writer(&self, info: &WriterInfo) -> Result<DigestWriter<W>> {
        let file = self.directory.join(info.subtask.to_string());
        Ok(DigestWriter { file, word: self.word.clone(), digest: Digest::default() })
    }
}

impl<T, W: Fn(&T) -> u64 + Send> SinkWriter<T> for DigestWriter<W> {
    type Committable = ();

    fn write(&mut self, batch: Batch<T>) -> Result<Flow> {
        for record in batch.records() {
            self.digest.add((self.word)(record));
        }
        Ok(Flow::Ready)
    }

    fn pre_commit(&mut self, _id: CheckpointId) -> Result<Vec<()>> {
        fs::write(&self.file, format!("{}\n", self.digest))?;
        Ok(Vec::new())
    }
}
