//! Starts daemons in the background. Everything is checked first, then they are launched and waited
//! for; if not all of them come up, those that were launched are ended again.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use millstream_cluster::{check_job_manager, check_task_manager};
use millstream_config::{CONF_DIR_VARIABLE, Configuration, options};
use millstream_rm_standalone::EpochCounter;

use super::daemons::standalone_setup;
use super::hosts::{self, Host};
use super::instances::{Instance, Instances, Lock, Service, make_dir};
use super::places::{Home, Places};
use super::processes::{Identity, NAP, ended};
use super::remote::Remote;
use crate::{console, jobs, runtime, signals};

/// Time for which a TaskManager that is started alone is watched: it may have no JobManager yet.
const GLANCE: Duration = Duration::from_millis(200);
/// Length of the end of a log that is shown when a daemon did not come up.
const TAIL_BYTES: u64 = 4 << 10;
const TAIL_LINES: usize = 12;

/// One start of a script: its places, and the daemons that it has launched.
pub(super) struct Start<'a> {
    places: &'a Places,
    configuration: &'a Configuration,
    /// Given to every daemon that is launched here.
    arguments: Vec<String>,
    launched: Vec<Launched>,
    /// Hosts on which a script has started daemons, with the script.
    remote: Vec<(String, &'static str)>,
}

/// A daemon that was launched here and may not be ready yet.
struct Launched {
    service: Service,
    identity: Identity,
    child: Child,
    hostname: String,
    log: PathBuf,
    ready: PathBuf,
}

/// The good outcomes of waiting for a daemon.
enum Came {
    Ready,
    /// It has ended already, with exit code 0: a program that was short.
    Done,
    /// It lives, but has not said that it is ready.
    Pending,
}

/// The daemons that a start brings up.
pub(super) enum Goal {
    Cluster,
    JobManager,
    TaskManager,
    /// The program's options, as the daemon takes them.
    Application(Vec<String>),
}

/// Runs a start to its end. If it fails or is interrupted, the daemons that it launched are ended.
pub(super) fn run_start(home: &Home, properties: &[String], goal: Goal) -> Result<ExitCode> {
    let configuration = home.load(properties)?.configuration;
    let places = home.places(&configuration)?;
    let arguments = properties.iter().map(|property| format!("-D{property}")).collect();
    let mut start = Start {
        places: &places,
        configuration: &configuration,
        arguments,
        launched: Vec::new(),
        remote: Vec::new(),
    };
    runtime()?.block_on(async {
        let _lock = Lock::acquire(&places).await?;
        let result = tokio::select! {
            result = start.reach(goal) => result.map(|()| ExitCode::SUCCESS),
            signal = signals::interruption() => {
                let signal = signal?;
                console::warn(format_args!("interrupted by signal {signal}: all ends again"));
                start.undo().await;
                return Ok(ExitCode::from(u8::try_from(128 + signal).unwrap_or(1)));
            }
        };
        if result.is_err() {
            start.undo().await;
        }
        result
    })
}

