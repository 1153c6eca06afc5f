//! Decides whether a job restarts after a failure, and when.

use std::collections::VecDeque;
use std::time::Duration;

use millstream_types::Timestamp;

use crate::config::RestartStrategy;

/// The failures of a job, as far as its restart strategy looks at them.
#[derive(Debug)]
pub(crate) struct Restarts {
    strategy: RestartStrategy,
    /// The number of failures that count: of all, or of those in a row.
    counted: u32,
    /// The last pause of an exponential delay, without its jitter.
    backoff: Duration,
    last: Option<Timestamp>,
    /// The latest failures, oldest first; not more than the strategy allows within its interval.
    latest: VecDeque<Timestamp>,
    /// The pause before the next restart.
    pause: Duration,
}

impl Restarts {
    /// No failure yet.
    pub(crate) const fn new(strategy: RestartStrategy) -> Self {
        Self {
            strategy,
            counted: 0,
            backoff: Duration::ZERO,
            last: None,
            latest: VecDeque::new(),
            pause: Duration::ZERO,
        }
    }

    /// The pause before the restart that was allowed last.
    pub(crate) const fn pause(&self) -> Duration {
        self.pause
    }

    /// Takes a failure in: the pause until the restart, or none if the job fails. One that does not
    /// count costs no attempt.
    pub(crate) fn on_failure(&mut self, now: Timestamp, counts: bool) -> Option<Duration> {
        let pause = match self.strategy {
            RestartStrategy::None => None,
            RestartStrategy::FixedDelay { attempts, delay } => {
                (attempts > 0 && self.has_attempt(attempts, counts)).then_some(delay)
            }
            RestartStrategy::ExponentialDelay {
                initial,
                max,
                multiplier,
                reset_after,
                jitter,
                attempts,
            } => {
                let quiet = self.last.map(|last| now.saturating_since(last));
                if quiet.is_none_or(|quiet| quiet >= reset_after.saturating_add(self.backoff)) {
                    (self.counted, self.backoff) = (0, initial.min(max));
                } else {
                    let longer = self.backoff.as_secs_f64() * multiplier;
                    self.backoff =
                        Duration::try_from_secs_f64(longer).map_or(max, |longer| longer.min(max));
                }
                let pause = self.backoff.mul_f64(1.0 + jitter * chance(now, self.counted));
                self.has_attempt(attempts, counts).then_some(pause)
            }
            RestartStrategy::FailureRate { failures_max, interval, delay } => {
                let is_old = |failure: &Timestamp| now.saturating_since(*failure) > interval;
                while self.latest.front().is_some_and(is_old) {
                    self.latest.pop_front();
                }
                let is_allowed = !counts || self.latest.len() < failures_max as usize;
                if counts && is_allowed {
                    self.latest.push_back(now);
                }
                is_allowed.then_some(delay)
            }
        };
        self.last = Some(now);
        self.pause = pause.unwrap_or_default();
        pause
    }

    fn has_attempt(&mut self, attempts: u32, counts: bool) -> bool {
        if !counts {
            return true;
        }
        let has = self.counted < attempts;
        self.counted = self.counted.saturating_add(u32::from(has));
        has
    }
}

/// A number from -1 to 1 that is another one for each failure, so that jobs which fail together do
/// not restart together.
#[expect(clippy::cast_precision_loss, reason = "a share needs no more than 53 bits")]
fn chance(now: Timestamp, failures: u32) -> f64 {
    let bits = now.as_millis().cast_unsigned() ^ (u64::from(failures) << 48);
    let mixed = (bits ^ (bits >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let share = (mixed >> 11) as f64 / (1_u64 << 53) as f64;
    2.0 * share - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    fn exponential(attempts: u32, jitter: f64) -> Restarts {
        Restarts::new(RestartStrategy::ExponentialDelay {
            initial: seconds(1),
            max: seconds(10),
            multiplier: 2.0,
            reset_after: seconds(100),
            jitter,
            attempts,
        })
    }

    #[test]
    fn a_fixed_delay_allows_so_many_restarts_and_more_for_what_does_not_count() {
        let delay = seconds(7);
        let mut restarts = Restarts::new(RestartStrategy::FixedDelay { attempts: 2, delay });
        for counts in [true, false, true, false] {
            assert_eq!(restarts.on_failure(at(0), counts), Some(delay));
        }
        assert_eq!(restarts.on_failure(at(0), true), None);
        let mut never = Restarts::new(RestartStrategy::FixedDelay { attempts: 0, delay });
        assert_eq!(never.on_failure(at(0), false), None);
        assert_eq!(Restarts::new(RestartStrategy::None).on_failure(at(0), true), None);
    }

    #[test]
    fn an_exponential_delay_grows_to_its_longest_and_starts_anew_after_a_quiet_time() {
        let mut restarts = exponential(99, 0.0);
        let pauses: Vec<_> = (0..6).map(|n| restarts.on_failure(at(n), true).unwrap()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 10, 10].map(seconds));
        assert_eq!(restarts.on_failure(at(5 + 109), true), Some(seconds(10)), "too early");
        assert_eq!(restarts.on_failure(at(114 + 110), true), Some(seconds(1)));
    }

    #[test]
    fn an_exponential_delay_may_end_after_some_attempts_in_a_row() {
        let mut restarts = exponential(2, 0.0);
        assert!(restarts.on_failure(at(0), true).is_some());
        assert!(restarts.on_failure(at(1), true).is_some());
        assert!(restarts.on_failure(at(200), true).is_some(), "a quiet time forgets them");
        assert!(restarts.on_failure(at(201), true).is_some());
        assert_eq!(restarts.on_failure(at(202), true), None);
    }

    #[test]
    fn jitter_makes_pauses_differ_within_its_part() {
        let pauses: Vec<Duration> =
            (0..100).map(|n| exponential(99, 0.1).on_failure(at(n), true).unwrap()).collect();
        let range = Duration::from_millis(900)..=Duration::from_millis(1_100);
        assert!(pauses.iter().all(|pause| range.contains(pause)), "{pauses:?}");
        let low = pauses.iter().filter(|pause| **pause < seconds(1)).count();
        assert!((20..=80).contains(&low), "{low} of 100 are shorter");
    }

    #[test]
    fn a_failure_rate_counts_those_of_the_last_interval() {
        let (delay, interval) = (seconds(3), seconds(60));
        let strategy = RestartStrategy::FailureRate { failures_max: 2, interval, delay };
        let mut restarts = Restarts::new(strategy);
        assert_eq!(restarts.on_failure(at(0), true), Some(delay));
        assert_eq!(restarts.on_failure(at(30), true), Some(delay));
        assert_eq!(restarts.on_failure(at(61), true), Some(delay), "the first one is over");
        assert_eq!(restarts.on_failure(at(62), false), Some(delay), "it does not count");
        assert_eq!(restarts.on_failure(at(63), true), None);
    }
}
