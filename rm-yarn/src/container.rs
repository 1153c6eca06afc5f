//! The containers of a cluster: what each gets and runs, and what its process finds there.
//!
//! Everything small travels in the credentials of the launch context (`proto/millstream`): no file
//! has to be staged for it, and no launch script, environment or command line shows it. What a
//! command line does show is fixed: nothing that a user wrote ever reaches a shell.

use std::collections::BTreeMap;
use std::fmt;
use std::net::ToSocketAddrs;
use std::path::PathBuf;
use std::sync::Arc;

use millstream_hadoop_config::HadoopConfiguration;
use millstream_security::{self as security, Authority, CLUSTER_LIFETIME, Role, SecurityError};
use millstream_types::TaskManagerId;
use prost::Message;

use crate::credentials::{Credentials, CredentialsError};
use crate::ids::{ContainerId, IdError};
use crate::launch::WorkerLaunch;
use crate::proto::container::{Master, Resource, Worker};
use crate::proto::yarn::{
    ApplicationAccessTypeProto, ApplicationAclMapProto, ContainerLaunchContextProto,
    LocalResourceProto, LocalResourceTypeProto, LocalResourceVisibilityProto,
    StringLocalResourceMapProto, StringStringMapProto, UrlProto,
};

/// The engine's binary in every container.
pub const ENGINE: &str = "millstream";
/// The job's executable in the JobManager's container.
pub const ARTIFACT: &str = "artifact";
/// The job's plan in the JobManager's container.
pub const JOB_GRAPH: &str = "job.graph";

const VERSION: u32 = 1;
const MASTER: &str = "millstream.master";
const WORKER: &str = "millstream.worker";
const AUTHORITY: &str = "millstream.authority";
const IDENTITY: &str = "millstream.identity";
/// Variables of the JobManager's container are keys below this; Flink's old name is the second.
const MASTER_ENVIRONMENT: [&str; 2] = ["containerized.master.env.", "yarn.application-master.env."];
const WORKER_ENVIRONMENT: [&str; 1] = ["containerized.taskmanager.env."];

