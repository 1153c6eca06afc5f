//! Turns the chunks of a task's splits into batches, on the task's thread.

use millstream_connector::{Batch, Polled, ReaderContext, Result, SourceReader};
use millstream_network::batch_capacity;

use crate::file::fetch::{Fetch, ReadOptions};
use crate::file::format::{DecodeError, Decoder, Format};
use crate::file::{FileError, FileSplit, OnBadRecord};
use crate::handover::Taken;
use crate::lines::Chunk;

/// About how many bytes of lines go into one batch, so that long lines make small batches.
const BATCH_LINE_BYTES: usize = 256 << 10;

/// Reads one split after another.
pub struct FileReader<F: Format> {
    decoder: F::Decoder,
    options: ReadOptions,
    on_bad_record: OnBadRecord,
    ctx: ReaderContext,
    fetch: Option<Fetch>,
    /// The chunk at hand and how far it was decoded.
    chunk: Option<(Chunk, usize)>,
}

impl<F: Format> FileReader<F> {
    pub(crate) fn new(
        format: &F,
        options: ReadOptions,
        on_bad_record: OnBadRecord,
        ctx: ReaderContext,
    ) -> Self {
        let decoder = format.decoder(&ctx);
        Self { decoder, options, on_bad_record, ctx, fetch: None, chunk: None }
    }

    /// Decodes about a batch's worth; `true` if the chunk is used up.
    fn decode(&mut self, batch: &mut Batch<F::Out>) -> Result<bool> {
        let Some((chunk, at)) = &mut self.chunk else { return Ok(true) };
        let capacity = batch_capacity::<F::Out>();
        batch.reserve(capacity);
        let stop_at = *at + BATCH_LINE_BYTES;
        while batch.len() < capacity && *at < stop_at {
            match self.decoder.next(chunk, at) {
                Some(Ok(record)) => batch.push(record)?,
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
}

impl<F: Format> SourceReader for FileReader<F> {
    type Out = F::Out;
    type Split = FileSplit;

    fn add_split(&mut self, split: FileSplit) -> Result<()> {
        self.fetch = Some(Fetch::start(split, self.options.clone(), &self.ctx)?);
        Ok(())
    }

    fn poll(&mut self, batch: &mut Batch<F::Out>) -> Result<Polled> {
        let Some(fetch) = &self.fetch else { return Ok(Polled::NeedSplit) };
        if self.chunk.is_none() {
            match fetch.take() {
                Taken::Item(chunk) => self.chunk = Some((chunk?, 0)),
                Taken::Nothing => return Ok(Polled::Pending(None)),
                Taken::Done => {
                    self.fetch = None;
                    return Ok(Polled::NeedSplit);
                }
                Taken::Died => return Err(FileError::ReaderDied.into()),
            }
        }
        if self.decode(batch)?
            && let (Some(fetch), Some((chunk, _))) = (&self.fetch, self.chunk.take())
        {
            fetch.recycle(chunk);
        }
        Ok(Polled::Ready)
    }
}

#[cfg(test)]
mod tests;
