//! The calls of the contract; each can learn an outcome whose reply was lost.

use std::time::{Duration, SystemTime};

use hdfs_native::WriteOptions;
use hdfs_native::client::FileStatus as NativeStatus;
use millstream_storage::{
    BoxFuture, CreateOptions, FileKind, FilePath, FileReader, FileStatus, FileSystem, FileWriter,
    IfExists, Result, StorageError,
};

use crate::Hdfs;
use crate::calls::{Ended, anywhere, within};
use crate::errors::Failure;
use crate::name::name;
use crate::reader::HdfsReader;
use crate::writer::{HdfsWriter, WRITE_DEADLINE};

/// Number of attempts of a rename whose reply was lost.
const RENAMES_MAX: usize = 5;

impl FileSystem for Hdfs {
    fn status<'a>(&'a self, path: &'a FilePath) -> BoxFuture<'a, Result<FileStatus>> {
        anywhere(self.look_at(path))
    }

    fn list<'a>(&'a self, directory: &'a FilePath) -> BoxFuture<'a, Result<Vec<FileStatus>>> {
        anywhere(self.list_directory(directory))
    }

    fn open<'a>(&'a self, path: &'a FilePath) -> BoxFuture<'a, Result<Box<dyn FileReader>>> {
        anywhere(async move {
            let reader = HdfsReader::open(self.clone(), path.clone()).await?;
            Ok(Box::new(reader) as Box<dyn FileReader>)
        })
    }

    fn create<'a>(
        &'a self,
        path: &'a FilePath,
        options: CreateOptions,
    ) -> BoxFuture<'a, Result<Box<dyn FileWriter>>> {
        anywhere(self.create_file(path, options))
    }

    fn publish<'a>(
        &'a self,
        from: &'a FilePath,
        to: &'a FilePath,
        if_exists: IfExists,
    ) -> BoxFuture<'a, Result<()>> {
        anywhere(self.rename(from, to, if_exists))
    }

    fn make_directories<'a>(
        &'a self,
        path: &'a FilePath,
        permission: Option<u32>,
    ) -> BoxFuture<'a, Result<()>> {
        let action = "create directory";
        anywhere(async move {
            let bits = permission.unwrap_or(0o777 & !self.umask);
            let name = name(action, path)?;
            let made = self.calls.call(self.patience, true, |client| async move {
                client.mkdirs(name, bits, true).await
            });
            made.await.map_err(|failure| failure.explain(action, path))
        })
    }

    fn delete<'a>(&'a self, path: &'a FilePath, recursive: bool) -> BoxFuture<'a, Result<bool>> {
        anywhere(self.delete_any(path, recursive))
    }

    fn set_permission<'a>(
        &'a self,
        path: &'a FilePath,
        permission: u32,
    ) -> BoxFuture<'a, Result<()>> {
        let action = "set the permissions of";
        anywhere(async move {
            let name = name(action, path)?;
            let set = self.calls.call(self.patience, true, |client| async move {
                client.set_permission(name, permission).await
            });
            set.await.map_err(|failure| failure.explain(action, path))
        })
    }
}

impl Hdfs {
    pub(crate) async fn look_at(&self, path: &FilePath) -> Result<FileStatus> {
        let action = "look at";
        let name = name(action, path)?;
        let found = self
            .calls
            .call(self.patience, true, |client| async move { client.get_file_info(name).await });
        let found = found.await.map_err(|failure| failure.explain_reading(action, path))?;
        Ok(status_of(path.clone(), found))
    }

    async fn list_directory(&self, directory: &FilePath) -> Result<Vec<FileStatus>> {
        let action = "list";
        let name = name(action, directory)?;
        let listed = self.calls.call(self.patience, true, |client| async move {
            client.list_status(name, false).await
        });
        let listed = listed.await.map_err(|failure| failure.explain_reading(action, directory))?;
        let mut found = Vec::with_capacity(listed.len());
        for native in listed {
            // A file is listed as itself.
            if !native.isdir && native.path == name {
                let reason = "it is not a directory".to_owned();
                return Err(StorageError::Other { action, path: directory.clone(), reason });
            }
            let last = native.path.rsplit('/').next().unwrap_or_default();
            found.push(status_of(directory.join(last), native));
        }
        found.sort_by(|left, right| left.path.cmp(&right.path));
        Ok(found)
    }

