//! The daemons of a standalone cluster.

use std::process::ExitCode;

use anyhow::Result;
use millstream_cluster::{
    Application, DaemonError, DaemonFiles, Driver, Ended, Endpoints, JobManagerSetup, Lifecycle,
    TaskManagerSetup, run_job_manager, run_task_manager,
};
use millstream_config::{Configuration, Loader, options};
use millstream_rm_driver::{ClusterStatus, driver_events};
use millstream_rm_standalone::{EpochCounter, StandaloneDriver};
use millstream_types::JobId;

use crate::arguments::{DaemonArguments, ProgramArguments, StandaloneJobArguments};
use crate::program::random_id;
use crate::{daemon, drivers, settings};

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
        Ended::Signalled(signal) => daemon::of_signal(signal),
    })
}

/// The setup of a JobManager in a standalone session.
pub(super) fn standalone_setup(configuration: &Configuration) -> Result<JobManagerSetup> {
    Ok(JobManagerSetup::session(Box::new(EpochCounter::of(configuration)?)))
}

fn standalone_driver(_: &Endpoints) -> Result<Driver, DaemonError> {
    let (events, received) = driver_events();
    Ok((Box::new(StandaloneDriver::new(events)), received))
}

fn run<F: Future<Output = Result<Ended, DaemonError>>>(
    arguments: &DaemonArguments,
    start: impl FnOnce(Configuration, DaemonFiles) -> Result<F>,
) -> Result<Ended> {
    let mut loader = Loader::from_process(drivers::options());
    if let Some(dir) = &arguments.conf_dir {
        loader = loader.with_conf_dir(dir);
    }
    let loaded = loader.with_dynamic_properties(&arguments.properties).load()?;
    let level = loaded.configuration.get(&options::ENV_LOG_LEVEL)?;
    daemon::log_to(arguments.log_file.as_deref(), level.as_str())?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let files =
        DaemonFiles { log: arguments.log_file.clone(), ready: arguments.ready_file.clone() };
    daemon::block_on(start(loaded.configuration, files)?)
}
