//! YARN, as commands see it.

pub(crate) mod application;
pub(crate) mod containers;
mod deployment;
pub(crate) mod per_job;
pub(crate) mod properties_file;
pub(crate) mod session;
mod vigil;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use millstream_config::{Configuration, YarnTransport, options};
use millstream_hadoop_config::{HadoopConfiguration, user_name};
use millstream_rm_yarn::client::{ClientError, Transport, YarnClient};
use millstream_rm_yarn::deployer::{self, Deployed, Deployer};
use millstream_rm_yarn::ids::ApplicationId;
use millstream_rm_yarn::proto::yarn::ApplicationReportProto;
use millstream_rm_yarn::resource_manager::addresses;
use millstream_rm_yarn::staging::Staging;
use millstream_security::Credentials;
use millstream_storage::{FilePath, FileSystem};
use tokio::time::{sleep, timeout};

pub(crate) use deployment::{Purpose, deployment};
use properties_file::{PropertiesFile, Session};

use crate::console;
use crate::rest::RestClient;

/// How long a command waits for a ResourceManager that does not answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a deployment may look for what others left: its own cluster waits for its heartbeats.
const SWEEP_PATIENCE: Duration = Duration::from_secs(10);
/// How often a command that waits for a cluster asks YARN whether it is still there.
const END_INTERVAL: Duration = Duration::from_secs(1);
/// Properties of Hadoop below this key are set over what its files say; those below the second are
/// properties whose names begin with `yarn.`.
const HADOOP_PREFIX: &str = "flink.hadoop.";
const YARN_PREFIX: &str = "flink.yarn.";
/// Why options that belong to high availability do nothing.
pub(crate) const NO_HIGH_AVAILABILITY: &str =
    "it belongs to high availability, which this version does not have";

/// The YARN cluster that Hadoop's configuration describes.
pub(crate) struct Yarn {
    pub(crate) hadoop: HadoopConfiguration,
    pub(crate) user: String,
    pub(crate) client: YarnClient,
    files: Arc<dyn FileSystem>,
    staging: FilePath,
}

impl Yarn {
    /// Reads Hadoop's configuration; it connects when something is asked.
    pub(crate) fn connect(configuration: &Configuration) -> Result<Self> {
        let hadoop = hadoop(configuration)?;
        let staging = staging_directory(configuration, &hadoop, &user_name())?;
        Self::new(configuration, hadoop, staging)
    }

    /// The same for a session, which may have been staged elsewhere than this command would.
    pub(crate) fn of_session(configuration: &Configuration, session: &Session) -> Result<Self> {
        let hadoop = hadoop(configuration)?;
        let staging = match &session.staging {
            Some(staging) => FilePath::from(staging.as_str()),
            None => staging_directory(configuration, &hadoop, &user_name())?,
        };
        Self::new(configuration, hadoop, staging)
    }

    fn new(
        configuration: &Configuration,
        hadoop: HadoopConfiguration,
        staging: FilePath,
    ) -> Result<Self> {
        hadoop.refuse_kerberos()?;
        let policy = hadoop.get_or("yarn.resourcemanager.application-https.policy", "NONE");
        if policy.eq_ignore_ascii_case("STRICT") {
            bail!(
                "yarn.resourcemanager.application-https.policy is STRICT, but what the web proxy \
                 sees of a cluster is plain HTTP: ask for LENIENT or NONE"
            );
        }
        let user = user_name();
        let transport = match configuration.get(&options::YARN_CLIENT_TRANSPORT)? {
            YarnTransport::Rpc => Transport::Rpc,
            YarnTransport::Rest => Transport::Rest,
        };
        let client = YarnClient::new(&hadoop, &user, transport, PATIENCE)?;
        let mut for_files = hadoop.clone();
        let replication = deployment::count(configuration, &options::YARN_FILE_REPLICATION, 1)?;
        if let Some(replication) = replication {
            for_files.set("dfs.replication", replication.to_string());
        }
        let files = containers::files(&for_files, &staging, &user)?;
        Ok(Self { hadoop, user, client, files, staging })
    }

