//! The thread that reads the ranges of one split and hands over chunks of whole lines.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::task::Waker;
use std::thread;

use millstream_storage::{FilePath, FileReader, FileSystems, StorageError, block_on};

use crate::file::{FileError, FileRange, FileSplit};
use crate::handover::{Intake, Outlet, Taken, handover};
use crate::lines::{Chunk, CutError, LineCutter};

/// How many buffers may wait to be used again.
const SPARE_BUFFERS_MAX: usize = 4;

/// How files are read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadOptions {
    pub(crate) line_bytes_max: usize,
    /// Whether a range that does not begin with the file is preceded by its first line.
    pub(crate) head_line: bool,
}

/// A split that is being read.
pub(crate) struct Fetch {
    chunks: Intake<Result<Chunk, FileError>>,
    spare: SyncSender<Vec<u8>>,
}

impl Fetch {
    /// Starts to read.
    pub(crate) fn start(
        split: FileSplit,
        options: ReadOptions,
        waker: Waker,
    ) -> Result<Self, FileError> {
        let (outlet, chunks) = handover(waker);
        let (spare, returned) = sync_channel(SPARE_BUFFERS_MAX);
        let fetcher = Fetcher { outlet, returned, options };
        thread::Builder::new()
            .name("file-reader".to_owned())
            .spawn(move || fetcher.run(split))
            .map_err(FileError::Thread)?;
        Ok(Self { chunks, spare })
    }

    /// Takes a chunk without waiting.
    pub(crate) fn take(&self) -> Taken<Result<Chunk, FileError>> {
        self.chunks.take()
    }

    /// Gives back a chunk that was used.
    pub(crate) fn recycle(&self, chunk: Chunk) {
        // If there are enough spare buffers, or the thread is done, this one is freed.
        let _enough = self.spare.try_send(chunk.buffer);
    }
}

struct Fetcher {
    outlet: Outlet<Result<Chunk, FileError>>,
    returned: Receiver<Vec<u8>>,
    options: ReadOptions,
}

/// The task is gone.
struct Unwanted;

impl Fetcher {
    fn run(self, split: FileSplit) {
        for range in split.ranges {
            match self.read(&range) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    self.outlet.send(Err(error));
                    return;
                }
                Err(Unwanted) => return,
            }
        }
        self.outlet.done();
    }

    fn read(&self, range: &FileRange) -> Result<Result<(), FileError>, Unwanted> {
        let mut file = match Input::open(&range.path) {
            Ok(file) => file,
            Err(error) => return Ok(Err(error)),
        };
        if self.options.head_line && range.start > 0 {
            let read = self.read_lines(&mut file, &range.path, 0, 1)?;
            if read.is_err() {
                return Ok(read);
            }
        }
        let read = self.read_lines(&mut file, &range.path, range.start, range.end)?;
        if read.is_ok() {
            let (origin, buffer, len) = (origin(&range.path), Vec::new(), 0);
            self.send(Chunk { origin, offset: range.end, buffer, len, ends_range: true })?;
        }
        Ok(read)
    }

    /// Hands over the lines that begin in `start..end`.
    fn read_lines(
        &self,
        file: &mut Input,
        path: &FilePath,
        start: u64,
        end: u64,
    ) -> Result<Result<(), FileError>, Unwanted> {
        // The byte before the range says whether a line begins with the range.
        let from = start.saturating_sub(1);
        file.at = from;
        let limit = self.options.line_bytes_max;
        let mut cutter = LineCutter::new(file, origin(path), from, end, limit);
        if start > 0
            && let Err(error) = cutter.skip_line()
        {
            return Ok(Err(self.explain(path, error)));
        }
        loop {
            match cutter.next_chunk(self.returned.try_recv().unwrap_or_default()) {
                Ok(Some(chunk)) => self.send(chunk)?,
                Ok(None) => return Ok(Ok(())),
                Err(error) => return Ok(Err(self.explain(path, error))),
            }
        }
    }

    fn send(&self, chunk: Chunk) -> Result<(), Unwanted> {
        if self.outlet.send(Ok(chunk)) { Ok(()) } else { Err(Unwanted) }
    }

    fn explain(&self, path: &FilePath, error: CutError) -> FileError {
        match error {
            CutError::Io(error) => match error.downcast::<StorageError>() {
                Ok(error) => FileError::Storage(error),
                Err(error) => FileError::Storage(StorageError::of_io("read", path, &error)),
            },
            CutError::LongLine(offset) => {
                let limit = self.options.line_bytes_max;
                FileError::LongLine { path: path.clone(), offset, limit }
            }
        }
    }
}

/// What stands for a file in messages about its records.
fn origin(path: &FilePath) -> Arc<Path> {
    path.local().map_or_else(|| PathBuf::from(path.to_string()).into(), Arc::from)
}

/// A file that is read on from where one says.
struct Input {
    file: Box<dyn FileReader>,
    at: u64,
}

impl Input {
    fn open(path: &FilePath) -> Result<Self, FileError> {
        let system = FileSystems::of_process().of(path)?;
        match block_on(system.open(path)) {
            Ok(file) => Ok(Self { file, at: 0 }),
            Err(StorageError::NotFound { path }) => Err(FileError::Vanished { path }),
            Err(error) => Err(error.into()),
        }
    }
}

impl Read for Input {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = block_on(self.file.read_at(self.at, into)).map_err(io::Error::other)?;
        self.at += read as u64;
        Ok(read)
    }
}
