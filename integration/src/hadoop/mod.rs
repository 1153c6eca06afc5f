//! Real Hadoop 3.5.0: HDFS and YARN, each daemon a process of its own on free loopback ports, with
//! all their files in one directory.
//!
//! A NameNode and two DataNodes, a ResourceManager and so many NodeManagers start at the same time.
//! The user that runs them is HDFS's superuser; tests are [`USER`], who has a home and no more.
//! Each daemon can be killed, paused and restarted on its old ports, and goes on with its old data.

mod java;
mod settings;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use serde_json::Value;

use crate::cluster::{guardian, mark};
use crate::command_line::Outcome;
use crate::daemon::Daemon;
use crate::hadoop::java::{Kind, Spec};
use crate::hadoop::settings::{LOCAL, Settings};
use crate::rest::Rest;
use crate::wait::until;
use crate::workspace;

/// The ordinary user of the cluster.
pub const USER: &str = "alice";
/// Number of DataNodes: as many as a block has copies.
const DATA_NODES: usize = 2;
/// A JVM on a busy machine takes its time.
const START_DEADLINE: Duration = Duration::from_secs(300);

/// Settings of a Hadoop cluster.
#[derive(Debug, Clone)]
pub struct HadoopBuilder {
    node_managers: usize,
    resource_managers: usize,
    quick: bool,
    noexec: bool,
    dir: Option<PathBuf>,
    properties: Vec<(String, String)>,
}

impl HadoopBuilder {
    /// So many NodeManagers of 8 GB each; none for HDFS alone, without a ResourceManager.
    #[must_use]
    pub fn node_managers(mut self, count: usize) -> Self {
        self.node_managers = count;
        self
    }

    /// Two ResourceManagers, of which ZooKeeper elects one: see [`Hadoop::fail_over`].
    #[must_use]
    pub fn two_resource_managers(mut self) -> Self {
        self.resource_managers = 2;
        self
    }

    /// As clusters are: a NodeManager's heartbeat each second, its check of virtual memory, half a
    /// minute between attempts to reconnect, slow closes of files, ten minutes until a silent
    /// daemon counts as dead.
    #[must_use]
    pub fn defaults(mut self) -> Self {
        self.quick = false;
        self
    }

    /// Nothing may be executed from the NodeManagers' directories for containers.
    #[must_use]
    pub fn noexec(mut self) -> Self {
        self.noexec = true;
        self
    }

    /// In this directory, which is made, and removed at the end.
    #[must_use]
    pub fn dir(mut self, dir: PathBuf) -> Self {
        self.dir = Some(dir);
        self
    }

    /// One property of Hadoop, for daemons and clients.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.properties.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Starts it and waits until it can be used.
    ///
    /// # Panics
    /// It does not come up.
    #[must_use]
    pub fn start(self) -> Hadoop {
        let install = Command::new(workspace().join("scripts/hadoop/install.sh")).output().unwrap();
        assert!(install.status.success(), "{}", String::from_utf8_lossy(&install.stderr));
        let jars = PathBuf::from(String::from_utf8(install.stdout).unwrap().trim());
        let dir = match self.dir {
            Some(dir) => {
                fs::create_dir_all(&dir).unwrap();
                dir
            }
            None => {
                let prefix = "millstream-hadoop-";
                tempfile::Builder::new().prefix(prefix).tempdir().unwrap().keep()
            }
        };
        let settings = Settings::new(&dir, self.quick, self.resource_managers, self.properties);
        settings.write();
        let mut cluster = Hadoop {
            guardian: guardian(&dir),
            dir,
            jars,
            web: Rest::at(settings.resource_managers[0].web),
            name_node_web: Rest::at(settings.name_node_web),
            daemons: Vec::new(),
            specs: Vec::new(),
            node_managers: self.node_managers,
            noexec: self.noexec,
            is_kept: false,
            settings,
        };
        cluster.start_daemons();
        cluster.wait_until_ready();
        cluster.make_homes();
        cluster
    }
}

/// Daemons that live as long as the test that owns this value.
#[derive(Debug)]
pub struct Hadoop {
    guardian: Child,
    dir: PathBuf,
    jars: PathBuf,
    /// The web address of the ResourceManager that leads.
    pub web: Rest,
    /// The NameNode's web address.
    pub name_node_web: Rest,
    /// In the order of their start; see [`Hadoop::daemon`].
    pub daemons: Vec<Daemon>,
    specs: Vec<Spec>,
    node_managers: usize,
    noexec: bool,
    is_kept: bool,
    settings: Settings,
}

impl Hadoop {
    /// HDFS, a ResourceManager and one NodeManager, as quick as they can be.
    #[must_use]
    pub fn builder() -> HadoopBuilder {
        HadoopBuilder {
            node_managers: 1,
            resource_managers: 1,
            quick: true,
            noexec: false,
            dir: None,
            properties: Vec::new(),
        }
    }

    /// Starts HDFS, a ResourceManager and so many NodeManagers of 8 GB each, and waits for them.
    ///
    /// # Panics
    /// They do not come up.
    #[must_use]
    pub fn start(node_managers: usize) -> Self {
        Self::builder().node_managers(node_managers).start()
    }

