//! Calls to NameNodes, with deadlines, patience, and connections that are given up.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::future::join_all;
use hdfs_native::{Client, ClientBuilder, HdfsError};
use millstream_hadoop_config::HadoopConfiguration;
use millstream_storage::{BoxFuture, patience};
use tokio::runtime::{Handle, Runtime};
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::OpenError;
use crate::address::Address;
use crate::errors::Failure;
use crate::probe::probe;

/// Deadline of one answer of a NameNode: longer than its long pauses.
const ANSWER_DEADLINE: Duration = Duration::from_secs(20);
/// Patience with a NameNode that has never answered, a little more than a start takes: most likely
/// the address is wrong.
const FIRST_ANSWER_PATIENCE: Duration = Duration::from_secs(15);
/// Pause between two attempts, at first and at last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// A longer wait is logged.
const TELL_AFTER: Duration = Duration::from_secs(10);
/// Threads of the library, which mostly waits.
const THREADS: usize = 2;

/// The library's client of one cluster, made anew when a connection hangs.
#[derive(Debug)]
pub(crate) struct Calls {
    address: Address,
    user: String,
    properties: Vec<(String, String)>,
    current: RwLock<Current>,
    /// Whether any NameNode has ever answered.
    answered: AtomicBool,
    /// The addresses of the NameNodes.
    servers: Vec<String>,
    /// Whether NameNodes are known to be there.
    probed: AtomicBool,
}

#[derive(Debug, Clone)]
struct Current {
    /// Number of clients that were given up before it.
    number: usize,
    client: Client,
    /// A client for writing, which hides short absences of the NameNode from its files.
    enduring: Client,
}

impl Calls {
    pub(crate) fn new(
        configuration: &HadoopConfiguration,
        address: Address,
        user: &str,
    ) -> Result<Self, OpenError> {
        let keys = configuration.pairs().map(|(key, _)| key);
        let mut properties: Vec<(String, String)> =
            keys.filter_map(|key| Some((key.to_owned(), configuration.get(key)?))).collect();
        if configuration.get("dfs.client.socket-timeout").is_none() {
            // A DataNode that hangs is left for another sooner than after a minute.
            properties.push(("dfs.client.socket-timeout".to_owned(), "20000".to_owned()));
        }
        let current = connect(&address, &properties, user, 0)?;
        let (user, current) = (user.to_owned(), RwLock::new(current));
        let servers = address.servers(configuration);
        let (answered, probed) = (AtomicBool::new(false), AtomicBool::new(false));
        Ok(Self { address, user, properties, current, answered, servers, probed })
    }

    fn current(&self) -> Current {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The client for files that are written.
    pub(crate) fn enduring(&self) -> Client {
        self.current().enduring
    }

    /// Gives up a client whose connection hangs, and begins with the next NameNode.
    fn give_up(&self, number: usize) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.number == number
            && let Ok(next) = connect(&self.address, &self.properties, &self.user, number + 1)
        {
            *current = next;
        }
    }

