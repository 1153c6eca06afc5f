//! `yarn-session`: a session on YARN, started or attached to.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use hyper::Method;
use millstream_config::{Configuration, options};
use millstream_rm_yarn::deployer::{self, Deployed};
use millstream_rm_yarn::ids::ApplicationId;
use millstream_rm_yarn::proto::yarn::NodeReportProto;
use millstream_security::Credentials;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines, Stdin};
use tokio::time::{MissedTickBehavior, interval};

use super::properties_file::PropertiesFile;
use super::{Purpose, Yarn, client_of, deployment};
use crate::arguments::YarnSessionArguments;
use crate::rest::{Content, RestClient};
use crate::target::megabytes;
use crate::{console, run, runtime, settings};

/// How often the end of a session is looked for.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// How often the end is looked for while it is awaited.
const END_INTERVAL: Duration = Duration::from_millis(50);
const HELP: &str = "stop  ends the session and its jobs\nhelp  shows this";

/// Starts a session, attaches to one, or shows the nodes.
pub(crate) fn run(arguments: &YarnSessionArguments) -> Result<ExitCode> {
    if arguments.container.is_some() || arguments.streaming {
        console::warn(format_args!(
            "-n and -st have no effect: a session gets its containers when its jobs need them"
        ));
    }
    if arguments.zookeeper_namespace.is_some() {
        bail!("-z needs high availability, which this version does not have on YARN yet");
    }
    let configuration = settings::load(&properties(arguments))?;
    let mut yarn = Yarn::connect(&configuration)?;
    runtime()?.block_on(async {
        if arguments.query {
            let nodes = yarn.client.running_nodes().await?;
            console::print(format_args!("{}", nodes_text(&nodes).trim_end()));
            return Ok(ExitCode::SUCCESS);
        }
        match &arguments.application_id {
            Some(id) => attach(yarn, &configuration, id.parse()?, arguments.detached).await,
            None => start(yarn, &configuration, arguments).await,
        }
    })
}

fn properties(arguments: &YarnSessionArguments) -> Vec<String> {
    let mut properties = Vec::new();
    let mut set = |key: &str, value: Option<String>| {
        properties.extend(value.map(|value| format!("{key}={value}")));
    };
    let memory = |value: &Option<String>| value.as_deref().map(megabytes);
    set(options::JOBMANAGER_MEMORY_PROCESS_SIZE.key(), memory(&arguments.job_manager_memory));
    set(options::TASKMANAGER_MEMORY_PROCESS_SIZE.key(), memory(&arguments.task_manager_memory));
    set(options::TASKMANAGER_NUMBER_OF_TASK_SLOTS.key(), arguments.slots.clone());
    set(options::YARN_APPLICATION_NAME.key(), arguments.name.clone());
    set(options::YARN_APPLICATION_TYPE.key(), arguments.application_type.clone());
    set(options::YARN_APPLICATION_QUEUE.key(), arguments.queue.clone());
    set(options::YARN_APPLICATION_NODE_LABEL.key(), arguments.node_label.clone());
    let ship = (!arguments.ship.is_empty()).then(|| arguments.ship.join(";"));
    set(options::YARN_SHIP_FILES.key(), ship);
    properties.extend(arguments.properties.iter().cloned());
    properties
}

async fn start(
    mut yarn: Yarn,
    configuration: &Configuration,
    arguments: &YarnSessionArguments,
) -> Result<ExitCode> {
    let engine = arguments.jar.clone();
    let attached = !arguments.detached;
    let deployment = deployment(&yarn, configuration, Purpose::Session, attached, engine)?;
    let (up, credentials) = deploy(&mut yarn, deployment).await?;
    let client = client_of(&up, &credentials, configuration)?;
    let file = PropertiesFile::of(configuration)?;
    file.write(up.id)?;
    console::print(format_args!("JobManager Web Interface: {}", up.tracking_url));
    if arguments.detached {
        let id = up.id;
        console::print(format_args!(
            "The session runs as {id} in detached mode. `echo stop | yarn-session.sh -id {id}` \
             stops it; `yarn application -kill {id}` ends it without a chance to tidy up."
        ));
        return Ok(ExitCode::SUCCESS);
    }
    let ended = watch(&mut yarn, configuration, &client, up.id, Some(attached)).await;
    file.forget(up.id);
    ended
}

/// Submits and waits until the cluster is up. Interrupted meanwhile, it ends what it began.
pub(crate) async fn deploy(
    yarn: &mut Yarn,
    deployment: deployer::Deployment,
) -> Result<(Deployed, Credentials)> {
    let (id, credentials) = yarn.deployer().submit(deployment).await?;
    console::print(format_args!("Submitted application {id}"));
    let mut progress = |text: &str| console::warn(format_args!("{text}"));
    let up = {
        let mut deployer = yarn.deployer();
        tokio::select! {
            up = deployer.wait_until_up(id, &mut progress) => Some(up?),
            _ = run::interruption() => None,
        }
    };
    let mut deployer = yarn.deployer();
    let Some(up) = up else {
        console::print(format_args!("Ending application {id}."));
        deployer.kill(id, "its deployment was interrupted").await?;
        bail!("interrupted before {id} was up");
    };
    // What others left matters less than what was asked for.
    if let Err(error) = deployer.sweep().await {
        console::warn(format_args!("what earlier applications left could not be swept: {error}"));
    }
    Ok((up, credentials))
}

