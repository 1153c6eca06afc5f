//! YARN, as commands see it.

pub(crate) mod application;
pub(crate) mod containers;
mod deployment;
pub(crate) mod per_job;
pub(crate) mod properties_file;
pub(crate) mod session;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use millstream_config::{Configuration, YarnTransport, options};
use millstream_hadoop_config::{HadoopConfiguration, user_name};
use millstream_rm_yarn::client::{Transport, YarnClient};
use millstream_rm_yarn::deployer::{self, Deployed, Deployer};
use millstream_rm_yarn::ids::ApplicationId;
use millstream_rm_yarn::proto::yarn::ApplicationReportProto;
use millstream_rm_yarn::staging::Staging;
use millstream_security::Credentials;
use millstream_storage::{FilePath, FileSystem};
use tokio::time::sleep;

pub(crate) use deployment::{Purpose, deployment};

use crate::console;
use crate::rest::RestClient;

/// How long a command waits for a ResourceManager that does not answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often a command that waits for a cluster asks YARN whether it is still there.
const END_INTERVAL: Duration = Duration::from_secs(1);
/// Properties of Hadoop below this key are set over what its files say; those below the second are
/// properties whose names begin with `yarn.`.
const HADOOP_PREFIX: &str = "flink.hadoop.";
const YARN_PREFIX: &str = "flink.yarn.";

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
        let mut hadoop = HadoopConfiguration::from_environment()?;
        for (key, value) in configuration.pairs() {
            if let Some(name) = key.strip_prefix(HADOOP_PREFIX) {
                hadoop.set(name, value);
            } else if let Some(name) = key.strip_prefix(YARN_PREFIX) {
                hadoop.set(format!("yarn.{name}"), value);
            }
        }
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
        let staging = staging_directory(configuration, &hadoop, &user)?;
        let mut for_files = hadoop.clone();
        let replication = configuration.get(&options::YARN_FILE_REPLICATION)?;
        if replication > 0 {
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

    /// A client of the cluster that runs as this application.
    pub(crate) async fn find(
        &mut self,
        id: ApplicationId,
        configuration: &Configuration,
    ) -> Result<RestClient> {
        let report = self.client.report(id).await?;
        if deployer::is_over(&report) {
            return Err(has_ended(id, &report));
        }
        let mut progress = |text: &str| console::warn(format_args!("{text}"));
        let mut deployer = self.deployer();
        let up = deployer.wait_until_up(id, &mut progress).await?;
        let credentials = deployer.credentials(id).await?;
        client_of(&up, &credentials, configuration)
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

/// `yarn.staging-directory`, or the user's home on the default file system.
fn staging_directory(
    configuration: &Configuration,
    hadoop: &HadoopConfiguration,
    user: &str,
) -> Result<FilePath> {
    let default = hadoop.get("fs.defaultFS").context(
        "fs.defaultFS is not set in core-site.xml: containers need a file system that all nodes \
         reach",
    )?;
    let named = configuration.get(&options::YARN_STAGING_DIRECTORY)?;
    let text = match named {
        Some(text) if text.contains(":/") => text,
        Some(path) => format!("{}{path}", default.trim_end_matches('/')),
        None => format!("{}/user/{user}", default.trim_end_matches('/')),
    };
    Ok(FilePath::from(text))
}
