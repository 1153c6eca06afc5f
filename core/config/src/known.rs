//! The options that a process knows: the engine's, and those of the drivers that its binary holds.

use std::iter::once;

use crate::option::{KeyPrefix, OptionInfo, OptionTable};
use crate::options;

/// All options of a process.
#[derive(Debug, Clone, Copy)]
pub struct KnownOptions {
    drivers: &'static [OptionTable],
}

impl KnownOptions {
    /// The engine's alone.
    pub const ENGINE: Self = Self::with_drivers(&[]);

    /// The engine's, and those of these drivers.
    #[must_use]
    pub const fn with_drivers(drivers: &'static [OptionTable]) -> Self {
        Self { drivers }
    }

    /// Every option, in the order of the reference.
    pub fn iter(self) -> impl Iterator<Item = &'static OptionInfo> {
        self.tables().flat_map(|table| table.options)
    }

    /// Every family of keys.
    pub fn prefixes(self) -> impl Iterator<Item = &'static KeyPrefix> {
        self.tables().flat_map(|table| table.prefixes)
    }

    /// Whether setting `key` has an effect.
    pub(crate) fn honours(self, key: &str) -> bool {
        let is_below =
            |known: &KeyPrefix| key.strip_prefix(known.prefix).is_some_and(|end| !end.is_empty());
        self.iter().any(|option| option.key == key) || self.prefixes().any(is_below)
    }

    fn tables(self) -> impl Iterator<Item = &'static OptionTable> {
        once(&options::TABLE).chain(self.drivers)
    }
}
