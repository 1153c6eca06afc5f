//! The one thread that forks all hosts, watches their memory and sweeps up after them.
//!
//! The kernel kills a host when the *thread* that forked it ends (`PDEATHSIG`), so this thread
//! lives as long as the process. Everything about process ids happens on it alone: no id is freed,
//! and so none reused, between looking at it and killing it.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use millstream_types::{ByteSize, HostId};
use tokio::sync::oneshot;

use crate::exit::KillReason;
use crate::lock;
use crate::proc_fs::{self, ProcessUsage};
use crate::sweep::{self, Seen, Sweep};

/// The time between two looks at memory.
const WATCH_INTERVAL: Duration = Duration::from_millis(50);
/// Every so many looks descendants and orphans are looked for.
const LOOKS_PER_SEARCH: u32 = 10;
/// Pause before the next sweep, after one that has killed a process.
const SWEEP_INTERVAL: Duration = Duration::from_millis(5);
/// The time that killed processes may take to go away.
const SWEEP_DEADLINE: Duration = Duration::from_secs(5);
/// The time between two looks at orphans that no host claims, when nothing else is to do.
const ORPHAN_INTERVAL: Duration = Duration::from_secs(1);
/// Each host has at most a handful of requests under way.
const REQUESTS_MAX: usize = 4096;

/// A running host, as far as several threads touch it.
#[derive(Debug)]
pub(crate) struct HostControl {
    pub(crate) pid: u32,
    child: Mutex<Child>,
    kill_reason: Mutex<Option<KillReason>>,
    resident: AtomicU64,
}

impl HostControl {
    /// Kills the process unless it has ended by itself; the first reason stays.
    pub(crate) fn kill(&self, reason: KillReason) {
        let mut child = lock(&self.child);
        if let Ok(None) = child.try_wait() {
            lock(&self.kill_reason).get_or_insert(reason);
            // It is our own child and not reaped: the signal cannot fail.
            let _ = child.kill();
        }
    }

    pub(crate) fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        lock(&self.child).try_wait()
    }

    pub(crate) fn kill_reason(&self) -> Option<KillReason> {
        lock(&self.kill_reason).clone()
    }

    /// Memory of the host and its descendants at the last look, CPU time of the host itself.
    pub(crate) fn usage(&self) -> ProcessUsage {
        let resident = ByteSize::from_bytes(self.resident.load(Ordering::Relaxed));
        ProcessUsage { resident, ..proc_fs::usage(self.pid) }
    }
}

/// A request to the thread.
enum Request {
    Spawn {
        command: Box<Command>,
        host: HostId,
        limit: Option<ByteSize>,
        reply: oneshot::Sender<io::Result<Arc<HostControl>>>,
    },
    /// The host was reaped.
    Ended {
        pid: u32,
        swept: oneshot::Sender<()>,
    },
    AdoptOrphans(oneshot::Sender<io::Result<()>>),
}

fn requests() -> io::Result<&'static SyncSender<Request>> {
    static REQUESTS: OnceLock<Result<SyncSender<Request>, io::ErrorKind>> = OnceLock::new();
    let started = REQUESTS.get_or_init(|| {
        let (sender, receiver) = mpsc::sync_channel(REQUESTS_MAX);
        std::thread::Builder::new()
            .name("host-supervisor".to_owned())
            .spawn(move || Supervisor::new(receiver).run())
            .map(|_| sender)
            .map_err(|error| error.kind())
    });
    started.as_ref().map_err(|kind| (*kind).into())
}

fn gone() -> io::Error {
    io::Error::other("the supervisor of hosts has ended")
}

/// Forks a host. It is killed when this process ends.
pub(crate) async fn spawn(
    command: Command,
    host: HostId,
    limit: Option<ByteSize>,
) -> io::Result<Arc<HostControl>> {
    let (reply, spawned) = oneshot::channel();
    let request = Request::Spawn { command: Box::new(command), host, limit, reply };
    requests()?.send(request).map_err(|_| gone())?;
    spawned.await.map_err(|_| gone())?
}

