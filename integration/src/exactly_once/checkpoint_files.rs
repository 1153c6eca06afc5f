//! The files of a job's checkpoints, counted while the job runs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The most directories `chk-*`: one that is kept, one that is pending, and some that are being
/// removed.
const DIRECTORIES_MAX: usize = 6;

/// The directory of one job's checkpoints, on the local disk.
#[derive(Debug)]
pub(super) struct CheckpointFiles {
    directory: PathBuf,
    /// The most files that one checkpoint may have.
    files_max: usize,
    /// The most directories at one look.
    pub(super) directories: usize,
    /// The most files at one look.
    pub(super) files: usize,
}

impl CheckpointFiles {
    /// The files below `directory` of a job whose checkpoints have at most so many files each.
    pub(super) fn new(directory: PathBuf, files_max: usize) -> Self {
        Self { directory, files_max, directories: 0, files: 0 }
    }

    /// Counts the files of the moment.
    ///
    /// # Errors
    /// There are more than a few checkpoints can have.
    pub(super) fn look(&mut self) -> Result<(), String> {
        let directories = list(&self.directory);
        let files = directories.iter().map(|directory| list(directory).len()).sum();
        self.directories = self.directories.max(directories.len());
        self.files = self.files.max(files);
        let files_max = DIRECTORIES_MAX * self.files_max;
        if directories.len() <= DIRECTORIES_MAX && files <= files_max {
            return Ok(());
        }
        Err(format!(
            "{} checkpoints with {files} files are in {}, more than {DIRECTORIES_MAX} with \
             {files_max}",
            directories.len(),
            self.directory.display()
        ))
    }

    /// Whether the directory is gone.
    pub(super) fn are_gone(&self) -> bool {
        let found = fs::metadata(&self.directory);
        found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }

    /// The paths that are left, for the log.
    pub(super) fn left(&self) -> String {
        let directories = list(&self.directory);
        let files = directories.iter().flat_map(|directory| list(directory));
        let mut left: Vec<String> = files.map(|file| file.display().to_string()).collect();
        left.push(self.directory.display().to_string());
        left.join(", ")
    }
}

/// The entries of a directory; none if it is gone.
fn list(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(directory: &Path, checkpoint: usize, files: usize) {
        let directory = directory.join(format!("chk-{checkpoint}"));
        fs::create_dir_all(&directory).unwrap();
        (0..files).for_each(|file| fs::write(directory.join(file.to_string()), "").unwrap());
    }

    #[test]
    fn files_of_a_few_checkpoints_are_allowed_and_more_are_not() {
        let data = tempfile::tempdir().unwrap();
        let directory = data.path().join("job");
        let mut files = CheckpointFiles::new(directory.clone(), 3);
        assert!(files.are_gone());
        files.look().unwrap();
        (1..=6).for_each(|checkpoint| add(&directory, checkpoint, 3));
        files.look().unwrap();
        assert_eq!((files.directories, files.files), (6, 18));
        add(&directory, 7, 0);
        let refusal = files.look().unwrap_err();
        assert!(refusal.starts_with("7 checkpoints with 18 files are in "), "{refusal}");
        fs::remove_dir(directory.join("chk-7")).unwrap();
        add(&directory, 6, 4);
        let refusal = files.look().unwrap_err();
        assert!(refusal.ends_with("more than 6 with 18"), "{refusal}");
        assert!(!files.are_gone() && files.left().contains("chk-6/3, "), "{}", files.left());
    }
}
