//! Writes the files of one subtask into the hidden directory of its attempt.

use std::mem;
use std::task::Waker;
use std::thread;
use std::time::Instant;

use bytes::Bytes;
use millstream_connector::{
    AttemptId, Batch, Blocks, CheckpointId, Flow, Result, SinkWriter, WriterInfo,
};
use millstream_storage::{CreateOptions, FilePath, StorageError, block_on};
use millstream_types::JobId;
use serde::{Deserialize, Serialize};

use crate::file_sink::encoder::Encoder;
use crate::file_sink::{FileSinkError, Places, Rolling};
use crate::handover::{Intake, Taken, handover};

/// Bytes that are gathered before they are written.
const BUFFER_BYTES: usize = 256 << 10;
/// Number of files that may be completed beside the one that is written.
const CLOSING_MAX: usize = 4;

/// A file that a writer has completed, as its committer is told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinishedFile {
    /// The job that wrote it: another one may start from a savepoint that names it.
    pub(crate) job: JobId,
    pub(crate) attempt: AttemptId,
    pub(crate) subtask: u32,
    pub(crate) number: u32,
    pub(crate) length: u64,
    /// CRC-32 of the bytes.
    pub(crate) checksum: u32,
}

struct InProgress {
    file: Box<dyn millstream_storage::FileWriter>,
    path: FilePath,
    number: u32,
    written: u64,
    checksum: crc32fast::Hasher,
    opened: Instant,
}

/// A file that is being completed: it can take as long as a disk needs for all of it.
struct Closing {
    path: FilePath,
    closed: Intake<Result<(), FileSinkError>>,
}

/// Writes records to one file after another.
pub struct FileSinkWriter<E> {
    places: Places,
    encoder: E,
    rolling: Rolling,
    attempt: AttemptId,
    subtask: u32,
    waker: Waker,
    /// The number of files so far.
    files: u32,
    current: Option<InProgress>,
    buffer: Vec<u8>,
    closing: Vec<Closing>,
    /// The files since the last pre-commit.
    finished: Vec<FinishedFile>,
}

