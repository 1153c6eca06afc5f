//! The TaskManager process: a worker, and the way to its JobManager.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use millstream_config::{Configuration, WorkerMemory, options};
use millstream_jobmaster::{IdSource, OsIds};
use millstream_rpc::GrpcJobManager;
use millstream_security::Credentials;
use millstream_taskmanager::{ExitReason, HostSettings, TaskManagerConfig, WorkingDir};
use millstream_types::{ByteSize, ResourceProfile, TaskManagerId};
use tokio_util::sync::CancellationToken;

use crate::daemon::{self, DaemonError, DaemonFiles, Ended};

/// What distinguishes one TaskManager from another, beside its configuration.
#[derive(Debug, Default)]
pub struct TaskManagerSetup {
    /// Variables of the task hosts.
    pub variables: Vec<(OsString, OsString)>,
    /// As whom it speaks, on a cluster with an authority.
    pub credentials: Option<Credentials>,
}

/// Runs a TaskManager until it is told to stop, or finds no JobManager for too long.
///
/// # Errors
/// The configuration cannot be used, or the JobManager refused the worker or was not found.
pub async fn run_task_manager(
    configuration: Configuration,
    files: DaemonFiles,
    setup: TaskManagerSetup,
) -> Result<Ended, DaemonError> {
    daemon::adopt_orphans().await?;
    let stop = CancellationToken::new();
    let signalled = daemon::stop_at_signals(stop.clone())?;
    let bind_host = configuration.get(&options::TASKMANAGER_BIND_HOST)?;
    let key = options::TASKMANAGER_BIND_HOST.key();
    daemon::refuse_open_bind(&configuration, key, &bind_host, setup.credentials.is_some())?;
    let base = daemon::temp_base(&configuration)?;
    let dir = WorkingDir::create(&base, "millstream-taskmanager").map_err(|error| {
        DaemonError::failed(format!("failed to make a directory in {}", base.display()), error)
    })?;
    let TaskManagerSetup { variables, credentials } = setup;
    let config = worker(&configuration, &files, variables, bind_host, dir.path())?;
    let master = format!(
        "{}:{}",
        configuration.get(&options::JOBMANAGER_RPC_ADDRESS)?,
        configuration.get(&options::JOBMANAGER_RPC_PORT)?
    );
    tracing::info!(worker = %config.id, %master, slots = config.slots, "TaskManager starts");
    let mut connector = GrpcJobManager::new(master);
    if let Some(credentials) = &credentials {
        connector = connector.secured(credentials).map_err(|error| {
            DaemonError::failed("failed to secure the way to the JobManager", error)
        })?;
    }
    let connector = Arc::new(connector);
    let ended = millstream_taskmanager::run(config, connector, stop).await;
    match ended.map_err(|error| DaemonError::failed("the TaskManager failed", error))? {
        ExitReason::Shutdown => Ok(signalled.ended()),
        reason => Err(DaemonError::Refused(reason.to_string())),
    }
}

fn worker(
    configuration: &Configuration,
    files: &DaemonFiles,
    variables: Vec<(OsString, OsString)>,
    bind_host: String,
    dir: &std::path::Path,
) -> Result<TaskManagerConfig, DaemonError> {
    let memory = WorkerMemory::from_configuration(configuration)?;
    let slots = configuration.get(&options::TASKMANAGER_NUMBER_OF_TASK_SLOTS)?;
    let address =
        configuration.get(&options::TASKMANAGER_HOST)?.unwrap_or_else(|| "localhost".to_owned());
    let id = configuration.get(&options::TASKMANAGER_RESOURCE_ID)?.unwrap_or_else(|| {
        let mut bytes = [0; 3];
        OsIds.fill(&mut bytes);
        let [a, b, c] = bytes;
        format!("{address}:{}-{a:02x}{b:02x}{c:02x}", std::process::id())
    });
    let ports = configuration.get(&options::TASKMANAGER_DATA_PORT)?;
    let cores = f64::from(millstream_launcher::machine_cores());
    Ok(TaskManagerConfig {
        id: TaskManagerId::new(id),
        address,
        bind_host,
        data_port: ports.ports().next().unwrap_or(0),
        slots,
        slot_profile: ResourceProfile {
            cpu_cores: cores / f64::from(slots.max(1)),
            memory: memory.slot,
        },
        memory_process: memory.total,
        hosts: HostSettings {
            temp_dir: dir.join("hosts"),
            logs: files.directory(dir),
            variables,
            start_timeout: configuration.get(&options::HOST_START_TIMEOUT)?,
            drain_timeout: configuration.get(&options::PEKKO_ASK_TIMEOUT)?,
        },
        artifact_dir: dir.join("artifacts"),
        artifact_bytes_max: ByteSize::from_mib(10 << 10),
        registration_timeout: configuration.get(&options::TASKMANAGER_REGISTRATION_TIMEOUT)?,
        registration_backoff_min: Duration::from_millis(20),
        registration_backoff_max: Duration::from_secs(5),
    })
}
