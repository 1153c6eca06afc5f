//! Sizes and resource profiles.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A number of bytes. Reads and prints Flink's units (`64 mb`, `1g`, `512k`).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct ByteSize(u64);

/// Text that is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a size is a number and one of b, kb, mb, gb, tb (1024 steps), not {0:?}")]
pub struct ParseByteSizeError(String);

const UNITS: [(&str, u32); 17] = [
    ("b", 0),
    ("bytes", 0),
    ("k", 10),
    ("kb", 10),
    ("kib", 10),
    ("kibibytes", 10),
    ("m", 20),
    ("mb", 20),
    ("mib", 20),
    ("mebibytes", 20),
    ("g", 30),
    ("gb", 30),
    ("gib", 30),
    ("gibibytes", 30),
    ("t", 40),
    ("tb", 40),
    ("tebibytes", 40),
];

impl ByteSize {
    /// So many bytes.
    #[must_use]
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// So many mebibytes.
    #[must_use]
    pub const fn from_mib(mebibytes: u64) -> Self {
        Self(mebibytes << 20)
    }

    /// The number of bytes.
    #[must_use]
    pub const fn as_bytes(self) -> u64 {
        self.0
    }

    /// The number of whole mebibytes.
    #[must_use]
    pub const fn as_mib(self) -> u64 {
        self.0 >> 20
    }

    /// `times` of it, at most `u64::MAX` bytes.
    #[must_use]
    pub const fn saturating_mul(self, times: u64) -> Self {
        Self(self.0.saturating_mul(times))
    }

    /// The difference to `other`, or zero if `other` is larger.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// Its share of `parts` equal ones, rounded down; all of it for zero parts.
    #[must_use]
    pub const fn divided_by(self, parts: u32) -> Self {
        if parts == 0 { self } else { Self(self.0 / parts as u64) }
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0;
        for (unit, shift) in [("gb", 30), ("mb", 20), ("kb", 10)] {
            if bytes != 0 && bytes & ((1 << shift) - 1) == 0 {
                return write!(f, "{} {unit}", bytes >> shift);
            }
        }
        write!(f, "{bytes} bytes")
    }
}

impl FromStr for ByteSize {
    type Err = ParseByteSizeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseByteSizeError(text.to_owned());
        let trimmed = text.trim();
        let digits = trimmed.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = trimmed.split_at_checked(digits).ok_or_else(error)?;
        let number: u64 = number.parse().map_err(|_| error())?;
        let unit = unit.trim().to_ascii_lowercase();
        let shift = match unit.as_str() {
            "" => 0,
            unit => UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(error)?.1,
        };
        number.checked_mul(1 << shift).map(Self).ok_or_else(error)
    }
}

impl TryFrom<String> for ByteSize {
    type Error = ParseByteSizeError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ByteSize> for String {
    fn from(size: ByteSize) -> Self {
        size.to_string()
    }
}

/// The resources that one slot offers or one slot sharing group needs.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct ResourceProfile {
    /// Cores; a fraction shares one.
    pub cpu_cores: f64,
    /// Memory of the task host's process per slot.
    pub memory: ByteSize,
}

impl ResourceProfile {
    /// Asks for nothing in particular: any slot fits.
    pub const UNKNOWN: Self = Self { cpu_cores: 0.0, memory: ByteSize::from_bytes(0) };

    /// Whether a slot of this profile can serve `needed`.
    #[must_use]
    pub fn fits(&self, needed: &Self) -> bool {
        self.cpu_cores >= needed.cpu_cores && self.memory >= needed.memory
    }
}

impl fmt::Display for ResourceProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cores, {}", self.cpu_cores, self.memory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_flink_reads_them() {
        for (text, bytes) in [
            ("1728m", 1728 << 20),
            ("64 mb", 64 << 20),
            ("1 GB", 1 << 30),
            ("7", 7),
            ("3kib", 3072),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize::from_bytes(bytes)), "{text}");
        }
        for text in ["", "m", "-1m", "1.5g", "1 parsec", "99999999999t"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_survive_their_text() {
        for bytes in [0, 1, 1024, 64 << 20, (1 << 30) + 1] {
            let size = ByteSize::from_bytes(bytes);
            assert_eq!(size.to_string().parse(), Ok(size));
        }
    }
}
