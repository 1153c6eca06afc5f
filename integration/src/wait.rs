//! Waiting for conditions, and the two sizes of a test.

use std::time::{Duration, Instant};

/// Waits until `condition` gives something.
///
/// # Panics
/// It gave nothing within the deadline.
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

/// The first number in CI, the second in the long run (`MILLSTREAM_SOAK=1`).
#[must_use]
pub fn scale<T>(ci: T, soak: T) -> T {
    match std::env::var("MILLSTREAM_SOAK") {
        Ok(value) if value != "0" && !value.is_empty() => soak,
        _ => ci,
    }
}
