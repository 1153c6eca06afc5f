//! Executables by the hash of their bytes.
//!
//! An upload goes to a file of a random name; once its bytes are on the disk and its hash is known,
//! it is renamed to that hash, so there is one copy per executable and never half of one. A job and
//! an uploaded jar *hold* an artifact. One without holders is deleted later, so that the next job
//! of the same program starts at once: some time after its last use, or after ten minutes if it was
//! never used.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use millstream_gateway::ArtifactLocator;
use millstream_types::{ArtifactHash, ByteSize};
use sha2::{Digest as _, Sha256};
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;
use tracing::{info, warn};

use crate::random;

/// Time that an upload may wait for its first use.
const NEVER_USED_FOR: Duration = Duration::from_secs(600);

/// The reason why bytes were not stored.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The artifact is longer than allowed.
    #[error("the artifact is larger than {limit} (rest.server.max-content-length)")]
    TooLarge {
        /// The longest length that is allowed.
        limit: ByteSize,
    },
    /// The bytes are not those that were announced.
    #[error("the artifact's SHA-256 is {actual}, not {expected}: it was damaged on the way")]
    WrongHash {
        /// The hash that the client announced.
        expected: ArtifactHash,
        /// The hash of the received bytes.
        actual: ArtifactHash,
    },
    /// The artifact has no bytes.
    #[error("the artifact is empty")]
    Empty,
    /// The disk is full.
    #[error("the disk of {directory} is full: make room, or set web.upload.dir")]
    Full {
        /// The directory of the store.
        directory: PathBuf,
    },
    /// Another operation of the file system failed.
    #[error("failed to write to {directory}")]
    Io {
        /// The directory of the store.
        directory: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
}

#[derive(Debug)]
struct Entry {
    size: u64,
    holders: u32,
    /// The time at which it was stored or last held.
    since: Instant,
    used: bool,
}

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    size_max: ByteSize,
    unused_for: Duration,
    entries: Mutex<BTreeMap<ArtifactHash, Entry>>,
}

/// The store of artifacts; all clones share one state.
#[derive(Debug, Clone)]
pub struct ArtifactStore {
    inner: Arc<Inner>,
}

impl ArtifactStore {
    /// Opens the store in this directory, which is created if it is missing and must belong to this
    /// process alone. Whole artifacts of an earlier process stay; other files are deleted. An
    /// artifact stays for `unused_for` after its last use.
    ///
    /// # Errors
    /// The directory cannot be created or read.
    pub fn open(
        directory: &Path,
        size_max: ByteSize,
        unused_for: Duration,
    ) -> Result<Self, StoreError> {
        let entries = read_directory(directory).map_err(|error| fault(directory, error))?;
        let directory = directory.to_owned();
        let entries = Mutex::new(entries);
        Ok(Self { inner: Arc::new(Inner { directory, size_max, unused_for, entries }) })
    }

    /// Returns the largest size of an artifact.
    #[must_use]
    pub fn size_max(&self) -> ByteSize {
        self.inner.size_max
    }

    /// Starts an upload.
    ///
    /// # Errors
    /// The file cannot be created.
    pub async fn upload(&self) -> Result<Upload, StoreError> {
        let path = self.inner.directory.join(format!("{}.part", random::uuid()));
        let created = File::options().write(true).create_new(true).mode(0o600).open(&path).await;
        let file = created.map_err(|error| fault(&self.inner.directory, error))?;
        let partial = Partial(path);
        Ok(Upload { store: self.clone(), partial, file, hash: Sha256::new(), size: 0 })
    }

    /// Takes in a file of this machine: as a second link to it where the disk allows that, else as
    /// a copy.
    ///
    /// # Errors
    /// The file is empty or cannot be read, or writing to the store fails.
    pub async fn adopt(&self, file: PathBuf) -> Result<ArtifactHash, StoreError> {
        let store = self.clone();
        let adopted = tokio::task::spawn_blocking(move || store.adopt_now(&file)).await;
        adopted.unwrap_or_else(|error| Err(fault(&self.inner.directory, io::Error::other(error))))
    }

    fn adopt_now(&self, file: &Path) -> Result<ArtifactHash, StoreError> {
        let unreadable = |error| fault(file, error);
        // A link to the file, not to the link that a container's directory has.
        let file = std::fs::canonicalize(file).map_err(unreadable)?;
        let hash = hash_file(&file).map_err(|error| fault(&file, error))?;
        let size = std::fs::metadata(&file).map_err(|error| fault(&file, error))?.len();
        if size == 0 {
            return Err(StoreError::Empty);
        }
        let failed = |error| fault(&self.inner.directory, error);
        let mut entries = self.entries();
        let fresh = Entry { size, holders: 0, since: Instant::now(), used: false };
        if entries.contains_key(&hash) {
            return Ok(hash);
        }
        let path = self.path_of(hash);
        if std::fs::hard_link(&file, &path).is_err() {
            std::fs::copy(&file, &path).map_err(failed)?;
            let mode = std::fs::Permissions::from_mode(0o500);
            std::fs::set_permissions(&path, mode).map_err(failed)?;
        }
        entries.insert(hash, fresh);
        Ok(hash)
    }

