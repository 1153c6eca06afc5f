//! Writes, reads and removes the files of one job's checkpoints.

use std::collections::BTreeSet;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher as _};
use std::path::{Component, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use crc32fast::Hasher;
use millstream_storage::{
    CreateOptions, FilePath, FileSystem, FileSystems, FileWriter, IfExists, StorageError, read_all,
    write_all,
};
use millstream_types::{CheckpointId, JobId};

use crate::error::{Outcome, ReadError};

/// The name of a checkpoint's metadata.
const METADATA: &str = "_metadata";
/// The name of metadata until it is published.
const METADATA_NEW: &str = "_metadata.new";
/// The longest metadata that is read.
const METADATA_BYTES_MAX: u64 = 1 << 30;
/// Bytes that are read at once.
const READ_BYTES: usize = 4 << 20;
/// The number of times that a directory is made because it has gone meanwhile.
const DIRECTORY_TRIES: u32 = 20;

/// Some bytes of a state file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// The place of the first one.
    pub offset: u64,
    /// The number of bytes.
    pub length: u64,
    /// CRC-32 of the bytes.
    pub crc32: u32,
}

/// A state file that is being written: contents one behind the other. One that is dropped stays
/// behind as it is; see [`StateFile::discard`].
pub struct StateFile {
    files: CheckpointFiles,
    path: FilePath,
    writer: Box<dyn FileWriter>,
    length: u64,
    /// The beginning of the content at hand.
    begin: u64,
    checksum: Hasher,
}

impl StateFile {
    /// Its absolute name, as metadata names it.
    #[must_use]
    pub fn path(&self) -> String {
        self.path.to_string()
    }

    /// Adds bytes to the content at hand.
    ///
    /// # Errors
    /// They cannot be written. The file is of no use any more.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), StorageError> {
        self.length += bytes.len() as u64;
        self.checksum.update(&bytes);
        self.writer.write(bytes).await
    }

    /// Ends the content at hand, and begins the next one.
    pub fn end_content(&mut self) -> Segment {
        let offset = std::mem::replace(&mut self.begin, self.length);
        let checksum = std::mem::take(&mut self.checksum);
        Segment { offset, length: self.length - offset, crc32: checksum.finalize() }
    }

    /// Ends the file. When this returns, its bytes are on disk, and its name is when the
    /// checkpoint's metadata is stored.
    ///
    /// # Errors
    /// The file cannot be written; it is deleted, as far as that is possible.
    pub async fn close(self) -> Result<(), StorageError> {
        let closed = self.writer.close().await;
        if closed.is_err() {
            self.files.clear(&self.path).await;
        }
        closed
    }

    /// Deletes the file, as far as that is possible.
    pub async fn discard(self) {
        drop(self.writer);
        self.files.clear(&self.path).await;
    }
}

impl fmt::Debug for StateFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, length, .. } = self;
        f.debug_struct("StateFile")
            .field("path", path)
            .field("length", length)
            .finish_non_exhaustive()
    }
}

/// The place of a checkpoint's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// Each checkpoint has a directory below that of the job.
    Job,
    /// The directory holds one checkpoint alone.
    Single,
}

/// The files of one job's checkpoints, or of one savepoint. Its futures may run on any executor.
/// One that is dropped before its end may leave a file behind that nothing names.
#[derive(Debug, Clone)]
pub struct CheckpointFiles {
    system: Arc<dyn FileSystem>,
    root: FilePath,
    layout: Layout,
}

impl CheckpointFiles {
    /// The files of a job below `directory`, an absolute path or a URI. Touches no file.
    ///
    /// # Errors
    /// The directory is relative, or no file system of this process can have it.
    pub fn open(directory: &str, job: JobId) -> Result<Self, StorageError> {
        let (system, directory) = absolute(FilePath::from(directory))?;
        Ok(Self::on(system, directory.join(job.to_string())))
    }

