//! Writes the files of one subtask into the hidden directory of its attempt.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::time::Instant;

use millstream_api::{Batch, Result, SinkWriter};
use serde::{Deserialize, Serialize};

use crate::file_sink::encoder::Encoder;
use crate::file_sink::{FileSinkError, Places, Rolling};

/// How much is gathered before it is written.
const BUFFER_BYTES: usize = 256 << 10;

/// A file that a writer has completed, as its committer is told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinishedFile {
    pub(crate) subtask: u32,
    pub(crate) number: u32,
}

struct InProgress {
    file: File,
    path: PathBuf,
    written: u64,
    opened: Instant,
}

/// Writes records to one file after another.
pub struct FileWriter<E> {
    places: Places,
    encoder: E,
    rolling: Rolling,
    subtask: u32,
    current: Option<InProgress>,
    buffer: Vec<u8>,
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
            finished: Vec::new(),
        }
    }

    /// Lets the file at hand be the device that never has room.
    #[cfg(test)]
    pub(crate) fn write_to_full_disk(&mut self) {
        let path = PathBuf::from("/dev/full");
        let file = File::options().write(true).open(&path).unwrap();
        self.current = Some(InProgress { file, path, written: 0, opened: Instant::now() });
    }

    /// The next file's number.
    fn number(&self) -> u32 {
        u32::try_from(self.finished.len()).unwrap_or(u32::MAX)
    }

    fn begin_file(&self) -> Result<InProgress, FileSinkError> {
        let path = self.places.in_progress(self.subtask, self.number());
        let file = File::create_new(&path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => FileSinkError::AttemptGone { path: self.places.attempt.clone() },
            _ => FileSinkError::io("create", &path, error),
        })?;
        Ok(InProgress { file, path, written: 0, opened: Instant::now() })
    }

    fn flush(&mut self) -> Result<(), FileSinkError> {
        let Some(current) = &mut self.current else { return Ok(()) };
        let written = current.file.write_all(&self.buffer);
        written.map_err(|error| FileSinkError::io("write to", &current.path, error))?;
        current.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Completes the file at hand, if there is one.
    fn end_file(&mut self) -> Result<(), FileSinkError> {
        self.flush()?;
        let Some(current) = self.current.take() else { return Ok(()) };
        let synced = current.file.sync_all();
        synced.map_err(|error| FileSinkError::io("write to disk", &current.path, error))?;
        let finished = FinishedFile { subtask: self.subtask, number: self.number() };
        let renamed = fs::rename(&current.path, self.places.finished(finished));
        renamed.map_err(|error| FileSinkError::io("rename", &current.path, error))?;
        self.finished.push(finished);
        Ok(())
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
        self.encoder.encode(&batch.records, begins_file, &mut self.buffer)?;
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
        Ok(std::mem::take(&mut self.finished))
    }
}
