//! The processes in YARN's containers.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::net::{IpAddr, ToSocketAddrs};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use millstream_cluster::{
    Application, DaemonError, Driver, Ended, Endpoints, JobManagerSetup, Lifecycle, PlannedJob,
    TaskManagerSetup, run_job_manager, run_task_manager,
};
use millstream_config::{Configuration, WorkerMemory, options};
use millstream_graph::JobSettings;
use millstream_hadoop_config::HadoopConfiguration;
use millstream_rm_driver::{WorkerRequest, driver_events};
use millstream_rm_yarn::container::{
    ARTIFACT, HADOOP_CONF, JOB_GRAPH, Surroundings, TEMPORARY, TaskManagers, hadoop,
    master_variables, worker_variables,
};
use millstream_rm_yarn::credentials::AM_RM_TOKEN;
use millstream_rm_yarn::decline;
use millstream_rm_yarn::driver::{YarnDriver, YarnDriverConfig};
use millstream_rm_yarn::ipc::{Identity, Options};
use millstream_rm_yarn::launch_script::VariableName;
use millstream_rm_yarn::options as yarn_options;
use millstream_rm_yarn::proto::container::{Master, master};
use millstream_rm_yarn::resource_manager::{ResourceManager, Service, addresses};
use millstream_rm_yarn::worker_size;
use millstream_security::Authority;
use millstream_storage::FilePath;
use millstream_types::{JobId, ResourceProfile};
use prost::Message as _;

use super::files;
use crate::arguments::ContainerArguments;
use crate::{daemon, drivers, runtime};

/// Time for which the ResourceManager may be away before the cluster gives up.
const PATIENCE: Duration = Duration::from_secs(20 * 60);
/// Time limit for one answer of the ResourceManager; short, so that a stopped one does not hold up
/// the change to another.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// More heartbeats a second bring no container sooner.
const PENDING_SHORTEST: Duration = Duration::from_millis(50);
/// A node on which so many workers failed to start is avoided.
const NODE_FAILURES_MAX: u32 = 3;
/// Mode of files with settings: only the container's user may read them, because some settings are
/// secret.
const PRIVATE_DIRECTORY: u32 = 0o700;
const PRIVATE_FILE: u32 = 0o600;

/// Runs the JobManager of a container.
pub(super) fn job_manager(arguments: &ContainerArguments) -> Result<ExitCode> {
    let surroundings = Surroundings::from_environment()?;
    let told = Arc::new(surroundings.master()?);
    if surroundings.id.attempt.number > 1 {
        return another_attempt(&surroundings, &told);
    }
    let configuration = master_configuration(&surroundings, &told)?;
    let authority = Arc::new(surroundings.authority()?);
    let hadoop = hadoop(&told.hadoop);
    let own = master_variables(&told.configuration)?;
    let variables = user_variables(&surroundings.dir, &hadoop, &told.user, own)?;
    let lease = told.attached.then(|| configuration.get(&options::CLIENT_HEARTBEAT_TIMEOUT));
    let setup = JobManagerSetup {
        lifecycle: lifecycle(&surroundings, &told)?,
        epochs: Box::new(surroundings.id.attempt.epoch()),
        lease: lease.transpose()?,
        variables,
        rpc_ports: Some(&yarn_options::YARN_APPLICATION_MASTER_PORT),
        authority: Some(Arc::clone(&authority)),
        web_proxies: web_proxies(&hadoop)?,
    };
    let staging = FilePath::from(told.staging_dir.as_str());
    let user = told.user.clone();
    let driver_config = DriverSource { surroundings, told, authority, hadoop: hadoop.clone() };
    let kept = configuration.clone();
    daemon::run_configured(configuration, &arguments.log_file, |configuration, log| async move {
        let ended = run_job_manager(configuration, log, setup, |endpoints| {
            let driver = driver_config.driver(&kept, endpoints);
            driver.map_err(|error| DaemonError::Refused(format!("{error:#}")))
        })
        .await;
        // After a signal, or when YARN gave this attempt up, the files may be those of another
        // attempt.
        if let Ok(Ended::Done(_)) = &ended {
            remove_staging(&hadoop, &staging, &user).await;
        }
        ended
    })
}

