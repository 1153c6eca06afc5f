//! Whole files through enumerator and reader, in every format.

use std::borrow::Cow;
use std::fs;
use std::path::PathBuf;

use millstream_connector::{Source, SourceReader, SplitEnumerator, bail, conformance};
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
    let mut enumerator = source.enumerator(None).unwrap();
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
fn json_that_is_not_utf8_is_refused_where_it_is_read() {
    let (_directory, path) = file(b"{\"name\":\"caf\xe9\",\"people\":1}\n");
    let error = read_source(&FileSource::json_lines::<City>(&path)).unwrap_err().to_string();
    assert!(error.contains("invalid unicode code point at line 1 column 13"), "{error}");
    let (_directory, path) = file(b"{\"name\":\"x\",\"note\":\"caf\xe9\",\"people\":1}\n");
    let source = FileSource::json_lines::<City>(&path);
    assert_eq!(read_source(&source).unwrap().0, [city("x", 1)], "nobody reads the note");
}

#[test]
fn lines_may_be_filtered_while_they_are_borrowed() {
    #[derive(Deserialize)]
    struct Visit<'a> {
        #[serde(borrow)]
        user: Cow<'a, str>,
        cents: u64,
        ok: bool,
    }
    let (_directory, path) = file(
        "{\"user\":\"a\",\"cents\":1,\"ok\":true,\"more\":[{}]}\n\
         {\"ok\":false,\"cents\":2,\"user\":\"b\"}\n\
         {\"user\":\"c\\u0064\",\"cents\":3,\"ok\":true}\n",
    );
    let source = FileSource::parse_lines(&path, |line: &[u8]| {
        let visit: Visit<'_> = serde_json::from_str(str::from_utf8(line)?)?;
        Ok(visit.ok.then(|| (visit.user.into_owned(), visit.cents)))
    });
    let (visits, _) = read_source(&source).unwrap();
    let kept: Vec<_> = visits.into_iter().flatten().collect();
    assert_eq!(kept, [("a".to_owned(), 1), ("cd".to_owned(), 3)]);
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
    let range = FileRange {
        path: "/nowhere/gone.txt".into(),
        version: (std::time::UNIX_EPOCH, 10),
        start: 0,
        end: 10,
        is_cut: false,
        position: None,
    };
    reader.add_splits(vec![FileSplit { ranges: vec![range] }]).unwrap();
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

/// Rows read from `text` cut into splits of `split_bytes`.
fn csv_rows(text: &[u8], split_bytes: u64) -> Vec<(u32, String)> {
    let (_directory, path) = file(text);
    let source =
        FileSource::csv::<(u32, String)>(&path).split_at_newlines().split_bytes(split_bytes);
    read_source(&source).unwrap().0
}

#[test]
fn every_split_agrees_on_what_the_head_is() {
    for newline in ["\n", "\r\n"] {
        for before in ["", "\u{feff}", newline, &newline.repeat(3), &format!("\u{feff}{newline}")] {
            let mut text = format!("{before}n,\"the name\"{newline}");
            let rows: Vec<(u32, String)> = (0..60).map(|n| (n, format!("row {n}"))).collect();
            text.extend(rows.iter().map(|(n, name)| format!("{n},{name}{newline}")));
            for split_bytes in [1, 2, 3, 5, 16, 17, 18, 100, 1_000, 10_000] {
                let found = csv_rows(text.as_bytes(), split_bytes);
                assert_eq!(found, rows, "{before:?}, {newline:?}, splits of {split_bytes}");
            }
        }
    }
}

#[test]
fn a_line_limit_holds_exactly() {
    for (limit, text, fits) in [
        (3, "abc\nabc\r\nabc", true),
        (3, "ab\nabcd\nab\n", false),
        (3, "ab\nabcd\r\nab\n", false),
        (3, "ab\nabcd", false),
        (4, "ab\nabcd", true),
    ] {
        let (_directory, path) = file(text);
        let read = read_source(&FileSource::byte_lines(&path).line_bytes_max(limit));
        assert_eq!(read.is_ok(), fits, "{text:?}");
        if let Err(error) = read {
            assert!(error.to_string().starts_with("the line at byte 3 of "), "{error}");
        }
    }
}

