//! Publishes the files of all subtasks at once, or discards them; runs in the coordinator host.

use std::collections::HashSet;
use std::ffi::OsStr;

use millstream_connector::{Committer, Result};
use millstream_storage::{FilePath, FileStatus, IfExists, StorageError, block_on};

use crate::file_sink::leftovers::{self, Claim};
use crate::file_sink::writer::FinishedFile;
use crate::file_sink::{FileSinkError, Places};

/// Publishes the files of a [`FileSink`](crate::FileSink).
#[derive(Debug)]
pub struct FileCommitter {
    places: Places,
    suffix: String,
    /// Number of directories that this job has made for its output.
    made: usize,
    claim: Option<Claim>,
}

impl FileCommitter {
    pub(crate) const fn new(places: Places, suffix: String) -> Self {
        Self { places, suffix, made: 0, claim: None }
    }

    /// Sweeps by locks or signs, as a running job does now and then.
    #[cfg(test)]
    pub(crate) fn sweep_by_signs(&self) {
        leftovers::sweep(&self.places, leftovers::Evidence::LockOrSign);
    }

    /// The entries of the output directory, if it exists.
    fn present(&self) -> Result<Vec<FileStatus>, FileSinkError> {
        match block_on(self.places.system.list(&self.places.output)) {
            Err(StorageError::NotFound { .. }) => Ok(Vec::new()),
            listed => Ok(listed?),
        }
    }

    /// Removes what any attempt of this job has left.
    fn discard(&self) -> Result<(), FileSinkError> {
        for FileStatus { path, .. } in self.present()? {
            let name = path.file_name().and_then(OsStr::to_str);
            if name.is_some_and(|name| self.places.is_published_name(name)) {
                block_on(self.places.system.delete(&path, false))?;
            }
        }
        self.remove_hidden()
    }

    fn remove_hidden(&self) -> Result<(), FileSinkError> {
        block_on(self.places.system.delete(&self.places.hidden, true))?;
        Ok(())
    }

    fn publish(&self, files: &[FinishedFile]) -> Result<(), FileSinkError> {
        let present: HashSet<FilePath> =
            self.present()?.into_iter().map(|status| status.path).collect();
        let pair = |file: &FinishedFile| {
            (self.places.unpublished(*file), self.places.published(*file, &self.suffix))
        };
        let renames: Vec<(FilePath, FilePath)> = files.iter().map(pair).collect();
        if let Some((_, path)) = renames.iter().find(|(_, to)| present.contains(to)) {
            return Err(FileSinkError::Exists { path: path.clone() });
        }
        let published = block_on(self.places.system.publish_all(&renames, IfExists::Refuse));
        published.map_err(|source| match source {
            StorageError::AlreadyExists { path } => FileSinkError::Exists { path },
            source => FileSinkError::Publish { path: self.places.output.clone(), source },
        })
    }
}

impl Committer for FileCommitter {
    type Committable = FinishedFile;

    fn open(&mut self) -> Result<()> {
        self.made = leftovers::made_before(&self.places).max(leftovers::missing(&self.places));
        self.discard()?;
        let made = block_on(self.places.system.make_directories(&self.places.attempt, None));
        made.inspect_err(|_| leftovers::remove_made(&self.places, self.made))?;
        self.claim = Some(Claim::of(&self.places, self.made)?);
        Ok(())
    }

    fn commit(&mut self, files: Vec<FinishedFile>) -> Result<()> {
        let published = self.publish(&files);
        self.claim = None;
        if let Err(error) = published {
            if !matches!(error, FileSinkError::Exists { .. }) {
                self.discard()?;
            }
            return Err(error.into());
        }
        Ok(self.remove_hidden()?)
    }

    fn abort(&mut self) -> Result<()> {
        self.claim = None;
        self.discard()?;
        leftovers::remove_made(&self.places, self.made);
        Ok(())
    }
}