    /// Deploys here.
    pub(crate) fn deployer(&mut self) -> Deployer<'_> {
        let staging = Staging::new(self.files.as_ref(), &self.staging, &self.user);
        Deployer::new(&mut self.client, staging)
    }

    /// A path with its file system named: containers may have another default.
    pub(crate) fn qualified(&self, path: FilePath) -> FilePath {
        let default = FilePath::from(self.hadoop.get_or("fs.defaultFS", ""));
        match path.authority().is_empty() && path.scheme() == default.scheme() {
            true => FilePath::remote(
                default.scheme(),
                default.authority(),
                &path.path().display().to_string(),
            ),
            false => path,
        }
    }

    /// What later commands must know of a session that was deployed from here.
    pub(crate) fn session(&self, id: ApplicationId) -> Session {
        let addresses = resource_managers(&self.hadoop);
        Session {
            id,
            staging: Some(self.staging.to_string()),
            resource_manager: (!addresses.is_empty()).then(|| addresses.join(",")),
        }
    }

    /// Removes what earlier applications left, which matters less than what was asked for.
    pub(crate) async fn sweep(&mut self) {
        let swept = timeout(SWEEP_PATIENCE, self.deployer().sweep()).await;
        if let Ok(Err(error)) = swept {
            console::warn(format_args!(
                "what earlier applications left could not be swept: {error}"
            ));
        }
    }

    /// The cluster that runs as this application, once it is up.
    pub(crate) async fn find(
        &mut self,
        id: ApplicationId,
        configuration: &Configuration,
    ) -> Result<Found> {
        let named = Naming::of(configuration, id)?;
        let report = match self.client.report(id).await {
            Ok(report) => report,
            Err(error) if error.is_unknown() => return Err(named.unknown(error, &self.hadoop)),
            Err(error) => return Err(named.unheard(error)),
        };
        if deployer::is_over(&report) {
            return Err(named.over(has_ended(id, &report)));
        }
        let mut progress = |text: &str| console::warn(format_args!("{text}"));
        let staging = self.staging.clone();
        let mut deployer = self.deployer();
        let up = deployer.wait_until_up(id, &mut progress).await?;
        let credentials = deployer.credentials(id).await.with_context(|| {
            format!(
                "what its owner shows to {id} cannot be read below {staging}, which \
                 {} names",
                options::YARN_STAGING_DIRECTORY.key()
            )
        })?;
        let client = client_of(&up, &credentials, configuration)?;
        Ok(Found { client, tracking_url: up.tracking_url })
    }

    /// Waits for the end of an application that is still needed; how it ended.
    pub(crate) async fn end_of(&mut self, id: ApplicationId) -> anyhow::Error {
        loop {
            sleep(END_INTERVAL).await;
            if let Ok(report) = self.client.report(id).await
                && deployer::is_over(&report)
            {
                return has_ended(id, &report);
            }
        }
    }
}

/// A cluster that runs.
pub(crate) struct Found {
    pub(crate) client: RestClient,
    pub(crate) tracking_url: String,
}

/// Hadoop's configuration, with what ours says over it.
fn hadoop(configuration: &Configuration) -> Result<HadoopConfiguration> {
    let mut hadoop = HadoopConfiguration::from_environment()?;
    for (key, value) in configuration.pairs() {
        if let Some(name) = key.strip_prefix(HADOOP_PREFIX) {
            hadoop.set(name, value);
        } else if let Some(name) = key.strip_prefix(YARN_PREFIX) {
            refuse_two_values(configuration, key, value, &format!("{HADOOP_PREFIX}yarn.{name}"))?;
            hadoop.set(format!("yarn.{name}"), value);
        }
    }
    Ok(hadoop)
}

/// One property of Hadoop has two names here, and of two values one would be ignored.
fn refuse_two_values(
    configuration: &Configuration,
    key: &str,
    value: &str,
    other: &str,
) -> Result<()> {
    match configuration.text(other) {
        Some(there) if there != value => bail!(
            "{key} is {value} and {other} is {there}, but both set one property of Hadoop: leave \
             one of them out"
        ),
        _ => Ok(()),
    }
}

/// Where the ResourceManagers are; nothing if the configuration does not say it.
fn resource_managers(hadoop: &HadoopConfiguration) -> Vec<String> {
    addresses(hadoop, "yarn.resourcemanager.address", 8032).unwrap_or_default()
}

/// The last session that the properties file names for the cluster at hand.
pub(crate) fn last_session(configuration: &Configuration) -> Result<Option<Session>> {
    let file = PropertiesFile::of(configuration)?;
    // What is wrong with Hadoop's configuration is told when it is needed.
    let addresses = hadoop(configuration).map(|it| resource_managers(&it)).unwrap_or_default();
    file.last(&addresses)
}

/// Who named an application: the user, or the properties file.
struct Naming {
    id: ApplicationId,
    file: PropertiesFile,
    by_user: bool,
}

impl Naming {
    fn of(configuration: &Configuration, id: ApplicationId) -> Result<Self> {
        let by_user = configuration.get(&options::YARN_APPLICATION_ID)?.is_some();
        let file = PropertiesFile::of(configuration)?;
        Ok(Self { id, file, by_user })
    }

    /// The session is over: the file forgets it.
    fn over(&self, error: anyhow::Error) -> anyhow::Error {
        let (file, earlier) = (&self.file, self.file.forget(self.id));
        if self.by_user {
            return error;
        }
        let next = match earlier {
            Some(earlier) => format!("later commands use {earlier}, which was started before"),
            None => format!(
                "start another with yarn-session.sh, or name a cluster with -m host:port or -D{}=…",
                options::YARN_APPLICATION_ID.key()
            ),
        };
        anyhow!("{error:#}; {file} named it as the last session, and does not any more: {next}")
    }