    async fn create_file(
        &self,
        path: &FilePath,
        options: CreateOptions,
    ) -> Result<Box<dyn FileWriter>> {
        let action = "create";
        let name = name(action, path)?;
        // Waits here, because the library would wait without a report.
        if let Some(parent) = path.parent() {
            self.look_at(&parent).await?;
        }
        let overwrite = options.if_exists == IfExists::Replace;
        let write = WriteOptions::default()
            .permission(options.permission.unwrap_or(0o666 & !self.umask))
            .overwrite(overwrite)
            .create_parent(false);
        let write = &write;
        let writer = |file| HdfsWriter::new(self.clone(), path.clone(), write.clone(), file);
        let client = self.calls.enduring();
        let created = within(WRITE_DEADLINE, client.create(name, write)).await;
        let failure = match created {
            Ok(file) => return Ok(Box::new(writer(file))),
            Err(Ended::Failed(failure)) => failure,
            Err(Ended::Hung) => Failure::Ambiguous("the NameNode gave no answer".to_owned()),
        };
        let lost = matches!(failure, Failure::Ambiguous(_));
        let again = match failure {
            Failure::NotNow(_) => true,
            // Overwriting creates are safe to retry. Exclusive ones are retried only if the file
            // is absent; otherwise it may be another writer's.
            Failure::Ambiguous(_) if overwrite => true,
            Failure::Ambiguous(_) => {
                matches!(self.look_at(path).await, Err(StorageError::NotFound { .. }))
            }
            _ => false,
        };
        if !again {
            return Err(failure.explain(action, path));
        }
        let client = |client: hdfs_native::Client| async move { client.create(name, write).await };
        let created = self.calls.call(self.patience, overwrite, client).await;
        match created {
            Ok(file) => Ok(Box::new(writer(file))),
            // Perhaps it was the first attempt that made it.
            Err(Failure::AlreadyExists) if lost => {
                let reason = "it exists now, and may be ours or another's".to_owned();
                Err(StorageError::OutcomeUnknown { action, path: path.clone(), reason })
            }
            Err(failure) => Err(failure.explain(action, path)),
        }
    }

    async fn rename(&self, from: &FilePath, to: &FilePath, if_exists: IfExists) -> Result<()> {
        let action = "rename";
        let (source, target) = (name(action, from)?, name(action, to)?);
        let overwrite = if_exists == IfExists::Replace;
        let before = self.look_at(from).await?;
        for _ in 0..RENAMES_MAX {
            let renamed = self.calls.call(self.patience, false, |client| async move {
                client.rename(source, target, overwrite).await
            });
            let reason = match renamed.await {
                Ok(()) => return Ok(()),
                Err(Failure::Ambiguous(reason)) => reason,
                Err(failure) => return Err(explain_rename(failure, from, to)),
            };
            // The reply was lost; check which names exist to learn the outcome.
            let unknown = |_| StorageError::OutcomeUnknown { action, path: from.clone(), reason };
            match self.look_at(from).await {
                Ok(_) => {}
                Err(StorageError::NotFound { .. }) => {
                    let there = self.look_at(to).await;
                    let ours = there.as_ref().is_ok_and(|there| {
                        (there.length, there.modified) == (before.length, before.modified)
                    });
                    return if ours { Ok(()) } else { Err(unknown(())) };
                }
                Err(_) => return Err(unknown(())),
            }
        }
        let reason = format!("the connection to the NameNode broke {RENAMES_MAX} times");
        Err(StorageError::Unavailable { action, path: from.clone(), reason })
    }

    async fn delete_any(&self, path: &FilePath, recursive: bool) -> Result<bool> {
        let action = "delete";
        let name = name(action, path)?;
        let once = self.calls.call(self.patience, false, |client| async move {
            client.delete(name, recursive).await
        });
        match once.await {
            Ok(there_was) => return Ok(there_was),
            Err(Failure::Ambiguous(_)) => {}
            Err(failure) => return Err(failure.explain(action, path)),
        }
        // Deletion is idempotent: "not found" now means that the first attempt succeeded.
        let again = self.calls.call(self.patience, true, |client| async move {
            client.delete(name, recursive).await
        });
        again.await.map(|_| true).map_err(|failure| failure.explain(action, path))
    }
}

/// Tells whether the source is missing or the target is taken.
fn explain_rename(failure: Failure, from: &FilePath, to: &FilePath) -> StorageError {
    match failure {
        Failure::NotFound(text) if text.contains("parent") => {
            StorageError::NotFound { path: to.parent().unwrap_or_else(|| to.clone()) }
        }
        Failure::AlreadyExists => StorageError::AlreadyExists { path: to.clone() },
        failure => failure.explain("rename", from),
    }
}

fn status_of(path: FilePath, native: NativeStatus) -> FileStatus {
    let modified = Duration::from_millis(native.modification_time);
    FileStatus {
        path,
        kind: if native.isdir { FileKind::Directory } else { FileKind::File },
        length: if native.isdir { 0 } else { native.length as u64 },
        modified: SystemTime::UNIX_EPOCH.checked_add(modified).unwrap_or(SystemTime::UNIX_EPOCH),
        permission: u32::from(native.permission),
        owner: native.owner,
        group: native.group,
        block_bytes: native.blocksize.filter(|bytes| *bytes > 0 && !native.isdir),
    }
}
