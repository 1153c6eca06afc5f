//! The options of `run` that say from which state a job starts, as options of the configuration.

use anyhow::Result;
use millstream_config::options;

use crate::arguments::RecoveryArguments;
use crate::client_path;
use crate::target::Said;

/// The properties that the options set.
pub(crate) fn properties(arguments: &RecoveryArguments) -> Result<Vec<Said>> {
    let mut said = Vec::new();
    if let Some(path) = &arguments.from_savepoint {
        said.push(Said {
            option: "-s",
            key: options::EXECUTION_STATE_RECOVERY_PATH.key(),
            value: client_path::absolute(path)?,
        });
    }
    if arguments.allow_non_restored_state {
        said.push(Said {
            option: "-n",
            key: options::EXECUTION_STATE_RECOVERY_IGNORE_UNCLAIMED_STATE.key(),
            value: "true".to_owned(),
        });
    }
    if let Some(mode) = &arguments.claim_mode {
        said.push(Said {
            option: "--claimMode",
            key: options::EXECUTION_STATE_RECOVERY_CLAIM_MODE.key(),
            value: mode.to_uppercase(),
        });
    }
    Ok(said)
}
