//! Executables on a TaskManager's disk: one copy for all jobs and hosts.
//!
//! A copy is fetched by the first caller that needs it while others wait, checked against its hash,
//! and only then gets its name, readable and executable for this user alone. It stays while it has
//! a lease, and after that until the master releases it or room is needed.

use std::collections::HashMap;
use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use futures::StreamExt;
use futures::stream::BoxStream;
use millstream_gateway::FetchError;
use millstream_types::{ArtifactHash, ByteSize, CauseKind, FailureCause, with_sources};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use crate::lock;

/// Why there is no copy of an artifact.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CacheError {
    #[error("the artifact has {size} but the cache of this TaskManager holds only {limit}")]
    TooLarge { size: ByteSize, limit: ByteSize },
    #[error("failed to fetch artifact {artifact}")]
    Fetch { artifact: ArtifactHash, source: FetchError },
    #[error("artifact {artifact} arrived damaged: {received} of {expected} bytes, hash {actual}")]
    Damaged { artifact: ArtifactHash, received: u64, expected: u64, actual: ArtifactHash },
    #[error("failed to store artifact {artifact}")]
    Store { artifact: ArtifactHash, source: io::Error },
}

impl From<CacheError> for FailureCause {
    fn from(error: CacheError) -> Self {
        Self::new(CauseKind::Start, with_sources(&error))
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct ArtifactCache {
    dir: PathBuf,
    limit: u64,
    entries: Mutex<HashMap<ArtifactHash, Entry>>,
}

#[derive(Debug)]
struct Entry {
    size: u64,
    leases: usize,
    released: bool,
    /// Whether the file is there; locked while it is being fetched.
    present: Arc<tokio::sync::Mutex<bool>>,
}

/// Keeps a copy in the cache.
#[derive(Debug)]
pub(crate) struct ArtifactLease {
    cache: Arc<ArtifactCache>,
    artifact: ArtifactHash,
}

impl ArtifactLease {
    pub(crate) fn path(&self) -> PathBuf {
        self.cache.path(self.artifact)
    }
}

impl Drop for ArtifactLease {
    fn drop(&mut self) {
        let mut entries = lock(&self.cache.entries);
        let Some(entry) = entries.get_mut(&self.artifact) else { return };
        entry.leases -= 1;
        // A caller that is fetching holds a lease, so the lock is free.
        let absent = entry.present.try_lock().is_ok_and(|present| !*present);
        if entry.leases == 0 && (entry.released || absent) {
            self.cache.remove(&mut entries, self.artifact);
        }
    }
}

impl ArtifactCache {
    pub(crate) fn new(dir: PathBuf, limit: ByteSize) -> io::Result<Arc<Self>> {
        std::fs::create_dir_all(&dir)?;
        let entries = Mutex::default();
        Ok(Arc::new(Self { dir, limit: limit.as_bytes(), entries }))
    }

    fn path(&self, artifact: ArtifactHash) -> PathBuf {
        self.dir.join(artifact.to_string())
    }

    /// A lease on a complete and checked copy, fetched with `fetch` if there is none yet.
    /// Cancel-safe.
    pub(crate) async fn lease(
        self: &Arc<Self>,
        artifact: ArtifactHash,
        size: u64,
        fetch: impl FnOnce() -> BoxStream<'static, Result<Vec<u8>, FetchError>>,
    ) -> Result<ArtifactLease, CacheError> {
        let present = self.enter(artifact, size)?;
        let lease = ArtifactLease { cache: Arc::clone(self), artifact };
        let mut present = present.lock().await;
        if !*present {
            self.fetch(artifact, size, fetch()).await?;
            *present = true;
        }
        drop(present);
        Ok(lease)
    }

    /// The master has no job with this artifact any more.
    pub(crate) fn release(&self, artifact: ArtifactHash) {
        let mut entries = lock(&self.entries);
        match entries.get_mut(&artifact) {
            Some(entry) if entry.leases > 0 => entry.released = true,
            Some(_) => self.remove(&mut entries, artifact),
            None => {}
        }
    }

    /// Counts one more lease, making room for a new entry.
    fn enter(
        &self,
        artifact: ArtifactHash,
        size: u64,
    ) -> Result<Arc<tokio::sync::Mutex<bool>>, CacheError> {
        let mut entries = lock(&self.entries);
        if !entries.contains_key(&artifact) {
            self.make_room(&mut entries, size)?;
        }
        let entry = entries.entry(artifact).or_insert_with(|| Entry {
            size,
            leases: 0,
            released: false,
            present: Arc::default(),
        });
        entry.leases += 1;
        entry.released = false;
        Ok(Arc::clone(&entry.present))
    }

    fn make_room(
        &self,
        entries: &mut HashMap<ArtifactHash, Entry>,
        size: u64,
    ) -> Result<(), CacheError> {
        loop {
            let used = entries.values().fold(0_u64, |sum, entry| sum.saturating_add(entry.size));
            if used.saturating_add(size) <= self.limit {
                return Ok(());
            }
            let idle = entries.iter().find(|(_, entry)| entry.leases == 0);
            let Some(idle) = idle.map(|(artifact, _)| *artifact) else {
                let (size, limit) = (ByteSize::from_bytes(size), ByteSize::from_bytes(self.limit));
                return Err(CacheError::TooLarge { size, limit });
            };
            self.remove(entries, idle);
        }
    }

    fn remove(&self, entries: &mut HashMap<ArtifactHash, Entry>, artifact: ArtifactHash) {
        entries.remove(&artifact);
        match std::fs::remove_file(self.path(artifact)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%artifact, %error, "a copy of an artifact is left");
            }
            _ => {}
        }
    }

