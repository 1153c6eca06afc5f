//! The sockets of REST: binding, limits against slow and idle clients, and the end.
//!
//! A connection is *idle* while no request is being answered on it. When there are too many
//! connections, the one that is idle longest is closed for the new one, so that clients which only
//! hold connections open, or send a head byte by byte, cannot keep others out.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use millstream_security::rustls::ServerConfig;
use millstream_security::{Credentials, Role, SecurityError, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use tracing::{debug, info, warn};

use super::routes;
use super::{Context, RestConfig, RestServices};

/// Limit of open connections.
const CONNECTIONS_MAX: usize = 512;
/// Time that a client has for the TLS handshake, and for the head of a request.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// Time without progress after which a request is given up.
const STALL_DEADLINE: Duration = Duration::from_secs(60);
/// The longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// The most headers of a request.
const HEADERS_MAX: usize = 100;
/// Time that unfinished answers have when the server stops.
const DRAIN_DEADLINE: Duration = Duration::from_secs(5);

/// The reason why REST has no port.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Every allowed port is in use.
    #[error(
        "the REST port {ports} of {address} is taken: stop what uses it, or set rest.bind-port to \
         another port or a range"
    )]
    Taken {
        /// The address.
        address: String,
        /// The ports that were tried.
        ports: String,
    },
    /// The address is not this machine's, or may not be used.
    #[error("REST cannot listen on {address} (rest.bind-address)")]
    Address {
        /// The address.
        address: String,
        /// The error of the system.
        source: io::Error,
    },
}

/// A bound port that is not served yet.
#[derive(Debug)]
pub struct RestServer {
    listener: TcpListener,
    address: SocketAddr,
    door: Door,
}

/// The conditions under which a connection is accepted.
#[derive(Debug, Clone, Default)]
struct Door {
    tls: Option<Arc<ServerConfig>>,
    /// The addresses of permitted clients; none permits all.
    peers: Option<Arc<BTreeSet<IpAddr>>>,
}

impl RestServer {
    /// Binds the first free port; 0 is any free port.
    ///
    /// # Errors
    /// No port is free, or the address cannot be used.
    pub async fn bind(
        address: &str,
        ports: impl IntoIterator<Item = u16>,
    ) -> Result<Self, BindError> {
        // One address alone: binding another one of the same name would hide that a port is taken.
        let ip = resolve(address).await.map_err(|source| Self::unusable(address, source))?;
        let (mut first, mut last) = (None, 0);
        for port in ports {
            match TcpListener::bind((ip, port)).await {
                Ok(listener) => {
                    let bound = listener.local_addr();
                    let bound = bound.map_err(|source| Self::unusable(address, source))?;
                    return Ok(Self { listener, address: bound, door: Door::default() });
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    (first, last) = (first.or(Some(port)), port);
                }
                Err(source) => return Err(Self::unusable(address, source)),
            }
        }
        let first = first.unwrap_or(last);
        let ports = if first == last { first.to_string() } else { format!("{first}-{last}") };
        Err(BindError::Taken { address: address.to_owned(), ports })
    }

    fn unusable(address: &str, source: io::Error) -> BindError {
        BindError::Address { address: address.to_owned(), source }
    }

    /// Returns the address on which it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Adds TLS with these credentials: only clients of this cluster are answered.
    ///
    /// # Errors
    /// The credentials cannot be used.
    pub fn secured(mut self, credentials: &Credentials) -> Result<Self, SecurityError> {
        self.door.tls = Some(credentials.server_config(&[Role::Client])?);
        Ok(self)
    }

    /// Serves until `stop` is cancelled; answers under way get a few seconds more.
    pub async fn serve(self, config: RestConfig, services: RestServices, stop: CancellationToken) {
        info!(address = %self.address, secured = self.door.tls.is_some(), "REST listens");
        self.answer(routes::router(Arc::new(Context::new(config, services))), stop).await;
    }

    async fn answer(self, app: Router, stop: CancellationToken) {
        let connections = Arc::new(Connections::default());
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((_, address)) if !self.door.admits(address.ip()) => {
                        debug!(%address, "a stranger was sent away");
                    }
                    Ok((stream, _)) => {
                        let connection = connections.open();
                        let (tls, app, stop) = (self.door.tls.clone(), app.clone(), stop.clone());
                        tasks.spawn(async move {
                            if let Some(stream) = greet(stream, tls, &connection, &stop).await {
                                serve_connection(stream, app, connection, stop).await;
                            }
                        });
                    }
                    Err(error) => {
                        // Out of file descriptors, most likely.
                        warn!(%error, "REST cannot accept a connection");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                },
            }
        }
        drop(self.listener);
        let drained = async { while tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(DRAIN_DEADLINE, drained).await;
    }
}

/// The server behind YARN's web proxy: plain HTTP, for the proxy's addresses alone, and only
/// endpoints that change nothing.
#[derive(Debug)]
pub struct ProxyServer(RestServer);

impl ProxyServer {
    /// Binds the first free port; 0 is any free port. Connections from other addresses than `peers`
    /// are closed without an answer.
    ///
    /// # Errors
    /// No port is free, or the address cannot be used.
    pub async fn bind(
        address: &str,
        ports: impl IntoIterator<Item = u16>,
        peers: impl IntoIterator<Item = IpAddr>,
    ) -> Result<Self, BindError> {
        let mut server = RestServer::bind(address, ports).await?;
        let peers: BTreeSet<IpAddr> = peers.into_iter().map(|peer| peer.to_canonical()).collect();
        server.door.peers = Some(Arc::new(peers));
        Ok(Self(server))
    }

