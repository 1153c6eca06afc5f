//! The JobManager process: Dispatcher, ResourceManager, one JobMaster per job, and their ports.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::OptionFuture;
use millstream_config::{ConfigOption, Configuration, PortRange, options};
use millstream_dispatcher::{
    ArtifactStore, BindError, ClientLease, DispatcherConfig, DispatcherHandle, Disposals, JarStore,
    LogFiles, ProxyServer, RestConfig, RestServer, RestServices, StoredSavepoints,
    start_dispatcher,
};
use millstream_gateway::{ArtifactLocator, ResourceManagerGateway};
use millstream_jobmaster::{Factory, IdSource, JobMasterConfig, OsIds};
use millstream_resourcemanager::worker_fleet::FleetConfig;
use millstream_resourcemanager::{
    ResourceManagerConfig, ResourceManagerError, ResourceManagerHandle, start_resource_manager,
};
use millstream_rm_driver::{
    ClusterStatus, DriverEventReceiver, EpochSource, ResourceManagerDriver,
};
use millstream_rpc::{ClusterServer, ClusterServerConfig};
use millstream_security::{Authority, CLUSTER_LIFETIME, Credentials, Role, SecurityError};
use millstream_taskmanager::{
    CoordinatorHosts, CoordinatorHostsConfig, HostSettings, LogDirectory, TempDirs,
};
use millstream_types::{LeaderEpoch, TaskManagerId, with_sources};
use tokio::net::TcpListener;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::daemon::{self, DaemonError, DaemonFiles, Ended, ReadyFile};
use crate::lifecycle::{Begun, Lifecycle, Lifecycles, Outcome};
use crate::planner::ChildPlanner;

/// The ResourceManager's driver and the receiver of its events; the caller chooses the driver.
pub type Driver = (Box<dyn ResourceManagerDriver>, DriverEventReceiver);

/// Time limit for running jobs to end when the process is told to stop.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(20);

/// Time for which a cluster of a program outlives a job that was stopped with a savepoint: clients
/// ask every two seconds what became of it.
const ANSWERS_KEPT: Duration = Duration::from_secs(5);

/// Prefix of the names of a JobManager's own directories.
const DIRECTORY: &str = "millstream-jobmanager";

/// Where a JobManager listens.
#[derive(Debug, Clone, Copy)]
pub struct Endpoints {
    /// The REST server.
    pub rest: SocketAddr,
    /// The RPC server of the TaskManagers.
    pub rpc: SocketAddr,
    /// The listener for web proxies, if there are any.
    pub proxy: Option<SocketAddr>,
}

/// Properties of one JobManager, beside its configuration.
#[derive(Debug)]
pub struct JobManagerSetup {
    /// The purpose of the cluster, which also decides when it ends.
    pub lifecycle: Lifecycle,
    /// Gives this JobManager its epoch.
    pub epochs: Box<dyn EpochSource>,
    /// After how much silence of its client the cluster ends, if it depends on one.
    pub lease: Option<Duration>,
    /// Variables of the processes that run user code here.
    pub variables: Vec<(OsString, OsString)>,
    /// The option of the ports that the RPC server tries, if it is not `jobmanager.rpc.port`.
    pub rpc_ports: Option<&'static ConfigOption<PortRange>>,
    /// The authority that issues the certificates of this cluster; without one nothing is
    /// encrypted, and only loopback addresses may be bound.
    pub authority: Option<Arc<Authority>>,
    /// The addresses of a web proxy that may look at the cluster; with any, there is a listener for
    /// them.
    pub web_proxies: Vec<IpAddr>,
}

impl JobManagerSetup {
    /// A session that does not depend on a client.
    #[must_use]
    pub fn session(epochs: Box<dyn EpochSource>) -> Self {
        Self {
            lifecycle: Lifecycle::Session,
            epochs,
            lease: None,
            variables: Vec::new(),
            rpc_ports: None,
            authority: None,
            web_proxies: Vec::new(),
        }
    }
}

