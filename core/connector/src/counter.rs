//! Counters that user code makes.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// A counter that user code made; its value is shown with the task's own counters.
#[derive(Debug, Clone, Default)]
pub struct Counter(Arc<AtomicI64>);

impl Counter {
    /// Adds to it.
    pub fn add(&self, amount: i64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Its value.
    #[must_use]
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}
