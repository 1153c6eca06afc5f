//! A user's shell beside a Hadoop cluster: commands of Millstream with Hadoop's configuration, and
//! what YARN and HDFS then look like.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};
use std::{fmt, io};

use bytes::Bytes;
use millstream_hadoop_config::HadoopConfiguration;
use millstream_oracle::committed::{Published, PublishedFile};
use millstream_security::Credentials;
use millstream_storage::{CreateOptions, FilePath, FileSystem, block_on, read_all, write_all};
use millstream_storage_hdfs::Hdfs;
use serde_json::Value;
use tempfile::TempDir;

use crate::binaries::binary;
use crate::command_line::{Outcome, Started};
use crate::hadoop::{Hadoop, USER};
use crate::job::Job;
use crate::rest::Rest;
use crate::wait::until;

const DEADLINE: Duration = Duration::from_secs(90);
const FILE_BYTES_MAX: u64 = 1 << 30;

/// See the module.
#[derive(Debug)]
pub struct OnYarn {
    /// The cluster.
    pub hadoop: Hadoop,
    dir: TempDir,
    files: Arc<dyn FileSystem>,
    properties: Vec<String>,
}

impl OnYarn {
    /// A user of this cluster.
    ///
    /// # Panics
    /// Its directory cannot be made, or the configuration cannot be read.
    #[must_use]
    pub fn new(hadoop: Hadoop) -> Self {
        let dir = tempfile::Builder::new().prefix("millstream-test-").tempdir().unwrap();
        let mut configuration = HadoopConfiguration::new();
        assert!(configuration.add_dir(&hadoop.conf_dir()).unwrap());
        let files = Arc::new(Hdfs::open(&configuration, "", USER).unwrap());
        std::fs::create_dir(dir.path().join("conf")).unwrap();
        std::fs::write(dir.path().join("conf/config.yaml"), "").unwrap();
        let properties = vec![
            format!("yarn.properties-file.location={}", dir.path().display()),
            "jobmanager.memory.process.size=256m".to_owned(),
            "taskmanager.memory.process.size=512m".to_owned(),
        ];
        Self { hadoop, dir, files, properties }
    }

