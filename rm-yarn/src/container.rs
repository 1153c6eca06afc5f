//! The containers of a cluster: the files, command and secrets that each gets, and their reading by
//! the process inside.
//!
//! Everything small travels in the credentials of the launch context (`proto/millstream`): no file
//! has to be staged for it, and no launch script, environment or command line shows it. The command
//! line is fixed: a user's text reaches a shell only if [`crate::launch_script`] lets it through.

use std::collections::BTreeMap;
use std::fmt;
use std::net::ToSocketAddrs;
use std::path::PathBuf;
use std::sync::Arc;

use millstream_hadoop_config::HadoopConfiguration;
use millstream_security::{Authority, CLUSTER_LIFETIME, Credentials, Role, SecurityError};
use millstream_types::TaskManagerId;
use prost::Message;

use crate::credentials::{CredentialsError, HadoopCredentials};
use crate::ids::{ContainerId, IdError};
use crate::launch::WorkerLaunch;
use crate::launch_script::{LinkName, UnsafeName, VariableName, check_user, quoted, variables};
use crate::options::{MASTER_ENVIRONMENT, MASTER_ENVIRONMENT_OLD, WORKER_ENVIRONMENT};
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
/// Where user code finds Hadoop's configuration, in the container's directory.
pub const HADOOP_CONF: &str = "hadoop-conf";
/// Temporary files, in the container's directory.
pub const TEMPORARY: &str = "tmp";

const VERSION: u32 = 1;
const MASTER: &str = "millstream.master";
const WORKER: &str = "millstream.worker";
const AUTHORITY: &str = "millstream.authority";
const IDENTITY: &str = "millstream.identity";
/// Environment of every container, unless the configuration says otherwise: each further arena of
/// the allocator would reserve 64 MB of the virtual memory that NodeManagers count.
const ARENAS_VARIABLE: &str = "MALLOC_ARENA_MAX";
const ARENAS: u32 = 2;

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
        /// The damage.
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

/// The environment of a process in its container.
#[derive(Debug)]
pub struct Surroundings {
    /// Its tokens and secrets.
    pub credentials: HadoopCredentials,
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
        let credentials = HadoopCredentials::decode(&bytes)
            .map_err(|source| ContainerError::Credentials { file, source })?;
        let (host, dir) = (variable("NM_HOST")?, PathBuf::from(variable("PWD")?));
        Ok(Self { credentials, id, host, dir })
    }

    fn message<M: Message + Default>(&self, alias: &'static str) -> Result<M, ContainerError> {
        let bytes = self.credentials.secret(alias).ok_or(ContainerError::Foreign(alias))?;
        M::decode(bytes).map_err(|_| ContainerError::Foreign(alias))
    }

    /// The JobManager's start parameters.
    ///
    /// # Errors
    /// The container is not a JobManager's, or was described by another version.
    pub fn master(&self) -> Result<Master, ContainerError> {
        let master: Master = self.message(MASTER)?;
        match master.version {
            VERSION => Ok(master),
            other => Err(ContainerError::Version(other)),
        }
    }

    /// The TaskManager's start parameters.
    ///
    /// # Errors
    /// The container is not a TaskManager's, or was described by another version.
    pub fn worker(&self) -> Result<Worker, ContainerError> {
        let worker: Worker = self.message(WORKER)?;
        match worker.version {
            VERSION => Ok(worker),
            other => Err(ContainerError::Version(other)),
        }
    }

    /// The authority that issues this cluster's certificates; only the JobManager has it.
    ///
    /// # Errors
    /// The container is not a JobManager's, or the authority's key is damaged.
    pub fn authority(&self) -> Result<Authority, ContainerError> {
        let bytes = self.credentials.secret(AUTHORITY).ok_or(ContainerError::Foreign(AUTHORITY))?;
        Ok(Authority::from_secret(bytes)?)
    }

    /// The certificate and key by which a TaskManager identifies itself.
    ///
    /// # Errors
    /// The container is not a TaskManager's, or its key is damaged.
    pub fn identity(&self) -> Result<Credentials, ContainerError> {
        let bytes = self.credentials.secret(IDENTITY).ok_or(ContainerError::Foreign(IDENTITY))?;
        Ok(Credentials::from_secret(bytes)?)
    }

    /// The address to listen on: the loopback address if the node's name resolves to that, and
    /// otherwise all addresses, because the address of its name and that of its data network may
    /// differ.
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

