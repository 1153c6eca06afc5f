//! The thread that reads the ranges of one split and hands over chunks.

use std::cell::Cell;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use millstream_connector::{Counter, ReaderContext};
use millstream_storage::{FilePath, FileSystems, block_on};

use crate::file::head::{Head, HeadScanner};
use crate::file::input::{Input, Text, unreadable};
use crate::file::{FileError, FileRange, FileSplit, PATIENCE, say};
use crate::handover::{Intake, Outlet, Taken, handover};
use crate::lines::{Chunk, CutError, LineCutter, Part};

/// Number of buffers that may wait to be used again.
const SPARE_BUFFERS_MAX: usize = 4;
/// Bytes of a file in which its head is looked for at first.
const HEAD_BYTES: usize = 4 << 10;
/// Patience with missing files of a split whose directory exists.
const GONE_PATIENCE: Duration = Duration::from_secs(2);
/// Pause between two looks for a missing file.
const GONE_RETRY: Duration = Duration::from_millis(100);

/// The settings for reading files.
#[derive(Debug, Clone)]
pub(crate) struct ReadOptions {
    pub(crate) record_bytes_max: usize,
    pub(crate) whole_lines: bool,
    pub(crate) head: Head,
    /// Whether bytes are read as they are, whatever they are.
    pub(crate) raw: bool,
    /// The directory that is watched, if one is: then files may vanish.
    pub(crate) watched: Option<FilePath>,
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
        ctx: &ReaderContext,
    ) -> Result<Self, FileError> {
        let (outlet, chunks) = handover(ctx.waker.clone());
        let (spare, returned) = sync_channel(SPARE_BUFFERS_MAX);
        let (skipped, gone_since) = (ctx.skipped.clone(), Cell::new(None));
        let fetcher = Fetcher { outlet, returned, options, skipped, gone_since };
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
    skipped: Counter,
    /// Since when files of this split are waited for that are gone.
    gone_since: Cell<Option<Instant>>,
}

/// Why reading ends before its time.
enum Stop {
    /// The task is gone.
    Unwanted,
    Failed(FileError),
}

impl From<FileError> for Stop {
    fn from(error: FileError) -> Self {
        Self::Failed(error)
    }
}

impl Fetcher {
    fn run(self, split: FileSplit) {
        for range in split.ranges {
            match self.read(&range) {
                Ok(()) => {}
                Err(Stop::Failed(error)) => {
                    self.outlet.send(Err(error));
                    return;
                }
                Err(Stop::Unwanted) => return,
            }
        }
        self.outlet.done();
    }

    /// Hands over the head, the records that begin in the range, and its end.
    fn read(&self, range: &FileRange) -> Result<(), Stop> {
        let path = &range.path;
        let Some(input) = self.open(path)? else { return Ok(()) };
        if range.start > 0 && self.options.head == Head::None {
            self.send_later_records(input, range)?;
        } else {
            let mut text = match self.options.raw {
                true => Text::raw(input),
                false => Text::open(input, path, range.is_cut)?,
            };
            let first_line_at = text.position();
            if let Some(scanner) = self.options.head.scanner() {
                self.send_head(&mut text, path, scanner)?;
            }
            let records_at = text.position();
            let end = match text.is_plain() {
                // The first line is the first range's, even if that ends within the mark before it.
                true if records_at == first_line_at => range.end.max(records_at + 1),
                true => range.end,
                // The range counts compressed bytes.
                false => u64::MAX,
            };
            if range.start <= records_at && records_at < end {
                let limit = self.options.record_bytes_max;
                self.send_records(
                    LineCutter::new(text, origin(path), records_at, end, limit),
                    path,
                )?;
            } else if range.start > records_at
                && let Some(input) = text.into_input()
            {
                self.send_later_records(input, range)?;
            }
        }
        self.send_part(path, Vec::new(), range.end, Part::End)
    }

