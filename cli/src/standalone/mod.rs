//! The scripts of a standalone cluster. They find the engine and hand it their words; everything
//! else is here, so that the configuration, `masters` and `workers` have one reader.

mod application;
pub(crate) mod daemons;
mod hosts;
mod instances;
mod places;
mod processes;
mod remote;
mod start;
mod stop;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Parser, ValueEnum};
use millstream_config::options;

use self::application::ApplicationOptions;
use self::instances::Service;
use self::places::Home;
use self::start::{Goal, run_start};
use self::stop::{Count, stop_cluster, stop_daemons};
use crate::arguments::DaemonArguments;
use crate::console;

/// The word before a script's name in the arguments of the engine.
pub(crate) const VERB: &str = "script";

#[derive(Debug, Args)]
struct Properties {
    /// Sets a configuration option of the daemons of this host.
    #[arg(short = 'D', value_name = "key=value")]
    properties: Vec<String>,
}

/// Starts a standalone cluster: the JobManager of conf/masters, then one TaskManager per line of
/// conf/workers. Hosts that are not this one are reached with ssh.
#[derive(Debug, Parser)]
#[command(name = "start-cluster.sh", disable_version_flag = true)]
struct StartCluster {
    #[command(flatten)]
    set: Properties,
}

/// Stops what start-cluster.sh started: one TaskManager per line of conf/workers, then the
/// JobManager of conf/masters. TaskManagers that were added by hand stay.
#[derive(Debug, Parser)]
#[command(name = "stop-cluster.sh", disable_version_flag = true)]
struct StopCluster {
    #[command(flatten)]
    set: Properties,
}

/// The action of a script on its daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Action {
    /// Starts a daemon in the background and returns when it is ready.
    Start,
    /// Runs a daemon here, with its log on standard error.
    StartForeground,
    /// Stops the newest daemon of this host.
    Stop,
    /// Stops all daemons of this host.
    StopAll,
}

/// Starts or stops a JobManager on this host.
#[derive(Debug, Parser)]
#[command(name = "jobmanager.sh", disable_version_flag = true)]
struct JobManager {
    action: Action,
    /// Sets jobmanager.rpc.address and rest.address.
    host: Option<String>,
    /// Sets rest.port.
    webui_port: Option<String>,
    #[command(flatten)]
    set: Properties,
}

/// Starts or stops TaskManagers on this host; each start adds one.
#[derive(Debug, Parser)]
#[command(name = "taskmanager.sh", disable_version_flag = true)]
struct TaskManager {
    action: Action,
    #[command(flatten)]
    set: Properties,
}

/// Runs a script. `words` are its name and its arguments.
pub(crate) fn run(words: &[OsString]) -> Result<ExitCode> {
    let name = words.first().and_then(|name| name.to_str()).unwrap_or_default();
    let home = Home::find()?;
    match name {
        "start-cluster.sh" => {
            parsed(words, |StartCluster { set }| run_start(&home, &set.properties, Goal::Cluster))
        }
        "stop-cluster.sh" => parsed(words, |StopCluster { set }| {
            stop_cluster(&home, &set.properties).map(|()| ExitCode::SUCCESS)
        }),
        "jobmanager.sh" => parsed(words, |script| job_manager(&home, script)),
        "taskmanager.sh" => parsed(words, |TaskManager { action, set }| {
            let service = Service::TaskManager;
            match action {
                Action::Start => run_start(&home, &set.properties, Goal::TaskManager),
                Action::StartForeground => {
                    daemons::task_manager(&foreground(&home, set.properties))
                }
                Action::Stop => stop(&home, &set.properties, service, Count::Newest(1)),
                Action::StopAll => stop(&home, &set.properties, service, Count::All),
            }
        }),
        "standalone-job.sh" => standalone_job(&home, words.get(1..).unwrap_or_default()),
        _ => bail!("there is no script {name:?}"),
    }
}

