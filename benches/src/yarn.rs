//! Both engines on one YARN: real daemons of Hadoop 3.5.0 on this machine, started for each row.

use crate::engine::Engine;
use crate::http::Server;
use crate::process::{self, Daemon};
use crate::rows::{Job, YarnFigure};
use anyhow::{Context, Result, bail};
use serde_json::json;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(120);
/// Time for which processes rest before their memory counts.
const IDLE: Duration = Duration::from_secs(10);
/// Jobs that a session has run when it counts as warm.
const WARM_JOBS: u32 = 3;

/// Hadoop's daemons; they end with this value.
pub struct Hadoop {
    // Fields drop in this order: the directory last.
    _daemons: Daemon,
    directory: TempDir,
    name_node: Server,
    resource_manager: Server,
    classpath: String,
}

impl Hadoop {
    /// Starts HDFS and two NodeManagers. `as_shipped`: with the intervals that Hadoop has by
    /// default (a NodeManager's heartbeat every second), not with those of tests (200 ms).
    pub fn start(as_shipped: bool) -> Result<Self> {
        let program = std::env::current_exe()?.with_file_name("hadoop");
        let directory = tempfile::Builder::new().prefix("hadoop").tempdir()?;
        let jars = jars()?;
        let mut command = hadoop(&program, directory.path(), "serve");
        let conf = directory.path().join("cluster/conf");
        // Flink finds Hadoop's classes on the nodes.
        let classes = format!("{},{}/*", conf.display(), jars.display());
        command.args(["--node-managers", "2"]);
        if as_shipped {
            command.arg("--defaults");
        }
        command.arg(format!("yarn.application.classpath={classes}"));
        command.arg("yarn.nodemanager.vmem-check-enabled=false");
        let log = directory.path().join("log");
        let daemons = Daemon::start(command, &log)?;
        wait("Hadoop is ready", || {
            let text = fs::read_to_string(&log)?;
            if !process::is_alive(daemons.pid()) {
                bail!("Hadoop did not start: {text}");
            }
            Ok(text.lines().any(|line| line == "ready").then_some(()))
        })?;
        let said = said(hadoop(&program, directory.path(), "status"))?;
        let address = |line: &str| {
            let found = said.lines().find_map(|text| text.strip_prefix(line));
            let port = found.and_then(|url| url.rsplit(':').next()?.trim().parse().ok());
            let port = port.with_context(|| format!("no {line} in {said}"))?;
            anyhow::Ok(Server::plain(SocketAddr::from((Ipv4Addr::LOCALHOST, port))))
        };
        let (name_node, resource_manager) = (address("NameNode's web")?, address("YARN's web")?);
        let classpath = format!("{}:{}/*", conf.display(), jars.display());
        Ok(Self { _daemons: daemons, directory, name_node, resource_manager, classpath })
    }

    fn conf(&self) -> PathBuf {
        self.directory.path().join("cluster/conf")
    }

    /// Puts a file on HDFS, readable for everybody.
    fn upload(&self, from: &Path, to: &str) -> Result<()> {
        let url = format!(
            "http://{}/webhdfs/v1{to}?op=CREATE&overwrite=true&permission=755&user.name=root",
            self.name_node
        );
        let mut curl = Command::new("curl");
        curl.args(["-sSfL", "-X", "PUT", "-T"]).arg(from).arg(url);
        said(curl).map(drop)
    }

    /// Puts the files of a directory and of those below it on HDFS.
    fn upload_all(&self, from: &Path, to: &str) -> Result<()> {
        for entry in fs::read_dir(from)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            match path.is_dir() {
                true => self.upload_all(&path, &format!("{to}/{name}"))?,
                false => self.upload(&path, &format!("{to}/{name}"))?,
            }
        }
        Ok(())
    }

    fn bytes_below(&self, path: &str) -> Result<u64> {
        let path = format!("/webhdfs/v1{path}?op=GETCONTENTSUMMARY&user.name=root");
        let answer = self.name_node.get(&path)?;
        answer["ContentSummary"]["length"].as_u64().context("no length")
    }

    fn remove(&self, path: &str) -> Result<()> {
        let path = format!("/webhdfs/v1{path}?op=DELETE&recursive=true&user.name=root");
        self.name_node.delete(&path).map(drop)
    }

    /// Waits until no application has a container.
    fn wait_until_idle(&self) -> Result<()> {
        wait("no container is left", || {
            let metrics = self.resource_manager.get("/ws/v1/cluster/metrics")?;
            let count = |name: &str| metrics["clusterMetrics"][name].as_u64();
            let none = ["containersAllocated", "containersPending", "appsRunning"];
            Ok(none.iter().all(|name| count(name) == Some(0)).then_some(()))
        })
    }

    fn kill(&self, application: &str) -> Result<()> {
        let path = format!("/ws/v1/cluster/apps/{application}/state?user.name=alice");
        self.resource_manager.put(&path, &json!({ "state": "KILLED" })).map(drop)
    }

    /// From a submission until the application's command runs: what YARN itself needs for it.
    pub fn floor_s(&self) -> Result<f64> {
        let web = &self.resource_manager;
        let new = web.post("/ws/v1/cluster/apps/new-application?user.name=alice", &json!({}))?;
        let id = new["application-id"].as_str().context("no application id")?;
        let stamp = self.directory.path().join(id);
        let command = format!("date +%s%N >{0}.new && mv {0}.new {0}", stamp.display());
        let body = json!({
            "application-id": id, "application-name": "floor", "max-app-attempts": 1,
            "resource": { "memory": 128, "vCores": 1 },
            "am-container-spec": { "commands": { "command": command } },
        });
        let start = SystemTime::now();
        web.post("/ws/v1/cluster/apps?user.name=alice", &body)?;
        let text = wait("the command ran", || Ok(fs::read_to_string(&stamp).ok()))?;
        self.kill(id)?;
        self.wait_until_idle()?;
        since(start, Duration::from_nanos(text.trim().parse()?))
    }
}

