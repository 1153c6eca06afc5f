//! The settings of the restart strategy.

use std::time::Duration;

use millstream_config::{ConfigError, Configuration, RestartStrategyType, options};

/// The restart strategy: what follows a failure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RestartStrategy {
    /// The job fails.
    None,
    /// The job restarts.
    FixedDelay {
        /// The number of restarts at most.
        attempts: u32,
        /// The least time between failure and restart.
        delay: Duration,
    },
    /// The job restarts, each time after a longer pause.
    ExponentialDelay {
        /// The first pause.
        initial: Duration,
        /// The longest pause.
        max: Duration,
        /// The factor from one pause to the next.
        multiplier: f64,
        /// The time without a failure after which the next pause is the first one again.
        reset_after: Duration,
        /// The part of a pause by which it is made longer or shorter.
        jitter: f64,
        /// The number of restarts in a row at most.
        attempts: u32,
    },
    /// The job restarts unless it fails too often.
    FailureRate {
        /// The number of failures within the interval after which it restarts still.
        failures_max: u32,
        /// The interval.
        interval: Duration,
        /// The least time between failure and restart.
        delay: Duration,
    },
}

/// The options of all strategies, and which one is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RestartConfig {
    /// The chosen strategy; unset: that of a job with checkpoints, or of one without.
    pub strategy: Option<RestartStrategyType>,
    fixed: RestartStrategy,
    exponential: RestartStrategy,
    rate: RestartStrategy,
}

impl Default for RestartConfig {
    fn default() -> Self {
        let second = Duration::from_secs(1);
        Self {
            strategy: None,
            fixed: RestartStrategy::FixedDelay { attempts: 1, delay: second },
            exponential: RestartStrategy::ExponentialDelay {
                initial: second,
                max: Duration::from_secs(60),
                multiplier: 1.5,
                reset_after: Duration::from_secs(3600),
                jitter: 0.1,
                attempts: i32::MAX.unsigned_abs(),
            },
            rate: RestartStrategy::FailureRate {
                failures_max: 1,
                interval: Duration::from_secs(60),
                delay: second,
            },
        }
    }
}

impl RestartConfig {
    /// The strategy of a job.
    #[must_use]
    pub fn of_job(&self, takes_checkpoints: bool) -> RestartStrategy {
        match self.strategy {
            Some(RestartStrategyType::None) => RestartStrategy::None,
            None if !takes_checkpoints => RestartStrategy::None,
            Some(RestartStrategyType::FixedDelay) => self.fixed,
            Some(RestartStrategyType::ExponentialDelay) | None => self.exponential,
            Some(RestartStrategyType::FailureRate) => self.rate,
        }
    }

    /// Overrides these settings with those that `set` holds.
    ///
    /// # Errors
    /// A value does not parse, or cannot be meant.
    pub(super) fn override_with(&mut self, set: &Configuration) -> Result<(), ConfigError> {
        macro_rules! change {
            ($value:expr, $option:ident) => {
                if set.text(options::$option.key()).is_some() {
                    *$value = set.get(&options::$option)?;
                }
            };
        }
        change!(&mut self.strategy, RESTART_STRATEGY_TYPE);
        if let RestartStrategy::FixedDelay { attempts, delay } = &mut self.fixed {
            change!(attempts, RESTART_STRATEGY_FIXED_DELAY_ATTEMPTS);
            change!(delay, RESTART_STRATEGY_FIXED_DELAY_DELAY);
        }
        if let RestartStrategy::ExponentialDelay {
            initial,
            max,
            multiplier,
            reset_after,
            jitter,
            attempts,
        } = &mut self.exponential
        {
            change!(initial, RESTART_STRATEGY_EXPONENTIAL_DELAY_INITIAL_BACKOFF);
            change!(max, RESTART_STRATEGY_EXPONENTIAL_DELAY_MAX_BACKOFF);
            change!(multiplier, RESTART_STRATEGY_EXPONENTIAL_DELAY_BACKOFF_MULTIPLIER);
            change!(reset_after, RESTART_STRATEGY_EXPONENTIAL_DELAY_RESET_BACKOFF_THRESHOLD);
            change!(jitter, RESTART_STRATEGY_EXPONENTIAL_DELAY_JITTER_FACTOR);
            change!(attempts, RESTART_STRATEGY_EXPONENTIAL_DELAY_ATTEMPTS_BEFORE_RESET_BACKOFF);
            if *multiplier < 1.0 {
                let key = options::RESTART_STRATEGY_EXPONENTIAL_DELAY_BACKOFF_MULTIPLIER.key();
                let why = format!(
                    "{key} is {multiplier}: pauses would become shorter, so 1 is the least"
                );
                return Err(ConfigError::Conflict(why));
            }
            if !(0.0..=1.0).contains(jitter) {
                let key = options::RESTART_STRATEGY_EXPONENTIAL_DELAY_JITTER_FACTOR.key();
                let why = format!("{key} is {jitter}: it is a part of the pause, from 0 to 1");
                return Err(ConfigError::Conflict(why));
            }
        }
        if let RestartStrategy::FailureRate { failures_max, interval, delay } = &mut self.rate {
            change!(failures_max, RESTART_STRATEGY_FAILURE_RATE_MAX_FAILURES_PER_INTERVAL);
            change!(interval, RESTART_STRATEGY_FAILURE_RATE_FAILURE_RATE_INTERVAL);
            change!(delay, RESTART_STRATEGY_FAILURE_RATE_DELAY);
        }
        Ok(())
    }
}
