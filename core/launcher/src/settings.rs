//! The settings that a program is told when it plans: one reading of the options for the command
//! line and REST.

use std::collections::BTreeMap;

use millstream_config::{ConfigError, Configuration, options};
use millstream_graph::JobSettings;
use millstream_types::MaxParallelism;

/// The settings of one run of a program, beside the configuration.
#[derive(Debug, Clone, Default)]
pub struct RunRequest {
    /// The program's arguments.
    pub args: Vec<String>,
    /// The job of the program, if one was named.
    pub entry: Option<String>,
    /// The parallelism, instead of `parallelism.default`.
    pub parallelism: Option<u32>,
    /// Options that were set for this run alone.
    pub config: BTreeMap<String, String>,
}

/// An option has a value that no job can have.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// It cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The parallelism is out of range.
    #[error(
        "the parallelism is {0}, but must be 1 to {max}: set it with -p or parallelism.default",
        max = MaxParallelism::MAX.get()
    )]
    Parallelism(u32),
    /// The number of key groups is out of range.
    #[error(
        "pipeline.max-parallelism is {0}, but must be 1 to {max}, or -1 to derive it",
        max = MaxParallelism::MAX.get()
    )]
    MaxParallelism(i32),
}

impl RunRequest {
    /// The settings of the job; `configuration` has the request's options on top.
    ///
    /// # Errors
    /// See [`SettingsError`].
    pub fn settings(self, configuration: &Configuration) -> Result<JobSettings, SettingsError> {
        let parallelism = match self.parallelism {
            Some(parallelism) => parallelism,
            None => configuration.get(&options::PARALLELISM_DEFAULT)?,
        };
        if parallelism == 0 || parallelism > MaxParallelism::MAX.get() {
            return Err(SettingsError::Parallelism(parallelism));
        }
        let mut config = self.config;
        // Planning needs to know whether checkpoints publish the results of endless input.
        if let Some(interval) = configuration.get(&options::EXECUTION_CHECKPOINTING_INTERVAL)? {
            let key = options::EXECUTION_CHECKPOINTING_INTERVAL.key();
            let duration = interval.duration().unwrap_or_default();
            config.entry(key.to_owned()).or_insert(format!("{} ms", duration.as_millis()));
        }
        // The name is a setting of the job, from any layer.
        if let Some(name) = configuration.get(&options::PIPELINE_NAME)? {
            config.insert(options::PIPELINE_NAME.key().to_owned(), name);
        }
        let mut settings = JobSettings {
            args: self.args,
            entry: self.entry,
            parallelism,
            max_parallelism: max_parallelism(configuration)?,
            chaining: configuration.get(&options::PIPELINE_OPERATOR_CHAINING_ENABLED)?,
            runtime_mode: configuration.get(&options::EXECUTION_RUNTIME_MODE)?,
            buffer_timeout_ms: buffer_timeout_ms(configuration)?,
            config,
        };
        settings
            .set_watermark_interval(configuration.get(&options::PIPELINE_AUTO_WATERMARK_INTERVAL)?);
        settings.set_serialize_always(configuration.get(&options::EXECUTION_SERIALIZE_ALWAYS)?);
        Ok(settings)
    }
}

/// Unset, it is derived from each operator's parallelism.
fn max_parallelism(configuration: &Configuration) -> Result<Option<MaxParallelism>, SettingsError> {
    let configured = configuration.get(&options::PIPELINE_MAX_PARALLELISM)?;
    if configured == -1 {
        return Ok(None);
    }
    let count = u32::try_from(configured).ok().and_then(MaxParallelism::new);
    count.map(Some).ok_or(SettingsError::MaxParallelism(configured))
}

fn buffer_timeout_ms(configuration: &Configuration) -> Result<i64, SettingsError> {
    if !configuration.get(&options::EXECUTION_BUFFER_TIMEOUT_ENABLED)? {
        return Ok(-1);
    }
    let interval = configuration.get(&options::EXECUTION_BUFFER_TIMEOUT_INTERVAL)?;
    Ok(i64::try_from(interval.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn settings(
        pairs: &[(&str, &str)],
        parallelism: Option<u32>,
    ) -> Result<JobSettings, SettingsError> {
        let configuration = Configuration::from_pairs(pairs.iter().copied()).unwrap();
        RunRequest { parallelism, ..RunRequest::default() }.settings(&configuration)
    }

    #[test]
    fn the_request_wins_over_the_configuration() {
        let configured = [("parallelism.default", "3")];
        assert_eq!(settings(&configured, None).unwrap().parallelism, 3);
        assert_eq!(settings(&configured, Some(2)).unwrap().parallelism, 2);
        for bad in [0, 32_769, u32::MAX] {
            let error = settings(&[], Some(bad)).unwrap_err().to_string();
            assert!(error.contains(&format!("is {bad}, but must be 1 to 32768")), "{error}");
        }
    }

    #[test]
    fn the_interval_of_checkpoints_travels_from_any_layer() {
        let key = "execution.checkpointing.interval";
        for (configured, millis) in [("10 s", "10000 ms"), ("0", "0 ms"), ("50ms", "50 ms")] {
            assert_eq!(settings(&[(key, configured)], None).unwrap().config[key], millis);
        }
    }

    #[test]
    fn the_number_of_key_groups_is_configured_or_left_open() {
        assert_eq!(settings(&[], Some(200)).unwrap().max_parallelism, None);
        let set = settings(&[("pipeline.max-parallelism", "7")], None).unwrap();
        assert_eq!(set.max_parallelism, MaxParallelism::new(7));
        for bad in ["0", "-2", "40000"] {
            let error = settings(&[("pipeline.max-parallelism", bad)], None).unwrap_err();
            assert!(error.to_string().contains(&format!("max-parallelism is {bad}")), "{error}");
        }
    }

    #[test]
    fn watermarks_come_as_often_as_configured() {
        for (configured, millis) in [("1 s", 1_000), ("0", 0), ("200 ms", 200)] {
            let pair = [("pipeline.auto-watermark-interval", configured)];
            let set = settings(&pair, None).unwrap();
            assert_eq!(set.watermark_interval(), Duration::from_millis(millis));
        }
        assert_eq!(settings(&[], None).unwrap().watermark_interval(), Duration::from_millis(200));
        assert!(settings(&[], None).unwrap().config.is_empty(), "only what was asked for");
    }

    #[test]
    fn buffers_wait_as_configured() {
        let set = settings(&[("execution.buffer-timeout.interval", "5 ms")], None).unwrap();
        assert_eq!(set.buffer_timeout_ms, 5);
        let set = settings(&[("execution.buffer-timeout.enabled", "false")], None).unwrap();
        assert_eq!(set.buffer_timeout_ms, -1);
    }
}
