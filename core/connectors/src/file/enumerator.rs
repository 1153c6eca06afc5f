//! Lists files and cuts them into splits; runs in the coordinator host.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use millstream_connector::{NextSplit, Result, SplitEnumerator};
use millstream_storage::{
    FileKind, FilePath, FileStatus, FileSystem, FileSystems, StorageError, block_on,
};
use millstream_types::with_sources;
use serde::{Deserialize, Serialize};

use crate::file::input::may_be_compressed;
use crate::file::{FileError, FileRange, FileSplit, PATIENCE, Version, say};

/// Largest depth of directories in which files are looked for.
const DEPTH_MAX: usize = 64;

/// Number of failed listings in a row that a watched directory may have at least.
const LOOKS_MAX: u32 = 3;

/// Small files go together into one split up to this size and this number: a split costs a round
/// trip through the master.
const TOGETHER_BYTES: u64 = 1 << 20;
const TOGETHER_FILES: usize = 256;

/// A piece of a file of which the bytes from `start` to `end` are not handed out yet; it is the
/// rest of the file, unless an enumerator before has handed out what is behind it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Unread {
    path: FilePath,
    version: Version,
    start: u64,
    end: u64,
    block_bytes: Option<u64>,
}

impl Unread {
    /// Bytes of a split, which never lies in two blocks.
    fn next_bytes(&self, split_bytes: Option<u64>) -> u64 {
        let left = self.end - self.start;
        let Some(split_bytes) = split_bytes else { return left };
        let in_block = self.block_bytes.map_or(left, |block| block - self.start % block);
        left.min(split_bytes).min(in_block)
    }

    /// The length of the file.
    const fn len(&self) -> u64 {
        self.version.1
    }

    /// The pieces that are left without these ranges.
    fn without(self, ranges: &[(u64, u64)]) -> Vec<Self> {
        if self.len() == 0 {
            return Vec::new();
        }
        let mut left = vec![(self.start, self.end)];
        for (from, to) in ranges {
            let parts = left
                .into_iter()
                .flat_map(|(start, end)| [(start, end.min(*from)), (start.max(*to), end)]);
            left = parts.filter(|(start, end)| start < end).collect();
        }
        left.into_iter().map(|(start, end)| Self { start, end, ..self.clone() }).collect()
    }
}

/// A version of a file that was handed out.
#[derive(Debug)]
struct Seen {
    version: Version,
    /// When it was last listed: one that is back soon is not read again.
    listed: Instant,
}

/// The state of the search for files, as a checkpoint keeps it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct FoundFiles {
    has_listed: bool,
    returned: Vec<FileSplit>,
    unread: VecDeque<Unread>,
    /// The versions of files that were handed out, where a directory is watched.
    seen: Vec<(FilePath, Version)>,
}

/// Finds the files of a [`FileSource`](crate::FileSource).
#[derive(Debug)]
pub struct FileEnumerator {
    path: FilePath,
    /// `None`: files are not cut.
    split_bytes: Option<u64>,
    /// Whether compressed files are cut like others.
    raw: bool,
    watch: Option<Duration>,
    /// Splits that were given back.
    returned: Vec<FileSplit>,
    unread: VecDeque<Unread>,
    /// The files that were there at the last looks, each with the version that was handed out.
    seen: HashMap<FilePath, Seen>,
    /// Number of failed listings in a row, and the time of the first.
    failing: Option<(u32, Instant)>,
    has_listed: bool,
    /// Number of names that the last look left out.
    left_out: usize,
}

impl FileEnumerator {
    pub(crate) fn new(path: FilePath, split_bytes: Option<u64>, watch: Option<Duration>) -> Self {
        Self {
            path,
            split_bytes,
            raw: false,
            watch,
            returned: Vec::new(),
            unread: VecDeque::new(),
            seen: HashMap::new(),
            failing: None,
            has_listed: false,
            left_out: 0,
        }
    }

    /// Takes every file for bytes that may be cut anywhere.
    pub(crate) const fn of_raw_bytes(mut self) -> Self {
        self.raw = true;
        self
    }

    /// Goes on from what a checkpoint has kept.
    pub(crate) fn restored(mut self, found: FoundFiles) -> Self {
        let FoundFiles { has_listed, returned, unread, seen } = found;
        let listed = Instant::now();
        self.seen =
            seen.into_iter().map(|(path, version)| (path, Seen { version, listed })).collect();
        Self { has_listed, returned, unread, ..self }
    }

