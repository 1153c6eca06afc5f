//! The files of one log directory, as REST shows them.
//!
//! Only plain files that lie in the directory itself are listed and read: no links (a user's
//! program could plant one), no pipes, no directories.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use millstream_gateway::{FileChunk, FileError, FileInfo};
use millstream_types::Timestamp;
use rustix::fs::OFlags;

/// At most so many files are listed, the newest ones.
const FILES_MAX: usize = 1000;
/// At most so much is read at once.
const CHUNK_BYTES_MAX: u32 = 1 << 20;

/// A log directory and which of its files are the process's own.
#[derive(Debug, Clone)]
pub struct LogDirectory {
    /// The directory.
    pub dir: PathBuf,
    /// The process's log, also known as `.log`.
    pub log_name: String,
    /// The output of the process and its hosts, also known as `.out`.
    pub out_name: String,
}

impl LogDirectory {
    /// All plain files, newest first.
    pub async fn list(&self) -> Vec<FileInfo> {
        let this = self.clone();
        tokio::task::spawn_blocking(move || this.list_blocking()).await.unwrap_or_default()
    }

    /// A part of a file, at most 1 MiB.
    ///
    /// # Errors
    /// There is no such plain file, or the system refuses.
    pub async fn read(
        &self,
        name: String,
        offset: u64,
        length: u32,
    ) -> Result<FileChunk, FileError> {
        let this = self.clone();
        let unreadable = |reason: String| FileError::Unreadable { name: name.clone(), reason };
        let asked = name.clone();
        tokio::task::spawn_blocking(move || this.read_blocking(&asked, offset, length))
            .await
            .map_err(|error| unreadable(error.to_string()))?
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => FileError::NotFound(name.clone()),
                _ => unreadable(error.to_string()),
            })
    }

    fn list_blocking(&self) -> Vec<FileInfo> {
        let Ok(entries) = fs::read_dir(&self.dir) else { return Vec::new() };
        let mut files: Vec<FileInfo> = entries
            .flatten()
            .filter_map(|entry| {
                // Of the entry itself; a link is not followed.
                let metadata = entry.metadata().ok().filter(is_plain)?;
                Some(FileInfo {
                    name: entry.file_name().into_string().ok()?,
                    size: metadata.len(),
                    modified: Timestamp::from_millis(
                        metadata.mtime() * 1000 + metadata.mtime_nsec() / 1_000_000,
                    ),
                })
            })
            .collect();
        files.sort_by(|a, b| b.modified.cmp(&a.modified).then_with(|| a.name.cmp(&b.name)));
        files.truncate(FILES_MAX);
        files
    }

    fn read_blocking(&self, name: &str, offset: u64, length: u32) -> io::Result<FileChunk> {
        let file = self.open(name)?;
        let size = file.metadata()?.len();
        let wanted = u64::from(length.min(CHUNK_BYTES_MAX)).min(size.saturating_sub(offset));
        let mut data = vec![0; usize::try_from(wanted).unwrap_or(0)];
        let mut filled = 0;
        while let Some(rest) = data.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, offset + filled as u64)? {
                0 => break,
                count => filled += count,
            }
        }
        data.truncate(filled);
        Ok(FileChunk { last: offset.saturating_add(filled as u64) >= size, data })
    }

    fn open(&self, name: &str) -> io::Result<File> {
        let name = match name {
            ".log" => &self.log_name,
            ".out" => &self.out_name,
            name => name,
        };
        let plain = !name.is_empty() && name != "." && name != "..";
        if !plain || name.len() > 255 || name.contains(['/', '\0']) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(self.dir.join(name))
            .map_err(|error| match rustix::io::Errno::from_io_error(&error) {
                // A link.
                Some(rustix::io::Errno::LOOP) => io::ErrorKind::NotFound.into(),
                _ => error,
            })?;
        if is_plain(&file.metadata()?) { Ok(file) } else { Err(io::ErrorKind::NotFound.into()) }
    }
}

/// Whether it is a plain file with one name: a second name could lead to another user's file.
fn is_plain(metadata: &fs::Metadata) -> bool {
    metadata.is_file() && metadata.nlink() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> (tempfile::TempDir, LogDirectory) {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("log");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("tm.log"), "0123456789").unwrap();
        fs::write(temp.path().join("secret"), "secret").unwrap();
        let (log_name, out_name) = ("tm.log".to_owned(), "tm.out".to_owned());
        (temp, LogDirectory { dir, log_name, out_name })
    }

    #[tokio::test]
    async fn a_file_is_read_in_parts() {
        let (_temp, logs) = directory();
        let part = logs.read("tm.log".to_owned(), 3, 4).await.unwrap();
        assert_eq!(part, FileChunk { data: b"3456".to_vec(), last: false });
        let rest = logs.read(".log".to_owned(), 7, u32::MAX).await.unwrap();
        assert_eq!(rest, FileChunk { data: b"789".to_vec(), last: true });
        let beyond = logs.read(".log".to_owned(), u64::MAX, 9).await.unwrap();
        assert_eq!(beyond, FileChunk { data: Vec::new(), last: true });
        assert_eq!(logs.list().await.len(), 1);
    }

    #[tokio::test]
    async fn nothing_outside_the_directory_is_readable() {
        let (temp, logs) = directory();
        let secret = temp.path().join("secret");
        std::os::unix::fs::symlink(&secret, logs.dir.join("link")).unwrap();
        fs::hard_link(&secret, logs.dir.join("hard")).unwrap();
        fs::create_dir(logs.dir.join("dir")).unwrap();
        let pipe = std::process::Command::new("mkfifo").arg(logs.dir.join("pipe")).status();
        assert!(pipe.unwrap().success());
        let long = "x".repeat(5000);
        let absolute = secret.display().to_string();
        let names = [
            "../secret",
            "..",
            ".",
            "",
            "link",
            "hard",
            "dir",
            "pipe",
            "/etc/passwd",
            "a\0b",
            "dir/../tm.log",
            "..%2fsecret",
            ".out",
            &long,
            &absolute,
        ];
        for name in names {
            let result = logs.read(name.to_owned(), 0, 10).await;
            assert_eq!(result, Err(FileError::NotFound(name.to_owned())), "{name:.20}");
        }
        assert_eq!(logs.list().await.len(), 1);
    }
}
