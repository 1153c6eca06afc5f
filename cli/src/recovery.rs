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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_run_are_options_of_the_configuration() {
        let said = |arguments| {
            let said = properties(&arguments).unwrap().into_iter();
            said.map(|said| format!("{}={}", said.key, said.value)).collect::<Vec<_>>()
        };
        assert_eq!(said(RecoveryArguments::default()), [""; 0]);
        let all = RecoveryArguments {
            from_savepoint: Some("sp/1".to_owned()),
            allow_non_restored_state: true,
            claim_mode: Some("no_claim".to_owned()),
        };
        let path = std::env::current_dir().unwrap().join("sp/1");
        let expected = [
            format!("execution.state-recovery.path={}", path.display()),
            "execution.state-recovery.ignore-unclaimed-state=true".to_owned(),
            "execution.state-recovery.claim-mode=NO_CLAIM".to_owned(),
        ];
        assert_eq!(said(all), expected);
    }
}
