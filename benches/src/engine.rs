//! An installed engine: where it lies and the little in which the two differ.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Apache Flink or Millstream.
#[derive(Debug, Clone)]
pub struct Engine {
    /// For progress and errors.
    pub name: &'static str,
    /// The directory with `bin` and `conf`.
    pub home: PathBuf,
    /// The command line below `bin`.
    pub cli: &'static str,
    /// What is uploaded and submitted: a jar, or an executable.
    pub artifact: PathBuf,
    /// Prefix of the environment variables for the directories of configuration, logs and pids.
    prefix: &'static str,
    /// Configuration of throughput rows beyond the common part.
    pub tuning: &'static [(&'static str, &'static str)],
    /// Whether daemons of throughput rows get the artifact on their class path. A class that Flink
    /// loads for a job starts cold with every job; one of the class path stays compiled.
    preloads: bool,
    /// How long its jobs run before anything is measured.
    pub warm_up_s: u64,
}

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
            tuning: &[
                ("classloader.resolve-order", "parent-first"),
                ("taskmanager.memory.managed.size", "0"),
                ("state.backend.type", "hashmap"),
            ],
            preloads: true,
            warm_up_s: 10,
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
        }
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