    async fn fetch(
        &self,
        artifact: ArtifactHash,
        expected: u64,
        mut chunks: BoxStream<'static, Result<Vec<u8>, FetchError>>,
    ) -> Result<(), CacheError> {
        let failed = |source| CacheError::Store { artifact, source };
        let dir = self.dir.clone();
        let mut part = blocking(move || Part::create(&dir)).await.map_err(failed)?;
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|source| CacheError::Fetch { artifact, source })?;
            part = blocking(move || part.write(&chunk)).await.map_err(failed)?;
            if part.received > expected {
                break;
            }
        }
        let (received, actual) = (part.received, part.hash());
        if received != expected || actual != artifact {
            return Err(CacheError::Damaged { artifact, received, expected, actual });
        }
        // Named here, where no caller that gives up can be overtaken by it: what has a name is in
        // the cache.
        let part = blocking(move || part.complete()).await.map_err(failed)?;
        part.file.persist(self.path(artifact)).map_err(|error| failed(error.error))?;
        Ok(())
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// A file that is still arriving; gone when dropped.
struct Part {
    file: NamedTempFile,
    hasher: Sha256,
    received: u64,
}

impl Part {
    fn create(dir: &Path) -> io::Result<Self> {
        let file = tempfile::Builder::new().prefix("part-").tempfile_in(dir)?;
        Ok(Self { file, hasher: Sha256::new(), received: 0 })
    }

    fn write(mut self, chunk: &[u8]) -> io::Result<Self> {
        self.file.write_all(chunk)?;
        self.hasher.update(chunk);
        self.received += chunk.len() as u64;
        Ok(self)
    }

    fn hash(&self) -> ArtifactHash {
        ArtifactHash::new(self.hasher.clone().finalize().into())
    }

    /// The file gets its name last: a file with the name is complete, also after a power failure.
    fn complete(self) -> io::Result<Self> {
        self.file.as_file().set_permissions(Permissions::from_mode(0o500))?;
        self.file.as_file().sync_all()?;
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    static FETCHES: AtomicUsize = AtomicUsize::new(0);

    fn artifact(bytes: &[u8]) -> ArtifactHash {
        ArtifactHash::new(Sha256::digest(bytes).into())
    }

    fn chunks(bytes: &[u8]) -> BoxStream<'static, Result<Vec<u8>, FetchError>> {
        FETCHES.fetch_add(1, Ordering::Relaxed);
        let chunks: Vec<_> = bytes.chunks(3).map(|chunk| Ok(chunk.to_vec())).collect();
        futures::stream::iter(chunks).boxed()
    }

    fn files(cache: &ArtifactCache) -> usize {
        std::fs::read_dir(&cache.dir).unwrap().count()
    }

    fn cache(limit: u64) -> (tempfile::TempDir, Arc<ArtifactCache>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("artifacts");
        (dir, ArtifactCache::new(path, ByteSize::from_bytes(limit)).unwrap())
    }

    async fn lease(cache: &Arc<ArtifactCache>, bytes: &'static [u8]) -> ArtifactLease {
        cache.lease(artifact(bytes), bytes.len() as u64, || chunks(bytes)).await.unwrap()
    }

    #[tokio::test]
    async fn many_at_once_share_one_copy() {
        let (_dir, cache) = cache(100);
        let before = FETCHES.load(Ordering::Relaxed);
        let leases = futures::future::join_all((0..20).map(|_| lease(&cache, b"shared"))).await;
        assert!(FETCHES.load(Ordering::Relaxed) - before < 20);
        assert_eq!(files(&cache), 1);
        let path = leases.first().unwrap().path();
        assert_eq!(std::fs::read(&path).unwrap(), b"shared");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o500);
        cache.release(artifact(b"shared"));
        assert!(path.exists(), "still in use");
        drop(leases);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn what_is_damaged_never_gets_a_name() {
        let (_dir, cache) = cache(100);
        for bytes in [&b"wrong!"[..], b"righ", b"right and more"] {
            let result = cache.lease(artifact(b"right!"), 6, || chunks(bytes)).await;
            assert!(matches!(result, Err(CacheError::Damaged { .. })), "{result:?}");
        }
        let broken = || {
            let lost = Err(FetchError("reset".to_owned()));
            futures::stream::iter([Ok(b"rig".to_vec()), lost]).boxed()
        };
        let result = cache.lease(artifact(b"right!"), 6, broken).await;
        assert!(matches!(result, Err(CacheError::Fetch { .. })), "{result:?}");
        assert_eq!(files(&cache), 0);
        assert!(lock(&cache.entries).is_empty());
        drop(lease(&cache, b"right!").await);
    }

    #[tokio::test]
    async fn idle_copies_make_room_and_used_ones_do_not() {
        let (_dir, cache) = cache(10);
        drop(lease(&cache, b"aaaa").await);
        let used = lease(&cache, b"bbbb").await;
        assert_eq!(files(&cache), 2);
        drop(lease(&cache, b"cccc").await);
        assert!(used.path().exists() && files(&cache) == 2);
        let large = cache.lease(artifact(b"dddddddd"), 8, || chunks(b"dddddddd")).await;
        assert!(matches!(large, Err(CacheError::TooLarge { .. })), "{large:?}");
        cache.release(artifact(b"cccc"));
        cache.release(artifact(b"unknown"));
        drop(used);
    }

    #[tokio::test]
    async fn who_gives_up_lets_the_next_one_fetch() {
        let (_dir, cache) = cache(100);
        let hanging = cache.lease(artifact(b"x"), 1, || futures::stream::pending().boxed());
        let timeout = std::time::Duration::from_millis(20);
        assert!(tokio::time::timeout(timeout, hanging).await.is_err());
        assert_eq!(files(&cache), 0);
        assert!(lease(&cache, b"x").await.path().exists());
    }
}
