//! A cluster of its own for a program, whose build function runs there.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use millstream_config::{Configuration, options};
use millstream_rm_yarn::deployer::{self, ArtifactFile};
use millstream_rm_yarn::ids::ApplicationId;
use millstream_rm_yarn::proto::yarn::ApplicationReportProto;
use millstream_rm_yarn::staging::Executable;
use millstream_storage::FilePath;
use millstream_types::JobId;

use super::vigil::{Attachment, until_over};
use super::{Purpose, Yarn, client_of, deployment, session};
use crate::arguments::RunArguments;
use crate::program::random_id;
use crate::settings::ClientHeartbeat;
use crate::{console, run, runtime, settings};

/// How often the end of an application is looked for.
const WATCH_INTERVAL: Duration = Duration::from_millis(200);

/// Deploys a program; waits for its end only if `execution.attached` says so, as in Flink.
pub(crate) fn run(
    arguments: &RunArguments,
    configuration: &Configuration,
    properties: &[String],
) -> Result<ExitCode> {
    let settings = settings::job_settings(configuration, properties, &arguments.program)?;
    let attached = configuration.get(&options::EXECUTION_ATTACHED)? && !arguments.detached;
    let heartbeat = ClientHeartbeat::of(configuration)?;
    let mut yarn = Yarn::connect(configuration)?;
    let (path, _) = arguments.program.split();
    let artifact = match FilePath::from(path.as_path()) {
        file if file.local().is_some() => {
            millstream_launcher::inspect_artifact(&path)
                .with_context(|| format!("cannot run {}", path.display()))?;
            ArtifactFile::Local(Executable::read(&path)?)
        }
        staged => ArtifactFile::Staged(yarn.qualified(staged)),
    };
    let purpose = Purpose::Application {
        first_job: JobId::from_bytes(random_id()?),
        settings: (&settings).into(),
        artifact,
    };
    runtime()?.block_on(async {
        let deployment = deployment(&yarn, configuration, purpose, attached, None)?;
        let (up, credentials) = session::deploy(&mut yarn, deployment).await?;
        let client = client_of(&up, &credentials, configuration)?;
        console::print(format_args!("JobManager Web Interface: {}", up.tracking_url));
        if !attached {
            return Ok(ExitCode::SUCCESS);
        }
        let attachment = Attachment {
            look_interval: WATCH_INTERVAL,
            heartbeat_interval: heartbeat.interval,
            holds_lease: true,
        };
        let signal = tokio::select! {
            over = until_over(&mut yarn, &client, up.id, attachment) => {
                return how_it_ended(up.id, &over?);
            }
            signal = run::interruption() => signal?,
        };
        let _ = session::stop(&mut yarn, &client, up.id).await?;
        Ok(run::exit_code(signal))
    })
}

/// What an ended application says; a failure is an error.
fn how_it_ended(id: ApplicationId, report: &ApplicationReportProto) -> Result<ExitCode> {
    let state = deployer::state(report);
    if state.ends_with("/SUCCEEDED") {
        console::print(format_args!("{id} has finished: {}", deployer::said_by_yarn(report)));
        return Ok(ExitCode::SUCCESS);
    }
    bail!("{id} ended ({state}): {}", deployer::why_ended(report));
}