    /// Whether it is safe to send the library to the NameNodes: some answer, and no other server
    /// does in their place.
    async fn probe(&self) -> Result<(), Failure> {
        if self.servers.is_empty() || self.probed.load(Ordering::Relaxed) {
            return Ok(());
        }
        let probes = self.servers.iter().map(|server| probe(server, &self.user));
        let found = join_all(probes).await;
        let (there, missing): (Vec<_>, Vec<_>) = found.into_iter().partition(Result::is_ok);
        let mut reasons = Vec::new();
        for failure in missing.into_iter().filter_map(Result::err) {
            match failure {
                Failure::NotNow(reason) => reasons.push(reason),
                foreign => return Err(foreign),
            }
        }
        if there.is_empty() {
            return Err(Failure::NotNow(reasons.join("; ")));
        }
        self.probed.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Makes one attempt with the present client, unless there is no NameNode to connect to.
    async fn attempt<T>(
        &self,
        current: &Current,
        attempt: impl Future<Output = Result<T, HdfsError>>,
    ) -> Result<T, Failure> {
        self.probe().await?;
        let attempt = attempt.inspect(|outcome| match outcome {
            // Another server may listen at the address next.
            Err(HdfsError::IOError(_)) => self.probed.store(false, Ordering::Relaxed),
            _ => self.answered.store(true, Ordering::Relaxed),
        });
        match within(ANSWER_DEADLINE, attempt).await {
            Ok(done) => Ok(done),
            Err(Ended::Failed(failure)) => Err(failure),
            Err(Ended::Hung) => {
                self.give_up(current.number);
                self.probed.store(false, Ordering::Relaxed);
                let (servers, seconds) = (self.servers.join(", "), ANSWER_DEADLINE.as_secs());
                let reason = format!("the NameNode at {servers} gave no answer for {seconds} s");
                Err(Failure::Ambiguous(reason))
            }
        }
    }

    /// Makes attempts until one succeeds or the patience ends. A call is repeated if nothing was
    /// changed, or if repeating it does no harm.
    pub(crate) async fn call<T, F>(
        &self,
        patience: Duration,
        idempotent: bool,
        attempt: impl Fn(Client) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, HdfsError>>,
    {
        let (start, waiting) = (Instant::now(), patience::waiting());
        let (mut pause, mut told) = (PAUSES.0, false);
        loop {
            let current = self.current();
            let failure = match self.attempt(&current, attempt(current.client.clone())).await {
                Ok(done) => return Ok(done),
                Err(failure) => failure,
            };
            let again = match &failure {
                Failure::NotNow(_) => true,
                Failure::Ambiguous(_) => idempotent,
                _ => false,
            };
            let heard = self.answered.load(Ordering::Relaxed);
            let usual = if heard { patience } else { patience.min(FIRST_ANSWER_PATIENCE) };
            if !again || start.elapsed() + pause > waiting.patience(start.into_std(), usual, heard)
            {
                return Err(failure);
            }
            match told {
                false if start.elapsed() > TELL_AFTER => {
                    told = true;
                    warn!(?failure, "waiting for HDFS");
                }
                _ => debug!(?failure, "a call to HDFS is tried again"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}

/// Why a call of the library gave no result.
#[derive(Debug)]
pub(crate) enum Ended {
    Failed(Failure),
    /// The deadline passed.
    Hung,
}

/// Waits for the outcome until the deadline. A panic of the library is an outcome too.
pub(crate) async fn within<T>(
    deadline: Duration,
    call: impl Future<Output = Result<T, HdfsError>>,
) -> Result<T, Ended> {
    let call = AssertUnwindSafe(call).catch_unwind();
    match tokio::time::timeout(deadline, call).await {
        Ok(Ok(Ok(done))) => Ok(done),
        Ok(Ok(Err(error))) => Err(Ended::Failed(Failure::of(&error))),
        Ok(Err(_panic)) => {
            let reason = "the HDFS client stumbled over what it was told".to_owned();
            Err(Ended::Failed(Failure::Other(reason)))
        }
        Err(_elapsed) => Err(Ended::Hung),
    }
}

fn connect(
    address: &Address,
    properties: &[(String, String)],
    user: &str,
    number: usize,
) -> Result<Current, OpenError> {
    let build = |attempts: usize, pause: Duration, pause_max: Duration| {
        let more = [
            ("dfs.client.failover.max.attempts", attempts.to_string()),
            ("dfs.client.failover.sleep.base.millis", pause.as_millis().to_string()),
            ("dfs.client.failover.sleep.max.millis", pause_max.as_millis().to_string()),
        ];
        let more = more.map(|(key, value)| (key.to_owned(), value));
        let properties = properties.iter().cloned().chain(more);
        let builder = ClientBuilder::new()
            .with_url(address.url())
            // The properties of the environment's directory are passed already, or not wanted.
            .with_config_dir("/dev/null")
            .with_config(properties.chain(address.beginning_with(number)))
            .with_user(user)
            .with_io_runtime(runtime()?);
        builder
            .build()
            .map_err(|error| OpenError::Address { url: address.url(), reason: error.to_string() })
    };
    let count = address.count();
    // Once around all NameNodes: whether to go on is decided here.
    let client = build(count * 2 - 1, PAUSES.0, PAUSES.1)?;
    // About a minute: a failure inside of a file that is being written cannot be tried again.
    let enduring = build(count * 35, PAUSES.0, PAUSES.1)?;
    Ok(Current { number, client, enduring })
}

/// The threads of all clients of this process.
fn runtime() -> Result<Handle, OpenError> {
    static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();
    let started = RUNTIME.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(THREADS).thread_name("hdfs").enable_all();
        builder.build().map_err(|error| error.to_string())
    });
    let failed = |reason: &String| OpenError::Address {
        url: "hdfs".to_owned(),
        reason: format!("its threads cannot be started: {reason}"),
    };
    started.as_ref().map(|runtime| runtime.handle().clone()).map_err(failed)
}

/// Makes a future run on any executor: its timers and sockets are those of the library's runtime.
pub(crate) fn anywhere<'a, T: 'a>(future: impl Future<Output = T> + Send + 'a) -> BoxFuture<'a, T> {
    Box::pin(Anywhere(Box::pin(future)))
}

struct Anywhere<F>(Pin<Box<F>>);

impl<F: Future> Future for Anywhere<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        // A client exists, so the runtime has started.
        let runtime = runtime().ok();
        let _entered = runtime.as_ref().map(Handle::enter);
        self.0.as_mut().poll(context)
    }
}
