//! The source of time of the data plane, which a test can move by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::Timestamp;

/// The longest sleep of a thread that waits for a manual clock.
const MANUAL_SLEEP_MAX: Duration = Duration::from_millis(1);

/// Tells the time to slots, tasks, operators and connectors, which never ask the system. Clones
/// tell the same time.
#[derive(Debug, Clone, Default)]
pub struct Clock(Option<ManualClock>);

impl Clock {
    /// The system's monotonic clock.
    #[must_use]
    pub const fn system() -> Self {
        Self(None)
    }

    /// The time.
    #[inline]
    #[must_use]
    pub fn now(&self) -> Instant {
        match &self.0 {
            None => Instant::now(),
            Some(manual) => manual.now(),
        }
    }

    /// The wall clock's time, which may jump in both directions.
    #[must_use]
    pub fn wall(&self) -> Timestamp {
        match &self.0 {
            None => Timestamp::now(),
            Some(manual) => manual.wall(),
        }
    }

    /// The time that a thread may sleep at most before it asks again whether something is due.
    #[must_use]
    pub fn sleep_until(&self, due: Instant) -> Duration {
        let left = due.saturating_duration_since(self.now());
        if self.0.is_some() { left.min(MANUAL_SLEEP_MAX) } else { left }
    }
}

/// A clock that stands still until it is moved. Clones are the same clock.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<Hands>);

#[derive(Debug)]
struct Hands {
    start: Instant,
    start_wall: Timestamp,
    passed_ns: AtomicU64,
    wall_set_ms: AtomicI64,
    asked: AtomicU64,
}

impl ManualClock {
    /// A clock that says the present time.
    #[must_use]
    pub fn new() -> Self {
        Self::at(Timestamp::now())
    }

    /// A clock whose wall clock says this time.
    #[must_use]
    pub fn at(start_wall: Timestamp) -> Self {
        let (passed_ns, asked) = (AtomicU64::new(0), AtomicU64::new(0));
        let (start, wall_set_ms) = (Instant::now(), AtomicI64::new(0));
        Self(Arc::new(Hands { start, start_wall, passed_ns, wall_set_ms, asked }))
    }

    /// The clock as the data plane takes it.
    #[must_use]
    pub fn clock(&self) -> Clock {
        Clock(Some(self.clone()))
    }

    /// Moves it forward.
    pub fn advance(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.0.passed_ns.fetch_add(nanos, Ordering::SeqCst);
    }

    /// Moves the wall clock alone, forward or back, as when it is set.
    pub fn set_wall(&self, by_ms: i64) {
        self.0.wall_set_ms.fetch_add(by_ms, Ordering::SeqCst);
    }

    /// The number of times that it was asked.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.0.asked.load(Ordering::SeqCst)
    }

    fn now(&self) -> Instant {
        self.0.asked.fetch_add(1, Ordering::SeqCst);
        self.0.start + self.passed()
    }

    fn wall(&self) -> Timestamp {
        let passed = self.0.start_wall.saturating_add(self.passed());
        let set_ms = self.0.wall_set_ms.load(Ordering::SeqCst);
        Timestamp::from_millis(passed.as_millis().saturating_add(set_ms))
    }

    fn passed(&self) -> Duration {
        Duration::from_nanos(self.0.passed_ns.load(Ordering::SeqCst))
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_stands_still_until_it_is_moved() {
        let manual = ManualClock::new();
        let clock = manual.clock();
        let (start, wall) = (clock.now(), clock.wall());
        assert_eq!((clock.now(), clock.wall()), (start, wall));
        manual.advance(Duration::from_secs(60));
        assert_eq!(clock.now() - start, Duration::from_secs(60));
        assert_eq!(clock.wall().saturating_since(wall), Duration::from_secs(60));
        assert_eq!(clock.sleep_until(start), Duration::ZERO);
        assert_eq!(clock.sleep_until(start + Duration::from_secs(61)), MANUAL_SLEEP_MAX);
        assert_eq!(manual.asked(), 5);
        manual.set_wall(-120_000);
        assert_eq!(wall.saturating_since(clock.wall()), Duration::from_secs(60));
        assert_eq!(clock.now() - start, Duration::from_secs(60));
    }

    #[test]
    fn a_manual_clock_begins_at_a_given_wall_time() {
        let manual = ManualClock::at(Timestamp::from_millis(7));
        manual.advance(Duration::from_millis(3));
        assert_eq!(manual.clock().wall(), Timestamp::from_millis(10));
    }
}
