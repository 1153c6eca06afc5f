//! One host from its start to its end: an actor around the process, and the handle to it.

use std::io;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use millstream_protocol::host::{self, FromHost, ToHost, to_host};
use rustix::process::{Pid, PidfdFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::exit::{ExitFacts, HostProcessExit, KillReason};
use crate::frames::{self, ByteLimit, FROM_HOST, Heard, Queued, TO_HOST};
use crate::output::Output;
use crate::spawn::{self, Prepared, SpawnError};
use crate::supervisor::{self, HostControl};
use crate::{HostSpec, ProcessUsage};

/// The kernel says "text file busy" while another fork still holds the freshly written file.
const BUSY_RETRIES_MAX: u32 = 100;
const BUSY_RETRY_INTERVAL: Duration = Duration::from_millis(20);
/// The time that a process may live after it closed its socket: one that exits closes it before.
const CLOSED_GRACE: Duration = Duration::from_secs(1);
/// The time between two looks on an old kernel without process descriptors.
const WAIT_INTERVAL: Duration = Duration::from_millis(20);

/// An event of a host.
#[expect(clippy::large_enum_variant, reason = "one at a time")]
#[derive(Debug)]
pub enum HostProcessEvent {
    /// A message of the host, other than its hello.
    Message(FromHost),
    /// It has ended, and all that it started. The last event.
    Exited(HostProcessExit),
}

/// The process has ended or is about to; what comes last are its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the host has ended")]
pub struct HostGone;

/// The events of one host. Reading slowly slows the host down.
#[derive(Debug)]
pub struct HostEvents {
    messages: mpsc::Receiver<Queued<FromHost>>,
    exit: Option<oneshot::Receiver<HostProcessExit>>,
}

impl HostEvents {
    /// The next event; `None` after [`HostProcessEvent::Exited`]. Cancel-safe.
    pub async fn next(&mut self) -> Option<HostProcessEvent> {
        if let Some((message, _share)) = self.messages.recv().await {
            return Some(HostProcessEvent::Message(message));
        }
        let exit = self.exit.as_mut()?.await.ok();
        self.exit = None;
        exit.map(HostProcessEvent::Exited)
    }
}

/// A running host. When its last handle is dropped it is killed.
#[derive(Debug, Clone)]
pub struct HostProcess {
    control: Arc<HostControl>,
    frames: mpsc::Sender<Queued<Vec<u8>>>,
    limit: ByteLimit,
    stop: Arc<watch::Sender<Option<Duration>>>,
}

impl HostProcess {
    /// Starts a host. It must be called within a tokio runtime, which carries the host's actor.
    ///
    /// # Errors
    /// Nothing was started, and nothing is left of the attempt.
    pub async fn spawn(spec: HostSpec) -> Result<(Self, HostEvents), SpawnError> {
        let temp_dir = spec.temp_dir.clone().map(TempDir::create).transpose()?;
        let Started { control, socket: ours, output } = start(&spec).await?;
        let (frames, queued_frames) = mpsc::channel(TO_HOST.messages);
        let (messages, queued_messages) = mpsc::channel(FROM_HOST.messages);
        let (exited, exit) = oneshot::channel();
        let (stop, stopped) = watch::channel(None);
        let guard = Guard { control: Arc::clone(&control), ended: false };
        let actor = Actor { guard, spec, temp_dir, output, stop: stopped };
        let socket = Socket::new(ours).map_err(SpawnError::Prepare)?;
        tokio::spawn(actor.run(socket, queued_frames, messages, exited));
        let stop = Arc::new(stop);
        let handle = Self { control, frames, limit: ByteLimit::new(TO_HOST), stop };
        Ok((handle, HostEvents { messages: queued_messages, exit: Some(exit) }))
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.control.pid
    }

    /// Queues a message; those before the host's hello wait for it. Never waits: a host that leaves
    /// too much unread is killed as stuck.
    ///
    /// # Errors
    /// The host has ended, or is killed for its full queue or because the message is too long.
    pub fn send(&self, message: &ToHost) -> Result<(), HostGone> {
        let Ok(frame) = frames::encode(message) else {
            let what = "a message for it is over the limit of a frame".to_owned();
            self.control.kill(KillReason::Malformed(what));
            return Err(HostGone);
        };
        let Some(share) = self.limit.try_acquire(frame.len()) else {
            self.overrun();
            return Err(HostGone);
        };
        self.frames.try_send((frame, share)).map_err(|error| {
            if matches!(error, mpsc::error::TrySendError::Full(_)) {
                self.overrun();
            }
            HostGone
        })
    }

    /// More messages wait for the host than may: it is stuck.
    pub(crate) fn overrun(&self) {
        self.control.kill(KillReason::QueueFull);
    }

    /// Asks the host to end and kills it after `grace`; zero kills it at once.
    pub fn stop(&self, grace: Duration) {
        let shutdown = to_host::Message::Shutdown(host::Shutdown {});
        if grace.is_zero() || self.send(&ToHost { message: Some(shutdown) }).is_err() {
            self.control.kill(KillReason::Requested { waited: Duration::ZERO });
        }
        self.stop.send_replace(Some(grace));
    }

    /// The host's usage: memory with all its children, CPU time of its own.
    #[must_use]
    pub fn usage(&self) -> ProcessUsage {
        self.control.usage()
    }
}

struct Started {
    control: Arc<HostControl>,
    socket: UnixStream,
    output: Output,
}

async fn start(spec: &HostSpec) -> Result<Started, SpawnError> {
    let mut retries = 0;
    loop {
        let Prepared { command, socket, output } = spawn::command(spec)?;
        // Before the start: a host's part of a file begins where the file ends now.
        let output = Output::new(&spec.output, output);
        match supervisor::spawn(command, spec.host, spec.memory_limit).await {
            Ok(control) => return Ok(Started { control, socket, output }),
            Err(error)
                if error.kind() == io::ErrorKind::ExecutableFileBusy
                    && retries < BUSY_RETRIES_MAX =>
            {
                retries += 1;
                tokio::time::sleep(BUSY_RETRY_INTERVAL).await;
            }
            Err(error) => return Err(spawn::execute_error(&spec.executable, &error)),
        }
    }
}

/// Our end of the socket, and a second descriptor of it to end reading from outside.
struct Socket {
    stream: tokio::net::UnixStream,
    closer: UnixStream,
}

impl Socket {
    fn new(ours: UnixStream) -> io::Result<Self> {
        ours.set_nonblocking(true)?;
        let closer = ours.try_clone()?;
        Ok(Self { stream: tokio::net::UnixStream::from_std(ours)?, closer })
    }
}

/// Kills and reaps a host whose actor is dropped, as at the end of the runtime.
struct Guard {
    control: Arc<HostControl>,
    ended: bool,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        self.control.kill(KillReason::Requested { waited: Duration::ZERO });
        let deadline = std::time::Instant::now() + Duration::from_secs(1);
        while matches!(self.control.try_wait(), Ok(None)) && std::time::Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(supervisor::ended(self.control.pid));
    }
}

