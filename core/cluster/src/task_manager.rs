//! The process of a TaskManager, with its connection to the JobManager.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use millstream_config::{Configuration, PortRange, WorkerMemory, options};
use millstream_gateway::{
    ConnectError, JobManagerConnection, JobManagerConnector, TaskManagerRegistration,
};
use millstream_jobmaster::{IdSource, OsIds};
use millstream_rm_driver::ClusterStatus;
use millstream_rpc::GrpcJobManager;
use millstream_security::Credentials;
use millstream_taskmanager::{ExitReason, HostSettings, TaskManagerConfig, WorkingDir};
use millstream_types::{ByteSize, ResourceProfile, TaskManagerId};
use tokio_util::sync::CancellationToken;

use crate::daemon::{self, DaemonError, DaemonFiles, Ended, ReadyFile};

/// Prefix of the names of a TaskManager's own directories.
const DIRECTORY: &str = "millstream-taskmanager";

/// Properties of one TaskManager, beside its configuration.
#[derive(Debug, Default)]
pub struct TaskManagerSetup {
    /// Variables of the task hosts.
    pub variables: Vec<(OsString, OsString)>,
    /// The TaskManager's certificate, on a cluster with an authority.
    pub credentials: Option<Credentials>,
}

/// Runs a TaskManager until it is told to stop, or finds no JobManager for too long.
///
/// # Errors
/// The configuration cannot be used, or the JobManager refused the TaskManager or was not found.
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
    let dirs = daemon::working_dirs(&configuration, DIRECTORY)?;
    let TaskManagerSetup { variables, credentials } = setup;
    let config = worker(&configuration, &files, variables, bind_host, &dirs)?;
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
    let connector: Arc<dyn JobManagerConnector> = match files.ready {
        None => Arc::new(connector),
        Some(path) => Arc::new(Announcing { connector, path, ready: Mutex::default() }),
    };
    let ended = millstream_taskmanager::run(config, connector, stop).await;
    match ended.map_err(|error| DaemonError::failed("the TaskManager failed", error))? {
        ExitReason::Shutdown => Ok(signalled.or_done(ClusterStatus::Succeeded)),
        reason => Err(DaemonError::Refused(reason.to_string())),
    }
}

/// Checks the host for a TaskManager of this configuration, and leaves nothing behind.
///
/// # Errors
/// The error with which the TaskManager would end.
pub fn check_task_manager(configuration: &Configuration) -> Result<(), DaemonError> {
    let bind_host = configuration.get(&options::TASKMANAGER_BIND_HOST)?;
    let key = options::TASKMANAGER_BIND_HOST.key();
    daemon::refuse_open_bind(configuration, key, &bind_host, false)?;
    let dirs = daemon::working_dirs(configuration, DIRECTORY)?;
    worker(configuration, &DaemonFiles::default(), Vec::new(), bind_host, &dirs).map(drop)
}

/// A connector that writes the ready file when the TaskManager has registered.
#[derive(Debug)]
struct Announcing {
    connector: GrpcJobManager,
    path: PathBuf,
    ready: Mutex<Option<ReadyFile>>,
}

impl JobManagerConnector for Announcing {
    fn connect(
        &self,
        registration: TaskManagerRegistration,
    ) -> BoxFuture<'_, Result<JobManagerConnection, ConnectError>> {
        Box::pin(async move {
            let id = registration.id.to_string();
            let connection = self.connector.connect(registration).await?;
            let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
            if ready.is_none() {
                match ReadyFile::write(&self.path, &[("worker", id)]) {
                    Ok(file) => *ready = Some(file),
                    Err(error) => tracing::warn!(%error, "nobody hears that this worker is ready"),
                }
            }
            Ok(connection)
        })
    }
}

/// The host name by which others reach a server bound to `bind_host`.
fn reachable(bind_host: &str) -> String {
    let every = bind_host.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified());
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match machine.trim() {
        machine if every && !machine.is_empty() => machine.to_owned(),
        _ => bind_host.to_owned(),
    }
}

/// The port, if there is just one.
fn fixed_port(ports: &PortRange) -> u16 {
    let mut ports = ports.ports();
    match (ports.next(), ports.next()) {
        (Some(port), None) => port,
        _ => 0,
    }
}

fn worker(
    configuration: &Configuration,
    files: &DaemonFiles,
    variables: Vec<(OsString, OsString)>,
    bind_host: String,
    dirs: &[WorkingDir],
) -> Result<TaskManagerConfig, DaemonError> {
    let (dir, temp_dirs) = daemon::first_and_all(dirs, "hosts")?;
    let memory = WorkerMemory::from_configuration(configuration)?;
    let slots = configuration.get(&options::TASKMANAGER_NUMBER_OF_TASK_SLOTS)?;
    let named = configuration.get(&options::TASKMANAGER_HOST)?;
    let address = named.unwrap_or_else(|| reachable(&bind_host));
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
        data_port: fixed_port(&ports),
        data_ports: ports.to_string(),
        slots,
        slot_profile: ResourceProfile {
            cpu_cores: cores / f64::from(slots.max(1)),
            memory: memory.slot,
        },
        memory_process: memory.total,
        hosts: HostSettings {
            temp_dirs,
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