impl<E> FileSinkWriter<E> {
    pub(crate) fn new(places: Places, encoder: E, rolling: Rolling, info: &WriterInfo) -> Self {
        Self {
            places,
            encoder,
            rolling,
            attempt: info.attempt,
            subtask: info.subtask,
            waker: info.waker.clone(),
            files: 0,
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
        self.current = Some(self.in_progress(file, path));
    }

    fn in_progress(
        &self,
        file: Box<dyn millstream_storage::FileWriter>,
        path: FilePath,
    ) -> InProgress {
        let (number, checksum, opened) = (self.files, crc32fast::Hasher::new(), Instant::now());
        InProgress { file, path, number, written: 0, checksum, opened }
    }

    fn begin_file(&mut self) -> Result<(), FileSinkError> {
        if self.files == 0 {
            // The committer makes the directory above and removes it with the last attempt.
            let above = block_on(self.places.system.status(&self.places.hidden));
            above.map_err(|error| self.unless_gone(error))?;
            let own = self.places.attempt(self.attempt);
            block_on(self.places.system.make_directories(&own, None))?;
        }
        let path = self.places.unpublished(self.attempt, self.subtask, self.files);
        let file = block_on(self.places.system.create(&path, CreateOptions::NEW));
        let file = file.map_err(|error| self.unless_gone(error))?;
        self.current = Some(self.in_progress(file, path));
        self.files += 1;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), FileSinkError> {
        let Some(current) = &mut self.current else { return Ok(()) };
        let room = Vec::with_capacity(self.buffer.capacity());
        let bytes = Bytes::from(mem::replace(&mut self.buffer, room));
        current.written += bytes.len() as u64;
        current.checksum.update(&bytes);
        let written = block_on(current.file.write(bytes));
        written.map_err(|error| self.unless_gone(error))
    }

    /// Ends the file at hand, if there is one; it is completed while the next one is written.
    fn end_file(&mut self) -> Result<(), FileSinkError> {
        self.flush()?;
        let Some(InProgress { file, path, number, written, checksum, .. }) = self.current.take()
        else {
            return Ok(());
        };
        let (outlet, closed) = handover(self.waker.clone());
        let (places, attempt, name) = (self.places.clone(), self.attempt, path.clone());
        let thread = thread::Builder::new().name("file-closer".to_owned()).spawn(move || {
            let closed = block_on(async {
                file.close().await?;
                // On a local disk the file of an attempt that is over can be written to no end.
                places.system.status(&name).await.map(drop)
            });
            outlet.send(closed.map_err(|error| places.unless_gone(attempt, error)));
        });
        thread.map_err(|_refused| FileSinkError::CloserDied { path: path.clone() })?;
        self.closing.push(Closing { path, closed });
        let (attempt, subtask, length) = (self.attempt, self.subtask, written);
        let checksum = checksum.finalize();
        let job = self.places.job;
        self.finished.push(FinishedFile { job, attempt, subtask, number, length, checksum });
        Ok(())
    }

    /// Full while too many files are being completed; their threads wake the task.
    fn flow(&mut self) -> Result<Flow, FileSinkError> {
        while let Some(closing) = self.closing.first() {
            match closing.closed.take() {
                Taken::Nothing => break,
                taken => self.closing.remove(0).check(taken)?,
            }
        }
        Ok(if self.closing.len() > CLOSING_MAX { Flow::Full } else { Flow::Ready })
    }

    fn unless_gone(&self, error: StorageError) -> FileSinkError {
        self.places.unless_gone(self.attempt, error)
    }
}

impl Closing {
    fn check(self, taken: Taken<Result<(), FileSinkError>>) -> Result<(), FileSinkError> {
        match taken {
            Taken::Item(closed) => closed,
            Taken::Nothing | Taken::Done | Taken::Died => {
                Err(FileSinkError::CloserDied { path: self.path })
            }
        }
    }
}

impl Places {
    /// The error for a missing file of an attempt.
    fn unless_gone(&self, attempt: AttemptId, error: StorageError) -> FileSinkError {
        match error {
            StorageError::NotFound { .. } => {
                FileSinkError::AttemptGone { path: self.attempt(attempt) }
            }
            error => FileSinkError::Storage(error),
        }
    }
}

impl<T, E: Encoder<T>> SinkWriter<T> for FileSinkWriter<E> {
    type Committable = FinishedFile;

    /// A local disk takes bytes into memory, and blocks when a file is completed; elsewhere a file
    /// is created and written by way of the network.
    fn blocks(&self) -> Blocks {
        if self.places.output.local().is_some() { Blocks::PreCommit } else { Blocks::Everything }
    }

    fn write(&mut self, batch: Batch<T>) -> Result<Flow> {
        if batch.is_empty() {
            return Ok(Flow::Ready);
        }
        let begins_file = self.current.is_none();
        if begins_file {
            self.begin_file()?;
        }
        self.encoder.encode(batch.records(), begins_file, &mut self.buffer)?;
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        let written = self.current.as_ref().map_or(0, |current| current.written);
        if written + self.buffer.len() as u64 >= self.rolling.bytes {
            self.end_file()?;
        }
        Ok(self.flow()?)
    }

    fn resume(&mut self) -> Result<Flow> {
        Ok(self.flow()?)
    }

    fn on_time(&mut self, now: Instant) -> Result<Flow> {
        if SinkWriter::<T>::next_time(self).is_some_and(|due| now >= due) {
            self.end_file()?;
        }
        Ok(self.flow()?)
    }

    fn next_time(&self) -> Option<Instant> {
        Some(self.current.as_ref()?.opened + self.rolling.after?)
    }

    fn pre_commit(&mut self, _id: CheckpointId) -> Result<Vec<FinishedFile>> {
        self.end_file()?;
        for closing in mem::take(&mut self.closing) {
            let taken = closing.closed.wait();
            closing.check(taken)?;
        }
        Ok(mem::take(&mut self.finished))
    }
}