/// Asks that everything which a reaped host left behind be killed; answered when it is gone.
pub(crate) fn ended(pid: u32) -> oneshot::Receiver<()> {
    let (swept, answer) = oneshot::channel();
    if let Ok(requests) = requests() {
        // Without the thread nothing can be swept, and the answer comes at once.
        let _ = requests.send(Request::Ended { pid, swept });
    }
    answer
}

/// Makes this process the parent of all that its hosts start and leave, so that nothing detaches
/// from it. From now on every new child of this process must be a host. For daemons: call it once,
/// before the first host.
///
/// # Errors
/// The system refuses.
pub async fn adopt_orphans() -> io::Result<()> {
    let (reply, done) = oneshot::channel();
    requests()?.send(Request::AdoptOrphans(reply)).map_err(|_| gone())?;
    done.await.map_err(|_| gone())?
}

/// A host under watch.
struct Watched {
    host: HostId,
    start: u64,
    control: Arc<HostControl>,
    limit: Option<ByteSize>,
    /// Kept open: looking costs one system call.
    memory: Option<File>,
    descendants: HashSet<Seen>,
}

struct Running {
    sweep: Sweep,
    deadline: Instant,
    swept: oneshot::Sender<()>,
}

struct Supervisor {
    requests: Receiver<Request>,
    hosts: HashMap<u32, Watched>,
    sweeps: Vec<Running>,
    /// Children that this process had before it adopted orphans; `None` when it does not.
    older_children: Option<HashSet<u32>>,
    orphans: bool,
    looks: u32,
}

impl Supervisor {
    fn new(requests: Receiver<Request>) -> Self {
        Self {
            requests,
            hosts: HashMap::new(),
            sweeps: Vec::new(),
            older_children: None,
            orphans: false,
            looks: 0,
        }
    }

