//! Lines of JSON for the rows json-lines, and their records.
//!
//! A line has twelve fields and about 300 bytes. The quantity is the same in all lines of a user:
//! the running sums of a user are the same set in whatever order the lines arrive.

use anyhow::{Context, Result};
use millstream::Str;
use serde::Deserialize;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::records::{Digest, hash, key, pair, scramble, text};
use crate::rows::SEED;

/// Lines of a file, and files.
const FILE_LINES: u64 = 75_000;
const FILES: u64 = 8;
const USERS: u64 = 1_000;

/// A line with all that is in it.
#[millstream::record]
pub struct Visit {
    id: u64,
    time: u64,
    user: Str,
    page: String,
    session: String,
    kind: Str,
    country: String,
    agent: String,
    price: f64,
    tags: Vec<String>,
    quantity: u64,
    place: Place,
}

/// In a [`Visit`].
#[millstream::record]
pub struct Place {
    lat: f64,
    lon: f64,
}

/// The fields of a line that the job needs.
#[millstream::record]
pub struct Needed {
    user: Str,
    kind: Str,
    quantity: u64,
}

/// A line, as the job sees it.
pub trait Counted: millstream::Data {
    /// Whether it counts.
    fn is_view(&self) -> bool;

    /// The user and the quantity.
    fn into_pair(self) -> (Str, u64);
}

impl Counted for Visit {
    fn is_view(&self) -> bool {
        self.kind == "view"
    }

    fn into_pair(self) -> (Str, u64) {
        (self.user, self.quantity)
    }
}

impl Counted for Needed {
    fn is_view(&self) -> bool {
        self.kind == "view"
    }

    fn into_pair(self) -> (Str, u64) {
        (self.user, self.quantity)
    }
}

/// The directory of the lines below `cache`, made when it is not there.
pub fn directory(cache: &Path) -> Result<PathBuf> {
    let directory = cache.join("json-lines-1");
    if directory.exists() {
        return Ok(directory);
    }
    // A half-made directory is never taken for a whole one.
    let unfinished = tempfile::tempdir_in(cache)?;
    for file in 0..FILES {
        let mut lines = String::new();
        for index in file * FILE_LINES..(file + 1) * FILE_LINES {
            line(index, &mut lines)?;
        }
        fs::write(unfinished.path().join(format!("{file}.json")), lines)?;
    }
    fs::rename(unfinished.keep(), &directory)?;
    Ok(directory)
}

fn line(index: u64, lines: &mut String) -> Result<()> {
    let word = scramble(SEED, index);
    let user = key(SEED, index, USERS);
    let kind = if word & 1 == 0 { "view" } else { "purchase" };
    let (id, time, quantity) = (100_000 + index, 1_790_000_000_000 + index, 1 + user % 7);
    let (page, session, cents) = (word >> 32, text(word), word % 100_000);
    write!(
        lines,
        r#"{{"id":{id},"time":{time},"user":"u-{user:04}","page":"/shop/articles/{page:08x}","#
    )?;
    write!(lines, r#""session":"{session}","kind":"{kind}","country":"Iceland","#)?;
    write!(lines, r#""agent":"Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101","#)?;
    write!(lines, r#""price":{}.{:02},"tags":["new","sale","home"],"#, cents / 100, cents % 100)?;
    writeln!(lines, r#""quantity":{quantity},"place":{{"lat":64.13,"lon":-21.9}}}}"#)?;
    Ok(())
}

/// The job by hand: the expected digest of the output's lines, and the number of lines.
pub fn sums(input: &Path) -> Result<(Digest, u64)> {
    #[derive(Deserialize)]
    struct Borrowed<'a> {
        user: &'a str,
        kind: &'a str,
        quantity: u64,
    }
    let mut sums: HashMap<String, u64> = HashMap::new();
    let (mut digest, mut count) = (Digest::default(), 0);
    for entry in fs::read_dir(input)? {
        let content = fs::read_to_string(entry?.path())?;
        for line in content.lines() {
            count += 1;
            let visit: Borrowed<'_> = serde_json::from_str(line)?;
            if visit.kind != "view" {
                continue;
            }
            let sum = match sums.get_mut(visit.user) {
                Some(sum) => sum,
                None => sums.entry(visit.user.to_owned()).or_default(),
            };
            *sum += visit.quantity;
            digest.add(pair(hash(visit.user.as_bytes()), *sum));
        }
    }
    Ok((digest, count))
}

/// The digest of the lines in the files that a sink published.
pub fn published(directory: &Path) -> Result<Digest> {
    let mut digest = Digest::default();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(['.', '_']) {
            continue;
        }
        for line in fs::read_to_string(entry.path())?.lines() {
            let (user, sum) = line.split_once(',').context("a line has no comma")?;
            digest.add(pair(hash(user.as_bytes()), sum.parse()?));
        }
    }
    Ok(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_twelve_fields_and_about_300_bytes() {
        let mut text = String::new();
        line(7, &mut text).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value.as_object().unwrap().len(), 12);
        assert!((290..320).contains(&text.len()), "{}", text.len());
        let all: Visit = serde_json::from_str(&text).unwrap();
        let needed: Needed = serde_json::from_str(&text).unwrap();
        assert_eq!(all.into_pair(), needed.into_pair());
    }

    #[test]
    fn published_lines_have_the_digest_of_the_sums() {
        let (input, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let line = |user, kind, quantity| {
            format!("{{\"user\":\"{user}\",\"kind\":\"{kind}\",\"quantity\":{quantity}}}\n")
        };
        let lines = line("a", "view", 2) + &line("b", "purchase", 3) + &line("a", "view", 2);
        fs::write(input.path().join("0"), lines).unwrap();
        fs::write(output.path().join("part"), "a,2\na,4\n").unwrap();
        fs::write(output.path().join(".unfinished"), "a,7\n").unwrap();
        let (digest, count) = sums(input.path()).unwrap();
        assert_eq!((digest, count), (published(output.path()).unwrap(), 3));
    }
}