    /// Keeps an artifact until it is released as often. Returns its size, or none if it is not in
    /// the store.
    #[must_use]
    pub fn hold(&self, artifact: ArtifactHash) -> Option<u64> {
        let mut entries = self.entries();
        let entry = entries.get_mut(&artifact)?;
        entry.holders += 1;
        entry.used = true;
        Some(entry.size)
    }

    /// Undoes one [`hold`](Self::hold).
    pub fn release(&self, artifact: ArtifactHash) {
        if let Some(entry) = self.entries().get_mut(&artifact) {
            entry.holders = entry.holders.saturating_sub(1);
            entry.since = Instant::now();
        }
    }

    /// Returns true if the store has the artifact, which then stays for ten minutes more.
    #[must_use]
    pub fn contains(&self, artifact: ArtifactHash) -> bool {
        let mut entries = self.entries();
        let Some(entry) = entries.get_mut(&artifact) else { return false };
        entry.since = Instant::now();
        entry.used = false;
        true
    }

    /// Returns the file of an artifact.
    #[must_use]
    pub fn path(&self, artifact: ArtifactHash) -> Option<PathBuf> {
        self.entries().contains_key(&artifact).then(|| self.path_of(artifact))
    }

    /// Deletes artifacts that are no longer held and returns their hashes.
    pub async fn sweep(&self, now: Instant) -> Vec<ArtifactHash> {
        let mut dropped = Vec::new();
        self.entries().retain(|artifact, entry| {
            let patience = if entry.used { self.inner.unused_for } else { NEVER_USED_FOR };
            let keep = entry.holders > 0 || now.duration_since(entry.since) < patience;
            if !keep {
                dropped.push(*artifact);
                // Deleted under the lock: an upload of the same bytes must not lose its file.
                if let Err(error) = std::fs::remove_file(self.path_of(*artifact)) {
                    warn!(%artifact, %error, "an unused artifact could not be deleted");
                }
            }
            keep
        });
        dropped
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<ArtifactHash, Entry>> {
        self.inner.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path_of(&self, artifact: ArtifactHash) -> PathBuf {
        self.inner.directory.join(artifact.to_string())
    }
}

impl ArtifactLocator for ArtifactStore {
    fn locate(&self, artifact: ArtifactHash) -> BoxFuture<'_, Option<PathBuf>> {
        Box::pin(async move { self.path(artifact) })
    }
}

/// A file that is deleted on drop unless it was kept.
#[derive(Debug)]
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        // Renamed when the upload was finished; then there is nothing to delete.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// An unfinished upload; dropping it deletes the bytes received so far.
#[derive(Debug)]
pub struct Upload {
    store: ArtifactStore,
    partial: Partial,
    file: File,
    hash: Sha256,
    size: u64,
}

impl Upload {
    /// Appends bytes. After an error, or when cancelled, the caller must drop the upload.
    ///
    /// # Errors
    /// The artifact exceeds the limit, or writing to the disk fails.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.size = self.size.saturating_add(bytes.len() as u64);
        let limit = self.store.inner.size_max;
        if self.size > limit.as_bytes() {
            return Err(StoreError::TooLarge { limit });
        }
        self.hash.update(bytes);
        let written = self.file.write_all(bytes).await;
        written.map_err(|error| fault(&self.store.inner.directory, error))
    }

    /// Makes the artifact durable under its hash, which must be `expected` if that is given.
    /// Returns hash and size.
    ///
    /// # Errors
    /// The artifact is empty, its hash is not `expected`, or writing to the disk fails.
    pub async fn finish(
        mut self,
        expected: Option<ArtifactHash>,
    ) -> Result<(ArtifactHash, u64), StoreError> {
        let actual = ArtifactHash::new(std::mem::take(&mut self.hash).finalize().into());
        if self.size == 0 {
            return Err(StoreError::Empty);
        }
        if let Some(expected) = expected.filter(|expected| *expected != actual) {
            return Err(StoreError::WrongHash { expected, actual });
        }
        let directory = self.store.inner.directory.clone();
        self.persist(actual).await.map_err(|error| fault(&directory, error))?;
        info!(artifact = %actual, bytes = self.size, "artifact stored");
        Ok((actual, self.size))
    }

    async fn persist(&mut self, actual: ArtifactHash) -> io::Result<()> {
        self.file.flush().await?;
        self.file.set_permissions(std::fs::Permissions::from_mode(0o500)).await?;
        self.file.sync_all().await?;
        let directory = File::open(&self.store.inner.directory).await?;
        {
            let mut entries = self.store.entries();
            // Under the lock, so that a sweep does not come between the file and its entry.
            std::fs::rename(&self.partial.0, self.store.path_of(actual))?;
            let since = Instant::now();
            let fresh = Entry { size: self.size, holders: 0, since, used: false };
            let entry = entries.entry(actual).or_insert(fresh);
            (entry.since, entry.used) = (since, false);
        }
        directory.sync_all().await
    }
}

