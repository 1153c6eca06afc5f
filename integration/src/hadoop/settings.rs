//! The properties of a cluster: ports, directories, and how quickly it notices things.

use std::fs;
use std::path::{Path, PathBuf};

use millstream_hadoop_config::HadoopConfiguration;

use crate::cluster::{free_port, mark};
use crate::hadoop::java::{Kind, Spec};
use crate::hadoop::{DATA_NODES, USER};

const LOGGING: &str = "log4j.rootLogger=INFO,out\n\
    log4j.appender.out=org.apache.log4j.ConsoleAppender\n\
    log4j.appender.out.target=System.err\n\
    log4j.appender.out.layout=org.apache.log4j.PatternLayout\n\
    log4j.appender.out.layout.ConversionPattern=%d{ISO8601} %p %c{2}: %m%n\n";

const ZOOKEEPER: &str = "zoo.cfg";
/// In a NodeManager's directory: what containers find and write.
pub(super) const LOCAL: &str = "local";

/// Shorter intervals, so that tests need not wait for events that are rare in real clusters.
/// Expiries of ten seconds; the intervals at which master keys roll must stay above three times
/// that, and do by default.
const QUICK: [(&str, &str); 18] = [
    ("yarn.resourcemanager.nodemanagers.heartbeat-interval-ms", "200"),
    ("yarn.resourcemanager.connect.retry-interval.ms", "500"),
    ("yarn.nodemanager.resourcemanager.connect.retry-interval.ms", "500"),
    ("yarn.resourcemanager.work-preserving-recovery.scheduling-wait-ms", "1000"),
    ("yarn.am.liveness-monitor.expiry-interval-ms", "10000"),
    ("yarn.nm.liveness-monitor.expiry-interval-ms", "10000"),
    ("yarn.resourcemanager.rm.container-allocation.expiry-interval-ms", "60000"),
    ("yarn.resourcemanager.nm.liveness-monitor.interval-ms", "1000"),
    ("yarn.nodemanager.vmem-check-enabled", "false"),
    ("yarn.nodemanager.sleep-delay-before-sigkill.ms", "1000"),
    ("dfs.namenode.file.close.num-committed-allowed", "1"),
    ("dfs.namenode.safemode.extension", "0"),
    ("dfs.heartbeat.interval", "1"),
    ("dfs.namenode.heartbeat.recheck-interval", "1000"),
    ("dfs.namenode.redundancy.interval.seconds", "1s"),
    ("dfs.client.failover.sleep.base.millis", "100"),
    ("dfs.datanode.scan.period.hours", "-1"),
    ("ipc.client.connect.retry.interval", "500"),
];

/// Where one ResourceManager listens.
#[derive(Debug)]
pub(super) struct ResourceManagerPorts {
    pub(super) client: u16,
    pub(super) scheduler: u16,
    pub(super) web: u16,
    tracker: u16,
    admin: u16,
}

impl ResourceManagerPorts {
    fn free() -> Self {
        Self {
            client: free_port(),
            scheduler: free_port(),
            web: free_port(),
            tracker: free_port(),
            admin: free_port(),
        }
    }

    /// The options that name them, without what all begin with.
    fn named(&self) -> [(&str, u16); 5] {
        [
            ("address", self.client),
            ("scheduler.address", self.scheduler),
            ("webapp.address", self.web),
            ("resource-tracker.address", self.tracker),
            ("admin.address", self.admin),
        ]
    }
}

/// The parts of a cluster's configuration.
#[derive(Debug)]
pub(super) struct Settings {
    dir: PathBuf,
    quick: bool,
    more: Vec<(String, String)>,
    name_node: u16,
    pub(super) name_node_web: u16,
    /// One, or several of which ZooKeeper elects one.
    pub(super) resource_managers: Vec<ResourceManagerPorts>,
    zookeeper: u16,
}

impl Settings {
    /// Free ports for a cluster in this directory.
    pub(super) fn new(
        dir: &Path,
        quick: bool,
        resource_managers: usize,
        more: Vec<(String, String)>,
    ) -> Self {
        Self {
            dir: dir.to_owned(),
            quick,
            more,
            name_node: free_port(),
            name_node_web: free_port(),
            resource_managers: (0..resource_managers)
                .map(|_| ResourceManagerPorts::free())
                .collect(),
            zookeeper: free_port(),
        }
    }

    pub(super) fn default_fs(&self) -> String {
        format!("hdfs://localhost:{}", self.name_node)
    }

    pub(super) fn name_node(&self) -> Spec {
        Spec {
            name: "namenode".to_owned(),
            kind: Kind::NameNode,
            properties: Vec::new(),
            ports: vec![self.name_node, self.name_node_web],
        }
    }

