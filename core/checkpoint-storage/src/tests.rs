//! Checkpoints on a disk that works, and on one with faults.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use millstream_storage::{FilePath, StorageError, block_on};
use millstream_types::{CheckpointId, JobId};

use crate::double::{Fault, Faulty};
use crate::{CheckpointFiles, Outcome, ReadError, Segment};

const JOB: JobId = JobId::from_u128(7);
const ID: CheckpointId = CheckpointId::new(7);

fn files(directory: &Path) -> CheckpointFiles {
    CheckpointFiles::open(directory.to_str().unwrap(), JOB).unwrap()
}

fn faulty(directory: &Path, fault: Fault) -> (CheckpointFiles, Faulty) {
    let system = Faulty::new(fault);
    let root = FilePath::from(directory).join(JOB.to_string());
    (CheckpointFiles::on(Arc::new(system.clone()), root), system)
}

/// A state file with one content.
#[derive(Debug)]
struct Written {
    path: String,
    length: u64,
    crc32: u32,
}

async fn write_chunks(
    files: &CheckpointFiles,
    name: &str,
    chunks: Vec<Bytes>,
) -> Result<Written, StorageError> {
    let mut file = files.create_state(ID, name).await?;
    for chunk in chunks {
        if let Err(error) = file.write(chunk).await {
            file.discard().await;
            return Err(error);
        }
    }
    let (path, Segment { length, crc32, .. }) = (file.path(), file.end_content());
    file.close().await?;
    Ok(Written { path, length, crc32 })
}

fn write(files: &CheckpointFiles, name: &str, chunks: &[&str]) -> Result<Written, StorageError> {
    let chunks = chunks.iter().map(|chunk| Bytes::copy_from_slice(chunk.as_bytes())).collect();
    block_on(write_chunks(files, name, chunks))
}

fn store(files: &CheckpointFiles, text: &str) -> Outcome {
    block_on(files.store_metadata(ID, text.as_bytes().to_vec()))
}

/// The names below a directory that are no directories, and those that are and hold nothing.
fn left(directory: &Path) -> Vec<String> {
    fn walk(directory: &Path, top: &Path, found: &mut Vec<String>) {
        let entries: Vec<PathBuf> =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        for path in &entries {
            if path.is_dir() {
                walk(path, top, found);
            } else {
                found.push(path.strip_prefix(top).unwrap().to_str().unwrap().to_owned());
            }
        }
        if entries.is_empty() {
            found.push(format!("{}/", directory.strip_prefix(top).unwrap().display()));
        }
    }
    let mut found = Vec::new();
    walk(directory, directory, &mut found);
    found.sort();
    found
}

#[test]
fn a_checkpoint_is_written_stored_read_and_removed() {
    let directory = tempfile::tempdir().unwrap();
    let files = files(directory.path());
    let root = format!("{}/{JOB}", directory.path().display());
    assert_eq!((files.root(), files.checkpoint(ID)), (root.clone(), format!("{root}/chk-7")));
    assert_eq!(left(directory.path()), ["/"], "opening touches nothing");
    block_on(files.prepare()).unwrap();
    assert_eq!(left(directory.path()), [format!("{JOB}/")], "the probe is gone");

    let one = write(&files, "one", &["abc", "", "defg"]).unwrap();
    let none = write(&files, "none", &[]).unwrap();
    assert_eq!((one.path.as_str(), one.length), (format!("{root}/chk-7/one").as_str(), 7));
    assert_eq!((none.length, none.crc32), (0, 0));
    assert_eq!(block_on(files.read(&one.path, 0, 7, one.crc32)).unwrap(), b"abcdefg");
    let part = crc32fast::hash(b"cde");
    assert_eq!(block_on(files.read(&one.path, 2, 3, part)).unwrap(), b"cde");
    assert_eq!(block_on(files.read(&none.path, 0, 0, 0)).unwrap(), b"");

    assert!(matches!(block_on(files.is_stored(ID)), Outcome::Failed(_)));
    assert_eq!(store(&files, "metadata"), Outcome::Stored);
    assert_eq!(block_on(files.is_stored(ID)), Outcome::Stored);
    assert_eq!(block_on(files.load_metadata(ID)).unwrap(), b"metadata");
    let expected = ["_metadata", "none", "one"].map(|name| format!("{JOB}/chk-7/{name}"));
    assert_eq!(left(directory.path()), expected);

    for _ in 0..2 {
        block_on(files.discard_metadata(ID)).unwrap();
        assert!(block_on(files.load_metadata(ID)).unwrap_err().is_not_found());
        block_on(files.delete(&[one.path.clone(), none.path.clone()])).unwrap();
    }
    assert_eq!(
        left(directory.path()),
        [format!("{JOB}/")],
        "the directory went with its last file"
    );
    write(&files, "two", &["x"]).unwrap();
    block_on(files.delete_checkpoint(ID)).unwrap();
    assert_eq!(left(directory.path()), [format!("{JOB}/")]);
    write(&files, "three", &["x"]).unwrap();
    for _ in 0..2 {
        block_on(files.delete_all()).unwrap();
        block_on(files.delete_checkpoint(ID)).unwrap();
        assert_eq!(left(directory.path()), ["/"]);
    }
}

