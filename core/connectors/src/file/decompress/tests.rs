//! Files that independent programs have compressed, whole and broken.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use millstream_storage::{
    BoxFuture, CreateOptions, FilePath, FileReader, FileStatus, FileSystem, FileSystems,
    FileWriter, IfExists, LocalFileSystem, OpenFileSystem, StorageError,
};

use super::*;
use crate::file::{FileSource, OnBadRecord};
use crate::testing::read_source;

const FORMATS: [Compression; 4] =
    [Compression::Gzip, Compression::Zstd, Compression::Bzip2, Compression::Xz];

/// Compresses the bytes by the format's own program.
fn compressed(format: Compression, bytes: &[u8]) -> Vec<u8> {
    let mut program = Command::new(format.to_string())
        .args(["-c", "-q"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("gzip, zstd, bzip2 and xz are installed");
    let mut input = program.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || input.write_all(&bytes).unwrap());
    let output = program.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    output.stdout
}

/// The lines of a file with these bytes and this name.
fn lines_of(name: &str, bytes: &[u8]) -> Result<Vec<String>, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    fs::write(&path, bytes).unwrap();
    let source = FileSource::text(path).split_bytes(100);
    read_source(&source).map(|(lines, _)| lines).map_err(|error| format!("{error:#}"))
}

fn lines(bytes: &[u8]) -> Result<Vec<String>, String> {
    lines_of("input", bytes)
}

fn text(lines: u32) -> String {
    (0..lines).fold(String::new(), |mut text, n| {
        writeln!(text, "line {n} {}", n.wrapping_mul(2_654_435_761)).unwrap();
        text
    })
}

#[test]
fn a_compressed_file_is_read_whatever_its_name_and_size() {
    for count in [0, 1, 30, 50_000] {
        let text = text(count);
        let expected: Vec<&str> = text.lines().collect();
        for format in FORMATS {
            let found = lines(&compressed(format, text.as_bytes())).unwrap();
            assert!(found == expected, "{format}, {count} lines");
        }
    }
}

#[test]
fn a_line_may_go_on_in_the_next_member() {
    for format in FORMATS {
        let parts: [&[u8]; 5] = [b"one\ntw", b"", b"o", b"\nthr", b"ee"];
        let members: Vec<Vec<u8>> = parts.iter().map(|part| compressed(format, part)).collect();
        assert_eq!(lines(&members.concat()).unwrap(), ["one", "two", "three"], "{format}");
    }
}

#[test]
fn many_members_are_one_file() {
    for format in FORMATS {
        let member = compressed(format, b"a line\n");
        let found = lines(&member.repeat(3_000)).unwrap();
        assert!(found.len() == 3_000 && found.iter().all(|line| line == "a line"), "{format}");
    }
}

#[test]
fn a_file_that_is_cut_off_is_never_read_short() {
    for (format, name) in [
        (Compression::Gzip, "a.gz"),
        (Compression::Zstd, "a.zst"),
        (Compression::Bzip2, "a.bz2"),
        (Compression::Xz, "a.xz"),
    ] {
        let whole = compressed(format, text(20).as_bytes());
        for end in 1..whole.len() {
            let error = lines_of(name, &whole[..end]).unwrap_err();
            assert!(error.contains(&format!("({format})")), "{format}, {end} bytes: {error}");
            assert!(error.contains("cut off"), "{format}, {end} bytes: {error}");
        }
        // The second member is cut off.
        let two = [whole.clone(), whole.clone()].concat();
        for end in whole.len() + 1..two.len() {
            lines_of(name, &two[..end]).unwrap_err();
        }
    }
}

#[test]
fn a_damaged_file_is_refused() {
    let text = text(200);
    let expected: Vec<&str> = text.lines().collect();
    for format in FORMATS {
        let whole = compressed(format, text.as_bytes());
        let places: Vec<usize> = (0..whole.len()).step_by(7).collect();
        let mut refused = 0;
        for &at in &places {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            // Some bytes of headers mean nothing, and without its magic a file is text.
            match lines(&damaged) {
                Ok(found) => assert!(at < 10 || found == expected, "{format}, byte {at}"),
                Err(_) => refused += 1,
            }
        }
        assert!(refused * 10 > places.len() * 8, "{format}: {refused} of {} bytes", places.len());
    }
}

