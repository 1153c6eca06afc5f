//! The settings of a job's checkpoints: the cluster's, overridden by the job's own.

use std::num::NonZeroU32;

use millstream_checkpoint::Settings;
use millstream_config::{CheckpointingMode, ClaimMode, ConfigError, Configuration, options};
use millstream_types::ByteSize;

pub use millstream_config::CheckpointRetention as Retention;

/// The largest state that may be within the metadata, which is read and written as a whole.
const INLINE_MAX: ByteSize = ByteSize::from_mib(1);

/// The checkpoint or savepoint from which a job starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// Its directory.
    pub path: String,
    /// Whether the job starts although it lacks operators that have state there.
    pub ignore_unclaimed: bool,
    /// The owner of its files from then on.
    pub claim: ClaimMode,
}

/// The settings of a job's checkpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointingConfig {
    /// The options of the coordinator. Without an interval the job takes no checkpoints.
    pub settings: Settings,
    /// The directory in which each job has one of its own; `None`: checkpoints are kept in memory.
    pub directory: Option<String>,
    /// The directory of savepoints for which none is given.
    pub savepoint_directory: Option<String>,
    /// The most bytes of a state that is kept within the metadata.
    pub inline_max: u64,
    /// The fate of complete checkpoints when the job has ended.
    pub retention: Retention,
    /// Where the job starts from, if not from nothing: a setting of jobs alone, since all those of
    /// a cluster would start from the same.
    pub recovery: Option<Recovery>,
}

impl Default for CheckpointingConfig {
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            directory: None,
            savepoint_directory: None,
            inline_max: 20 << 10,
            retention: Retention::default(),
            recovery: None,
        }
    }
}

