//! How files are found and cut.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

use millstream_api::Source;

use super::*;
use crate::file::FileSource;
use crate::testing::{context, read_splits};

fn splits(enumerator: &mut FileEnumerator) -> Vec<Vec<(String, u64, u64)>> {
    let mut splits = Vec::new();
    while let NextSplit::Split(split) = enumerator.next_split(0).unwrap() {
        let ranges = split.ranges.into_iter().map(|range| {
            let name = range.path.file_name().unwrap().to_string_lossy().into_owned();
            (name, range.start, range.end)
        });
        splits.push(ranges.collect());
    }
    splits
}

fn range(name: &str, start: u64, end: u64) -> (String, u64, u64) {
    (name.to_owned(), start, end)
}

fn refused(path: impl Into<FilePath>) -> String {
    let mut enumerator = FileEnumerator::new(path.into(), None, None);
    format!("{:#}", enumerator.discover().unwrap_err())
}

#[test]
fn a_large_file_is_cut_and_small_ones_go_together() {
    let directory = tempfile::tempdir().unwrap();
    for (name, len) in [("a", 3 << 20), ("b", 10), ("c", 20), ("d", 0), ("e", 1 << 20)] {
        fs::write(directory.path().join(name), vec![b'x'; len]).unwrap();
    }
    let mut enumerator = FileEnumerator::new(directory.path().into(), Some(2 << 20), None);
    assert_eq!(enumerator.discover().unwrap(), None);
    assert_eq!(
        splits(&mut enumerator),
        [
            vec![range("a", 0, 2 << 20)],
            vec![range("a", 2 << 20, 3 << 20)],
            vec![range("b", 0, 10), range("c", 0, 20)],
            vec![range("e", 0, 1 << 20)],
        ]
    );
    assert_eq!(enumerator.next_split(0).unwrap(), NextSplit::NoMore);
}

#[test]
fn no_split_lies_in_two_blocks() {
    let mut enumerator = FileEnumerator::new("/nowhere".into(), Some(16), None);
    let path = FilePath::from("/a");
    enumerator.unread.push_back(Unread { path, start: 0, len: 90, block_bytes: Some(40) });
    let cuts: Vec<_> = splits(&mut enumerator).concat();
    let ends: Vec<u64> = cuts.into_iter().map(|(_, _, end)| end).collect();
    assert_eq!(ends, [16, 32, 40, 56, 72, 80, 90]);
}

#[test]
fn a_file_that_may_not_be_cut_is_one_split() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.csv");
    fs::write(&path, vec![b'x'; 5 << 20]).unwrap();
    let mut enumerator = FileEnumerator::new(path.into(), None, None);
    enumerator.discover().unwrap();
    assert_eq!(splits(&mut enumerator), [[range("a.csv", 0, u64::MAX)]]);
}

#[test]
fn directories_are_walked_without_hidden_names() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    fs::create_dir_all(root.join("deep/er")).unwrap();
    fs::create_dir(root.join(".hidden")).unwrap();
    for name in ["b", "deep/er/c", ".x", "_SUCCESS", ".hidden/d"] {
        fs::write(root.join(name), "x").unwrap();
    }
    symlink(root.join("nothing"), root.join("dangling")).unwrap();
    let found = list(&FilePath::from(root)).unwrap();
    let found: Vec<PathBuf> = found.iter().map(|file| file.path.path().to_owned()).collect();
    assert_eq!(found, [root.join("b"), root.join("deep/er/c")]);
}

#[test]
fn what_cannot_be_listed_is_named() {
    assert_eq!(refused("/nowhere/at/all"), "there is no file or directory /nowhere/at/all");
    assert_eq!(refused("/dev/null"), "/dev/null is neither a file nor a directory");
    let relative = refused("no-such-file");
    assert!(relative.contains('/') && relative.ends_with("/no-such-file"), "{relative}");

    let directory = tempfile::tempdir().unwrap();
    symlink(directory.path(), directory.path().join("circle")).unwrap();
    let circle = refused(directory.path());
    // The system's own limit on links may come first.
    assert!(circle.contains("in a circle?") || circle.contains("symbolic links"), "{circle}");
}

#[test]
fn watching_picks_up_each_file_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let source = FileSource::text(directory.path()).watch(Duration::from_secs(5));
    let mut enumerator = source.enumerator().unwrap().unwrap();
    let (ctx, woken) = context(0, 1);
    let mut reader = source.reader(&ctx).unwrap();
    let mut new_lines = || {
        assert_eq!(enumerator.discover().unwrap(), Some(Duration::from_secs(5)));
        read_splits(&mut reader, &mut enumerator, &woken).unwrap()
    };

    assert!(new_lines().is_empty());
    fs::write(path("a"), "1\n").unwrap();
    fs::write(path("b"), "2\n").unwrap();
    assert_eq!(new_lines(), ["1", "2"]);
    assert!(new_lines().is_empty());
    fs::write(path("c"), "3\n").unwrap();
    fs::remove_file(path("a")).unwrap();
    assert_eq!(new_lines(), ["3"]);
    fs::write(path("b"), "2 again\n").unwrap();
    let later = SystemTime::now() + Duration::from_secs(60);
    fs::File::open(path("b")).unwrap().set_modified(later).unwrap();
    assert_eq!(new_lines(), ["2 again"]);
    assert!(new_lines().is_empty());
}