#[test]
fn nothing_else_may_follow() {
    for format in FORMATS {
        let whole = compressed(format, b"a line\n");
        for garbage in [&b"x"[..], b"garbage that is longer than any header", b"\0\0\0\0x"] {
            let error = lines(&[&whole, garbage].concat()).unwrap_err();
            let at = whole.len();
            assert!(error.contains(&format!("something that is not {format} follows")), "{error}");
            assert!(error.contains(&format!("at byte {at}")) || garbage[0] == 0, "{error}");
        }
        let other = if format == Compression::Gzip { Compression::Xz } else { Compression::Gzip };
        lines(&[&whole[..], &compressed(other, b"x\n")].concat()).unwrap_err();
        let padded = lines(&[&whole, &[0; 512][..]].concat());
        let may_be_padded = matches!(format, Compression::Gzip | Compression::Xz);
        assert_eq!(padded.is_ok(), may_be_padded, "{format}: {padded:?}");
    }
    // Streams of xz may have zeros between them.
    let xz = compressed(Compression::Xz, b"a line\n");
    assert_eq!(lines(&[&xz, &[0; 8][..], &xz].concat()).unwrap(), ["a line", "a line"]);
    lines(&[&xz, &[0; 3][..]].concat()).unwrap_err();
}

#[test]
fn frames_of_zstd_without_data_are_skipped() {
    let frame = compressed(Compression::Zstd, b"a line\n");
    let skipped = [&b"\x53\x2a\x4d\x18\x05\0\0\0"[..], b"12345"].concat();
    let nothing = b"\x50\x2a\x4d\x18\0\0\0\0".to_vec();
    let all = [&skipped, &nothing, &frame, &skipped, &frame, &nothing].map(Vec::as_slice).concat();
    assert_eq!(lines(&all).unwrap(), ["a line", "a line"]);
    assert_eq!(lines(&nothing).unwrap(), [""; 0]);
    let error = lines(&[&frame[..], &skipped[..10]].concat()).unwrap_err();
    assert!(error.contains("cut off"), "{error}");
    let error = lines(b"\x53\x2a\x4d\x18\xff\xff\xff\xff123").unwrap_err();
    assert!(error.contains("cut off"), "{error}");
}

#[test]
fn what_a_header_asks_for_is_limited() {
    // A frame with a window of 256 MiB and one raw block of 1 byte.
    let frame = |window: u8| [b"\x28\xb5\x2f\xfd\0".to_vec(), vec![window, 9, 0, 0, b'x']].concat();
    let error = lines(&frame(0x90)).unwrap_err();
    assert!(error.contains("it needs more than 128 MiB of memory"), "{error}");
    assert_eq!(lines(&frame(0x88)).unwrap(), ["x"]);

    // A block header that asks for a dictionary of 4 GiB.
    let mut xz = compressed(Compression::Xz, b"a line\n");
    let header = 12..12 + (usize::from(xz[12]) + 1) * 4;
    let dictionary = xz[header.clone()].windows(2).position(|it| it == b"\x21\x01").unwrap() + 14;
    xz[dictionary] = 40;
    let mut crc = flate2::Crc::new();
    crc.update(&xz[header.start..header.end - 4]);
    xz[header.end - 4..header.end].copy_from_slice(&crc.sum().to_le_bytes());
    let error = lines(&xz).unwrap_err();
    assert!(error.contains("it needs more than 128 MiB of memory"), "{error}");
}

#[test]
fn what_is_in_a_compressed_file_is_looked_at_too() {
    let xz = |bytes: &[u8]| compressed(Compression::Xz, bytes);
    assert_eq!(lines(&xz("\u{feff}a line".as_bytes())).unwrap(), ["a line"]);
    assert_eq!(lines_of("a.bz2", &compressed(Compression::Bzip2, b"B")).unwrap(), ["B"]);
    let error = lines(&xz(b"\xff\xfea\0")).unwrap_err();
    assert!(error.contains("is UTF-16 text"), "{error}");
    let error = lines(&compressed(Compression::Gzip, &xz(b"a line"))).unwrap_err();
    assert!(error.contains("is compressed twice"), "{error}");
}

#[test]
fn every_format_of_records_may_be_compressed() {
    let directory = tempfile::tempdir().unwrap();
    let mut csv = "\nn,name\n".to_owned();
    (0..1_000).for_each(|n| writeln!(csv, "{n},name {n}").unwrap());
    for format in FORMATS {
        let path = directory.path().join(format.to_string());
        fs::write(&path, compressed(format, csv.as_bytes())).unwrap();
        let source = FileSource::csv::<(u32, String)>(&path).split_at_newlines().split_bytes(100);
        let (rows, _) = read_source(&source.on_bad_record(OnBadRecord::Fail)).unwrap();
        assert_eq!(rows.len(), 1_000);
        assert_eq!(rows[999], (999, "name 999".to_owned()));
    }
}

