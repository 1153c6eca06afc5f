//! Lists files and cuts them into splits; runs in the coordinator host.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use millstream_api::{NextSplit, Result, SplitEnumerator};

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
    path: PathBuf,
    start: u64,
    len: u64,
}

/// A file that was found.
struct Found {
    path: PathBuf,
    len: u64,
    modified: SystemTime,
}

/// Finds the files of a [`FileSource`](crate::FileSource).
#[derive(Debug)]
pub struct FileEnumerator {
    path: PathBuf,
    /// `None`: files are not cut.
    split_bytes: Option<u64>,
    watch: Option<Duration>,
    unread: VecDeque<Unread>,
    /// The files that were there at the last look, each with the time of the contents that were
    /// handed out.
    seen: HashMap<PathBuf, SystemTime>,
}

impl FileEnumerator {
    pub(crate) fn new(path: PathBuf, split_bytes: Option<u64>, watch: Option<Duration>) -> Self {
        let (unread, seen) = (VecDeque::new(), HashMap::new());
        Self { path, split_bytes, watch, unread, seen }
    }

    /// The next range and its size, if it fits into a split that has `taken` bytes already.
    fn next_range(&mut self, taken: u64) -> Option<(FileRange, u64)> {
        let file = self.unread.front_mut()?;
        let left = file.len - file.start;
        let size = self.split_bytes.map_or(left, |split_bytes| split_bytes.min(left));
        if taken > 0 && taken + size > TOGETHER_BYTES {
            return None;
        }
        let path = file.path.as_os_str().to_owned();
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
        for Found { path, len, modified } in list(&self.path)? {
            if self.seen.get(&path) != Some(&modified) && len > 0 {
                self.unread.push_back(Unread { path: path.clone(), start: 0, len });
            }
            if self.watch.is_some() {
                seen.insert(path, modified);
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
fn list(path: &Path) -> Result<Vec<Found>, FileError> {
    let metadata = fs::metadata(path).map_err(|error| missing(path, error))?;
    let mut files = Vec::new();
    if metadata.is_file() {
        fs::File::open(path).map_err(|error| failed("open", path, error))?;
        files.push(found(path.to_path_buf(), &metadata)?);
    } else if metadata.is_dir() {
        walk(path, 0, &mut files)?;
    } else {
        return Err(FileError::NotAFile { path: path.to_path_buf() });
    }
    files.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(files)
}

fn walk(directory: &Path, depth: usize, files: &mut Vec<Found>) -> Result<(), FileError> {
    if depth > DEPTH_MAX {
        return Err(FileError::TooDeep { path: directory.to_path_buf(), levels: DEPTH_MAX });
    }
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound && depth > 0 => return Ok(()),
        Err(error) => return Err(failed("list directory", directory, error)),
    };
    for entry in entries {
        let entry = entry.map_err(|error| failed("list directory", directory, error))?;
        if matches!(entry.file_name().as_bytes().first(), Some(b'.' | b'_')) {
            continue;
        }
        let path = entry.path();
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => files.push(found(path, &metadata)?),
            Ok(metadata) if metadata.is_dir() => walk(&path, depth + 1, files)?,
            Ok(_) => {}
            // Removed or renamed since the directory was listed, or a link to nothing.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(failed("look at", &path, error)),
        }
    }
    Ok(())
}

fn found(path: PathBuf, metadata: &Metadata) -> Result<Found, FileError> {
    let modified = metadata.modified().map_err(|error| failed("look at", &path, error))?;
    Ok(Found { path, len: metadata.len(), modified })
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> FileError {
    FileError::Io { action, path: path.to_path_buf(), source }
}

fn missing(path: &Path, error: io::Error) -> FileError {
    match error.kind() {
        ErrorKind::NotFound => FileError::Missing {
            path: std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()),
        },
        _ => failed("look at", path, error),
    }
}

#[cfg(test)]
mod tests;
