//! The contract of a file system.

use std::fmt::Debug;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::error::{Result, StorageError};
use crate::path::FilePath;

/// A call in progress; any executor may run it. Dropping it leaves open whether a change was made.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The kind of an entry of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A device, a pipe and the like, which this crate does not touch.
    Special,
}

/// The attributes of a file or directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileStatus {
    /// Its name.
    pub path: FilePath,
    /// File, directory, or else.
    pub kind: FileKind,
    /// The bytes of a file; 0 for a directory. For a file that is being written, the bytes that
    /// readers may see.
    pub length: u64,
    /// When its contents were last changed; in milliseconds on HDFS.
    pub modified: SystemTime,
    /// The permission bits, those for set-id and sticky included.
    pub permission: u32,
    /// The owner: a name, or on the local disk a number.
    pub owner: String,
    /// The group, likewise.
    pub group: String,
    /// The size of its blocks, if the file system stores files in blocks.
    pub block_bytes: Option<u64>,
}

impl FileStatus {
    /// Whether it is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.kind == FileKind::Directory
    }

    /// When its contents were last changed, in milliseconds since 1970.
    #[must_use]
    pub fn modified_ms(&self) -> u64 {
        let since = self.modified.duration_since(SystemTime::UNIX_EPOCH);
        since
            .as_ref()
            .map(Duration::as_millis)
            .ok()
            .and_then(|ms| u64::try_from(ms).ok())
            .unwrap_or(0)
    }
}

/// The treatment of a target that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfExists {
    /// It stays, and the call fails with [`StorageError::AlreadyExists`].
    Refuse,
    /// A file is replaced; a directory is not, and the call fails.
    Replace,
}

/// Options for creating a file.
#[derive(Debug, Clone, Copy)]
pub struct CreateOptions {
    /// Whether an existing file of this name is replaced.
    pub if_exists: IfExists,
    /// Exactly these permission bits; if none, those that the user's mask leaves of `rw-rw-rw-`.
    pub permission: Option<u32>,
}

impl CreateOptions {
    /// Refuses to replace a file.
    pub const NEW: Self = Self { if_exists: IfExists::Refuse, permission: None };
    /// Replaces a file if there is one.
    pub const REPLACE: Self = Self { if_exists: IfExists::Replace, permission: None };

    /// Sets exactly these permission bits.
    #[must_use]
    pub const fn permission(mut self, bits: u32) -> Self {
        self.permission = Some(bits);
        self
    }
}

/// A file system. All paths of a call are its own; their scheme and authority are ignored.
pub trait FileSystem: Debug + Send + Sync {
    /// Returns the attributes of a file or directory. Symbolic links are followed.
    fn status<'a>(&'a self, path: &'a FilePath) -> BoxFuture<'a, Result<FileStatus>>;

    /// Lists the entries of a directory, by name. Entries that vanish meanwhile are left out. A
    /// file is refused.
    fn list<'a>(&'a self, directory: &'a FilePath) -> BoxFuture<'a, Result<Vec<FileStatus>>>;

    /// Opens a file for reading.
    fn open<'a>(&'a self, path: &'a FilePath) -> BoxFuture<'a, Result<Box<dyn FileReader>>>;

    /// Creates a file in a directory that exists. The file and its partial content are visible
    /// immediately: write to a temporary name and [`FileSystem::publish`] it.
    fn create<'a>(
        &'a self,
        path: &'a FilePath,
        options: CreateOptions,
    ) -> BoxFuture<'a, Result<Box<dyn FileWriter>>>;

    /// Renames atomically and durably. The directory of the new name must exist.
    fn publish<'a>(
        &'a self,
        from: &'a FilePath,
        to: &'a FilePath,
        if_exists: IfExists,
    ) -> BoxFuture<'a, Result<()>>;

    /// Renames several paths, each atomically, all durably; stops at the first failure.
    fn publish_all<'a>(
        &'a self,
        renames: &'a [(FilePath, FilePath)],
        if_exists: IfExists,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            for (from, to) in renames {
                self.publish(from, to, if_exists).await?;
            }
            Ok(())
        })
    }

    /// Makes a directory and the missing ones above it, all with exactly these permission bits, or
    /// with those that the user's mask leaves of `rwxrwxrwx`. Existing ones stay as they are.
    fn make_directories<'a>(
        &'a self,
        path: &'a FilePath,
        permission: Option<u32>,
    ) -> BoxFuture<'a, Result<()>>;

    /// Deletes a file or a directory, with its contents if `recursive`; `false` if it does not
    /// exist. Without `recursive` a directory with contents is refused.
    fn delete<'a>(&'a self, path: &'a FilePath, recursive: bool) -> BoxFuture<'a, Result<bool>>;

    /// Sets the permission bits.
    fn set_permission<'a>(
        &'a self,
        path: &'a FilePath,
        permission: u32,
    ) -> BoxFuture<'a, Result<()>>;
}

/// Reads a file. A file that was replaced meanwhile is read as it was, or refused, never mixed.
pub trait FileReader: Send {
    /// The length of the file when it was opened.
    fn length(&self) -> u64;

    /// Reads some bytes from `offset` on, at least one unless the file ends there or the buffer is
    /// empty. Reading on where the last call ended is quick.
    fn read_at<'a>(&'a mut self, offset: u64, buffer: &'a mut [u8])
    -> BoxFuture<'a, Result<usize>>;
}

/// Writes a file. After an error the writer can only be dropped. Without [`FileWriter::close`] the
/// content of the file is undefined.
pub trait FileWriter: Send {
    /// Adds bytes.
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<()>>;

    /// Makes all bytes so far survive a crash. Whether readers see them before the file is closed
    /// depends on the file system.
    fn sync(&mut self) -> BoxFuture<'_, Result<()>>;

    /// Completes the file: all bytes are durable, and it can be renamed. This can take half a
    /// second on HDFS, so close several files at the same time.
    fn close(self: Box<Self>) -> BoxFuture<'static, Result<()>>;
}

/// Reads a whole file that is no longer than `bytes_max`.
///
/// # Errors
/// The file cannot be read, or is longer.
pub async fn read_all(files: &dyn FileSystem, path: &FilePath, bytes_max: u64) -> Result<Vec<u8>> {
    let mut reader = files.open(path).await?;
    let length = reader.length();
    let bytes = usize::try_from(length).ok().filter(|_| length <= bytes_max);
    let Some(bytes) = bytes else {
        let reason = format!("it has {length} bytes, and at most {bytes_max} are expected");
        return Err(StorageError::Other { action: "read", path: path.clone(), reason });
    };
    let (mut buffer, mut filled) = (vec![0; bytes], 0);
    while let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) {
        match reader.read_at(filled as u64, room).await? {
            0 => break,
            read => filled += read,
        }
    }
    buffer.truncate(filled);
    Ok(buffer)
}

/// Writes a whole file and completes it.
///
/// # Errors
/// The file cannot be created or written.
pub async fn write_all(
    files: &dyn FileSystem,
    path: &FilePath,
    options: CreateOptions,
    bytes: Bytes,
) -> Result<()> {
    let mut writer = files.create(path, options).await?;
    writer.write(bytes).await?;
    writer.close().await
}