/// Ends an application whose JobManager was started a second time: YARN may do so although we allow
/// one attempt.
fn another_attempt(surroundings: &Surroundings, told: &Master) -> Result<ExitCode> {
    let hadoop = hadoop(&told.hadoop);
    let mut manager = scheduler(surroundings, &hadoop)?;
    let staging = FilePath::from(told.staging_dir.as_str());
    runtime()?.block_on(async {
        decline(&mut manager, surroundings.id.attempt, &surroundings.host).await?;
        remove_staging(&hadoop, &staging, &told.user).await;
        Ok(ExitCode::FAILURE)
    })
}

/// The ResourceManager, as the container's token.
fn scheduler(surroundings: &Surroundings, hadoop: &HadoopConfiguration) -> Result<ResourceManager> {
    let token = surroundings.credentials.token(AM_RM_TOKEN);
    let token = token.context("the container's credentials hold no token for YARN")?.clone();
    let (identity, options) = (Identity::Token(token), node_manager_options());
    Ok(ResourceManager::new(hadoop, Service::Scheduler, identity, options, PATIENCE)?)
}

fn node_manager_options() -> Options {
    Options { call_timeout: CALL_TIMEOUT, ..Options::default() }
}

/// Removes the files that were staged for this cluster alone. If that fails, the owner's next
/// deployment sweeps them.
async fn remove_staging(hadoop: &HadoopConfiguration, staging: &FilePath, user: &str) {
    let removed = match files::open(hadoop, staging, user) {
        Ok(files) => files.delete(staging, true).await.map_err(anyhow::Error::from),
        Err(error) => Err(error),
    };
    if let Err(error) = removed {
        tracing::warn!(%error, "what was staged is left");
    }
}

/// Runs the TaskManager of a container.
pub(super) fn task_manager(arguments: &ContainerArguments) -> Result<ExitCode> {
    let surroundings = Surroundings::from_environment()?;
    let told = surroundings.worker()?;
    let bind = surroundings.bind_address();
    let own = [
        (options::TASKMANAGER_RESOURCE_ID.key(), surroundings.id.to_string()),
        (options::TASKMANAGER_HOST.key(), surroundings.host.clone()),
        (options::TASKMANAGER_BIND_HOST.key(), bind.to_owned()),
    ];
    let variables = worker_variables(&told.configuration)?;
    let configuration = configuration(&surroundings, told.configuration, own)?;
    let hadoop = hadoop(&told.hadoop);
    let setup = TaskManagerSetup {
        variables: user_variables(&surroundings.dir, &hadoop, &told.user, variables)?,
        credentials: Some(surroundings.identity()?),
    };
    daemon::run_configured(configuration, &arguments.log_file, |configuration, log| {
        run_task_manager(configuration, log, setup)
    })
}

/// The configuration in the container's credentials, with this container's own values over it.
fn configuration<const N: usize>(
    surroundings: &Surroundings,
    mut pairs: BTreeMap<String, String>,
    own: [(&str, String); N],
) -> Result<Configuration> {
    for (key, value) in own {
        pairs.insert(key.to_owned(), value);
    }
    // The temporary directory goes with the container, however that ends.
    let temporary = surroundings.dir.join(TEMPORARY);
    std::fs::create_dir_all(&temporary)
        .with_context(|| format!("failed to create {}", temporary.display()))?;
    pairs
        .entry(options::IO_TMP_DIRS.key().to_owned())
        .or_insert_with(|| temporary.display().to_string());
    Ok(Configuration::knowing(drivers::options()).with_pairs(pairs)?)
}

