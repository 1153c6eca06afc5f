//! YARN: its targets, its sessions, and the processes of its containers.

mod containers;
mod files;
mod properties_file;

use anyhow::{Context as _, Result, anyhow};
use millstream_config::{ConfigOption, Configuration, OptionTable};
use millstream_hadoop_config::user_name;
use millstream_rm_driver::{ClusterDeployer, ClusterId, DeployError};
use millstream_rm_yarn::cluster_deployer::{
    YarnDeployer, hadoop, resource_managers, staging_directory,
};
use millstream_rm_yarn::ids::ApplicationId;
use millstream_rm_yarn::options;
use millstream_storage::FilePath;

use self::properties_file::{PropertiesFile, Session};
use super::{Driver, EntryPoint, Sessions};

/// See the module.
#[derive(Debug)]
pub(crate) struct Yarn;

impl Driver for Yarn {
    fn name(&self) -> &'static str {
        "yarn"
    }

    fn options(&self) -> OptionTable {
        options::TABLE
    }

    fn id_option(&self) -> &'static ConfigOption<Option<String>> {
        &options::YARN_APPLICATION_ID
    }

    fn id_example(&self) -> &'static str {
        "application_..."
    }

    fn cluster_id(&self, text: &str) -> Result<ClusterId> {
        let id: ApplicationId = text.parse().context(options::YARN_APPLICATION_ID.key())?;
        Ok(ClusterId::new(id.to_string()))
    }

    fn deployer(
        &self,
        configuration: &Configuration,
        cluster: Option<&ClusterId>,
    ) -> Result<Box<dyn ClusterDeployer>> {
        Ok(Box::new(connect(configuration, cluster)?))
    }

    fn sessions(&self, configuration: &Configuration) -> Result<Box<dyn Sessions>> {
        let file = PropertiesFile::of(configuration)?;
        Ok(Box::new(KnownSessions { file, configuration: configuration.clone() }))
    }

    fn entry_points(&self) -> &'static [(&'static str, EntryPoint)] {
        &[
            ("yarn-jobmanager", containers::job_manager),
            ("yarn-taskmanager", containers::task_manager),
        ]
    }
}

/// A deployer. A session may have been staged elsewhere than this command would.
pub(crate) fn connect(
    configuration: &Configuration,
    cluster: Option<&ClusterId>,
) -> Result<YarnDeployer> {
    let staging = match cluster {
        Some(id) => PropertiesFile::of(configuration)?.find(application(id)?).staging,
        None => None,
    };
    let staging = staging.map(|staging| FilePath::from(staging.as_str()));
    Ok(YarnDeployer::connect(configuration, staging, |hadoop, path, user| {
        files::open(hadoop, path, user).map_err(|error| format!("{error:#}"))
    })?)
}

fn application(id: &ClusterId) -> Result<ApplicationId> {
    Ok(id.as_str().parse()?)
}

fn cluster(id: ApplicationId) -> ClusterId {
    ClusterId::new(id.to_string())
}

/// The sessions in the properties file, for commands of this configuration.
struct KnownSessions {
    file: PropertiesFile,
    configuration: Configuration,
}

impl KnownSessions {
    /// Addresses of the ResourceManagers of this command; none if Hadoop's configuration cannot be
    /// read, whose error is reported when it is needed.
    fn resource_managers(&self) -> Vec<String> {
        hadoop(&self.configuration).map(|it| resource_managers(&it)).unwrap_or_default()
    }

    /// A session that this command has used, as later commands must know it.
    fn described(&self, id: ApplicationId) -> Session {
        let usual = || {
            let hadoop = hadoop(&self.configuration).ok()?;
            let staging = staging_directory(&self.configuration, &hadoop, &user_name()).ok()?;
            Some(staging.to_string())
        };
        let addresses = self.resource_managers();
        Session {
            id,
            staging: self.file.find(id).staging.or_else(usual),
            resource_manager: (!addresses.is_empty()).then(|| addresses.join(",")),
        }
    }
}

impl std::fmt::Display for KnownSessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.file.fmt(f)
    }
}

impl Sessions for KnownSessions {
    fn last(&self) -> Result<Option<ClusterId>> {
        let last = self.file.last(&self.resource_managers())?;
        Ok(last.map(|session| cluster(session.id)))
    }

    fn remember(&self, session: &ClusterId) {
        if let Ok(id) = application(session) {
            self.file.remember(&self.described(id));
        }
    }

    fn forget(&self, session: &ClusterId) -> Option<ClusterId> {
        self.file.forget(application(session).ok()?).map(cluster)
    }

    fn explain_unknown(&self, session: &ClusterId, error: DeployError) -> anyhow::Error {
        let file = &self.file;
        let there = application(session).ok().and_then(|id| file.find(id).resource_manager);
        let there = there.map(|addresses| format!(" of the ResourceManager at {addresses}"));
        anyhow!(
            "{error}; {file} names it as the last session{}, and this command asks the one at {}: \
             set HADOOP_CONF_DIR for that cluster, name another session with -D{}=…, give each \
             cluster a file of its own with {}, or remove {file}",
            there.unwrap_or_default(),
            self.resource_managers().join(","),
            options::YARN_APPLICATION_ID.key(),
            options::YARN_PROPERTIES_FILE_LOCATION.key(),
        )
    }
}