impl CheckpointingConfig {
    /// Reads the cluster's configuration.
    ///
    /// # Errors
    /// A value does not parse, or states within the metadata may be too large.
    pub(super) fn from_configuration(configuration: &Configuration) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        config.settings.history = configuration.get(&options::WEB_CHECKPOINTS_HISTORY)? as usize;
        config.override_with(configuration)?;
        Ok(config)
    }

    /// Overrides these settings with those of a job.
    ///
    /// # Errors
    /// A value does not parse, or states within the metadata may be too large.
    pub(super) fn override_with_job(&mut self, set: &Configuration) -> Result<(), ConfigError> {
        self.override_with(set)?;
        let path = set.get(&options::EXECUTION_STATE_RECOVERY_PATH)?;
        if let Some(path) = path.filter(|path| !path.is_empty()) {
            self.recovery = Some(Recovery {
                path,
                ignore_unclaimed: set
                    .get(&options::EXECUTION_STATE_RECOVERY_IGNORE_UNCLAIMED_STATE)?,
                claim: set.get(&options::EXECUTION_STATE_RECOVERY_CLAIM_MODE)?,
            });
        }
        Ok(())
    }

    /// Overrides these settings with those that `set` holds.
    ///
    /// # Errors
    /// A value does not parse, or states within the metadata may be too large.
    pub(super) fn override_with(&mut self, set: &Configuration) -> Result<(), ConfigError> {
        macro_rules! value_of {
            ($option:ident, $otherwise:expr) => {
                match set.text(options::$option.key()) {
                    Some(_) => set.get(&options::$option)?,
                    None => $otherwise,
                }
            };
        }
        let CheckpointingMode::ExactlyOnce = set.get(&options::EXECUTION_CHECKPOINTING_MODE)?;
        if let Some(interval) = set.get(&options::EXECUTION_CHECKPOINTING_INTERVAL)? {
            self.settings.interval = interval.duration();
        }
        let to = &mut self.settings;
        to.timeout = value_of!(EXECUTION_CHECKPOINTING_TIMEOUT, to.timeout);
        to.min_pause = value_of!(EXECUTION_CHECKPOINTING_MIN_PAUSE, to.min_pause);
        to.tolerable_failures =
            value_of!(EXECUTION_CHECKPOINTING_TOLERABLE_FAILED_CHECKPOINTS, to.tolerable_failures);
        to.after_tasks_finished = value_of!(
            EXECUTION_CHECKPOINTING_CHECKPOINTS_AFTER_TASKS_FINISH,
            to.after_tasks_finished
        );
        to.unaligned = value_of!(EXECUTION_CHECKPOINTING_UNALIGNED_ENABLED, to.unaligned);
        to.aligned_timeout =
            value_of!(EXECUTION_CHECKPOINTING_ALIGNED_CHECKPOINT_TIMEOUT, to.aligned_timeout);
        // The table refuses 0 for both.
        let concurrent =
            value_of!(EXECUTION_CHECKPOINTING_MAX_CONCURRENT_CHECKPOINTS, to.concurrent_max.get());
        to.concurrent_max = NonZeroU32::new(concurrent).unwrap_or(NonZeroU32::MIN);
        if to.unaligned && to.concurrent_max > NonZeroU32::MIN {
            return Err(ConfigError::Conflict(format!(
                "{} is true and {} is {}: an unaligned checkpoint needs to be the only one, set 1",
                options::EXECUTION_CHECKPOINTING_UNALIGNED_ENABLED.key(),
                options::EXECUTION_CHECKPOINTING_MAX_CONCURRENT_CHECKPOINTS.key(),
                to.concurrent_max
            )));
        }
        let retained = value_of!(EXECUTION_CHECKPOINTING_NUM_RETAINED, to.retained.get());
        to.retained = NonZeroU32::new(retained).unwrap_or(NonZeroU32::MIN);

        let directory = &mut self.directory;
        *directory = value_of!(EXECUTION_CHECKPOINTING_DIR, directory.take());
        let directory = &mut self.savepoint_directory;
        *directory = value_of!(EXECUTION_CHECKPOINTING_SAVEPOINT_DIR, directory.take());
        self.retention =
            value_of!(EXECUTION_CHECKPOINTING_EXTERNALIZED_CHECKPOINT_RETENTION, self.retention);
        let inline_max = value_of!(
            EXECUTION_CHECKPOINTING_DATA_INLINE_THRESHOLD,
            ByteSize::from_bytes(self.inline_max)
        );
        if inline_max > INLINE_MAX {
            return Err(ConfigError::Conflict(format!(
                "{} is {inline_max}, more than {INLINE_MAX}: such states belong into files, or the \
                 metadata of a checkpoint grows too large",
                options::EXECUTION_CHECKPOINTING_DATA_INLINE_THRESHOLD.key()
            )));
        }
        self.inline_max = inline_max.as_bytes();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::super::JobMasterConfig;
    use super::*;

    fn cluster(pairs: &[(&str, &str)]) -> Result<JobMasterConfig, ConfigError> {
        JobMasterConfig::from_configuration(&Configuration::from_pairs(pairs.iter().copied())?)
    }

    fn job_of(
        cluster: &JobMasterConfig,
        pairs: &[(&str, &str)],
    ) -> Result<CheckpointingConfig, ConfigError> {
        let settings: BTreeMap<String, String> =
            pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        cluster.for_job(&settings).map(|config| config.checkpointing)
    }

    #[test]
    fn an_empty_configuration_means_the_defaults() {
        assert_eq!(cluster(&[]).unwrap().checkpointing, CheckpointingConfig::default());
    }

    #[test]
    fn every_option_has_its_effect() {
        let config = cluster(&[
            ("execution.checkpointing.interval", "3 s"),
            ("execution.checkpointing.mode", "EXACTLY_ONCE"),
            ("execution.checkpointing.timeout", "1 min"),
            ("execution.checkpointing.min-pause", "500 ms"),
            ("execution.checkpointing.max-concurrent-checkpoints", "2"),
            ("execution.checkpointing.tolerable-failed-checkpoints", "4"),
            ("execution.checkpointing.num-retained", "5"),
            ("execution.checkpointing.checkpoints-after-tasks-finish", "false"),
            ("execution.checkpointing.data-inline-threshold", "1 kb"),
            ("execution.checkpointing.externalized-checkpoint-retention", "RETAIN_ON_CANCELLATION"),
            ("state.checkpoints.dir", "hdfs:///checkpoints"),
            ("state.savepoints.dir", "hdfs:///savepoints"),
            ("web.checkpoints.history", "7"),
        ]);
        let unaligned = cluster(&[("execution.checkpointing.unaligned.enabled", "true")]).unwrap();
        assert!(unaligned.checkpointing.settings.unaligned);
        let settings = Settings {
            interval: Some(Duration::from_secs(3)),
            timeout: Duration::from_secs(60),
            min_pause: Duration::from_millis(500),
            concurrent_max: NonZeroU32::new(2).unwrap(),
            tolerable_failures: 4,
            retained: NonZeroU32::new(5).unwrap(),
            after_tasks_finished: false,
            history: 7,
            ..Settings::default()
        };
        let expected = CheckpointingConfig {
            settings,
            directory: Some("hdfs:///checkpoints".to_owned()),
            savepoint_directory: Some("hdfs:///savepoints".to_owned()),
            inline_max: 1 << 10,
            retention: Retention::RetainOnCancellation,
            recovery: None,
        };
        assert_eq!(config.unwrap().checkpointing, expected);
    }

    #[test]
    fn a_job_overrides_single_options_of_the_cluster() {
        let cluster = cluster(&[
            ("execution.checkpointing.interval", "3 s"),
            ("execution.checkpointing.dir", "/cluster"),
            ("execution.checkpointing.num-retained", "5"),
        ])
        .unwrap();
        let own = [("execution.checkpointing.interval", "1 s"), ("state.checkpoints.dir", "/own")];
        let job = job_of(&cluster, &own).unwrap();
        assert_eq!(job.settings.interval, Some(Duration::from_secs(1)));
        assert_eq!(job.directory.as_deref(), Some("/own"));
        assert_eq!(job.settings.retained.get(), 5);
        assert_eq!(job_of(&cluster, &[]).unwrap(), cluster.checkpointing);
        let without = job_of(&cluster, &[("execution.checkpointing.interval", "0")]).unwrap();
        assert_eq!(without.settings.interval, None);
    }

    #[test]
    fn unaligned_checkpoints_are_taken_one_at_a_time() {
        let unaligned = ("execution.checkpointing.unaligned.enabled", "true");
        let two = ("execution.checkpointing.max-concurrent-checkpoints", "2");
        let refused = cluster(&[unaligned, two]).unwrap_err().to_string();
        assert!(refused.contains(unaligned.0) && refused.contains(two.0), "{refused}");
        let of_job = job_of(&cluster(&[two]).unwrap(), &[unaligned]).unwrap_err().to_string();
        assert!(of_job.contains("set 1"), "{of_job}");
        assert!(job_of(&cluster(&[unaligned]).unwrap(), &[]).unwrap().settings.unaligned);
        let off = ("execution.checkpointing.unaligned.enabled", "false");
        let both = job_of(&cluster(&[unaligned]).unwrap(), &[off, two]).unwrap();
        assert!(!both.settings.unaligned && both.settings.concurrent_max.get() == 2);
    }

    #[test]
    fn impossible_values_are_refused_with_their_key() {
        for (key, value, part) in [
            ("interval", "9 ms", "expected at least 10 ms"),
            ("timeout", "0", "expected more than 0"),
            ("max-concurrent-checkpoints", "0", "expected more than 0"),
            ("num-retained", "0", "expected more than 0"),
            ("mode", "AT_LEAST_ONCE", "use EXACTLY_ONCE"),
            ("data-inline-threshold", "2 mb", "belong into files"),
            ("externalized-checkpoint-retention", "KEEP", "RETAIN_ON_CANCELLATION"),
        ] {
            let key = format!("execution.checkpointing.{key}");
            let of_cluster = cluster(&[(&key, value)]).map(|_| ());
            let of_job = job_of(&JobMasterConfig::default(), &[(&key, value)]).map(|_| ());
            for refused in [of_cluster, of_job] {
                let sentence = refused.unwrap_err().to_string();
                assert!(sentence.contains(&key) && sentence.contains(part), "{sentence}");
            }
        }
    }
}
