//! `yarn-session`: a session on YARN, started or attached to.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use hyper::Method;
use millstream_config::{Configuration, options};
use millstream_rm_yarn::deployer::{self, Deployed};
use millstream_rm_yarn::ids::ApplicationId;
use millstream_rm_yarn::proto::yarn::{ApplicationReportProto, NodeReportProto};
use millstream_security::Credentials;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines, Stdin};

use super::properties_file::PropertiesFile;
use super::vigil::{Attachment, until_over};
use super::{Found, NO_HIGH_AVAILABILITY, Purpose, Yarn, client_of, deployment};
use crate::arguments::YarnSessionArguments;
use crate::rest::{Content, RestClient};
use crate::settings::ClientHeartbeat;
use crate::target::{Said, megabytes, with_properties};
use crate::{console, run, runtime, settings};

/// How often the end of a session is looked for.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// How often the end is looked for while it is awaited.
const END_INTERVAL: Duration = Duration::from_millis(50);
/// How often a cluster that is being stopped is asked whether it still answers.
const STOP_PROBE_INTERVAL: Duration = Duration::from_secs(2);
const HELP: &str = "stop  ends the session and its jobs\nhelp  shows this";

/// Starts a session, attaches to one, or shows the nodes.
pub(crate) fn run(arguments: &YarnSessionArguments) -> Result<ExitCode> {
    old_options(arguments);
    let configuration = settings::load(&properties(arguments)?)?;
    if arguments.query {
        let mut yarn = Yarn::connect(&configuration)?;
        let nodes = runtime()?.block_on(yarn.client.running_nodes())?;
        console::print(format_args!("{}", nodes_text(&nodes).trim_end()));
        return Ok(ExitCode::SUCCESS);
    }
    let Some(id) = configuration.get(&options::YARN_APPLICATION_ID)? else {
        let yarn = Yarn::connect(&configuration)?;
        return runtime()?.block_on(start(yarn, &configuration, arguments));
    };
    if describes_a_cluster(arguments) {
        console::warn(format_args!(
            "{id} runs already: options for memory, slots, name, queue and files have no effect"
        ));
    }
    let file = PropertiesFile::of(&configuration)?;
    let session = file.find(id.parse().context(options::YARN_APPLICATION_ID.key())?);
    let yarn = Yarn::of_session(&configuration, &session)?;
    runtime()?.block_on(attach(yarn, &configuration, &file, session.id, arguments.detached))
}

/// Whether an option says how a new session should be.
fn describes_a_cluster(arguments: &YarnSessionArguments) -> bool {
    let texts = [
        &arguments.job_manager_memory,
        &arguments.task_manager_memory,
        &arguments.slots,
        &arguments.name,
        &arguments.application_type,
        &arguments.queue,
        &arguments.node_label,
    ];
    texts.iter().any(|text| text.is_some()) || !arguments.ship.is_empty() || arguments.jar.is_some()
}

/// Says what options of old scripts do today.
fn old_options(arguments: &YarnSessionArguments) {
    let renamed = arguments.renamed.iter().filter_map(|both| both.split_once(':'));
    for (old, new) in renamed {
        console::warn(format_args!("{old} is an option of `run`: write {new} here"));
    }
    if arguments.jobmanager.is_some() {
        console::warn(format_args!("-m has no effect: leave it out, a session is always on YARN"));
    }
    if arguments.container.is_some() || arguments.streaming {
        console::warn(format_args!(
            "-n and -st have no effect: a session gets its containers when its jobs need them"
        ));
    }
    if arguments.zookeeper_namespace.is_some() {
        console::warn(format_args!("-z has no effect: {NO_HIGH_AVAILABILITY}"));
    }
}

/// What the options say, as properties.
fn properties(arguments: &YarnSessionArguments) -> Result<Vec<String>> {
    let mut own = Vec::new();
    let mut set = |option: &'static str, key: &'static str, value: Option<String>| {
        own.extend(value.map(|value| Said { option, key, value }));
    };
    let memory = |value: &Option<String>| value.as_deref().map(megabytes);
    let (master, worker) = (&arguments.job_manager_memory, &arguments.task_manager_memory);
    set("-jm", options::JOBMANAGER_MEMORY_PROCESS_SIZE.key(), memory(master));
    set("-tm", options::TASKMANAGER_MEMORY_PROCESS_SIZE.key(), memory(worker));
    set("-s", options::TASKMANAGER_NUMBER_OF_TASK_SLOTS.key(), arguments.slots.clone());
    set("-nm", options::YARN_APPLICATION_NAME.key(), arguments.name.clone());
    set("-at", options::YARN_APPLICATION_TYPE.key(), arguments.application_type.clone());
    set("-qu", options::YARN_APPLICATION_QUEUE.key(), arguments.queue.clone());
    set("-nl", options::YARN_APPLICATION_NODE_LABEL.key(), arguments.node_label.clone());
    let ship = (!arguments.ship.is_empty()).then(|| arguments.ship.join(";"));
    set("-t", options::YARN_SHIP_FILES.key(), ship);
    set("-id", options::YARN_APPLICATION_ID.key(), arguments.application_id.clone());
    with_properties(own, &arguments.properties)
}

