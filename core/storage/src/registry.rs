//! The file systems of a process, by scheme.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::error::{Result, StorageError};
use crate::file_system::FileSystem;
use crate::local::LocalFileSystem;
use crate::path::FilePath;

/// Opens the file system of an authority, as `namenode:8020`; empty for the default one. Says in
/// one sentence why it cannot.
pub type OpenFileSystem =
    Arc<dyn Fn(&str) -> std::result::Result<Arc<dyn FileSystem>, String> + Send + Sync>;

/// Knows how the file systems of each scheme are opened, and keeps those that are open.
#[derive(Default)]
pub struct FileSystems {
    known: Mutex<HashMap<String, OpenFileSystem>>,
    open: Mutex<HashMap<(String, String), Arc<dyn FileSystem>>>,
}

impl FileSystems {
    /// Those of this process: user code has no other place to get them from.
    pub fn of_process() -> &'static Self {
        static PROCESS: OnceLock<FileSystems> = OnceLock::new();
        PROCESS.get_or_init(Self::default)
    }

    /// Registers a scheme, in place of an earlier registration.
    pub fn register(&self, scheme: &str, open: OpenFileSystem) {
        lock(&self.known).insert(scheme.to_owned(), open);
        lock(&self.open).retain(|(opened, _), _| opened != scheme);
    }

    /// Refuses a path that no file system of this process can have, without opening any.
    ///
    /// # Errors
    /// It cannot be meant as it is written, or its scheme is not known.
    pub fn check(&self, path: &FilePath) -> Result<()> {
        path.check()?;
        let scheme = path.scheme();
        if path.local().is_some() || lock(&self.known).contains_key(scheme) {
            return Ok(());
        }
        let (path, reason) = (path.clone(), unknown(scheme));
        Err(StorageError::Other { action: "open", path, reason })
    }

    /// The file system of a path, opened at its first use.
    ///
    /// # Errors
    /// Its scheme is not known, or it cannot be opened.
    pub fn of(&self, path: &FilePath) -> Result<Arc<dyn FileSystem>> {
        self.check(path)?;
        if path.local().is_some() {
            return Ok(Arc::new(LocalFileSystem));
        }
        let key = (path.scheme().to_owned(), path.authority().to_owned());
        if let Some(open) = lock(&self.open).get(&key) {
            return Ok(Arc::clone(open));
        }
        let refused = |reason| StorageError::Other { action: "open", path: path.clone(), reason };
        let known = lock(&self.known).get(&key.0).cloned();
        let known = known.ok_or_else(|| refused(unknown(&key.0)))?;
        let opened = known(&key.1).map_err(refused)?;
        Ok(Arc::clone(lock(&self.open).entry(key).or_insert(opened)))
    }
}

fn unknown(scheme: &str) -> String {
    if scheme == "hdfs" {
        return "this program was built without HDFS: enable the feature `hdfs` of the crate \
                `millstream`"
            .to_owned();
    }
    format!("there are no file systems with the scheme {scheme:?}: name a file:// or hdfs:// path")
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Whole entries are put in and taken out: nothing is left half done by a panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(systems: &FileSystems, path: &str) -> String {
        systems.of(&FilePath::from(path)).unwrap_err().to_string()
    }

    #[test]
    fn schemes_that_nobody_registered_are_refused() {
        let systems = FileSystems::default();
        assert!(systems.of(&FilePath::from("/tmp")).is_ok());
        let error = refusal(&systems, "hdfs://nn/a");
        assert!(error.contains("enable the feature `hdfs`"), "{error}");
        let error = refusal(&systems, "s3://bucket/a");
        assert!(error.contains("no file systems with the scheme \"s3\""), "{error}");
    }

    #[test]
    fn each_authority_is_opened_once() {
        let systems = FileSystems::default();
        let opened = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&opened);
        let open: OpenFileSystem = Arc::new(move |authority| {
            seen.lock().unwrap().push(authority.to_owned());
            if authority == "no" {
                return Err("it is not there".to_owned());
            }
            Ok(Arc::new(LocalFileSystem))
        });
        systems.register("x1", open);
        for path in ["x1://a/1", "x1://a/2", "x1://b/1", "x1:///1"] {
            assert!(systems.of(&FilePath::from(path)).is_ok());
        }
        assert_eq!(refusal(&systems, "x1://no/a"), "failed to open x1://no/a: it is not there");
        assert_eq!(*opened.lock().unwrap(), ["a", "b", "", "no"]);
    }
}