async fn attach(
    mut yarn: Yarn,
    configuration: &Configuration,
    id: ApplicationId,
    detached: bool,
) -> Result<ExitCode> {
    let mut progress = |text: &str| console::warn(format_args!("{text}"));
    let report = yarn.client.report(id).await?;
    if deployer::is_over(&report) {
        bail!("{id} has ended ({})", deployer::state(&report));
    }
    let mut deployer = yarn.deployer();
    let up = deployer.wait_until_up(id, &mut progress).await?;
    let credentials = deployer.credentials(id).await?;
    let client = client_of(&up, &credentials, configuration)?;
    let file = PropertiesFile::of(configuration)?;
    file.write(id)?;
    console::print(format_args!("JobManager Web Interface: {}", up.tracking_url));
    if detached {
        return Ok(ExitCode::SUCCESS);
    }
    let ended = watch(&mut yarn, configuration, &client, id, None).await;
    if ended.is_ok() {
        file.forget(id);
    }
    ended
}

/// Obeys what is typed until the session ends. The client that started it keeps it alive, and an
/// interruption of that one stops it.
async fn watch(
    yarn: &mut Yarn,
    configuration: &Configuration,
    client: &RestClient,
    id: ApplicationId,
    owner: Option<bool>,
) -> Result<ExitCode> {
    let heartbeat = configuration.get(&options::CLIENT_HEARTBEAT_INTERVAL)?;
    let mut heartbeats = interval(heartbeat.max(Duration::from_millis(100)));
    heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looks = interval(WATCH_INTERVAL);
    let mut typed = Some(BufReader::new(tokio::io::stdin()).lines());
    loop {
        tokio::select! {
            line = next_line(&mut typed) => match line?.as_deref().map(str::trim) {
                Some("stop" | "quit") => return stop(yarn, client, id).await,
                Some("") => {}
                Some(_) => console::print(format_args!("{HELP}")),
                // Nothing more will be typed. Who only attached has nothing left to do.
                None if owner.is_none() => return Ok(ExitCode::SUCCESS),
                None => typed = None,
            },
            _ = heartbeats.tick(), if owner.is_some() => {
                // The next look at the application says what is wrong, if anything is.
                let _ = client.call(Method::PUT, "/v1/millstream/lease", &Content::None).await;
            }
            _ = looks.tick() => {
                let report = yarn.client.report(id).await?;
                if deployer::is_over(&report) {
                    bail!("{id} has ended: {}", deployer::why_ended(&report));
                }
            }
            signal = run::interruption() => {
                signal?;
                return match owner {
                    Some(_) => stop(yarn, client, id).await,
                    None => Ok(ExitCode::SUCCESS),
                };
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

/// Stops a cluster and waits until YARN says that it has ended.
pub(crate) async fn stop(
    yarn: &mut Yarn,
    client: &RestClient,
    id: ApplicationId,
) -> Result<ExitCode> {
    client.call(Method::DELETE, "/v1/cluster", &Content::None).await?.into_json()?;
    console::print(format_args!("Stopping {id}."));
    loop {
        let report = yarn.client.report(id).await?;
        if deployer::is_over(&report) {
            console::print(format_args!("Stopped {id} ({}).", deployer::state(&report)));
            return Ok(ExitCode::SUCCESS);
        }
        tokio::time::sleep(END_INTERVAL).await;
    }
}

fn nodes_text(nodes: &[NodeReportProto]) -> String {
    let mut text = String::new();
    let (mut memory, mut vcores) = (0, 0);
    for node in nodes {
        let (all, used) =
            (node.capability.clone().unwrap_or_default(), node.used.clone().unwrap_or_default());
        let id = node.node_id.clone().unwrap_or_default();
        let free = (all.memory() - used.memory(), all.virtual_cores() - used.virtual_cores());
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{}:{}: {} MB and {} virtual cores free of {} MB and {}, {} containers",
            id.host(),
            id.port(),
            free.0,
            free.1,
            all.memory(),
            all.virtual_cores(),
            node.num_containers()
        );
        memory += free.0;
        vcores += free.1;
    }
    let count = nodes.len();
    text + &format!("{count} NodeManagers, {memory} MB and {vcores} virtual cores free")
}

#[cfg(test)]
mod tests {
    use millstream_rm_yarn::proto::yarn::{NodeIdProto, ResourceProto};

    use super::*;

    #[test]
    fn nodes_show_what_is_free() {
        let size = |memory, cores| {
            Some(ResourceProto {
                memory: Some(memory),
                virtual_cores: Some(cores),
                ..ResourceProto::default()
            })
        };
        let node = NodeReportProto {
            node_id: Some(NodeIdProto { host: Some("a".to_owned()), port: Some(1) }),
            capability: size(8192, 8),
            used: size(1024, 1),
            num_containers: Some(1),
            ..NodeReportProto::default()
        };
        let text = nodes_text(&[node.clone(), node]);
        assert!(
            text.starts_with(
                "a:1: 7168 MB and 7 virtual cores free of 8192 MB and 8, 1 containers\n"
            )
        );
        assert!(text.ends_with("2 NodeManagers, 14336 MB and 14 virtual cores free"), "{text}");
    }

    #[test]
    fn options_are_properties() {
        let arguments = YarnSessionArguments {
            job_manager_memory: Some("512".to_owned()),
            task_manager_memory: Some("1g".to_owned()),
            ship: vec!["a".to_owned(), "b".to_owned()],
            properties: vec!["x=y".to_owned()],
            ..YarnSessionArguments::default()
        };
        assert_eq!(
            properties(&arguments),
            [
                "jobmanager.memory.process.size=512m",
                "taskmanager.memory.process.size=1g",
                "yarn.ship-files=a;b",
                "x=y",
            ]
        );
    }
}