/// The variables that the configuration sets for a JobManager, the programs that plan in its
/// container, and its jobs' coordinators.
///
/// # Errors
/// One has a name or a value that none can have.
pub fn master_variables(
    configuration: &BTreeMap<String, String>,
) -> Result<BTreeMap<VariableName, String>, UnsafeName> {
    variables(configuration, &[MASTER_ENVIRONMENT.prefix, MASTER_ENVIRONMENT_OLD.prefix])
}

/// The variables that the configuration sets for TaskManagers and their tasks.
///
/// # Errors
/// One has a name or a value that none can have.
pub fn worker_variables(
    configuration: &BTreeMap<String, String>,
) -> Result<BTreeMap<VariableName, String>, UnsafeName> {
    variables(configuration, &[WORKER_ENVIRONMENT.prefix])
}

/// Checks the user's name and the environment variables, which reach a launch script.
///
/// # Errors
/// One of them holds a character that a shell would interpret.
pub fn check_launch(
    user: &str,
    configuration: &BTreeMap<String, String>,
) -> Result<(), UnsafeName> {
    check_user(user)?;
    for variables in [master_variables(configuration)?, worker_variables(configuration)?] {
        arenas(&variables)?;
    }
    Ok(())
}

/// The launch context of a JobManager. `files` are for it alone.
///
/// # Errors
/// A shell would read a name.
pub fn master_context(
    master: &Master,
    files: &[Resource],
    authority: &Authority,
    acls: &[(ApplicationAccessTypeProto, String)],
) -> Result<ContainerLaunchContextProto, UnsafeName> {
    let told = Master { version: VERSION, ..master.clone() };
    let secrets = vec![
        (MASTER.to_owned(), told.encode_to_vec()),
        (AUTHORITY.to_owned(), authority.to_secret().expose().clone()),
    ];
    let acls = acls.iter().map(|(kind, acl)| ApplicationAclMapProto {
        access_type: Some((*kind).into()),
        acl: Some(acl.clone()),
    });
    let variables = master_variables(&master.configuration)?;
    let resources = &[&master.resources, files];
    Ok(ContainerLaunchContextProto {
        application_ac_ls: acls.collect(),
        ..context("jobmanager", resources, secrets, &master.user, &variables)?
    })
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
        let variables = worker_variables(&told.configuration);
        let context = variables.and_then(|variables| {
            context("taskmanager", &[&self.master.resources], secrets, &told.user, &variables)
        });
        context.map_err(|error| error.to_string())
    }
}

/// Number of arenas of the allocator. NodeManagers set the variable too, so it stands in the
/// command, after their settings.
fn arenas(variables: &BTreeMap<VariableName, String>) -> Result<u32, UnsafeName> {
    let own = variables.iter().find(|(name, _)| name.as_str() == ARENAS_VARIABLE);
    own.map_or(Ok(ARENAS), |(_, value)| {
        let name = ARENAS_VARIABLE;
        value.parse().map_err(|_| UnsafeName::NoNumber { name, value: value.clone() })
    })
}

fn context(
    role: &str,
    resources: &[&[Resource]],
    secrets: Vec<(String, Vec<u8>)>,
    user: &str,
    variables: &BTreeMap<VariableName, String>,
) -> Result<ContainerLaunchContextProto, UnsafeName> {
    check_user(user)?;
    let arenas = arenas(variables)?;
    // NodeManagers look for `*stderr*` when a container fails, and quote its end.
    let command = format!(
        "{ARENAS_VARIABLE}={arenas} exec ./{ENGINE} yarn-{role} --log-file <LOG_DIR>/{role}.log \
         1><LOG_DIR>/{role}.out 2><LOG_DIR>/{role}.stderr"
    );
    let user = ("HADOOP_USER_NAME", user);
    let own = variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let environment = own.chain([user]).map(|(key, value)| StringStringMapProto {
        key: Some(key.to_owned()),
        value: Some(quoted(value)),
    });
    let credentials = HadoopCredentials { tokens: Vec::new(), secrets };
    let resources = resources.iter().flat_map(|resources| resources.iter());
    Ok(ContainerLaunchContextProto {
        local_resources: resources.map(local_resource).collect::<Result<_, _>>()?,
        tokens: Some(credentials.encode()),
        environment: environment.collect(),
        command: vec![command],
        ..ContainerLaunchContextProto::default()
    })
}