/// Why a process is not in a container of ours.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// A variable that every container has is missing.
    #[error("{0} is not set: this command runs in a container of YARN, which sets it")]
    Variable(&'static str),
    /// The container's name is none.
    #[error("CONTAINER_ID")]
    Id(#[from] IdError),
    /// The credentials cannot be read.
    #[error("failed to read the container's credentials {file}")]
    Read {
        /// The file.
        file: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// They are damaged.
    #[error("the container's credentials {file} cannot be used")]
    Credentials {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        source: CredentialsError,
    },
    /// They are another program's.
    #[error("the container's credentials hold no {0}: it was not started by Millstream")]
    Foreign(&'static str),
    /// A certificate or key in them is damaged.
    #[error(transparent)]
    Security(#[from] SecurityError),
    /// Client and engine differ.
    #[error(
        "the container was described in version {0}, and this engine knows version {VERSION}: \
         deploy with the client of the same release"
    )]
    Version(u32),
}

/// What a process finds in its container.
#[derive(Debug)]
pub struct Surroundings {
    /// Its tokens and secrets.
    pub credentials: Credentials,
    /// The container.
    pub id: ContainerId,
    /// The node's name, as the cluster knows it.
    pub host: String,
    /// The container's own directory.
    pub dir: PathBuf,
}

impl Surroundings {
    /// Reads the environment that NodeManagers set.
    ///
    /// # Errors
    /// This process is in no container.
    pub fn from_environment() -> Result<Self, ContainerError> {
        let variable = |name: &'static str| {
            let value = std::env::var(name).ok().filter(|value| !value.is_empty());
            value.ok_or(ContainerError::Variable(name))
        };
        let id = variable("CONTAINER_ID")?.parse()?;
        let file = PathBuf::from(variable("HADOOP_TOKEN_FILE_LOCATION")?);
        let bytes = std::fs::read(&file);
        let bytes = bytes.map_err(|source| ContainerError::Read { file: file.clone(), source })?;
        let credentials = Credentials::decode(&bytes)
            .map_err(|source| ContainerError::Credentials { file, source })?;
        let (host, dir) = (variable("NM_HOST")?, PathBuf::from(variable("PWD")?));
        Ok(Self { credentials, id, host, dir })
    }

    fn message<M: Message + Default>(&self, alias: &'static str) -> Result<M, ContainerError> {
        let bytes = self.credentials.secret(alias).ok_or(ContainerError::Foreign(alias))?;
        M::decode(bytes).map_err(|_| ContainerError::Foreign(alias))
    }

    /// What the JobManager is told.
    ///
    /// # Errors
    /// The container is not a JobManager's.
    pub fn master(&self) -> Result<Master, ContainerError> {
        let master: Master = self.message(MASTER)?;
        match master.version {
            VERSION => Ok(master),
            other => Err(ContainerError::Version(other)),
        }
    }

    /// What a TaskManager is told.
    ///
    /// # Errors
    /// The container is not a TaskManager's.
    pub fn worker(&self) -> Result<Worker, ContainerError> {
        let worker: Worker = self.message(WORKER)?;
        match worker.version {
            VERSION => Ok(worker),
            other => Err(ContainerError::Version(other)),
        }
    }

    /// Who issues the certificates of this cluster: the JobManager alone has that.
    ///
    /// # Errors
    /// The container is not a JobManager's.
    pub fn authority(&self) -> Result<Authority, ContainerError> {
        let bytes = self.credentials.secret(AUTHORITY).ok_or(ContainerError::Foreign(AUTHORITY))?;
        Ok(Authority::from_secret(bytes)?)
    }

    /// As whom a TaskManager speaks.
    ///
    /// # Errors
    /// The container is not a TaskManager's.
    pub fn identity(&self) -> Result<security::Credentials, ContainerError> {
        let bytes = self.credentials.secret(IDENTITY).ok_or(ContainerError::Foreign(IDENTITY))?;
        Ok(security::Credentials::from_secret(bytes)?)
    }

    /// The address to listen on: the loopback address if that is what the node's name means, and
    /// otherwise all of them, because a node may have another one for its name than for its data.
    #[must_use]
    pub fn bind_address(&self) -> &'static str {
        let addresses = (self.host.as_str(), 0).to_socket_addrs();
        match addresses.is_ok_and(|mut all| all.all(|address| address.ip().is_loopback())) {
            true => "127.0.0.1",
            false => "0.0.0.0",
        }
    }
}

/// Hadoop's configuration as it travelled.
#[must_use]
pub fn hadoop(properties: &BTreeMap<String, String>) -> HadoopConfiguration {
    let mut hadoop = HadoopConfiguration::new();
    for (key, value) in properties {
        hadoop.set(key, value);
    }
    hadoop
}

/// The launch context of a JobManager. `files` are for it alone.
#[must_use]
pub fn master_context(
    master: &Master,
    files: &[Resource],
    authority: &Authority,
    acls: &[(ApplicationAccessTypeProto, String)],
) -> ContainerLaunchContextProto {
    let told = Master { version: VERSION, ..master.clone() };
    let secrets = vec![
        (MASTER.to_owned(), told.encode_to_vec()),
        (AUTHORITY.to_owned(), authority.to_secret().expose().clone()),
    ];
    let acls = acls.iter().map(|(kind, acl)| ApplicationAclMapProto {
        access_type: Some((*kind).into()),
        acl: Some(acl.clone()),
    });
    let variables = variables(&master.user, &master.configuration, &MASTER_ENVIRONMENT);
    ContainerLaunchContextProto {
        application_ac_ls: acls.collect(),
        ..context("jobmanager", &[&master.resources, files], secrets, variables)
    }
}

/// Starts TaskManagers of one cluster.
#[derive(Debug)]
pub struct TaskManagers {
    master: Arc<Master>,
    authority: Arc<Authority>,
    configuration: BTreeMap<String, String>,
}