    /// Opens a file; `None` if it is gone and may be. Where a directory is watched, a file that is
    /// gone was removed, or is back soon because the directory was only renamed.
    fn open(&self, path: &FilePath) -> Result<Option<Input>, Stop> {
        loop {
            let (error, watched) = match (Input::open(path), &self.options.watched) {
                (Err(error @ FileError::Vanished { .. }), Some(watched)) => (error, watched),
                (opened, _) => return Ok(Some(opened?)),
            };
            let since = self.gone_since.get().unwrap_or_else(Instant::now);
            self.gone_since.set(Some(since));
            let is_watched_there = FileSystems::of_process()
                .of(watched)
                .is_ok_and(|system| block_on(system.status(watched)).is_ok());
            if is_watched_there && since.elapsed() >= GONE_PATIENCE {
                say(&format!("{error}; it is left out (counted in numFilesSkipped)"));
                self.skipped.add(1);
                return Ok(None);
            }
            if since.elapsed() >= PATIENCE {
                return Err(error.into());
            }
            thread::sleep(GONE_RETRY);
        }
    }

    /// Takes the head from the beginning of the text and hands it over.
    fn send_head(
        &self,
        text: &mut Text,
        path: &FilePath,
        mut scanner: HeadScanner,
    ) -> Result<(), Stop> {
        let (offset, limit) = (text.position(), self.options.record_bytes_max);
        let mut wanted = HEAD_BYTES;
        let length = loop {
            let bytes = text.peek(wanted).map_err(|error| unreadable(path, error))?;
            if let Some(end) = scanner.end(bytes, bytes.len() < wanted) {
                break end;
            }
            // A line end may follow.
            if wanted > limit.saturating_add(2) {
                let file = origin(path).display().to_string();
                return Err(FileError::LongRecord { file, offset, limit }.into());
            }
            wanted *= 2;
        };
        let mut head = vec![0; length];
        text.read_exact(&mut head).map_err(|error| unreadable(path, error))?;
        self.send_part(path, head, offset, Part::Head)
    }

    /// Hands over the records that begin in a range somewhere behind the beginning.
    fn send_later_records(&self, mut input: Input, range: &FileRange) -> Result<(), Stop> {
        // The byte before the range says whether a line begins with the range.
        input.at = range.start.saturating_sub(1);
        let (from, limit) = (input.at, self.options.record_bytes_max);
        let mut cutter = LineCutter::new(input, origin(&range.path), from, range.end, limit);
        cutter.skip_line().map_err(|error| self.explain(&range.path, error))?;
        self.send_records(cutter, &range.path)
    }

    fn send_records<R: Read>(&self, cutter: LineCutter<R>, path: &FilePath) -> Result<(), Stop> {
        let mut cutter = if self.options.whole_lines { cutter } else { cutter.without_lines() };
        loop {
            let chunk = cutter.next_chunk(self.returned.try_recv().unwrap_or_default());
            match chunk.map_err(|error| self.explain(path, error))? {
                Some(chunk) => self.send(chunk)?,
                None => return Ok(()),
            }
        }
    }

    fn send_part(
        &self,
        path: &FilePath,
        buffer: Vec<u8>,
        offset: u64,
        part: Part,
    ) -> Result<(), Stop> {
        let (origin, len) = (origin(path), buffer.len());
        let record_bytes_max = self.options.record_bytes_max;
        self.send(Chunk { origin, offset, buffer, len, part, record_bytes_max })
    }

    fn send(&self, chunk: Chunk) -> Result<(), Stop> {
        if self.outlet.send(Ok(chunk)) { Ok(()) } else { Err(Stop::Unwanted) }
    }

    fn explain(&self, path: &FilePath, error: CutError) -> FileError {
        match error {
            CutError::Io(error) => unreadable(path, error),
            CutError::LongLine(offset) => {
                let limit = self.options.record_bytes_max;
                FileError::LongLine { path: path.clone(), offset, limit }
            }
        }
    }
}

/// The name of a file in messages about its records.
fn origin(path: &FilePath) -> Arc<Path> {
    path.local().map_or_else(|| PathBuf::from(path.to_string()).into(), Arc::from)
}
