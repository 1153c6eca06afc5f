//! A cluster of its own for a test.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::binaries::binary;
use crate::census::{Census, processes_marked};
use crate::command_line::{Outcome, Started, kill};
use crate::daemon::Daemon;
use crate::job::Job;
use crate::rest::Rest;
use crate::wait::until;

/// Time limit for the start of a daemon.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// Settings of a cluster.
#[derive(Debug)]
pub struct ClusterBuilder {
    task_managers: usize,
    config: Vec<(String, String)>,
    job_manager_wrapper: Vec<String>,
    variable: Option<(String, String)>,
}

impl ClusterBuilder {
    /// So many TaskManagers; one unless said otherwise.
    #[must_use]
    pub fn task_managers(mut self, count: usize) -> Self {
        self.task_managers = count;
        self
    }

    /// So many slots in each; two unless said otherwise.
    #[must_use]
    pub fn slots(self, count: usize) -> Self {
        self.set("taskmanager.numberOfTaskSlots", &count.to_string())
    }

    /// So much memory for each slot; 256 MiB unless said otherwise.
    #[must_use]
    pub fn slots_with_memory(self, count: usize, mib: usize) -> Self {
        let total = format!("{}m", count * mib + 128);
        self.slots(count).set("taskmanager.memory.process.size", &total)
    }

