//! The local disk.

use std::collections::HashMap;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use crate::blocking::blocking;
use crate::error::{Result, StorageError};
use crate::file_system::{
    BoxFuture, CreateOptions, FileKind, FileReader, FileStatus, FileSystem, FileWriter, IfExists,
};
use crate::path::FilePath;

/// The bits of a mode that are permissions.
const PERMISSION_BITS: u32 = 0o7777;

/// The file system of this machine. Published files survive a power cut.
///
/// Calls on a thread without a runtime do their work before they return; calls on a thread of a
/// runtime leave it to the runtime's threads for blocking work.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalFileSystem;

impl FileSystem for LocalFileSystem {
    fn status<'a>(&'a self, path: &'a FilePath) -> BoxFuture<'a, Result<FileStatus>> {
        of_path("look at", path, |path| {
            let metadata = fs::metadata(path.path());
            Ok(status_of(path, &metadata.map_err(|error| failed("look at", path, &error))?))
        })
    }

    fn list<'a>(&'a self, directory: &'a FilePath) -> BoxFuture<'a, Result<Vec<FileStatus>>> {
        of_path("list", directory, list)
    }

    fn open<'a>(&'a self, path: &'a FilePath) -> BoxFuture<'a, Result<Box<dyn FileReader>>> {
        of_path("open", path, |path| {
            let opened = File::open(path.path()).and_then(|file| {
                let metadata = file.metadata()?;
                if metadata.is_dir() {
                    return Err(ErrorKind::IsADirectory.into());
                }
                Ok((file, metadata.len()))
            });
            let (file, length) = opened.map_err(|error| failed("open", path, &error))?;
            let reader = LocalReader { file: Arc::new(file), path: path.clone(), length };
            Ok(Box::new(reader) as Box<dyn FileReader>)
        })
    }

    fn create<'a>(
        &'a self,
        path: &'a FilePath,
        options: CreateOptions,
    ) -> BoxFuture<'a, Result<Box<dyn FileWriter>>> {
        of_path("create", path, move |path| {
            let mut open = OpenOptions::new();
            open.write(true);
            match options.if_exists {
                IfExists::Refuse => open.create_new(true),
                IfExists::Replace => open.create(true).truncate(true),
            };
            let created = open.mode(options.permission.unwrap_or(0o666)).open(path.path());
            let created = created.and_then(|file| match options.permission {
                // The process's mask has removed some of the requested bits.
                Some(bits) => file.set_permissions(fs::Permissions::from_mode(bits)).map(|()| file),
                None => Ok(file),
            });
            let file = created.map_err(|error| failed("create", path, &error))?;
            let writer = LocalWriter { file: Arc::new(file), path: path.clone() };
            Ok(Box::new(writer) as Box<dyn FileWriter>)
        })
    }

    fn publish<'a>(
        &'a self,
        from: &'a FilePath,
        to: &'a FilePath,
        if_exists: IfExists,
    ) -> BoxFuture<'a, Result<()>> {
        let to = to.clone();
        of_path("rename", from, move |from| {
            rename(from, &to, if_exists)?;
            sync_directory_of(&to)
        })
    }

    fn publish_all<'a>(
        &'a self,
        renames: &'a [(FilePath, FilePath)],
        if_exists: IfExists,
    ) -> BoxFuture<'a, Result<()>> {
        let Some((_, first)) = renames.first() else { return Box::pin(async { Ok(()) }) };
        let renames = renames.to_vec();
        of_path("rename", first, move |_| {
            for (from, to) in &renames {
                rename(from, to, if_exists)?;
            }
            // Once for each directory.
            let directories: HashMap<_, _> =
                renames.iter().map(|(_, to)| (to.parent(), to)).collect();
            directories.into_values().try_for_each(sync_directory_of)
        })
    }

    fn make_directories<'a>(
        &'a self,
        path: &'a FilePath,
        permission: Option<u32>,
    ) -> BoxFuture<'a, Result<()>> {
        of_path("create directory", path, move |path| {
            make_directories(path.path(), permission)
                .map_err(|error| failed("create directory", path, &error))
        })
    }

    fn delete<'a>(&'a self, path: &'a FilePath, recursive: bool) -> BoxFuture<'a, Result<bool>> {
        of_path("delete", path, move |path| match delete(path.path(), recursive) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed("delete", path, &error)),
        })
    }

    fn set_permission<'a>(
        &'a self,
        path: &'a FilePath,
        permission: u32,
    ) -> BoxFuture<'a, Result<()>> {
        of_path("set the permissions of", path, move |path| {
            let set = fs::set_permissions(path.path(), fs::Permissions::from_mode(permission));
            set.map_err(|error| failed("set the permissions of", path, &error))
        })
    }
}

/// Runs blocking work with a path on a thread that may block.
fn of_path<'a, T: Send + 'static>(
    action: &'static str,
    path: &'a FilePath,
    work: impl FnOnce(&FilePath) -> Result<T> + Send + 'static,
) -> BoxFuture<'a, Result<T>> {
    Box::pin(async move {
        let owned = path.clone();
        finish(action, path, blocking(move || work(&owned)).await)
    })
}