fn master_configuration(surroundings: &Surroundings, told: &Master) -> Result<Configuration> {
    let bind = surroundings.bind_address().to_owned();
    let host = surroundings.host.clone();
    let mut pairs = told.configuration.clone();
    // The usual ports are taken as soon as two clusters share a node.
    for key in [options::REST_BIND_PORT.key(), options::TASKMANAGER_DATA_PORT.key()] {
        pairs.entry(key.to_owned()).or_insert_with(|| "0".to_owned());
    }
    let own = [
        (options::REST_ADDRESS.key(), host.clone()),
        (options::REST_BIND_ADDRESS.key(), bind.clone()),
        (options::JOBMANAGER_RPC_ADDRESS.key(), host),
        (options::JOBMANAGER_BIND_HOST.key(), bind),
    ];
    configuration(surroundings, pairs, own)
}

/// Variables of processes that run user code, beside a clean environment: the configuration and
/// user for HDFS, and over these the variables that the configuration sets.
fn user_variables(
    container: &Path,
    hadoop: &HadoopConfiguration,
    user: &str,
    own: BTreeMap<VariableName, String>,
) -> Result<Vec<(OsString, OsString)>> {
    let directory = container.join(HADOOP_CONF);
    let write = |directory: &Path| {
        DirBuilder::new().recursive(true).mode(PRIVATE_DIRECTORY).create(directory)?;
        let file = directory.join("core-site.xml");
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(PRIVATE_FILE).open(file)?;
        file.write_all(hadoop.to_xml().as_bytes())
    };
    write(&directory).with_context(|| format!("failed to write {}", directory.display()))?;
    let ours = [
        ("HADOOP_CONF_DIR".into(), directory.into_os_string()),
        ("HADOOP_USER_NAME".into(), user.into()),
    ];
    let own = own.into_iter().map(|(name, value)| (name.as_str().into(), value.into()));
    Ok(ours.into_iter().chain(own).collect())
}

fn lifecycle(surroundings: &Surroundings, told: &Master) -> Result<Lifecycle> {
    let artifact = surroundings.dir.join(ARTIFACT);
    let id = |bytes: &[u8]| {
        let bytes = <[u8; 16]>::try_from(bytes);
        bytes.map(JobId::from_bytes).map_err(|_| anyhow!("the container was told no job id"))
    };
    let settings = |bytes: &[u8]| {
        let settings = millstream_protocol::job::JobSettings::decode(bytes)?;
        anyhow::Ok(JobSettings::try_from(settings)?)
    };
    Ok(match &told.purpose {
        None | Some(master::Purpose::Session(_)) => Lifecycle::Session,
        Some(master::Purpose::Job(job)) => Lifecycle::PerJob(PlannedJob {
            job: id(&job.job_id)?,
            graph: surroundings.dir.join(JOB_GRAPH),
            settings: settings(&job.settings)?,
            artifact,
        }),
        Some(master::Purpose::Application(application)) => Lifecycle::Application(Application {
            artifact,
            settings: settings(&application.settings)?,
            first_job: id(&application.first_job_id)?,
        }),
    })
}

/// The addresses of YARN's web proxies: of a server of its own, or of the ResourceManagers.
fn web_proxies(hadoop: &HadoopConfiguration) -> Result<Vec<IpAddr>> {
    let named = match hadoop.get("yarn.web-proxy.address") {
        Some(address) => vec![address],
        None => addresses(hadoop, "yarn.resourcemanager.webapp.address", 8088)?,
    };
    let resolve = |address: &String| {
        let resolved = address.to_socket_addrs();
        if let Err(error) = &resolved {
            tracing::warn!(address, %error, "a web proxy has no address, and sees nothing");
        }
        resolved.into_iter().flatten().map(|address| address.ip())
    };
    Ok(named.iter().flat_map(resolve).collect())
}

