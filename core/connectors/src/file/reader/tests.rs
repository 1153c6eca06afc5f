//! Whole files through enumerator and reader, in every format.

use std::fs;
use std::path::PathBuf;

use millstream_api::{Source, SourceReader, SplitEnumerator, bail};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::file::{FileRange, FileSource, FileSplit, OnBadRecord};
use crate::testing::{context, read_source, read_splits};

fn file(bytes: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("input.txt");
    fs::write(&path, bytes).unwrap();
    (directory, path)
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct City {
    name: String,
    people: u32,
}

fn city(name: &str, people: u32) -> City {
    City { name: name.to_owned(), people }
}

#[test]
fn lines_come_without_their_ends_at_any_split_size() {
    let text = b"one\r\n\ntwo\nnot \xff UTF-8\nlast";
    let (_directory, path) = file(text);
    for split_bytes in (1..30).chain([1 << 20]) {
        let source = FileSource::byte_lines(&path).split_bytes(split_bytes);
        let (lines, _) = read_source(&source).unwrap();
        let expected: [&[u8]; 5] = [b"one", b"", b"two", b"not \xff UTF-8", b"last"];
        assert_eq!(lines, expected, "splits of {split_bytes} bytes");
    }
}

#[test]
fn text_that_is_not_utf8_is_replaced_or_refused() {
    let (_directory, path) = file(b"ok\nbad \xff\n\xc3\xa4\n");
    let (lines, dropped) = read_source(&FileSource::text(&path)).unwrap();
    assert_eq!(lines, ["ok", "bad \u{fffd}", "\u{e4}"]);
    assert_eq!(dropped, 0);

    let (ctx, woken) = context(0, 1);
    let source = FileSource::text(&path);
    let mut enumerator = source.enumerator().unwrap().unwrap();
    enumerator.discover().unwrap();
    let mut reader = source.reader(&ctx).unwrap();
    read_splits(&mut reader, &mut enumerator, &woken).unwrap();
    assert_eq!(ctx.replaced.get(), 1);

    let strict = FileSource::text(&path).strict();
    let error = read_source(&strict).unwrap_err().to_string();
    assert!(error.starts_with("the record at byte 3 of "), "{error}");
    assert!(error.contains("input.txt does not parse: invalid utf-8"), "{error}");
    let (lines, dropped) = read_source(&strict.on_bad_record(OnBadRecord::Drop)).unwrap();
    assert_eq!((lines, dropped), (vec!["ok".to_owned(), "\u{e4}".to_owned()], 1));
}

#[test]
fn empty_files_have_no_lines() {
    let (_directory, path) = file("");
    assert_eq!(read_source(&FileSource::text(&path)).unwrap().0, Vec::<String>::new());
    let (_directory, path) = file("\n\n");
    assert_eq!(read_source(&FileSource::text(&path)).unwrap().0, ["", ""]);
}

#[test]
fn json_lines_are_typed() {
    let (_directory, path) = file(
        "{\"name\":\"Ulm\",\"people\":126000}\n\n{\"name\":7}\r\n{\"people\":1,\"name\":\"x\"}",
    );
    let source = FileSource::json_lines::<City>(&path).on_bad_record(OnBadRecord::Drop);
    assert_eq!(read_source(&source).unwrap(), (vec![city("Ulm", 126_000), city("x", 1)], 1));

    let error = read_source(&FileSource::json_lines::<City>(&path)).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("byte 32 of") && error.contains("invalid type"), "{error}");
}

#[test]
fn a_function_may_parse_lines() {
    let (_directory, path) = file("1\n2\nthree\n");
    let source = FileSource::parse_lines(&path, |line: &[u8]| match line {
        [digit @ b'0'..=b'9'] => Ok(digit - b'0'),
        _ => bail!("it is no digit"),
    });
    let error = read_source(&source).unwrap_err().to_string();
    assert!(error.ends_with("does not parse: it is no digit: \"three\""), "{error}");
    assert_eq!(read_source(&source.on_bad_record(OnBadRecord::Drop)).unwrap(), (vec![1, 2], 1));
}