/// A command to the daemons that tests have, in this directory.
fn hadoop(program: &Path, directory: &Path, verb: &str) -> Command {
    let mut command = Command::new(program);
    command.arg(verb);
    // It finds the project's scripts as tests do.
    let integration = Path::new(env!("CARGO_MANIFEST_DIR")).join("../integration");
    command
        .env("CARGO_MANIFEST_DIR", integration)
        .env("MILLSTREAM_HADOOP_DIR", directory.join("cluster"));
    command
}

fn jars() -> Result<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/hadoop/install.sh");
    Ok(PathBuf::from(said(Command::new(script))?.trim()))
}

/// The output of a command, of both streams.
fn said(mut command: Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let all = text(&output.stdout) + &text(&output.stderr);
    if !output.status.success() {
        bail!("{command:?} ended with {}: {}", output.status, all.trim());
    }
    Ok(all)
}

fn wait<T>(what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if start.elapsed() > LIMIT {
            bail!("waited in vain: {what}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn since(start: SystemTime, stamp: Duration) -> Result<f64> {
    Ok(stamp.saturating_sub(start.duration_since(UNIX_EPOCH)?).as_secs_f64())
}

/// One engine as a user of the cluster.
pub struct OnYarn<'a> {
    hadoop: &'a Hadoop,
    engine: &'a Engine,
    directory: TempDir,
    outputs: u32,
    /// A session that stays, where the row wants a warm one.
    session: Option<String>,
}

impl<'a> OnYarn<'a> {
    /// Uploads the files that a row needs on HDFS beforehand.
    pub fn new(hadoop: &'a Hadoop, engine: &'a Engine, figure: YarnFigure) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix(engine.name).tempdir()?;
        let path = directory.path();
        for name in ["log", "pid", "tmp"] {
            fs::create_dir(path.join(name))?;
        }
        let config = format!(
            "jobmanager.memory.process.size: 1600m\ntaskmanager.memory.process.size: 1728m\n\
             taskmanager.numberOfTaskSlots: 1\nyarn.properties-file.location: {}\n",
            path.display()
        );
        engine.configure(path, &config)?;
        let mut this = Self { hadoop, engine, directory, outputs: 0, session: None };
        if !figure.uploads() {
            hadoop.upload(&engine.artifact, &this.artifact())?;
            for (from, to) in engine.provided() {
                match from.is_dir() {
                    true => hadoop.upload_all(&from, &to)?,
                    false => hadoop.upload(&from, &to)?,
                }
            }
        }
        if figure == YarnFigure::WarmJob {
            let session = this.start_session()?;
            this.session = Some(session.clone());
            for _ in 0..WARM_JOBS {
                this.job_s(&session)?;
            }
        }
        Ok(this)
    }

    /// One round's figure.
    pub fn measure(&mut self, figure: YarnFigure) -> Result<f64> {
        match figure {
            YarnFigure::Application => self.application_s(true),
            YarnFigure::ApplicationUploaded => {
                self.forget()?;
                self.application_s(false)
            }
            YarnFigure::UploadedBytes => {
                self.forget()?;
                self.uploaded_bytes()
            }
            YarnFigure::Session => {
                process::wait_until_quiet()?;
                let start = Instant::now();
                let session = self.start_session()?;
                let took = start.elapsed().as_secs_f64();
                self.hadoop.kill(&session)?;
                self.hadoop.wait_until_idle()?;
                Ok(took)
            }
            YarnFigure::FirstJob => {
                let session = self.start_session()?;
                let took = self.job_s(&session)?;
                self.hadoop.kill(&session)?;
                self.hadoop.wait_until_idle()?;
                Ok(took)
            }
            YarnFigure::WarmJob => {
                let session = self.session.clone().context("there is no session")?;
                self.job_s(&session)
            }
            YarnFigure::MasterMemory | YarnFigure::WorkerMemory => {
                let session = self.start_session()?;
                self.job_s(&session)?;
                std::thread::sleep(IDLE);
                let words = self.engine.processes_on_yarn();
                let word = if figure == YarnFigure::MasterMemory { words.0 } else { words.1 };
                let bytes = process::container_resident_bytes(word)?;
                self.hadoop.kill(&session)?;
                self.hadoop.wait_until_idle()?;
                Ok(bytes as f64)
            }
        }
    }

    /// Ends what stays over the rounds.
    pub fn end(self) -> Result<()> {
        self.session.as_ref().map_or(Ok(()), |session| self.hadoop.kill(session))
    }

    /// So that everything has to be uploaded and fetched again.
    fn forget(&self) -> Result<()> {
        self.hadoop.remove("/user/alice/.millstream")?;
        self.hadoop.remove("/user/alice/.flink")
    }

    fn artifact(&self) -> String {
        let name = self.engine.artifact.file_name().unwrap_or_default().to_string_lossy();
        format!("/apps/{name}")
    }

    fn cli(&self, program: &str) -> Command {
        let mut command = self.engine.command(program, self.directory.path(), false);
        command
            .env("HADOOP_CONF_DIR", self.hadoop.conf())
            .env("HADOOP_USER_NAME", "alice")
            .env("HADOOP_CLASSPATH", &self.hadoop.classpath);
        command
    }

    fn provided(&self) -> String {
        let places = self.engine.provided_directories();
        format!("-Dyarn.provided.lib.dirs={}", places.join(";"))
    }

    fn start_session(&self) -> Result<String> {
        let mut command = self.cli("yarn-session.sh");
        command.arg("-d").arg(self.provided());
        application(&said(command)?)
    }

    fn output(&mut self) -> Result<PathBuf> {
        self.outputs += 1;
        let output = self.directory.path().join(format!("out-{}", self.outputs));
        fs::create_dir(&output)?;
        Ok(output)
    }

    /// From the start of the command line until user code saw a record.
    fn application_s(&mut self, staged: bool) -> Result<f64> {
        let output = self.output()?;
        let mut command = self.cli(self.engine.cli);
        command.args(["run", "-d", "-t", "yarn-application"]);
        match staged {
            true => command.arg(self.provided()).arg(format!("hdfs://{}", self.artifact())),
            false => command.arg(&self.engine.artifact),
        };
        let first = self.first_record_s(command, &output)?;
        self.hadoop.wait_until_idle()?;
        Ok(first)
    }

    fn uploaded_bytes(&mut self) -> Result<f64> {
        let output = self.output()?;
        let mut command = self.cli(self.engine.cli);
        command.args(["run", "-d", "-t", "yarn-application"]).arg(&self.engine.artifact);
        command.args(crate::cluster::arguments(Job::Stamp, 1_000, 1, &output));
        said(command)?;
        let bytes = self.hadoop.bytes_below("/user/alice")?;
        self.hadoop.wait_until_idle()?;
        Ok(bytes as f64)
    }

    fn job_s(&mut self, session: &str) -> Result<f64> {
        let output = self.output()?;
        let mut command = self.cli(self.engine.cli);
        command.args(["run", "-d", "-t", "yarn-session"]);
        command.arg(format!("-Dyarn.application.id={session}")).arg(&self.engine.artifact);
        self.first_record_s(command, &output)
    }

    fn first_record_s(&self, mut command: Command, output: &Path) -> Result<f64> {
        command.args(crate::cluster::arguments(Job::Stamp, 1_000, 1, output));
        process::wait_until_quiet()?;
        let start = SystemTime::now();
        let said = said(command)?;
        let stamp = output.join("first");
        let text = wait("a record was stamped", || {
            Ok(fs::read_to_string(&stamp).ok().filter(|text| !text.trim().is_empty()))
        });
        let text = text.with_context(|| said)?;
        since(start, Duration::from_micros(text.trim().parse()?))
    }
}

/// The application that a command spoke of.
fn application(said: &str) -> Result<String> {
    let at = said.find("application_").with_context(|| format!("no application in {said}"))?;
    let text = said.get(at..).unwrap_or_default();
    let end = text.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(text.len());
    Ok(text.get(..end).unwrap_or(text).to_owned())
}
