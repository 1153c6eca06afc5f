//! Waiting for conditions.

use std::time::{Duration, Instant};

/// Waits until `condition` returns a value.
///
/// # Panics
/// It returned none within the deadline.
pub fn until<T>(what: &str, deadline: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < deadline, "waited {deadline:?} in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
