//! Publishes the files of all subtasks, or discards them; runs in the coordinator host.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;

use millstream_connector::{AttemptId, CheckpointId, Committer, Result};
use millstream_mutants::Mutant;
use millstream_storage::{FilePath, FileStatus, IfExists, StorageError, block_on};
use millstream_types::JobId;

use crate::file_sink::leftovers::{self, Claim};
use crate::file_sink::writer::FinishedFile;
use crate::file_sink::{FileSinkError, Places};

/// Bytes that are read at once to compare a file with its checksum.
const READ_BYTES: usize = 256 << 10;

/// Publishes the files of a [`FileSink`](crate::FileSink).
#[derive(Debug)]
pub struct FileCommitter {
    places: Places,
    suffix: String,
    /// Number of directories that this job has made for its output.
    made: usize,
    claim: Option<Claim>,
    /// Nothing of the job counts: what it made for its output goes when this is closed.
    is_void: bool,
}

impl FileCommitter {
    pub(crate) const fn new(places: Places, suffix: String) -> Self {
        Self { places, suffix, made: 0, claim: None, is_void: false }
    }

    /// Sweeps by locks or signs, as a running job does now and then.
    #[cfg(test)]
    pub(crate) fn sweep_by_signs(&self) {
        leftovers::sweep(&self.places, leftovers::Evidence::LockOrSign);
    }

    /// The entries of a directory; none if it does not exist.
    fn entries(&self, directory: &FilePath) -> Result<Vec<FileStatus>, FileSinkError> {
        match block_on(self.places.system.list(directory)) {
            Err(StorageError::NotFound { .. }) => Ok(Vec::new()),
            listed => Ok(listed?),
        }
    }

    /// Claims the hidden directory, once.
    fn claim(&mut self) -> Result<(), FileSinkError> {
        if self.claim.is_some() {
            return Ok(());
        }
        self.made = leftovers::made_before(&self.places).max(leftovers::missing(&self.places));
        let made = block_on(self.places.system.make_directories(&self.places.hidden, None));
        made.inspect_err(|_| leftovers::remove_made(&self.places, self.made))?;
        self.claim = Some(Claim::of(&self.places, self.made)?);
        Ok(())
    }

    /// Removes what these attempts have not published.
    fn discard_unpublished(&self, ended: &[AttemptId]) -> Result<(), FileSinkError> {
        if ended.is_empty() {
            return Ok(());
        }
        let present = self.entries(&self.places.hidden)?;
        if Mutant::RecoverDeletesRunning.lives() {
            for entry in present.iter().filter(|entry| entry.is_directory()) {
                block_on(self.places.system.delete(&entry.path, true))?;
            }
            return Ok(());
        }
        let present: HashSet<FilePath> = present.into_iter().map(|entry| entry.path).collect();
        let directories = ended.iter().map(|attempt| self.places.attempt(*attempt));
        for directory in directories.filter(|directory| present.contains(directory)) {
            block_on(self.places.system.delete(&directory, true))?;
        }
        Ok(())
    }

    fn discard_published(&self, ended: &[AttemptId]) -> Result<(), FileSinkError> {
        for FileStatus { path, .. } in self.entries(&self.places.output)? {
            let name = path.file_name().and_then(OsStr::to_str);
            if name.is_some_and(|name| self.places.is_published_by(ended, name)) {
                block_on(self.places.system.delete(&path, false))?;
            }
        }
        Ok(())
    }

    /// Publishes the files that are not published yet. Looks at the directories of their attempts
    /// and at these files alone: the output directory may hold any number of others.
    fn publish(&self, files: &[FinishedFile]) -> Result<(), FileSinkError> {
        let mut unpublished = HashSet::new();
        let mut places: BTreeMap<JobId, Places> = BTreeMap::new();
        for (job, attempt) in
            files.iter().map(|file| (file.job, file.attempt)).collect::<HashSet<_>>()
        {
            let places = places.entry(job).or_insert_with(|| self.places.of_job(job));
            let present = self.entries(&places.attempt(attempt))?;
            unpublished.extend(present.into_iter().map(|entry| entry.path));
        }
        let (mut left, mut renames) = (Vec::new(), Vec::new());
        for file in files {
            let places = places.get(&file.job).unwrap_or(&self.places);
            let from = places.unpublished(file.attempt, file.subtask, file.number);
            let to = places.published(file, &self.suffix);
            if unpublished.contains(&from) {
                left.push(file);
                renames.push((from, to));
            } else if !self.is_published(file, &to)? {
                return Err(FileSinkError::Lost { path: to, unpublished: from });
            }
        }
        match block_on(self.places.system.publish_all(&renames, IfExists::Refuse)) {
            // Perhaps of another file, or of ours by a rename that died or whose reply was lost.
            Err(StorageError::AlreadyExists { .. } | StorageError::NotFound { .. }) => {
                let mut renames = left.into_iter().zip(&renames);
                renames.try_for_each(|(file, (from, to))| self.publish_one(file, from, to))
            }
            published => published.map_err(|source| self.unpublishable(source)),
        }
    }

