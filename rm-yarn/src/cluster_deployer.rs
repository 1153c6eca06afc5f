//! YARN as the command line knows it: a [`ClusterDeployer`] made of Hadoop's configuration and
//! ours.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use millstream_config::Configuration;
use millstream_hadoop_config::{HadoopConfiguration, user_name};
use millstream_rm_driver::{
    ClusterDeployer, ClusterId, ClusterReport, DeployError, Deployment, ManagerWords, Progress,
    Running,
};
use millstream_security::Credentials;
use millstream_storage::{FilePath, FileSystem};

use crate::application::{User, count, described};
use crate::client::YarnClient;
use crate::deployer::{self, Deployer, YarnDeployError};
use crate::ids::{ApplicationId, IdError};
use crate::options::{self, HADOOP_PROPERTIES, YARN_PROPERTIES};
use crate::resource_manager::addresses;
use crate::staging::{Cluster, Elsewhere, Staging};

type Result<T> = std::result::Result<T, YarnDeployError>;

/// Patience of a command with a ResourceManager that does not answer.
const PATIENCE: Duration = Duration::from_secs(20);

fn refused<T>(sentence: String) -> Result<T> {
    Err(YarnDeployError::Refused(sentence))
}

/// Finds the file system of a path for a user, with this configuration of Hadoop.
pub type FileSystems =
    fn(&HadoopConfiguration, &FilePath, &str) -> std::result::Result<Arc<dyn FileSystem>, String>;

/// Deploys on the YARN cluster that Hadoop's configuration describes.
pub struct YarnDeployer {
    configuration: Configuration,
    hadoop: HadoopConfiguration,
    user: String,
    client: YarnClient,
    files: Arc<dyn FileSystem>,
    elsewhere: Box<Elsewhere>,
    staging: FilePath,
    cluster: Cluster,
    /// The credentials of the cluster that this deployer has made.
    made: Option<(ApplicationId, Credentials)>,
}

impl fmt::Debug for YarnDeployer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("YarnDeployer").field("staging", &self.staging).finish_non_exhaustive()
    }
}

impl YarnDeployer {
    /// Reads Hadoop's configuration; connects with the first call. Files are staged in `staging`,
    /// or else in the directory that the configuration names.
    ///
    /// # Errors
    /// Hadoop's configuration or ours cannot be used.
    pub fn connect(
        configuration: &Configuration,
        staging: Option<FilePath>,
        files: FileSystems,
    ) -> Result<Self> {
        Self::new(configuration, hadoop(configuration)?, user_name(), staging, files)
    }

    /// The same as this user, on the cluster that this configuration of Hadoop describes.
    ///
    /// # Errors
    /// Hadoop's configuration or ours cannot be used.
    pub fn new(
        configuration: &Configuration,
        hadoop: HadoopConfiguration,
        user: String,
        staging: Option<FilePath>,
        files: FileSystems,
    ) -> Result<Self> {
        let staging = match staging {
            Some(staging) => staging,
            None => staging_directory(configuration, &hadoop, &user)?,
        };
        hadoop.refuse_kerberos()?;
        let policy = hadoop.get_or("yarn.resourcemanager.application-https.policy", "NONE");
        if policy.eq_ignore_ascii_case("STRICT") {
            return refused(
                "yarn.resourcemanager.application-https.policy is STRICT, but what the web proxy \
                 sees of a cluster is plain HTTP: ask for LENIENT or NONE"
                    .to_owned(),
            );
        }
        let transport = configuration.get(&options::YARN_CLIENT_TRANSPORT)?;
        let client = YarnClient::new(&hadoop, &user, transport, PATIENCE)?;
        let mut for_files = hadoop.clone();
        let replication = count(configuration, &options::YARN_FILE_REPLICATION, 1)?;
        if let Some(replication) = replication {
            for_files.set("dfs.replication", replication.to_string());
        }
        let found = files(&for_files, &staging, &user).map_err(YarnDeployError::Refused)?;
        let cluster = Cluster::of(&hadoop)?;
        let other_user = user.clone();
        let elsewhere: Box<Elsewhere> = Box::new(move |path| files(&for_files, path, &other_user));
        Ok(Self {
            configuration: configuration.clone(),
            hadoop,
            user,
            client,
            files: found,
            elsewhere,
            staging,
            cluster,
            made: None,
        })
    }

    /// A client of the ResourceManager, for what only YARN can be asked.
    pub fn client(&mut self) -> &mut YarnClient {
        &mut self.client
    }

