//! A user's program as a child of this command.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use millstream_graph::JobSettings;
use millstream_launcher::{HostEnvironment, HostOutput, HostSpec, ProgramProcess};
use millstream_protocol::host::Role;
use millstream_types::HostId;

/// Starts a program. It runs in this shell's environment and writes to this terminal once it is
/// known to be one of ours; a limit of time keeps others from running on.
pub(crate) async fn start(
    path: &Path,
    role: Role,
    settings: &JobSettings,
    plan_timeout: Duration,
) -> Result<ProgramProcess> {
    // A name without a slash would be looked up in PATH, and a relative one moves with the
    // working directory.
    let path = std::path::absolute(path)?;
    let host = HostId::from_bytes(random_id()?);
    let spec = HostSpec {
        environment: HostEnvironment::Inherited,
        output: HostOutput::Relayed,
        start_timeout: plan_timeout,
        ..HostSpec::new(host, path)
    };
    Ok(ProgramProcess::start(spec, role, settings).await?.with_plan_timeout(plan_timeout))
}

/// 16 random bytes.
pub(crate) fn random_id() -> Result<[u8; 16]> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).context("the system has no random numbers")?;
    Ok(bytes)
}
