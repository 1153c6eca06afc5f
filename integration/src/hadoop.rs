//! A real YARN cluster: a ResourceManager and NodeManagers of Hadoop 3.5.0, each a process of its
//! own on free loopback ports, with all that they write in one directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use tempfile::TempDir;

use crate::cluster::{free_port, guardian, mark};
use crate::daemon::Daemon;
use crate::rest::Rest;
use crate::wait::until;
use crate::workspace;

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
const RESOURCE_MANAGER: &str = "org.apache.hadoop.yarn.server.resourcemanager.ResourceManager";
const NODE_MANAGER: &str = "org.apache.hadoop.yarn.server.nodemanager.NodeManager";
const LOGGING: &str = "log4j.rootLogger=INFO,out\n\
    log4j.appender.out=org.apache.log4j.ConsoleAppender\n\
    log4j.appender.out.layout=org.apache.log4j.PatternLayout\n\
    log4j.appender.out.layout.ConversionPattern=%d{ISO8601} %p %c{2}: %m%n\n";
/// A JVM on a busy machine takes its time.
const START_DEADLINE: Duration = Duration::from_secs(120);

/// Daemons that live as long as the test that owns this value.
#[derive(Debug)]
pub struct Hadoop {
    guardian: Child,
    dir: Option<TempDir>,
    jars: PathBuf,
    /// The ResourceManager's web address.
    pub web: Rest,
    client_port: u16,
    scheduler_port: u16,
    /// The ResourceManager, then the NodeManagers.
    pub daemons: Vec<Daemon>,
}

impl Hadoop {
    /// Starts a ResourceManager and so many NodeManagers of 8 GB each, and waits for them.
    ///
    /// # Panics
    /// They do not come up.
    #[must_use]
    pub fn start(node_managers: usize) -> Self {
        let install = Command::new(workspace().join("scripts/hadoop/install.sh")).output().unwrap();
        assert!(install.status.success(), "{}", String::from_utf8_lossy(&install.stderr));
        let jars = PathBuf::from(String::from_utf8(install.stdout).unwrap().trim());
        let dir = tempfile::Builder::new().prefix("millstream-hadoop-").tempdir().unwrap();
        let mut cluster = Self {
            guardian: guardian(&dir),
            dir: Some(dir),
            jars,
            web: Rest { port: free_port() },
            client_port: free_port(),
            scheduler_port: free_port(),
            daemons: Vec::new(),
        };
        cluster.write_configuration();
        cluster.start_daemon("resourcemanager", RESOURCE_MANAGER, &[]);
        for number in 0..node_managers {
            cluster.start_node_manager(number);
        }
        let what = format!("{node_managers} NodeManagers have registered");
        until(&what, START_DEADLINE, || {
            (cluster.active_nodes() == Some(node_managers as u64)).then_some(())
        });
        cluster
    }