    /// The next range and its size, if it fits into a split that has `taken` bytes already.
    fn next_range(&mut self, taken: u64) -> Option<(FileRange, u64)> {
        let raw = self.raw;
        let file = self.unread.front_mut()?;
        let mut size = file.next_bytes(self.split_bytes);
        let mut whole = self.split_bytes.is_none() || file.len() == 0;
        if taken > 0 && taken + size > TOGETHER_BYTES {
            return None;
        }
        let is_untouched = file.start == 0 && file.end == file.len();
        if is_untouched && size < file.len() && !raw && may_be_compressed(&file.path) {
            (size, whole) = (file.len(), true);
        }
        let (path, version) = (file.path.clone(), file.version);
        let (start, is_cut) = (file.start, size < file.len());
        file.start += size;
        let end = if whole { u64::MAX } else { file.start };
        if file.start >= file.end {
            self.unread.pop_front();
        }
        Some((FileRange { path, version, start, end, is_cut, position: None }, size))
    }

    /// Lists the files. Where a directory is watched that was there before, it may be away for a
    /// while: `None` then.
    fn look(&mut self, now: Instant) -> Result<Option<Listing>, FileError> {
        let error = match list(&self.path) {
            Ok(listing) => {
                if let Some((looks, since)) = self.failing.take() {
                    let seconds = since.elapsed().as_secs();
                    let path = &self.path;
                    say(&format!("{path} is listed again, after {looks} looks in {seconds} s"));
                }
                self.has_listed = true;
                return Ok(Some(listing));
            }
            Err(error) => error,
        };
        if self.watch.is_none() || !self.has_listed {
            return Err(error);
        }
        let (looks, since) = self.failing.map_or((1, now), |(looks, since)| (looks + 1, since));
        self.failing = Some((looks, since));
        let waited = now.saturating_duration_since(since);
        if looks > LOOKS_MAX && waited >= PATIENCE {
            return Err(FileError::NotBack {
                path: self.path.clone(),
                seconds: waited.as_secs(),
                source: Box::new(error),
            });
        }
        if looks == 1 {
            let seconds = PATIENCE.as_secs();
            let error = with_sources(&error);
            say(&format!("{error}; a watched directory is waited for, for {seconds} s at least"));
        }
        Ok(None)
    }

    /// Tells the user of names that are no files, when their number has changed.
    fn tell_left_out(&mut self, left_out: &[FilePath]) {
        if let Some(first) = left_out.first()
            && left_out.len() != self.left_out
        {
            say(&format!(
                "{} names under {} are left out, which are neither files nor directories, or links \
                 to nothing or in a circle; the first is {first}",
                left_out.len(),
                self.path
            ));
        }
        self.left_out = left_out.len();
    }
}

impl SplitEnumerator for FileEnumerator {
    type Split = FileSplit;
    type State = FoundFiles;

    const RESTARTS_ALONE: bool = true;

    fn discover(&mut self) -> Result<Option<Duration>> {
        if self.has_listed && self.watch.is_none() {
            return Ok(None); // before a restore
        }
        let now = Instant::now();
        let Some(Listing { files, left_out }) = self.look(now)? else { return Ok(self.watch) };
        self.tell_left_out(&left_out);
        for FileStatus { path, length: len, modified, block_bytes, .. } in files {
            let version = (modified, len);
            // Where no directory is watched each file is read once.
            let is_other = |seen: &Seen| self.watch.is_some() && seen.version != version;
            let is_new = self.seen.get(&path).is_none_or(is_other);
            // The size of a file of the system, as in /proc, is 0 whatever is in it. In a watched
            // directory a file that is empty now is read when it is not.
            let may_have_bytes = len > 0 || self.watch.is_none() && path.local().is_some();
            if is_new && may_have_bytes {
                let path = path.clone();
                self.unread.push_back(Unread { path, version, start: 0, end: len, block_bytes });
            }
            if self.watch.is_some() {
                self.seen.insert(path, Seen { version, listed: now });
            }
        }
        let kept = PATIENCE.max(self.watch.unwrap_or_default().saturating_mul(LOOKS_MAX));
        self.seen.retain(|_, seen| now.saturating_duration_since(seen.listed) < kept);
        Ok(self.watch)
    }

