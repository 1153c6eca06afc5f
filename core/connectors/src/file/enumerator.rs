//! Lists files and cuts them into splits; runs in the coordinator host.

use std::collections::{HashMap, VecDeque};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime};

use millstream_api::{NextSplit, Result, SplitEnumerator};
use millstream_storage::{
    FileKind, FilePath, FileStatus, FileSystem, FileSystems, StorageError, block_on,
};

use crate::file::{FileError, FileRange, FileSplit};

/// How many directories deep files are looked for.
const DEPTH_MAX: usize = 64;

/// Small files go together into one split up to this size and this number: a split costs a round
/// trip through the master.
const TOGETHER_BYTES: u64 = 1 << 20;
const TOGETHER_FILES: usize = 256;

/// A file of which the bytes from `start` on are not handed out yet.
#[derive(Debug)]
struct Unread {
    path: FilePath,
    start: u64,
    len: u64,
    block_bytes: Option<u64>,
}

impl Unread {
    /// How much of it goes into a split, which never lies in two blocks.
    fn next_bytes(&self, split_bytes: Option<u64>) -> u64 {
        let left = self.len - self.start;
        let Some(split_bytes) = split_bytes else { return left };
        let in_block = self.block_bytes.map_or(left, |block| block - self.start % block);
        left.min(split_bytes).min(in_block)
    }
}

/// What tells one version of a file from another.
type Version = (SystemTime, u64);

/// Finds the files of a [`FileSource`](crate::FileSource).
#[derive(Debug)]
pub struct FileEnumerator {
    path: FilePath,
    /// `None`: files are not cut.
    split_bytes: Option<u64>,
    watch: Option<Duration>,
    unread: VecDeque<Unread>,
    /// The files that were there at the last look, each with the version that was handed out.
    seen: HashMap<FilePath, Version>,
}

impl FileEnumerator {
    pub(crate) fn new(path: FilePath, split_bytes: Option<u64>, watch: Option<Duration>) -> Self {
        let (unread, seen) = (VecDeque::new(), HashMap::new());
        Self { path, split_bytes, watch, unread, seen }
    }

    /// The next range and its size, if it fits into a split that has `taken` bytes already.
    fn next_range(&mut self, taken: u64) -> Option<(FileRange, u64)> {
        let file = self.unread.front_mut()?;
        let size = file.next_bytes(self.split_bytes);
        if taken > 0 && taken + size > TOGETHER_BYTES {
            return None;
        }
        let path = file.path.clone();
        let (start, whole) = (file.start, self.split_bytes.is_none());
        file.start += size;
        let end = if whole { u64::MAX } else { file.start };
        if file.start >= file.len {
            self.unread.pop_front();
        }
        Some((FileRange { path, start, end }, size))
    }
}

impl SplitEnumerator for FileEnumerator {
    type Split = FileSplit;

    fn discover(&mut self) -> Result<Option<Duration>> {
        let mut seen = HashMap::new();
        for FileStatus { path, length: len, modified, block_bytes, .. } in list(&self.path)? {
            let version = (modified, len);
            if self.seen.get(&path) != Some(&version) && len > 0 {
                self.unread.push_back(Unread { path: path.clone(), start: 0, len, block_bytes });
            }
            if self.watch.is_some() {
                seen.insert(path, version);
            }
        }
        self.seen = seen;
        Ok(self.watch)
    }

    fn next_split(&mut self, _subtask: u32) -> Result<NextSplit<FileSplit>> {
        let mut ranges = Vec::new();
        let mut taken = 0;
        while ranges.len() < TOGETHER_FILES {
            let Some((range, size)) = self.next_range(taken) else { break };
            taken += size;
            ranges.push(range);
        }
        Ok(match (ranges.is_empty(), self.watch) {
            (false, _) => NextSplit::Split(FileSplit { ranges }),
            (true, None) => NextSplit::NoMore,
            (true, Some(_)) => NextSplit::Later,
        })
    }
}

/// The file, or all files of the directory in the order of their paths.
fn list(path: &FilePath) -> Result<Vec<FileStatus>, FileError> {
    let system = FileSystems::of_process().of(path)?;
    let status = block_on(system.status(path)).map_err(|error| match error {
        StorageError::NotFound { path } => FileError::Missing { path: path.absolute() },
        error => FileError::Storage(error),
    })?;
    let mut files = Vec::new();
    match status.kind {
        FileKind::File => {
            // That it may not be read is better said now than by a task.
            block_on(system.open(path))?;
            files.push(status);
        }
        FileKind::Directory => walk(&*system, path, 0, &mut files)?,
        FileKind::Special => return Err(FileError::NotAFile { path: path.clone() }),
    }
    files.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(files)
}

fn walk(
    system: &dyn FileSystem,
    directory: &FilePath,
    depth: usize,
    files: &mut Vec<FileStatus>,
) -> Result<(), FileError> {
    if depth > DEPTH_MAX {
        return Err(FileError::TooDeep { path: directory.clone(), levels: DEPTH_MAX });
    }
    let entries = match block_on(system.list(directory)) {
        Ok(entries) => entries,
        Err(StorageError::NotFound { .. }) if depth > 0 => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for entry in entries {
        let name = entry.path.file_name().map(OsStr::as_bytes);
        if matches!(name.and_then(<[u8]>::first), Some(b'.' | b'_')) {
            continue;
        }
        match entry.kind {
            FileKind::File => files.push(entry),
            FileKind::Directory => walk(system, &entry.path, depth + 1, files)?,
            FileKind::Special => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
