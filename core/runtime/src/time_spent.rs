//! A task's time, divided into working, idle and backpressured.
//!
//! The task's own thread notes each change of activity; the thread that reports metrics reads. A
//! reader counts the time since the last change too, so every sample adds up to the time that has
//! passed, also while the slot's thread does not come round to the task.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The activity of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activity {
    /// It works, or has work and waits for its turn.
    Busy,
    /// It has no input.
    Idle,
    /// Its output is not taken.
    Backpressured,
}

/// Nanoseconds per activity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    pub(crate) busy_ns: u64,
    pub(crate) idle_ns: u64,
    pub(crate) backpressured_ns: u64,
}

impl Spent {
    fn add(&mut self, activity: Activity, from: Instant, to: Instant) {
        let nanos = u64::try_from(to.saturating_duration_since(from).as_nanos());
        let total = match activity {
            Activity::Busy => &mut self.busy_ns,
            Activity::Idle => &mut self.idle_ns,
            Activity::Backpressured => &mut self.backpressured_ns,
        };
        *total = total.saturating_add(nanos.unwrap_or(u64::MAX));
    }
}

#[derive(Debug, Default)]
struct Account {
    spent: Spent,
    /// The present activity, and its start; none before the task's start and after its end.
    current: Option<(Activity, Instant)>,
}

/// A task's time account.
#[derive(Debug, Default)]
pub(crate) struct TimeSpent(Mutex<Account>);

impl TimeSpent {
    /// From `now` on the task does this.
    pub(crate) fn turn_to(&self, activity: Activity, now: Instant) {
        self.replace(activity, now);
    }

    /// As [`Self::turn_to`]; the activity before.
    pub(crate) fn replace(&self, activity: Activity, now: Instant) -> Activity {
        let mut account = self.account();
        let before = account.current.map_or(activity, |(before, _)| before);
        account.close(now);
        account.current = Some((activity, now));
        before
    }

    /// The task has ended.
    pub(crate) fn end(&self, now: Instant) {
        self.account().close(now);
    }

    /// The time spent until `now`.
    pub(crate) fn until(&self, now: Instant) -> Spent {
        let account = self.account();
        let mut spent = account.spent;
        if let Some((activity, since)) = account.current {
            spent.add(activity, since, now);
        }
        spent
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Account {
    fn close(&mut self, now: Instant) {
        if let Some((activity, since)) = self.current.take() {
            self.spent.add(activity, since, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn total_ms(spent: Spent) -> u64 {
        (spent.busy_ns + spent.idle_ns + spent.backpressured_ns) / 1_000_000
    }

    #[test]
    fn every_sample_adds_up_although_nothing_changes_between_samples() {
        let (start, time) = (Instant::now(), TimeSpent::default());
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(time.until(at(5)), Spent::default(), "it has not begun");
        time.turn_to(Activity::Busy, at(10));
        time.turn_to(Activity::Backpressured, at(30));
        for ms in [30, 31, 130, 1_000, 60_000] {
            assert_eq!(total_ms(time.until(at(ms))), ms - 10);
        }
        assert_eq!(time.until(at(1_030)).backpressured_ns, 1_000_000_000);
        time.turn_to(Activity::Idle, at(2_030));
        time.end(at(3_030));
        let millis = |ms: u64| ms * 1_000_000;
        let end =
            Spent { busy_ns: millis(20), idle_ns: millis(1_000), backpressured_ns: millis(2_000) };
        assert_eq!(time.until(at(9_000)), end, "its end is its end");
    }
}