impl Start<'_> {
    async fn reach(&mut self, goal: Goal) -> Result<()> {
        match goal {
            Goal::Cluster => self.cluster().await,
            Goal::JobManager => {
                self.check_directories()?;
                self.job_manager(Service::Session).await
            }
            Goal::Application(options) => {
                self.check_directories()?;
                self.arguments.extend(options);
                self.job_manager(Service::Application).await
            }
            Goal::TaskManager => {
                self.check_directories()?;
                check_task_manager(self.configuration)?;
                self.launch(Service::TaskManager)?;
                self.task_managers(GLANCE).await.map(drop)
            }
        }
    }

    async fn cluster(&mut self) -> Result<()> {
        let (places, hostname) = (self.places, &self.places.hostname);
        let master = hosts::master(&places.conf_dir, hostname)?;
        let workers = hosts::workers(&places.conf_dir, hostname)?;
        self.check_directories()?;
        let here = workers.iter().filter(|worker| worker.local).count();
        if here > 0 {
            check_task_manager(self.configuration)?;
        }
        if master.local {
            self.refuse_second_cluster()?;
            self.say_if_ports_differ(&master)?;
        }
        console::print(format_args!("Starting cluster."));
        if master.local {
            self.job_manager(Service::Session).await?;
        } else {
            self.remotely(&[&master], "jobmanager.sh").await?;
        }
        for _ in 0..here {
            self.launch(Service::TaskManager)?;
        }
        let far: Vec<&Host> = workers.iter().filter(|worker| !worker.local).collect();
        self.remotely(&far, "taskmanager.sh").await?;
        let patience = self.places.start_timeout;
        if let Some(log) = self.task_managers(patience).await? {
            bail!(
                "a TaskManager has not found its JobManager within {patience:?}; see {}",
                log.display()
            );
        }
        Ok(())
    }

    fn check_directories(&self) -> Result<()> {
        make_dir(&self.places.log_dir, "log", "env.log.dir or MILLSTREAM_LOG_DIR")?;
        for service in [Service::Session, Service::Application, Service::TaskManager] {
            Instances::read(self.places, service)?;
        }
        Ok(())
    }

    fn refuse_second_cluster(&self) -> Result<()> {
        let running = Instances::read(self.places, Service::Session)?;
        let Some(Instance { number, identity }) = running.living.first() else { return Ok(()) };
        let place = match ready_value(&running.ready_path(*number), identity.pid, "rest") {
            Some(url) => format!(" and listens at {url}"),
            None => String::new(),
        };
        bail!(
            "a cluster runs already: its JobManager has pid {}{place}. Stop it with \
             stop-cluster.sh, or set MILLSTREAM_IDENT_STRING or env.pid.dir for a second one",
            identity.pid
        )
    }

    /// The port in `masters` chooses between masters, which only high availability has.
    fn say_if_ports_differ(&self, master: &Host) -> Result<()> {
        let ports = self.configuration.get(&options::REST_BIND_PORT)?;
        if let Some(port) = master.port.filter(|port| !ports.ports().any(|bound| bound == *port)) {
            console::warn(format_args!(
                "{} names port {port}, but the configuration decides: rest.port is {ports}",
                self.places.conf_dir.join("masters").display()
            ));
        }
        Ok(())
    }

    /// Launches a JobManager and waits until it listens.
    async fn job_manager(&mut self, service: Service) -> Result<()> {
        EpochCounter::of(self.configuration)?.check()?;
        let setup = standalone_setup(self.configuration)?;
        check_job_manager(self.configuration, &setup).await?;
        self.launch(service)?;
        let patience = self.places.start_timeout;
        let Some(job_manager) = self.launched.last_mut() else { return Ok(()) };
        match job_manager.came(patience).await? {
            Came::Ready => {}
            Came::Done => {
                console::print(format_args!("The program has ended already: success."));
                return Ok(());
            }
            Came::Pending => bail!(
                "the JobManager is not ready after {patience:?}; see {}",
                job_manager.log.display()
            ),
        }
        let said = |key| ready_value(&job_manager.ready, job_manager.identity.pid, key);
        let (url, rpc) = (said("rest"), said("rpc"));
        // The system has chosen the port: the TaskManagers of this host are told.
        if self.configuration.get(&options::JOBMANAGER_RPC_PORT)? == 0
            && let Some((_, port)) = rpc.as_deref().and_then(|rpc| rpc.rsplit_once(':'))
        {
            let port = format!("-D{}={port}", options::JOBMANAGER_RPC_PORT.key());
            self.arguments.push(port);
        }
        if let Some((scheme, address)) = url.as_deref().and_then(|url| url.split_once("://")) {
            let host = self.configuration.get(&options::REST_ADDRESS)?;
            let host = if host.contains(':') { format!("[{host}]") } else { host };
            let port = address.rsplit(':').next().unwrap_or_default();
            console::print(format_args!("JobManager Web Interface: {scheme}://{host}:{port}"));
        }
        Ok(())
    }

    /// Waits for all TaskManagers that were launched; the log of one that is not ready in time.
    async fn task_managers(&mut self, patience: Duration) -> Result<Option<PathBuf>> {
        let start = Instant::now();
        for launched in &mut self.launched {
            if launched.service == Service::TaskManager {
                let left = patience.saturating_sub(start.elapsed());
                if let Came::Pending = launched.came(left).await? {
                    return Ok(Some(launched.log.clone()));
                }
            }
        }
        Ok(None)
    }

    async fn remotely(&mut self, hosts: &[&Host], script: &'static str) -> Result<()> {
        let mut running = Vec::new();
        for host in hosts {
            running.push((*host, Remote::start(self.places, &host.name, script, "start")?));
        }
        let mut failed = None;
        for (host, remote) in running {
            match remote.finish().await {
                Ok(()) => self.remote.push((host.name.clone(), script)),
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Launches a daemon in the background, in a session of its own, and enters it in the pid file.
    fn launch(&mut self, service: Service) -> Result<()> {
        let Places { log_dir, ident, hostname, .. } = self.places;
        let mut instances = Instances::read(self.places, service)?;
        let (name, running) = (service.name(), instances.living.len());
        if running > 0 {
            console::print(format_args!(
                "[INFO] {running} instance(s) of {name} are already running on {hostname}."
            ));
        }
        let number = instances.free_number();
        let ready = instances.ready_path(number);
        let log = log_dir.join(format!("millstream-{ident}-{name}-{number}-{hostname}.log"));
        let out = log.with_extension("out");
        rotate(&log, self.places.logs_max);
        rotate(&out, self.places.logs_max);
        console::print(format_args!("Starting {name} daemon on host {hostname}."));
        let output =
            File::create(&out).with_context(|| format!("failed to open {}", out.display()))?;
        let engine = std::env::current_exe().context("the engine does not know its place")?;
        let mut command = Command::new(&engine);
        command.arg(service.verb()).arg("--log-file").arg(&log).arg("--ready-file").arg(&ready);
        command.args(&self.arguments).env(CONF_DIR_VARIABLE, &self.places.conf_dir);
        command.stdin(Stdio::null()).stderr(output.try_clone()?).stdout(output);
        detach(&mut command);
        let child = command.spawn();
        let mut child = child.with_context(|| format!("failed to run {}", engine.display()))?;
        // It is a child of ours and not waited for, so it has a start even if it has ended.
        let Some(identity) = Identity::of(child.id()) else {
            let status = child.wait()?;
            bail!(report(service, hostname, status, &log));
        };
        let (known, hostname) = (identity.clone(), hostname.clone());
        self.launched.push(Launched { service, identity: known, child, hostname, log, ready });
        instances.living.push(Instance { number, identity });
        instances.write()
    }

    /// Ends the launched daemons and takes them out of the pid files, also those that have ended
    /// already.
    async fn undo(&mut self) {
        for launched in self.launched.iter_mut().rev() {
            launched.identity.signal(libc::SIGTERM);
        }
        for launched in self.launched.iter_mut().rev() {
            let identity = &launched.identity;
            let gone = ended(identity, self.places.stop_timeout, || {}).await;
            let _ = launched.child.try_wait();
            let forgotten = Instances::read(self.places, launched.service).and_then(|mut all| {
                if gone {
                    all.remove(identity);
                }
                all.write()
            });
            if let Err(error) = forgotten {
                console::warn(format_args!("{error:#}"));
            }
        }
        let stopping: Vec<_> = self
            .remote
            .drain(..)
            .filter_map(|(host, script)| Remote::start(self.places, &host, script, "stop").ok())
            .collect();
        for remote in stopping {
            if let Err(error) = remote.finish().await {
                console::warn(format_args!("{error:#}"));
            }
        }
    }
}

impl Launched {
    async fn came(&mut self, patience: Duration) -> Result<Came> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                if status.success() && self.service == Service::Application {
                    return Ok(Came::Done);
                }
                bail!(report(self.service, &self.hostname, status, &self.log));
            }
            if ready_value(&self.ready, self.identity.pid, "pid").is_some() {
                return Ok(Came::Ready);
            }
            if start.elapsed() >= patience {
                return Ok(Came::Pending);
            }
            tokio::time::sleep(NAP).await;
        }
    }
}

