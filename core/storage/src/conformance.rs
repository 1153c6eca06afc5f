//! The conformance suite of file systems. An implementation runs it on an empty directory of its
//! own: `conformance::run(files, &directory)`; it panics where a promise is not kept.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a suite of tests fails by panicking"
)]

use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::blocking::block_on;
use crate::error::{Result, StorageError};
use crate::file_system::{
    CreateOptions, FileKind, FileStatus, FileSystem, FileWriter, IfExists, read_all, write_all,
};
use crate::path::FilePath;

/// Larger than any file of the suite.
const BYTES_MAX: u64 = 64 << 20;
/// Number of threads that race for a name.
const RACERS: usize = 8;
/// Clocks of two machines may differ by this much.
const CLOCKS_APART: Duration = Duration::from_secs(60);

/// Runs the suite in `root`, an empty directory.
///
/// # Panics
/// The file system does not keep a promise.
pub fn run(files: Arc<dyn FileSystem>, root: &FilePath) {
    let suite = Suite { files };
    for (name, check) in CHECKS {
        let directory = root.join(name);
        suite.make(&directory).unwrap_or_else(|error| panic!("{name}: {error}"));
        check(&suite, &directory);
        assert!(suite.delete(&directory, true).unwrap(), "{name}: its directory is gone");
    }
    assert_eq!(suite.names(root), Vec::<String>::new());
}

type Check = fn(&Suite, &FilePath);

const CHECKS: [(&str, Check); 11] = [
    ("contents", contents_are_read_as_they_were_written),
    ("ranges", ranges_are_read_wherever_they_are),
    ("status", the_status_says_what_there_is),
    ("listing", directories_are_listed_by_name),
    ("creation", a_file_is_created_once_unless_it_may_be_replaced),
    ("racing", one_of_many_creates_a_file),
    ("publication", a_file_is_published_at_once),
    ("durability", what_is_synced_is_kept),
    ("permissions", permission_bits_are_what_was_said),
    ("deletion", what_is_deleted_is_gone),
    ("names", hostile_names_are_kept_or_refused),
];

struct Suite {
    files: Arc<dyn FileSystem>,
}

impl Suite {
    fn make(&self, path: &FilePath) -> Result<()> {
        block_on(self.files.make_directories(path, Some(0o755)))
    }

    fn create(&self, path: &FilePath, options: CreateOptions) -> Result<Box<dyn FileWriter>> {
        block_on(self.files.create(path, options))
    }

    fn put(&self, path: &FilePath, bytes: impl AsRef<[u8]>) -> Result<()> {
        self.put_with(path, CreateOptions::NEW, bytes)
    }

    fn put_with(
        &self,
        path: &FilePath,
        options: CreateOptions,
        bytes: impl AsRef<[u8]>,
    ) -> Result<()> {
        let bytes = Bytes::copy_from_slice(bytes.as_ref());
        block_on(write_all(&*self.files, path, options, bytes))
    }

    fn get(&self, path: &FilePath) -> Result<Vec<u8>> {
        block_on(read_all(&*self.files, path, BYTES_MAX))
    }

    fn status(&self, path: &FilePath) -> Result<FileStatus> {
        block_on(self.files.status(path))
    }

    fn publish(&self, from: &FilePath, to: &FilePath, if_exists: IfExists) -> Result<()> {
        block_on(self.files.publish(from, to, if_exists))
    }

    fn delete(&self, path: &FilePath, recursive: bool) -> Result<bool> {
        block_on(self.files.delete(path, recursive))
    }

    fn names(&self, directory: &FilePath) -> Vec<String> {
        let listed = block_on(self.files.list(directory)).unwrap();
        let name = |status: FileStatus| {
            assert_eq!(status.path.parent().as_ref(), Some(directory));
            status.path.file_name().unwrap().to_str().unwrap().to_owned()
        };
        listed.into_iter().map(name).collect()
    }