async fn start(
    mut yarn: Yarn,
    configuration: &Configuration,
    arguments: &YarnSessionArguments,
) -> Result<ExitCode> {
    let heartbeat = ClientHeartbeat::of(configuration)?;
    let engine = arguments.jar.clone();
    let attached = !arguments.detached;
    let deployment = deployment(&yarn, configuration, Purpose::Session, attached, engine)?;
    let (up, credentials) = deploy(&mut yarn, deployment).await?;
    let client = client_of(&up, &credentials, configuration)?;
    let file = PropertiesFile::of(configuration)?;
    file.remember(&yarn.session(up.id));
    console::print(format_args!("JobManager Web Interface: {}", up.tracking_url));
    if arguments.detached {
        let id = up.id;
        console::print(format_args!(
            "The session runs as {id} in detached mode. `echo stop | yarn-session.sh -id {id}` \
             stops it; `yarn application -kill {id}` ends it without a chance to tidy up."
        ));
        return Ok(ExitCode::SUCCESS);
    }
    watch(yarn, &client, up.id, &file, heartbeat, true).await
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
        let killed = deployer.kill(id, "its deployment was interrupted").await;
        killed.with_context(|| format!("{id} may go on"))?;
        bail!("interrupted before {id} was up");
    };
    yarn.sweep().await;
    Ok((up, credentials))
}

async fn attach(
    mut yarn: Yarn,
    configuration: &Configuration,
    file: &PropertiesFile,
    id: ApplicationId,
    detached: bool,
) -> Result<ExitCode> {
    let heartbeat = ClientHeartbeat::of(configuration)?;
    let Found { client, tracking_url } = yarn.find(id, configuration).await?;
    file.remember(&yarn.session(id));
    console::print(format_args!("JobManager Web Interface: {tracking_url}"));
    if detached {
        return Ok(ExitCode::SUCCESS);
    }
    watch(yarn, &client, id, file, heartbeat, false).await
}

/// Why a command does not watch its session any more.
enum Parting {
    /// It is to be stopped.
    Stop,
    /// It goes on without us.
    Leave,
    /// It has ended, or was lost sight of.
    Over(Result<Box<ApplicationReportProto>>),
}

/// Obeys what is typed until the session ends. The client that started it keeps it alive, and an
/// interruption of that one stops it.
async fn watch(
    mut yarn: Yarn,
    client: &RestClient,
    id: ApplicationId,
    file: &PropertiesFile,
    heartbeat: ClientHeartbeat,
    owner: bool,
) -> Result<ExitCode> {
    let attachment = Attachment {
        look_interval: WATCH_INTERVAL,
        heartbeat_interval: heartbeat.interval,
        holds_lease: owner,
    };
    let parting = tokio::select! {
        over = until_over(&mut yarn, client, id, attachment) => Parting::Over(over.map(Box::new)),
        parting = what_is_wanted(owner) => parting?,
    };
    match parting {
        Parting::Leave => Ok(ExitCode::SUCCESS),
        Parting::Stop => {
            if let Some(signal) = stop(&mut yarn, client, id).await? {
                return Ok(run::exit_code(signal));
            }
            forget(file, id);
            Ok(ExitCode::SUCCESS)
        }
        Parting::Over(report) => {
            let report = report?;
            forget(file, id);
            bail!("{id} has ended: {}", deployer::why_ended(&report))
        }
    }
}

/// Forgets a session that is over, and names the one that later commands use instead.
fn forget(file: &PropertiesFile, id: ApplicationId) {
    if let Some(earlier) = file.forget(id) {
        console::print(format_args!(
            "Later commands use {earlier}, which was started before: {file} names it again."
        ));
    }
}

/// Reads what is typed, and waits for signals.
async fn what_is_wanted(owner: bool) -> Result<Parting> {
    let mut typed = Some(BufReader::new(tokio::io::stdin()).lines());
    loop {
        tokio::select! {
            line = next_line(&mut typed) => match line?.as_deref().map(str::trim) {
                Some("stop" | "quit") => return Ok(Parting::Stop),
                Some("") => {}
                Some(_) => console::print(format_args!("{HELP}")),
                // Nothing more will be typed. Who only attached has nothing left to do.
                None if !owner => return Ok(Parting::Leave),
                None => typed = None,
            },
            signal = run::interruption() => {
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

/// Stops a cluster and waits until YARN says that it has ended; the signal, if one came before.
pub(crate) async fn stop(
    yarn: &mut Yarn,
    client: &RestClient,
    id: ApplicationId,
) -> Result<Option<i32>> {
    let attachment = Attachment {
        look_interval: END_INTERVAL,
        heartbeat_interval: STOP_PROBE_INTERVAL,
        holds_lease: false,
    };
    let stopped = async {
        let over = until_over(yarn, client, id, attachment);
        tokio::pin!(over);
        // One that has ended does not answer, and is not asked again and again.
        tokio::select! {
            asked = client.call(Method::DELETE, "/v1/cluster", &Content::None) => {
                asked?.accepted()?;
                console::print(format_args!("Stopping {id}."));
                over.await
            }
            report = &mut over => report,
        }
    };
    let report = tokio::select! {
        report = stopped => report?,
        signal = run::interruption() => {
            let signal = signal?;
            console::warn(format_args!("{id} is still being stopped"));
            return Ok(Some(signal));
        }
    };
    console::print(format_args!("Stopped {id} ({}).", deployer::state(&report)));
    Ok(None)
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
            properties(&arguments).unwrap(),
            [
                "jobmanager.memory.process.size=512m",
                "taskmanager.memory.process.size=1g",
                "yarn.ship-files=a;b",
                "x=y",
            ]
        );
        let twice = YarnSessionArguments {
            application_id: Some("application_1_0001".to_owned()),
            properties: vec!["yarn.application.id=application_1_0002".to_owned()],
            ..YarnSessionArguments::default()
        };
        let error = properties(&twice).unwrap_err().to_string();
        assert!(error.contains("-id application_1_0001"), "{error}");
    }
}