    /// Its files: `conf`, and a log, `<daemon>.out`, and a directory for each daemon.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Has its files stay when it ends, and returns their directory.
    pub fn keep(&mut self) -> PathBuf {
        self.is_kept = true;
        self.dir.clone()
    }

    /// The directory for `HADOOP_CONF_DIR` of clients.
    #[must_use]
    pub fn conf_dir(&self) -> PathBuf {
        self.dir.join("conf")
    }

    /// Where HDFS is, as `hdfs://localhost:9000`, without a slash at the end.
    #[must_use]
    pub fn default_fs(&self) -> String {
        self.settings.default_fs()
    }

    /// Where clients call the (first) ResourceManager.
    #[must_use]
    pub fn client_address(&self) -> String {
        format!("localhost:{}", self.settings.resource_managers[0].client)
    }

    /// Where ApplicationMasters call it.
    #[must_use]
    pub fn scheduler_address(&self) -> String {
        format!("localhost:{}", self.settings.resource_managers[0].scheduler)
    }

    /// A variable for the environment of containers: what carries it is killed with the cluster.
    /// NodeManagers give it to all containers.
    #[must_use]
    pub fn mark(&self) -> (String, String) {
        let (name, value) =
            mark(&self.dir).split_once('=').map(|(a, b)| (a.into(), b.into())).unwrap();
        (name, value)
    }

