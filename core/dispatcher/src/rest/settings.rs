//! What a program started from here is told, from the cluster's configuration and the request's.

use std::collections::BTreeMap;

use millstream_config::{Configuration, options};
use millstream_graph::{JobSettings, RuntimeMode};
use millstream_types::MaxParallelism;

use super::answer::RestError;

/// The settings of a job: the cluster's defaults, the request's configuration over them, and its
/// parallelism over both.
pub(super) fn job_settings(
    cluster: &Configuration,
    args: Vec<String>,
    config: BTreeMap<String, String>,
    parallelism: Option<u32>,
) -> Result<JobSettings, RestError> {
    let bad = |error: millstream_config::ConfigError| RestError::bad(error.to_string());
    let own = config.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let all = cluster.with_request(own).map_err(bad)?;

    let max = all.get(&options::PIPELINE_MAX_PARALLELISM).map_err(bad)?;
    let max_parallelism = match u32::try_from(max) {
        Ok(max) => MaxParallelism::new(max).ok_or_else(|| {
            RestError::bad(format!("pipeline.max-parallelism is {max}, but must be 1 to 32768"))
        })?,
        Err(_) => MaxParallelism::DEFAULT,
    };
    let parallelism = match parallelism {
        Some(parallelism) => parallelism,
        None => all.get(&options::PARALLELISM_DEFAULT).map_err(bad)?,
    };
    if parallelism == 0 || parallelism > MaxParallelism::MAX.get() {
        let limit = MaxParallelism::MAX.get();
        return Err(RestError::bad(format!(
            "the parallelism is {parallelism}, but must be 1 to {limit}"
        )));
    }
    let buffered = all.get(&options::EXECUTION_BUFFER_TIMEOUT_ENABLED).map_err(bad)?;
    let timeout = all.get(&options::EXECUTION_BUFFER_TIMEOUT_INTERVAL).map_err(bad)?;
    let timeout_ms = i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
    Ok(JobSettings {
        args,
        entry: None,
        parallelism,
        max_parallelism,
        chaining: all.get(&options::PIPELINE_OPERATOR_CHAINING_ENABLED).map_err(bad)?,
        runtime_mode: match all.get(&options::EXECUTION_RUNTIME_MODE).map_err(bad)? {
            millstream_config::RuntimeMode::Streaming => RuntimeMode::Streaming,
            millstream_config::RuntimeMode::Batch => RuntimeMode::Batch,
            millstream_config::RuntimeMode::Automatic => RuntimeMode::Automatic,
        },
        buffer_timeout_ms: if buffered { timeout_ms } else { -1 },
        config,
    })
}
