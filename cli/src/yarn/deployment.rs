//! From the configuration to what is deployed.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use millstream_config::{Configuration, WorkerMemory, options};
use millstream_protocol::job::{JobGraph, JobSettings};
use millstream_rm_yarn::deployer::{ArtifactFile, ContainerSize, Deployment};
use millstream_rm_yarn::proto::container::{Application, Job, Master, Session, master};
use millstream_rm_yarn::proto::yarn::ApplicationAccessTypeProto;
use millstream_storage::FilePath;
use millstream_types::{ByteSize, JobId};
use prost::Message as _;

use super::Yarn;

/// What a cluster is deployed for.
pub(crate) enum Purpose {
    /// Whatever comes.
    Session,
    /// One job, planned here.
    Job { job: JobId, graph: Box<JobGraph>, artifact: ArtifactFile },
    /// A program that plans there.
    Application { first_job: JobId, settings: JobSettings, artifact: ArtifactFile },
}

impl Purpose {
    fn name(&self) -> &'static str {
        match self {
            Self::Session => "Millstream session cluster",
            Self::Job { .. } => "Millstream per-job cluster",
            Self::Application { .. } => "Millstream application cluster",
        }
    }
}

/// What is deployed for this purpose.
pub(crate) fn deployment(
    yarn: &Yarn,
    configuration: &Configuration,
    purpose: Purpose,
    attached: bool,
    engine: Option<PathBuf>,
) -> Result<Deployment> {
    let engine = match engine {
        Some(engine) => engine,
        None => std::env::current_exe().context("failed to find the engine's binary")?,
    };
    let name = configuration.get(&options::YARN_APPLICATION_NAME)?;
    let name = name.unwrap_or_else(|| purpose.name().to_owned());
    let (purpose, artifact, job_graph) = match purpose {
        Purpose::Session => (master::Purpose::Session(Session {}), None, None),
        Purpose::Job { job, mut graph, artifact } => {
            let settings = graph.settings.take().unwrap_or_default().encode_to_vec();
            let job = Job { job_id: job.as_bytes().to_vec(), settings };
            let graph = Bytes::from(graph.encode_to_vec());
            (master::Purpose::Job(job), Some(artifact), Some(graph))
        }
        Purpose::Application { first_job, settings, artifact } => {
            let first_job_id = first_job.as_bytes().to_vec();
            let settings = settings.encode_to_vec();
            let application = Application { first_job_id, settings };
            (master::Purpose::Application(application), Some(artifact), None)
        }
    };
    let pairs = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    let told = Master {
        configuration: configuration.pairs().map(pairs).collect(),
        hadoop: yarn.hadoop.pairs().map(pairs).collect(),
        attached,
        user: yarn.user.clone(),
        purpose: Some(purpose),
        ..Master::default()
    };
    let attempts = configuration.get(&options::YARN_APPLICATION_ATTEMPTS)?.unwrap_or(1);
    let priority = configuration.get(&options::YARN_APPLICATION_PRIORITY)?;
    let rolled = configuration.get(&options::YARN_ROLLED_LOGS_INCLUDE_PATTERN)?;
    let unrolled = configuration.get(&options::YARN_ROLLED_LOGS_EXCLUDE_PATTERN)?;
    let kind = configuration.get(&options::YARN_APPLICATION_TYPE)?;
    let queue = configuration.get(&options::YARN_APPLICATION_QUEUE)?;
    Ok(Deployment {
        master: told,
        engine,
        ship_files: paths(yarn, &configuration.get(&options::YARN_SHIP_FILES)?),
        ship_archives: archives(yarn, configuration)?,
        provided: paths(yarn, &configuration.get(&options::YARN_PROVIDED_LIB_DIRS)?),
        artifact,
        job_graph,
        name,
        kind: kind.unwrap_or_else(|| "Millstream".to_owned()),
        queue: queue.unwrap_or_else(|| "default".to_owned()),
        tags: tags(configuration)?,
        priority: (priority >= 0).then_some(priority),
        node_label: configuration.get(&options::YARN_APPLICATION_NODE_LABEL)?,
        acls: acls(configuration)?,
        rolled_logs: rolled.map(|include| (include, unrolled)),
        master_size: master_size(configuration)?,
        worker_size: worker_size(configuration)?,
        attempts: i32::try_from(attempts).unwrap_or(i32::MAX),
    })
}

fn master_size(configuration: &Configuration) -> Result<ContainerSize> {
    let memory = configuration.get(&options::JOBMANAGER_MEMORY_PROCESS_SIZE)?;
    let vcores = configuration.get(&options::YARN_APPMASTER_VCORES)?;
    Ok(ContainerSize { memory_mb: mebibytes(memory), vcores: saturated(vcores) })
}

/// The size of a TaskManager's container: its cores are its slots unless the configuration says
/// otherwise.
pub(crate) fn worker_size(configuration: &Configuration) -> Result<ContainerSize> {
    let memory = WorkerMemory::from_configuration(configuration)?.total;
    let slots = configuration.get(&options::TASKMANAGER_NUMBER_OF_TASK_SLOTS)?;
    let vcores = match configuration.get(&options::YARN_CONTAINERS_VCORES)? {
        vcores @ 1.. => vcores,
        _ => saturated(slots),
    };
    Ok(ContainerSize { memory_mb: mebibytes(memory), vcores })
}

fn mebibytes(size: ByteSize) -> i64 {
    i64::try_from(size.as_bytes().div_ceil(1 << 20)).unwrap_or(i64::MAX)
}

fn saturated(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn paths(yarn: &Yarn, texts: &[String]) -> Vec<FilePath> {
    texts.iter().map(|text| yarn.qualified(FilePath::from(text.as_str()))).collect()
}

/// YARN unpacks by the name's end.
fn archives(yarn: &Yarn, configuration: &Configuration) -> Result<Vec<FilePath>> {
    let names = configuration.get(&options::YARN_SHIP_ARCHIVES)?;
    let known = [".tar.gz", ".tar", ".tgz", ".zip", ".jar"];
    if let Some(other) = names.iter().find(|name| !known.iter().any(|end| name.ends_with(end))) {
        bail!(
            "{}: {other} is no archive that YARN unpacks ({})",
            options::YARN_SHIP_ARCHIVES.key(),
            known.join(", ")
        );
    }
    Ok(paths(yarn, &names))
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
