//! Uploaded "jars": artifacts that can be run by REST, with the names that their uploaders gave.
//!
//! A jar is one small JSON file beside the artifact store; its id is a UUID made here, so that no
//! name from outside ever becomes a path.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use millstream_types::{ArtifactHash, Timestamp};
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::artifacts::ArtifactStore;
use crate::random;

/// Longest name that is kept, in characters.
const NAME_CHARS_MAX: usize = 255;
/// Limit of stored jars; an upload above it is refused.
const JARS_MAX: usize = 1000;

/// Names one uploaded jar.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JarId(String);

impl JarId {
    /// Wraps text from outside; it is only ever compared.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl std::fmt::Display for JarId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// One uploaded jar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jar {
    /// The id.
    pub id: JarId,
    /// The name that its uploader gave it.
    pub name: String,
    /// The time of the upload.
    pub uploaded: Timestamp,
    /// The artifact with its bytes.
    pub artifact: ArtifactHash,
}

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    artifacts: ArtifactStore,
    jars: Mutex<BTreeMap<JarId, Jar>>,
}

/// The store of jars; all clones share one state.
#[derive(Debug, Clone)]
pub struct JarStore {
    inner: Arc<Inner>,
}

impl JarStore {
    /// Opens the list in this directory and holds the artifact of each jar.
    ///
    /// # Errors
    /// The directory cannot be created or read.
    pub fn open(directory: &Path, artifacts: ArtifactStore) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let mut jars = BTreeMap::new();
        for file in std::fs::read_dir(directory)? {
            let path = file?.path();
            let jar =
                std::fs::read(&path).ok().and_then(|b| serde_json::from_slice::<Jar>(&b).ok());
            match jar {
                Some(jar) if artifacts.hold(jar.artifact).is_some() => {
                    jars.insert(jar.id.clone(), jar);
                }
                _ => {
                    warn!(file = %path.display(), "a jar without its artifact is dropped");
                    std::fs::remove_file(&path)?;
                }
            }
        }
        let directory = directory.to_owned();
        Ok(Self { inner: Arc::new(Inner { directory, artifacts, jars: Mutex::new(jars) }) })
    }

    /// Adds a jar of an artifact that is in the store.
    ///
    /// # Errors
    /// The artifact is not in the store, the limit of jars is reached, or writing to the disk
    /// fails.
    pub fn add(&self, name: &str, artifact: ArtifactHash) -> io::Result<Jar> {
        let id = JarId(random::uuid());
        let name: String = name.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect();
        let jar = Jar { id: id.clone(), name, uploaded: Timestamp::now(), artifact };
        let mut jars = self.jars();
        if jars.len() >= JARS_MAX {
            return Err(io::Error::other(format!(
                "there are {JARS_MAX} uploaded jars: delete some (DELETE /jars/:jarid)"
            )));
        }
        if self.inner.artifacts.hold(artifact).is_none() {
            return Err(io::Error::other("the artifact is gone from the store"));
        }
        if let Err(error) = std::fs::write(self.path(&id), serde_json::to_vec(&jar)?) {
            let _ = std::fs::remove_file(self.path(&id));
            self.inner.artifacts.release(artifact);
            return Err(error);
        }
        jars.insert(id, jar.clone());
        Ok(jar)
    }

    /// Returns a path whose last part is the jar's id, for clients that read the id from a path.
    #[must_use]
    pub fn path(&self, id: &JarId) -> PathBuf {
        self.inner.directory.join(&id.0)
    }

    /// Returns the jar of this id.
    #[must_use]
    pub fn get(&self, id: &JarId) -> Option<Jar> {
        self.jars().get(id).cloned()
    }

    /// Returns all jars, newest first.
    #[must_use]
    pub fn all(&self) -> Vec<Jar> {
        let mut jars: Vec<Jar> = self.jars().values().cloned().collect();
        jars.sort_by_key(|jar| std::cmp::Reverse(jar.uploaded));
        jars
    }

    /// Deletes a jar; returns false if the id is unknown. Jobs that run it go on.
    #[must_use]
    pub fn remove(&self, id: &JarId) -> bool {
        let Some(jar) = self.jars().remove(id) else { return false };
        if let Err(error) = std::fs::remove_file(self.path(id)) {
            warn!(jar = %id, %error, "a deleted jar's file could not be deleted");
        }
        self.inner.artifacts.release(jar.artifact);
        true
    }

    fn jars(&self) -> MutexGuard<'_, BTreeMap<JarId, Jar>> {
        self.inner.jars.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use millstream_types::ByteSize;

    use super::*;

    #[tokio::test]
    async fn jars_survive_a_restart_and_hold_their_artifact_until_they_are_deleted() {
        let directory = tempfile::tempdir().unwrap();
        let open = || {
            let limit = ByteSize::from_mib(1);
            let (path, unused_for) = (directory.path().join("a"), std::time::Duration::ZERO);
            let artifacts = ArtifactStore::open(&path, limit, unused_for).unwrap();
            let jars = JarStore::open(&directory.path().join("j"), artifacts.clone()).unwrap();
            (artifacts, jars)
        };
        let (artifacts, jars) = open();
        let mut upload = artifacts.upload().await.unwrap();
        upload.write(b"program").await.unwrap();
        let (hash, _) = upload.finish(None).await.unwrap();
        let jar = jars.add("../../etc/passwd\n", hash).unwrap();
        assert_eq!(jar.name, "../../etc/passwd");
        assert_eq!(jars.path(&jar.id).parent().unwrap(), directory.path().join("j"));

        let (artifacts, jars) = open();
        assert_eq!(jars.all(), std::slice::from_ref(&jar));
        let far = std::time::Instant::now() + std::time::Duration::from_secs(3600);
        assert_eq!(artifacts.sweep(far).await, []);
        assert!(jars.remove(&jar.id));
        assert!(!jars.remove(&jar.id));
        assert_eq!(artifacts.sweep(far).await, [hash]);
        assert!(jars.all().is_empty());
    }
}