#[test]
fn names_are_never_reused() {
    let directory = tempfile::tempdir().unwrap();
    let files = files(directory.path());
    let one = write(&files, "one", &["first"]).unwrap();
    let error = write(&files, "one", &["second"]).unwrap_err();
    assert!(matches!(error, StorageError::AlreadyExists { .. }), "{error}");
    assert_eq!(store(&files, "first"), Outcome::Stored);
    let Outcome::Failed(why) = store(&files, "second") else { panic!("it was replaced") };
    assert!(why.contains("chk-7/_metadata exists already and is not replaced"), "{why}");
    assert_eq!(block_on(files.load_metadata(ID)).unwrap(), b"first");
    assert_eq!(block_on(files.read(&one.path, 0, 5, one.crc32)).unwrap(), b"first");
    let expected = ["_metadata", "one"].map(|name| format!("{JOB}/chk-7/{name}"));
    assert_eq!(left(directory.path()), expected, "nothing of the second try is left");

    for (name, why) in [
        ("", "\"\" is not the name of a single file"),
        ("..", "\"..\" is not the name"),
        ("a/b", "\"a/b\" is not the name"),
        ("/etc/x", "is not the name"),
        ("_metadata", "names that begin with _metadata are no state's"),
        ("_metadata.new", "names that begin with _metadata"),
    ] {
        let error = write(&files, name, &["x"]).unwrap_err().to_string();
        assert!(error.contains(why), "{name}: {error}");
    }
}

#[test]
fn files_that_are_not_as_they_were_written_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let files = files(directory.path());
    let one = write(&files, "one", &["abcdefg"]).unwrap();
    let read = |offset, length, crc32| block_on(files.read(&one.path, offset, length, crc32));

    fs::write(&one.path, "abcdef").unwrap();
    let error = read(0, 7, one.crc32).unwrap_err();
    let path = one.path.clone();
    assert_eq!(error, ReadError::Truncated { path, expected: 7, found: 6 });
    let text = format!("state file {} is cut off: it has 6 bytes, and 7 are needed", one.path);
    assert_eq!(error.to_string(), text);
    for (offset, length) in [(u64::MAX, 1), (1, u64::MAX), (u64::MAX, u64::MAX), (7, 0)] {
        let error = read(offset, length, 0).unwrap_err();
        assert!(matches!(error, ReadError::Truncated { .. }), "{error}");
    }

    fs::write(&one.path, "abcdefG").unwrap();
    let error = read(0, 7, one.crc32).unwrap_err().to_string();
    let text = format!(
        "state file {} was altered: bytes 0 to 7 have the checksum {:08x} instead of {:08x}",
        one.path,
        crc32fast::hash(b"abcdefG"),
        one.crc32
    );
    assert_eq!(error, text);

    fs::remove_file(&one.path).unwrap();
    let error = read(0, 7, one.crc32).unwrap_err();
    assert_eq!(error, ReadError::Missing { path: one.path.clone() });
    fs::create_dir(&one.path).unwrap();
    assert!(matches!(read(0, 7, one.crc32), Err(ReadError::Storage(_))));
}