#[test]
fn a_byte_order_mark_is_dropped_in_every_format() {
    let (_directory, path) = file("\u{feff}[1,\"a\"]\n");
    assert_eq!(read_source(&FileSource::text(&path)).unwrap().0, ["[1,\"a\"]"]);
    assert_eq!(read_source(&FileSource::byte_lines(&path)).unwrap().0, [b"[1,\"a\"]"]);
    let json = FileSource::json_lines::<(u32, String)>(&path);
    assert_eq!(read_source(&json).unwrap().0, [(1, "a".to_owned())]);
}

#[test]
fn a_stray_quote_ends_at_the_limit() {
    let mut text = b"n,name\n1,\"open\n".to_vec();
    text.extend((0..10_000).flat_map(|n| format!("{n},row\n").into_bytes()));
    let (_directory, path) = file(&text);
    let source = FileSource::csv::<(u32, String)>(&path).line_bytes_max(10_000);
    let error = read_source(&source.on_bad_record(OnBadRecord::Drop)).unwrap_err().to_string();
    assert!(error.starts_with("the record at byte 7 of "), "{error}");
}

#[test]
fn a_file_of_size_0_that_has_content_is_read() {
    let (lines, _) = read_source(&FileSource::text("/proc/cpuinfo")).unwrap();
    assert!(!lines.is_empty());
}

#[test]
fn a_file_that_is_removed_from_a_watched_directory_is_left_out() {
    let (directory, path) = file("1\n");
    let other = directory.path().join("other.txt");
    fs::write(&other, "2\n").unwrap();
    let source = FileSource::text(directory.path()).watch(std::time::Duration::from_millis(1));
    let (ctx, woken) = context(0, 1);
    let mut enumerator = source.enumerator(None).unwrap();
    let mut reader = source.reader(&ctx).unwrap();
    enumerator.discover().unwrap();
    fs::remove_file(path).unwrap();
    assert_eq!(read_splits(&mut reader, &mut enumerator, &woken).unwrap(), ["2"]);
    assert_eq!((ctx.skipped.get(), ctx.dropped.get()), (1, 0));
}

#[test]
fn a_watched_directory_may_be_renamed_while_it_is_read() {
    let parent = tempfile::tempdir().unwrap();
    let (path, away) = (parent.path().join("in"), parent.path().join("away"));
    fs::create_dir(&path).unwrap();
    fs::write(path.join("a"), "1\n").unwrap();
    let source = FileSource::text(&path).watch(std::time::Duration::from_millis(1));
    let (ctx, woken) = context(0, 1);
    let mut enumerator = source.enumerator(None).unwrap();
    let mut reader = source.reader(&ctx).unwrap();
    enumerator.discover().unwrap();
    fs::rename(&path, &away).unwrap();
    let back = std::thread::spawn(move || {
        // Longer than a file is waited for that was removed.
        std::thread::sleep(std::time::Duration::from_millis(2_500));
        fs::rename(&away, &path).unwrap();
    });
    assert_eq!(read_splits(&mut reader, &mut enumerator, &woken).unwrap(), ["1"]);
    assert_eq!(ctx.skipped.get(), 0);
    back.join().unwrap();
}

#[test]
fn a_mark_before_the_text_belongs_to_the_first_line() {
    let (_directory, path) = file("\u{feff}\n\u{feff}b\n\nd");
    for split_bytes in 1..12 {
        let source = FileSource::text(&path).split_bytes(split_bytes);
        assert_eq!(read_source(&source).unwrap().0, ["", "\u{feff}b", "", "d"], "{split_bytes}");
    }
}

