//! From the configuration to the application of YARN that is deployed.

use std::path::Path;
use std::time::Duration;

use millstream_config::{ConfigOption, Configuration, WorkerMemory, options as engine};
use millstream_hadoop_config::HadoopConfiguration;
use millstream_rm_driver::{ArtifactFile, Deployment, Purpose};
use millstream_storage::FilePath;
use millstream_types::ByteSize;

use crate::deployer::{ApplicationDescription, ContainerSize, YarnDeployError};
use crate::options;
use crate::proto::container::{Application, Job, Master, Session, master};
use crate::proto::yarn::ApplicationAccessTypeProto;

type Result<T> = std::result::Result<T, YarnDeployError>;

fn refused<T>(sentence: String) -> Result<T> {
    Err(YarnDeployError::Refused(sentence))
}

/// A user who deploys to the cluster that this Hadoop configuration describes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct User<'a> {
    pub(crate) name: &'a str,
    pub(crate) hadoop: &'a HadoopConfiguration,
}

impl User<'_> {
    /// A path with its file system named: containers may have another default.
    fn qualified(&self, path: FilePath) -> FilePath {
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

    /// A directory that is on the cluster: without a scheme it is on the default file system, and
    /// below the user's home if it is relative, as Hadoop reads paths.
    fn on_the_cluster(&self, text: &str) -> Result<FilePath> {
        let default = FilePath::from(self.hadoop.get_or("fs.defaultFS", ""));
        let named = FilePath::from(text);
        let Some(local) = named.local() else { return Ok(self.qualified(named)) };
        let is_shared = default.local().is_some();
        if text.starts_with("file:") && !is_shared {
            return refused(format!(
                "{text} is on the disk of this machine, and containers run on others: name a \
                 directory of the cluster's file system ({default}), or ship it (yarn.ship-files)"
            ));
        }
        let path = Path::new("/user").join(self.name).join(local);
        Ok(match is_shared {
            true => FilePath::from(path),
            false => {
                FilePath::remote(default.scheme(), default.authority(), &path.display().to_string())
            }
        })
    }
}

fn usual_name(purpose: &Purpose) -> &'static str {
    match purpose {
        Purpose::Session => "Millstream session cluster",
        Purpose::Job { .. } => "Millstream per-job cluster",
        Purpose::Application { .. } => "Millstream application cluster",
    }
}

/// The application that is this deployment.
pub(crate) fn described(
    user: User<'_>,
    configuration: &Configuration,
    deployment: Deployment,
) -> Result<ApplicationDescription> {
    let Deployment { purpose, attached, engine } = deployment;
    let name = configuration.get(&options::YARN_APPLICATION_NAME)?;
    let name = name.unwrap_or_else(|| usual_name(&purpose).to_owned());
    let (purpose, artifact, job_graph) = match purpose {
        Purpose::Session => (master::Purpose::Session(Session {}), None, None),
        Purpose::Job { job, graph, settings, artifact } => {
            let job = Job { job_id: job.as_bytes().to_vec(), settings: settings.to_vec() };
            (master::Purpose::Job(job), Some(artifact), Some(graph))
        }
        Purpose::Application { first_job, settings, artifact } => {
            let (first_job_id, settings) = (first_job.as_bytes().to_vec(), settings.to_vec());
            let application = Application { first_job_id, settings };
            (master::Purpose::Application(application), Some(artifact), None)
        }
    };
    let artifact = artifact.map(|artifact| match artifact {
        ArtifactFile::Staged(path) => ArtifactFile::Staged(user.qualified(path)),
        local @ ArtifactFile::Local(_) => local,
    });
    let pairs = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    let told = Master {
        configuration: configuration.pairs().map(pairs).collect(),
        hadoop: user.hadoop.pairs().map(pairs).collect(),
        attached,
        user: user.name.to_owned(),
        purpose: Some(purpose),
        ..Master::default()
    };
    refuse_more_attempts(configuration)?;
    refuse_rare_heartbeats(user, configuration)?;
    let priority = count(configuration, &options::YARN_APPLICATION_PRIORITY, 0)?;
    let kind = configuration.get(&options::YARN_APPLICATION_TYPE)?;
    let queue = configuration.get(&options::YARN_APPLICATION_QUEUE)?;
    Ok(ApplicationDescription {
        master: told,
        engine,
        ship_files: paths(user, &configuration.get(&options::YARN_SHIP_FILES)?),
        ship_archives: archives(user, configuration)?,
        provided: provided(user, configuration)?,
        artifact,
        job_graph,
        name,
        kind: kind.unwrap_or_else(|| "Millstream".to_owned()),
        queue: queue.unwrap_or_else(|| "default".to_owned()),
        tags: tags(configuration)?,
        priority,
        node_label: configuration.get(&options::YARN_APPLICATION_NODE_LABEL)?,
        acls: acls(configuration)?,
        rolled_logs: rolled_logs(configuration)?,
        master_size: master_size(configuration)?,
        worker_size: worker_size(configuration)?,
    })
}

