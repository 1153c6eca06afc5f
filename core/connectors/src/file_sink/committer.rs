//! Publishes the files of all subtasks at once, or discards them; runs in the coordinator host.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;

use millstream_api::{Committer, Result};

use crate::file_sink::writer::FinishedFile;
use crate::file_sink::{FileSinkError, Places};

/// Publishes the files of a [`FileSink`](crate::FileSink).
#[derive(Debug)]
pub struct FileCommitter {
    places: Places,
    suffix: String,
}

impl FileCommitter {
    pub(crate) const fn new(places: Places, suffix: String) -> Self {
        Self { places, suffix }
    }

    /// Removes what any attempt of this job has left.
    fn discard(&self) -> Result<(), FileSinkError> {
        let output = &self.places.output;
        let entries = match fs::read_dir(output) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(FileSinkError::io("list directory", output, error)),
        };
        for entry in entries {
            let entry =
                entry.map_err(|error| FileSinkError::io("list directory", output, error))?;
            let name = entry.file_name();
            if name.to_str().is_some_and(|name| self.places.is_published_name(name)) {
                let path = entry.path();
                unless_gone(fs::remove_file(&path))
                    .map_err(|error| FileSinkError::io("remove", &path, error))?;
            }
        }
        self.remove_hidden()
    }

    fn remove_hidden(&self) -> Result<(), FileSinkError> {
        let hidden = &self.places.hidden;
        unless_gone(fs::remove_dir_all(hidden))
            .map_err(|error| FileSinkError::io("remove directory", hidden, error))
    }

    fn publish(&self, files: &[FinishedFile]) -> Result<(), FileSinkError> {
        let renames = files
            .iter()
            .map(|file| (self.places.finished(*file), self.places.published(*file, &self.suffix)));
        if let Some((_, path)) = renames.clone().find(|(_, to)| to.exists()) {
            return Err(FileSinkError::Exists { path });
        }
        for (from, to) in renames {
            fs::rename(&from, &to).map_err(|error| FileSinkError::io("publish", &from, error))?;
        }
        sync_directory(&self.places.output)
    }
}

impl Committer for FileCommitter {
    type Committable = FinishedFile;

    fn open(&mut self) -> Result<()> {
        self.discard()?;
        let attempt = &self.places.attempt;
        fs::create_dir_all(attempt)
            .map_err(|error| FileSinkError::io("create directory", attempt, error))?;
        Ok(())
    }

    fn commit(&mut self, files: Vec<FinishedFile>) -> Result<()> {
        if let Err(error) = self.publish(&files) {
            if !matches!(error, FileSinkError::Exists { .. }) {
                self.discard()?;
            }
            return Err(error.into());
        }
        Ok(self.remove_hidden()?)
    }

    fn abort(&mut self) -> Result<()> {
        Ok(self.discard()?)
    }
}

/// A thing that is gone already need not be removed.
fn unless_gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Makes the renames in a directory survive a power cut.
fn sync_directory(path: &Path) -> Result<(), FileSinkError> {
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(|error| FileSinkError::io("write to disk the directory", path, error))
}
