//! Writes the files of one subtask into the hidden directory of its attempt.

use std::mem;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use bytes::Bytes;
use millstream_connector::{Batch, Result, SinkWriter};
use millstream_storage::{CreateOptions, FilePath, StorageError, block_on};
use serde::{Deserialize, Serialize};

use crate::file_sink::encoder::Encoder;
use crate::file_sink::{FileSinkError, Places, Rolling};

/// Bytes that are gathered before they are written.
const BUFFER_BYTES: usize = 256 << 10;
/// Number of files that may be completed beside the one that is written.
const CLOSING_MAX: usize = 4;

/// A file that a writer has completed, as its committer is told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinishedFile {
    pub(crate) subtask: u32,
    pub(crate) number: u32,
}

struct InProgress {
    file: Box<dyn millstream_storage::FileWriter>,
    path: FilePath,
    written: u64,
    opened: Instant,
}

/// A file that is being completed: it can take as long as a disk needs for all of it.
struct Closing {
    path: FilePath,
    thread: JoinHandle<Result<(), FileSinkError>>,
}

/// Writes records to one file after another.
pub struct FileWriter<E> {
    places: Places,
    encoder: E,
    rolling: Rolling,
    subtask: u32,
    current: Option<InProgress>,
    buffer: Vec<u8>,
    closing: Vec<Closing>,
    finished: Vec<FinishedFile>,
}

impl<E> FileWriter<E> {
    pub(crate) const fn new(places: Places, encoder: E, rolling: Rolling, subtask: u32) -> Self {
        Self {
            places,
            encoder,
            rolling,
            subtask,
            current: None,
            buffer: Vec::new(),
            closing: Vec::new(),
            finished: Vec::new(),
        }
    }

    /// Lets the file at hand be the device that never has room.
    #[cfg(test)]
    pub(crate) fn write_to_full_disk(&mut self) {
        let path = FilePath::from("/dev/full");
        let file = block_on(self.places.system.create(&path, CreateOptions::REPLACE)).unwrap();
        self.current = Some(InProgress { file, path, written: 0, opened: Instant::now() });
    }

    /// The file at hand, or the next one.
    fn this_file(&self) -> FinishedFile {
        let number = u32::try_from(self.finished.len()).unwrap_or(u32::MAX);
        FinishedFile { subtask: self.subtask, number }
    }

    fn begin_file(&self) -> Result<InProgress, FileSinkError> {
        let path = self.places.unpublished(self.this_file());
        let file = block_on(self.places.system.create(&path, CreateOptions::NEW));
        let file = file.map_err(|error| self.places.unless_gone(error))?;
        Ok(InProgress { file, path, written: 0, opened: Instant::now() })
    }

    fn flush(&mut self) -> Result<(), FileSinkError> {
        let Some(current) = &mut self.current else { return Ok(()) };
        let room = Vec::with_capacity(self.buffer.capacity());
        let bytes = Bytes::from(mem::replace(&mut self.buffer, room));
        current.written += bytes.len() as u64;
        let written = block_on(current.file.write(bytes));
        written.map_err(|error| self.places.unless_gone(error))
    }

    /// Ends the file at hand, if there is one; it is completed while the next one is written.
    fn end_file(&mut self) -> Result<(), FileSinkError> {
        self.flush()?;
        let Some(InProgress { file, path, .. }) = self.current.take() else { return Ok(()) };
        while self.closing.len() >= CLOSING_MAX {
            self.closing.remove(0).wait()?;
        }
        let (places, closed) = (self.places.clone(), path.clone());
        let thread = thread::Builder::new().name("file-closer".to_owned()).spawn(move || {
            let closed = block_on(async {
                file.close().await?;
                // On a local disk the file of an attempt that is over can be written to no end.
                places.system.status(&closed).await.map(drop)
            });
            closed.map_err(|error| places.unless_gone(error))
        });
        let thread = thread.map_err(|_refused| FileSinkError::CloserDied { path: path.clone() })?;
        self.closing.push(Closing { path, thread });
        self.finished.push(self.this_file());
        Ok(())
    }
}

impl Closing {
    fn wait(self) -> Result<(), FileSinkError> {
        let Self { path, thread } = self;
        thread.join().unwrap_or(Err(FileSinkError::CloserDied { path }))
    }
}

impl Places {
    /// The error for a missing file of this attempt.
    fn unless_gone(&self, error: StorageError) -> FileSinkError {
        match error {
            StorageError::NotFound { .. } => {
                FileSinkError::AttemptGone { path: self.attempt.clone() }
            }
            error => FileSinkError::Storage(error),
        }
    }
}

impl<T, E: Encoder<T>> SinkWriter<T> for FileWriter<E> {
    type Committable = FinishedFile;

    fn write(&mut self, batch: Batch<T>) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let begins_file = self.current.is_none();
        if begins_file {
            self.current = Some(self.begin_file()?);
        }
        self.encoder.encode(batch.records(), begins_file, &mut self.buffer)?;
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        let written = self.current.as_ref().map_or(0, |current| current.written);
        if written + self.buffer.len() as u64 >= self.rolling.bytes {
            self.end_file()?;
        }
        Ok(())
    }

    fn tick(&mut self, now: Instant) -> Result<Option<Instant>> {
        let due = |current: &InProgress| Some(current.opened + self.rolling.after?);
        let Some(due) = self.current.as_ref().and_then(due) else { return Ok(None) };
        if now < due {
            return Ok(Some(due));
        }
        self.end_file()?;
        Ok(None)
    }

    fn finish(&mut self) -> Result<Vec<FinishedFile>> {
        self.end_file()?;
        for closing in mem::take(&mut self.closing) {
            closing.wait()?;
        }
        Ok(mem::take(&mut self.finished))
    }
}