#[test]
fn wide_text_is_refused_with_a_sentence() {
    let (_directory, path) = file(b"\xff\xfet\0e\0x\0t\0");
    let expected = format!(
        "{} is UTF-16 text, which is not read: convert it to UTF-8, as `iconv -f UTF-16 -t UTF-8` \
         does; raw_bytes() reads it as it is",
        path.display()
    );
    let refused = [
        read_source(&FileSource::text(&path).split_bytes(3)).unwrap_err(),
        read_source(&FileSource::byte_lines(&path)).unwrap_err(),
        read_source(&FileSource::json_lines::<u32>(&path)).unwrap_err(),
        read_source(&FileSource::csv::<(u32,)>(&path).split_at_newlines()).unwrap_err(),
    ];
    for error in refused {
        assert_eq!(error.to_string(), expected);
    }
    let raw = read_source(&FileSource::byte_lines(&path).raw_bytes()).unwrap().0;
    assert_eq!(raw, [b"\xff\xfet\0e\0x\0t\0"]);
}

#[test]
fn csv_records_may_end_in_any_way() {
    // The limit of a record is no limit for a file without any `\n`.
    for end in ["\r", "\n", "\r\n", "\n\n", "\r\r\n"] {
        let rows: String = (0..200).map(|n| format!("{n},row{end}")).collect();
        let text = format!("n,name{end}{rows}");
        let (_directory, path) = file(&text);
        for split_bytes in [1, 7, 100, 1_000] {
            let source =
                FileSource::csv::<(u32, String)>(&path).split_bytes(split_bytes).line_bytes_max(8);
            let uncut = read_source(&source).unwrap().0;
            assert_eq!(uncut.len(), 200, "{end:?}");
            assert_eq!(read_source(&source.split_at_newlines()).unwrap().0, uncut, "{end:?}");
        }
    }
}

#[test]
fn lines_that_end_in_two_ways_are_read_once() {
    // To the cuts, only `\n` ends a line; to the parser, `\r` does too.
    let text = b"n,name\r1,a\r2,b\n3,c\r4,d\n\n5,e\r\n6,f";
    for split_bytes in 1..40 {
        let names: Vec<u32> = csv_rows(text, split_bytes).into_iter().map(|row| row.0).collect();
        assert_eq!(names, [1, 2, 3, 4, 5, 6], "splits of {split_bytes}");
    }
}

#[test]
fn a_head_may_be_longer_than_splits_and_have_lines() {
    let head = format!("n,\"name\n{}\"\n", "x".repeat(10_000));
    for split_bytes in [100, 5_000, 10_010, 10_011, 10_012, 10_013, 20_000] {
        let rows = csv_rows(format!("{head}1,a\n2,b\n").as_bytes(), split_bytes);
        assert_eq!(rows, [(1, "a".to_owned()), (2, "b".to_owned())], "splits of {split_bytes}");
    }
    let (_directory, path) = file(head);
    let source = FileSource::csv::<(u32, String)>(&path).line_bytes_max(1_000);
    let error = read_source(&source.on_bad_record(OnBadRecord::Drop)).unwrap_err().to_string();
    assert!(error.starts_with("the record at byte 0 of "), "{error}");
}

#[test]
fn a_record_limit_of_csv_holds_exactly() {
    let (_directory, path) = file("a,b\n1,22\r\n\"1\",2\n1,2222");
    for (limit, bad) in [(6, None), (5, Some(16)), (4, Some(10))] {
        let source = FileSource::csv::<(u32, u32)>(&path).line_bytes_max(limit);
        let read = read_source(&source.on_bad_record(OnBadRecord::Drop));
        let at = read.err().map(|error| error.to_string());
        let expected = bad.map(|at| format!("the record at byte {at} of"));
        assert_eq!(at.is_some(), expected.is_some(), "{at:?}");
        assert!(at.zip(expected).is_none_or(|(at, expected)| at.starts_with(&expected)));
    }
}

