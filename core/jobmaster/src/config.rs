//! Settings of JobMasters, for the cluster and for one job.

mod checkpointing;
mod restarts;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_config::flink::{self, FlinkKey};
use millstream_config::{ConfigError, Configuration, FailoverStrategy, options};
use millstream_graph::{JobGraph, RuntimeMode};
use millstream_security::Authority;
use millstream_types::{ByteSize, LeaderEpoch};

pub use checkpointing::{CheckpointingConfig, Recovery, Retention};
pub use restarts::{RestartConfig, RestartStrategy};

/// Keys that a job may set for itself; everything else in its settings is for others.
const JOB_KEYS: [&str; 7] = [
    "execution.checkpointing.",
    "execution.state-recovery.",
    "restart-strategy",
    "jobmanager.execution.failover-strategy",
    "slot.request.timeout",
    "millstream.task.cancel-timeout",
    "millstream.sink.",
];

/// Whether a job may set `key`, which may be the old name of a key, for itself.
fn is_of_jobs(key: &str) -> bool {
    let begins = |key: &str| JOB_KEYS.iter().any(|known| key.starts_with(known));
    let is_old_name = |known: &FlinkKey| begins(known.key) && known.old_names.contains(&key);
    begins(key) || flink::keys().iter().any(is_old_name)
}

/// The order in which vertices are deployed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchedulingStrategy {
    /// All at once.
    Eager,
    /// Sources first, and each other vertex once all its producers run.
    LazyFromSource,
}

/// Settings of JobMasters.
#[derive(Debug, Clone, PartialEq)]
pub struct JobMasterConfig {
    /// The time that a job waits for slots before it fails.
    pub slot_request_timeout: Duration,
    /// The time that a host may take from its start until it is ready.
    pub host_start_timeout: Duration,
    /// The silence after which a host is killed.
    pub heartbeat_timeout: Duration,
    /// The time between two signs of life of a host.
    pub heartbeat_interval: Duration,
    /// The time that a task may take to obey a cancellation before its host is killed.
    pub cancel_timeout: Duration,
    /// The time that a job's sinks may take to publish their results before the job fails.
    pub commit_timeout: Duration,
    /// The most bytes in which a job's writers may name their results.
    pub committables_max: ByteSize,
    /// The time that the coordinator host may take to discard unpublished output.
    pub abort_timeout: Duration,
    /// The time that a stopped host may take to exit before it is killed.
    pub stop_grace: Duration,
    /// The time that a broken exchange waits for the failure that explains it.
    pub exchange_hold: Duration,
    /// The least time between two publications of metrics.
    pub publish_interval: Duration,
    /// The number of failures that are remembered.
    pub exception_history_size: usize,
    /// The length of a storage outage that costs a single attempt.
    pub outage_max: Duration,
    /// The time that the end of a failed job waits for the reason of a lost worker.
    pub explanation_wait: Duration,
    /// The scheduling strategy; unset: eager, and lazy in batch mode.
    pub scheduling: Option<SchedulingStrategy>,
    /// Whether a failure restarts the regions that it concerns, or all tasks.
    pub failover: FailoverStrategy,
    /// The restart strategy.
    pub restarts: RestartConfig,
    /// The settings of checkpoints.
    pub checkpointing: CheckpointingConfig,
    /// The issuer of the hosts' certificates, if the cluster has TLS.
    pub authority: Option<Arc<Authority>>,
    /// The epoch of this leader.
    pub epoch: LeaderEpoch,
}

impl Default for JobMasterConfig {
    fn default() -> Self {
        Self {
            slot_request_timeout: Duration::from_secs(300),
            host_start_timeout: Duration::from_secs(30),
            heartbeat_timeout: Duration::from_secs(50),
            heartbeat_interval: Duration::from_secs(10),
            cancel_timeout: Duration::from_secs(2),
            // A storage may be away for ten minutes, and thousands of files take a while.
            commit_timeout: Duration::from_secs(1200),
            committables_max: ByteSize::from_mib(64),
            abort_timeout: Duration::from_secs(10),
            stop_grace: Duration::from_secs(1),
            exchange_hold: Duration::from_millis(500),
            publish_interval: Duration::from_millis(100),
            exception_history_size: 16,
            // A NameNode of a large cluster needs minutes to start.
            outage_max: Duration::from_secs(600),
            // A NodeManager and a JobManager each speak to YARN within some seconds.
            explanation_wait: Duration::from_secs(10),
            scheduling: None,
            failover: FailoverStrategy::Region,
            restarts: RestartConfig::default(),
            checkpointing: CheckpointingConfig::default(),
            authority: None,
            epoch: LeaderEpoch::new(0),
        }
    }
}

