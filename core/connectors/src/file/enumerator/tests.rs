//! Tests of finding files and cutting them into splits.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use millstream_connector::Source;

use super::*;
use crate::file::FileSource;
use crate::testing::{context, read_splits};

/// The size of a split that nothing else goes together with.
const MIB: u64 = 1 << 20;

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
            vec![range("b", 0, 10), range("c", 0, 20), range("d", 0, u64::MAX)],
            vec![range("e", 0, 1 << 20)],
        ]
    );
    assert_eq!(enumerator.next_split(0).unwrap(), NextSplit::NoMore);
}

#[test]
fn no_split_lies_in_two_blocks() {
    let mut enumerator = FileEnumerator::new("/nowhere".into(), Some(16), None).of_raw_bytes();
    let path = FilePath::from("/a");
    enumerator.unread.push_back(Unread {
        path,
        version: (UNIX_EPOCH, 90),
        start: 0,
        end: 90,
        block_bytes: Some(40),
    });
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
    symlink(root.join("itself"), root.join("itself")).unwrap();
    symlink(root.join("deep"), root.join("deep/er/above")).unwrap();
    symlink(root, root.join("all")).unwrap();
    let found = list(&FilePath::from(root)).unwrap();
    let files: Vec<PathBuf> = found.files.iter().map(|file| file.path.path().to_owned()).collect();
    assert_eq!(files, [root.join("b"), root.join("deep/er/c")]);
    let left_out: Vec<&Path> = found.left_out.iter().map(FilePath::path).collect();
    let expected = ["all", "dangling", "deep/er/above", "itself"].map(|name| root.join(name));
    assert_eq!(left_out, expected);
}

#[test]
fn what_cannot_be_listed_is_named() {
    assert_eq!(refused("/nowhere/at/all"), "there is no file or directory /nowhere/at/all");
    assert_eq!(refused("/dev/null"), "/dev/null is neither a file nor a directory");

    let directory = tempfile::tempdir().unwrap();
    let deep = (0..70).fold(directory.path().to_owned(), |deep, _| deep.join("d"));
    fs::create_dir_all(deep).unwrap();
    let deep = refused(directory.path());
    assert!(deep.contains("lies more than 64 directories deep"), "{deep}");
}

#[test]
fn a_watched_directory_may_be_away_for_a_while() {
    let parent = tempfile::tempdir().unwrap();
    let (path, away) = (parent.path().join("in"), parent.path().join("away"));
    fs::create_dir_all(path.join("sub")).unwrap();
    fs::write(path.join("a"), "1\n").unwrap();
    fs::write(path.join("sub/b"), "2\n").unwrap();
    let watch = Some(Duration::from_millis(1));
    let mut enumerator = FileEnumerator::new(path.as_path().into(), Some(100), watch);
    let mut new_files = || {
        enumerator.discover().unwrap();
        splits(&mut enumerator).concat().into_iter().map(|(name, ..)| name).collect::<Vec<_>>()
    };
    assert_eq!(new_files(), ["a", "b"]);
    // The whole directory, then a part of it: what was read is not read again.
    fs::rename(&path, &away).unwrap();
    assert!((0..10).all(|_| new_files().is_empty()));
    fs::rename(&away, &path).unwrap();
    assert_eq!(new_files(), [""; 0]);
    fs::rename(path.join("sub"), &away).unwrap();
    assert_eq!(new_files(), [""; 0]);
    fs::rename(&away, path.join("sub")).unwrap();
    fs::write(path.join("c"), "3\n").unwrap();
    assert_eq!(new_files(), ["c"]);

    // For good.
    fs::rename(&path, &away).unwrap();
    enumerator.discover().unwrap();
    enumerator.failing = Some((100, Instant::now() - PATIENCE));
    let error = format!("{:#}", enumerator.discover().unwrap_err());
    let expected = format!("{} could not be listed for 60 s: there is no file", path.display());
    assert!(error.starts_with(&expected), "{error}");
}