/// Builds the driver once the ports are known.
struct DriverSource {
    surroundings: Surroundings,
    told: Arc<Master>,
    authority: Arc<Authority>,
    hadoop: HadoopConfiguration,
}

impl DriverSource {
    fn driver(self, configuration: &Configuration, endpoints: &Endpoints) -> Result<Driver> {
        let Self { surroundings, told, authority, hadoop } = self;
        let resource_manager = scheduler(&surroundings, &hadoop)?;
        let host = surroundings.host.clone();
        let rest_port = endpoints.rest.port();
        let heartbeat = configuration.get(&yarn_options::YARN_HEARTBEAT_INTERVAL)?;
        let config = YarnDriverConfig {
            resource_manager,
            node_manager_options: node_manager_options(),
            attempt: surroundings.id.attempt,
            tracking_url: endpoints
                .proxy
                .map_or_else(String::new, |proxy| format!("http://{host}:{}", proxy.port())),
            history_url: String::new(),
            host,
            rest_port,
            worker: worker(configuration)?,
            vcores: u32::try_from(worker_size(configuration)?.vcores).unwrap_or(1),
            node_label: configuration.get(&yarn_options::YARN_TASKMANAGER_NODE_LABEL)?,
            heartbeat_interval: Duration::from_secs(heartbeat.max(1).into()),
            pending_interval: configuration
                .get(&yarn_options::YARN_HEARTBEAT_CONTAINER_REQUEST_INTERVAL)?
                .max(PENDING_SHORTEST),
            node_failures_max: NODE_FAILURES_MAX,
        };
        let launch = TaskManagers::new(told, authority, &surroundings.host, endpoints.rpc.port());
        let (events, received) = driver_events();
        let driver = YarnDriver::start(config, Box::new(launch), events);
        Ok((Box::new(driver), received))
    }
}

/// The kind of all workers.
fn worker(configuration: &Configuration) -> Result<WorkerRequest> {
    let memory = WorkerMemory::from_configuration(configuration)?;
    let slots = configuration.get(&options::TASKMANAGER_NUMBER_OF_TASK_SLOTS)?;
    let vcores = f64::from(worker_size(configuration)?.vcores);
    let slot_profile =
        ResourceProfile { cpu_cores: vcores / f64::from(slots.max(1)), memory: memory.slot };
    Ok(WorkerRequest { slots, slot_profile, memory_process: memory.total })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use millstream_rm_yarn::launch_script;

    use super::*;

    #[test]
    fn settings_of_hadoop_are_readable_for_their_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let mut hadoop = HadoopConfiguration::new();
        hadoop.set("fs.s3a.secret.key", "hunter2");
        user_variables(dir.path(), &hadoop, "alice", BTreeMap::new()).unwrap();
        let directory = dir.path().join(HADOOP_CONF);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&directory), 0o700);
        let file = directory.join("core-site.xml");
        assert_eq!(mode(&file), 0o600);
        assert!(std::fs::read_to_string(file).unwrap().contains("hunter2"));
    }

    #[test]
    fn user_code_gets_the_variables_that_the_configuration_sets() {
        let dir = tempfile::tempdir().unwrap();
        let keys = [("env.A", "$x {{y}}"), ("env.HADOOP_CONF_DIR", "/etc/hadoop"), ("other", "z")];
        let keys = keys.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let own = launch_script::variables(&keys, &["env."]).unwrap();
        let hadoop = HadoopConfiguration::new();
        let variables = user_variables(dir.path(), &hadoop, "alice", own).unwrap();
        // Of a name that is there twice, the last one counts.
        let variables: BTreeMap<_, _> = variables.into_iter().collect();
        let value = |name: &str| variables[&OsString::from(name)].clone();
        assert_eq!(value("A"), "$x {{y}}");
        assert_eq!(value("HADOOP_CONF_DIR"), "/etc/hadoop");
        assert_eq!(value("HADOOP_USER_NAME"), "alice");
        assert_eq!(variables.len(), 3);
    }
}
