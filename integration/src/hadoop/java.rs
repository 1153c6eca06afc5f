//! How a daemon of Hadoop is started.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::cluster::mark;
use crate::wait::until;

/// What Hadoop's own scripts open on Java 17.
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

/// What a daemon is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    NameNode,
    DataNode,
    ResourceManager,
    NodeManager,
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
        }
    }
}

/// A daemon as it is started each time.
#[derive(Debug, Clone)]
pub(super) struct Spec {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// `-Dkey=value` for this daemon alone.
    pub(super) properties: Vec<String>,
    /// What it listens on.
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