/// The outcome of blocking work; its thread may have ended with its runtime.
fn finish<T>(
    action: &'static str,
    path: &FilePath,
    done: std::result::Result<Result<T>, String>,
) -> Result<T> {
    let path = || path.clone();
    done.unwrap_or_else(|reason| Err(StorageError::OutcomeUnknown { action, path: path(), reason }))
}

fn failed(action: &'static str, path: &FilePath, error: &io::Error) -> StorageError {
    StorageError::of_io(action, path, error)
}

fn status_of(path: &FilePath, metadata: &Metadata) -> FileStatus {
    let kind = match metadata.file_type() {
        kind if kind.is_file() => FileKind::File,
        kind if kind.is_dir() => FileKind::Directory,
        _ => FileKind::Special,
    };
    FileStatus {
        path: path.clone(),
        kind,
        length: if kind == FileKind::File { metadata.len() } else { 0 },
        modified: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
        permission: metadata.mode() & PERMISSION_BITS,
        owner: metadata.uid().to_string(),
        group: metadata.gid().to_string(),
        block_bytes: None,
    }
}

fn list(directory: &FilePath) -> Result<Vec<FileStatus>> {
    let refused = |error: io::Error| failed("list", directory, &error);
    let mut found = Vec::new();
    for entry in fs::read_dir(directory.path()).map_err(refused)? {
        let path = directory.join(entry.map_err(refused)?.file_name());
        match fs::metadata(path.path()) {
            Ok(metadata) => found.push(status_of(&path, &metadata)),
            Err(error) => match fs::symlink_metadata(path.path()) {
                // A link to nothing, or in a circle.
                Ok(link) if link.is_symlink() => found.push(status_of(&path, &link)),
                Ok(_) => return Err(failed("look at", &path, &error)),
                // Removed or renamed since the directory was listed.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(failed("look at", &path, &error)),
            },
        }
    }
    found.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(found)
}

fn rename(from: &FilePath, to: &FilePath, if_exists: IfExists) -> Result<()> {
    let (source, target) = (from.path(), to.path());
    let renamed = match if_exists {
        IfExists::Replace => fs::rename(source, target),
        IfExists::Refuse => rename_without_replacing(source, target),
    };
    renamed.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => StorageError::AlreadyExists { path: to.clone() },
        // One of two names is missing; the error does not say which.
        ErrorKind::NotFound if source.exists() => {
            StorageError::NotFound { path: to.parent().unwrap_or_else(|| to.clone()) }
        }
        _ => failed("rename", from, &error),
    })
}

/// Makes the names in a file's directory survive a power cut.
fn sync_directory_of(to: &FilePath) -> Result<()> {
    let target = to.path();
    let directory = target.parent().filter(|parent| !parent.as_os_str().is_empty());
    let synced = File::open(directory.unwrap_or(Path::new("."))).and_then(|file| file.sync_all());
    synced.map_err(|error| StorageError::OutcomeUnknown {
        action: "write to disk the name",
        path: to.clone(),
        reason: error.to_string(),
    })
}

fn rename_without_replacing(from: &Path, to: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Not every file system can: a second name for a file is refused as reliably.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            fs::hard_link(from, to)?;
            fs::remove_file(from)
        }
        done => done.map_err(io::Error::from),
    }
}

/// Makes a directory and the missing ones above it, from the highest on.
fn make_directories(path: &Path, permission: Option<u32>) -> io::Result<()> {
    let mut missing = Vec::new();
    for directory in path.ancestors().filter(|path| !path.as_os_str().is_empty()) {
        match fs::metadata(directory) {
            Ok(found) if found.is_dir() => break,
            Ok(_) => return Err(unusable(directory, "is not a directory")),
            Err(_) => {}
        }
        match fs::symlink_metadata(directory) {
            Err(error) if is_missing(&error) => missing.push(directory),
            Ok(link) if link.is_symlink() => {
                return Err(unusable(directory, "is a symbolic link that leads to no directory"));
            }
            Ok(_) => {}
            Err(error) => return Err(error),
        }
    }
    while let Some(directory) = missing.pop() {
        match fs::create_dir(directory) {
            Ok(()) => {
                if let Some(bits) = permission {
                    fs::set_permissions(directory, fs::Permissions::from_mode(bits))?;
                }
            }
            // Another process has made it.
            Err(_) if directory.is_dir() => {}
            // As in /proc, and where directories are mounted on demand.
            Err(error) if error.kind() == ErrorKind::NotFound && is_in_directory(directory) => {
                return Err(unusable(directory, "cannot be made: its parent takes no directories"));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether a path does not exist; also if a file stands in the place of one of its directories.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn is_in_directory(path: &Path) -> bool {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new(".")).is_dir()
}

fn unusable(path: &Path, why: &str) -> io::Error {
    io::Error::new(ErrorKind::NotADirectory, format!("{} {why}", path.display()))
}

fn delete(path: &Path, recursive: bool) -> io::Result<()> {
    match (fs::symlink_metadata(path)?.is_dir(), recursive) {
        (true, true) => remove_tree(path),
        (true, false) => fs::remove_dir(path),
        (false, _) => fs::remove_file(path),
    }
}

/// Limit for emptying a directory again because another process wrote into it meanwhile.
const REMOVALS: usize = 100;

/// Removes a directory and its content, also that which another process adds during the removal.
fn remove_tree(path: &Path) -> io::Result<()> {
    for _ in 1..REMOVALS {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {}
            outcome => return outcome,
        }
    }
    fs::remove_dir_all(path)
}

struct LocalReader {
    file: Arc<File>,
    path: FilePath,
    length: u64,
}

impl FileReader for LocalReader {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at<'a>(
        &'a mut self,
        offset: u64,
        buffer: &'a mut [u8],
    ) -> BoxFuture<'a, Result<usize>> {
        Box::pin(async move {
            let read = if tokio::runtime::Handle::try_current().is_err() {
                read_at(&self.file, buffer, offset)
            } else {
                let (file, wanted) = (Arc::clone(&self.file), buffer.len());
                let done = blocking(move || {
                    let mut bytes = vec![0; wanted];
                    let read = read_at(&file, &mut bytes, offset)?;
                    bytes.truncate(read);
                    Ok(bytes)
                });
                let done: io::Result<Vec<u8>> =
                    done.await.unwrap_or_else(|reason| Err(io::Error::other(reason)));
                done.map(|bytes| {
                    for (to, from) in buffer.iter_mut().zip(&bytes) {
                        *to = *from;
                    }
                    bytes.len()
                })
            };
            read.map_err(|error| failed("read", &self.path, &error))
        })
    }
}

fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    // No file is that long, and the system refuses such an offset.
    if offset > u64::MAX / 4 {
        return Ok(0);
    }
    loop {
        match file.read_at(buffer, offset) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

struct LocalWriter {
    file: Arc<File>,
    path: FilePath,
}

impl FileWriter for LocalWriter {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<()>> {
        let file = Arc::clone(&self.file);
        of_path("write to", &self.path, move |path| {
            (&*file).write_all(&bytes).map_err(|error| failed("write to", path, &error))
        })
    }

    fn sync(&mut self) -> BoxFuture<'_, Result<()>> {
        let file = Arc::clone(&self.file);
        of_path("write to disk", &self.path, move |path| sync(&file, path))
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move {
            let Self { file, path } = *self;
            let closed = path.clone();
            finish("write to disk", &path, blocking(move || sync(&file, &closed)).await)
        })
    }
}

fn sync(file: &File, path: &FilePath) -> Result<()> {
    file.sync_all().map_err(|error| failed("write to disk", path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_local_disk_keeps_the_contract() {
        let directory = tempfile::tempdir().unwrap();
        crate::conformance::run(Arc::new(LocalFileSystem), &FilePath::from(directory.path()));
    }

    #[test]
    fn it_keeps_the_contract_on_a_runtime() {
        let directory = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build();
        let runtime = runtime.unwrap();
        let root = FilePath::from(directory.path());
        runtime.block_on(async {
            tokio::task::spawn_blocking(move || {
                crate::conformance::run(Arc::new(LocalFileSystem), &root);
            })
            .await
            .unwrap();
        });
    }

    fn refusal(path: &Path) -> String {
        let path = FilePath::from(path);
        let made = crate::block_on(LocalFileSystem.make_directories(&path, None));
        made.expect_err("a directory cannot be made there").to_string()
    }

    #[test]
    fn directories_that_cannot_be_made_are_named() {
        // The kernel answers "not found" although the parent exists.
        let error = refusal(Path::new("/proc/out/a"));
        assert!(error.contains("/proc/out cannot be made: its parent takes no dir"), "{error}");

        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::os::unix::fs::symlink(at("nothing"), at("dangling")).unwrap();
        std::os::unix::fs::symlink(at("circle"), at("circle")).unwrap();
        fs::write(at("file"), "").unwrap();
        for (path, why) in [
            ("dangling", "dangling is a symbolic link that leads to no directory"),
            ("dangling/a/b", "dangling is a symbolic link that leads to no directory"),
            ("circle", "circle is a symbolic link that leads to no directory"),
            ("file/a", "file is not a directory"),
        ] {
            let error = refusal(&at(path));
            assert!(error.contains(why), "{path}: {error}");
        }
        // As deep as names can be.
        let deep = (0..1_500).fold(at("deep"), |deep, _| deep.join("d"));
        crate::block_on(LocalFileSystem.make_directories(&FilePath::from(&deep), None)).unwrap();
        assert!(deep.is_dir());
    }

    #[test]
    fn a_full_disk_is_told_apart() {
        let full = FilePath::from("/dev/full");
        let written = crate::block_on(async {
            let mut writer = LocalFileSystem.create(&full, CreateOptions::REPLACE).await?;
            writer.write(Bytes::from_static(b"x")).await
        });
        assert!(matches!(written, Err(StorageError::QuotaExceeded { .. })), "{written:?}");
    }
}
