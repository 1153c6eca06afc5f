//! The settings of a program that REST starts, from the cluster's configuration and the request's.

use std::collections::BTreeMap;

use millstream_config::Configuration;
use millstream_graph::JobSettings;
use millstream_launcher::RunRequest;

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

    let request = RunRequest { args, entry: None, parallelism, config };
    request.settings(&all).map_err(|error| RestError::bad(error.to_string()))
}