/// A file as NodeManagers are told of it. The launch script holds the link and, as the end of a
/// path on the node, the name of the file itself.
fn local_resource(resource: &Resource) -> Result<StringLocalResourceMapProto, UnsafeName> {
    let link = LinkName::new(&resource.link)?;
    LinkName::new(resource.uri.rsplit('/').next().unwrap_or_default())?;
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
    Ok(StringLocalResourceMapProto { key: Some(link.to_string()), value: Some(value) })
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
        let context = master_context(&master, &[], &authority, &[]).unwrap();
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
        let credentials = HadoopCredentials::decode(context.tokens()).unwrap();
        let told = Master::decode(credentials.secret(MASTER).unwrap()).unwrap();
        assert_eq!((told.version, &told.configuration), (VERSION, &master.configuration));
        // Text that a launch script cannot hold is refused, from any source.
        let with = |change: &dyn Fn(&mut Master, &mut Resource)| {
            let uri = "hdfs://nn:8020/apps/x".to_owned();
            let mut file = Resource { link: "x".to_owned(), uri, ..Resource::default() };
            let mut changed = master.clone();
            change(&mut changed, &mut file);
            changed.resources = vec![file];
            master_context(&changed, &[], &authority, &[]).map_err(|error| error.to_string())
        };
        with(&|_, _| {}).unwrap();
        let bad = "x$(touch PWNED)";
        assert!(with(&|_, file| file.link = bad.to_owned()).unwrap_err().contains("PWNED"));
        let uri = format!("hdfs://nn:8020/apps/{bad}");
        assert!(with(&|_, file| file.uri.clone_from(&uri)).unwrap_err().contains("PWNED"));
        assert!(with(&|master, _| master.user = bad.to_owned()).unwrap_err().contains("the user"));
        let set = |name: &str, value: &str| {
            let (key, value) = (format!("containerized.master.env.{name}"), value.to_owned());
            with(&|master, _| {
                master.configuration.insert(key.clone(), value.clone());
            })
        };
        assert!(set(bad, "").unwrap_err().contains("no name of an environment variable"));
        assert!(set("MALLOC_ARENA_MAX", "1; x").unwrap_err().contains("MALLOC_ARENA_MAX"));
        let four = set("MALLOC_ARENA_MAX", "4").unwrap();
        assert!(four.command[0].starts_with("MALLOC_ARENA_MAX=4 exec"), "{:?}", four.command);
    }

    #[test]
    fn workers_are_told_where_their_master_is() {
        let master = Arc::new(Master { user: "alice".to_owned(), ..Master::default() });
        let authority = Arc::new(Authority::generate("application_1_0001").unwrap());
        let workers = TaskManagers::new(master, authority, "node", 4711);
        let context = workers.context(&TaskManagerId::new("c"), "other").unwrap();
        let credentials = HadoopCredentials::decode(context.tokens()).unwrap();
        let told = Worker::decode(credentials.secret(WORKER).unwrap()).unwrap();
        assert_eq!(told.configuration["jobmanager.rpc.address"], "node");
        assert_eq!(told.configuration["jobmanager.rpc.port"], "4711");
        assert!(credentials.secret(MASTER).is_none() && credentials.tokens.is_empty());
        assert!(credentials.secret(AUTHORITY).is_none());
        let identity = credentials.secret(IDENTITY).unwrap();
        let identity = Credentials::from_secret(identity).unwrap();
        assert_eq!(identity.identity().to_string(), "millstream://application_1_0001/worker/c");
    }
}