    fn next_split(&mut self, _subtask: u32) -> Result<NextSplit<FileSplit>> {
        if let Some(split) = self.returned.pop() {
            return Ok(NextSplit::Split(split));
        }
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

    fn give_back(&mut self, _subtask: u32, splits: Vec<FileSplit>) -> Result<()> {
        self.returned.extend(splits);
        Ok(())
    }

    /// Files that were listed behind the snapshot count as listed.
    fn was_handed_out(&mut self, splits: Vec<(u32, FileSplit)>) -> Result<()> {
        // Older versions of a file come first.
        let mut handed: BTreeMap<(Version, FilePath), Vec<(u64, u64)>> = BTreeMap::new();
        for (_, split) in splits {
            if let Some(at) = self.returned.iter().position(|returned| *returned == split) {
                self.returned.swap_remove(at);
                continue;
            }
            for FileRange { path, version, start, end, .. } in split.ranges {
                handed.entry((version, path)).or_default().push((start, end));
            }
        }
        let listed = Instant::now();
        let known: BTreeSet<(Version, FilePath)> =
            self.unread.iter().map(|file| (file.version, file.path.clone())).collect();
        for (version, path) in handed.keys() {
            let is_seen = self.seen.get(path).is_some_and(|seen| seen.version == *version);
            let may_be_new = self.watch.is_some() || !self.has_listed;
            if !is_seen && may_be_new && !known.contains(&(*version, path.clone())) {
                self.seen.insert(path.clone(), Seen { version: *version, listed });
                let (path, version, end) = (path.clone(), *version, version.1);
                self.unread.push_back(Unread { path, version, start: 0, end, block_bytes: None });
            }
        }
        let unread = std::mem::take(&mut self.unread).into_iter();
        self.unread = unread
            .flat_map(|file| match handed.get(&(file.version, file.path.clone())) {
                Some(ranges) => file.without(ranges),
                None => vec![file],
            })
            .collect();
        Ok(())
    }

    fn snapshot(&mut self) -> Result<FoundFiles> {
        Ok(FoundFiles {
            has_listed: self.has_listed,
            returned: self.returned.clone(),
            unread: self.unread.clone(),
            seen: self.seen.iter().map(|(path, seen)| (path.clone(), seen.version)).collect(),
        })
    }
}

/// The entries that were found under a path.
#[derive(Debug, Default)]
struct Listing {
    files: Vec<FileStatus>,
    /// Devices, pipes and the like, and links that lead nowhere or in a circle.
    left_out: Vec<FilePath>,
}

/// The file, or all files of the directory in the order of their paths.
fn list(path: &FilePath) -> Result<Listing, FileError> {
    let system = FileSystems::of_process().of(path)?;
    let status = block_on(system.status(path)).map_err(|error| match error {
        StorageError::NotFound { path } => FileError::Missing { path },
        error => FileError::Storage(error),
    })?;
    let mut found = Listing::default();
    match status.kind {
        FileKind::File => {
            // That it may not be read is better said now than by a task.
            block_on(system.open(path))?;
            found.files.push(status);
        }
        FileKind::Directory => walk(&*system, path, &mut Vec::new(), &mut found)?,
        FileKind::Special => return Err(FileError::NotAFile { path: path.clone() }),
    }
    found.files.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(found)
}

/// Lists a directory that lies in directories whose true places are `above`.
fn walk(
    system: &dyn FileSystem,
    directory: &FilePath,
    above: &mut Vec<PathBuf>,
    found: &mut Listing,
) -> Result<(), FileError> {
    if above.len() > DEPTH_MAX {
        return Err(FileError::TooDeep { path: directory.clone(), levels: DEPTH_MAX });
    }
    let true_place = directory.local().and_then(|path| path.canonicalize().ok());
    let true_place = true_place.unwrap_or_else(|| directory.path().to_owned());
    if above.contains(&true_place) {
        found.left_out.push(directory.clone());
        return Ok(());
    }
    let entries = match block_on(system.list(directory)) {
        Ok(entries) => entries,
        Err(StorageError::NotFound { .. }) if !above.is_empty() => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    above.push(true_place);
    for entry in entries {
        let name = entry.path.file_name().map(OsStr::as_bytes);
        if matches!(name.and_then(<[u8]>::first), Some(b'.' | b'_')) {
            continue;
        }
        match entry.kind {
            FileKind::File => found.files.push(entry),
            FileKind::Directory => walk(system, &entry.path, above, found)?,
            FileKind::Special => found.left_out.push(entry.path),
        }
    }
    above.pop();
    Ok(())
}

#[cfg(test)]
mod tests;
