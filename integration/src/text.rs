//! Real text, and the expected word count of it.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Bytes that are taken from each text of the machine: few, so that many texts are used.
const TAKEN_BYTES: usize = 64 << 10;

/// Writes about `bytes` of the texts of this machine to `file`, again and again if there are few.
///
/// # Panics
/// The machine has none, or the file cannot be written.
pub fn make_text(file: &Path, bytes: u64) {
    let mut paths = Vec::new();
    for directory in ["/usr/share/common-licenses", "/usr/share/perl", "/usr/share/doc"] {
        find_texts(Path::new(directory), &mut paths);
    }
    paths.sort();
    let texts = paths.iter().filter_map(|path| fs::read(path).ok());
    let texts: Vec<Vec<u8>> = texts.take(500).collect();
    assert!(texts.iter().any(|text| !text.is_empty()), "no text below /usr/share");
    let mut out = BufWriter::new(File::create(file).unwrap());
    let mut written = 0;
    for text in texts.iter().cycle() {
        let text = text.get(..TAKEN_BYTES).unwrap_or(text);
        out.write_all(text).unwrap();
        written += text.len() as u64;
        if written >= bytes {
            break;
        }
    }
    out.flush().unwrap();
}

fn find_texts(directory: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => find_texts(&entry.path(), found),
            Ok(kind) if kind.is_file() && found.len() < 5_000 => found.push(entry.path()),
            _ => {}
        }
    }
}

/// The lines `word count` of a text, sorted, as the tools of every Unix count them.
///
/// # Panics
/// A tool is missing.
#[must_use]
pub fn reference_counts(text: &Path) -> Vec<String> {
    let pipe =
        "export LC_ALL=C; tr A-Z a-z <\"$0\" | tr -cs a-z0-9 '\\n' | grep . | sort | uniq -c";
    let output = Command::new("sh").args(["-c", pipe]).arg(text).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let line = |line: &str| {
        let mut fields = line.split_whitespace();
        let (count, word) = (fields.next()?, fields.next()?);
        Some(format!("{word} {count}"))
    };
    let mut lines: Vec<String> = text.lines().filter_map(line).collect();
    lines.sort_unstable();
    lines
}

/// All lines of the readable files of a directory, sorted.
///
/// # Panics
/// They cannot be read.
#[must_use]
pub fn sorted_lines(directory: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let name = entry.file_name();
        assert!(!name.to_string_lossy().starts_with('.'), "{name:?} was left in the output");
        let text = fs::read_to_string(entry.path()).unwrap();
        lines.extend(text.lines().map(str::to_owned));
    }
    lines.sort_unstable();
    lines
}