    /// Its files.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.as_ref().unwrap().path()
    }

    /// Where clients call the ResourceManager.
    #[must_use]
    pub fn client_address(&self) -> String {
        format!("localhost:{}", self.client_port)
    }

    /// Where ApplicationMasters call it.
    #[must_use]
    pub fn scheduler_address(&self) -> String {
        format!("localhost:{}", self.scheduler_port)
    }

    /// A variable for the environment of containers: what carries it is killed with the cluster.
    #[must_use]
    pub fn mark(&self) -> (String, String) {
        let (name, value) =
            mark(self.dir()).split_once('=').map(|(a, b)| (a.into(), b.into())).unwrap();
        (name, value)
    }

    fn active_nodes(&self) -> Option<u64> {
        let answer = self.web.call("GET", "/ws/v1/cluster/metrics", "text/plain", b"").ok()?;
        answer.json["clusterMetrics"]["activeNodes"].as_u64()
    }

    fn write_configuration(&self) {
        let conf = self.dir().join("conf");
        fs::create_dir(&conf).unwrap();
        let tmp = self.dir().join("tmp").display().to_string();
        let local = |port: u16| format!("localhost:{port}");
        fs::write(conf.join("log4j.properties"), LOGGING).unwrap();
        write_xml(
            &conf.join("core-site.xml"),
            &[("fs.defaultFS", "file:///"), ("hadoop.tmp.dir", &tmp)],
        );
        write_xml(
            &conf.join("yarn-site.xml"),
            &[
                ("yarn.resourcemanager.address", &local(self.client_port)),
                ("yarn.resourcemanager.scheduler.address", &local(self.scheduler_port)),
                ("yarn.resourcemanager.resource-tracker.address", &local(free_port())),
                ("yarn.resourcemanager.admin.address", &local(free_port())),
                ("yarn.resourcemanager.webapp.address", &local(self.web.port)),
                ("yarn.resourcemanager.bind-host", "127.0.0.1"),
                ("yarn.resourcemanager.nodemanagers.heartbeat-interval-ms", "200"),
                ("yarn.scheduler.minimum-allocation-mb", "64"),
                ("yarn.scheduler.include-port-in-node-name", "true"),
                ("yarn.nodemanager.bind-host", "127.0.0.1"),
                ("yarn.nodemanager.resource.memory-mb", "8192"),
                ("yarn.nodemanager.resource.cpu-vcores", "8"),
                ("yarn.nodemanager.vmem-check-enabled", "false"),
                ("yarn.nodemanager.disk-health-checker.enable", "false"),
            ],
        );
        let capacity = "yarn.scheduler.capacity";
        write_xml(
            &conf.join("capacity-scheduler.xml"),
            &[
                (&format!("{capacity}.root.queues"), "default"),
                (&format!("{capacity}.root.default.capacity"), "100"),
                (&format!("{capacity}.maximum-am-resource-percent"), "1.0"),
                (&format!("{capacity}.per-node-heartbeat.maximum-offswitch-assignments"), "100"),
                (&format!("{capacity}.node-locality-delay"), "-1"),
            ],
        );
    }

    fn start_node_manager(&mut self, number: usize) {
        let name = format!("nodemanager-{number}");
        let at = |folder: &str| self.dir().join(&name).join(folder).display().to_string();
        let local = |port: u16| format!("localhost:{port}");
        let settings = [
            ("address", local(free_port())),
            ("localizer.address", local(free_port())),
            ("webapp.address", local(free_port())),
            ("local-dirs", at("local")),
            ("log-dirs", at("log")),
        ];
        let settings = settings.map(|(key, value)| format!("-Dyarn.nodemanager.{key}={value}"));
        self.start_daemon(&name, NODE_MANAGER, &settings);
    }

    fn start_daemon(&mut self, name: &str, class: &str, settings: &[String]) {
        let mut java = Command::new("java");
        java.current_dir(self.dir());
        let (variable, value) = self.mark();
        java.env(variable, value);
        // Little memory and a quick start: these daemons do little.
        java.args(["-Xmx320m", "-Xss512k", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
        java.args(OPENED.map(|name| format!("--add-opens=java.base/{name}=ALL-UNNAMED")));
        let (conf, jars) = (self.dir().join("conf"), self.jars.display());
        java.arg("-cp").arg(format!("{}:{jars}/*", conf.display()));
        java.arg(class).args(settings);
        let log = self.dir().join(format!("{name}.log"));
        self.daemons.push(Daemon::start(name.to_owned(), log, java));
    }
}

impl Drop for Hadoop {
    fn drop(&mut self) {
        self.daemons.clear();
        // The end of its input makes the guardian kill what the daemons left.
        drop(self.guardian.stdin.take());
        let _ = self.guardian.wait();
        if std::thread::panicking()
            && let Some(dir) = self.dir.take()
        {
            eprintln!("the logs of Hadoop are in {}", dir.keep().display());
        }
    }
}

fn write_xml(file: &Path, properties: &[(&str, &str)]) {
    let mut text = "<configuration>\n".to_owned();
    for (name, value) in properties {
        text += &format!("<property><name>{name}</name><value>{value}</value></property>\n");
    }
    fs::write(file, text + "</configuration>\n").unwrap();
}