/// Runs a JobManager until its lifecycle has ended, or it is told to stop by a signal or by `DELETE
/// /cluster`. After a signal the external manager is not told that the cluster has ended: to it,
/// this process is one that died.
///
/// # Errors
/// A port is taken, a directory cannot be made, or the driver failed.
pub async fn run_job_manager(
    configuration: Configuration,
    files: DaemonFiles,
    setup: JobManagerSetup,
    make_driver: impl FnOnce(&Endpoints) -> Result<Driver, DaemonError>,
) -> Result<Ended, DaemonError> {
    daemon::adopt_orphans().await?;
    let stop = CancellationToken::new();
    let signalled = daemon::stop_at_signals(stop.clone())?;
    let ports = Ports::bind(&configuration, &setup).await?;
    let endpoints = ports.endpoints()?;
    let dirs = daemon::working_dirs(&configuration, DIRECTORY)?;
    let (dir, host_dirs) = daemon::first_and_all(&dirs, "")?;
    let (artifacts, jars) = open_stores(&configuration, dir)?;
    let located: Arc<dyn ArtifactLocator> = Arc::new(artifacts.clone());
    let logs = files.directory(dir);
    let hosts = coordinator_hosts(&configuration, host_dirs, &logs, &setup.variables, &located)?;
    let server_config = server_config(&configuration, setup.epochs).await?;
    let (driver, events) = make_driver(&endpoints)?;
    let (resources, mut resources_ended) =
        start_resource_manager(&resource_config(&configuration)?, driver, events);
    let resource_manager: Arc<dyn ResourceManagerGateway> = Arc::new(resources.clone());
    let leader = (setup.authority, server_config.epoch);
    let job_masters = job_masters(&configuration, leader, &resource_manager, &hosts)?;
    let (dispatcher, _) = start_dispatcher(
        &dispatcher_config(&configuration)?,
        artifacts.clone(),
        Arc::new(job_masters),
        Arc::clone(&resource_manager),
    );
    let lease = setup.lease.map(ClientLease::new);
    let services = RestServices {
        dispatcher: dispatcher.clone(),
        resource_manager: Arc::clone(&resource_manager),
        artifacts: artifacts.clone(),
        jars,
        planner: Arc::new(ChildPlanner::new(&configuration, dir.to_owned())?),
        disposals: Disposals::new(Arc::new(StoredSavepoints)),
        lease: lease.clone(),
        shutdown_requested: stop.clone(),
    };
    let lifecycles = Lifecycles {
        dispatcher: dispatcher.clone(),
        artifacts,
        variables: setup.variables,
        temp_dir: dir.to_owned(),
        logs: logs.clone(),
        memory: configuration.get(&options::PLAN_MEMORY)?,
    };
    let rest_config = rest_config(&configuration, files.log.is_some().then_some(logs))?;
    let server = ClusterServer::new(server_config, resource_manager, located);
    let begun = lifecycles.begin(setup.lifecycle).await;
    let (serving, urls) = (CancellationToken::new(), ports.urls(&endpoints));
    let served = tokio::spawn(ports.serve(server, rest_config, services, serving.clone())?);
    let _ready = files.ready.map(|path| ReadyFile::write(&path, &urls)).transpose()?;
    let ended = tokio::select! {
        outcome = until_end(&lifecycles, begun, lease.as_ref(), &stop) => Ok(outcome),
        failed = &mut resources_ended => Err(resource_manager_failed(failed)),
    };
    end_jobs(&dispatcher, &hosts).await;
    serving.cancel();
    let _ = served.await;
    let outcome = ended?;
    let ended = signalled.or_done(outcome.status);
    match ended {
        Ended::Done(_) => leave(&resources, resources_ended, outcome).await,
        Ended::Signalled(_) => resources_ended.abort(),
    }
    Ok(ended)
}

/// Checks the host for a JobManager of this configuration, ports first, and leaves nothing behind.
///
/// # Errors
/// The error with which the JobManager would end.
pub async fn check_job_manager(
    configuration: &Configuration,
    setup: &JobManagerSetup,
) -> Result<(), DaemonError> {
    let ports = Ports::bind(configuration, setup).await?;
    daemon::working_dirs(configuration, DIRECTORY)?;
    drop(ports);
    Ok(())
}

/// Tells the external manager that the cluster has ended, and how.
async fn leave(
    resources: &ResourceManagerHandle,
    actor: JoinHandle<Result<(), ResourceManagerError>>,
    outcome: Outcome,
) {
    let Outcome { status, diagnostics } = outcome;
    tracing::info!(?status, diagnostics, "the cluster ends");
    resources.stop(status, diagnostics).await;
    let _ = actor.await;
}

fn resource_manager_failed(
    ended: Result<Result<(), ResourceManagerError>, JoinError>,
) -> DaemonError {
    let what = "the ResourceManager failed";
    match ended {
        Ok(Err(error)) => DaemonError::failed(what, error),
        Ok(Ok(())) => DaemonError::failed(what, "it ended by itself"),
        Err(error) => DaemonError::failed(what, error),
    }
}