    /// Returns the address on which it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.0.address
    }

    /// Serves until `stop` is cancelled. `/config` says that submitting and cancelling are off.
    pub async fn serve(
        self,
        mut config: RestConfig,
        services: RestServices,
        stop: CancellationToken,
    ) {
        info!(address = %self.0.address, "REST for YARN's web proxy listens");
        (config.web_submit, config.web_cancel) = (false, false);
        self.0.answer(routes::proxied(Arc::new(Context::new(config, services))), stop).await;
    }
}

impl Door {
    fn admits(&self, peer: IpAddr) -> bool {
        self.peers.as_ref().is_none_or(|peers| peers.contains(&peer.to_canonical()))
    }
}

/// The IPv4 address of a name, or else its first one; clients try IPv4 too.
async fn resolve(address: &str) -> io::Result<IpAddr> {
    let mut found: Vec<IpAddr> =
        tokio::net::lookup_host((address, 0)).await?.map(|address| address.ip()).collect();
    found.sort_by_key(IpAddr::is_ipv6);
    found.into_iter().next().ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

/// Shakes hands, if that is to be done; none if the client does not, or too slowly.
async fn greet(
    stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    connection: &Connection,
    stop: &CancellationToken,
) -> Option<Stream> {
    let _ = stream.set_nodelay(true);
    tokio::select! {
        greeted = tokio::time::timeout(HEAD_DEADLINE, Stream::accept(stream, tls)) => {
            match greeted.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(stream) => Some(stream),
                Err(error) => {
                    debug!(%error, "a stranger was sent away");
                    None
                }
            }
        }
        () = connection.evicted.cancelled() => None,
        () = stop.cancelled() => None,
    }
}

async fn serve_connection(
    stream: Stream,
    app: Router,
    connection: Connection,
    stop: CancellationToken,
) {
    let activity = connection.activity.clone();
    let service = tower::service_fn(move |request| {
        let (app, busy) = (app.clone(), activity.begin());
        async move {
            let response = app.oneshot(request).await;
            drop(busy);
            response
        }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    // Without a timer hyper ignores the head's deadline.
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX);
    let stream = TokioIo::new(Stalling::new(stream));
    let served = http.serve_connection(stream, TowerToHyperService::new(service));
    tokio::pin!(served);
    tokio::select! {
        result = served.as_mut() => {
            if let Err(error) = result {
                debug!(%error, "REST connection ended");
            }
        }
        () = connection.evicted.cancelled() => debug!("idle REST connection closed"),
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            let _ = served.await;
        }
    }
}

/// The open connections.
#[derive(Debug, Default)]
struct Connections {
    next: AtomicU64,
    open: Mutex<Vec<(u64, Arc<Activity>, CancellationToken)>>,
}

impl Connections {
    /// Adds a connection; above the limit, the connection that is idle longest is closed.
    fn open(self: &Arc<Self>) -> Connection {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (activity, evicted) = (Arc::new(Activity::default()), CancellationToken::new());
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= CONNECTIONS_MAX {
            let idle = (0..open.len())
                .filter_map(|at| open.get(at)?.1.idle_since().map(|since| (since, at)))
                .min();
            let (_, _, victim) = open.remove(idle.map_or(0, |(_, at)| at));
            victim.cancel();
        }
        open.push((id, activity.clone(), evicted.clone()));
        Connection { id, activity, evicted, connections: self.clone() }
    }
}

#[derive(Debug)]
struct Connection {
    id: u64,
    activity: Arc<Activity>,
    evicted: CancellationToken,
    connections: Arc<Connections>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut open = self.connections.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|(id, _, _)| *id != self.id);
    }
}

/// The requests that a connection is answering, and the time since it is idle.
#[derive(Debug)]
struct Activity {
    requests: AtomicUsize,
    idle_since: Mutex<Instant>,
}

impl Default for Activity {
    fn default() -> Self {
        Self { requests: AtomicUsize::new(0), idle_since: Mutex::new(Instant::now()) }
    }
}

impl Activity {
    fn begin(self: &Arc<Self>) -> Busy {
        self.requests.fetch_add(1, Ordering::Relaxed);
        Busy(self.clone())
    }

    fn idle_since(&self) -> Option<Instant> {
        let idle = self.requests.load(Ordering::Relaxed) == 0;
        idle.then(|| *self.idle_since.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        *self.0.idle_since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A stream that fails when a read or a write waits too long.
struct Stalling {
    stream: Stream,
    patience: Pin<Box<Sleep>>,
}

impl Stalling {
    fn new(stream: Stream) -> Self {
        Self { stream, patience: Box::pin(tokio::time::sleep(STALL_DEADLINE)) }
    }

    fn judge<T>(
        &mut self,
        outcome: Poll<io::Result<T>>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.patience.as_mut().reset(tokio::time::Instant::now() + STALL_DEADLINE);
            return outcome;
        }
        match self.patience.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Stalling {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_read(cx, buffer);
        // hyper reads ahead while a request is answered; that it waits says nothing.
        if outcome.is_ready() { self.judge(outcome, cx) } else { outcome }
    }
}

impl AsyncWrite for Stalling {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.judge(outcome, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(cx);
        self.judge(outcome, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
