//! The room beyond credits that a task gets while a barrier waits to overtake its records.

use std::sync::atomic::{AtomicI64, Ordering};

/// The most bytes of records in flight that one task stores in one checkpoint.
pub const IN_FLIGHT_BYTES_MAX: usize = 256 << 20;

/// The most bytes of records that the channels of a task take beyond their credits, so that a chain
/// which is suspended can finish what it has accepted.
const OVERDRAFT_BYTES: i64 = 8 << 20;

/// Room beyond credits, for all channels of a task. Closed at first.
#[derive(Debug, Default)]
pub struct Overdraft {
    /// The rest of it; none while it is closed.
    left: AtomicI64,
}

impl Overdraft {
    /// Opens it, with all its bytes.
    pub fn open(&self) {
        self.left.store(OVERDRAFT_BYTES, Ordering::Relaxed);
    }

    /// Closes it. What channels have taken stays with them.
    pub fn close(&self) {
        self.left.store(0, Ordering::Relaxed);
    }

    /// Whether records are taken beyond credits: it is open and not used up.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.left.load(Ordering::Relaxed) > 0
    }

    /// Uses so many bytes. One batch may go beyond what is left.
    pub fn charge(&self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX).min(OVERDRAFT_BYTES);
        self.left.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_open_until_it_is_used_up_or_closed() {
        let overdraft = Overdraft::default();
        assert!(!overdraft.is_open());
        overdraft.open();
        overdraft.charge(OVERDRAFT_BYTES as usize - 1);
        assert!(overdraft.is_open());
        overdraft.charge(usize::MAX);
        assert!(!overdraft.is_open());
        overdraft.open();
        assert!(overdraft.is_open());
        overdraft.close();
        assert!(!overdraft.is_open());
    }
}