#[test]
fn large_files_are_read_in_pieces() {
    let directory = tempfile::tempdir().unwrap();
    let files = files(directory.path());
    let bytes: Vec<u8> = (0..10_000_000_u32).map(|at| (at * 31 + at / 251) as u8).collect();
    let chunks = bytes.chunks(70_001).map(Bytes::copy_from_slice).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    runtime.block_on(async {
        let task = tokio::spawn(async move {
            let file = write_chunks(&files, "large", chunks).await.unwrap();
            assert_eq!(file.length, 10_000_000);
            let read = files.read(&file.path, 0, file.length, file.crc32).await.unwrap();
            assert!(read == bytes);
            let part = &bytes[1_234_567..9_999_999];
            let read = files.read(&file.path, 1_234_567, part.len() as u64, crc32fast::hash(part));
            assert!(read.await.unwrap() == part);
        });
        task.await.unwrap();
    });
}

#[test]
fn each_content_of_a_file_has_a_checksum() {
    let directory = tempfile::tempdir().unwrap();
    let files = files(directory.path());
    let mut file = block_on(files.create_state(ID, "three")).unwrap();
    let mut write = |text: &'static str| {
        text.split('|').for_each(|chunk| block_on(file.write(chunk.into())).unwrap());
        file.end_content()
    };
    let written = ["ab|c", "", "defg"].map(&mut write);
    let path = file.path();
    block_on(file.close()).unwrap();
    let is = |offset, text: &str| {
        let crc32 = crc32fast::hash(text.as_bytes());
        Segment { offset, length: text.len() as u64, crc32 }
    };
    assert_eq!(written, [is(0, "abc"), is(3, ""), is(3, "defg")]);
    let second = block_on(files.read(&path, 3, 4, written[2].crc32)).unwrap();
    assert_eq!(second, b"defg");
}

#[test]
fn nothing_outside_of_the_jobs_directory_is_read_or_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let files = files(directory.path());
    write(&files, "one", &["x"]).unwrap();
    let root = files.root();
    let other = directory.path().join("other");
    fs::write(&other, "x").unwrap();
    let inside = write(&files, "two", &["x"]).unwrap().path;
    for name in [
        other.to_str().unwrap(),
        &root,
        &format!("{root}/"),
        &format!("{root}/../other"),
        &format!("{root}/chk-7/../../other"),
        &format!("{root}x/chk-7/one"),
        &format!("hdfs://nn{root}/chk-7/one"),
        "other",
        "",
    ] {
        let error = block_on(files.read(name, 0, 1, 0)).unwrap_err();
        let (path, root) = (name.to_owned(), root.clone());
        assert_eq!(error, ReadError::Outside { path, root });
        let error = block_on(files.delete(&[name.to_owned()])).unwrap_err().to_string();
        assert!(error.contains("it is not below"), "{name}: {error}");
    }
    let error = block_on(files.delete(&[other.to_str().unwrap().to_owned(), inside])).unwrap_err();
    assert!(error.to_string().contains("other"), "{error}");
    let kept = [format!("{JOB}/chk-7/one"), "other".to_owned()];
    assert_eq!(left(directory.path()), kept, "it goes on after a failure");
}

#[test]
fn a_directory_that_cannot_hold_checkpoints_is_refused_before_the_job_starts() {
    for (directory, why) in [
        ("relative/dir", "checkpoints need an absolute path"),
        ("", "it is empty"),
        ("file://host/dir", "did you forget a slash"),
        ("s3://bucket/dir", "no file systems with the scheme \"s3\""),
    ] {
        let error = CheckpointFiles::open(directory, JOB).unwrap_err().to_string();
        assert!(error.contains(why), "{directory}: {error}");
    }
    // The system takes no directories there, from root either.
    let error = block_on(files(Path::new("/proc/checkpoints")).prepare()).unwrap_err().to_string();
    assert!(error.contains("/proc/checkpoints cannot be made"), "{error}");
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("file"), "").unwrap();
    let error = block_on(files(&directory.path().join("file")).prepare()).unwrap_err().to_string();
    assert!(error.contains("file is not a directory"), "{error}");

    for fault in [Fault::ReadOnly, Fault::RefusesRename] {
        let output = directory.path().join("new");
        let (files, _) = faulty(&output, fault);
        let error = block_on(files.prepare()).unwrap_err();
        assert!(matches!(error, StorageError::PermissionDenied { .. }), "{error}");
        assert_eq!(left(&output), ["/"], "{fault:?}");
    }
    let doubled = CheckpointFiles::open("/a//b/./", JOB).unwrap();
    assert_eq!(doubled.root(), format!("/a/b/{JOB}"));
    assert_eq!(CheckpointFiles::open("file:///a", JOB).unwrap().root(), format!("/a/{JOB}"));
}

