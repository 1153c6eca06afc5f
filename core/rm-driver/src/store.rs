//! The memory of a driver beyond its process: the ids that the external manager gave it, its
//! workers, and the hashes of tokens by which workers prove who they are.
//!
//! A [`ClusterStore`] is written by the leader alone: each write carries the leader's epoch, and
//! the store refuses one that is lower than it has seen. So a master that was replaced and does not
//! know it yet cannot undo what its successor wrote. High availability keeps the store outside the
//! process; [`MemoryStore`] is for clusters whose workers do not outlive their master.
//!
//! # Contract (checked by `conformance::store`, feature `test-util`)
//! - what `put` wrote is what every later `get` and `list` reads, until `remove` or the next `put`;
//! - a write of a lower epoch than any before changes nothing and is [`StoreError::Fenced`],
//!   whatever entry it is for; reads carry no epoch;
//! - a write with [`StoreError::Unknown`] may or may not have happened: read before acting on it;
//! - removing an entry that is absent does nothing.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::{BoxFuture, ready};
use millstream_types::{LeaderEpoch, TaskManagerId};

/// Names an entry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StoreKey {
    /// An id that the external manager gave the cluster, by the name of its kind.
    Id(String),
    /// A worker, with all that the driver needs to take it over.
    Worker(TaskManagerId),
    /// The hash of the token that a worker has not used yet. Never the token.
    TokenHash(TaskManagerId),
}

/// A kind of entry, to list all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// [`StoreKey::Id`].
    Ids,
    /// [`StoreKey::Worker`].
    Workers,
    /// [`StoreKey::TokenHash`].
    TokenHashes,
}

impl StoreKey {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> StoreKind {
        match self {
            Self::Id(_) => StoreKind::Ids,
            Self::Worker(_) => StoreKind::Workers,
            Self::TokenHash(_) => StoreKind::TokenHashes,
        }
    }
}

/// The entries of one kind, in the order of their keys. Values are the driver's own bytes.
pub type Entries = Vec<(StoreKey, Vec<u8>)>;

/// Error of a store's call.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A later master has written: this process does not lead any more.
    #[error("a master of {newer} has written, so that one of {epoch} leads no more")]
    Fenced {
        /// The epoch of the write.
        epoch: LeaderEpoch,
        /// The highest one that the store has seen.
        newer: LeaderEpoch,
    },
    /// The store cannot be reached, and nothing was written; a retry may help.
    #[error("the store of the cluster cannot be reached")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
    /// No answer came: the write may or may not have happened.
    #[error("the store of the cluster has not said whether it has written")]
    Unknown(#[source] Box<dyn Error + Send + Sync>),
}

/// Keeps the entries that a driver must not lose with its process. Clones of a handle see one
/// store.
pub trait ClusterStore: Send + Sync + fmt::Debug {
    /// An entry's value; none if it is not there.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    fn get<'a>(&'a self, key: &'a StoreKey) -> BoxFuture<'a, Result<Option<Vec<u8>>, StoreError>>;

    /// All entries of a kind.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    fn list(&self, kind: StoreKind) -> BoxFuture<'_, Result<Entries, StoreError>>;

    /// Writes an entry, durably as far as the store outlives the process.
    ///
    /// # Errors
    /// Any [`StoreError`].
    fn put(
        &self,
        epoch: LeaderEpoch,
        key: StoreKey,
        value: Vec<u8>,
    ) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Removes an entry.
    ///
    /// # Errors
    /// Any [`StoreError`].
    fn remove(&self, epoch: LeaderEpoch, key: StoreKey) -> BoxFuture<'_, Result<(), StoreError>>;
}

#[derive(Debug, Default)]
struct Memory {
    newest: Option<LeaderEpoch>,
    entries: BTreeMap<StoreKey, Vec<u8>>,
}

/// A store that ends with its process.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore(Arc<Mutex<Memory>>);

impl MemoryStore {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The entries, for a write of this epoch.
    fn write(
        &self,
        epoch: LeaderEpoch,
        change: impl FnOnce(&mut BTreeMap<StoreKey, Vec<u8>>),
    ) -> Result<(), StoreError> {
        let mut memory = self.memory();
        if let Some(newer) = memory.newest.filter(|newest| epoch < *newest) {
            return Err(StoreError::Fenced { epoch, newer });
        }
        memory.newest = Some(epoch);
        change(&mut memory.entries);
        Ok(())
    }
}

impl ClusterStore for MemoryStore {
    fn get<'a>(&'a self, key: &'a StoreKey) -> BoxFuture<'a, Result<Option<Vec<u8>>, StoreError>> {
        Box::pin(ready(Ok(self.memory().entries.get(key).cloned())))
    }

    fn list(&self, kind: StoreKind) -> BoxFuture<'_, Result<Entries, StoreError>> {
        let memory = self.memory();
        let entries = memory.entries.iter().filter(|(key, _)| key.kind() == kind);
        let entries = entries.map(|(key, value)| (key.clone(), value.clone())).collect();
        Box::pin(ready(Ok(entries)))
    }

    fn put(
        &self,
        epoch: LeaderEpoch,
        key: StoreKey,
        value: Vec<u8>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(ready(self.write(epoch, |entries| drop(entries.insert(key, value)))))
    }

    fn remove(&self, epoch: LeaderEpoch, key: StoreKey) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(ready(self.write(epoch, |entries| drop(entries.remove(&key)))))
    }
}
