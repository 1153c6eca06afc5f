//! The thread that reads the ranges of one split and hands over chunks of whole lines.

use std::fs::File;
use std::io::{ErrorKind, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::task::Waker;
use std::thread;

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
        let first = split.ranges.first().map(|range| PathBuf::from(&range.path));
        let fetcher = Fetcher { outlet, returned, options };
        thread::Builder::new()
            .name("file-reader".to_owned())
            .spawn(move || fetcher.run(split))
            .map_err(|source| {
                let path = first.unwrap_or_default();
                FileError::Io { action: "start a thread that reads", path, source }
            })?;
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
        let path: Arc<Path> = Arc::from(Path::new(&range.path));
        let mut file = match open(&path) {
            Ok(file) => file,
            Err(error) => return Ok(Err(error)),
        };
        if self.options.head_line && range.start > 0 {
            let read = self.read_lines(&mut file, &path, 0, 1)?;
            if read.is_err() {
                return Ok(read);
            }
        }
        let read = self.read_lines(&mut file, &path, range.start, range.end)?;
        if read.is_ok() {
            let (buffer, len) = (Vec::new(), 0);
            self.send(Chunk { origin: path, offset: range.end, buffer, len, ends_range: true })?;
        }
        Ok(read)
    }

    /// Hands over the lines that begin in `start..end`.
    fn read_lines(
        &self,
        file: &mut File,
        path: &Arc<Path>,
        start: u64,
        end: u64,
    ) -> Result<Result<(), FileError>, Unwanted> {
        // The byte before the range says whether a line begins with the range.
        let from = start.saturating_sub(1);
        if let Err(error) = file.seek(SeekFrom::Start(from)) {
            return Ok(Err(self.explain(path, CutError::Io(error))));
        }
        let limit = self.options.line_bytes_max;
        let mut cutter = LineCutter::new(file, Arc::clone(path), from, end, limit);
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

    fn explain(&self, path: &Path, error: CutError) -> FileError {
        let path = path.to_path_buf();
        match error {
            CutError::Io(source) => FileError::Io { action: "read", path, source },
            CutError::LongLine(offset) => {
                FileError::LongLine { path, offset, limit: self.options.line_bytes_max }
            }
        }
    }
}

fn open(path: &Path) -> Result<File, FileError> {
    File::open(path).map_err(|source| {
        let path = path.to_path_buf();
        match source.kind() {
            ErrorKind::NotFound => FileError::Vanished { path },
            _ => FileError::Io { action: "open", path, source },
        }
    })
}
