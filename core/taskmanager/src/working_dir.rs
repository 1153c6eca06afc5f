//! A TaskManager's own temporary directory, gone with the TaskManager.
//!
//! A TaskManager that was killed cannot remove its directory. Each directory holds a locked file,
//! so the next TaskManager on the machine sees which ones have no owner any more and removes them.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tempfile::TempDir;

const LOCK_NAME: &str = "owner.lock";
/// A younger directory may just be missing its lock.
const ORPHAN_AGE_MIN: Duration = Duration::from_secs(10);

/// A directory that only this user can enter; removed with all contents when dropped.
#[derive(Debug)]
pub struct WorkingDir {
    dir: TempDir,
    _lock: File,
}

impl WorkingDir {
    /// Makes a directory below `base`, named `<prefix>-` and something random, and removes those of
    /// the same prefix whose owners are dead.
    ///
    /// # Errors
    /// `base` cannot be made or written.
    pub fn create(base: &Path, prefix: &str) -> io::Result<Self> {
        fs::create_dir_all(base)?;
        let prefix = format!("{prefix}-");
        remove_orphans(base, &prefix);
        let dir = tempfile::Builder::new().prefix(&prefix).tempdir_in(base)?;
        let lock = File::create(dir.path().join(LOCK_NAME))?;
        lock.try_lock().map_err(io::Error::from)?;
        Ok(Self { dir, _lock: lock })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// Directories that are used in turn, so that all disks behind them share the load.
#[derive(Debug, Clone)]
pub struct TempDirs {
    dirs: Arc<[PathBuf]>,
    uses: Arc<AtomicUsize>,
}

impl TempDirs {
    /// `first`, then `others`, then `first` again.
    #[must_use]
    pub fn new(first: PathBuf, others: impl IntoIterator<Item = PathBuf>) -> Self {
        let dirs = std::iter::once(first).chain(others).collect();
        Self { dirs, uses: Arc::default() }
    }

    /// The directory whose turn it is.
    #[must_use]
    pub fn next(&self) -> &Path {
        let turn = self.uses.fetch_add(1, Ordering::Relaxed) % self.dirs.len();
        &self.dirs[turn]
    }
}

fn remove_orphans(base: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(base) else { return };
    for entry in entries.flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(prefix);
        // Of the entry itself: a link to elsewhere is not followed.
        if ours && entry.file_type().is_ok_and(|kind| kind.is_dir()) && is_orphan(&entry.path()) {
            tracing::info!(path = %entry.path().display(), "directory of a dead worker removed");
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn is_orphan(dir: &PathBuf) -> bool {
    match File::open(dir.join(LOCK_NAME)) {
        Ok(lock) => !matches!(lock.try_lock(), Err(TryLockError::WouldBlock)) && is_old(dir),
        Err(_) => is_old(dir),
    }
}

fn is_old(dir: &PathBuf) -> bool {
    let modified = fs::metadata(dir).and_then(|metadata| metadata.modified());
    modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age >= ORPHAN_AGE_MIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_directories_are_used_in_turn() {
        let dirs = TempDirs::new("/a".into(), ["/b".into(), "/c".into()]);
        let again = dirs.clone();
        let used = [dirs.next(), again.next(), dirs.next(), again.next()];
        assert_eq!(used, ["/a", "/b", "/c", "/a"].map(Path::new));
    }

    #[test]
    fn directories_of_the_dead_are_removed_and_those_of_the_living_kept() {
        let base = tempfile::tempdir().unwrap();
        let living = WorkingDir::create(base.path(), "w").unwrap();
        let dead = base.path().join("w-dead");
        fs::create_dir(&dead).unwrap();
        File::create(dead.join(LOCK_NAME)).unwrap();
        let young = base.path().join("w-young");
        fs::create_dir(&young).unwrap();
        let old = std::time::SystemTime::now() - ORPHAN_AGE_MIN * 2;
        for dir in [dead.as_path(), living.path()] {
            File::open(dir).unwrap().set_modified(old).unwrap();
        }
        let next = WorkingDir::create(base.path(), "w").unwrap();
        assert!(living.path().exists() && young.exists() && !dead.exists());
        let path = next.path().to_owned();
        drop(next);
        assert!(!path.exists());
    }
}
