//! The text that WordCount reads: what lies in `/usr/share` of this machine, repeated.
//!
//! It differs from machine to machine, which does no harm: both engines and the probe read the same
//! files, and only their ratio leaves the machine.

use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

const PARTS: usize = 8;
const PART_BYTES: usize = 16 << 20;
/// Enough different text that the dictionary is a real one.
const SAMPLE_BYTES: usize = 24 << 20;
const FILE_BYTES_MAX: u64 = 1 << 20;
const ROOTS: [&str; 4] =
    ["/usr/share/common-licenses", "/usr/share/doc", "/usr/share/perl", "/usr/share/man"];

/// The directory of the text below `cache`, made when it is not there: 128 MiB in eight files.
pub fn directory(cache: &Path) -> Result<PathBuf> {
    let directory = cache.join("text-128");
    if directory.exists() {
        return Ok(directory);
    }
    let mut paths = Vec::new();
    for root in ROOTS {
        list(Path::new(root), &mut paths)?;
    }
    paths.sort();
    let mut sample: Vec<Vec<u8>> = Vec::new();
    let mut bytes = 0;
    for path in paths {
        // Files vanish and some are unreadable; without them there is only less text.
        let Ok(content) = fs::read(&path) else { continue };
        if is_text(&content) && bytes < SAMPLE_BYTES {
            bytes += content.len();
            sample.push(content);
        }
    }
    if bytes < 1 << 20 {
        bail!(
            "/usr/share holds less than 1 MiB of text; install a few packages with documentation"
        );
    }
    write(&sample, &directory)?;
    Ok(directory)
}

fn list(directory: &Path, paths: &mut Vec<PathBuf>) -> Result<()> {
    let Ok(entries) = fs::read_dir(directory) else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            list(&entry.path(), paths)?;
        } else if kind.is_file() && entry.metadata()?.len() <= FILE_BYTES_MAX {
            paths.push(entry.path());
        }
    }
    Ok(())
}

fn is_text(content: &[u8]) -> bool {
    content.ends_with(b"\n") && !content.contains(&0)
}

/// Writes beside the directory first, so that a half-made text is never taken for a whole one.
fn write(sample: &[Vec<u8>], directory: &Path) -> Result<()> {
    let parent = directory.parent().context("the text needs a directory to lie in")?;
    let unfinished = tempfile::tempdir_in(parent)?;
    let mut files = sample.iter().cycle();
    for part in 0..PARTS {
        let mut out = BufWriter::new(File::create(unfinished.path().join(format!("{part}.txt")))?);
        let mut bytes = 0;
        while bytes < PART_BYTES {
            let content = files.next().context("no text to repeat")?;
            out.write_all(content)?;
            bytes += content.len();
        }
        out.flush()?;
    }
    fs::rename(unfinished.keep(), directory)?;
    Ok(())
}