fn fault(directory: &Path, source: io::Error) -> StoreError {
    let directory = directory.to_owned();
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full { directory },
        _ => StoreError::Io { directory, source },
    }
}

fn read_directory(directory: &Path) -> io::Result<BTreeMap<ArtifactHash, Entry>> {
    std::fs::create_dir_all(directory)?;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700))?;
    let mut entries = BTreeMap::new();
    for file in std::fs::read_dir(directory)? {
        let file = file?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            continue;
        }
        let name = file.file_name();
        let hash = name.to_str().and_then(|name| name.parse::<ArtifactHash>().ok());
        match hash {
            Some(hash) if hash_file(&file.path())? == hash => {
                let (size, since) = (metadata.len(), Instant::now());
                entries.insert(hash, Entry { size, holders: 0, since, used: false });
            }
            _ => std::fs::remove_file(file.path())?,
        }
    }
    Ok(entries)
}

fn hash_file(path: &Path) -> io::Result<ArtifactHash> {
    let mut hash = Sha256::new();
    io::copy(&mut std::fs::File::open(path)?, &mut hash)?;
    Ok(ArtifactHash::new(hash.finalize().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNUSED_FOR: Duration = Duration::from_secs(3);

    fn store(limit: u64) -> (tempfile::TempDir, ArtifactStore) {
        let directory = tempfile::tempdir().unwrap();
        let limit = ByteSize::from_bytes(limit);
        let store =
            ArtifactStore::open(&directory.path().join("artifacts"), limit, UNUSED_FOR).unwrap();
        (directory, store)
    }

    fn files(store: &ArtifactStore) -> Vec<String> {
        std::fs::read_dir(&store.inner.directory)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    async fn put(store: &ArtifactStore, bytes: &[u8]) -> ArtifactHash {
        let mut upload = store.upload().await.unwrap();
        upload.write(bytes).await.unwrap();
        upload.finish(None).await.unwrap().0
    }

    #[tokio::test]
    async fn two_uploads_of_the_same_bytes_are_one_file_named_by_its_hash() {
        let (_directory, store) = store(100);
        let first = put(&store, b"abc").await;
        let second = put(&store, b"abc").await;
        assert_eq!(first, second);
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(files(&store), [abc]);
        assert_eq!(std::fs::read(store.path(first).unwrap()).unwrap(), b"abc");
    }

    #[tokio::test]
    async fn refused_and_abandoned_uploads_leave_no_file() {
        let (_directory, store) = store(4);
        let mut upload = store.upload().await.unwrap();
        let error = upload.write(b"12345").await.unwrap_err();
        assert!(error.to_string().contains("rest.server.max-content-length"), "{error}");
        drop(upload);
        let mut upload = store.upload().await.unwrap();
        upload.write(b"123").await.unwrap();
        let wrong = upload.finish(Some(ArtifactHash::new([7; 32]))).await;
        assert!(matches!(wrong, Err(StoreError::WrongHash { .. })));
        let empty = store.upload().await.unwrap().finish(None).await;
        assert!(matches!(empty, Err(StoreError::Empty)));
        drop(store.upload().await.unwrap());
        assert_eq!(files(&store), [""; 0]);
    }

    #[tokio::test]
    async fn a_file_of_this_machine_is_taken_in() {
        let (directory, store) = store(100);
        let file = directory.path().join("program");
        std::fs::write(&file, b"abc").unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let hash = store.adopt(link).await.unwrap();
        assert_eq!(store.adopt(file).await.unwrap(), hash);
        assert_eq!(std::fs::read(store.path(hash).unwrap()).unwrap(), b"abc");
        assert!(store.adopt(directory.path().join("none")).await.is_err());
    }

    #[tokio::test]
    async fn what_nobody_holds_goes_and_what_a_job_holds_stays() {
        let (_directory, store) = store(100);
        let (held, unused) = (put(&store, b"held").await, put(&store, b"unused").await);
        assert_eq!(store.hold(held), Some(4));
        assert_eq!(store.sweep(Instant::now()).await, []);
        let later = Instant::now() + NEVER_USED_FOR;
        assert_eq!(store.sweep(later).await, [unused]);
        assert_eq!(store.hold(unused), None);
        store.release(held);
        assert_eq!(store.sweep(Instant::now() + UNUSED_FOR).await, [held]);
        assert_eq!(files(&store), [""; 0]);
    }

    #[tokio::test]
    async fn a_restarted_store_knows_whole_files_and_deletes_the_rest() {
        let (_directory, store) = store(100);
        let kept = put(&store, b"kept").await;
        let directory = store.inner.directory.clone();
        std::fs::write(directory.join("x.part"), b"half").unwrap();
        std::fs::write(directory.join(ArtifactHash::new([1; 32]).to_string()), b"bad").unwrap();
        let store = ArtifactStore::open(&directory, ByteSize::from_bytes(100), UNUSED_FOR).unwrap();
        assert!(store.contains(kept));
        assert_eq!(files(&store), [kept.to_string()]);
    }
}