    /// One setting of every command that comes.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.properties.push(format!("{key}={value}"));
        self
    }

    /// A path for the test's own files.
    #[must_use]
    pub fn data(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A command in the user's environment.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        let (name, value) = self.hadoop.mark();
        command
            .current_dir(self.dir.path())
            .env(name, value)
            .env("HADOOP_CONF_DIR", self.hadoop.conf_dir())
            .env("HADOOP_USER_NAME", USER)
            .env("MILLSTREAM_CONF_DIR", self.dir.path().join("conf"))
            .env_remove("MILLSTREAM_PROPERTIES")
            .env_remove("XDG_STATE_HOME");
        command
    }

    /// Starts `millstream VERB` with these arguments.
    #[must_use]
    pub fn start(&self, verb: &str, arguments: &[&str]) -> Started {
        Started::new(self.verb(verb, arguments))
    }

    /// Runs `millstream VERB` with these arguments and this text to read.
    #[must_use]
    pub fn told(&self, verb: &str, arguments: &[&str], text: &str) -> Outcome {
        Started::told(self.verb(verb, arguments), text).finish()
    }

    fn verb(&self, verb: &str, arguments: &[&str]) -> Command {
        let mut command = self.command(&binary("millstream"));
        command.arg(verb);
        command.args(self.properties.iter().map(|property| format!("-D{property}")));
        command.args(arguments);
        command
    }

    /// Runs `millstream VERB` with these arguments.
    #[must_use]
    pub fn run(&self, verb: &str, arguments: &[&str]) -> Outcome {
        self.start(verb, arguments).finish()
    }

    /// A path in the user's home.
    #[must_use]
    pub fn home(&self, name: &str) -> String {
        format!("{}/user/{USER}/{name}", self.hadoop.default_fs())
    }

    /// Writes a file of HDFS.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn upload(&self, from: &Path, to: &str, permission: u32) {
        let bytes = Bytes::from(std::fs::read(from).unwrap());
        let to = FilePath::from(to);
        block_on(async {
            self.files.make_directories(&to.parent().unwrap(), Some(0o755)).await.unwrap();
            let options = CreateOptions::REPLACE.permission(permission);
            write_all(self.files.as_ref(), &to, options, bytes).await.unwrap();
        });
    }

    /// The sorted lines of all files of a directory of HDFS.
    ///
    /// # Panics
    /// It cannot be read.
    #[must_use]
    pub fn sorted_lines(&self, directory: &str) -> Vec<String> {
        let mut lines = Vec::new();
        for file in self.list(directory) {
            let bytes = block_on(read_all(self.files.as_ref(), &file, FILE_BYTES_MAX)).unwrap();
            let text = String::from_utf8(bytes).unwrap();
            lines.extend(text.lines().map(str::to_owned));
        }
        lines.sort_unstable();
        lines
    }

    /// The entries of a directory of HDFS; none if it does not exist.
    ///
    /// # Panics
    /// It cannot be listed.
    #[must_use]
    pub fn list(&self, directory: &str) -> Vec<FilePath> {
        match block_on(self.files.list(&FilePath::from(directory))) {
            Ok(listed) => listed.into_iter().map(|status| status.path).collect(),
            Err(error) if error.is_not_found() => Vec::new(),
            Err(error) => panic!("{error}"),
        }
    }

    /// The published files of a directory of HDFS.
    #[must_use]
    pub fn files(&self, directory: &str) -> OnHdfs {
        OnHdfs { files: Arc::clone(&self.files), directory: FilePath::from(directory) }
    }

    /// The directories that applications have staged files in.
    #[must_use]
    pub fn staged(&self) -> Vec<String> {
        let listed = self.list(&self.home(".millstream"));
        let names = listed.iter().map(ToString::to_string);
        names.filter(|name| name.contains("application_")).collect()
    }

    /// The ResourceManager's description of an application.
    ///
    /// # Panics
    /// It does not know it.
    #[must_use]
    pub fn application(&self, id: &str) -> Value {
        let answer = self.hadoop.web.get(&format!("/ws/v1/cluster/apps/{id}"));
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json["app"].clone()
    }

    /// Waits until an application has ended and none of its containers is left; its state and final
    /// status.
    ///
    /// # Panics
    /// It does not end.
    #[must_use]
    pub fn ended(&self, id: &str) -> String {
        until(&format!("{id} has ended"), DEADLINE, || {
            let application = self.application(id);
            let text = |field: &str| application[field].as_str().unwrap_or_default().to_owned();
            let (state, status) = (text("state"), text("finalStatus"));
            let over = matches!(state.as_str(), "FINISHED" | "FAILED" | "KILLED");
            (over && self.containers() == 0).then(|| format!("{state}/{status}"))
        })
    }

    /// The REST interface of a cluster, for its owner.
    ///
    /// # Panics
    /// It is not up, or its owner's secret cannot be read.
    #[must_use]
    pub fn rest(&self, id: &str) -> Rest {
        let file = FilePath::from(self.home(".millstream")).join(id).join("client.secret");
        let secret = block_on(read_all(self.files.as_ref(), &file, FILE_BYTES_MAX)).unwrap();
        let application = self.application(id);
        let address = application["amRPCAddress"].as_str().unwrap();
        let port = address.rsplit(':').next().unwrap().parse().unwrap();
        Rest::secured(port, &Credentials::from_secret(&secret).unwrap())
    }

    /// A job of a cluster.
    #[must_use]
    pub fn job(&self, application: &str, id: &str) -> Job {
        Job { id: id.to_owned(), rest: self.rest(application) }
    }

    /// Number of containers that the cluster runs.
    #[must_use]
    pub fn containers(&self) -> u64 {
        let metrics = self.hadoop.web.get("/ws/v1/cluster/metrics").json;
        metrics["clusterMetrics"]["containersAllocated"].as_u64().unwrap_or(u64::MAX)
    }

    /// The processes of containers that run: process id and command line.
    #[must_use]
    pub fn container_processes(&self) -> BTreeMap<u32, String> {
        let (name, value) = self.hadoop.mark();
        let marked = crate::census::processes_marked(&format!("{name}={value}"));
        let ours = |line: &String| line.contains("./millstream yarn-") || line.contains("artifact");
        marked.into_iter().filter(|(_, line)| ours(line)).collect()
    }
}

/// A directory of HDFS. Names that begin with a dot are not published.
pub struct OnHdfs {
    files: Arc<dyn FileSystem>,
    directory: FilePath,
}

impl fmt::Debug for OnHdfs {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.directory)
    }
}

impl Published for OnHdfs {
    fn list(&self) -> io::Result<Vec<PublishedFile>> {
        let listed = match block_on(self.files.list(&self.directory)) {
            Ok(listed) => listed,
            Err(error) if error.is_not_found() => return Ok(Vec::new()),
            Err(error) => return Err(io::Error::other(error)),
        };
        let published = listed.into_iter().filter_map(|status| {
            let name = status.path.file_name()?.to_string_lossy().into_owned();
            let modified = status.modified.duration_since(UNIX_EPOCH).unwrap_or_default();
            let stamp = modified.as_millis();
            let file = PublishedFile { name, length: status.length, stamp };
            (!file.name.starts_with('.')).then_some(file)
        });
        Ok(published.collect())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let file = self.directory.join(name);
        let read = block_on(read_all(self.files.as_ref(), &file, FILE_BYTES_MAX));
        read.map_err(|error| match error.is_not_found() {
            true => io::ErrorKind::NotFound.into(),
            false => io::Error::other(error),
        })
    }
}

/// The application's id in the output of a command.
///
/// # Panics
/// There is none.
#[must_use]
pub fn application_id(said: &str) -> String {
    let at = said.find("application_").unwrap_or_else(|| panic!("no application in {said:?}"));
    let id = said[at..].split(|c: char| c != '_' && !c.is_ascii_alphanumeric()).next();
    id.unwrap_or_default().to_owned()
}
