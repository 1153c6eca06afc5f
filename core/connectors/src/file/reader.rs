//! Turns the chunks of a task's splits into batches, on the task's thread, one split after another.

use std::collections::VecDeque;

use millstream_connector::{Polled, ReaderContext, ReaderOutput, Result, SourceReader};
use millstream_network::batch_capacity;

use crate::file::fetch::{Fetch, ReadOptions};
use crate::file::format::{DecodeError, Decoder, Format};
use crate::file::{FileError, FileSplit, OnBadRecord};
use crate::handover::Taken;
use crate::lines::{Chunk, Part};

/// About how many bytes of lines go into one batch, so that long lines make small batches.
const BATCH_LINE_BYTES: usize = 256 << 10;

/// Reads one split after another.
pub struct FileSourceReader<F: Format> {
    decoder: F::Decoder,
    options: ReadOptions,
    on_bad_record: OnBadRecord,
    ctx: ReaderContext,
    /// The rest of the splits; the first one is being read if there is a fetch.
    splits: VecDeque<FileSplit>,
    fetch: Option<Fetch>,
    /// The chunk at hand and how far it was decoded.
    chunk: Option<(Chunk, usize)>,
    /// The number of splits that were read to their end.
    read: u64,
    /// Where in the first range of the first split the records end that were handed over.
    position: Option<u64>,
}

impl<F: Format> FileSourceReader<F> {
    pub(crate) fn new(
        format: &F,
        options: ReadOptions,
        on_bad_record: OnBadRecord,
        ctx: ReaderContext,
    ) -> Self {
        Self {
            decoder: format.decoder(&ctx),
            options,
            on_bad_record,
            ctx,
            splits: VecDeque::new(),
            fetch: None,
            chunk: None,
            read: 0,
            position: None,
        }
    }

    /// Decodes about a batch's worth; `true` if the chunk is used up.
    fn decode(&mut self, out: &mut ReaderOutput<'_, F::Out>) -> Result<bool> {
        let Some((chunk, at)) = &mut self.chunk else { return Ok(true) };
        let capacity = batch_capacity::<F::Out>();
        out.reserve(capacity);
        let stop_at = *at + BATCH_LINE_BYTES;
        while out.len() < capacity && *at < stop_at {
            match self.decoder.next(chunk, at) {
                Some(Ok(record)) => out.push(record)?,
                Some(Err(DecodeError::Bad(bad))) => match self.on_bad_record {
                    OnBadRecord::Fail => return Err(bad.into()),
                    OnBadRecord::Drop => self.ctx.dropped.add(1),
                },
                Some(Err(DecodeError::LongRecord { offset })) => {
                    let file = chunk.origin().display().to_string();
                    let limit = chunk.record_bytes_max();
                    return Err(FileError::LongRecord { file, offset, limit }.into());
                }
                None => return Ok(true),
            }
        }
        Ok(false)
    }

    /// Notes how far the records go that were handed over.
    fn note_position(&mut self, is_used_up: bool) {
        let Some((chunk, at)) = &self.chunk else { return };
        match chunk.part {
            Part::Head => {}
            Part::Records => self.position = Some(chunk.offset + *at as u64),
            Part::End if is_used_up => {
                self.position = None;
                if let Some(split) = self.splits.front_mut() {
                    split.ranges.remove(0);
                }
            }
            Part::End => {}
        }
    }
}

impl<F: Format> SourceReader for FileSourceReader<F> {
    type Out = F::Out;
    type Split = FileSplit;

    fn add_splits(&mut self, splits: Vec<FileSplit>) -> Result<()> {
        self.splits.extend(splits);
        Ok(())
    }

    fn poll(&mut self, out: &mut ReaderOutput<'_, F::Out>) -> Result<Polled> {
        if self.fetch.is_none() {
            let Some(split) = self.splits.front() else { return Ok(Polled::NeedSplit) };
            self.fetch = Some(Fetch::start(split.clone(), self.options.clone(), &self.ctx)?);
        }
        let Some(fetch) = &self.fetch else { return Ok(Polled::NeedSplit) };
        if self.chunk.is_none() {
            match fetch.take() {
                Taken::Item(chunk) => self.chunk = Some((chunk?, 0)),
                Taken::Nothing => return Ok(Polled::Pending(None)),
                Taken::Done => {
                    self.fetch = None;
                    self.splits.pop_front();
                    out.end_split(self.read);
                    self.read += 1;
                    return Ok(Polled::Ready);
                }
                Taken::Died => return Err(FileError::ReaderDied.into()),
            }
        }
        out.of_split(self.read);
        let is_used_up = self.decode(out)?;
        self.note_position(is_used_up);
        if is_used_up && let (Some(fetch), Some((chunk, _))) = (&self.fetch, self.chunk.take()) {
            fetch.recycle(chunk);
        }
        Ok(Polled::Ready)
    }

    fn snapshot(&mut self) -> Result<Vec<FileSplit>> {
        let mut splits: Vec<FileSplit> = self.splits.iter().cloned().collect();
        // Before the first record of a range it is read from its own position on.
        let position = self.decoder.keeps_from().or(self.position);
        let first = splits.first_mut().and_then(|split| split.ranges.first_mut());
        if let (Some(range), Some(position)) = (first, position) {
            range.position = Some(position);
        }
        splits.retain(|split| !split.ranges.is_empty());
        Ok(splits)
    }
}

#[cfg(test)]
mod tests;