    /// Whether ZooKeeper elects one of several ResourceManagers.
    fn elects(&self) -> bool {
        self.resource_managers.len() > 1
    }

    /// The ResourceManager, or ZooKeeper and the several that it has.
    pub(super) fn resource_managers(&self) -> Vec<Spec> {
        let of = |(number, ports): (usize, &ResourceManagerPorts)| {
            let (name, properties) = match self.elects() {
                false => ("resourcemanager".to_owned(), Vec::new()),
                true => {
                    let id = format!("-Dyarn.resourcemanager.ha.id=rm{number}");
                    (format!("resourcemanager-{number}"), vec![id])
                }
            };
            let ports = ports.named().iter().map(|(_, port)| *port).collect();
            Spec { name, kind: Kind::ResourceManager, properties, ports }
        };
        let zookeeper = self.elects().then(|| Spec {
            name: "zookeeper".to_owned(),
            kind: Kind::ZooKeeper,
            properties: vec![self.dir.join("conf").join(ZOOKEEPER).display().to_string()],
            ports: vec![self.zookeeper],
        });
        let all = self.resource_managers.iter().enumerate().map(of);
        zookeeper.into_iter().chain(all).collect()
    }

    pub(super) fn data_node(&self, number: usize) -> Spec {
        let name = format!("datanode-{number}");
        let ports = vec![free_port(), free_port(), free_port()];
        let keys = ["address", "ipc.address", "http.address"];
        let pairs = keys.iter().zip(&ports);
        let mut properties: Vec<String> =
            pairs.map(|(key, port)| format!("-Ddfs.datanode.{key}=127.0.0.1:{port}")).collect();
        let data = self.dir.join(&name);
        properties.push(format!("-Ddfs.datanode.data.dir={}", data.display()));
        Spec { name, kind: Kind::DataNode, properties, ports }
    }

    pub(super) fn node_manager(&self, number: usize) -> Spec {
        let name = format!("nodemanager-{number}");
        let ports = vec![free_port(), free_port(), free_port()];
        let keys = ["address", "localizer.address", "webapp.address"];
        let addresses = keys.iter().zip(&ports);
        let mut properties: Vec<String> = addresses
            .map(|(key, port)| format!("-Dyarn.nodemanager.{key}=localhost:{port}"))
            .collect();
        for (key, folder) in
            [("local-dirs", LOCAL), ("log-dirs", "log"), ("recovery.dir", "recovery")]
        {
            let path = self.dir.join(&name).join(folder);
            properties.push(format!("-Dyarn.nodemanager.{key}={}", path.display()));
        }
        Spec { name, kind: Kind::NodeManager, properties, ports }
    }

    /// Writes what daemons and clients read.
    pub(super) fn write(&self) {
        let conf = self.dir.join("conf");
        fs::create_dir_all(&conf).unwrap();
        fs::create_dir_all(self.dir.join("tmp")).unwrap();
        fs::write(conf.join("log4j.properties"), LOGGING).unwrap();
        if self.elects() {
            fs::write(conf.join(ZOOKEEPER), self.zookeeper_config()).unwrap();
        }
        let (mut core, mut hdfs, mut yarn) = (self.core(), self.hdfs(), self.yarn());
        let quick = QUICK.iter().filter(|_| self.quick).map(|&(key, value)| (key, value));
        let more = self.more.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let mut capacity = capacity_scheduler();
        for (key, value) in quick.chain(more) {
            let site = if key.starts_with("yarn.scheduler.capacity.") {
                &mut capacity
            } else if key.starts_with("yarn.") {
                &mut yarn
            } else if key.starts_with("dfs.") {
                &mut hdfs
            } else {
                &mut core
            };
            site.set(key, value);
        }
        for (name, site) in
            [("core", core), ("hdfs", hdfs), ("yarn", yarn)].map(|(a, b)| (format!("{a}-site"), b))
        {
            fs::write(conf.join(format!("{name}.xml")), site.to_xml()).unwrap();
        }
        fs::write(conf.join("capacity-scheduler.xml"), capacity.to_xml()).unwrap();
    }

    fn core(&self) -> HadoopConfiguration {
        of(&[
            ("fs.defaultFS", &self.default_fs()),
            ("hadoop.tmp.dir", &self.dir.join("tmp").display().to_string()),
            // These users exist in the tests alone.
            (
                "hadoop.user.group.static.mapping.overrides",
                &format!("dr.who=;{USER}={USER};bob=bob"),
            ),
        ])
    }