    fn exists(&self, path: &FilePath) -> bool {
        match self.status(path) {
            Ok(_) => true,
            Err(StorageError::NotFound { .. }) => false,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Bytes that differ from one place to the next.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from((at * 31 + at / 251) % 256).unwrap()).collect()
}

fn contents_are_read_as_they_were_written(suite: &Suite, directory: &FilePath) {
    for length in [0, 1, 100_000, 3 << 20] {
        let (path, bytes) = (directory.join(format!("{length}")), pattern(length));
        let mut writer = suite.create(&path, CreateOptions::NEW).unwrap();
        for piece in bytes.chunks(70_001) {
            block_on(writer.write(Bytes::copy_from_slice(piece))).unwrap();
        }
        block_on(writer.close()).unwrap();
        assert!(suite.get(&path).unwrap() == bytes, "{length} bytes differ");
    }
    let large = directory.join("100000");
    let error = block_on(read_all(&*suite.files, &large, 99_999)).unwrap_err();
    assert!(matches!(error, StorageError::Other { .. }), "{error}");
}

fn ranges_are_read_wherever_they_are(suite: &Suite, directory: &FilePath) {
    let (path, bytes) = (directory.join("file"), pattern(300_000));
    suite.put(&path, &bytes).unwrap();
    let mut reader = block_on(suite.files.open(&path)).unwrap();
    assert_eq!(reader.length(), 300_000);
    let mut buffer = vec![0; 1000];
    for offset in [0_usize, 999, 250_000, 1, 299_500, 299_999] {
        let read = block_on(reader.read_at(offset as u64, &mut buffer)).unwrap();
        assert!(read > 0 && buffer[..read] == bytes[offset..offset + read], "at {offset}");
    }
    for offset in [300_000, 300_001, 1 << 40, u64::MAX / 2] {
        assert_eq!(block_on(reader.read_at(offset, &mut buffer)).unwrap(), 0, "at {offset}");
    }
    assert_eq!(block_on(reader.read_at(0, &mut [])).unwrap(), 0);
    let error = block_on(suite.files.open(&directory.join("none"))).err().unwrap();
    assert!(error.is_not_found(), "{error}");
    let error = block_on(suite.files.open(directory)).err().unwrap();
    assert!(!error.is_not_found(), "a directory was opened: {error}");
}

fn the_status_says_what_there_is(suite: &Suite, directory: &FilePath) {
    let path = directory.join("file");
    suite.put(&path, "four").unwrap();
    let status = suite.status(&path).unwrap();
    assert_eq!((status.kind, status.length, &status.path), (FileKind::File, 4, &path));
    assert!(!status.owner.is_empty());
    let now = SystemTime::now();
    let apart = now.duration_since(status.modified).unwrap_or_else(|error| error.duration());
    assert!(apart < CLOCKS_APART && status.modified_ms() > 1_600_000_000_000, "{status:?}");
    let status = suite.status(directory).unwrap();
    assert!(status.is_directory() && status.length == 0, "{status:?}");

    let error = suite.status(&directory.join("none")).unwrap_err();
    assert_eq!(error, StorageError::NotFound { path: directory.join("none") });
    // Nothing is below a file; whether that is missing or wrong is the file system's to say.
    assert!(suite.status(&path.join("below")).is_err());
}

fn directories_are_listed_by_name(suite: &Suite, directory: &FilePath) {
    assert_eq!(suite.names(directory), Vec::<String>::new());
    suite.make(&directory.join("deep/er")).unwrap();
    for name in ["b", "a", ".hidden", "B", "deep/er/c"] {
        suite.put(&directory.join(name), name).unwrap();
    }
    assert_eq!(suite.names(directory), [".hidden", "B", "a", "b", "deep"]);
    let listed = block_on(suite.files.list(directory)).unwrap();
    let kinds: Vec<bool> = listed.iter().map(FileStatus::is_directory).collect();
    assert_eq!(kinds, [false, false, false, false, true]);
    assert_eq!(listed[0].length, 7);
    // Long listings come in several answers.
    for number in 0..250 {
        suite.make(&directory.join(format!("deep/{number:04}"))).unwrap();
    }
    assert_eq!(suite.names(&directory.join("deep")).len(), 251);

    let error = block_on(suite.files.list(&directory.join("none"))).unwrap_err();
    assert!(error.is_not_found(), "{error}");
    let error = block_on(suite.files.list(&directory.join("a"))).unwrap_err();
    assert!(matches!(error, StorageError::Other { .. }), "{error}");
}

fn a_file_is_created_once_unless_it_may_be_replaced(suite: &Suite, directory: &FilePath) {
    let path = directory.join("file");
    suite.put(&path, "first").unwrap();
    let error = suite.put(&path, "second").unwrap_err();
    assert_eq!(error, StorageError::AlreadyExists { path: path.clone() });
    assert_eq!(suite.get(&path).unwrap(), b"first");
    suite.put_with(&path, CreateOptions::REPLACE, "3").unwrap();
    assert_eq!(suite.get(&path).unwrap(), b"3");
    for options in [CreateOptions::NEW, CreateOptions::REPLACE] {
        let error = suite.create(directory, options).err().unwrap();
        assert!(!error.is_not_found() && !error.is_transient(), "{error}");
        let orphan = directory.join("none/file");
        let error = suite.create(&orphan, options).err().unwrap();
        assert!(error.is_not_found(), "{error}");
        assert!(suite.create(&path.join("below"), options).is_err());
    }
    // Directories may be made again, but never in the place of a file.
    suite.make(directory).unwrap();
    assert!(suite.make(&path).is_err() && suite.make(&path.join("below")).is_err());
    assert_eq!(suite.get(&path).unwrap(), b"3");
}

fn one_of_many_creates_a_file(suite: &Suite, directory: &FilePath) {
    for round in 0..5 {
        let path = directory.join(format!("lock-{round}"));
        let racers: Vec<_> = (0..RACERS)
            .map(|racer| {
                let (files, path) = (Arc::clone(&suite.files), path.clone());
                thread::spawn(move || {
                    let racing = Suite { files };
                    racing.put(&path, format!("{racer}"))
                })
            })
            .collect();
        let outcomes: Vec<_> = racers.into_iter().map(|racer| racer.join().unwrap()).collect();
        let winners: Vec<usize> = (0..RACERS).filter(|racer| outcomes[*racer].is_ok()).collect();
        assert_eq!(winners.len(), 1, "{outcomes:?}");
        assert_eq!(suite.get(&path).unwrap(), winners[0].to_string().as_bytes());
        let lost = outcomes
            .iter()
            .filter(|outcome| matches!(outcome, Err(StorageError::AlreadyExists { .. })));
        assert_eq!(lost.count(), RACERS - 1, "{outcomes:?}");
    }
}

fn a_file_is_published_at_once(suite: &Suite, directory: &FilePath) {
    let (from, to) = (directory.join("from"), directory.join("to"));
    suite.put(&from, "one").unwrap();
    suite.publish(&from, &to, IfExists::Refuse).unwrap();
    assert_eq!((suite.exists(&from), suite.get(&to).unwrap()), (false, b"one".to_vec()));

    suite.put(&from, "two").unwrap();
    let error = suite.publish(&from, &to, IfExists::Refuse).unwrap_err();
    assert_eq!(error, StorageError::AlreadyExists { path: to.clone() });
    assert_eq!((suite.get(&from).unwrap(), suite.get(&to).unwrap()), ("two".into(), "one".into()));
    suite.publish(&from, &to, IfExists::Replace).unwrap();
    assert_eq!((suite.exists(&from), suite.get(&to).unwrap()), (false, b"two".to_vec()));

    let error = suite.publish(&from, &to, IfExists::Replace).unwrap_err();
    assert_eq!(error, StorageError::NotFound { path: from.clone() });
    assert_eq!(suite.get(&to).unwrap(), b"two");
    let orphan = directory.join("none/to");
    let error = suite.publish(&to, &orphan, IfExists::Refuse).unwrap_err();
    assert_eq!(error, StorageError::NotFound { path: directory.join("none") });
    let busy = directory.join("busy");
    suite.make(&busy.join("below")).unwrap();
    assert!(suite.publish(&to, &busy, IfExists::Replace).is_err());
    assert_eq!(suite.get(&to).unwrap(), b"two");
    readers_see_one_of_two_files(suite, directory);
}

/// While a file is replaced again and again, its readers find either whole.
fn readers_see_one_of_two_files(suite: &Suite, directory: &FilePath) {
    let to = directory.join("swapped");
    suite.put(&to, vec![b'0'; 5000]).unwrap();
    let (files, path) = (Arc::clone(&suite.files), to.clone());
    let reader = thread::spawn(move || {
        let suite = Suite { files };
        for _ in 0..30 {
            // The opened file may be replaced before it is read: an error is allowed, mixed content
            // is not.
            if let Ok(bytes) = suite.get(&path) {
                assert!(bytes.len() == 5000 && bytes.iter().all(|byte| *byte == bytes[0]));
            }
            assert!(suite.exists(&path));
        }
    });
    for round in 0..20 {
        let from = directory.join(format!("new-{round}"));
        suite.put(&from, vec![b'a' + round; 5000]).unwrap();
        suite.publish(&from, &to, IfExists::Replace).unwrap();
    }
    reader.join().unwrap();
}

fn what_is_synced_is_kept(suite: &Suite, directory: &FilePath) {
    let path = directory.join("file");
    let mut writer = suite.create(&path, CreateOptions::NEW).unwrap();
    block_on(writer.sync()).unwrap();
    block_on(writer.write(Bytes::from_static(b"synced"))).unwrap();
    block_on(writer.sync()).unwrap();
    match suite.get(&path) {
        Ok(seen) => assert_eq!(seen, b"synced"),
        Err(error) => assert!(error.is_transient(), "{error}"),
    }
    block_on(writer.write(Bytes::from_static(b" and closed"))).unwrap();
    block_on(writer.close()).unwrap();
    assert_eq!(suite.get(&path).unwrap(), b"synced and closed");
    // A writer that is dropped may leave a file or not, and the name can be used again.
    let mut writer = suite.create(&directory.join("left"), CreateOptions::NEW).unwrap();
    block_on(writer.write(Bytes::from_static(b"left"))).unwrap();
    drop(writer);
    suite.put_with(&directory.join("left"), CreateOptions::REPLACE, "new").unwrap();
    assert_eq!(suite.get(&directory.join("left")).unwrap(), b"new");
}

fn permission_bits_are_what_was_said(suite: &Suite, directory: &FilePath) {
    let bits = |path: &FilePath| suite.status(path).unwrap().permission;
    for permission in [0o600, 0o644, 0o666, 0o755, 0o777] {
        let (file, deep) = (format!("f{permission:o}"), format!("d{permission:o}/deep"));
        let (file, deep) = (directory.join(file), directory.join(deep));
        suite.put_with(&file, CreateOptions::NEW.permission(permission), "x").unwrap();
        assert_eq!(bits(&file), permission);
        if permission & 0o100 != 0 {
            block_on(suite.files.make_directories(&deep, Some(permission))).unwrap();
            assert_eq!((bits(&deep), bits(&deep.parent().unwrap())), (permission, permission));
            // Existing directories stay as they are.
            block_on(suite.files.make_directories(&deep, Some(0o700))).unwrap();
            assert_eq!(bits(&deep), permission);
        }
    }
    let file = directory.join("f600");
    block_on(suite.files.set_permission(&file, 0o640)).unwrap();
    assert_eq!(bits(&file), 0o640);
    let sticky = directory.join("d777");
    block_on(suite.files.set_permission(&sticky, 0o1777)).unwrap();
    assert_eq!(bits(&sticky), 0o1777);
    let error = block_on(suite.files.set_permission(&directory.join("none"), 0o600)).unwrap_err();
    assert!(error.is_not_found(), "{error}");
    let unsaid = directory.join("unsaid");
    suite.put(&unsaid, "x").unwrap();
    assert_eq!(bits(&unsaid) & 0o611, 0o600, "what nobody asked for");
}

fn what_is_deleted_is_gone(suite: &Suite, directory: &FilePath) {
    let file = directory.join("full/file");
    suite.make(&directory.join("full")).unwrap();
    suite.put(&file, "x").unwrap();
    let error = suite.delete(&directory.join("full"), false).unwrap_err();
    assert!(matches!(error, StorageError::Other { .. }), "{error}");
    assert!(suite.exists(&file));
    assert!(suite.delete(&file, false).unwrap());
    assert!(!suite.delete(&file, false).unwrap() && !suite.exists(&file));
    assert!(suite.delete(&directory.join("full"), false).unwrap());
    suite.make(&directory.join("deep/er/still")).unwrap();
    suite.put(&directory.join("deep/er/file"), "x").unwrap();
    assert!(suite.delete(&directory.join("deep"), true).unwrap());
    assert!(!suite.exists(&directory.join("deep")));
    assert!(!suite.delete(&directory.join("deep"), true).unwrap());
}

fn hostile_names_are_kept_or_refused(suite: &Suite, directory: &FilePath) {
    for name in [
        "with space",
        "50%",
        "%2e%2e",
        "a+b&c=d?e#f",
        "'quote\"",
        "tab\there",
        "line\nbreak",
        "~",
        "ümläut",
        "🦀",
        "-rf",
        "*",
        "{a,b}",
        "[a]",
        "$HOME",
        "back\\slash",
        "..x",
        "x..",
        "a,b;c",
        "a:b",
    ] {
        let path = directory.join(name);
        let kept = suite.put(&path, name);
        if kept.is_ok() {
            assert_eq!(suite.get(&path).unwrap(), name.as_bytes(), "{name:?}");
            assert_eq!(suite.names(directory), [name]);
            let other = directory.join(format!("{name}.new"));
            suite.publish(&path, &other, IfExists::Refuse).unwrap();
            assert!(suite.delete(&other, false).unwrap(), "{name:?}");
        }
        assert_eq!(suite.names(directory), Vec::<String>::new(), "{name:?}: {kept:?}");
    }
    // A name as long as a directory entry may be, and ones that no file system takes.
    suite.put(&directory.join("x".repeat(255)), "long").unwrap();
    assert!(suite.delete(&directory.join("x".repeat(255)), false).unwrap());
    for name in ["x".repeat(9000), "nul\0nul".to_owned()] {
        let path = directory.join(&name);
        assert!(suite.put(&path, "x").is_err() && suite.make(&path).is_err());
        let error = suite.status(&path).unwrap_err();
        assert!(!error.is_transient(), "{error}");
    }
}
