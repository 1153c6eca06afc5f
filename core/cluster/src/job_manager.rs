//! The JobManager process: Dispatcher, ResourceManager, one JobMaster per job, and their ports.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use millstream_config::{Configuration, options};
use millstream_dispatcher::{
    ArtifactStore, DispatcherConfig, DispatcherHandle, JarStore, LogFiles, RestConfig, RestServer,
    RestServices, start_dispatcher,
};
use millstream_gateway::{ArtifactLocator, ResourceManagerGateway};
use millstream_jobmaster::{Factory, IdSource, JobMasterConfig, OsIds};
use millstream_resourcemanager::worker_fleet::FleetConfig;
use millstream_resourcemanager::{ResourceManagerConfig, start_resource_manager};
use millstream_rm_driver::{ClusterStatus, DriverEventReceiver, ResourceManagerDriver};
use millstream_rpc::{ClusterServer, ClusterServerConfig};
use millstream_taskmanager::{
    CoordinatorHosts, CoordinatorHostsConfig, HostSettings, LogDirectory, WorkingDir,
};
use millstream_types::{ArtifactHash, LeaderEpoch, TaskManagerId, Timestamp};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::daemon::{self, DaemonError, DaemonFiles};
use crate::planner::ChildPlanner;

/// The ResourceManager's driver and what it reports; the caller chooses which.
pub type Driver = (Box<dyn ResourceManagerDriver>, DriverEventReceiver);

/// How long running jobs may take to end when the process is told to stop.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(20);

#[derive(Debug)]
struct StoredArtifacts(ArtifactStore);

impl ArtifactLocator for StoredArtifacts {
    fn locate(&self, artifact: ArtifactHash) -> BoxFuture<'_, Option<PathBuf>> {
        Box::pin(async move { self.0.path(artifact) })
    }
}

/// Runs a JobManager until it is told to stop by a signal or by `DELETE /cluster`.
///
/// # Errors
/// A port is taken, a directory cannot be made, or the driver failed.
pub async fn run_job_manager(
    configuration: Configuration,
    files: DaemonFiles,
    make_driver: impl FnOnce() -> Driver,
) -> Result<(), DaemonError> {
    daemon::adopt_orphans().await?;
    let stop = CancellationToken::new();
    daemon::stop_at_signals(stop.clone())?;
    let rest = bind_rest(&configuration).await?;
    let rpc = bind_rpc(&configuration).await?;
    let base = daemon::temp_base(&configuration)?;
    let dir = WorkingDir::create(&base, "millstream-jobmanager").map_err(|error| {
        DaemonError::failed(format!("failed to make a directory in {}", base.display()), error)
    })?;
    let (artifacts, jars) = open_stores(&configuration, dir.path())?;
    let located: Arc<dyn ArtifactLocator> = Arc::new(StoredArtifacts(artifacts.clone()));
    let logs = files.directory(dir.path());
    let hosts = Arc::new(coordinator_hosts(&configuration, dir.path(), &logs, &located)?);
    let resource_config = ResourceManagerConfig {
        fleet: fleet_config(&configuration)?,
        first_allocation: u128::from_be_bytes(random()),
    };
    let (driver, events) = make_driver();
    let (resources, mut resources_ended) = start_resource_manager(&resource_config, driver, events);
    let resource_manager: Arc<dyn ResourceManagerGateway> = Arc::new(resources.clone());
    let factory = Factory {
        resource_manager: Arc::clone(&resource_manager),
        coordinator_hosts: Arc::clone(&hosts) as _,
        config: JobMasterConfig::from_configuration(&configuration)?,
    };
    let (dispatcher, _) = start_dispatcher(
        &dispatcher_config(&configuration)?,
        artifacts.clone(),
        Arc::new(factory),
        Arc::clone(&resource_manager),
    );
    let server =
        ClusterServer::new(server_config(&configuration)?, resource_manager.clone(), located);
    let serving = CancellationToken::new();
    let rpc_served = tokio::spawn(server.serve(rpc, serving.clone()));
    let mut rest_config = RestConfig::new(configuration.clone())?;
    if files.log.is_some() {
        rest_config.logs = shown_files(logs);
    }
    let services = RestServices {
        dispatcher: dispatcher.clone(),
        resource_manager,
        artifacts,
        jars,
        planner: Arc::new(ChildPlanner::new(&configuration, dir.path().to_owned())?),
        shutdown_requested: stop.clone(),
    };
    tracing::info!("Web frontend listening at http://{}", rest.local_addr());
    let rest_served = tokio::spawn(rest.serve(rest_config, services, serving.clone()));
    let failed = tokio::select! {
        () = stop.cancelled() => None,
        ended = &mut resources_ended => ended.ok().and_then(Result::err),
    };
    end_jobs(&dispatcher, &hosts).await;
    serving.cancel();
    let _ = rest_served.await;
    let _ = rpc_served.await;
    match failed {
        None => {
            resources.stop(ClusterStatus::Succeeded, String::new()).await;
            let _ = resources_ended.await;
            Ok(())
        }
        Some(error) => Err(DaemonError::failed("the ResourceManager failed", error)),
    }
}