    /// Sessions end after two ticks at the soonest.
    fn zookeeper_config(&self) -> String {
        format!(
            "dataDir={}\nclientPort={}\nclientPortAddress=127.0.0.1\ntickTime=500\n\
             admin.enableServer=false\n",
            self.dir.join("zookeeper").display(),
            self.zookeeper
        )
    }

    fn hdfs(&self) -> HadoopConfiguration {
        let local = |port: u16| format!("127.0.0.1:{port}");
        of(&[
            ("dfs.replication", &DATA_NODES.to_string()),
            ("dfs.namenode.name.dir", &self.dir.join("namenode").display().to_string()),
            ("dfs.namenode.http-address", &local(self.name_node_web)),
            ("dfs.namenode.fs-limits.min-block-size", "1024"),
            ("dfs.namenode.resource.du.reserved", "1048576"),
        ])
    }

    /// A directory of the cluster's own as a URI.
    fn local(&self, name: &str) -> String {
        format!("file://{}", self.dir.join(name).display())
    }

    fn yarn(&self) -> HadoopConfiguration {
        let home = mark(&self.dir).trim_start_matches("HOME=").to_owned();
        let mut site = of(&[
            ("yarn.resourcemanager.hostname", "localhost"),
            ("yarn.resourcemanager.bind-host", "127.0.0.1"),
            ("yarn.resourcemanager.recovery.enabled", "true"),
            (
                "yarn.resourcemanager.store.class",
                "org.apache.hadoop.yarn.server.resourcemanager.recovery.FileSystemRMStateStore",
            ),
            ("yarn.resourcemanager.fs.state-store.uri", &self.local("resourcemanager")),
            // Else all clusters of a machine share one, below /tmp.
            ("yarn.node-attribute.fs-store.root-dir", &self.local("node-attributes")),
            ("yarn.node-labels.fs-store.root-dir", &self.local("node-labels")),
            ("yarn.scheduler.minimum-allocation-mb", "64"),
            ("yarn.scheduler.include-port-in-node-name", "true"),
            ("yarn.nodemanager.hostname", "localhost"),
            ("yarn.nodemanager.bind-host", "127.0.0.1"),
            ("yarn.nodemanager.resource.memory-mb", "8192"),
            ("yarn.nodemanager.resource.cpu-vcores", "8"),
            ("yarn.nodemanager.disk-health-checker.enable", "false"),
            // It is looked at once at the start all the same.
            (
                "yarn.nodemanager.disk-health-checker.max-disk-utilization-per-disk-percentage",
                "100",
            ),
            ("yarn.nodemanager.recovery.enabled", "true"),
            ("yarn.nodemanager.recovery.supervised", "true"),
            // What containers have as HOME marks them as ours; it does not exist, as on many nodes.
            ("yarn.nodemanager.user-home-dir", &home),
        ]);
        let mut ids = Vec::new();
        for (number, ports) in self.resource_managers.iter().enumerate() {
            let suffix = if self.elects() { format!(".rm{number}") } else { String::new() };
            for (name, port) in ports.named() {
                let key = format!("yarn.resourcemanager.{name}{suffix}");
                site.set(key, format!("localhost:{port}"));
            }
            ids.push(format!("rm{number}"));
        }
        if self.elects() {
            let (ids, zookeeper) = (ids.join(","), format!("127.0.0.1:{}", self.zookeeper));
            for (key, value) in [
                ("yarn.resourcemanager.ha.enabled", "true"),
                ("yarn.resourcemanager.cluster-id", "test"),
                ("yarn.resourcemanager.ha.rm-ids", &ids),
                (
                    "yarn.resourcemanager.store.class",
                    "org.apache.hadoop.yarn.server.resourcemanager.recovery.ZKRMStateStore",
                ),
                ("yarn.resourcemanager.zk-address", &zookeeper),
                ("yarn.resourcemanager.zk-timeout-ms", "4000"),
            ] {
                site.set(key, value);
            }
        }
        site
    }
}

fn capacity_scheduler() -> HadoopConfiguration {
    let mut site = HadoopConfiguration::new();
    for (key, value) in [
        ("root.queues", "default"),
        ("root.default.capacity", "100"),
        ("maximum-am-resource-percent", "1.0"),
        ("per-node-heartbeat.maximum-offswitch-assignments", "100"),
        ("node-locality-delay", "-1"),
    ] {
        site.set(format!("yarn.scheduler.capacity.{key}"), value);
    }
    site
}

fn of(properties: &[(&str, &str)]) -> HadoopConfiguration {
    let mut site = HadoopConfiguration::new();
    for (key, value) in properties {
        site.set(*key, *value);
    }
    site
}