    /// The daemons' names: `namenode`, `datanode-0`, `datanode-1`, `resourcemanager` (or
    /// `zookeeper`, `resourcemanager-0` and `resourcemanager-1`), `nodemanager-0` and so on.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.daemons.iter().map(|daemon| daemon.name.as_str())
    }

    /// A daemon by its name.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn daemon(&mut self, name: &str) -> &mut Daemon {
        let found = self.daemons.iter_mut().find(|daemon| daemon.name == name);
        found.unwrap_or_else(|| panic!("Hadoop has no daemon {name}"))
    }

    /// Kills a daemon with signal 9 and waits until it is gone.
    ///
    /// # Panics
    /// There is none of this name.
    pub fn kill(&mut self, name: &str) {
        self.daemon(name).kill();
    }

    /// Starts a daemon again on its old ports, after killing it if it runs; does not wait until it
    /// is ready.
    ///
    /// # Panics
    /// There is none of this name, or its ports do not become free.
    pub fn restart(&mut self, name: &str) {
        self.kill(name);
        let at = self.specs.iter().position(|spec| spec.name == name).unwrap();
        let spec = self.specs[at].clone();
        spec.wait_until_free();
        self.daemons[at] = self.launch(&spec);
    }

    /// Kills the ResourceManager that leads, and waits until the other one does and knows the
    /// NodeManagers; the name of the one that was killed.
    ///
    /// # Panics
    /// There is no other one, or it does not take over.
    pub fn fail_over(&mut self) -> String {
        let ports = self.settings.resource_managers.iter().map(|ports| ports.web);
        let leader = ports.into_iter().position(|port| port == self.web.port).unwrap();
        let name = format!("resourcemanager-{leader}");
        self.kill(&name);
        self.wait_until_ready();
        name
    }

    /// Waits until every DataNode and NodeManager is known and HDFS can be written.
    ///
    /// # Panics
    /// They are not, or a daemon that is needed has ended.
    pub fn wait_until_ready(&mut self) {
        self.wait_for("HDFS is ready, and all know their masters", Self::hdfs_is_ready);
        if self.node_managers > 0 {
            let expected = self.node_managers as u64;
            self.wait_for("a ResourceManager leads", |hadoop| hadoop.leader().is_some());
            self.web = self.leader().expect("it has been elected");
            self.wait_for("the NodeManagers have registered", |hadoop| {
                hadoop.active_nodes() == Some(expected)
            });
        }
    }

    /// The web address of the ResourceManager that leads.
    fn leader(&self) -> Option<Rest> {
        let leads = |web: &Rest| {
            let answer = web.call("GET", "/ws/v1/cluster/info", "text/plain", b"");
            answer.is_ok_and(|answer| answer.json["clusterInfo"]["haState"] == "ACTIVE")
        };
        self.settings.resource_managers.iter().map(|ports| Rest::at(ports.web)).find(leads)
    }

    /// Runs a class of Hadoop as the superuser, as `org.apache.hadoop.hdfs.tools.DFSAdmin`.
    #[must_use]
    pub fn java(&self, class: &str, arguments: &[&str]) -> Outcome {
        let mut command = java::command(&self.dir, &self.jars, class);
        command.args(arguments);
        Outcome::of(command)
    }

    /// Runs `hdfs dfsadmin` as the superuser.
    ///
    /// # Panics
    /// It failed.
    pub fn dfs_admin(&self, arguments: &[&str]) {
        let _ = self.java("org.apache.hadoop.hdfs.tools.DFSAdmin", arguments).success();
    }

    /// Calls HDFS as the superuser, by the REST interface of the NameNode: a method, a path, an
    /// operation with its parameters.
    ///
    /// # Panics
    /// The call failed.
    pub fn webhdfs(&self, method: &str, path: &str, operation: &str) -> Value {
        let superuser = Command::new("id").arg("-un").output().unwrap().stdout;
        let superuser = String::from_utf8(superuser).unwrap();
        let user = superuser.trim();
        let path = format!("/webhdfs/v1{path}?op={operation}&user.name={user}");
        let answer = self.name_node_web.call(method, &path, "text/plain", b"").unwrap();
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        answer.json
    }

    fn wait_for(&mut self, what: &str, ready: impl Fn(&Self) -> bool) {
        until(what, START_DEADLINE, || {
            if ready(self) {
                return Some(());
            }
            for daemon in &mut self.daemons {
                let exit = daemon.exit();
                let killed = exit.is_some_and(|exit| exit.code().is_none());
                let (log, exited) = (daemon.log.display(), exit.is_some() && !killed);
                assert!(!exited, "{} ended with {exit:?}, see {log}", daemon.name);
            }
            None
        });
    }

    fn active_nodes(&self) -> Option<u64> {
        let answer = self.web.call("GET", "/ws/v1/cluster/metrics", "text/plain", b"").ok()?;
        answer.json["clusterMetrics"]["activeNodes"].as_u64()
    }

    fn hdfs_is_ready(&self) -> bool {
        let query = "/jmx?qry=Hadoop:service=NameNode,name=FSNamesystemState";
        let Ok(answer) = self.name_node_web.call("GET", query, "text/plain", b"") else {
            return false;
        };
        let state = &answer.json["beans"][0];
        state["NumLiveDataNodes"].as_u64() == Some(DATA_NODES as u64)
            && state["FSState"] == "Operational"
            && self.specs.iter().all(Self::knows_its_master)
    }

    /// Whether a DataNode or NodeManager has been heard: after a restart its master takes it for
    /// alive before it is.
    fn knows_its_master(spec: &Spec) -> bool {
        let Some(web) = spec.ports.last().map(|port| Rest::at(*port)) else { return true };
        let ask = |path: &str| web.call("GET", path, "text/plain", b"").ok();
        match spec.kind {
            Kind::NameNode | Kind::ResourceManager | Kind::ZooKeeper => true,
            Kind::NodeManager => ask("/ws/v1/node/info").is_some_and(|info| info.status == 200),
            Kind::DataNode => {
                let info = ask("/jmx?qry=Hadoop:service=DataNode,name=DataNodeInfo");
                let actors = info.map(|info| info.json["beans"][0]["BPServiceActorInfo"].clone());
                let heard = "\"NamenodeHaState\":\"active\"";
                actors.and_then(|actors| Some(actors.as_str()?.contains(heard))).unwrap_or(false)
            }
        }
    }

    /// Makes the directories of every cluster: one for temporary files of all users, and the user's
    /// home.
    fn make_homes(&self) {
        self.webhdfs("PUT", "/tmp", "MKDIRS&permission=1777");
        let home = format!("/user/{USER}");
        self.webhdfs("PUT", &home, "MKDIRS&permission=755");
        self.webhdfs("PUT", &home, &format!("SETOWNER&owner={USER}&group={USER}"));
    }

    fn start_daemons(&mut self) {
        // The NameNode's directory is formatted while the others start.
        let mut format = self.command(Kind::NameNode, &[]);
        format.args(["-format", "-force", "-nonInteractive"]);
        let log = self.dir.join("format.log");
        let mut format = Daemon::start("format".to_owned(), log, format);
        let mut specs = Vec::new();
        if self.node_managers > 0 {
            specs.extend(self.settings.resource_managers());
        }
        specs.extend((0..DATA_NODES).map(|number| self.settings.data_node(number)));
        specs.extend((0..self.node_managers).map(|number| self.settings.node_manager(number)));
        for spec in specs {
            self.add(spec);
        }
        let formatted = format.ended(START_DEADLINE);
        assert!(formatted.success(), "the NameNode's directory: {}", format.logged());
        self.add(self.settings.name_node());
    }

    fn add(&mut self, spec: Spec) {
        self.daemons.push(self.launch(&spec));
        self.specs.push(spec);
    }

    fn launch(&self, spec: &Spec) -> Daemon {
        let mut command = self.command(spec.kind, &spec.properties);
        if self.noexec && spec.kind == Kind::NodeManager {
            command = java::on_noexec(&self.dir.join(&spec.name).join(LOCAL), &command);
        }
        Daemon::start(spec.name.clone(), self.dir.join(format!("{}.log", spec.name)), command)
    }

    fn command(&self, kind: Kind, properties: &[String]) -> Command {
        let mut command = java::command(&self.dir, &self.jars, kind.class());
        command.args(properties);
        command
    }
}

impl Drop for Hadoop {
    fn drop(&mut self) {
        self.daemons.clear();
        // The end of its input makes the guardian kill the daemons' leftovers.
        drop(self.guardian.stdin.take());
        let _ = self.guardian.wait();
        if std::thread::panicking() {
            eprintln!("the logs of Hadoop are in {}", self.dir.display());
        } else if !self.is_kept {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}
