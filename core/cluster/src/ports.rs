//! The JobManager's ports: bound before anybody is told of them, served when all is there.

use std::net::{IpAddr, SocketAddr};

use millstream_config::{Configuration, PortRange, options};
use millstream_dispatcher::{ProxyServer, RestConfig, RestServer, RestServices};
use millstream_rpc::ClusterServer;
use millstream_security::{Authority, CLUSTER_LIFETIME, Credentials, Role, SecurityError};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::daemon::{self, DaemonError};
use crate::job_manager::{Endpoints, JobManagerSetup};

/// What the master's certificate calls it.
const NAME: &str = "jobmanager";

/// Bound ports that nobody serves yet.
pub(crate) struct Ports {
    rest: RestServer,
    rpc: TcpListener,
    proxy: Option<ProxyServer>,
    credentials: Option<Credentials>,
    endpoints: Endpoints,
}

impl Ports {
    pub(crate) async fn bind(
        configuration: &Configuration,
        setup: &JobManagerSetup,
    ) -> Result<Self, DaemonError> {
        if setup.authority.is_none() {
            daemon::refuse_missing_tls(configuration)?;
        }
        let issue = |authority: &Authority| {
            authority.issue(Role::JobManager, NAME, CLUSTER_LIFETIME).map_err(unsecured)
        };
        let credentials = setup.authority.as_deref().map(issue).transpose()?;
        let rest = bind_rest(configuration, credentials.as_ref()).await?;
        let secured = credentials.is_some();
        let rpc = bind_rpc(configuration, setup.rpc_ports.as_ref(), secured).await?;
        let proxy = match setup.web_proxies.as_slice() {
            [] => None,
            peers => Some(bind_proxy(configuration, peers).await?),
        };
        let endpoints = Endpoints {
            rest: rest.local_addr(),
            rpc: local_address(&rpc)?,
            proxy: proxy.as_ref().map(ProxyServer::local_addr),
        };
        Ok(Self { rest, rpc, proxy, credentials, endpoints })
    }

    pub(crate) fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// Serves until `stop`, and returns when all has ended.
    pub(crate) async fn serve(
        self,
        server: ClusterServer,
        config: RestConfig,
        services: RestServices,
        stop: CancellationToken,
    ) -> Result<(), DaemonError> {
        let (server, scheme) = match &self.credentials {
            Some(credentials) => (server.secured(credentials).map_err(unsecured)?, "https"),
            None => (server, "http"),
        };
        tracing::info!("Web frontend listening at {scheme}://{}", self.endpoints.rest);
        let proxied = async {
            if let Some(proxy) = self.proxy {
                proxy.serve(config.clone(), services.clone(), stop.clone()).await;
            }
        };
        let rest = self.rest.serve(config.clone(), services.clone(), stop.clone());
        let ((), (), rpc) = tokio::join!(rest, proxied, server.serve(self.rpc, stop.clone()));
        rpc.map_err(|error| DaemonError::failed("the port of the workers failed", error))
    }
}

fn unsecured(error: SecurityError) -> DaemonError {
    DaemonError::failed("failed to secure the ports", error)
}

fn local_address(listener: &TcpListener) -> Result<SocketAddr, DaemonError> {
    let address = listener.local_addr();
    address.map_err(|error| DaemonError::failed("failed to learn the RPC port", error))
}

async fn bind_rest(
    configuration: &Configuration,
    credentials: Option<&Credentials>,
) -> Result<RestServer, DaemonError> {
    let address = configuration.get(&options::REST_BIND_ADDRESS)?;
    if credentials.is_none() {
        daemon::refuse_open_bind(configuration, options::REST_BIND_ADDRESS.key(), &address)?;
    }
    let ports = configuration.get(&options::REST_BIND_PORT)?;
    let rest = RestServer::bind(&address, ports.ports()).await.map_err(|error| {
        let (key, reason) = (options::REST_BIND_PORT.key(), error.to_string());
        DaemonError::Bind { key, address, reason }
    })?;
    match credentials {
        Some(credentials) => rest.secured(credentials).map_err(unsecured),
        None => Ok(rest),
    }
}

/// Open to these addresses alone, so it may be bound to any.
async fn bind_proxy(
    configuration: &Configuration,
    peers: &[IpAddr],
) -> Result<ProxyServer, DaemonError> {
    let address = configuration.get(&options::REST_BIND_ADDRESS)?;
    let ports = configuration.get(&options::REST_BIND_PORT)?;
    // Within the range that firewalls know, if REST has left one.
    let bound = ProxyServer::bind(&address, ports.ports().chain([0]), peers.iter().copied()).await;
    bound.map_err(|error| {
        let (key, reason) = (options::REST_BIND_PORT.key(), error.to_string());
        DaemonError::Bind { key, address, reason }
    })
}

async fn bind_rpc(
    configuration: &Configuration,
    ports: Option<&PortRange>,
    secured: bool,
) -> Result<TcpListener, DaemonError> {
    let address = configuration.get(&options::JOBMANAGER_BIND_HOST)?;
    if !secured {
        daemon::refuse_open_bind(configuration, options::JOBMANAGER_BIND_HOST.key(), &address)?;
    }
    let (key, ports) = match ports {
        Some(ports) => (options::YARN_APPLICATION_MASTER_PORT.key(), ports.ports().collect()),
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
