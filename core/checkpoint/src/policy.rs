//! The times of periodic checkpoints, and the count of failures in a row.

use std::time::{Duration, Instant};

/// Time before something that failed is tried again.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The times of periodic checkpoints, and the count of failures in a row.
#[derive(Debug)]
pub(crate) struct Policy {
    interval: Option<Duration>,
    min_pause: Duration,
    tolerable_failures: u32,
    /// When the next periodic checkpoint is due by the interval.
    due: Option<Instant>,
    /// When it would have been due, had tasks not been restarted.
    missed: Option<Instant>,
    last_end: Option<Instant>,
    failures: u32,
}

impl Policy {
    pub(crate) const fn new(
        interval: Option<Duration>,
        min_pause: Duration,
        tolerable_failures: u32,
    ) -> Self {
        let (due, missed, last_end) = (None, None, None);
        Self { interval, min_pause, tolerable_failures, due, missed, last_end, failures: 0 }
    }

    /// Takes in that all tasks run: from now on the interval counts. After a restart the checkpoint
    /// that was due meanwhile comes at once, since results wait for it.
    pub(crate) fn on_ready(&mut self, now: Instant) {
        if self.due.is_none() {
            let first = self.interval.and_then(|interval| now.checked_add(interval));
            let missed = self.missed.take().map(|missed| missed.max(now));
            self.due = first.map(|first| missed.map_or(first, |missed| missed.min(first)));
        }
    }

    /// Takes in that tasks do not run any more.
    pub(crate) fn on_restart(&mut self) {
        self.missed = self.due.take().or(self.missed);
        self.failures = 0;
    }

    /// The time of the next periodic checkpoint: when it is due and the pause is over.
    pub(crate) fn next_periodic(&self) -> Option<Instant> {
        let due = self.due?;
        let pause_ends = self.last_end.and_then(|end| end.checked_add(self.min_pause));
        Some(pause_ends.map_or(due, |end| end.max(due)))
    }

    /// Takes in that a periodic checkpoint starts. The next one is due an interval after this one
    /// was; those that were missed are left out.
    pub(crate) fn on_periodic(&mut self, now: Instant) {
        let (Some(due), Some(interval)) = (self.due, self.interval) else { return };
        let next = due.checked_add(interval).filter(|next| *next > now);
        self.due = next.or_else(|| now.checked_add(interval));
    }

    /// Takes in that a checkpoint has ended, whatever its end.
    pub(crate) const fn on_end(&mut self, now: Instant) {
        self.last_end = Some(now);
    }

    /// Takes in that a checkpoint is complete.
    pub(crate) const fn on_success(&mut self) {
        self.failures = 0;
    }

    /// Takes in that a checkpoint has failed; true if that is one too many.
    pub(crate) const fn on_failure(&mut self) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.failures > self.tolerable_failures
    }

    /// The number of failures since the last success.
    pub(crate) const fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn a_periodic_checkpoint_keeps_the_interval_and_the_pause() {
        let start = Instant::now();
        let mut policy = Policy::new(Some(secs(10)), secs(4), 0);
        assert_eq!(policy.next_periodic(), None, "no task runs");
        policy.on_ready(start);
        policy.on_ready(start + secs(3));
        assert_eq!(policy.next_periodic(), Some(start + secs(10)));
        policy.on_periodic(start + secs(10));
        assert_eq!(policy.next_periodic(), Some(start + secs(20)));
        policy.on_end(start + secs(18));
        assert_eq!(policy.next_periodic(), Some(start + secs(22)));
        policy.on_periodic(start + secs(22));
        assert_eq!(policy.next_periodic(), Some(start + secs(30)));
        policy.on_periodic(start + secs(55));
        assert_eq!(policy.next_periodic(), Some(start + secs(65)), "two were missed");
    }

    #[test]
    fn a_checkpoint_that_is_due_while_tasks_restart_comes_behind_that() {
        let start = Instant::now();
        let mut policy = Policy::new(Some(secs(10)), secs(4), 0);
        policy.on_restart();
        policy.on_ready(start);
        assert_eq!(policy.next_periodic(), Some(start + secs(10)), "nothing was due before");
        policy.on_restart();
        policy.on_ready(start + secs(3));
        assert_eq!(policy.next_periodic(), Some(start + secs(10)), "it is not due yet");
        policy.on_restart();
        policy.on_restart();
        policy.on_ready(start + secs(15));
        assert_eq!(policy.next_periodic(), Some(start + secs(15)));
        policy.on_periodic(start + secs(15));
        assert_eq!(policy.next_periodic(), Some(start + secs(25)));
        policy.on_end(start + secs(16));
        policy.on_restart();
        policy.on_ready(start + secs(17));
        assert_eq!(policy.next_periodic(), Some(start + secs(25)));
    }

    #[test]
    fn a_success_ends_a_row_of_failures() {
        let mut policy = Policy::new(None, secs(0), 1);
        assert!(!policy.on_failure());
        policy.on_success();
        assert!(!policy.on_failure());
        assert!(policy.on_failure());
    }
}
