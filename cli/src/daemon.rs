//! The entry points of the daemons.

use std::fs::File;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;

use anyhow::{Context as _, Result};
use millstream_cluster::{
    Application, DaemonError, DaemonFiles, Driver, Ended, Endpoints, JobManagerSetup, Lifecycle,
    TaskManagerSetup, run_job_manager, run_task_manager,
};
use millstream_config::{Configuration, Loader, options};
use millstream_rm_driver::{ClusterStatus, driver_events};
use millstream_rm_standalone::{EpochCounter, StandaloneDriver};
use millstream_types::JobId;
use tracing_subscriber::EnvFilter;

use crate::arguments::{DaemonArguments, ProgramArguments, StandaloneJobArguments};
use crate::log_lines::LogLines;
use crate::program::random_id;
use crate::settings;

/// Both daemons wait most of the time; user code runs in their children.
const THREADS: usize = 2;

/// Runs a JobManager until it is told to stop.
pub(crate) fn job_manager(arguments: &DaemonArguments) -> Result<ExitCode> {
    // Being told to stop by a signal is how this daemon ends.
    run(arguments, |configuration, files| {
        let setup = standalone_setup(&configuration)?;
        Ok(run_job_manager(configuration, files, setup, standalone_driver))
    })
    .map(|_| ExitCode::SUCCESS)
}

/// Runs a TaskManager until it is told to stop.
pub(crate) fn task_manager(arguments: &DaemonArguments) -> Result<ExitCode> {
    run(arguments, |configuration, files| {
        Ok(run_task_manager(configuration, files, TaskManagerSetup::default()))
    })
    .map(|_| ExitCode::SUCCESS)
}

/// Runs a JobManager for one program until its jobs have ended. The exit code says how: a process
/// manager must see the difference between a job that ended and one that a signal cut short.
pub(crate) fn standalone_job(arguments: &StandaloneJobArguments) -> Result<ExitCode> {
    let program = ProgramArguments {
        class: arguments.entry.clone(),
        parallelism: arguments.parallelism,
        program: std::iter::once(arguments.artifact.clone().into_os_string())
            .chain(arguments.arguments.iter().map(Into::into))
            .collect(),
    };
    let first_job = match arguments.job_id {
        Some(job) => job,
        None => JobId::from_bytes(random_id()?),
    };
    let ended = run(&arguments.daemon, |configuration, files| {
        let settings =
            settings::job_settings(&configuration, &arguments.daemon.properties, &program)?;
        let artifact = arguments.artifact.clone();
        let application = Application { artifact, settings, first_job };
        let lifecycle = Lifecycle::Application(application);
        let setup = JobManagerSetup { lifecycle, ..standalone_setup(&configuration)? };
        Ok(run_job_manager(configuration, files, setup, standalone_driver))
    })?;
    Ok(match ended {
        Ended::Done(ClusterStatus::Succeeded | ClusterStatus::Cancelled) => ExitCode::SUCCESS,
        Ended::Done(ClusterStatus::Failed) => ExitCode::FAILURE,
        Ended::Signalled(signal) => of_signal(signal),
    })
}

/// The setup of a JobManager in a standalone session.
pub(crate) fn standalone_setup(configuration: &Configuration) -> Result<JobManagerSetup> {
    Ok(JobManagerSetup::session(Box::new(EpochCounter::of(configuration)?)))
}

fn standalone_driver(_: &Endpoints) -> Result<Driver, DaemonError> {
    let (events, received) = driver_events();
    Ok((Box::new(StandaloneDriver::new(events)), received))
}

fn of_signal(signal: i32) -> ExitCode {
    ExitCode::from(u8::try_from(128 + signal).unwrap_or(1))
}

fn run<F: Future<Output = Result<Ended, DaemonError>>>(
    arguments: &DaemonArguments,
    daemon: impl FnOnce(Configuration, DaemonFiles) -> Result<F>,
) -> Result<Ended> {
    let mut loader = Loader::from_process();
    if let Some(dir) = &arguments.conf_dir {
        loader = loader.with_conf_dir(dir);
    }
    let loaded = loader.with_dynamic_properties(&arguments.properties).load()?;
    let level = loaded.configuration.get(&options::ENV_LOG_LEVEL)?;
    log_to(arguments.log_file.as_deref(), level.as_str())?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let files =
        DaemonFiles { log: arguments.log_file.clone(), ready: arguments.ready_file.clone() };
    block_on(daemon(loaded.configuration, files)?)
}

/// Runs a daemon with a configuration from another source, and with this log file. After a signal
/// the exit code names it, as in a shell: if the process ended with 0, a NodeManager would forget
/// why it killed the container.
pub(crate) fn run_configured<F: Future<Output = Result<Ended, DaemonError>>>(
    configuration: Configuration,
    log_file: &Path,
    daemon: impl FnOnce(Configuration, DaemonFiles) -> F,
) -> Result<ExitCode> {
    let level = configuration.get(&options::ENV_LOG_LEVEL)?;
    log_to(Some(log_file), level.as_str())?;
    let files = DaemonFiles { log: Some(log_file.to_owned()), ready: None };
    Ok(match block_on(daemon(configuration, files))? {
        Ended::Done(_) => ExitCode::SUCCESS,
        Ended::Signalled(signal) => of_signal(signal),
    })
}

fn block_on(daemon: impl Future<Output = Result<Ended, DaemonError>>) -> Result<Ended> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("daemon")
        .enable_all()
        .build()
        .context("failed to start threads")?;
    let result = runtime.block_on(daemon);
    if let Err(error) = &result {
        let error: &dyn std::error::Error = error;
        tracing::error!(error, "the daemon ends");
    }
    Ok(result?)
}

/// Sends log lines to a file, or to standard error. A line that cannot be written (the disk is
/// full) is lost and nothing else is.
fn log_to(file: Option<&Path>, level: &str) -> Result<()> {
    let filter = EnvFilter::try_new(level).context("env.log.level")?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false);
    match file {
        None => subscriber.with_writer(|| LogLines(std::io::stderr())).init(),
        Some(path) => {
            let opened = File::options().create(true).append(true).open(path);
            let file = opened
                .with_context(|| format!("failed to open the log file {}", path.display()))?;
            let writer = Mutex::new(LogLines(file));
            subscriber.with_writer(writer).log_internal_errors(false).init();
        }
    }
    Ok(())
}
