//! REST: Flink's API and our own submission, over HTTP/1.1.
//!
//! [`routes`] is the table of endpoints, each served bare and below `/v1`; [`guard`] refuses what a
//! browser may not do; [`server`] owns the sockets and their limits. Handlers look things up and
//! leave the shape of answers to [`render`], which is pure. Every error has Flink's shape,
//! `{"errors": ["one sentence"]}`.

mod answer;
mod checkpoints;
mod cluster;
mod disposals;
mod guard;
mod jars;
mod jobs;
mod logs;
mod metrics;
mod missing;
mod query;
mod remainder;
mod render;
mod routes;
mod savepoints;
mod server;
mod settings;
mod submission;
mod vertices;

use std::path::PathBuf;
use std::sync::Arc;

use millstream_config::{ConfigError, Configuration, options};
use millstream_gateway::ResourceManagerGateway;
use millstream_types::ByteSize;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::artifacts::ArtifactStore;
use crate::dispatcher::DispatcherHandle;
use crate::disposal::Disposals;
use crate::jars::JarStore;
use crate::lease::ClientLease;
use crate::planner::Planner;

pub use server::{BindError, ProxyServer, RestServer};

/// Limit of programs that are planned at the same time.
const PLANS_MAX: usize = 2;
/// Limit of artifacts that are uploaded at the same time.
const UPLOADS_MAX: usize = 32;

/// The JobManager's own log files.
#[derive(Debug, Clone, Default)]
pub struct LogFiles {
    /// The directory of the files; without one REST shows none.
    pub directory: Option<PathBuf>,
    /// The name of the log file, if the log goes to one.
    pub log: Option<String>,
    /// The name of the file of standard output, if it goes to one.
    pub stdout: Option<String>,
}

/// Options of the REST server.
#[derive(Debug, Clone)]
pub struct RestConfig {
    /// The cluster's configuration: shown with secrets hidden, and the default of jobs run here.
    pub configuration: Configuration,
    /// The JobManager's log files.
    pub logs: LogFiles,
    /// The source revision, for `flink-commit`.
    pub revision: String,
    /// Names by which clients may address this server besides `localhost` and IP addresses.
    pub host_names: Vec<String>,
    refresh_interval_ms: u64,
    content_length_max: ByteSize,
    web_submit: bool,
    web_cancel: bool,
    flink_1_clients: bool,
}

impl RestConfig {
    /// Reads the options of REST; the caller sets the other fields.
    ///
    /// # Errors
    /// The value of an option does not parse.
    pub fn new(configuration: Configuration) -> Result<Self, ConfigError> {
        let refresh = configuration.get(&options::WEB_REFRESH_INTERVAL)?;
        Ok(Self {
            logs: LogFiles::default(),
            revision: option_env!("MILLSTREAM_COMMIT").unwrap_or("unknown").to_owned(),
            host_names: vec![configuration.get(&options::REST_ADDRESS)?],
            refresh_interval_ms: u64::try_from(refresh.as_millis()).unwrap_or(u64::MAX),
            content_length_max: configuration.get(&options::REST_SERVER_MAX_CONTENT_LENGTH)?,
            web_submit: configuration.get(&options::WEB_SUBMIT_ENABLE)?,
            web_cancel: configuration.get(&options::WEB_CANCEL_ENABLE)?,
            flink_1_clients: configuration.get(&options::REST_FLINK_1_CLIENTS)?,
            configuration,
        })
    }
}

/// The components that REST calls.
#[derive(Debug, Clone)]
pub struct RestServices {
    /// The Dispatcher, with the jobs.
    pub dispatcher: DispatcherHandle,
    /// The ResourceManager, with the TaskManagers.
    pub resource_manager: Arc<dyn ResourceManagerGateway>,
    /// The store of executables.
    pub artifacts: ArtifactStore,
    /// The store of uploaded programs.
    pub jars: JarStore,
    /// The planner of uploaded programs.
    pub planner: Arc<dyn Planner>,
    /// The disposals of savepoints.
    pub disposals: Disposals,
    /// The lease of the client for which the cluster exists, if there is one.
    pub lease: Option<ClientLease>,
    /// Cancelled by `DELETE /cluster`; the process then ends the cluster.
    pub shutdown_requested: CancellationToken,
}

/// The state that all handlers share.
#[derive(Debug)]
struct Context {
    config: RestConfig,
    services: RestServices,
    plans: Semaphore,
    uploads: Semaphore,
}

type Shared = axum::extract::State<Arc<Context>>;

impl Context {
    fn new(config: RestConfig, services: RestServices) -> Self {
        let (plans, uploads) = (Semaphore::new(PLANS_MAX), Semaphore::new(UPLOADS_MAX));
        Self { config, services, plans, uploads }
    }
}