#[test]
fn a_file_that_cannot_be_written_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (files, system) = faulty(directory.path(), Fault::Full);
    block_on(files.prepare()).unwrap();
    let error = write(&files, "one", &["a", "b"]).unwrap_err();
    assert!(matches!(error, StorageError::QuotaExceeded { .. }), "{error}");
    assert_eq!(left(directory.path()), [format!("{JOB}/")]);
    system.set(Fault::ReadOnly);
    let Outcome::Failed(why) = store(&files, "m") else { panic!("it cannot be there") };
    assert!(why.contains("no permission to create"), "{why}");
}

#[test]
fn metadata_whose_publication_failed_is_known_to_be_there_or_not() {
    let directory = tempfile::tempdir().unwrap();
    let (files, system) = faulty(directory.path(), Fault::RefusesRename);
    let Outcome::Failed(why) = store(&files, "m") else { panic!("it cannot be there") };
    assert!(why.contains("no permission to rename"), "{why}");
    assert_eq!(left(directory.path()), [format!("{JOB}/")], "nothing is left of it");

    for fault in [Fault::RenamesTwice, Fault::RenamesUnseen] {
        system.set(fault);
        assert_eq!(store(&files, "m"), Outcome::Stored, "it is there");
        block_on(files.delete_checkpoint(ID)).unwrap();
    }
    system.set(Fault::RenamesBlindly);
    assert!(matches!(store(&files, "m"), Outcome::Unknown(_)));
    system.set(Fault::Blind);
    assert!(matches!(block_on(files.is_stored(ID)), Outcome::Unknown(_)));
    system.set(Fault::None);
    assert_eq!(block_on(files.is_stored(ID)), Outcome::Stored);
    assert_eq!(block_on(files.load_metadata(ID)).unwrap(), b"m");
    block_on(files.delete_checkpoint(ID)).unwrap();

    system.set(Fault::LosesRename);
    assert!(matches!(store(&files, "m"), Outcome::Unknown(_)));
    system.set(Fault::KeepsAll);
    assert!(matches!(block_on(files.is_stored(ID)), Outcome::Unknown(_)), "it may come still");
    system.set(Fault::None);
    assert!(matches!(block_on(files.is_stored(ID)), Outcome::Failed(_)));
}

#[test]
fn metadata_that_was_looked_for_in_vain_does_not_come_later() {
    let directory = tempfile::tempdir().unwrap();
    let (files, system) = faulty(directory.path(), Fault::RenamesLate);
    assert!(matches!(store(&files, "m"), Outcome::Unknown(_)));
    assert!(matches!(block_on(files.is_stored(ID)), Outcome::Failed(_)));
    assert!(!system.catch_up(), "the rename has come, and too late");
    assert!(matches!(block_on(files.is_stored(ID)), Outcome::Failed(_)));
    block_on(files.delete_checkpoint(ID)).unwrap();
    assert!(matches!(store(&files, "m"), Outcome::Unknown(_)));
    assert!(system.catch_up());
    assert_eq!(block_on(files.is_stored(ID)), Outcome::Stored);
}

#[test]
fn failures_of_removals_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let (files, system) = faulty(directory.path(), Fault::None);
    let one = write(&files, "one", &["x"]).unwrap();
    assert_eq!(store(&files, "m"), Outcome::Stored);
    system.set(Fault::KeepsAll);
    assert!(block_on(files.delete(&[one.path])).is_err());
    assert!(block_on(files.discard_metadata(ID)).is_err());
    assert!(block_on(files.delete_checkpoint(ID)).is_err());
    assert!(block_on(files.delete_all()).is_err());
    assert_eq!(block_on(files.is_stored(ID)), Outcome::Stored);
}

#[test]
fn a_directory_may_go_while_others_write_into_it() {
    let directory = tempfile::tempdir().unwrap();
    let files = files(directory.path());
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let files = files.clone();
            thread::spawn(move || {
                for number in 0..200 {
                    let file = write(&files, &format!("{writer}-{number}"), &["x"]).unwrap();
                    block_on(files.delete(&[file.path])).unwrap();
                }
            })
        })
        .collect();
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    assert_eq!(left(directory.path()), [format!("{JOB}/")]);
}