#[test]
fn bad_records_may_be_kept_as_values() {
    let (_directory, path) = file("{\"name\":\"Ulm\",\"people\":1}\noops\n");
    let source = FileSource::json_lines::<City>(&path).keep_bad_records();
    let (records, dropped) = read_source(&source).unwrap();
    assert_eq!((records.len(), dropped), (2, 0));
    assert_eq!(records[0].as_ref().unwrap(), &city("Ulm", 1));
    let bad = records[1].as_ref().unwrap_err();
    assert_eq!((bad.offset, bad.bytes.as_slice()), (26, &b"oops"[..]));
}

#[test]
fn csv_is_typed_by_its_head_line() {
    let (_directory, path) =
        file("people,name\r\n1,\"a\nb, \"\"c\"\"\"\r\n\r\n2,plain\r\n3\nx,y\n4,end");
    let source = FileSource::csv::<City>(&path).on_bad_record(OnBadRecord::Drop);
    let expected = vec![city("a\nb, \"c\"", 1), city("plain", 2), city("end", 4)];
    assert_eq!(read_source(&source).unwrap(), (expected, 2));
    let error = read_source(&FileSource::csv::<City>(&path)).unwrap_err().to_string();
    assert!(error.contains("it has 1 fields instead of 2"), "{error}");
}

#[test]
fn csv_is_cut_only_when_told() {
    let mut text = "name,people\n".to_owned();
    text.extend((0..100).map(|n| format!("city {n},{n}\n")));
    let (_directory, path) = file(&text);
    let expected: Vec<City> = (0..100).map(|n| city(&format!("city {n}"), n)).collect();
    for split_bytes in [1, 7, 12, 13, 100, 10_000] {
        let source = FileSource::csv::<City>(&path).split_bytes(split_bytes);
        assert_eq!(read_source(&source).unwrap().0, expected);
        let source = source.split_at_newlines();
        assert_eq!(read_source(&source).unwrap().0, expected, "splits of {split_bytes} bytes");
    }
}

#[test]
fn csv_without_a_head_line_goes_by_order() {
    let (_directory, path) = file("a;1\nb;2\n");
    let source = FileSource::csv::<(String, u32)>(&path).headers(false).delimiter(b';');
    assert_eq!(read_source(&source).unwrap().0, [("a".to_owned(), 1), ("b".to_owned(), 2)]);
}

#[test]
fn csv_records_of_any_size_are_read() {
    let long = "x".repeat(1_000_000);
    let (_directory, path) = file(format!("name,people\n{long},1\n{long},2\n"));
    let (records, _) = read_source(&FileSource::csv::<City>(&path)).unwrap();
    assert_eq!(records, [city(&long, 1), city(&long, 2)]);
}

#[test]
fn a_file_that_vanished_is_named() {
    let (ctx, woken) = context(0, 1);
    let source = FileSource::text("/nowhere");
    let mut reader = source.reader(&ctx).unwrap();
    let range = FileRange { path: "/nowhere/gone.txt".into(), start: 0, end: 10 };
    reader.add_split(FileSplit { ranges: vec![range] }).unwrap();
    let error = crate::testing::read_reader(reader, &woken).unwrap_err().to_string();
    assert_eq!(error, "file /nowhere/gone.txt was removed after it had been listed");
}

#[test]
fn a_line_without_end_is_refused() {
    let (_directory, path) = file([b"short\n".to_vec(), vec![b'x'; 1 << 20]].concat());
    let source = FileSource::byte_lines(&path).line_bytes_max(1000);
    let error = read_source(&source).unwrap_err().to_string();
    assert!(error.starts_with("the line at byte 6 of "), "{error}");
    assert!(error.contains("longer than 1000 bytes"), "{error}");
}

#[test]
fn a_large_file_is_read_whole() {
    let lines: Vec<String> = (0..200_000).map(|n| format!("line number {n}")).collect();
    let (_directory, path) = file(lines.join("\n"));
    let source = FileSource::text(&path).split_bytes(1_000_000);
    assert_eq!(read_source(&source).unwrap().0, lines);
}
