//! Selectors of a record's key.

use millstream_types::Key;

use crate::backend::KeyedBackend;
use crate::error::StateError;

/// Finds the key of a record. Made by `Stream::key_by` and
/// `Stream::key_by_ref`.
pub trait KeySelector<T>: Clone + Send + 'static {
    /// The key's type.
    type Key: Key;

    /// Calls `f` with the record's key.
    fn with<R>(&self, record: &T, f: impl FnOnce(&Self::Key) -> R) -> R;

    /// The record's key as a value of its own.
    fn owned(&self, record: &T) -> Self::Key;

    /// Makes the record's key, which has this hash, the current one of an operator's states.
    ///
    /// # Errors
    /// The state of the key before it cannot be written.
    fn make_current(
        &self,
        record: &T,
        hash: u64,
        states: &mut KeyedBackend<Self::Key>,
    ) -> Result<(), StateError>;
}

/// A key that is computed from the record.
#[derive(Debug, Clone)]
pub struct ByValue<F>(pub F);

impl<T, K: Key, F: Fn(&T) -> K + Clone + Send + 'static> KeySelector<T> for ByValue<F> {
    type Key = K;

    #[inline]
    fn with<R>(&self, record: &T, f: impl FnOnce(&K) -> R) -> R {
        f(&(self.0)(record))
    }

    #[inline]
    fn owned(&self, record: &T) -> K {
        (self.0)(record)
    }

    #[inline]
    fn make_current(
        &self,
        record: &T,
        hash: u64,
        states: &mut KeyedBackend<K>,
    ) -> Result<(), StateError> {
        states.set_key((self.0)(record), hash)
    }
}

/// A key that is a part of the record; it is cloned only for a key that is new.
#[derive(Debug, Clone)]
pub struct ByRef<F>(pub F);

impl<T, K: Key, F: Fn(&T) -> &K + Clone + Send + 'static> KeySelector<T> for ByRef<F> {
    type Key = K;

    #[inline]
    fn with<R>(&self, record: &T, f: impl FnOnce(&K) -> R) -> R {
        f((self.0)(record))
    }

    #[inline]
    fn owned(&self, record: &T) -> K {
        (self.0)(record).clone()
    }

    #[inline]
    fn make_current(
        &self,
        record: &T,
        hash: u64,
        states: &mut KeyedBackend<K>,
    ) -> Result<(), StateError> {
        states.copy_key((self.0)(record), hash)
    }
}
