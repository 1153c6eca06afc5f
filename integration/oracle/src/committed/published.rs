//! The published files of a job, as a watcher sees them.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// A published file in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedFile {
    /// The name in its directory.
    pub name: String,
    /// The length in bytes.
    pub length: u64,
    /// A number that is another one after the file was written or replaced.
    pub stamp: u128,
}

/// The place where a job publishes files.
pub trait Published {
    /// Lists the published files. A place that does not exist yet has none.
    ///
    /// # Errors
    /// The place cannot be listed.
    fn list(&self) -> io::Result<Vec<PublishedFile>>;

    /// Reads a file.
    ///
    /// # Errors
    /// The file is gone ([`io::ErrorKind::NotFound`]) or cannot be read.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;
}

/// A directory of the local disk. Names that begin with a dot are not published.
#[derive(Debug, Clone)]
pub struct Directory(pub PathBuf);

impl Published for Directory {
    fn list(&self) -> io::Result<Vec<PublishedFile>> {
        let entries = match std::fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') {
                continue;
            }
            let metadata = match entry.metadata() {
                // A file that was seen before is missed for that, by the listing's reader.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                metadata => metadata?,
            };
            if !metadata.is_file() {
                return Err(io::Error::other(format!("{name} is not a file")));
            }
            let modified = (metadata.mtime().cast_unsigned(), metadata.mtime_nsec());
            let modified = modified.0.wrapping_mul(1_000_000_000).wrapping_add_signed(modified.1);
            let stamp = u128::from(metadata.ino()) << 64 | u128::from(modified);
            files.push(PublishedFile { name, length: metadata.len(), stamp });
        }
        Ok(files)
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        std::fs::read(self.0.join(name))
    }
}

/// Files in memory; the stamp is the same whatever their content is.
impl Published for BTreeMap<String, Vec<u8>> {
    fn list(&self) -> io::Result<Vec<PublishedFile>> {
        let file = |(name, content): (&String, &Vec<u8>)| PublishedFile {
            name: name.clone(),
            length: content.len() as u64,
            stamp: 0,
        };
        Ok(self.iter().map(file).collect())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.get(name).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}