/// The include and exclude patterns for the aggregation of rolled logs.
fn rolled_logs(configuration: &Configuration) -> Result<Option<(String, Option<String>)>> {
    let included = configuration.get(&options::YARN_ROLLED_LOGS_INCLUDE_PATTERN)?;
    let excluded = configuration.get(&options::YARN_ROLLED_LOGS_EXCLUDE_PATTERN)?;
    if included.is_none() && excluded.is_some() {
        return refused(format!(
            "{} excludes from what {} includes, which is nothing: set that too",
            options::YARN_ROLLED_LOGS_EXCLUDE_PATTERN.key(),
            options::YARN_ROLLED_LOGS_INCLUDE_PATTERN.key()
        ));
    }
    Ok(included.map(|included| (included, excluded)))
}

/// A second JobManager would know neither jobs nor clients. To YARN, 0 means its own default.
fn refuse_more_attempts(configuration: &Configuration) -> Result<()> {
    match configuration.get(&options::YARN_APPLICATION_ATTEMPTS)? {
        None | Some(1) => Ok(()),
        Some(attempts) => refused(format!(
            "{} is {attempts}, but another attempt of the JobManager would know neither its jobs \
             nor its clients without high availability, which this version does not have: set 1 \
             or leave it out",
            options::YARN_APPLICATION_ATTEMPTS.key()
        )),
    }
}

/// YARN ends a master that it has not heard of for too long.
fn refuse_rare_heartbeats(user: User<'_>, configuration: &Configuration) -> Result<()> {
    let key = "yarn.am.liveness-monitor.expiry-interval-ms";
    let expiry = Duration::from_millis(user.hadoop.number(key, 600_000)?);
    let seconds = configuration.get(&options::YARN_HEARTBEAT_INTERVAL)?;
    let idle = (options::YARN_HEARTBEAT_INTERVAL.key(), Duration::from_secs(seconds.into()));
    let pending = &options::YARN_HEARTBEAT_CONTAINER_REQUEST_INTERVAL;
    for (ours, interval) in [idle, (pending.key(), configuration.get(pending)?)] {
        if interval >= expiry {
            return refused(format!(
                "{ours} is {interval:?}, but YARN gives a JobManager up that it has not heard of \
                 for {expiry:?} ({key}): lower {ours}"
            ));
        }
    }
    Ok(())
}

fn master_size(configuration: &Configuration) -> Result<ContainerSize> {
    let memory = configuration.get(&engine::JOBMANAGER_MEMORY_PROCESS_SIZE)?;
    let vcores = configuration.get(&options::YARN_APPMASTER_VCORES)?;
    Ok(ContainerSize { memory_mb: mebibytes(memory), vcores: saturated(vcores) })
}

/// A number for which -1 stands for the default. Other numbers below the least are refused: they
/// would mean the same in silence.
pub(crate) fn count(
    configuration: &Configuration,
    option: &ConfigOption<i32>,
    least: i32,
) -> Result<Option<i32>> {
    match configuration.get(option)? {
        -1 => Ok(None),
        number if number >= least => Ok(Some(number)),
        number => refused(format!(
            "{} is {number}: set at least {least}, or -1 for the default",
            option.key()
        )),
    }
}

/// The size of a TaskManager's container: its cores are its slots unless the configuration says
/// otherwise.
///
/// # Errors
/// The configuration has a size that cannot be used.
pub fn worker_size(configuration: &Configuration) -> Result<ContainerSize> {
    let slots = configuration.get(&engine::TASKMANAGER_NUMBER_OF_TASK_SLOTS)?;
    let memory = WorkerMemory::from_configuration(configuration)?.total;
    let vcores = count(configuration, &options::YARN_CONTAINERS_VCORES, 1)?;
    let vcores = vcores.unwrap_or(saturated(slots));
    Ok(ContainerSize { memory_mb: mebibytes(memory), vcores })
}

fn mebibytes(size: ByteSize) -> i64 {
    i64::try_from(size.as_bytes().div_ceil(1 << 20)).unwrap_or(i64::MAX)
}

