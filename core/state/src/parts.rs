//! The parts of a state's snapshot.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The entries of one key group, or a part of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupSnapshot {
    /// The key group.
    pub group: u16,
    /// The number of entries.
    pub entries: u64,
    /// The entries.
    pub bytes: Vec<u8>,
}

impl GroupSnapshot {
    /// Parts of groups, each with its group and the number of its entries.
    pub(crate) fn all(parts: Vec<(u16, u64, Vec<u8>)>) -> Vec<Self> {
        let of = |(group, entries, bytes)| Self { group, entries, bytes };
        parts.into_iter().map(of).collect()
    }
}

/// Takes parts of a snapshot while the rest of it is being written, so that they need not stay in
/// memory until it is whole.
pub trait PartSink: fmt::Debug + Send + Sync {
    /// Takes a part of the state of this number, which is its place in
    /// [`KeyedSnapshot::states`](crate::KeyedSnapshot::states), and gives room for another one.
    /// Never waits.
    ///
    /// # Errors
    /// It cannot be taken now: it is part of the snapshot, as if there were no sink.
    fn take(&self, state: u32, part: GroupSnapshot) -> Result<Vec<u8>, GroupSnapshot>;
}
