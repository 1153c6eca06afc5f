//! A cluster of its own for a program, whose build function runs there.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use hyper::Method;
use millstream_config::{Configuration, options};
use millstream_rm_yarn::deployer::{self, ArtifactFile, Deployed};
use millstream_rm_yarn::staging::Executable;
use millstream_storage::FilePath;
use millstream_types::JobId;
use tokio::time::{MissedTickBehavior, interval};

use super::{Purpose, Yarn, client_of, deployment, session};
use crate::arguments::RunArguments;
use crate::program::random_id;
use crate::rest::Content;
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
        let heartbeat = configuration.get(&options::CLIENT_HEARTBEAT_INTERVAL)?;
        let mut heartbeats = interval(heartbeat.max(Duration::from_millis(100)));
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                ended = until_over(&mut yarn, &up) => return ended,
                _ = heartbeats.tick() => {
                    // The application's state says what is wrong, if anything is.
                    let _ = client.call(Method::PUT, "/v1/millstream/lease", &Content::None).await;
                }
                signal = run::interruption() => {
                    signal?;
                    return session::stop(&mut yarn, &client, up.id).await;
                }
            }
        }
    })
}

/// Waits for an application's end; a failure is an error.
async fn until_over(yarn: &mut Yarn, up: &Deployed) -> Result<ExitCode> {
    loop {
        let report = yarn.client.report(up.id).await?;
        if deployer::is_over(&report) {
            let (id, state) = (up.id, deployer::state(&report));
            if state.ends_with("/SUCCEEDED") {
                console::print(format_args!("{id} has finished: {}", report.diagnostics()));
                return Ok(ExitCode::SUCCESS);
            }
            bail!("{id} ended ({state}): {}", deployer::why_ended(&report));
        }
        tokio::time::sleep(WATCH_INTERVAL).await;
    }
}
