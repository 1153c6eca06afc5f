//! The local disk with the fault that its test has chosen: `faulty://TEST/directory`.

use std::sync::Once;

use bytes::Bytes;
use futures::future::BoxFuture;
use millstream_storage::{
    CreateOptions, FilePath, FileReader, FileStatus, FileSystem, FileSystems, FileWriter, IfExists,
    LocalFileSystem, Result, StorageError,
};

use super::{Fault, fault};
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

/// The time that a write takes on a slow disk.
const SLOW: Duration = Duration::from_millis(700);

/// The directory as jobs of this test name it.
pub(super) fn faulty(test: usize, directory: &std::path::Path) -> String {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        let open = |authority: &str| {
            let test = authority.parse().map_err(|_| format!("{authority} is no test"))?;
            Ok(Arc::new(Disk { test }) as Arc<dyn FileSystem>)
        };
        FileSystems::of_process().register("faulty", Arc::new(open));
    });
    format!("faulty://{test}{}", directory.display())
}

#[derive(Debug, Clone, Copy)]
struct Disk {
    test: usize,
}

impl Disk {
    fn is(self, asked: Fault) -> bool {
        fault(self.test) == asked
    }
}

fn failed<T>(action: &'static str, path: &FilePath, kind: ErrorKind) -> Result<T> {
    Err(StorageError::of_io(action, path, &kind.into()))
}

fn is_metadata(path: &FilePath) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("_metadata"))
}

struct Writer {
    inner: Box<dyn FileWriter>,
    path: FilePath,
    disk: Disk,
}

impl FileWriter for Writer {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<()>> {
        let is_full = match fault(self.disk.test) {
            Fault::Full => true,
            Fault::NoRoomForMetadata => is_metadata(&self.path),
            Fault::Slow => {
                std::thread::sleep(SLOW);
                false
            }
            _ => false,
        };
        if is_full {
            let path = self.path.clone();
            return Box::pin(async move { failed("write to", &path, ErrorKind::StorageFull) });
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

impl FileSystem for Disk {
    fn status<'a>(&'a self, path: &'a FilePath) -> BoxFuture<'a, Result<FileStatus>> {
        LocalFileSystem.status(path)
    }

    fn list<'a>(&'a self, directory: &'a FilePath) -> BoxFuture<'a, Result<Vec<FileStatus>>> {
        LocalFileSystem.list(directory)
    }

    fn open<'a>(&'a self, path: &'a FilePath) -> BoxFuture<'a, Result<Box<dyn FileReader>>> {
        LocalFileSystem.open(path)
    }

    fn create<'a>(
        &'a self,
        path: &'a FilePath,
        options: CreateOptions,
    ) -> BoxFuture<'a, Result<Box<dyn FileWriter>>> {
        Box::pin(async move {
            if self.is(Fault::ReadOnly) {
                return failed("create", path, ErrorKind::ReadOnlyFilesystem);
            }
            let inner = LocalFileSystem.create(path, options).await?;
            Ok(Box::new(Writer { inner, path: path.clone(), disk: *self }) as _)
        })
    }

    fn publish<'a>(
        &'a self,
        from: &'a FilePath,
        to: &'a FilePath,
        if_exists: IfExists,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let (path, action) = (from.clone(), "rename");
            match fault(self.test) {
                Fault::RefusesMetadata if is_metadata(to) => {
                    failed(action, from, ErrorKind::PermissionDenied)
                }
                Fault::LosesMetadata if is_metadata(to) => {
                    let reason = "it did not answer".to_owned();
                    Err(StorageError::OutcomeUnknown { action, path, reason })
                }
                _ => LocalFileSystem.publish(from, to, if_exists).await,
            }
        })
    }

    fn make_directories<'a>(
        &'a self,
        path: &'a FilePath,
        permission: Option<u32>,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if self.is(Fault::ReadOnly) && LocalFileSystem.status(path).await.is_err() {
                return failed("make", path, ErrorKind::ReadOnlyFilesystem);
            }
            LocalFileSystem.make_directories(path, permission).await
        })
    }

    fn delete<'a>(&'a self, path: &'a FilePath, recursive: bool) -> BoxFuture<'a, Result<bool>> {
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