fn parsed<T: Parser>(
    words: &[OsString],
    carry_out: impl FnOnce(T) -> Result<ExitCode>,
) -> Result<ExitCode> {
    match T::try_parse_from(words) {
        Ok(script) => carry_out(script),
        Err(error) => {
            let _ = error.print();
            Ok(if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
        }
    }
}

fn stop(home: &Home, properties: &[String], service: Service, count: Count) -> Result<ExitCode> {
    stop_daemons(home, properties, service, count).map(|()| ExitCode::SUCCESS)
}

fn foreground(home: &Home, properties: Vec<String>) -> DaemonArguments {
    DaemonArguments {
        conf_dir: Some(home.conf_dir.clone()),
        log_file: None,
        ready_file: None,
        properties,
    }
}

/// The properties that a host and a port on the command line set; `-D` wins over them.
fn addresses(host: Option<String>, port: Option<String>) -> Vec<String> {
    let mut properties = Vec::new();
    if let Some(host) = host {
        for key in [options::JOBMANAGER_RPC_ADDRESS.key(), options::REST_ADDRESS.key()] {
            properties.push(format!("{key}={host}"));
        }
    }
    properties.extend(port.map(|port| format!("{}={port}", options::REST_PORT.key())));
    properties
}

fn job_manager(home: &Home, script: JobManager) -> Result<ExitCode> {
    let JobManager { action, host, webui_port, set } = script;
    if let (Action::Stop | Action::StopAll, Some(host)) = (action, &host) {
        bail!("jobmanager.sh stops daemons of this host and takes no host, but {host:?} was given");
    }
    let mut properties = addresses(host, webui_port);
    properties.extend(set.properties);
    match action {
        Action::Start => run_start(home, &properties, Goal::JobManager),
        Action::StartForeground => daemons::job_manager(&foreground(home, properties)),
        Action::Stop => stop(home, &properties, Service::Session, Count::Newest(1)),
        Action::StopAll => stop(home, &properties, Service::Session, Count::All),
    }
}

fn standalone_job(home: &Home, words: &[OsString]) -> Result<ExitCode> {
    let Some((action, options)) = application::parse(words)? else {
        console::print(format_args!("{}", application::USAGE));
        return Ok(ExitCode::SUCCESS);
    };
    let home = match &options.conf_dir {
        Some(dir) => &home.with_conf_dir(dir)?,
        None => home,
    };
    let properties = properties_of(&options);
    match action {
        Action::Start | Action::StartForeground => {
            let configuration = home.load(&properties)?.configuration;
            let places = home.places(&configuration)?;
            let told = options.for_daemon(&places.usrlib)?;
            match action {
                Action::StartForeground => {
                    daemons::standalone_job(&told.arguments(foreground(home, properties)))
                }
                _ => run_start(home, &properties, Goal::Application(told.words()?)),
            }
        }
        Action::Stop => stop(home, &properties, Service::Application, Count::Newest(1)),
        Action::StopAll => stop(home, &properties, Service::Application, Count::All),
    }
}

fn properties_of(options: &ApplicationOptions) -> Vec<String> {
    let mut properties = addresses(options.host.clone(), options.webui_port.clone());
    properties.extend(options.properties.iter().cloned());
    properties
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definitions_are_sound() {
        for command in [
            StartCluster::command(),
            StopCluster::command(),
            JobManager::command(),
            TaskManager::command(),
        ] {
            command.debug_assert();
        }
    }

    #[test]
    fn scripts_take_flinks_words_and_refuse_others() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        let script = words("jobmanager.sh start-foreground host 9000 -D a=b -Dc=d");
        let script = JobManager::try_parse_from(script).unwrap();
        assert_eq!(
            (script.action, script.host.as_deref()),
            (Action::StartForeground, Some("host"))
        );
        assert_eq!(script.set.properties, ["a=b", "c=d"]);
        assert_eq!(
            addresses(script.host, script.webui_port),
            ["jobmanager.rpc.address=host", "rest.address=host", "rest.port=9000"]
        );
        for line in [
            "jobmanager.sh",
            "jobmanager.sh fly",
            "jobmanager.sh start -x",
            "jobmanager.sh start -D",
        ] {
            assert!(JobManager::try_parse_from(words(line)).is_err(), "{line}");
        }
        for line in ["start-cluster.sh now", "start-cluster.sh --fast"] {
            assert!(StartCluster::try_parse_from(words(line)).is_err(), "{line}");
        }
        let help = StartCluster::try_parse_from(words("start-cluster.sh --help")).unwrap_err();
        assert!(!help.use_stderr() && help.to_string().contains("conf/workers"), "{help}");
        assert!(TaskManager::try_parse_from(words("taskmanager.sh stop-all")).is_ok());
    }
}