    /// One line of the configuration.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.config.retain(|(present, _)| present != key);
        self.config.push((key.to_owned(), value.to_owned()));
        self
    }

    /// A command that the JobManager's command line is given to, as `unshare` or `sh -c`.
    #[must_use]
    pub fn job_manager_through(mut self, wrapper: &[&str]) -> Self {
        self.job_manager_wrapper = wrapper.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// A variable in the environment of all its processes.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variable = Some((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it and waits until all TaskManagers have registered.
    ///
    /// # Panics
    /// It does not come up.
    #[must_use]
    pub fn start(self) -> Cluster {
        let mut cluster = self.prepare();
        cluster.start_job_manager();
        for _ in 0..self.task_managers {
            cluster.start_task_manager();
        }
        cluster.wait_for_task_managers(self.task_managers);
        cluster
    }

    /// Makes its directory and files, and starts nothing.
    ///
    /// # Panics
    /// Files cannot be written.
    #[must_use]
    pub fn prepare(&self) -> Cluster {
        let dir = tempfile::Builder::new().prefix("millstream-test-").tempdir().unwrap();
        let (rpc, rest) = (free_port(), free_port());
        for name in ["conf", "log", "tmp", "home", "pid", "data"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let mut text = format!(
            "jobmanager.rpc.address: localhost\njobmanager.rpc.port: {rpc}\nrest.port: {rest}\n\
             io.tmp.dirs: {}\nblob.service.cleanup.interval: 3\n",
            dir.path().join("tmp").display()
        );
        for (key, value) in &self.config {
            text += &format!("{key}: {value}\n");
        }
        fs::write(dir.path().join("conf/config.yaml"), text).unwrap();
        fs::write(dir.path().join("conf/masters"), "localhost\n").unwrap();
        fs::write(dir.path().join("conf/workers"), "localhost\n".repeat(self.task_managers))
            .unwrap();
        Cluster {
            guardian: guardian(dir.path()),
            dir: Some(dir),
            rest: Rest::at(rest),
            rpc_port: rpc,
            job_manager: None,
            task_managers: Vec::new(),
            started: 0,
            is_kept: false,
            job_manager_wrapper: self.job_manager_wrapper.clone(),
            variable: self.variable.clone(),
        }
    }
}

/// A JobManager and TaskManagers that live as long as the test that owns this value.
#[derive(Debug)]
pub struct Cluster {
    guardian: Child,
    dir: Option<TempDir>,
    /// Its REST interface.
    pub rest: Rest,
    /// Where TaskManagers connect to.
    pub rpc_port: u16,
    /// Its master.
    pub job_manager: Option<Daemon>,
    /// Its workers in the order of their start.
    pub task_managers: Vec<Daemon>,
    started: usize,
    /// Its directory stays when it ends, as after a panic.
    is_kept: bool,
    job_manager_wrapper: Vec<String>,
    variable: Option<(String, String)>,
}

impl Cluster {
    /// One TaskManager with two slots of 256 MiB.
    #[must_use]
    pub fn builder() -> ClusterBuilder {
        let config = Vec::new();
        let job_manager_wrapper = Vec::new();
        let builder =
            ClusterBuilder { task_managers: 1, config, job_manager_wrapper, variable: None };
        builder.slots_with_memory(2, 256)
    }

    /// Its directory: `conf`, `log`, `pid`, `tmp` for the daemons, `data` for the test.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.as_ref().unwrap().path()
    }

    /// Has its directory stay when it ends, with all data and logs, and returns the directory.
    pub fn keep(&mut self) -> PathBuf {
        self.is_kept = true;
        self.dir().to_owned()
    }

    /// A path for the test's own files.
    #[must_use]
    pub fn data(&self, name: &str) -> PathBuf {
        self.dir().join("data").join(name)
    }

    /// The variable that every process of this cluster has in its environment.
    fn mark(&self) -> String {
        mark(self.dir())
    }

    /// A command in this cluster's environment.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.dir())
            .env("HOME", self.dir().join("home"))
            .env("MILLSTREAM_BINARY", binary("millstream"))
            .env("MILLSTREAM_CONF_DIR", self.dir().join("conf"))
            .env("MILLSTREAM_LOG_DIR", self.dir().join("log"))
            .env("MILLSTREAM_PID_DIR", self.dir().join("pid"))
            .env_remove("MILLSTREAM_PROPERTIES")
            .env_remove("XDG_STATE_HOME")
            .envs(self.variable.clone());
        command
    }

    fn start_daemon(&mut self, kind: &str, wrapper: &[String], more: &[&str]) -> Daemon {
        let name = format!("{kind}-{}", self.started);
        self.started += 1;
        let log = self.dir().join("log").join(format!("{name}.log"));
        let engine = binary("millstream");
        let mut command = match wrapper.split_first() {
            None => self.command(&engine),
            Some((program, words)) => {
                let mut command = self.command(Path::new(program));
                command.args(words).arg(&engine);
                command
            }
        };
        command.arg(kind).arg("--log-file").arg(&log).args(more);
        Daemon::start(name, log, command)
    }

    /// Starts the JobManager and waits until REST answers.
    ///
    /// # Panics
    /// It does not.
    pub fn start_job_manager(&mut self) {
        let wrapper = self.job_manager_wrapper.clone();
        let mut daemon = self.start_daemon("jobmanager", &wrapper, &[]);
        let start = Instant::now();
        while self.rest.call("GET", "/v1/overview", "application/json", b"").is_err() {
            let log = daemon.log.display().to_string();
            assert!(daemon.exit().is_none(), "the JobManager ended: {}", daemon.logged());
            assert!(start.elapsed() < START_DEADLINE, "REST does not answer, see {log}");
            std::thread::sleep(Duration::from_millis(5));
        }
        self.job_manager = Some(daemon);
    }

    /// Starts a TaskManager and does not wait for it.
    pub fn start_task_manager(&mut self) {
        let daemon = self.start_daemon("taskmanager", &[], &[]);
        self.task_managers.push(daemon);
    }

    /// Starts a daemon that is expected to end by itself, and returns its output.
    ///
    /// # Panics
    /// It does not end, or ends well.
    #[must_use]
    pub fn refused_daemon(&mut self, kind: &str, options: &[&str]) -> String {
        let mut daemon = self.start_daemon(kind, &[], options);
        let exit = daemon.ended(START_DEADLINE);
        assert_eq!(exit.code(), Some(1), "{}", daemon.logged());
        daemon.logged()
    }

    /// Waits until so many TaskManagers are registered.
    ///
    /// # Panics
    /// They are not.
    pub fn wait_for_task_managers(&self, count: usize) {
        until(&format!("{count} TaskManagers are registered"), START_DEADLINE, || {
            let overview = self.rest.get("/v1/overview").json;
            (overview["taskmanagers"].as_u64() == Some(count as u64)).then_some(())
        });
    }

    /// Runs `millstream` with these arguments.
    #[must_use]
    pub fn millstream(&self, arguments: &[&str]) -> Outcome {
        self.start_millstream(arguments).finish()
    }

    /// Starts `millstream` with these arguments.
    #[must_use]
    pub fn start_millstream(&self, arguments: &[&str]) -> Started {
        let mut command = self.command(&binary("millstream"));
        command.args(arguments).env("MILLSTREAM_TEST_CLIENT", "1");
        Started::new(command)
    }

    /// Runs a program with `millstream run` and waits for its end.
    #[must_use]
    pub fn run(&self, options: &[&str], artifact: &Path, arguments: &[&str]) -> Outcome {
        let artifact = artifact.display().to_string();
        let words = [&["run"], options, &[artifact.as_str()], arguments].concat();
        self.millstream(&words)
    }

    /// Runs a program with `millstream run -d`.
    ///
    /// # Panics
    /// It was not submitted.
    #[must_use]
    pub fn submit(&self, options: &[&str], artifact: &Path, arguments: &[&str]) -> Job {
        let outcome = self.run(&[&["-d"], options].concat(), artifact, arguments).success();
        self.job(&outcome.job_id())
    }

    /// Runs a job of the tests' own program and waits for its end.
    #[must_use]
    pub fn run_job(&self, options: &[&str], arguments: &[&str]) -> Outcome {
        self.run(options, &binary("jobs"), arguments)
    }

    /// Submits a job of the tests' own program.
    #[must_use]
    pub fn submit_job(&self, options: &[&str], arguments: &[&str]) -> Job {
        self.submit(options, &binary("jobs"), arguments)
    }

    /// A job by its id.
    #[must_use]
    pub fn job(&self, id: &str) -> Job {
        Job { id: id.to_owned(), rest: self.rest.clone() }
    }

    /// Waits until there is a job, and gives the one that was submitted last.
    ///
    /// # Panics
    /// There is none in time.
    #[must_use]
    pub fn newest_job(&self) -> Job {
        until("a job is there", START_DEADLINE, || {
            let overview = self.rest.get("/v1/jobs/overview").json;
            let jobs = overview["jobs"].as_array()?;
            let newest = jobs.iter().max_by_key(|job| job["start-time"].as_i64())?;
            Some(self.job(newest["jid"].as_str()?))
        })
    }

    /// Counts processes, the daemons' descriptors, files of the daemons, and ports.
    #[must_use]
    pub fn census(&self) -> Census {
        let daemons: Vec<(&str, u32)> =
            self.daemons().map(|daemon| (daemon.name.as_str(), daemon.pid())).collect();
        let directories = ["log", "tmp", "home"].map(|name| self.dir().join(name));
        Census::take(&self.mark(), &daemons, &directories)
    }

    /// All daemons that were started and not taken away.
    pub fn daemons(&self) -> impl Iterator<Item = &Daemon> {
        self.job_manager.iter().chain(&self.task_managers)
    }

    /// The processes of this cluster that are no daemons: task hosts, coordinator hosts, and what
    /// user code started.
    #[must_use]
    pub fn children(&self) -> Vec<u32> {
        let daemons: Vec<u32> = self.daemons().map(Daemon::pid).collect();
        let all = processes_marked(&self.mark()).into_keys();
        all.filter(|pid| !daemons.contains(pid)).collect()
    }

    /// The processes that this daemon started.
    #[must_use]
    pub fn children_of(&self, daemon: &Daemon) -> Vec<u32> {
        self.children().into_iter().filter(|pid| parent(*pid) == Some(daemon.pid())).collect()
    }

    /// Waits until there is nothing that there was not before.
    ///
    /// # Panics
    /// There still is at the deadline.
    pub fn wait_until_as_before(&self, before: &Census, deadline: Duration) {
        let start = Instant::now();
        loop {
            let left = self.census().since(before);
            if left.is_empty() {
                return;
            }
            assert!(start.elapsed() < deadline, "left after {deadline:?}:\n{}", left.join("\n"));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asserts that the daemons are the same processes as ever.
    ///
    /// # Panics
    /// One has ended.
    pub fn assert_daemons_live(&mut self) {
        for daemon in self.job_manager.iter_mut().chain(&mut self.task_managers) {
            let exit = daemon.exit();
            assert!(exit.is_none(), "{} ended with {exit:?}: {}", daemon.name, daemon.logged());
        }
    }

    /// A value of `/overview`.
    #[must_use]
    pub fn overview(&self, field: &str) -> Option<u64> {
        self.rest.get("/v1/overview").json.get(field).and_then(Value::as_u64)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.guardian.kill();
        let _ = self.guardian.wait();
        self.task_managers.clear();
        self.job_manager = None;
        let mark = self.mark();
        let start = Instant::now();
        loop {
            let left = processes_marked(&mark);
            if left.is_empty() || start.elapsed() > Duration::from_secs(10) {
                break;
            }
            left.into_keys().for_each(|pid| kill(pid, libc::SIGKILL));
            std::thread::sleep(Duration::from_millis(5));
        }
        if self.is_kept {
            self.dir.take().map(TempDir::keep);
        } else if std::thread::panicking()
            && let Some(dir) = self.dir.take()
        {
            eprintln!("the logs of this cluster are in {}", dir.keep().join("log").display());
        }
    }
}

pub(crate) fn mark(dir: &Path) -> String {
    format!("HOME={}", dir.join("home").display())
}

/// Kills the rest of a cluster when this process ends without warning, which it notices at the end
/// of its standard input: no other process can write there.
pub(crate) fn guardian(dir: &Path) -> Child {
    let script = "trap '' INT TERM; cat; for process in /proc/[0-9]*; do \
        tr '\\0' '\\n' <$process/environ | grep -qx \"$0\" && kill -9 ${process#/proc/}; done";
    let mut command = Command::new("sh");
    command.args(["-c", script, &mark(dir)]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.split(' ').nth(1)?.parse().ok()
}

/// A port on which nothing listens. It lies below the ports that the kernel gives to connections.
///
/// # Panics
/// There is none.
#[must_use]
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = u16::try_from(std::process::id() % 500).unwrap() * 20;
    let ports = std::iter::repeat_with(|| NEXT.fetch_add(1, Ordering::Relaxed) % 10_000);
    let mut ports = ports.take(10_000).map(|next| 20_000 + (base + next) % 10_000);
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}