/// The value of `key` in the ready file of process `pid`.
fn ready_value(path: &Path, pid: u32, key: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    (value("pid")? == pid.to_string()).then(|| value(key).map(str::to_owned))?
}

/// A daemon leads a session: it outlives the terminal, and a signal to its group reaches its hosts.
fn detach(command: &mut Command) {
    let child = || {
        // SAFETY: system calls on numbers that touch no memory of the process.
        unsafe {
            libc::setsid();
            // Pipes of the caller must not stay open as long as the daemon lives.
            libc::syscall(
                libc::SYS_close_range,
                3 as libc::c_uint,
                libc::c_uint::MAX,
                libc::CLOSE_RANGE_CLOEXEC as libc::c_uint,
            );
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes system calls alone.
    unsafe { command.pre_exec(child) };
}

/// Moves a file of an earlier daemon aside, under the time of the move, and keeps the newest ones.
fn rotate(file: &Path, keep: usize) {
    if fs::metadata(file).map_or(0, |metadata| metadata.len()) == 0 {
        return;
    }
    let (Some(dir), Some(name)) = (file.parent(), file.file_name().and_then(|name| name.to_str()))
    else {
        return;
    };
    let stamp = format!("{}-{}", jobs::local_stamp(), std::process::id());
    let _ = fs::rename(file, dir.join(format!("{name}.{stamp}")));
    let prefix = format!("{name}.");
    let is_old = |name: &str| {
        name.strip_prefix(&prefix)
            .is_some_and(|stamp| stamp.starts_with(|c: char| c.is_ascii_digit()))
    };
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut old: Vec<String> = names.filter(|name| is_old(name)).collect();
    old.sort();
    let surplus = old.len().saturating_sub(keep);
    for name in old.drain(..surplus) {
        let _ = fs::remove_file(dir.join(name));
    }
}

/// The reason why a daemon ended while it started, with the end of its output.
fn report(service: Service, hostname: &str, status: ExitStatus, log: &Path) -> String {
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    };
    let name = service.name();
    let mut text = format!("the {name} daemon on host {hostname} {how} while starting");
    for file in [log.to_owned(), log.with_extension("out")] {
        let tail = tail(&file).unwrap_or_default();
        if !tail.is_empty() {
            text.push_str(&format!("\nthe last lines of {}:\n{tail}", file.display()));
        }
    }
    text
}

fn tail(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let shown = lines.iter().skip(lines.len().saturating_sub(TAIL_LINES));
    Ok(shown.copied().collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_logs_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("a.log");
        for stamp in ["20260101-000000-1", "20260101-000000-2", "20250101-000000-9"] {
            fs::write(dir.path().join(format!("a.log.{stamp}")), "old").unwrap();
        }
        fs::write(dir.path().join("a.log.txt"), "no log").unwrap();
        rotate(&log, 2);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4, "an empty log is not moved");
        fs::write(&log, "new").unwrap();
        rotate(&log, 2);
        let mut left: Vec<String> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left.len(), 3, "{left:?}");
        assert!(left.contains(&"a.log.txt".to_owned()), "{left:?}");
        assert!(left.contains(&"a.log.20260101-000000-2".to_owned()), "{left:?}");
    }

    #[test]
    fn a_ready_file_of_another_process_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.ready");
        assert_eq!(ready_value(&path, 12, "rest"), None);
        fs::write(&path, "pid=12\nrest=http://[::1]:8081\n").unwrap();
        assert_eq!(ready_value(&path, 12, "rest").as_deref(), Some("http://[::1]:8081"));
        assert_eq!(ready_value(&path, 1, "rest"), None);
        assert_eq!(ready_value(&path, 12, "rpc"), None);
    }
}
