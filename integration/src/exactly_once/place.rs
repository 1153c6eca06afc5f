//! The places where a run's job is: a cluster of local processes, or a session on YARN with HDFS.

use std::io;
use std::path::PathBuf;

use millstream_mutants::Mutant;
use millstream_oracle::committed::{Directory, Published, PublishedFile};

use super::plan::Plan;
use crate::binaries::binary;
use crate::census::parent_of;
use crate::cluster::Cluster;
use crate::command_line::{Outcome, kill};
use crate::hadoop::Hadoop;
use crate::job::Job;
use crate::on_yarn::{OnHdfs, OnYarn, application_id};

/// The settings of a cluster that notices faults early.
const CLUSTER: [(&str, &str); 3] = [
    ("heartbeat.interval", "500 ms"),
    ("heartbeat.timeout", "3 s"),
    // The trial counts the failures.
    ("web.exception-history-size", "1000"),
];

/// The surroundings of a campaign's runs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Surroundings {
    /// The fault that all processes of the clusters have.
    pub mutant: Option<Mutant>,
    /// Checkpoints and output are on HDFS, and the processes are containers of YARN.
    pub hdfs: bool,
}

/// The place of one run.
#[derive(Debug)]
pub(super) enum Place {
    /// Processes of this machine.
    Local(Cluster),
    /// A session on YARN.
    Yarn(OnYarn, String),
}

/// A process that runs tasks, or watches over those that do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TaskManager {
    pub(super) pid: u32,
    pub(super) name: String,
}

impl Place {
    /// Starts what a plan needs.
    pub(super) fn start(plan: &Plan, surroundings: &Surroundings) -> Self {
        if surroundings.hdfs {
            return Self::start_on_yarn(plan);
        }
        let mut builder = Cluster::builder().task_managers(plan.task_managers);
        builder = builder.slots_with_memory(2, 128);
        for (key, value) in CLUSTER {
            builder = builder.set(key, value);
        }
        if let Some(mutant) = surroundings.mutant {
            builder = builder.variable(millstream_mutants::VARIABLE, mutant.name());
        }
        Self::Local(builder.start())
    }

    fn start_on_yarn(plan: &Plan) -> Self {
        let hadoop = Hadoop::builder().node_managers(plan.task_managers).start();
        let mut yarn = OnYarn::new(hadoop).set("taskmanager.numberOfTaskSlots", "2");
        for (key, value) in CLUSTER {
            yarn = yarn.set(key, value);
        }
        let deployed = yarn.run("yarn-session", &["-d"]).success();
        Self::Yarn(yarn, application_id(&deployed.stdout))
    }

    /// A path for the run's files.
    pub(super) fn path(&self, name: &str) -> String {
        match self {
            Self::Local(cluster) => cluster.data(name).display().to_string(),
            Self::Yarn(yarn, _) => yarn.home(name),
        }
    }

    /// The published files.
    pub(super) fn output(&self) -> Output {
        match self {
            Self::Local(cluster) => Output::Local(Directory(cluster.data("output"))),
            Self::Yarn(yarn, _) => Output::Hdfs(yarn.files(&self.path("output"))),
        }
    }

    /// Submits a job of the tests' own program.
    pub(super) fn submit(&self, name: &str, options: &[&str], arguments: &[&str]) -> Job {
        let program = binary("jobs");
        let options = [options, &["-c", name]].concat();
        match self {
            Self::Local(cluster) => cluster.submit(&options, &program, arguments),
            Self::Yarn(yarn, session) => {
                let program = program.display().to_string();
                let words = [&["-d"], &options[..], &[program.as_str()], arguments].concat();
                let submitted = yarn.run("run", &words).success();
                yarn.job(session, &submitted.job_id())
            }
        }
    }

    /// Stops a job with a savepoint in this directory.
    pub(super) fn stop(&self, job: &Job, target: &str) -> Outcome {
        match self {
            Self::Local(cluster) => cluster.millstream(&["stop", "-p", target, &job.id]),
            Self::Yarn(yarn, session) => {
                let application = format!("-Dyarn.application.id={session}");
                yarn.run("stop", &["-t", "yarn-session", &application, "-p", target, &job.id])
            }
        }
    }