/// A directory that goes with its host.
struct TempDir(PathBuf);

impl TempDir {
    fn create(path: PathBuf) -> Result<Self, SpawnError> {
        match std::fs::create_dir_all(&path) {
            Ok(()) => Ok(Self(path)),
            Err(error) => Err(SpawnError::File { path, error }),
        }
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.0.display(), %error, "a temporary directory is left");
        }
    }
}

/// The life of one host.
struct Actor {
    guard: Guard,
    spec: HostSpec,
    temp_dir: Option<TempDir>,
    output: Output,
    stop: watch::Receiver<Option<Duration>>,
}

impl Actor {
    async fn run(
        mut self,
        socket: Socket,
        queued: mpsc::Receiver<Queued<Vec<u8>>>,
        messages: mpsc::Sender<Queued<FromHost>>,
        exited: oneshot::Sender<HostProcessExit>,
    ) {
        let Socket { stream, closer } = socket;
        let (read_half, write_half) = stream.into_split();
        let (greeted, greeting) = watch::channel(false);
        let timeout = self.spec.drain_timeout;
        let reader = frames::read(read_half, messages, greeted);
        let writer = frames::write(write_half, queued, greeting.clone(), timeout);
        let mut reader = std::pin::pin!(reader);
        let (status, heard) = self.watch(reader.as_mut(), writer, greeting).await;
        self.guard.ended = true;
        // An error says that the supervisor is gone, and this process with it.
        let _ = supervisor::ended(self.guard.control.pid).await;
        // Messages from before the end are still read; then reading ends, even if another process
        // holds on to the other end.
        let _ = closer.shutdown(Shutdown::Both);
        let heard = match heard {
            Some(heard) => heard,
            None => reader.await,
        };
        let conclusion = tokio::task::spawn_blocking(move || self.conclude(status, heard)).await;
        if let Ok(exit) = conclusion {
            let _ = exited.send(exit);
        }
    }