impl TaskManagers {
    /// They find their JobManager at this address, and each gets a certificate of its own.
    #[must_use]
    pub fn new(master: Arc<Master>, authority: Arc<Authority>, host: &str, port: u16) -> Self {
        let mut configuration = master.configuration.clone();
        configuration.insert("jobmanager.rpc.address".to_owned(), host.to_owned());
        configuration.insert("jobmanager.rpc.port".to_owned(), port.to_string());
        Self { master, authority, configuration }
    }
}

impl WorkerLaunch for TaskManagers {
    fn context(
        &self,
        worker: &TaskManagerId,
        _host: &str,
    ) -> Result<ContainerLaunchContextProto, String> {
        let identity = self.authority.issue(Role::Worker, worker.as_str(), CLUSTER_LIFETIME);
        let identity = identity.map_err(|error| error.to_string())?.to_secret();
        let told = Worker {
            version: VERSION,
            configuration: self.configuration.clone(),
            hadoop: self.master.hadoop.clone(),
            user: self.master.user.clone(),
        };
        let secrets = vec![
            (WORKER.to_owned(), told.encode_to_vec()),
            (IDENTITY.to_owned(), identity.expose().clone()),
        ];
        let variables = variables(&told.user, &told.configuration, &WORKER_ENVIRONMENT);
        Ok(context("taskmanager", &[&self.master.resources], secrets, variables))
    }
}

/// `HADOOP_USER_NAME` and what the configuration has below these prefixes.
fn variables(
    user: &str,
    configuration: &BTreeMap<String, String>,
    prefixes: &[&str],
) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    for prefix in prefixes.iter().rev() {
        let own = configuration.iter().filter_map(|(key, value)| {
            key.strip_prefix(prefix).map(|name| (name.to_owned(), value.clone()))
        });
        variables.extend(own);
    }
    variables.insert("HADOOP_USER_NAME".to_owned(), user.to_owned());
    variables
}

fn context(
    role: &str,
    resources: &[&[Resource]],
    secrets: Vec<(String, Vec<u8>)>,
    variables: BTreeMap<String, String>,
) -> ContainerLaunchContextProto {
    // NodeManagers look for `*stderr*` when a container fails, and quote its end. Each further
    // arena of the allocator would reserve 64 MB of the virtual memory that they count; what they
    // set themselves comes before the command.
    let command = format!(
        "MALLOC_ARENA_MAX=2 exec ./{ENGINE} yarn-{role} --log-file <LOG_DIR>/{role}.log \
         1><LOG_DIR>/{role}.out 2><LOG_DIR>/{role}.stderr"
    );
    let environment = variables
        .into_iter()
        .map(|(key, value)| StringStringMapProto { key: Some(key), value: Some(escaped(&value)) });
    let credentials = Credentials { tokens: Vec::new(), secrets };
    let resources = resources.iter().flat_map(|resources| resources.iter());
    ContainerLaunchContextProto {
        local_resources: resources.map(local_resource).collect(),
        tokens: Some(credentials.encode()),
        environment: environment.collect(),
        command: vec![command],
        ..ContainerLaunchContextProto::default()
    }
}

/// A value as it must stand between the double quotes of a launch script.
fn escaped(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for c in value.chars() {
        if matches!(c, '"' | '$' | '`' | '\\') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

fn local_resource(resource: &Resource) -> StringLocalResourceMapProto {
    let kind = match resource.archive {
        true => LocalResourceTypeProto::Archive,
        false => LocalResourceTypeProto::File,
    };
    let visibility = match resource.public {
        true => LocalResourceVisibilityProto::Public,
        false => LocalResourceVisibilityProto::Private,
    };
    let value = LocalResourceProto {
        resource: Some(url(&resource.uri)),
        size: Some(resource.size),
        timestamp: Some(resource.modified_ms),
        r#type: Some(kind.into()),
        visibility: Some(visibility.into()),
        ..LocalResourceProto::default()
    };
    StringLocalResourceMapProto { key: Some(resource.link.clone()), value: Some(value) }
}

/// A URI in Hadoop's parts. Without a port the number is -1: a missing one would be read as 0.
fn url(uri: &str) -> UrlProto {
    let (scheme, rest) = uri.split_once("://").unwrap_or(("file", uri));
    let at = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(at);
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().unwrap_or(-1)),
        None => (authority, -1),
    };
    UrlProto {
        scheme: Some(scheme.to_owned()),
        host: (!host.is_empty()).then(|| host.to_owned()),
        port: Some(port),
        file: Some(path.to_owned()),
        user_info: None,
    }
}