impl JobMasterConfig {
    /// Reads the cluster's configuration.
    ///
    /// # Errors
    /// A value does not parse; a loaded configuration has been checked already.
    pub fn from_configuration(configuration: &Configuration) -> Result<Self, ConfigError> {
        let mut restarts = RestartConfig::default();
        restarts.override_with(configuration)?;
        Ok(Self {
            slot_request_timeout: configuration.get(&options::SLOT_REQUEST_TIMEOUT)?,
            host_start_timeout: configuration.get(&options::HOST_START_TIMEOUT)?,
            heartbeat_timeout: configuration.get(&options::HEARTBEAT_TIMEOUT)?,
            heartbeat_interval: configuration.get(&options::HEARTBEAT_INTERVAL)?,
            cancel_timeout: configuration.get(&options::TASK_CANCEL_TIMEOUT)?,
            commit_timeout: configuration.get(&options::SINK_COMMIT_TIMEOUT)?,
            committables_max: configuration.get(&options::SINK_COMMITTABLES_MAX)?,
            exception_history_size: configuration.get(&options::WEB_EXCEPTION_HISTORY_SIZE)?
                as usize,
            failover: configuration.get(&options::JOBMANAGER_EXECUTION_FAILOVER_STRATEGY)?,
            restarts,
            checkpointing: CheckpointingConfig::from_configuration(configuration)?,
            ..Self::default()
        })
    }

    /// Overrides the settings with those of the job itself.
    ///
    /// # Errors
    /// The job sets one of its keys to an invalid value.
    pub fn for_job(&self, settings: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let set = settings.iter().filter(|(key, _)| is_of_jobs(key));
        let set = Configuration::from_pairs(set.map(|(key, value)| (key.clone(), value.clone())))?;
        let mut config = self.clone();
        macro_rules! override_with {
            ($field:ident, $option:ident) => {
                if set.text(options::$option.key()).is_some() {
                    config.$field = set.get(&options::$option)?;
                }
            };
        }
        override_with!(failover, JOBMANAGER_EXECUTION_FAILOVER_STRATEGY);
        override_with!(slot_request_timeout, SLOT_REQUEST_TIMEOUT);
        override_with!(cancel_timeout, TASK_CANCEL_TIMEOUT);
        override_with!(commit_timeout, SINK_COMMIT_TIMEOUT);
        override_with!(committables_max, SINK_COMMITTABLES_MAX);
        config.restarts.override_with(&set)?;
        config.checkpointing.override_with_job(&set)?;
        Ok(config)
    }

    /// The time between two signs of life, and two checks for them: several fit in before their
    /// silence counts, however the cluster is configured.
    #[must_use]
    pub fn sign_of_life_interval(&self) -> Duration {
        self.heartbeat_interval.min(self.heartbeat_timeout / 4)
    }

    /// The scheduling strategy for `graph`.
    #[must_use]
    pub fn scheduling_of(&self, graph: &JobGraph) -> SchedulingStrategy {
        self.scheduling.unwrap_or(match graph.runtime_mode {
            RuntimeMode::Batch => SchedulingStrategy::LazyFromSource,
            RuntimeMode::Streaming | RuntimeMode::Automatic => SchedulingStrategy::Eager,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
    }

    #[test]
    fn without_a_strategy_a_job_restarts_if_it_takes_checkpoints() {
        let config = JobMasterConfig::from_configuration(&Configuration::new()).unwrap();
        assert_eq!(config.restarts.of_job(false), RestartStrategy::None);
        let exponential = RestartStrategy::ExponentialDelay {
            initial: Duration::from_secs(1),
            max: Duration::from_secs(60),
            multiplier: 1.5,
            reset_after: Duration::from_secs(3600),
            jitter: 0.1,
            attempts: 2_147_483_647,
        };
        assert_eq!(config.restarts.of_job(true), exponential);
        assert_eq!(config.slot_request_timeout, Duration::from_secs(300));
    }

    #[test]
    fn a_job_overrides_single_keys_of_the_cluster() {
        let cluster = JobMasterConfig::default();
        let cluster =
            cluster.for_job(&settings(&[("restart-strategy.fixed-delay.delay", "7 s")])).unwrap();
        let job = cluster
            .for_job(&settings(&[
                ("restart-strategy.type", "fixed-delay"),
                ("restart-strategy.fixed-delay.attempts", "3"),
                ("millstream.sink.commit-timeout", "5 s"),
                ("millstream.sink.committables-max", "1 mb"),
                ("parallelism.default", "not for us"),
            ]))
            .unwrap();
        let limits = (job.commit_timeout, job.committables_max);
        assert_eq!(limits, (Duration::from_secs(5), ByteSize::from_mib(1)));
        let delay = Duration::from_secs(7);
        let fixed = RestartStrategy::FixedDelay { attempts: 3, delay };
        assert_eq!(job.restarts.of_job(true), fixed);
        let none = job.for_job(&settings(&[("restart-strategy", "none")])).unwrap();
        assert_eq!(none.restarts.of_job(true), RestartStrategy::None);
    }

    #[test]
    fn a_value_that_is_none_names_its_key() {
        let wrong = settings(&[("restart-strategy.fixed-delay.delay", "soon")]);
        let error = JobMasterConfig::default().for_job(&wrong).unwrap_err().to_string();
        assert!(error.contains("restart-strategy.fixed-delay.delay"), "{error}");
        for (key, value) in [("backoff-multiplier", "0.5"), ("jitter-factor", "2")] {
            let key = format!("restart-strategy.exponential-delay.{key}");
            let wrong = settings(&[(&key, value)]);
            let error = JobMasterConfig::default().for_job(&wrong).unwrap_err().to_string();
            assert!(error.contains(&format!("{key} is {value}")), "{error}");
        }
    }
}