    /// The files of the one checkpoint in `directory`: a savepoint, or a checkpoint that is kept.
    /// The name may be that of its metadata. Touches no file.
    ///
    /// # Errors
    /// As [`CheckpointFiles::open`].
    pub fn single(directory: &str) -> Result<Self, StorageError> {
        let path = FilePath::from(directory);
        let is_metadata = path.file_name().is_some_and(|name| name == METADATA);
        let parent = path.parent().filter(|_| is_metadata);
        let (system, root) = absolute(parent.unwrap_or(path))?;
        Ok(Self { system, root, layout: Layout::Single })
    }

    /// The files of the checkpoint that this state file belongs to.
    ///
    /// # Errors
    /// As [`CheckpointFiles::open`]; or it is in no directory.
    pub fn of_file(path: &str) -> Result<Self, StorageError> {
        let file = FilePath::from(path);
        let Some(parent) = file.parent() else {
            let reason = "it is no state file's name".to_owned();
            return Err(StorageError::Other { action: "read", path: file, reason });
        };
        let (system, root) = absolute(parent)?;
        Ok(Self { system, root, layout: Layout::Single })
    }
    pub(crate) fn on(system: Arc<dyn FileSystem>, root: FilePath) -> Self {
        Self { system, root, layout: Layout::Job }
    }

    /// The directory of the job, or of the one checkpoint.
    #[must_use]
    pub fn root(&self) -> String {
        self.root.to_string()
    }

    /// The directory of a checkpoint, as users name it to restore from it.
    #[must_use]
    pub fn checkpoint(&self, id: CheckpointId) -> String {
        self.directory(id).to_string()
    }

    fn directory(&self, id: CheckpointId) -> FilePath {
        match self.layout {
            Layout::Job => self.root.join(id.to_string()),
            Layout::Single => self.root.clone(),
        }
    }

    /// Whether this is the name of one of these files.
    #[must_use]
    pub fn contains(&self, path: &str) -> bool {
        self.inside(path).is_some()
    }

    /// The name that a state file of the one checkpoint has here, although its directory was moved
    /// since it was written.
    #[must_use]
    pub fn moved(&self, path: &str) -> Option<String> {
        let path = FilePath::from(path);
        let name = path.file_name()?.to_str()?;
        fault_of_name(name).is_none().then(|| self.root.join(name).to_string())
    }

    /// Makes the job's directory and proves that files can be written, published and removed there.
    /// Called before the job starts, so that a wrong directory is refused.
    ///
    /// # Errors
    /// One of that is not possible; what was made is removed again.
    pub async fn prepare(&self) -> Result<(), StorageError> {
        self.system.make_directories(&self.root, None).await?;
        // Another master of the job may do the same at this time.
        let name = format!("_probe-{:016x}", RandomState::new().build_hasher().finish());
        let (new, probe) = (self.root.join(format!("{name}.new")), self.root.join(name));
        let proof = async {
            write_all(&*self.system, &new, CreateOptions::NEW, Bytes::from_static(b"probe"))
                .await?;
            self.system.publish(&new, &probe, IfExists::Refuse).await?;
            self.system.delete(&probe, false).await.map(drop)
        };
        let proof = proof.await;
        if proof.is_err() {
            for path in [&new, &probe, &self.root] {
                let _ = self.system.delete(path, false).await;
            }
        }
        proof
    }

    /// Creates a file for state of a checkpoint.
    ///
    /// # Errors
    /// The name is none of a single file, or exists already; or the file cannot be created.
    pub async fn create_state(
        &self,
        id: CheckpointId,
        name: &str,
    ) -> Result<StateFile, StorageError> {
        let path = self.directory(id).join(name);
        if let Some(reason) = fault_of_name(name) {
            return Err(StorageError::Other { action: "create", path, reason });
        }
        let writer = self.create(&path).await?;
        let (files, checksum) = (self.clone(), Hasher::new());
        Ok(StateFile { files, path, writer, length: 0, begin: 0, checksum })
    }

