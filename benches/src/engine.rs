//! An installed engine: where it lies and the little in which Flink and Millstream differ.

use crate::rows::Job;
use anyhow::Result;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Apache Flink, Millstream, or Millstream of an earlier commit.
#[derive(Debug, Clone)]
pub struct Engine {
    /// For progress and errors.
    pub name: &'static str,
    /// The directory with `bin` and `conf`.
    pub home: PathBuf,
    /// The command line below `bin`.
    pub cli: &'static str,
    /// The artifact to upload and submit: a jar, or an executable.
    pub artifact: PathBuf,
    /// Prefix of the environment variables for the directories of configuration, logs and pids.
    prefix: &'static str,
    /// Configuration of throughput rows beyond the common part.
    pub tuning: &'static [(&'static str, &'static str)],
    /// Whether daemons of throughput rows get the artifact on their class path. A class that Flink
    /// loads for a job starts cold with every job; one of the class path stays compiled.
    preloads: bool,
    /// Seconds for which its jobs run before the first measurement.
    pub warm_up_s: u64,
    /// The interval of checkpoints of its jobs, if they take any.
    pub checkpoints: Option<String>,
}

/// Flink's tuning, and with it the option that sends each record at once.
const FLINK_PROMPT: &[(&str, &str)] = &[
    ("execution.buffer-timeout.interval", "0 ms"),
    ("classloader.resolve-order", "parent-first"),
    ("taskmanager.memory.managed.size", "0"),
    ("state.backend.type", "hashmap"),
];
const FLINK_TUNING: &[(&str, &str)] = FLINK_PROMPT.split_at(1).1;

impl Engine {
    /// Flink at its best: heap state with all memory for the heap, warm classes.
    #[must_use]
    pub fn flink(home: PathBuf, jobs: PathBuf) -> Self {
        Self {
            name: "flink",
            home,
            cli: "flink",
            artifact: jobs,
            prefix: "FLINK",
            tuning: FLINK_TUNING,
            preloads: true,
            warm_up_s: 10,
            checkpoints: None,
        }
    }

    /// Millstream as it is.
    #[must_use]
    pub fn millstream(home: PathBuf, job: PathBuf) -> Self {
        Self {
            name: "millstream",
            home,
            cli: "millstream",
            artifact: job,
            prefix: "MILLSTREAM",
            tuning: &[],
            preloads: false,
            warm_up_s: 0,
            checkpoints: None,
        }
    }

    /// Millstream of another commit, as the other side of a pair.
    #[must_use]
    pub fn before(home: PathBuf, job: PathBuf) -> Self {
        Self { name: "before", ..Self::millstream(home, job) }
    }

    /// The same with checkpoints at this interval, if there is one.
    #[must_use]
    pub fn with_checkpoints(self, interval: Option<&str>) -> Self {
        Self { checkpoints: interval.map(str::to_owned), ..self }
    }

    /// The same with a short latency instead of a high throughput: Flink sends each record at
    /// once; ours, as it is, whenever it has nothing else to do.
    #[must_use]
    pub fn prompt(self) -> Self {
        let tuning = if self.is_flink() { FLINK_PROMPT } else { self.tuning };
        Self { tuning, ..self }
    }

    /// The other side of a pair with itself.
    #[must_use]
    pub fn without_checkpoints(&self) -> Self {
        Self { name: "without", checkpoints: None, ..self.clone() }
    }

    /// The artifact that has a job. Ours are two programs, side by side.
    #[must_use]
    pub fn artifact_of(&self, job: Job) -> PathBuf {
        match job.is_about_records() && !self.is_flink() {
            true => self.artifact.with_file_name("record_job"),
            false => self.artifact.clone(),
        }
    }

    /// Whether it is Flink.
    #[must_use]
    pub fn is_flink(&self) -> bool {
        self.name == "flink"
    }

    /// Files to put on HDFS before an application is deployed: the local path, and that on HDFS.
    #[must_use]
    pub fn provided(&self) -> Vec<(PathBuf, String)> {
        match self.name {
            "flink" => ["lib", "plugins"]
                .map(|name| (self.home.join(name), format!("/flink/{name}")))
                .to_vec(),
            _ => vec![(self.home.join("bin/millstream"), "/millstream/millstream".to_owned())],
        }
    }

    /// The directories of that, for `yarn.provided.lib.dirs`.
    #[must_use]
    pub fn provided_directories(&self) -> &'static [&'static str] {
        match self.name {
            "flink" => &["hdfs:///flink/lib", "hdfs:///flink/plugins"],
            _ => &["hdfs:///millstream"],
        }
    }

    /// Words in the command lines of a JobManager and of a TaskManager on YARN.
    #[must_use]
    pub fn processes_on_yarn(&self) -> (&'static str, &'static str) {
        match self.name {
            "flink" => ("YarnSessionClusterEntrypoint", "YarnTaskExecutorRunner"),
            _ => ("yarn-jobmanager", "yarn-taskmanager"),
        }
    }

    /// Writes `conf` below a directory: as it is shipped, with this `config.yaml`.
    pub fn configure(&self, run: &Path, config: &str) -> Result<()> {
        let conf = run.join("conf");
        fs::create_dir(&conf)?;
        for entry in fs::read_dir(self.home.join("conf"))? {
            let entry = entry?;
            fs::copy(entry.path(), conf.join(entry.file_name()))?;
        }
        let path = conf.join("config.yaml");
        fs::write(&path, config.to_owned() + &shipped_java_options(&path))?;
        Ok(())
    }

    /// A script or program of this engine that works in `run`, which holds `conf`, `log` and `pid`.
    #[must_use]
    pub fn command(&self, program: &str, run: &Path, throughput: bool) -> Command {
        let mut command = Command::new(self.home.join("bin").join(program));
        for (name, directory) in [("CONF", "conf"), ("LOG", "log"), ("PID", "pid")] {
            command.env(format!("{}_{name}_DIR", self.prefix), run.join(directory));
        }
        if self.preloads && throughput {
            command.env("HADOOP_CLASSPATH", &self.artifact);
        }
        command
    }
}

/// The block `env` of a shipped configuration: Flink needs the options in it to run on a JDK of 17.
fn shipped_java_options(config: &Path) -> String {
    let config = fs::read_to_string(config).unwrap_or_default();
    let mut lines = config.lines().skip_while(|line| !line.starts_with("env:"));
    let head = lines.next().map(str::to_owned);
    let block = lines.take_while(|line| line.starts_with(' ')).map(str::to_owned);
    head.into_iter().chain(block).map(|line| line + "\n").collect()
}