fn saturated(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn paths(user: User<'_>, texts: &[String]) -> Vec<FilePath> {
    texts.iter().map(|text| user.qualified(FilePath::from(text.as_str()))).collect()
}

fn provided(user: User<'_>, configuration: &Configuration) -> Result<Vec<FilePath>> {
    let key = &options::YARN_PROVIDED_LIB_DIRS;
    let named = configuration.get(key)?;
    let paths = named.iter().map(|text| user.on_the_cluster(text));
    paths
        .collect::<Result<_>>()
        .or_else(|error| refused(format!("{} cannot be used: {error}", key.key())))
}

/// YARN unpacks by the name's end.
fn archives(user: User<'_>, configuration: &Configuration) -> Result<Vec<FilePath>> {
    let names = configuration.get(&options::YARN_SHIP_ARCHIVES)?;
    let known = [".tar.gz", ".tar", ".tgz", ".zip", ".jar"];
    if let Some(other) = names.iter().find(|name| !known.iter().any(|end| name.ends_with(end))) {
        return refused(format!(
            "{}: {other} is no archive that YARN unpacks ({})",
            options::YARN_SHIP_ARCHIVES.key(),
            known.join(", ")
        ));
    }
    Ok(paths(user, &names))
}

fn tags(configuration: &Configuration) -> Result<Vec<String>> {
    let tags = configuration.get(&options::YARN_TAGS)?.unwrap_or_default();
    let tags = tags.split(',').map(str::trim).filter(|tag| !tag.is_empty());
    Ok(tags.map(str::to_owned).collect())
}

fn acls(configuration: &Configuration) -> Result<Vec<(ApplicationAccessTypeProto, String)>> {
    let view = configuration.get(&options::YARN_VIEW_ACLS)?;
    let modify = configuration.get(&options::YARN_MODIFY_ACLS)?;
    let view = view.map(|acl| (ApplicationAccessTypeProto::AppaccessViewApp, acl));
    let modify = modify.map(|acl| (ApplicationAccessTypeProto::AppaccessModifyApp, acl));
    Ok(view.into_iter().chain(modify).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(key: &str, value: &str) -> Configuration {
        options::configuration([(key, value)]).unwrap()
    }

    #[test]
    fn more_attempts_than_one_are_refused() {
        for (attempts, refused) in [("1", false), ("2", true), ("0", true), ("10", true)] {
            let outcome = refuse_more_attempts(&with("yarn.application-attempts", attempts));
            assert_eq!(outcome.is_err(), refused, "{attempts}");
            if let Err(error) = outcome {
                assert!(error.to_string().contains("without high availability"), "{error}");
            }
        }
        assert!(refuse_more_attempts(&with("parallelism.default", "1")).is_ok());
    }

    #[test]
    fn provided_directories_are_where_containers_look_for_them() {
        let on = |default: &str, text: &str| {
            let mut hadoop = HadoopConfiguration::new();
            hadoop.set("fs.defaultFS", default);
            let user = User { name: "alice", hadoop: &hadoop };
            let directories = provided(user, &with("yarn.provided.lib.dirs", text))?;
            Ok::<_, YarnDeployError>(directories.iter().map(FilePath::to_string).collect())
        };
        let of = |default, text| -> Vec<String> { on(default, text).unwrap() };
        let hdfs = "hdfs://nn:8020";
        assert_eq!(
            of(hdfs, "/user/alice/lib;lib;hdfs:///apps;hdfs://other:1/apps"),
            [
                "hdfs://nn:8020/user/alice/lib",
                "hdfs://nn:8020/user/alice/lib",
                "hdfs://nn:8020/apps",
                "hdfs://other:1/apps"
            ]
        );
        assert_eq!(of("file:///", "/lib"), ["/lib"]);
        let error = on(hdfs, "file:///lib").unwrap_err().to_string();
        assert!(error.contains("file:///lib is on the disk of this machine"), "{error}");
    }

    #[test]
    fn counts_that_are_none_are_refused_by_their_name() {
        for (key, value, expected) in [
            ("yarn.containers.vcores", "0", "yarn.containers.vcores is 0"),
            ("yarn.containers.vcores", "-2", "yarn.containers.vcores is -2"),
        ] {
            let error = worker_size(&with(key, value)).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
        let priority = |value: &str| {
            let configuration = with("yarn.application.priority", value);
            count(&configuration, &options::YARN_APPLICATION_PRIORITY, 0)
        };
        assert_eq!((priority("-1").unwrap(), priority("0").unwrap()), (None, Some(0)));
        assert!(priority("-2").unwrap_err().to_string().contains("or -1 for the default"));
        let slots = with("taskmanager.numberOfTaskSlots", "3");
        assert_eq!(worker_size(&slots).unwrap().vcores, 3);
    }
}