/// Waits for the end of the lifecycle, of the client's lease, or of the grace period for the
/// client. The result of a cluster's one job stays readable for the client that waits for it, and
/// what became of a stop for a while.
async fn until_end(
    lifecycles: &Lifecycles,
    begun: Begun,
    lease: Option<&ClientLease>,
    stop: &CancellationToken,
) -> Outcome {
    let session = matches!(begun, Begun::Session);
    let keeps_result = matches!(begun, Begun::Job(_));
    let abandoned = async {
        match lease {
            Some(lease) => lease.expired().await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(abandoned);
    tokio::select! {
        outcome = lifecycles.run(begun) => {
            tracing::info!(diagnostics = outcome.diagnostics, "what the cluster exists for ended");
            if lease.is_some() && keeps_result {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = &mut abandoned => tracing::warn!("no client fetched the result"),
                }
            } else if !session && lifecycles.owes_answers().await {
                let _ = tokio::time::timeout(ANSWERS_KEPT, stop.cancelled()).await;
            }
            outcome
        }
        () = &mut abandoned => {
            let why = "the client that the cluster was for has not been heard of \
                       (client.heartbeat.timeout)";
            Outcome::new(ClusterStatus::Cancelled, why)
        }
        () = stop.cancelled() => match session {
            true => Outcome::new(ClusterStatus::Succeeded, "the session was stopped"),
            false => Outcome::new(
                ClusterStatus::Cancelled,
                "the cluster was stopped before its job had ended",
            ),
        },
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

fn job_masters(
    configuration: &Configuration,
    (authority, epoch): (Option<Arc<Authority>>, LeaderEpoch),
    resource_manager: &Arc<dyn ResourceManagerGateway>,
    hosts: &Arc<CoordinatorHosts>,
) -> Result<Factory, DaemonError> {
    let of_jobs = JobMasterConfig::from_configuration(configuration)?;
    Ok(Factory {
        resource_manager: Arc::clone(resource_manager),
        coordinator_hosts: Arc::clone(hosts) as _,
        config: JobMasterConfig { authority, epoch, ..of_jobs },
    })
}

fn coordinator_hosts(
    configuration: &Configuration,
    temp_dirs: TempDirs,
    logs: &LogDirectory,
    variables: &[(OsString, OsString)],
    artifacts: &Arc<dyn ArtifactLocator>,
) -> Result<Arc<CoordinatorHosts>, DaemonError> {
    let config = CoordinatorHostsConfig {
        id: TaskManagerId::new("jobmanager"),
        hosts: HostSettings {
            temp_dirs,
            logs: logs.clone(),
            variables: variables.to_vec(),
            start_timeout: configuration.get(&options::HOST_START_TIMEOUT)?,
            drain_timeout: configuration.get(&options::PEKKO_ASK_TIMEOUT)?,
        },
        memory_limit: configuration.get(&options::COORDINATOR_MEMORY)?,
    };
    Ok(Arc::new(CoordinatorHosts::new(config, Arc::clone(artifacts))))
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

fn resource_config(configuration: &Configuration) -> Result<ResourceManagerConfig, DaemonError> {
    Ok(ResourceManagerConfig {
        fleet: fleet_config(configuration)?,
        first_allocation: u128::from_be_bytes(random()),
    })
}

fn rest_config(
    configuration: &Configuration,
    logs: Option<LogDirectory>,
) -> Result<RestConfig, DaemonError> {
    let mut config = RestConfig::new(configuration.clone())?;
    if let Some(logs) = logs {
        config.logs = shown_files(logs);
    }
    Ok(config)
}

fn shown_files(logs: LogDirectory) -> LogFiles {
    let LogDirectory { dir, log_name, out_name } = logs;
    LogFiles { directory: Some(dir), log: Some(log_name), stdout: Some(out_name) }
}

/// The ports of a JobManager, bound before anything else is done.
struct Ports {
    rest: RestServer,
    rpc: TcpListener,
    proxy: Option<ProxyServer>,
    /// The JobManager's certificate, on a cluster with an authority.
    credentials: Option<Credentials>,
}

impl Ports {
    async fn bind(
        configuration: &Configuration,
        setup: &JobManagerSetup,
    ) -> Result<Self, DaemonError> {
        let secured = setup.authority.is_some();
        let issue = |authority: &Arc<Authority>| {
            authority.issue(Role::JobManager, "jobmanager", CLUSTER_LIFETIME).map_err(insecure)
        };
        let credentials = setup.authority.as_ref().map(issue).transpose()?;
        let address = configuration.get(&options::REST_BIND_ADDRESS)?;
        let key = options::REST_BIND_ADDRESS.key();
        daemon::refuse_open_bind(configuration, key, &address, secured)?;
        let failed = |error: BindError| DaemonError::Bind {
            key: options::REST_BIND_PORT.key(),
            address: address.clone(),
            reason: with_sources(&error),
        };
        let ports = configuration.get(&options::REST_BIND_PORT)?;
        let mut rest = RestServer::bind(&address, ports.ports()).await.map_err(failed)?;
        if let Some(credentials) = &credentials {
            rest = rest.secured(credentials).map_err(insecure)?;
        }
        let proxies = setup.web_proxies.iter().copied();
        let proxy = match setup.web_proxies.is_empty() {
            true => None,
            false => Some(ProxyServer::bind(&address, [0], proxies).await.map_err(failed)?),
        };
        let rpc = bind_rpc(configuration, setup.rpc_ports, secured).await?;
        Ok(Self { rest, rpc, proxy, credentials })
    }

    fn endpoints(&self) -> Result<Endpoints, DaemonError> {
        let failed = |error| DaemonError::failed("failed to learn the RPC port", error);
        Ok(Endpoints {
            rest: self.rest.local_addr(),
            rpc: self.rpc.local_addr().map_err(failed)?,
            proxy: self.proxy.as_ref().map(ProxyServer::local_addr),
        })
    }

    /// The addresses for the ready file.
    fn urls(&self, endpoints: &Endpoints) -> [(&'static str, String); 2] {
        let scheme = if self.credentials.is_some() { "https" } else { "http" };
        [("rest", format!("{scheme}://{}", endpoints.rest)), ("rpc", endpoints.rpc.to_string())]
    }

    /// Serves on all of them until it is told to stop.
    fn serve(
        self,
        mut server: ClusterServer,
        config: RestConfig,
        services: RestServices,
        stop: CancellationToken,
    ) -> Result<impl Future<Output = ()> + use<>, DaemonError> {
        let mut scheme = "http";
        if let Some(credentials) = &self.credentials {
            server = server.secured(credentials).map_err(insecure)?;
            scheme = "https";
        }
        tracing::info!("Web frontend listening at {scheme}://{}", self.rest.local_addr());
        let seen =
            self.proxy.map(|proxy| proxy.serve(config.clone(), services.clone(), stop.clone()));
        let rest = self.rest.serve(config, services, stop.clone());
        let rpc = server.serve(self.rpc, stop);
        Ok(async move {
            let (seen, rest, rpc) =
                (OptionFuture::from(seen.map(tokio::spawn)), tokio::spawn(rest), tokio::spawn(rpc));
            let _ = tokio::join!(seen, rest, rpc);
        })
    }
}

fn insecure(error: SecurityError) -> DaemonError {
    DaemonError::failed("failed to secure the ports", error)
}

async fn bind_rpc(
    configuration: &Configuration,
    ports: Option<&ConfigOption<PortRange>>,
    secured: bool,
) -> Result<TcpListener, DaemonError> {
    let address = configuration.get(&options::JOBMANAGER_BIND_HOST)?;
    let key = options::JOBMANAGER_BIND_HOST.key();
    daemon::refuse_open_bind(configuration, key, &address, secured)?;
    let (key, ports) = match ports {
        Some(option) => (option.key(), configuration.get(option)?.ports().collect()),
        None => {
            let port = configuration.get(&options::JOBMANAGER_RPC_PORT)?;
            (options::JOBMANAGER_RPC_PORT.key(), vec![port])
        }
    };
    let mut refused = None;
    for port in ports {
        match TcpListener::bind((address.as_str(), port)).await {
            Ok(listener) => return Ok(listener),
            Err(error) => {
                refused = Some(DaemonError::Bind {
                    key,
                    address: format!("{address}:{port}"),
                    reason: error.to_string(),
                });
            }
        }
    }
    Err(refused.unwrap_or_else(|| DaemonError::Bind {
        key,
        address,
        reason: "no port is allowed".to_owned(),
    }))
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
    let unused_for = configuration.get(&options::BLOB_SERVICE_CLEANUP_INTERVAL)?.duration();
    let artifacts = ArtifactStore::open(&base.join("artifacts"), size_max, unused_for)
        .map_err(|error| failed(error.into()))?;
    let jars = JarStore::open(&base.join("jars"), artifacts.clone())
        .map_err(|error| failed(error.into()))?;
    Ok((artifacts, jars))
}

/// The configuration of the RPC server, with an epoch of this process's own.
async fn server_config(
    configuration: &Configuration,
    epochs: Box<dyn EpochSource>,
) -> Result<ClusterServerConfig, DaemonError> {
    let failed = |error| DaemonError::failed("the JobManager cannot lead", error);
    let epoch = epochs.issue().await.map_err(failed)?;
    tracing::info!(%epoch, "the JobManager leads");
    Ok(ClusterServerConfig {
        heartbeat_interval: configuration.get(&options::HEARTBEAT_INTERVAL)?,
        heartbeat_timeout: configuration.get(&options::HEARTBEAT_TIMEOUT)?,
        ..ClusterServerConfig::new(epoch)
    })
}

fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    OsIds.fill(&mut bytes);
    bytes
}