    /// Creates a new file, and its directory if it does not exist.
    async fn create(&self, path: &FilePath) -> Result<Box<dyn FileWriter>, StorageError> {
        let mut tries = 0;
        loop {
            match self.system.create(path, CreateOptions::NEW).await {
                // Another task may remove the directory with its last file just now.
                Err(StorageError::NotFound { .. }) if tries < DIRECTORY_TRIES => {
                    tries += 1;
                    let directory = path.parent().unwrap_or_else(|| self.root.clone());
                    self.system.make_directories(&directory, None).await?;
                }
                created => return created,
            }
        }
    }

    /// Deletes a file that is of no use, and its directory if that is empty now.
    async fn clear(&self, path: &FilePath) {
        let _ = self.system.delete(path, false).await;
        self.remove_empty(path).await;
    }

    /// Removes the directory of a file if nothing is in it.
    async fn remove_empty(&self, file: &FilePath) {
        if let Some(directory) = file.parent()
            && (self.is_inside(&directory)
                || self.layout == Layout::Single && directory == self.root)
        {
            // One with contents is refused.
            let _ = self.system.delete(&directory, false).await;
        }
    }

    /// The state files of the one checkpoint that its metadata names and that are in its directory
    /// now, whatever directory the metadata has for them.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub async fn present(
        &self,
        named: impl Iterator<Item = &str>,
    ) -> Result<Vec<String>, StorageError> {
        let named: BTreeSet<FilePath> =
            named.filter_map(|path| self.moved(path)).map(|path| FilePath::from(&*path)).collect();
        let entries = self.system.list(&self.root).await?.into_iter();
        let files = entries.filter(|entry| !entry.is_directory()).filter_map(|entry| {
            let path = self.root.join(entry.path.file_name()?);
            named.contains(&path).then(|| path.to_string())
        });
        Ok(files.collect())
    }

    /// Looks whether a state file exists and is as long as its checkpoint says.
    ///
    /// # Errors
    /// It is missing or cut off, not one of these files, or cannot be looked at.
    pub async fn check_length(&self, path: &str, expected: u64) -> Result<(), ReadError> {
        let name = path.to_owned();
        let Some(file) = self.inside(path) else {
            return Err(ReadError::Outside { path: name, root: self.root() });
        };
        match self.system.status(&file).await {
            Err(StorageError::NotFound { .. }) => Err(ReadError::Missing { path: name }),
            Err(error) => Err(error.into()),
            Ok(status) if status.length < expected => {
                Err(ReadError::Truncated { path: name, expected, found: status.length })
            }
            Ok(_) => Ok(()),
        }
    }

    /// Reads a part of a state file and compares its checksum.
    ///
    /// # Errors
    /// The file is missing, cut off, altered, not of this job, or cannot be read.
    pub async fn read(
        &self,
        path: &str,
        offset: u64,
        length: u64,
        crc32: u32,
    ) -> Result<Vec<u8>, ReadError> {
        let name = path.to_owned();
        let Some(file) = self.inside(path) else {
            return Err(ReadError::Outside { path: name, root: self.root() });
        };
        let mut reader = match self.system.open(&file).await {
            Err(StorageError::NotFound { .. }) => return Err(ReadError::Missing { path: name }),
            opened => opened?,
        };
        let (found, expected) = (reader.length(), offset.saturating_add(length));
        if expected > found {
            return Err(ReadError::Truncated { path: name, expected, found });
        }
        let mut bytes = Vec::new();
        let room =
            usize::try_from(length).ok().filter(|room| bytes.try_reserve_exact(*room).is_ok());
        let Some(room) = room else { return Err(ReadError::TooLarge { path: name, length }) };
        let (mut checksum, mut filled) = (Hasher::new(), 0);
        while filled < room {
            bytes.resize(room.min(filled + READ_BYTES), 0);
            let buffer = bytes.get_mut(filled..).unwrap_or_default();
            match reader.read_at(offset + filled as u64, buffer).await? {
                0 => {
                    let found = offset + filled as u64;
                    return Err(ReadError::Truncated { path: name, expected, found });
                }
                read => {
                    checksum.update(buffer.get(..read).unwrap_or_default());
                    filled += read;
                }
            }
        }
        match checksum.finalize() {
            found if found == crc32 => Ok(bytes),
            found => {
                let (end, expected) = (offset + length, crc32);
                Err(ReadError::Altered { path: name, offset, end, expected, found })
            }
        }
    }

    /// Writes the metadata of a checkpoint under another name, and publishes it.
    pub async fn store_metadata(&self, id: CheckpointId, bytes: Vec<u8>) -> Outcome {
        let directory = self.directory(id);
        let (new, metadata) = (directory.join(METADATA_NEW), directory.join(METADATA));
        let mut writer = match self.create(&new).await {
            Ok(writer) => writer,
            Err(error) => return Outcome::Failed(error.to_string()),
        };
        let bytes = Bytes::from(bytes);
        let written = async {
            writer.write(bytes.clone()).await?;
            writer.close().await
        };
        if let Err(error) = written.await {
            self.clear(&new).await;
            return Outcome::Failed(error.to_string());
        }
        let Err(error) = self.system.publish(&new, &metadata, IfExists::Refuse).await else {
            return Outcome::Stored;
        };
        let outcome = match self.load_metadata(id).await {
            // A rename that is tried again after a lost reply fails, as the first one was done.
            Ok(there) if there == bytes => return Outcome::Stored,
            Ok(_) | Err(StorageError::NotFound { .. }) if !is_open(&error) => Outcome::Failed,
            Ok(_) | Err(_) => return Outcome::Unknown(error.to_string()),
        };
        self.clear(&new).await;
        outcome(error.to_string())
    }

    /// Looks whether the metadata of a checkpoint is stored. If it is not, it will not be any more:
    /// a rename that is still on its way finds nothing to rename. Not to be called while
    /// [`CheckpointFiles::store_metadata`] runs.
    pub async fn is_stored(&self, id: CheckpointId) -> Outcome {
        let directory = self.directory(id);
        let (new, metadata) = (directory.join(METADATA_NEW), directory.join(METADATA));
        let look = async || match self.system.status(&metadata).await {
            Ok(_) => Outcome::Stored,
            Err(error @ StorageError::NotFound { .. }) => Outcome::Failed(error.to_string()),
            Err(error) => Outcome::Unknown(error.to_string()),
        };
        match look().await {
            Outcome::Failed(_) => {}
            known @ (Outcome::Stored | Outcome::Unknown(_)) => return known,
        }
        if let Err(error) = self.system.delete(&new, false).await
            && !error.is_not_found()
        {
            return Outcome::Unknown(error.to_string());
        }
        self.remove_empty(&new).await;
        look().await
    }

    /// The metadata of a checkpoint.
    ///
    /// # Errors
    /// It does not exist, cannot be read, or is longer than any metadata is.
    pub async fn load_metadata(&self, id: CheckpointId) -> Result<Vec<u8>, StorageError> {
        read_all(&*self.system, &self.directory(id).join(METADATA), METADATA_BYTES_MAX).await
    }

    /// Removes the metadata of a checkpoint, before its files are deleted. One that is gone already
    /// is no error.
    ///
    /// # Errors
    /// It may be there still.
    pub async fn discard_metadata(&self, id: CheckpointId) -> Result<(), StorageError> {
        let metadata = self.directory(id).join(METADATA);
        self.remove(&metadata, false).await?;
        self.remove_empty(&metadata).await;
        Ok(())
    }

    /// Deletes state files of this job, each with its directory if that is empty then. One that is
    /// gone already is no error.
    ///
    /// # Errors
    /// Some could not be deleted, or are not of this job; the others are deleted, and the error is
    /// the first one.
    pub async fn delete(&self, files: &[String]) -> Result<(), StorageError> {
        let mut failed = None;
        let mut last_of_directory = BTreeSet::new();
        let mut emptied = Vec::new();
        for name in files {
            let deleted = match self.inside(name) {
                Some(path) => {
                    let deleted = self.remove(&path, false).await;
                    if last_of_directory.insert(path.parent()) {
                        emptied.push(path);
                    }
                    deleted
                }
                None => Err(StorageError::Other {
                    action: "delete",
                    path: FilePath::from(name),
                    reason: format!("it is not below {}", self.root),
                }),
            };
            failed = failed.or(deleted.err());
        }
        for path in emptied {
            self.remove_empty(&path).await;
        }
        failed.map_or(Ok(()), Err)
    }

    /// Deletes the directory of a checkpoint with everything in it, also files that later
    /// checkpoints refer to. Files of others may be beside those of a single checkpoint: its
    /// directory goes only if it is empty.
    ///
    /// # Errors
    /// Something may be left.
    pub async fn delete_checkpoint(&self, id: CheckpointId) -> Result<(), StorageError> {
        if self.layout == Layout::Single {
            let _ = self.system.delete(&self.root, false).await;
            return Ok(());
        }
        self.remove(&self.directory(id), true).await
    }

    /// Deletes all checkpoints of the job, or the directory of the one checkpoint.
    ///
    /// # Errors
    /// Something may be left.
    pub async fn delete_all(&self) -> Result<(), StorageError> {
        self.remove(&self.root, true).await
    }

    async fn remove(&self, path: &FilePath, recursive: bool) -> Result<(), StorageError> {
        match self.system.delete(path, recursive).await {
            Ok(_) | Err(StorageError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The path of this name if it is below the job's directory.
    fn inside(&self, name: &str) -> Option<FilePath> {
        let path = FilePath::from(name);
        self.is_inside(&path).then_some(path)
    }

    fn is_inside(&self, path: &FilePath) -> bool {
        let is_same_system =
            path.scheme() == self.root.scheme() && path.authority() == self.root.authority();
        let below = path.path().strip_prefix(self.root.path());
        is_same_system
            && path.check().is_ok()
            && below.is_ok_and(|below| {
                let mut parts = below.components().peekable();
                parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
            })
    }
}

/// A directory without doubled slashes, which names below it would not show, and its file system.
fn absolute(directory: FilePath) -> Result<(Arc<dyn FileSystem>, FilePath), StorageError> {
    let system = FileSystems::of_process().of(&directory)?;
    if directory.is_relative() {
        let reason = "checkpoints need an absolute path: each process has a working directory of \
                      its own"
            .to_owned();
        return Err(StorageError::Other { action: "use path", path: directory, reason });
    }
    let clean = directory.local().map(|local| local.components().collect::<PathBuf>());
    Ok((system, clean.map_or(directory, FilePath::from)))
}

/// The reason why a name is none of a state file.
fn fault_of_name(name: &str) -> Option<String> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        Some(format!("{name:?} is not the name of a single file"))
    } else if name.starts_with(METADATA) {
        Some(format!("names that begin with {METADATA} are no state's"))
    } else {
        None
    }
}

/// Whether a rename that failed so may have been done, or will be.
const fn is_open(error: &StorageError) -> bool {
    match error {
        StorageError::NotFound { .. }
        | StorageError::AlreadyExists { .. }
        | StorageError::PermissionDenied { .. }
        | StorageError::QuotaExceeded { .. }
        | StorageError::Unavailable { .. } => false,
        StorageError::OutcomeUnknown { .. }
        | StorageError::Lost { .. }
        | StorageError::Other { .. } => true,
    }
}
