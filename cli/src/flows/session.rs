//! A session: started or attached to, watched, and stopped.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use hyper::Method;
use millstream_config::Configuration;
use millstream_rm_driver::{ClusterDeployer, ClusterEnd, ClusterId, Purpose};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines, Stdin};

use super::vigil::{Attachment, until_over};
use super::{Found, client_of, deploy, deployment, find};
use crate::drivers::{Driver, Sessions};
use crate::rest::{Content, RestClient};
use crate::settings::ClientHeartbeat;
use crate::{console, signals};

/// Interval of polling for the end of a session.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// Interval of polling after a stop was requested.
const END_INTERVAL: Duration = Duration::from_millis(50);
/// Interval at which a cluster that is being stopped is asked whether it still answers.
const STOP_PROBE_INTERVAL: Duration = Duration::from_secs(2);
const HELP: &str = "stop  ends the session and its jobs\nhelp  shows this";

/// Starts a session, of another engine than this one if one is named.
pub(crate) async fn start(
    driver: &'static dyn Driver,
    configuration: &Configuration,
    engine: Option<PathBuf>,
    detached: bool,
) -> Result<ExitCode> {
    let mut deployer = driver.deployer(configuration, None)?;
    let heartbeat = ClientHeartbeat::of(configuration)?;
    let deployment = deployment(Purpose::Session, !detached, engine)?;
    let (id, up) = deploy(deployer.as_mut(), deployment).await?;
    let client = client_of(&up, configuration)?;
    let sessions = driver.sessions(configuration)?;
    sessions.remember(&id);
    console::print(format_args!("JobManager Web Interface: {}", up.web_page));
    if detached {
        console::print(format_args!(
            "The session runs as {id} in detached mode. `echo stop | {}-session.sh -id {id}` \
             stops it; `{} {id}` ends it without a chance to tidy up.",
            driver.name(),
            deployer.words().kill_command
        ));
        return Ok(ExitCode::SUCCESS);
    }
    watch(deployer, &client, &id, sessions.as_ref(), heartbeat, true).await
}

/// Attaches to a session that runs.
pub(crate) async fn attach(
    driver: &'static dyn Driver,
    configuration: &Configuration,
    id: &ClusterId,
    detached: bool,
) -> Result<ExitCode> {
    let mut deployer = driver.deployer(configuration, Some(id))?;
    let heartbeat = ClientHeartbeat::of(configuration)?;
    let Found { client, web_page } = find(driver, deployer.as_mut(), id, configuration).await?;
    let sessions = driver.sessions(configuration)?;
    sessions.remember(id);
    console::print(format_args!("JobManager Web Interface: {web_page}"));
    if detached {
        return Ok(ExitCode::SUCCESS);
    }
    watch(deployer, &client, id, sessions.as_ref(), heartbeat, false).await
}

/// Why a command does not watch its session any more.
enum Parting {
    /// It is to be stopped.
    Stop,
    /// It goes on without us.
    Leave,
    /// It has ended, or was lost sight of.
    Over(Result<Box<ClusterEnd>>),
}

/// Obeys typed commands until the session ends. The client that started it keeps it alive, and
/// interrupting that client stops the session.
async fn watch(
    mut deployer: Box<dyn ClusterDeployer>,
    client: &RestClient,
    id: &ClusterId,
    sessions: &dyn Sessions,
    heartbeat: ClientHeartbeat,
    owner: bool,
) -> Result<ExitCode> {
    let attachment = Attachment {
        look_interval: WATCH_INTERVAL,
        heartbeat_interval: heartbeat.interval,
        holds_lease: owner,
    };
    let parting = tokio::select! {
        over = until_over(deployer.as_mut(), client, id, attachment) => {
            Parting::Over(over.map(Box::new))
        }
        parting = what_is_wanted(owner) => parting?,
    };
    match parting {
        Parting::Leave => Ok(ExitCode::SUCCESS),
        Parting::Stop => {
            if let Some(signal) = stop(deployer.as_mut(), client, id).await? {
                return Ok(signals::exit_code(signal));
            }
            forget(sessions, id);
            Ok(ExitCode::SUCCESS)
        }
        Parting::Over(end) => {
            let end = end?;
            forget(sessions, id);
            bail!("{id} has ended: {}", end.why)
        }
    }
}

/// Forgets a session that is over, and names the one that later commands use instead.
fn forget(sessions: &dyn Sessions, id: &ClusterId) {
    if let Some(earlier) = sessions.forget(id) {
        console::print(format_args!(
            "Later commands use {earlier}, which was started before: {sessions} names it again."
        ));
    }
}

/// Reads typed commands, and waits for signals.
async fn what_is_wanted(owner: bool) -> Result<Parting> {
    let mut typed = Some(BufReader::new(tokio::io::stdin()).lines());
    loop {
        tokio::select! {
            line = next_line(&mut typed) => match line?.as_deref().map(str::trim) {
                Some("stop" | "quit") => return Ok(Parting::Stop),
                Some("") => {}
                Some(_) => console::print(format_args!("{HELP}")),
                // The end of the input. A client that only attached has nothing left to do.
                None if !owner => return Ok(Parting::Leave),
                None => typed = None,
            },
            signal = signals::interruption() => {
                signal?;
                return Ok(if owner { Parting::Stop } else { Parting::Leave });
            }
        }
    }
}

/// The next line that is typed; never, once there are no more.
async fn next_line(typed: &mut Option<Lines<BufReader<Stdin>>>) -> Result<Option<String>> {
    match typed {
        Some(lines) => lines.next_line().await.context("failed to read standard input"),
        None => std::future::pending().await,
    }
}

/// Stops a cluster and waits until its manager says that it has ended; the signal, if one came
/// before.
pub(crate) async fn stop(
    deployer: &mut dyn ClusterDeployer,
    client: &RestClient,
    id: &ClusterId,
) -> Result<Option<i32>> {
    let attachment = Attachment {
        look_interval: END_INTERVAL,
        heartbeat_interval: STOP_PROBE_INTERVAL,
        holds_lease: false,
    };
    let stopped = async {
        let over = until_over(deployer, client, id, attachment);
        tokio::pin!(over);
        // One that has ended does not answer, and is not asked again and again.
        tokio::select! {
            asked = client.call(Method::DELETE, "/v1/cluster", &Content::None) => {
                asked?.accepted()?;
                console::print(format_args!("Stopping {id}."));
                over.await
            }
            end = &mut over => end,
        }
    };
    let end = tokio::select! {
        end = stopped => end?,
        signal = signals::interruption() => {
            let signal = signal?;
            console::warn(format_args!("{id} is still being stopped"));
            return Ok(Some(signal));
        }
    };
    console::print(format_args!("Stopped {id} ({}).", end.state));
    Ok(None)
}
