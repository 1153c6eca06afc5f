//! The generator and the checksum of every throughput row, the same as `flink/Records.java`.
//!
//! Record `i` of a run is a function of `i` and the seed alone, whichever subtask makes it, so both
//! engines may hand out the indices as they like. README.md spells the functions out.

use anyhow::{Context, Result, bail};
use std::path::Path;

/// The multiplier of generators and checksums.
pub(crate) const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
const PAIR: u64 = 0xD6E8_FEB8_6659_FD93;

/// SplitMix64 of a counter.
#[inline]
#[must_use]
pub fn scramble(seed: u64, index: u64) -> u64 {
    let mut z = index.wrapping_add(seed).wrapping_mul(GOLDEN);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A key below `keys`, which is less than 2^31.
#[inline]
#[must_use]
pub fn key(seed: u64, index: u64, keys: u64) -> u64 {
    ((scramble(seed, index) >> 32) * keys) >> 32
}

/// The event time of a number, in even milliseconds: time advances by a second for each million
/// numbers of all sources, each of which makes `each`.
#[inline]
#[must_use]
pub fn event_time(index: u64, each: u64, sources: u64) -> u64 {
    index % each * sources / 2_000 * 2
}

/// The records of the interval join come at most so long after others with later event times, in
/// milliseconds.
pub const DISORDER_MS: u64 = 64;

/// The event time of a number of the interval join, in milliseconds: ten times that of windows, and
/// out of order by less than [`DISORDER_MS`].
#[inline]
#[must_use]
pub fn disordered_time(seed: u64, index: u64, each: u64, sources: u64) -> u64 {
    10 * event_time(index, each, sources) + scramble(seed, index) % DISORDER_MS
}

/// The chain's two maps and its filter.
#[inline]
#[must_use]
pub fn chain(number: u64) -> Option<u64> {
    let tripled = number.wrapping_mul(3).wrapping_add(1);
    (tripled & 15 != 0).then_some(tripled ^ (tripled >> 7))
}

/// Two words of a record as one.
#[inline]
#[must_use]
pub fn pair(first: u64, second: u64) -> u64 {
    first.wrapping_mul(PAIR).wrapping_add(second)
}

/// The share of one record in the checksum.
#[inline]
#[must_use]
pub fn fold(word: u64) -> u64 {
    let hash = word.wrapping_mul(GOLDEN);
    hash ^ (hash >> 32)
}

/// FNV-1a of a word.
#[inline]
#[must_use]
pub fn hash(word: &[u8]) -> u64 {
    word.iter().fold(0xCBF2_9CE4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

/// Offsets of the 16 bytes of a text, two hexadecimal digits each.
const DIGITS_AT: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];

/// 36 characters that stand for a key, in the form of a UUID.
#[inline]
#[must_use]
pub fn text(key: u64) -> String {
    let high = scramble(0, key);
    let words = [high.to_be_bytes(), scramble(0, high).to_be_bytes()];
    let mut text = [b'-'; 36];
    for (at, byte) in DIGITS_AT.iter().zip(words.as_flattened()) {
        let digits = [byte >> 4, byte & 15].map(|digit| b"0123456789abcdef"[usize::from(digit)]);
        text[*at..*at + 2].copy_from_slice(&digits);
    }
    str::from_utf8(&text).map(str::to_owned).unwrap_or_default()
}

/// The first 8 bytes of a text and its last 8 as one word, with little effort.
#[inline]
#[must_use]
pub fn ends(text: &[u8]) -> u64 {
    let word = |bytes: Option<&[u8; 8]>| bytes.copied().map_or(0, u64::from_le_bytes);
    pair(word(text.first_chunk()), word(text.last_chunk()))
}

/// A record of exactly 100 bytes: a key, a value and a payload that does not compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Wide {
    /// The key of the hash exchange.
    pub key: u64,
    /// The record's index, plus one behind the exchange.
    pub value: u64,
    /// The first 80 bytes of the payload.
    pub payload: [u64; 10],
    /// The last four bytes of the payload.
    pub tail: u32,
}

impl Wide {
    /// The record of `index`.
    #[inline]
    #[must_use]
    pub fn new(seed: u64, index: u64) -> Self {
        Self::of_key(scramble(seed, index), index)
    }

    /// The record of this key.
    #[inline]
    #[must_use]
    pub fn of_key(key: u64, value: u64) -> Self {
        let payload = std::array::from_fn(|word| key.wrapping_mul(2 * word as u64 + 3));
        Self { key, value, payload, tail: (key >> 32) as u32 }
    }

    /// The fields in the checksum: key, value and the last two of the payload.
    #[inline]
    #[must_use]
    pub fn word(&self) -> u64 {
        pair(self.key, self.value) ^ self.payload[9] ^ u64::from(self.tail)
    }
}

/// Number of records of a sink, and a checksum that does not depend on their order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Digest {
    /// Records.
    pub count: u64,
    /// The wrapping sum of every record's fold.
    pub checksum: u64,
}

impl Digest {
    /// Adds the record that `word` stands for.
    #[inline]
    pub fn add(&mut self, word: u64) {
        self.count += 1;
        self.checksum = self.checksum.wrapping_add(fold(word));
    }

    /// Adds what another sink got.
    pub fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.checksum = self.checksum.wrapping_add(other.checksum);
    }

    /// Reads the output of the sink's subtasks: a file each, named by the subtask's number.
    pub fn read(directory: &Path) -> Result<Self> {
        let mut all = Self::default();
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().parse::<u32>().is_err() {
                continue;
            }
            let text = std::fs::read_to_string(entry.path())?;
            all.merge(Self::parse(&text).with_context(|| format!("{text:?} is no digest"))?);
        }
        Ok(all)
    }

    /// Fails unless these are the expected records.
    pub fn must_be(self, expected: Self) -> Result<()> {
        if self != expected {
            bail!("the sinks got {self} (records, checksum) instead of {expected}");
        }
        Ok(())
    }

    fn parse(text: &str) -> Option<Self> {
        let (count, checksum) = text.trim().split_once(' ')?;
        Some(Self { count: count.parse().ok()?, checksum: checksum.parse().ok()? })
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.count, self.checksum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_a_format() {
        assert_eq!(scramble(42, 0), 0x134F_7096_9181_75CE);
        assert_eq!(key(42, 7, 1_000), 465);
        assert_eq!(text(7), "2c829abe-1f45-32e1-e1e7-2cdb9a36fd66");
        assert_eq!(
            ends(b"12345678----abcdefgh"),
            pair(0x3837_3635_3433_3231, 0x6867_6665_6463_6261)
        );
        assert_eq!(size_of::<Wide>(), 104);
    }

    #[test]
    fn the_digest_does_not_depend_on_the_order() {
        let (mut forward, mut backward) = (Digest::default(), Digest::default());
        (0..100).for_each(|word| forward.add(word));
        (0..100).rev().for_each(|word| backward.add(word));
        assert_eq!(forward, backward);
        assert_ne!(forward.checksum, 0);
    }

    #[test]
    fn digests_of_all_subtasks_add_up() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("0"), "2 18446744073709551615\n").unwrap();
        std::fs::write(directory.path().join("1"), "3 3\n").unwrap();
        std::fs::write(directory.path().join("first"), "no digest").unwrap();
        let all = Digest::read(directory.path()).unwrap();
        assert_eq!(all, Digest { count: 5, checksum: 2 });
    }
}