#[test]
fn an_open_quote_at_the_end_is_a_bad_record() {
    let (_directory, path) = file("n,name\n1,a\n2,\"b\n3,c\n");
    let source = FileSource::csv::<(u32, String)>(&path);
    let error = read_source(&source).unwrap_err().to_string();
    assert!(error.starts_with("the record at byte 11 of "), "{error}");
    assert!(error.contains("a quote is open at the end of the file"), "{error}");
    let (rows, dropped) = read_source(&source.on_bad_record(OnBadRecord::Drop)).unwrap();
    assert_eq!((rows, dropped), (vec![(1, "a".to_owned())], 1));
    let (_directory, path) = file("n,name\n1,\"a\"");
    let rows = read_source(&FileSource::csv::<(u32, String)>(&path)).unwrap().0;
    assert_eq!(rows, [(1, "a".to_owned())]);
}

/// Files of lines that all differ, some of them long, in some ways of ending.
fn numbered_lines(count: u64) -> (String, Vec<String>) {
    let line = |n: u64| format!("line {n} {}", "x".repeat((n * n % 41) as usize));
    let lines: Vec<String> = (0..count).map(line).collect();
    let mut text = "\u{feff}".to_owned();
    for (n, line) in lines.iter().enumerate() {
        text.push_str(line);
        text.push_str(["\n", "\r\n"][n % 2]);
    }
    text.truncate(text.trim_end().len());
    (text, lines)
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn whatever_is_killed_every_record_is_read_once() {
    let (text, lines) = numbered_lines(4_000);
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("plain"), &text).unwrap();
    for split_bytes in [500, 5_000, 1 << 20] {
        let source = || FileSource::text(at("plain")).split_bytes(split_bytes);
        conformance::check_source(source, &lines, 0..12).unwrap();
    }
    // Many splits.
    let wide: Vec<String> = (0..2_000).map(|n| format!("{n:04000}")).collect();
    fs::write(at("wide"), wide.join("\n")).unwrap();
    let source = || FileSource::text(at("wide")).split_bytes(1 << 20);
    conformance::check_source(source, &wide, 0..20).unwrap();
    fs::write(at("lines.gz"), gzip(&text)).unwrap();
    conformance::check_source(|| FileSource::text(at("lines.gz")), &lines, 0..20).unwrap();

    // Small files that go together into one split.
    fs::create_dir(at("many")).unwrap();
    for (n, lines) in lines.chunks(70).enumerate() {
        fs::write(at("many").join(format!("{n:04}")), lines.join("\n")).unwrap();
    }
    conformance::check_source(|| FileSource::text(at("many")), &lines, 0..20).unwrap();
}

#[test]
fn whatever_is_killed_every_record_of_csv_is_read_once() {
    let rows: Vec<(u64, String)> = (0..6_000).map(|n| (n, format!("name {n}"))).collect();
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let text = |row: &dyn Fn(u64) -> String| {
        let rows: String = (0..6_000).map(row).collect();
        format!("n,name\n{rows}")
    };
    // Lines end in several ways, and not all records end where a line does.
    let ends = ["\n", "\r", "\r\n", "\r", "\n\n"];
    let plain = text(&|n| format!("{n},name {n}{}", ends[(n % 5) as usize]));
    fs::write(at("plain"), &plain).unwrap();
    fs::write(at("rows.gz"), gzip(&plain)).unwrap();
    for split_bytes in [200, 5_000, 1 << 20] {
        let source = || {
            let source = FileSource::csv::<(u64, String)>(at("plain")).split_bytes(split_bytes);
            source.split_at_newlines()
        };
        conformance::check_source(source, &rows, 0..12).unwrap();
    }
    for name in ["plain", "rows.gz"] {
        let source = || FileSource::csv::<(u64, String)>(at(name));
        conformance::check_source(source, &rows, 0..12).unwrap();
    }
    // Records with line ends in quotes, in chunks that end anywhere.
    let quoted: Vec<(u64, String)> =
        (0..6_000).map(|n| (n, format!("\"{n}\"\n,{}", "y".repeat((n % 97) as usize)))).collect();
    let row = |n: u64| format!("{n},\"\"\"{n}\"\"\n,{}\"\n", "y".repeat((n % 97) as usize));
    fs::write(at("quoted"), text(&row)).unwrap();
    let source = || FileSource::csv::<(u64, String)>(at("quoted"));
    conformance::check_source(source, &quoted, 0..20).unwrap();
}
