//! Starts daemons of Hadoop.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::cluster::mark;
use crate::wait::until;

/// Packages that Hadoop's own scripts open on Java 17.
const OPENED: [&str; 11] = [
    "java.io",
    "java.lang",
    "java.lang.reflect",
    "java.math",
    "java.net",
    "java.text",
    "java.util",
    "java.util.concurrent",
    "java.util.zip",
    "sun.security.util",
    "sun.security.x509",
];
/// A port is free as soon as its process is gone.
const FREE_DEADLINE: Duration = Duration::from_secs(30);

/// The kind of a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    NameNode,
    DataNode,
    ResourceManager,
    NodeManager,
    ZooKeeper,
}

impl Kind {
    pub(super) const fn class(self) -> &'static str {
        match self {
            Self::NameNode => "org.apache.hadoop.hdfs.server.namenode.NameNode",
            Self::DataNode => "org.apache.hadoop.hdfs.server.datanode.DataNode",
            Self::ResourceManager => {
                "org.apache.hadoop.yarn.server.resourcemanager.ResourceManager"
            }
            Self::NodeManager => "org.apache.hadoop.yarn.server.nodemanager.NodeManager",
            Self::ZooKeeper => "org.apache.zookeeper.server.ZooKeeperServerMain",
        }
    }
}

/// A daemon as it is started each time.
#[derive(Debug, Clone)]
pub(super) struct Spec {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// Its arguments: `-Dkey=value` for this daemon alone, or its file.
    pub(super) properties: Vec<String>,
    /// Ports that it listens on.
    pub(super) ports: Vec<u16>,
}

impl Spec {
    /// Waits until nothing listens on the daemon's ports.
    pub(super) fn wait_until_free(&self) {
        until(&format!("the ports of {} are free", self.name), FREE_DEADLINE, || {
            let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
            self.ports.iter().all(free).then_some(())
        });
    }
}

/// A JVM with a class of Hadoop in the surroundings of a cluster.
pub(super) fn command(dir: &Path, jars: &Path, class: &str) -> Command {
    let mut java = Command::new("java");
    java.current_dir(dir);
    let mark = mark(dir);
    let (variable, value) = mark.split_once('=').unwrap();
    java.env(variable, value).env_remove("HADOOP_USER_NAME");
    // Little memory and a quick start: these daemons do little.
    java.args(["-Xmx320m", "-Xss512k", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
    java.args(OPENED.map(|name| format!("--add-opens=java.base/{name}=ALL-UNNAMED")));
    // They unpack libraries and pages there.
    java.arg(format!("-Djava.io.tmpdir={}", dir.join("tmp").display()));
    java.arg("-cp").arg(format!("{}:{}/*", dir.join("conf").display(), jars.display()));
    java.arg(class);
    java
}

/// The same command in a mount namespace of its own, in which nothing below this directory may be
/// executed. Its process is the command's.
pub(super) fn on_noexec(dir: &Path, command: &Command) -> Command {
    std::fs::create_dir_all(dir).unwrap();
    let mut unshare = Command::new("unshare");
    // SAFETY: it takes nothing and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        unshare.arg("--map-root-user");
    }
    let mount = "mount --bind \"$0\" \"$0\" && mount -o remount,bind,noexec \"$0\" && exec \"$@\"";
    unshare.args(["--mount", "sh", "-c", mount]).arg(dir);
    unshare.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => unshare.env(name, value),
            None => unshare.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        unshare.current_dir(directory);
    }
    unshare
}