async fn end_jobs(dispatcher: &DispatcherHandle, hosts: &CoordinatorHosts) {
    let ended = async {
        dispatcher.shutdown().await;
        hosts.shut_down().await;
    };
    if tokio::time::timeout(SHUTDOWN_DEADLINE, ended).await.is_err() {
        tracing::warn!("jobs did not end in time; their processes are killed");
    }
}

fn coordinator_hosts(
    configuration: &Configuration,
    dir: &Path,
    logs: &LogDirectory,
    artifacts: &Arc<dyn ArtifactLocator>,
) -> Result<CoordinatorHosts, DaemonError> {
    let config = CoordinatorHostsConfig {
        id: TaskManagerId::new("jobmanager"),
        hosts: HostSettings {
            temp_dir: dir.to_owned(),
            logs: logs.clone(),
            variables: Vec::new(),
            start_timeout: configuration.get(&options::HOST_START_TIMEOUT)?,
            drain_timeout: configuration.get(&options::PEKKO_ASK_TIMEOUT)?,
        },
        memory_limit: configuration.get(&options::COORDINATOR_MEMORY)?,
    };
    Ok(CoordinatorHosts::new(config, Arc::clone(artifacts)))
}

fn fleet_config(configuration: &Configuration) -> Result<FleetConfig, DaemonError> {
    Ok(FleetConfig {
        registration_timeout: configuration
            .get(&options::RESOURCEMANAGER_TASKMANAGER_REGISTRATION_TIMEOUT)?,
        start_failures_max: configuration
            .get(&options::RESOURCEMANAGER_START_WORKER_MAX_FAILURE_RATE)?,
        start_retry_interval: configuration
            .get(&options::RESOURCEMANAGER_START_WORKER_RETRY_INTERVAL)?,
        idle_timeout: configuration.get(&options::RESOURCEMANAGER_TASKMANAGER_TIMEOUT)?,
        slots_min: configuration.get(&options::SLOTMANAGER_NUMBER_OF_SLOTS_MIN)?,
        slots_max: configuration.get(&options::SLOTMANAGER_NUMBER_OF_SLOTS_MAX)?,
        redundant: configuration.get(&options::SLOTMANAGER_REDUNDANT_TASKMANAGER_NUM)?,
    })
}

fn dispatcher_config(configuration: &Configuration) -> Result<DispatcherConfig, DaemonError> {
    Ok(DispatcherConfig {
        ended_jobs_max: configuration.get(&options::JOBSTORE_MAX_CAPACITY)? as usize,
        ended_jobs_expiration: configuration.get(&options::JOBSTORE_EXPIRATION_TIME)?.duration(),
    })
}

fn shown_files(logs: LogDirectory) -> LogFiles {
    let LogDirectory { dir, log_name, out_name } = logs;
    LogFiles { directory: Some(dir), log: Some(log_name), stdout: Some(out_name) }
}

async fn bind_rest(configuration: &Configuration) -> Result<RestServer, DaemonError> {
    let address = configuration.get(&options::REST_BIND_ADDRESS)?;
    daemon::refuse_open_bind(configuration, options::REST_BIND_ADDRESS.key(), &address)?;
    let ports = configuration.get(&options::REST_BIND_PORT)?;
    RestServer::bind(&address, ports.ports()).await.map_err(|error| DaemonError::Bind {
        key: options::REST_BIND_PORT.key(),
        address,
        reason: error.to_string(),
    })
}

async fn bind_rpc(configuration: &Configuration) -> Result<TcpListener, DaemonError> {
    let address = configuration.get(&options::JOBMANAGER_BIND_HOST)?;
    daemon::refuse_open_bind(configuration, options::JOBMANAGER_BIND_HOST.key(), &address)?;
    let port = configuration.get(&options::JOBMANAGER_RPC_PORT)?;
    TcpListener::bind((address.as_str(), port)).await.map_err(|error| DaemonError::Bind {
        key: options::JOBMANAGER_RPC_PORT.key(),
        address: format!("{address}:{port}"),
        reason: error.to_string(),
    })
}

fn open_stores(
    configuration: &Configuration,
    dir: &Path,
) -> Result<(ArtifactStore, JarStore), DaemonError> {
    let size_max = configuration.get(&options::REST_SERVER_MAX_CONTENT_LENGTH)?;
    let base = configuration.get(&options::WEB_UPLOAD_DIR)?.unwrap_or_else(|| dir.join("uploads"));
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        DaemonError::failed(format!("failed to open the uploads in {}", base.display()), error)
    };
    let artifacts = ArtifactStore::open(&base.join("artifacts"), size_max)
        .map_err(|error| failed(error.into()))?;
    let jars = JarStore::open(&base.join("jars"), artifacts.clone())
        .map_err(|error| failed(error.into()))?;
    Ok((artifacts, jars))
}

fn server_config(configuration: &Configuration) -> Result<ClusterServerConfig, DaemonError> {
    // Without ZooKeeper the start time counts leaders: a restarted master is always later.
    let epoch = Timestamp::now().as_millis().unsigned_abs();
    Ok(ClusterServerConfig {
        heartbeat_interval: configuration.get(&options::HEARTBEAT_INTERVAL)?,
        heartbeat_timeout: configuration.get(&options::HEARTBEAT_TIMEOUT)?,
        ..ClusterServerConfig::new(LeaderEpoch::new(epoch))
    })
}

fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    OsIds.fill(&mut bytes);
    bytes
}
