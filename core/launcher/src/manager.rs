//! Many hosts by name: started with an executable from any source, heard, stopped.
//!
//! Each host has one task that prepares, starts, relays and reports. Messages and stop requests are
//! accepted from the first moment on, also while the executable is still being fetched.

use std::any::Any;
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use futures::future::BoxFuture;
use millstream_protocol::host::{FromHost, ToHost};
use millstream_types::{ByteSize, CauseKind, FailureCause, HostId};
use tokio::sync::{mpsc, watch};

use crate::exit::HostProcessExit;
use crate::frames::TO_HOST;
use crate::{HostProcess, HostProcessEvent, HostSpec, ProcessUsage, lock};

/// A host that is ready to be started.
pub struct HostLaunch {
    /// The program to start.
    pub spec: HostSpec,
    /// The first message to it.
    pub first: ToHost,
    /// Held until the host has ended, such as the hold on its executable in a cache.
    pub lease: Box<dyn Any + Send>,
}

impl std::fmt::Debug for HostLaunch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostLaunch").field("spec", &self.spec).finish_non_exhaustive()
    }
}

/// Hears the hosts of a manager. While a call is pending, nothing more is read of that host.
pub trait HostListener: Send + Sync {
    /// A message came from a host.
    fn on_message(&self, host: HostId, message: FromHost) -> BoxFuture<'_, ()>;

    /// A host has ended, or was never started; its name is free and nothing follows.
    fn on_exited(&self, host: HostId, exit: HostProcessExit) -> BoxFuture<'_, ()>;
}

/// A host of this name is running or being prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("host {0} runs already")]
pub struct DuplicateHost(pub HostId);

/// Hosts by name. Dropping it kills them all.
#[derive(Debug, Default)]
pub struct HostManager {
    hosts: Arc<Hosts>,
}

#[derive(Debug)]
struct Hosts {
    entries: Mutex<HashMap<HostId, Entry>>,
    count: watch::Sender<usize>,
}

impl Default for Hosts {
    fn default() -> Self {
        Self { entries: Mutex::default(), count: watch::Sender::new(0) }
    }
}

#[derive(Debug)]
struct Entry {
    messages: mpsc::Sender<ToHost>,
    stop: watch::Sender<Option<Duration>>,
    process: Arc<OnceLock<HostProcess>>,
}

impl Entry {
    /// Of several requests the strictest counts.
    fn stop(&self, grace: Duration) {
        self.stop.send_if_modified(|asked| {
            let stricter = asked.is_none_or(|asked| grace < asked);
            if stricter {
                *asked = Some(grace);
            }
            stricter
        });
    }
}

impl HostManager {
    /// Prepares and starts a host. `prepare` is dropped when the host is stopped meanwhile.
    ///
    /// # Errors
    /// The name is taken.
    pub fn start(
        &self,
        host: HostId,
        prepare: BoxFuture<'static, Result<HostLaunch, FailureCause>>,
        listener: Arc<dyn HostListener>,
    ) -> Result<(), DuplicateHost> {
        let (messages, queued) = mpsc::channel(TO_HOST.messages);
        let (stop, stopped) = watch::channel(None);
        let process = Arc::new(OnceLock::new());
        {
            let mut entries = lock(&self.hosts.entries);
            if entries.contains_key(&host) {
                return Err(DuplicateHost(host));
            }
            entries.insert(host, Entry { messages, stop, process: Arc::clone(&process) });
            self.hosts.count.send_replace(entries.len());
        }
        let relay = Relay { host, stop: stopped, process, listener };
        let hosts = Arc::downgrade(&self.hosts);
        tokio::spawn(async move {
            let listener = Arc::clone(&relay.listener);
            let exit = relay.run(prepare, queued).await;
            if let Some(hosts) = hosts.upgrade() {
                let mut entries = lock(&hosts.entries);
                entries.remove(&host);
                hosts.count.send_replace(entries.len());
            }
            listener.on_exited(host, exit).await;
        });
        Ok(())
    }

    /// Sends a host a message, in order. One to a host that is gone is dropped; a host that reads
    /// too slowly is killed.
    pub fn send(&self, host: HostId, message: ToHost) {
        let entries = lock(&self.hosts.entries);
        if let Some(entry) = entries.get(&host)
            && let Err(mpsc::error::TrySendError::Full(_)) = entry.messages.try_send(message)
        {
            match entry.process.get() {
                Some(process) => process.overrun(),
                None => entry.stop(Duration::ZERO),
            }
        }
    }