    /// Publishes a file that may have its published name, or both names.
    fn publish_one(
        &self,
        file: &FinishedFile,
        from: &FilePath,
        to: &FilePath,
    ) -> Result<(), FileSinkError> {
        match block_on(self.places.system.publish(from, to, IfExists::Refuse)) {
            Err(StorageError::AlreadyExists { .. }) if self.is_published(file, to)? => {
                Ok(block_on(self.places.system.delete(from, false)).map(drop)?)
            }
            Err(StorageError::NotFound { path }) if path == *from => {
                if self.is_published(file, to)? {
                    return Ok(());
                }
                Err(FileSinkError::Lost { path: to.clone(), unpublished: path })
            }
            published => published.map_err(|source| self.unpublishable(source)),
        }
    }

    fn unpublishable(&self, source: StorageError) -> FileSinkError {
        match source {
            StorageError::AlreadyExists { path } => FileSinkError::Exists { path },
            source => FileSinkError::Publish { path: self.places.output.clone(), source },
        }
    }

    /// Whether a file is there under its published name.
    fn is_published(&self, file: &FinishedFile, to: &FilePath) -> Result<bool, FileSinkError> {
        match block_on(self.places.system.status(to)) {
            Err(StorageError::NotFound { .. }) => Ok(false),
            Ok(there) if there.length == file.length && self.checksum(to)? == file.checksum => {
                Ok(true)
            }
            Ok(_) => Err(FileSinkError::Exists { path: to.clone() }),
            Err(error) => Err(error.into()),
        }
    }

    fn checksum(&self, path: &FilePath) -> Result<u32, FileSinkError> {
        let mut file = block_on(self.places.system.open(path))?;
        let (mut checksum, mut buffer, mut at) = (crc32fast::Hasher::new(), vec![0; READ_BYTES], 0);
        loop {
            let read = block_on(file.read_at(at, &mut buffer))?;
            if read == 0 {
                return Ok(checksum.finalize());
            }
            checksum.update(buffer.get(..read).unwrap_or_default());
            at += read as u64;
        }
    }
}

impl Committer for FileCommitter {
    type Committable = FinishedFile;

    fn recover(
        &mut self,
        pending: Vec<(CheckpointId, Vec<FinishedFile>)>,
        ended: &[AttemptId],
    ) -> Result<()> {
        // Those of another job first: its directory is a dead one's when this one is claimed.
        let is_own = |file: &&FinishedFile| file.job == self.places.job;
        let files = || pending.iter().flat_map(|(_, files)| files);
        let others: Vec<FinishedFile> = files().filter(|file| !is_own(file)).copied().collect();
        let own: Vec<FinishedFile> = files().filter(is_own).copied().collect();
        self.publish(&others)?;
        self.claim()?;
        self.is_void = false;
        self.publish(&own)?;
        Ok(self.discard_unpublished(ended)?)
    }

    fn commit(&mut self, _id: CheckpointId, files: Vec<FinishedFile>) -> Result<()> {
        Ok(self.publish(&files)?)
    }

    fn abort(&mut self, ended: &[AttemptId]) -> Result<()> {
        self.is_void = true;
        self.discard_unpublished(ended)?;
        Ok(self.discard_published(ended)?)
    }

    fn close(&mut self) -> Result<()> {
        self.claim = None;
        block_on(self.places.system.delete(&self.places.hidden, true))?;
        if self.is_void {
            leftovers::remove_made(&self.places, self.made);
        }
        Ok(())
    }
}