/// Configurations hold passwords.
impl fmt::Debug for Master {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let resources = &self.resources;
        f.debug_struct("Master").field("resources", resources).finish_non_exhaustive()
    }
}

/// Configurations hold passwords.
impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("user", &self.user).finish_non_exhaustive()
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.link, self.uri)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_without_port_says_so() {
        let parts = url("hdfs://ns1/apps/a b");
        assert_eq!((parts.host(), parts.port(), parts.file()), ("ns1", -1, "/apps/a b"));
        let parts = url("hdfs://nn:8020/x");
        assert_eq!((parts.host(), parts.port(), parts.file()), ("nn", 8020, "/x"));
        let parts = url("file:///tmp/x");
        assert_eq!(
            (parts.host, parts.port, parts.file.unwrap().as_str()),
            (None, Some(-1), "/tmp/x")
        );
    }

    #[test]
    fn a_shell_sees_nothing_that_a_user_wrote() {
        let pairs = [
            ("containerized.master.env.A", "\"$(touch x)`y`\\"),
            ("yarn.application-master.env.A", "old"),
            ("containerized.taskmanager.env.B", "worker's"),
            ("user.password", "hunter2"),
        ];
        let configuration =
            pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into_iter().collect();
        let master = Master { configuration, user: "alice".to_owned(), ..Master::default() };
        let authority = Authority::generate("application_1_0001").unwrap();
        let context = master_context(&master, &[], &authority, &[]);
        let shown = format!("{:?} {:?} {master:?}", context.command, context.environment);
        assert!(shown.contains("exec ./millstream yarn-jobmanager"), "{shown}");
        let value = |name: &str| {
            let found = context.environment.iter().find(|pair| pair.key() == name);
            found.map(|pair| pair.value().to_owned())
        };
        assert_eq!(value("A").unwrap(), "\\\"\\$(touch x)\\`y\\`\\\\");
        assert_eq!(value("HADOOP_USER_NAME").unwrap(), "alice");
        assert_eq!(value("B"), None);
        assert!(!shown.contains("hunter2"), "{shown}");
        let credentials = Credentials::decode(context.tokens()).unwrap();
        let told = Master::decode(credentials.secret(MASTER).unwrap()).unwrap();
        assert_eq!((told.version, told.configuration), (VERSION, master.configuration));
    }

    #[test]
    fn workers_are_told_where_their_master_is() {
        let master = Arc::new(Master { user: "alice".to_owned(), ..Master::default() });
        let authority = Arc::new(Authority::generate("application_1_0001").unwrap());
        let workers = TaskManagers::new(master, authority, "node", 4711);
        let context = workers.context(&TaskManagerId::new("c"), "other").unwrap();
        let credentials = Credentials::decode(context.tokens()).unwrap();
        let told = Worker::decode(credentials.secret(WORKER).unwrap()).unwrap();
        assert_eq!(told.configuration["jobmanager.rpc.address"], "node");
        assert_eq!(told.configuration["jobmanager.rpc.port"], "4711");
        assert!(credentials.secret(MASTER).is_none() && credentials.tokens.is_empty());
        assert!(credentials.secret(AUTHORITY).is_none());
        let identity = credentials.secret(IDENTITY).unwrap();
        let identity = security::Credentials::from_secret(identity).unwrap();
        assert_eq!(identity.identity().to_string(), "millstream://application_1_0001/worker/c");
    }
}