#[test]
fn raw_bytes_are_left_as_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.gz");
    let bytes = compressed(Compression::Gzip, b"a line\n");
    fs::write(&path, &bytes).unwrap();
    let source = FileSource::byte_lines(&path).raw_bytes().split_bytes(5);
    let lines = read_source(&source).unwrap().0;
    assert_eq!(lines.join(&b'\n'), bytes.strip_suffix(b"\n").unwrap_or(&bytes));
}

#[test]
fn zeros_without_end_take_little_memory() {
    let megabytes = millstream_soak::scale(100, 10_000_usize);
    let megabyte = compressed(Compression::Gzip, &vec![0; 1_000_000]);
    let line = compressed(Compression::Gzip, b"\n");
    let zeros = megabyte.repeat(megabytes);
    let error = lines(&zeros).unwrap_err();
    assert!(error.starts_with("the line at byte 0 of ") && error.contains("16777216"), "{error}");

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("zeros");
    fs::write(&path, [megabyte, line].concat().repeat(megabytes)).unwrap();
    let source = FileSource::parse_lines(&path, |line: &[u8]| Ok(line.len()));
    let lengths = read_source(&source).unwrap().0;
    assert_eq!(lengths, vec![1_000_000; megabytes]);
}

/// The local disk under another scheme, which gives a few bytes at a time as a network does.
#[derive(Debug)]
struct Elsewhere;

struct Dribble(Box<dyn FileReader>);

impl FileReader for Dribble {
    fn length(&self) -> u64 {
        self.0.length()
    }

    fn read_at<'a>(
        &'a mut self,
        offset: u64,
        buffer: &'a mut [u8],
    ) -> BoxFuture<'a, Result<usize, StorageError>> {
        let few = buffer.len().min(3);
        self.0.read_at(offset, &mut buffer[..few])
    }
}

fn here(path: &FilePath) -> FilePath {
    FilePath::from(path.path())
}

impl FileSystem for Elsewhere {
    fn status<'a>(&'a self, path: &'a FilePath) -> BoxFuture<'a, Result<FileStatus, StorageError>> {
        Box::pin(async {
            let status = LocalFileSystem.status(&here(path)).await?;
            Ok(FileStatus { path: path.clone(), ..status })
        })
    }

    fn open<'a>(
        &'a self,
        path: &'a FilePath,
    ) -> BoxFuture<'a, Result<Box<dyn FileReader>, StorageError>> {
        Box::pin(async {
            let reader = LocalFileSystem.open(&here(path)).await?;
            Ok(Box::new(Dribble(reader)) as Box<dyn FileReader>)
        })
    }

    fn list<'a>(
        &'a self,
        _directory: &'a FilePath,
    ) -> BoxFuture<'a, Result<Vec<FileStatus>, StorageError>> {
        unreachable!("only files are read")
    }

    fn create<'a>(
        &'a self,
        _path: &'a FilePath,
        _options: CreateOptions,
    ) -> BoxFuture<'a, Result<Box<dyn FileWriter>, StorageError>> {
        unreachable!("files are only read")
    }

    fn publish<'a>(
        &'a self,
        _from: &'a FilePath,
        _to: &'a FilePath,
        _if_exists: IfExists,
    ) -> BoxFuture<'a, Result<(), StorageError>> {
        unreachable!("files are only read")
    }

    fn make_directories<'a>(
        &'a self,
        _path: &'a FilePath,
        _permission: Option<u32>,
    ) -> BoxFuture<'a, Result<(), StorageError>> {
        unreachable!("files are only read")
    }

    fn delete<'a>(
        &'a self,
        _path: &'a FilePath,
        _recursive: bool,
    ) -> BoxFuture<'a, Result<bool, StorageError>> {
        unreachable!("files are only read")
    }

    fn set_permission<'a>(
        &'a self,
        _path: &'a FilePath,
        _permission: u32,
    ) -> BoxFuture<'a, Result<(), StorageError>> {
        unreachable!("files are only read")
    }
}

#[test]
fn files_of_any_file_system_are_decompressed() {
    let open: OpenFileSystem = Arc::new(|_| Ok(Arc::new(Elsewhere)));
    FileSystems::of_process().register("elsewhere", open);
    let directory = tempfile::tempdir().unwrap();
    for format in FORMATS {
        let path = directory.path().join(format.to_string());
        let member = compressed(format, text(100).as_bytes());
        fs::write(&path, [member.clone(), member].concat()).unwrap();
        let path = FilePath::remote("elsewhere", "", path.to_str().unwrap());
        let (found, _) = read_source(&FileSource::text(path).split_bytes(100)).unwrap();
        assert_eq!(found.len(), 200, "{format}");
    }
}