    /// The ResourceManager does not know it: it may be another cluster's.
    fn unknown(&self, error: ClientError, hadoop: &HadoopConfiguration) -> anyhow::Error {
        let file = &self.file;
        if self.by_user {
            return error.into();
        }
        let there = file.find(self.id).resource_manager;
        let there = there.map(|addresses| format!(" of the ResourceManager at {addresses}"));
        anyhow!(
            "{error}; {file} names it as the last session{}, and this command asks the one at {}: \
             set HADOOP_CONF_DIR for that cluster, name another session with -D{}=…, give each \
             cluster a file of its own with {}, or remove {file}",
            there.unwrap_or_default(),
            resource_managers(hadoop).join(","),
            options::YARN_APPLICATION_ID.key(),
            options::YARN_PROPERTIES_FILE_LOCATION.key(),
        )
    }

    /// The ResourceManager does not answer.
    fn unheard(&self, error: ClientError) -> anyhow::Error {
        let (id, file) = (self.id, &self.file);
        if self.by_user {
            return error.into();
        }
        anyhow!("{error}; {id} was looked for because {file} names it: -t remote ignores that file")
    }
}

fn has_ended(id: ApplicationId, report: &ApplicationReportProto) -> anyhow::Error {
    let why = deployer::why_ended(report);
    anyhow!("{id} has ended ({}): {why}", deployer::state(report))
}

/// A client of a cluster that is up.
pub(crate) fn client_of(
    up: &Deployed,
    credentials: &Credentials,
    configuration: &Configuration,
) -> Result<RestClient> {
    RestClient::at(&up.host, up.port, configuration)?.secured(credentials)
}

/// `yarn.staging-directory`, or the user's home on the default file system. A relative path begins
/// in that home, as everywhere on HDFS.
fn staging_directory(
    configuration: &Configuration,
    hadoop: &HadoopConfiguration,
    user: &str,
) -> Result<FilePath> {
    let default = hadoop.get("fs.defaultFS").context(
        "fs.defaultFS is not set in core-site.xml: containers need a file system that all nodes \
         reach",
    )?;
    let default = default.trim_end_matches('/');
    let key = options::YARN_STAGING_DIRECTORY.key();
    let text = configuration.get(&options::YARN_STAGING_DIRECTORY)?.unwrap_or_default();
    let scheme = text.split('/').next().and_then(|first| first.split_once(':'));
    Ok(FilePath::from(match (text.trim(), scheme) {
        ("", _) => format!("{default}/user/{user}"),
        // `hdfs:/path` is on the default file system.
        (text, Some((scheme, ""))) => match text.strip_prefix(&format!("{scheme}://")) {
            Some(_) => text.to_owned(),
            None if default.starts_with(&format!("{scheme}://")) => {
                format!("{default}{}", text.get(scheme.len() + 1..).unwrap_or_default())
            }
            None => text.to_owned(),
        },
        (text, Some(_)) => {
            bail!("{key}: {text} is no path: write {default}/PATH or an absolute one")
        }
        (text, None) if text.starts_with('/') => format!("{default}{text}"),
        (text, None) => format!("{default}/user/{user}/{text}"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_names_of_one_property_must_agree() {
        let refused = |value: &str| {
            let (one, other) = ("flink.yarn.name", "flink.hadoop.yarn.name");
            let configuration = Configuration::from_pairs([(one, "1"), (other, value)]).unwrap();
            refuse_two_values(&configuration, one, "1", other).is_err()
        };
        assert!(refused("2") && !refused("1"));
    }

    #[test]
    fn a_staging_directory_is_absolute_on_a_file_system() {
        let mut hadoop = HadoopConfiguration::new();
        hadoop.set("fs.defaultFS", "hdfs://nn:8020/");
        let of = |text: &str| {
            let pairs = [("yarn.staging-directory", text)];
            let configuration = Configuration::from_pairs(pairs).unwrap();
            staging_directory(&configuration, &hadoop, "alice").map(|path| path.to_string())
        };
        for (text, expected) in [
            ("", "hdfs://nn:8020/user/alice"),
            ("staging", "hdfs://nn:8020/user/alice/staging"),
            ("a/b", "hdfs://nn:8020/user/alice/a/b"),
            ("/apps", "hdfs://nn:8020/apps"),
            ("hdfs:/apps", "hdfs://nn:8020/apps"),
            ("hdfs:///apps", "hdfs:///apps"),
            ("hdfs://other:1/apps", "hdfs://other:1/apps"),
        ] {
            assert_eq!(of(text).unwrap(), expected, "{text:?}");
        }
        let error = of("hdfs:apps").unwrap_err().to_string();
        assert!(error.contains("hdfs:apps is no path"), "{error}");
    }
}