#[test]
fn a_watched_directory_must_be_there_at_the_start() {
    let watch = Some(Duration::from_millis(1));
    let mut enumerator = FileEnumerator::new("/nowhere/at/all".into(), None, watch);
    enumerator.discover().unwrap_err();
}

/// The state of an enumerator as a checkpoint keeps it.
fn kept(enumerator: &mut FileEnumerator) -> FoundFiles {
    postcard::from_bytes(&postcard::to_stdvec(&enumerator.snapshot().unwrap()).unwrap()).unwrap()
}

fn next(enumerator: &mut FileEnumerator) -> (u32, FileSplit) {
    match enumerator.next_split(0).unwrap() {
        NextSplit::Split(split) => (0, split),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_enumerator_that_takes_over_hands_out_the_rest() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let new = || FileEnumerator::new(directory.path().into(), Some(MIB), None);
    fs::write(path("a"), vec![b'x'; 5 << 19]).unwrap();
    let mut before = new();
    before.discover().unwrap();
    let first = next(&mut before);
    before.give_back(0, vec![first.1.clone()]).unwrap();
    let state = [kept(&mut before), kept(&mut before)];
    let (given_back, second) = (next(&mut before), next(&mut before));
    assert_eq!(given_back, first);
    let (begin, rest) = (vec![range("a", 0, MIB)], vec![range("a", 2 * MIB, 5 << 19)]);
    // A split that is not reported was given back, and its range is a piece of its own then.
    let cases = [
        (vec![first, second.clone()], vec![rest.clone()]),
        (vec![second], vec![begin.clone(), rest.clone()]),
    ];
    for ((handed, left), state) in cases.into_iter().zip(state) {
        let mut after = new().restored(state);
        after.was_handed_out(handed).unwrap();
        after.discover().unwrap();
        assert_eq!(splits(&mut after), left);
    }
    // Without any checkpoint files are listed anew.
    let (mut before, mut after) = (new(), new());
    before.discover().unwrap();
    next(&mut before);
    after.was_handed_out(vec![next(&mut before)]).unwrap();
    after.discover().unwrap();
    assert_eq!(splits(&mut after), [begin, rest]);
}

#[test]
fn an_enumerator_that_takes_over_knows_files_that_came_behind_the_checkpoint() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let second = Duration::from_secs(1);
    let new = || FileEnumerator::new(directory.path().into(), Some(MIB), Some(second));
    fs::write(path("a"), "old").unwrap();
    let mut before = new();
    before.discover().unwrap();
    next(&mut before);
    let state = kept(&mut before);
    let later = SystemTime::now() + Duration::from_secs(60);
    fs::write(path("a"), "newer").unwrap();
    fs::File::open(path("a")).unwrap().set_modified(later).unwrap();
    fs::write(path("b"), vec![b'x'; 5 << 19]).unwrap();
    fs::write(path("c"), "gone").unwrap();
    before.discover().unwrap();
    let mut handed = (0..4).map(|_| next(&mut before)).collect::<Vec<_>>();
    assert_eq!(before.next_split(0).unwrap(), NextSplit::Later);
    fs::remove_file(path("c")).unwrap();
    // All but the second piece of b, which was given back.
    let given_back = handed.remove(2);
    assert_eq!(given_back.1.ranges[0].start, MIB);
    let mut after = new().restored(state);
    after.was_handed_out(handed).unwrap();
    for expected in [vec![vec![range("b", MIB, 2 * MIB)]], Vec::new()] {
        after.discover().unwrap();
        assert_eq!(splits(&mut after), expected);
    }
    fs::write(path("b"), "again").unwrap();
    fs::File::open(path("b")).unwrap().set_modified(later).unwrap();
    after.discover().unwrap();
    assert_eq!(splits(&mut after), [[range("b", 0, 5)]]);
}

#[test]
fn watching_picks_up_each_file_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let source = FileSource::text(directory.path()).watch(Duration::from_secs(5));
    let mut enumerator = source.enumerator(None).unwrap();
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