    /// Asks a host to end and kills it after `grace`; its exit is reported.
    pub fn stop(&self, host: HostId, grace: Duration) {
        if let Some(entry) = lock(&self.hosts.entries).get(&host) {
            entry.stop(grace);
        }
    }

    /// Kills all hosts; each exit is reported.
    pub fn kill_all(&self) {
        for entry in lock(&self.hosts.entries).values() {
            entry.stop(Duration::ZERO);
        }
    }

    /// Waits until no host is left. Cancel-safe.
    pub async fn all_ended(&self) {
        // The sender lives in `self`.
        let _ = self.hosts.count.subscribe().wait_for(|count| *count == 0).await;
    }

    /// The number of hosts that run or are being prepared.
    #[must_use]
    pub fn count(&self) -> usize {
        *self.hosts.count.borrow()
    }

    /// The memory and CPU time of all running hosts together.
    #[must_use]
    pub fn usage(&self) -> ProcessUsage {
        let processes: Vec<HostProcess> = lock(&self.hosts.entries)
            .values()
            .filter_map(|entry| entry.process.get().cloned())
            .collect();
        processes.iter().map(HostProcess::usage).fold(ProcessUsage::default(), |sum, one| {
            ProcessUsage {
                resident: ByteSize::from_bytes(
                    sum.resident.as_bytes().saturating_add(one.resident.as_bytes()),
                ),
                cpu_time: sum.cpu_time.saturating_add(one.cpu_time),
            }
        })
    }
}

/// The task of one host.
struct Relay {
    host: HostId,
    stop: watch::Receiver<Option<Duration>>,
    process: Arc<OnceLock<HostProcess>>,
    listener: Arc<dyn HostListener>,
}

impl Relay {
    async fn run(
        mut self,
        prepare: BoxFuture<'static, Result<HostLaunch, FailureCause>>,
        mut queued: mpsc::Receiver<ToHost>,
    ) -> HostProcessExit {
        let prepared = tokio::select! {
            prepared = prepare => prepared,
            // An error says that the manager was dropped.
            _ = self.stop.wait_for(Option::is_some) => Err(FailureCause::new(
                CauseKind::Requested,
                "the host was stopped before it was started",
            )),
        };
        let HostLaunch { spec, first, lease } = match prepared {
            Ok(launch) => launch,
            Err(cause) => return never_started(cause),
        };
        let (process, mut events) = match HostProcess::spawn(spec).await {
            Ok(spawned) => spawned,
            Err(error) => return never_started(FailureCause::from(&error)),
        };
        let _ = self.process.set(process.clone());
        // Here and below: a host that is gone says so through its events.
        let _ = process.send(&first);
        let relay = async {
            while let Some(message) = queued.recv().await {
                let _ = process.send(&message);
            }
            std::future::pending::<Infallible>().await
        };
        let stop = async {
            let grace = self.stop.wait_for(Option::is_some).await;
            process.stop(grace.ok().and_then(|grace| *grace).unwrap_or_default());
            // A second request may be stricter.
            if self.stop.changed().await.is_err() || *self.stop.borrow() == Some(Duration::ZERO) {
                process.stop(Duration::ZERO);
            }
            std::future::pending::<Infallible>().await
        };
        let listen = async {
            loop {
                match events.next().await {
                    Some(HostProcessEvent::Message(message)) => {
                        self.listener.on_message(self.host, message).await;
                    }
                    Some(HostProcessEvent::Exited(exit)) => return exit,
                    None => {
                        return never_started(FailureCause::new(
                            CauseKind::Exit,
                            "the host was dropped with the runtime",
                        ));
                    }
                }
            }
        };
        let exit = tokio::select! {
            exit = listen => exit,
            never = relay => match never {},
            never = stop => match never {},
        };
        drop(lease);
        exit
    }
}

fn never_started(cause: FailureCause) -> HostProcessExit {
    HostProcessExit {
        exit_code: None,
        signal: None,
        said_hello: false,
        cause,
        stderr_tail: String::new(),
    }
}
