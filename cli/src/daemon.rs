//! The entry points of the daemons.

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::arguments::DaemonArguments;

/// Runs a JobManager until it is told to stop.
pub(crate) fn job_manager(_arguments: &DaemonArguments) -> Result<ExitCode> {
    bail!("this build has no JobManager")
}

/// Runs a TaskManager until it is told to stop.
pub(crate) fn task_manager(_arguments: &DaemonArguments) -> Result<ExitCode> {
    bail!("this build has no TaskManager")
}
