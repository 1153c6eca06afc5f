//! The local disk with faults, for tests.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use millstream_storage::{
    BoxFuture, CreateOptions, FilePath, FileReader, FileStatus, FileSystem, FileWriter, IfExists,
    LocalFileSystem, Result, StorageError, block_on,
};

/// The fault of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// No file can be created.
    ReadOnly,
    /// The second chunk of a file does not fit.
    Full,
    /// Renames are refused, without a change.
    RefusesRename,
    /// Renames are done, and their answer is lost.
    RenamesUnseen,
    /// Renames are tried twice, and the second try is reported.
    RenamesTwice,
    /// Renames are not done, and their answer is lost.
    LosesRename,
    /// Renames are done later, see [`Faulty::catch_up`].
    RenamesLate,
    /// Renames are done, their answer is lost, and every read fails.
    RenamesBlindly,
    /// Nothing can be looked at any more.
    Blind,
    /// Nothing can be deleted.
    KeepsAll,
}

/// The local disk with a fault.
#[derive(Debug, Clone)]
pub(crate) struct Faulty {
    fault: Arc<Mutex<Fault>>,
    late: Arc<Mutex<Vec<(FilePath, FilePath)>>>,
}

impl Faulty {
    pub(crate) fn new(fault: Fault) -> Self {
        Self { fault: Arc::new(Mutex::new(fault)), late: Arc::default() }
    }

    pub(crate) fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    fn is(&self, fault: Fault) -> bool {
        *self.fault.lock().unwrap() == fault
    }

    /// Does the renames that are late; whether all succeeded.
    pub(crate) fn catch_up(&self) -> bool {
        let late = std::mem::take(&mut *self.late.lock().unwrap());
        let rename = |(from, to): &(FilePath, FilePath)| {
            block_on(LocalFileSystem.publish(from, to, IfExists::Refuse)).is_ok()
        };
        late.iter().all(rename)
    }
}

fn refused(action: &'static str, path: &FilePath) -> StorageError {
    StorageError::PermissionDenied { action, path: path.clone(), reason: "read-only".to_owned() }
}

fn unknown(action: &'static str, path: &FilePath) -> StorageError {
    StorageError::OutcomeUnknown { action, path: path.clone(), reason: "away".to_owned() }
}

struct FullWriter {
    inner: Box<dyn FileWriter>,
    path: FilePath,
    chunks: u32,
}

impl FileWriter for FullWriter {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<()>> {
        self.chunks += 1;
        if self.chunks == 2 {
            let (path, reason) = (self.path.clone(), "full".to_owned());
            let error = StorageError::QuotaExceeded { action: "write to", path, reason };
            return Box::pin(async { Err(error) });
        }
        self.inner.write(bytes)
    }

    fn sync(&mut self) -> BoxFuture<'_, Result<()>> {
        self.inner.sync()
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        self.inner.close()
    }
}

impl FileSystem for Faulty {
    fn status<'a>(&'a self, path: &'a FilePath) -> BoxFuture<'a, Result<FileStatus>> {
        if self.is(Fault::Blind) {
            return Box::pin(async { Err(unknown("look at", path)) });
        }
        LocalFileSystem.status(path)
    }

    fn list<'a>(&'a self, directory: &'a FilePath) -> BoxFuture<'a, Result<Vec<FileStatus>>> {
        LocalFileSystem.list(directory)
    }

    fn open<'a>(&'a self, path: &'a FilePath) -> BoxFuture<'a, Result<Box<dyn FileReader>>> {
        if self.is(Fault::RenamesBlindly) {
            return Box::pin(async { Err(refused("open", path)) });
        }
        LocalFileSystem.open(path)
    }

    fn create<'a>(
        &'a self,
        path: &'a FilePath,
        options: CreateOptions,
    ) -> BoxFuture<'a, Result<Box<dyn FileWriter>>> {
        Box::pin(async move {
            if self.is(Fault::ReadOnly) {
                return Err(refused("create", path));
            }
            let inner = LocalFileSystem.create(path, options).await?;
            if self.is(Fault::Full) {
                return Ok(Box::new(FullWriter { inner, path: path.clone(), chunks: 0 }) as _);
            }
            Ok(inner)
        })
    }

    fn publish<'a>(
        &'a self,
        from: &'a FilePath,
        to: &'a FilePath,
        if_exists: IfExists,
    ) -> BoxFuture<'a, Result<()>> {
        let fault = *self.fault.lock().unwrap();
        Box::pin(async move {
            match fault {
                Fault::RefusesRename => return Err(refused("rename", from)),
                Fault::RenamesUnseen | Fault::RenamesBlindly => {
                    LocalFileSystem.publish(from, to, if_exists).await?
                }
                Fault::RenamesLate => self.late.lock().unwrap().push((from.clone(), to.clone())),
                Fault::RenamesTwice => {
                    LocalFileSystem.publish(from, to, if_exists).await?;
                    return Err(StorageError::AlreadyExists { path: to.clone() });
                }
                Fault::LosesRename => {}
                _ => return LocalFileSystem.publish(from, to, if_exists).await,
            }
            Err(unknown("rename", from))
        })
    }

    fn make_directories<'a>(
        &'a self,
        path: &'a FilePath,
        permission: Option<u32>,
    ) -> BoxFuture<'a, Result<()>> {
        LocalFileSystem.make_directories(path, permission)
    }

    fn delete<'a>(&'a self, path: &'a FilePath, recursive: bool) -> BoxFuture<'a, Result<bool>> {
        if self.is(Fault::KeepsAll) {
            return Box::pin(async { Err(refused("delete", path)) });
        }
        LocalFileSystem.delete(path, recursive)
    }

    fn set_permission<'a>(
        &'a self,
        path: &'a FilePath,
        permission: u32,
    ) -> BoxFuture<'a, Result<()>> {
        LocalFileSystem.set_permission(path, permission)
    }
}