    fn deployer(&mut self) -> Deployer<'_> {
        let cluster = self.cluster.clone();
        let staging = Staging::new(self.files.as_ref(), &self.staging, &self.user, cluster);
        Deployer::new(&mut self.client, staging.elsewhere(self.elsewhere.as_ref()))
    }

    async fn deploy(&mut self, deployment: Deployment) -> Result<ApplicationId> {
        let user = User { name: &self.user, hadoop: &self.hadoop };
        let described = described(user, &self.configuration, deployment)?;
        let (id, credentials) = self.deployer().submit(described).await?;
        self.made = Some((id, credentials));
        Ok(id)
    }

    async fn wait(&mut self, id: ApplicationId, progress: Progress<'_>) -> Result<Running> {
        let made = self.made.clone();
        let staging = self.staging.clone();
        let mut deployer = self.deployer();
        let up = deployer.wait_until_up(id, progress).await?;
        let credentials = match made {
            Some((own, credentials)) if own == id => credentials,
            _ => deployer.credentials(id).await.map_err(|error| YarnDeployError::NoSecret {
                what: format!(
                    "what its owner shows to {id} cannot be read below {staging}, which {} names",
                    options::YARN_STAGING_DIRECTORY.key()
                ),
                source: Box::new(error),
            })?,
        };
        Ok(Running { credentials: Some(credentials), ..up })
    }
}

fn application(id: &ClusterId) -> std::result::Result<ApplicationId, DeployError> {
    id.as_str().parse().map_err(|error: IdError| DeployError::Refused(error.into()))
}

impl ClusterDeployer for YarnDeployer {
    fn words(&self) -> ManagerWords {
        ManagerWords {
            system: "YARN",
            manager: "the ResourceManager",
            cluster: "application",
            status_command: "yarn application -status",
            kill_command: "yarn application -kill",
        }
    }

    fn silence_max(&self) -> Duration {
        self.client.silence_max()
    }

    fn submit(
        &mut self,
        deployment: Deployment,
    ) -> BoxFuture<'_, std::result::Result<ClusterId, DeployError>> {
        Box::pin(async move {
            let id = self.deploy(deployment).await?;
            Ok(ClusterId::new(id.to_string()))
        })
    }

    fn wait_until_up<'a>(
        &'a mut self,
        id: &'a ClusterId,
        progress: Progress<'a>,
    ) -> BoxFuture<'a, std::result::Result<Running, DeployError>> {
        Box::pin(async move { Ok(self.wait(application(id)?, progress).await?) })
    }

    fn report<'a>(
        &'a mut self,
        id: &'a ClusterId,
    ) -> BoxFuture<'a, std::result::Result<ClusterReport, DeployError>> {
        Box::pin(async move {
            let report = self.client.report(application(id)?).await;
            let report = report.map_err(YarnDeployError::from)?;
            Ok(match deployer::is_over(&report) {
                true => ClusterReport::Over(deployer::end_of(&report)),
                false => ClusterReport::Alive,
            })
        })
    }

    fn kill<'a>(
        &'a mut self,
        id: &'a ClusterId,
        why: &'a str,
    ) -> BoxFuture<'a, std::result::Result<(), DeployError>> {
        Box::pin(async move { Ok(self.deployer().kill(application(id)?, why).await?) })
    }

    fn sweep(&mut self) -> BoxFuture<'_, std::result::Result<(), DeployError>> {
        Box::pin(async move { Ok(self.deployer().sweep().await?) })
    }
}

/// Hadoop's configuration, with what ours says over it.
///
/// # Errors
/// There is none, it cannot be read, or two keys of ours set one of its properties.
pub fn hadoop(configuration: &Configuration) -> Result<HadoopConfiguration> {
    let mut hadoop = HadoopConfiguration::from_environment()?;
    let (of_hadoop, of_yarn) = (HADOOP_PROPERTIES.prefix, YARN_PROPERTIES.prefix);
    for (key, value) in configuration.pairs() {
        if let Some(name) = key.strip_prefix(of_hadoop) {
            hadoop.set(name, value);
        } else if let Some(name) = key.strip_prefix(of_yarn) {
            refuse_two_values(configuration, key, value, &format!("{of_hadoop}yarn.{name}"))?;
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
        Some(there) if there != value => refused(format!(
            "{key} is {value} and {other} is {there}, but both set one property of Hadoop: leave \
             one of them out"
        )),
        _ => Ok(()),
    }
}

/// Where the ResourceManagers are; nothing if the configuration does not say it.
#[must_use]
pub fn resource_managers(hadoop: &HadoopConfiguration) -> Vec<String> {
    addresses(hadoop, "yarn.resourcemanager.address", 8032).unwrap_or_default()
}

/// `yarn.staging-directory`, or the user's home on the default file system. A relative path begins
/// in that home, as everywhere on HDFS.
///
/// # Errors
/// Hadoop names no default file system, or the path is none.
pub fn staging_directory(
    configuration: &Configuration,
    hadoop: &HadoopConfiguration,
    user: &str,
) -> Result<FilePath> {
    let default = hadoop.get("fs.defaultFS").ok_or_else(|| {
        let sentence = "fs.defaultFS is not set in core-site.xml: containers need a file system \
                        that all nodes reach";
        YarnDeployError::Refused(sentence.to_owned())
    })?;
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
            return refused(format!(
                "{key}: {text} is no path: write {default}/PATH or an absolute one"
            ));
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
            let configuration = options::configuration([(one, "1"), (other, value)]).unwrap();
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
            let configuration = options::configuration(pairs).unwrap();
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
