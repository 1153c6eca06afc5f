//! The flows of commands with clusters that an external manager runs: a session, a cluster for one
//! job, an application. Each flow is here once, over the contract of a deployer, which also
//! provides the manager's name for messages.

pub(crate) mod application;
pub(crate) mod per_job;
pub(crate) mod session;
mod vigil;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use millstream_config::Configuration;
use millstream_rm_driver::{
    ClusterDeployer, ClusterEnd, ClusterId, ClusterReport, DeployError, Deployment, Purpose,
    Running,
};
use tokio::time::{sleep, timeout};

use crate::drivers::{Driver, Sessions};
use crate::rest::RestClient;
use crate::{console, signals};

/// Time limit of a sweep: the deployment's own cluster waits for heartbeats.
const SWEEP_PATIENCE: Duration = Duration::from_secs(10);
/// Interval at which a command that waits for a cluster asks whether it is still there.
const END_INTERVAL: Duration = Duration::from_secs(1);

/// A cluster that runs.
pub(crate) struct Found {
    pub(crate) client: RestClient,
    pub(crate) web_page: String,
}

/// The deployment of a cluster for this purpose; `engine` instead of this binary, if it is named.
fn deployment(purpose: Purpose, attached: bool, engine: Option<PathBuf>) -> Result<Deployment> {
    let engine = engine.map_or_else(std::env::current_exe, Ok);
    let engine = engine.context("failed to find the engine's binary")?;
    Ok(Deployment { purpose, attached, engine })
}

/// Submits a deployment and waits until the cluster is up. If interrupted, it ends the cluster.
async fn deploy(
    deployer: &mut dyn ClusterDeployer,
    deployment: Deployment,
) -> Result<(ClusterId, Running)> {
    let word = deployer.words().cluster;
    let id = deployer.submit(deployment).await?;
    console::print(format_args!("Submitted {word} {id}"));
    let up = {
        let mut progress = |text: &str| console::warn(format_args!("{text}"));
        tokio::select! {
            up = deployer.wait_until_up(&id, &mut progress) => Some(up?),
            _ = signals::interruption() => None,
        }
    };
    let Some(up) = up else {
        console::print(format_args!("Ending {word} {id}."));
        let killed = deployer.kill(&id, "its deployment was interrupted").await;
        killed.with_context(|| format!("{id} may go on"))?;
        bail!("interrupted before {id} was up");
    };
    sweep(deployer).await;
    Ok((id, up))
}

/// Removes files of earlier clusters. An error is not fatal: the command's own work matters more.
async fn sweep(deployer: &mut dyn ClusterDeployer) {
    let word = deployer.words().cluster;
    if let Ok(Err(error)) = timeout(SWEEP_PATIENCE, deployer.sweep()).await {
        console::warn(format_args!("what earlier {word}s left could not be swept: {error}"));
    }
}

/// The cluster of this id, once it is up.
pub(crate) async fn find(
    driver: &'static dyn Driver,
    deployer: &mut dyn ClusterDeployer,
    id: &ClusterId,
    configuration: &Configuration,
) -> Result<Found> {
    let named = Naming::of(driver, configuration, id)?;
    match deployer.report(id).await {
        Ok(ClusterReport::Alive) => {}
        Ok(ClusterReport::Over(end)) => return Err(named.over(has_ended(id, &end))),
        Err(error) if error.is_unknown() => return Err(named.unknown(error)),
        Err(error) => return Err(named.unheard(error)),
    }
    let mut progress = |text: &str| console::warn(format_args!("{text}"));
    let up = deployer.wait_until_up(id, &mut progress).await?;
    let client = client_of(&up, configuration)?;
    Ok(Found { client, web_page: up.web_page })
}

/// Waits for the end of a cluster that is still needed; how it ended.
pub(crate) async fn end_of(deployer: &mut dyn ClusterDeployer, id: &ClusterId) -> anyhow::Error {
    loop {
        sleep(END_INTERVAL).await;
        if let Ok(ClusterReport::Over(end)) = deployer.report(id).await {
            return has_ended(id, &end);
        }
    }
}

fn has_ended(id: &ClusterId, end: &ClusterEnd) -> anyhow::Error {
    anyhow!("{id} has ended ({}): {}", end.state, end.why)
}

/// A client of a cluster that is up.
fn client_of(up: &Running, configuration: &Configuration) -> Result<RestClient> {
    let client = RestClient::at(&up.host, up.port, configuration)?;
    match &up.credentials {
        Some(credentials) => client.secured(credentials),
        None => Ok(client),
    }
}

/// The origin of a cluster's name: the user, or the driver's memory of sessions.
struct Naming<'a> {
    driver: &'static dyn Driver,
    id: &'a ClusterId,
    sessions: Box<dyn Sessions>,
    by_user: bool,
}

impl<'a> Naming<'a> {
    fn of(
        driver: &'static dyn Driver,
        configuration: &Configuration,
        id: &'a ClusterId,
    ) -> Result<Self> {
        let by_user = configuration.get(driver.id_option())?.is_some();
        Ok(Self { driver, id, sessions: driver.sessions(configuration)?, by_user })
    }

    /// The session is over and is forgotten.
    fn over(&self, error: anyhow::Error) -> anyhow::Error {
        let (sessions, earlier) = (&self.sessions, self.sessions.forget(self.id));
        if self.by_user {
            return error;
        }
        let next = match earlier {
            Some(earlier) => format!("later commands use {earlier}, which was started before"),
            None => format!(
                "start another with {}-session.sh, or name a cluster with -m host:port or -D{}=…",
                self.driver.name(),
                self.driver.id_option().key()
            ),
        };
        anyhow!("{error:#}; {sessions} named it as the last session, and does not any more: {next}")
    }

    /// The manager does not know it: it may be another one's.
    fn unknown(&self, error: DeployError) -> anyhow::Error {
        match self.by_user {
            true => error.into(),
            false => self.sessions.explain_unknown(self.id, error),
        }
    }

    /// The manager does not answer.
    fn unheard(&self, error: DeployError) -> anyhow::Error {
        let (id, sessions) = (self.id, &self.sessions);
        if self.by_user {
            return error.into();
        }
        anyhow!(
            "{error}; {id} was looked for because {sessions} names it: -t remote ignores that file"
        )
    }
}