    fn run(mut self) {
        let mut next_look = Instant::now();
        loop {
            let interval = if !self.sweeps.is_empty() {
                Some(SWEEP_INTERVAL)
            } else if !self.hosts.is_empty() {
                Some(WATCH_INTERVAL)
            } else {
                self.orphans.then_some(ORPHAN_INTERVAL)
            };
            let request = match interval {
                None => self.requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(interval) => {
                    let left = next_look.saturating_duration_since(Instant::now());
                    self.requests.recv_timeout(left.min(interval))
                }
            };
            match request {
                Ok(request) => self.serve(request),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.sweep();
            if next_look <= Instant::now() {
                next_look = Instant::now() + interval.unwrap_or(WATCH_INTERVAL).max(WATCH_INTERVAL);
                self.look();
            }
        }
    }

    fn serve(&mut self, request: Request) {
        match request {
            Request::Spawn { command, host, limit, reply } => {
                // Without the caller, no process would end the host.
                if !reply.is_closed()
                    && let Err(Ok(control)) = reply.send(self.spawn(*command, host, limit))
                {
                    control.kill(KillReason::Requested { waited: Duration::ZERO });
                }
            }
            Request::Ended { pid, swept } => {
                if let Some(watched) = self.hosts.remove(&pid) {
                    let sweep = Sweep {
                        host: watched.host,
                        since: watched.start,
                        members: watched.descendants,
                    };
                    let deadline = Instant::now() + SWEEP_DEADLINE;
                    self.sweeps.push(Running { sweep, deadline, swept });
                }
            }
            Request::AdoptOrphans(reply) => {
                let own = std::process::id();
                let adopted = rustix::process::set_child_subreaper(pid_of(own));
                if adopted.is_ok() && self.older_children.is_none() {
                    let older = proc_fs::children(own).unwrap_or_default();
                    self.older_children = Some(older.into_iter().collect());
                }
                let _ = reply.send(adopted.map_err(io::Error::from));
            }
        }
    }

    fn spawn(
        &mut self,
        mut command: Command,
        host: HostId,
        limit: Option<ByteSize>,
    ) -> io::Result<Arc<HostControl>> {
        let child = command.spawn()?;
        let pid = child.id();
        let control = Arc::new(HostControl {
            pid,
            child: Mutex::new(child),
            kill_reason: Mutex::new(None),
            resident: AtomicU64::new(0),
        });
        let watched = Watched {
            host,
            start: proc_fs::stat(pid).map_or(0, |stat| stat.start),
            control: Arc::clone(&control),
            limit,
            memory: File::open(format!("/proc/{pid}/statm")).ok(),
            descendants: HashSet::new(),
        };
        self.hosts.insert(pid, watched);
        Ok(control)
    }

    fn sweep(&mut self) {
        let hosts: HashSet<u32> = self.hosts.keys().copied().collect();
        let mut open = Vec::new();
        for mut running in std::mem::take(&mut self.sweeps) {
            let clean = running.sweep.step(&hosts);
            if !clean && Instant::now() < running.deadline {
                open.push(running);
                continue;
            }
            if !clean {
                tracing::warn!(host = %running.sweep.host, "processes of a host resist their end");
            }
            let _ = running.swept.send(());
            self.adopt();
        }
        self.sweeps = open;
    }

    fn look(&mut self) {
        let search = self.looks.is_multiple_of(LOOKS_PER_SEARCH);
        self.looks = self.looks.wrapping_add(1);
        if search && !self.hosts.is_empty() || self.hosts.is_empty() && self.orphans {
            self.adopt();
        }
        for watched in self.hosts.values_mut() {
            if search {
                watched.search();
            }
            watched.look();
        }
    }

    /// Orphans that came to this process: dead ones are reaped, those of a living host are kept as
    /// its descendants, those of an ended one are killed, and so are unmarked ones once no host is
    /// left that could have started them.
    fn adopt(&mut self) {
        let Some(older) = &self.older_children else { return };
        self.orphans = false;
        for pid in proc_fs::children(std::process::id()).unwrap_or_default() {
            if self.hosts.contains_key(&pid) || older.contains(&pid) {
                continue;
            }
            let Some(stat) = proc_fs::stat(pid) else { continue };
            if stat.zombie {
                sweep::reap(pid);
                continue;
            }
            let seen = Seen::from(&stat);
            let known = self.hosts.values().any(|host| host.descendants.contains(&seen));
            let mark = sweep::mark(pid);
            let alone = self.hosts.is_empty();
            let owner = self.hosts.values_mut().find(|host| Some(host.host) == mark);
            match owner {
                Some(owner) => drop(owner.descendants.insert(seen)),
                None if known => {}
                None if mark.is_some() || alone => sweep::kill(pid),
                None => {}
            }
            self.orphans = true;
        }
    }
}

fn pid_of(pid: u32) -> Option<rustix::process::Pid> {
    i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw)
}

impl Watched {
    fn search(&mut self) {
        self.descendants
            .retain(|seen| proc_fs::stat(seen.pid).is_some_and(|stat| stat.start == seen.start));
        let roots: Vec<u32> = self.descendants.iter().map(|seen| seen.pid).collect();
        for root in std::iter::once(self.control.pid).chain(roots) {
            let found = proc_fs::descendants(root).into_iter().filter_map(proc_fs::stat);
            self.descendants.extend(found.map(|stat| Seen::from(&stat)));
        }
    }

    fn look(&mut self) {
        let own = self.memory.as_ref().and_then(resident).unwrap_or(0);
        let others: u64 =
            self.descendants.iter().filter_map(|seen| proc_fs::resident_bytes(seen.pid)).sum();
        let used = own.saturating_add(others);
        self.control.resident.store(used, Ordering::Relaxed);
        if let Some(limit) = self.limit.filter(|limit| used > limit.as_bytes()) {
            self.control.kill(KillReason::Memory { used: ByteSize::from_bytes(used), limit });
        }
    }
}

fn resident(statm: &File) -> Option<u64> {
    let mut line = [0; 128];
    let count = statm.read_at(&mut line, 0).ok()?;
    proc_fs::parse_resident(std::str::from_utf8(line.get(..count)?).ok()?)
}