    /// Waits until the process has ended: returns its status, and the result of reading if that
    /// ended before.
    async fn watch(
        &mut self,
        mut reader: Pin<&mut impl Future<Output = Heard>>,
        writer: impl Future<Output = Option<KillReason>>,
        mut greeting: watch::Receiver<bool>,
    ) -> (Option<ExitStatus>, Option<Heard>) {
        let control = Arc::clone(&self.guard.control);
        let timeout = self.spec.start_timeout;
        let mut deadline = Some((Instant::now() + timeout, KillReason::SilentStart(timeout)));
        let mut heard = None;
        let (mut awaits_hello, mut writes, mut stoppable) = (true, true, true);
        let mut writer = std::pin::pin!(writer);
        let mut exit = std::pin::pin!(wait_for_exit(&control));
        loop {
            let due = deadline.as_ref().map(|(due, _)| *due);
            tokio::select! {
                status = &mut exit => return (status.ok(), heard),
                greeted = greeting.wait_for(|greeted| *greeted), if awaits_hello => {
                    awaits_hello = false;
                    if greeted.is_ok() {
                        self.output.open();
                        deadline.take_if(|(_, why)| matches!(why, KillReason::SilentStart(_)));
                    }
                }
                ended = reader.as_mut(), if heard.is_none() => {
                    match ended.fault.clone() {
                        Some(fault) => control.kill(fault),
                        None if stoppable => {
                            deadline = Some((Instant::now() + CLOSED_GRACE, KillReason::Closed));
                        }
                        None => {}
                    }
                    heard = Some(ended);
                }
                stuck = &mut writer, if writes => {
                    writes = false;
                    if let Some(reason) = stuck {
                        control.kill(reason);
                    }
                }
                changed = self.stop.changed(), if stoppable => {
                    stoppable = false;
                    let waited = self.stop.borrow().filter(|_| changed.is_ok()).unwrap_or_default();
                    deadline = Some((Instant::now() + waited, KillReason::Requested { waited }));
                }
                () = at(due) => {
                    if let Some((_, reason)) = deadline.take() {
                        control.kill(reason);
                    }
                }
            }
        }
    }

    fn conclude(self, status: Option<ExitStatus>, heard: Heard) -> HostProcessExit {
        drop(self.temp_dir);
        let stderr_tail = self.output.into_tail();
        let facts = ExitFacts {
            status,
            killed: self.guard.control.kill_reason(),
            asked_to_stop: self.stop.borrow().is_some(),
            said_hello: heard.said_hello,
            failure: heard.failure,
            stderr_tail: &stderr_tail,
            memory_limit: self.spec.memory_limit,
        };
        facts.into_exit()
    }
}

/// Waits until then; for ever without a time.
async fn at(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Waits for the end of the process through its descriptor, or by asking on old kernels.
async fn wait_for_exit(control: &HostControl) -> io::Result<ExitStatus> {
    let descriptor = process_descriptor(control.pid);
    loop {
        if let Some(status) = control.try_wait()? {
            return Ok(status);
        }
        match &descriptor {
            Some(descriptor) => descriptor.readable().await?.clear_ready(),
            None => tokio::time::sleep(WAIT_INTERVAL).await,
        }
    }
}

fn process_descriptor(pid: u32) -> Option<AsyncFd<OwnedFd>> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    let descriptor = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?;
    // SAFETY: the descriptor is owned by the registered value, and closes with it.
    unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }.ok()
}