    /// The TaskManagers in the order of their start.
    pub(super) fn task_managers(&self) -> Vec<TaskManager> {
        match self {
            Self::Local(cluster) => {
                let daemons = cluster.task_managers.iter();
                daemons.map(|it| TaskManager { pid: it.pid(), name: it.name.clone() }).collect()
            }
            Self::Yarn(yarn, _) => {
                let name = |pid| format!("TaskManager {pid}");
                let pids = containers(yarn, "yarn-taskmanager").into_iter();
                pids.map(|pid| TaskManager { pid, name: name(pid) }).collect()
            }
        }
    }

    /// The hosts of each of these TaskManagers, and those of the JobManager.
    pub(super) fn hosts(&self, task_managers: &[TaskManager]) -> (Vec<Vec<u32>>, Vec<u32>) {
        let (children, masters) = match self {
            Self::Local(cluster) => {
                (cluster.children(), cluster.job_manager.iter().map(|it| it.pid()).collect())
            }
            Self::Yarn(yarn, _) => (
                yarn.container_processes().into_keys().collect(),
                containers(yarn, "yarn-jobmanager"),
            ),
        };
        let of: Vec<(u32, u32)> =
            children.into_iter().filter_map(|pid| Some((pid, parent_of(pid)?))).collect();
        let children_of = |parents: &[u32]| -> Vec<u32> {
            let theirs = of.iter().filter(|(_, parent)| parents.contains(parent));
            theirs.map(|(pid, _)| *pid).collect()
        };
        let hosts = task_managers.iter().map(|it| children_of(&[it.pid])).collect();
        (hosts, children_of(&masters))
    }

    /// Kills a process with signal 9; a TaskManager is replaced.
    pub(super) fn kill(&mut self, pid: u32) {
        if let Self::Local(cluster) = self
            && let Some(at) = cluster.task_managers.iter().position(|it| it.pid() == pid)
        {
            cluster.task_managers.remove(at).kill();
            cluster.start_task_manager();
            return;
        }
        kill(pid, libc::SIGKILL);
    }

    /// Stops a process where it is.
    pub(super) fn pause(&self, pid: u32) {
        if let Self::Local(cluster) = self
            && let Some(task_manager) = cluster.task_managers.iter().find(|it| it.pid() == pid)
        {
            task_manager.pause();
            return;
        }
        kill(pid, libc::SIGSTOP);
    }

    /// Lets a process go on, if it still exists.
    pub(super) fn resume(&self, pid: u32) {
        let exists = match self {
            Self::Local(cluster) => {
                cluster.daemons().any(|it| it.pid() == pid) || cluster.children().contains(&pid)
            }
            Self::Yarn(yarn, _) => yarn.container_processes().contains_key(&pid),
        };
        if exists {
            kill(pid, libc::SIGCONT);
        }
    }

    /// Has the files stay when the run ends, and returns their directory.
    pub(super) fn keep(&mut self) -> PathBuf {
        match self {
            Self::Local(cluster) => cluster.keep(),
            Self::Yarn(yarn, _) => yarn.hadoop.keep(),
        }
    }
}

/// The processes of containers that run this command, without shells around them.
fn containers(yarn: &OnYarn, word: &str) -> Vec<u32> {
    let all = yarn.container_processes().into_iter();
    let runs = all.filter(|(_, line)| line.contains(word) && !line.contains("bash"));
    runs.map(|(pid, _)| pid).collect()
}

/// The published files of a run.
#[derive(Debug)]
pub(super) enum Output {
    Local(Directory),
    Hdfs(OnHdfs),
}

impl Published for Output {
    fn list(&self) -> io::Result<Vec<PublishedFile>> {
        match self {
            Self::Local(directory) => directory.list(),
            Self::Hdfs(directory) => directory.list(),
        }
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        match self {
            Self::Local(directory) => directory.read(name),
            Self::Hdfs(directory) => directory.read(name),
        }
    }
}
