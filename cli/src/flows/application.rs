//! Deploys a cluster for one program, whose build function runs in that cluster.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use millstream_config::{Configuration, options};
use millstream_protocol::job::JobSettings;
use millstream_rm_driver::{ArtifactFile, ClusterEnd, ClusterId, Purpose};
use millstream_storage::FilePath;
use millstream_types::JobId;
use prost::Message as _;

use super::vigil::{Attachment, until_over};
use super::{client_of, deploy, deployment, session};
use crate::arguments::RunArguments;
use crate::drivers::Driver;
use crate::program::random_id;
use crate::settings::ClientHeartbeat;
use crate::submission::Artifact;
use crate::{console, runtime, settings, signals};

/// Interval of polling for the end of an application.
const WATCH_INTERVAL: Duration = Duration::from_millis(200);

/// Deploys a program; waits for its end only if `execution.attached` says so, as in Flink.
pub(crate) fn run(
    driver: &'static dyn Driver,
    arguments: &RunArguments,
    configuration: &Configuration,
    properties: &[String],
) -> Result<ExitCode> {
    let settings = settings::job_settings(configuration, properties, &arguments.program)?;
    let attached = configuration.get(&options::EXECUTION_ATTACHED)? && !arguments.detached;
    let heartbeat = ClientHeartbeat::of(configuration)?;
    let mut deployer = driver.deployer(configuration, None)?;
    let (path, _) = arguments.program.split();
    let artifact = match FilePath::from(path.as_path()) {
        file if file.local().is_some() => {
            millstream_launcher::inspect_artifact(&path)
                .with_context(|| format!("cannot run {}", path.display()))?;
            ArtifactFile::Local(Artifact::read(&path)?.to_executable())
        }
        staged => ArtifactFile::Staged(staged),
    };
    let purpose = Purpose::Application {
        first_job: JobId::from_bytes(random_id()?),
        settings: Bytes::from(JobSettings::from(&settings).encode_to_vec()),
        artifact,
    };
    runtime()?.block_on(async {
        let deployment = deployment(purpose, attached, None)?;
        let (id, up) = deploy(deployer.as_mut(), deployment).await?;
        let client = client_of(&up, configuration)?;
        console::print(format_args!("JobManager Web Interface: {}", up.web_page));
        if !attached {
            return Ok(ExitCode::SUCCESS);
        }
        let attachment = Attachment {
            look_interval: WATCH_INTERVAL,
            heartbeat_interval: heartbeat.interval,
            holds_lease: true,
        };
        let signal = tokio::select! {
            over = until_over(deployer.as_mut(), &client, &id, attachment) => {
                return how_it_ended(&id, &over?);
            }
            signal = signals::interruption() => signal?,
        };
        let _ = session::stop(deployer.as_mut(), &client, &id).await?;
        Ok(signals::exit_code(signal))
    })
}

/// Prints the final message of an application that succeeded; one that failed is an error.
fn how_it_ended(id: &ClusterId, end: &ClusterEnd) -> Result<ExitCode> {
    if end.succeeded {
        console::print(format_args!("{id} has finished: {}", end.said));
        return Ok(ExitCode::SUCCESS);
    }
    bail!("{id} ended ({}): {}", end.state, end.why);
}
