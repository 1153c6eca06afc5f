//! Brings a cluster up as an application of YARN: checks, stages, submits, and waits with a reason.

mod reasons;

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use millstream_config::ConfigError;
use millstream_hadoop_config::HadoopConfigError;
use millstream_rm_driver::{ArtifactFile, ClusterEnd, ClusterId, DeployError, Progress, Running};
use millstream_security::{Authority, CLUSTER_LIFETIME, Credentials, Role, SecurityError};
use millstream_storage::FilePath;

use crate::client::{ClientError, YarnClient};
use crate::container::{ARTIFACT, ENGINE, JOB_GRAPH, check_launch, master_context};
use crate::ids::ApplicationId;
use crate::launch_script::UnsafeName;
use crate::proto::container::{Master, Resource};
use crate::proto::yarn::{
    ApplicationAccessTypeProto, ApplicationReportProto, ApplicationSubmissionContextProto,
    FinalApplicationStatusProto, LogAggregationContextProto, NodeReportProto, PriorityProto,
    QueueStateProto, ResourceProto, YarnApplicationStateProto,
};
use crate::staging::{CLIENT_SECRET, Shipment, Staging, StagingError, read_aside};
use reasons::{said_by_yarn, waits_for, why_ended};

/// Bounds of the interval at which an application's state is polled, a twentieth of the waiting
/// time so far: frequent enough not to be noticed, rare enough not to load YARN.
const POLL_SHORTEST: Duration = Duration::from_millis(5);
const POLL_LONGEST: Duration = Duration::from_millis(250);
/// After how long a wait is explained, and how often at the most.
const EXPLAIN_AFTER: Duration = Duration::from_secs(2);
/// Progress message while the ResourceManager is silent.
const SILENT: &str = "the ResourceManager does not answer";
/// Time after which the directory of an application that YARN does not know is deleted.
const UNKNOWN_FOR: Duration = Duration::from_secs(3600);

/// Why a cluster could not be brought up.
#[derive(Debug, thiserror::Error)]
pub enum YarnDeployError {
    /// The ResourceManager refused or did not answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A file could not be staged.
    #[error(transparent)]
    Staging(#[from] StagingError),
    /// The cluster can never serve this; the sentence names the limit.
    #[error("{0}")]
    Refused(String),
    /// The application ended before its cluster was up.
    #[error("{application} ended before its cluster was up ({}): {}", end.state, end.why)]
    Ended {
        /// The application.
        application: ApplicationId,
        /// Its end.
        end: ClusterEnd,
    },
    /// The ResourceManager fell silent: what became of the application is unknown.
    #[error(
        "what became of {application} is unknown: {error}; when the ResourceManager is back, \
         `yarn application -status {application}` tells, and `yarn application -kill \
         {application}` ends it"
    )]
    Unheard {
        /// The application.
        application: ApplicationId,
        /// Why it was not heard.
        error: ClientError,
    },
    /// The cluster's certificates could not be made or read.
    #[error(transparent)]
    Security(#[from] SecurityError),
    /// The configuration has a value that cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Hadoop's configuration cannot be read, or lacks a property that we need.
    #[error(transparent)]
    Hadoop(#[from] HadoopConfigError),
    /// The credentials of the owner's client cannot be read.
    #[error("{what}")]
    NoSecret {
        /// The cluster, and where it was looked for.
        what: String,
        /// Why.
        source: Box<YarnDeployError>,
    },
}

impl From<YarnDeployError> for DeployError {
    fn from(error: YarnDeployError) -> Self {
        match error {
            YarnDeployError::Client(error) if error.is_unknown() => Self::Unknown(error.into()),
            YarnDeployError::Client(error) if error.is_silence() => Self::Unheard(error.into()),
            YarnDeployError::Unheard { .. } => Self::Unheard(error.into()),
            YarnDeployError::Ended { application, end } => {
                Self::Ended { id: ClusterId::new(application.to_string()), end }
            }
            other => Self::Refused(other.into()),
        }
    }
}

/// An application of YARN that is to be: what runs and with what.
#[derive(Debug)]
pub struct ApplicationDescription {
    /// The JobManager's start parameters; resources and directory are filled in.
    pub master: Master,
    /// The engine's binary; not read if one of the provided files is it.
    pub engine: PathBuf,
    /// Files and directories for every container.
    pub ship_files: Vec<FilePath>,
    /// Archives that are unpacked in every container.
    pub ship_archives: Vec<FilePath>,
    /// Directories of the cluster's file system whose files every container gets.
    pub provided: Vec<FilePath>,
    /// The job's executable, if the cluster is for one.
    pub artifact: Option<ArtifactFile>,
    /// The job's plan, if there is one.
    pub job_graph: Option<Bytes>,
    /// As YARN shows it.
    pub name: String,
    /// As YARN shows it.
    pub kind: String,
    /// Where it is queued.
    pub queue: String,
    /// By which it is found.
    pub tags: Vec<String>,
    /// None: the queue's default.
    pub priority: Option<i32>,
    /// None: the queue's default.
    pub node_label: Option<String>,
    /// Users who may view it and users who may modify it, in YARN's notation.
    pub acls: Vec<(ApplicationAccessTypeProto, String)>,
    /// The include and exclude patterns for the aggregation of rolled logs while it runs.
    pub rolled_logs: Option<(String, Option<String>)>,
    /// The JobManager's container.
    pub master_size: ContainerSize,
    /// A TaskManager's container.
    pub worker_size: ContainerSize,
}

/// The resources of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContainerSize {
    /// Memory in MiB.
    pub memory_mb: i64,
    /// Virtual cores.
    pub vcores: i32,
}

impl fmt::Display for ContainerSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MB and {} virtual cores", self.memory_mb, self.vcores)
    }
}

/// Deploys as one user.
#[derive(Debug)]
pub struct Deployer<'a> {
    client: &'a mut YarnClient,
    staging: Staging<'a>,
}

impl<'a> Deployer<'a> {
    /// With this client, and files in these directories.
    #[must_use]
    pub fn new(client: &'a mut YarnClient, staging: Staging<'a>) -> Self {
        Self { client, staging }
    }

    /// Checks, stages and submits; the application's id, and what its client shows to the cluster,
    /// which lies in the staging directory for later clients of its owner. What fails leaves
    /// nothing behind that the next deployment would not use or sweep.
    ///
    /// # Errors
    /// The cluster cannot serve it, or does not answer.
    pub async fn submit(
        &mut self,
        deployment: ApplicationDescription,
    ) -> Result<(ApplicationId, Credentials), YarnDeployError> {
        let master = &deployment.master;
        let refused = |error: UnsafeName| YarnDeployError::Refused(error.to_string());
        check_launch(&master.user, &master.configuration).map_err(refused)?;
        let (provided, files) = (&deployment.provided, &deployment.ship_files);
        let shipment = self.staging.find(provided, files, &deployment.ship_archives).await?;
        let new = self.client.new_application().await?;
        self.check(&deployment, &new.maximum).await?;
        // The key of the authority is the JobManager's alone from here on.
        let authority = Authority::generate(&new.id.to_string())?;
        let user = deployment.master.user.as_str();
        let credentials = authority.issue(Role::Client, user, CLUSTER_LIFETIME)?;
        let directory = self.staging.create(new.id).await?;
        let staged =
            Self::stage(&self.staging, &deployment, shipment, &directory, &credentials).await;
        let submission = staged.and_then(|(master, files)| {
            submission(new.id, deployment, &authority, &master, &files).map_err(refused)
        });
        let submitted = match submission {
            Ok(submission) => self.client.submit(submission).await.map_err(YarnDeployError::from),
            Err(error) => Err(error),
        };
        match submitted {
            Ok(()) => Ok((new.id, credentials)),
            // It may have been submitted, and then it needs its files.
            Err(YarnDeployError::Client(error)) if error.is_silence() => {
                Err(YarnDeployError::Unheard { application: new.id, error })
            }
            Err(error) => {
                // The error matters more than the result of this cleanup.
                let _ = self.staging.discard(&directory).await;
                Err(error)
            }
        }
    }

    /// The secret with which the owner's client identifies itself to the application's cluster.
    ///
    /// # Errors
    /// It cannot be read, or is damaged.
    pub async fn credentials(&self, id: ApplicationId) -> Result<Credentials, YarnDeployError> {
        let secret = self.staging.client_secret(id).await?;
        Ok(Credentials::from_secret(secret.expose())?)
    }

    async fn check(
        &mut self,
        deployment: &ApplicationDescription,
        maximum: &ResourceProto,
    ) -> Result<(), YarnDeployError> {
        let queue = &deployment.queue;
        let Some(found) = self.client.queue(queue).await? else {
            return Err(YarnDeployError::Refused(format!(
                "there is no queue {queue:?}: name another with yarn.application.queue"
            )));
        };
        if found.state() == QueueStateProto::QStopped {
            return Err(YarnDeployError::Refused(format!("the queue {queue:?} is stopped")));
        }
        let nodes = self.client.running_nodes().await?;
        for (size, kind) in [(deployment.master_size, &MASTER), (deployment.worker_size, &WORKER)] {
            fits(size, kind, maximum, &nodes).map_err(YarnDeployError::Refused)?;
        }
        Ok(())
    }

    /// When it returns, nothing is on its way to the file system.
    async fn stage(
        staging: &Staging<'_>,
        deployment: &ApplicationDescription,
        shipment: Shipment,
        directory: &FilePath,
        credentials: &Credentials,
    ) -> Result<(Master, Vec<Resource>), YarnDeployError> {
        let has_engine = shipment.has_engine();
        let engine = async {
            if has_engine {
                return Ok(None);
            }
            let engine = read_aside(deployment.engine.clone()).await?;
            staging.executable(&engine, ENGINE).await.map(Some)
        };
        let artifact = async {
            match &deployment.artifact {
                None => Ok(None),
                Some(ArtifactFile::Local(file)) => {
                    staging.executable(file, ARTIFACT).await.map(Some)
                }
                Some(ArtifactFile::Staged(path)) => {
                    staging.staged(path, ARTIFACT, false).await.map(Some)
                }
            }
        };
        let graph = async {
            match &deployment.job_graph {
                None => Ok(None),
                Some(bytes) => staging.bytes(bytes.clone(), directory, JOB_GRAPH).await.map(Some),
            }
        };
        let secret = Bytes::from(credentials.to_secret().expose().clone());
        let secret = staging.bytes(secret, directory, CLIENT_SECRET);
        let (mark, shipped) = (staging.mark(directory), staging.ship(shipment, directory));
        // Completing a file can take half a second, so they are completed together. All are waited
        // for if one fails: a call on its way would reach the file system after the directory was
        // removed, and make it again.
        let (mark, engine, artifact, graph, secret, shipped) =
            futures::join!(mark, engine, artifact, graph, secret, shipped);
        let (_, engine, artifact, graph, _, shipped) =
            (mark?, engine?, artifact?, graph?, secret?, shipped?);
        let mut master = deployment.master.clone();
        master.resources.extend(shipped.into_iter().chain(engine));
        master.staging_dir = directory.to_string();
        Ok((master, artifact.into_iter().chain(graph).collect()))
    }

    /// Waits until the cluster is up and reports what it waits for. The result holds no client
    /// secret.
    ///
    /// # Errors
    /// The application ended instead, or the ResourceManager does not answer.
    pub async fn wait_until_up(
        &mut self,
        id: ApplicationId,
        progress: Progress<'_>,
    ) -> Result<Running, YarnDeployError> {
        let start = Instant::now();
        let mut said: Option<(Instant, String)> = None;
        let mut answered = start;
        loop {
            let report = match self.client.report(id).await {
                Ok(report) => report,
                Err(error) if error.is_unknown() => return Err(error.into()),
                // No answer is not the end of the application.
                Err(error) if answered.elapsed() < self.client.silence_max() => {
                    if said.as_ref().is_none_or(|(_, text)| text != SILENT) {
                        progress(&format!("waiting for {id}: {SILENT}: {error}"));
                    }
                    said = Some((Instant::now(), SILENT.to_owned()));
                    tokio::time::sleep(POLL_LONGEST).await;
                    continue;
                }
                Err(error) => return Err(YarnDeployError::Unheard { application: id, error }),
            };
            answered = Instant::now();
            match report.yarn_application_state() {
                YarnApplicationStateProto::Running if report.rpc_port() > 0 => {
                    return Ok(running(&report));
                }
                YarnApplicationStateProto::Failed
                | YarnApplicationStateProto::Killed
                | YarnApplicationStateProto::Finished => return Err(self.ended(id, &report).await),
                _ => {}
            }
            let due = said.as_ref().map_or(start, |(at, _)| *at) + EXPLAIN_AFTER;
            if Instant::now() >= due {
                let text = waits_for(&report);
                if said.as_ref().is_none_or(|(_, before)| *before != text) {
                    progress(&text);
                }
                said = Some((Instant::now(), text));
            }
            tokio::time::sleep((start.elapsed() / 20).clamp(POLL_SHORTEST, POLL_LONGEST)).await;
        }
    }

    async fn ended(&self, id: ApplicationId, report: &ApplicationReportProto) -> YarnDeployError {
        // The files have no reader any more.
        let _ = self.staging.remove(id).await;
        YarnDeployError::Ended { application: id, end: end_of(report) }
    }

    /// Ends an application and removes its staged files.
    ///
    /// # Errors
    /// The ResourceManager does not answer.
    pub async fn kill(&mut self, id: ApplicationId, why: &str) -> Result<(), YarnDeployError> {
        while !self.client.kill(id, why).await? {
            tokio::time::sleep(POLL_LONGEST).await;
        }
        self.staging.remove(id).await?;
        Ok(())
    }

    /// Removes what applications of this cluster left behind when they died.
    ///
    /// # Errors
    /// The ResourceManager or the file system does not answer.
    pub async fn sweep(&mut self) -> Result<(), YarnDeployError> {
        for (id, status) in self.staging.applications().await? {
            let over = match self.client.report(id).await {
                Ok(report) => is_over(&report),
                Err(ClientError::Unknown(_)) => {
                    status.modified.elapsed().is_ok_and(|age| age > UNKNOWN_FOR)
                }
                Err(error) => return Err(error.into()),
            };
            if over {
                self.staging.remove(id).await?;
            }
        }
        Ok(())
    }
}

/// Whether an application has ended.
#[must_use]
pub fn is_over(report: &ApplicationReportProto) -> bool {
    matches!(
        report.yarn_application_state(),
        YarnApplicationStateProto::Finished
            | YarnApplicationStateProto::Failed
            | YarnApplicationStateProto::Killed
    )
}

/// An application's state in YARN's words: that of its end once it has one.
#[must_use]
pub fn state(report: &ApplicationReportProto) -> String {
    let name = report.yarn_application_state().as_str_name().to_owned();
    match report.final_application_status() {
        FinalApplicationStatusProto::AppSucceeded => name + "/SUCCEEDED",
        FinalApplicationStatusProto::AppFailed => name + "/FAILED",
        FinalApplicationStatusProto::AppKilled => name + "/KILLED",
        _ => name,
    }
}

/// The end of an application that is over.
#[must_use]
pub fn end_of(report: &ApplicationReportProto) -> ClusterEnd {
    let state = state(report);
    ClusterEnd {
        succeeded: state.ends_with("/SUCCEEDED"),
        state,
        said: said_by_yarn(report),
        why: why_ended(report),
    }
}

fn running(report: &ApplicationReportProto) -> Running {
    Running {
        host: report.host().to_owned(),
        port: u16::try_from(report.rpc_port()).unwrap_or(0),
        web_page: report.tracking_url().to_owned(),
        credentials: None,
    }
}

/// A kind of container, and what sets its size.
struct ContainerKind {
    name: &'static str,
    memory: &'static str,
    vcores: &'static str,
}

const MASTER: ContainerKind = ContainerKind {
    name: "JobManager",
    memory: "jobmanager.memory.process.size",
    vcores: "yarn.appmaster.vcores",
};
const WORKER: ContainerKind = ContainerKind {
    name: "TaskManager",
    memory: "taskmanager.memory.process.size",
    vcores: "yarn.containers.vcores, or taskmanager.numberOfTaskSlots if that is not set",
};

/// Refuses containers that no node can ever give.
fn fits(
    size: ContainerSize,
    kind: &ContainerKind,
    maximum: &ResourceProto,
    nodes: &[NodeReportProto],
) -> Result<(), String> {
    let ContainerKind { name, memory, vcores } = kind;
    let too_much = |amount: String, most: String, limit: &str, key: &str| {
        format!(
            "a {name} of {amount} is more than YARN allows for one container, {most} \
             (yarn.scheduler.maximum-allocation-{limit}): lower {key}"
        )
    };
    let mut faults = Vec::new();
    if size.memory_mb > maximum.memory() {
        let (amount, most) = (size.memory_mb, maximum.memory());
        faults.push(too_much(format!("{amount} MB"), format!("{most} MB"), "mb", memory));
    }
    if size.vcores > maximum.virtual_cores() {
        let (amount, most) = (size.vcores, maximum.virtual_cores());
        faults.push(too_much(
            format!("{amount} virtual cores"),
            most.to_string(),
            "vcores",
            vcores,
        ));
    }
    let capability = |node: &NodeReportProto| node.capability.clone().unwrap_or_default();
    let largest = nodes.iter().map(|node| capability(node).memory()).max();
    match largest {
        Some(largest) if faults.is_empty() && size.memory_mb > largest => faults.push(format!(
            "a {name} of {size} fits on no node: the largest has {largest} MB \
             (yarn.nodemanager.resource.memory-mb); lower {memory}"
        )),
        _ => {}
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.join("; ")) }
}

fn submission(
    id: ApplicationId,
    deployment: ApplicationDescription,
    authority: &Authority,
    master: &Master,
    files: &[Resource],
) -> Result<ApplicationSubmissionContextProto, UnsafeName> {
    let logs = deployment.rolled_logs.map(|(include, exclude)| LogAggregationContextProto {
        rolled_logs_include_pattern: Some(include),
        rolled_logs_exclude_pattern: exclude.or(Some(String::new())),
        ..LogAggregationContextProto::default()
    });
    let size = deployment.master_size;
    let context = master_context(master, files, authority, &deployment.acls)?;
    Ok(ApplicationSubmissionContextProto {
        application_id: Some(id.into()),
        application_name: Some(deployment.name),
        queue: Some(deployment.queue),
        priority: deployment.priority.map(|priority| PriorityProto { priority: Some(priority) }),
        am_container_spec: Some(context),
        // Another attempt would find neither jobs nor clients.
        max_app_attempts: Some(1),
        resource: Some(ResourceProto {
            memory: Some(size.memory_mb),
            virtual_cores: Some(size.vcores),
            ..ResourceProto::default()
        }),
        application_type: Some(deployment.kind),
        application_tags: deployment.tags,
        log_aggregation_context: logs,
        node_label_expression: deployment.node_label,
        ..ApplicationSubmissionContextProto::default()
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use millstream_hadoop_config::HadoopConfiguration;
    use millstream_storage::{
        BoxFuture, CreateOptions, FileReader, FileStatus, FileSystem, FileWriter, IfExists,
        LocalFileSystem, StorageError,
    };

    use super::*;
    use crate::staging::Cluster;

    /// The local file system, where making a directory or a file goes on for a while although its
    /// caller has gone, as a call to a NameNode does.
    #[derive(Debug, Default)]
    struct Remote {
        on_their_way: Arc<AtomicUsize>,
    }

    impl Remote {
        fn go_on<'a, T: Send + 'static>(
            &self,
            path: &FilePath,
            call: impl Future<Output = Result<T, StorageError>> + Send + 'static,
        ) -> BoxFuture<'a, Result<T, StorageError>> {
            let on_their_way = Arc::clone(&self.on_their_way);
            let millis = if path.path().ends_with("slow") { 600 } else { 200 };
            Box::pin(async move {
                on_their_way.fetch_add(1, Ordering::SeqCst);
                let call = tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(millis)).await;
                    let outcome = call.await;
                    on_their_way.fetch_sub(1, Ordering::SeqCst);
                    outcome
                });
                call.await.unwrap()
            })
        }
    }

    impl FileSystem for Remote {
        fn status<'a>(
            &'a self,
            path: &'a FilePath,
        ) -> BoxFuture<'a, Result<FileStatus, StorageError>> {
            LocalFileSystem.status(path)
        }

        fn list<'a>(
            &'a self,
            directory: &'a FilePath,
        ) -> BoxFuture<'a, Result<Vec<FileStatus>, StorageError>> {
            LocalFileSystem.list(directory)
        }

        fn open<'a>(
            &'a self,
            path: &'a FilePath,
        ) -> BoxFuture<'a, Result<Box<dyn FileReader>, StorageError>> {
            LocalFileSystem.open(path)
        }

        fn create<'a>(
            &'a self,
            path: &'a FilePath,
            options: CreateOptions,
        ) -> BoxFuture<'a, Result<Box<dyn FileWriter>, StorageError>> {
            let owned = path.clone();
            self.go_on(path, async move { LocalFileSystem.create(&owned, options).await })
        }

        fn publish<'a>(
            &'a self,
            from: &'a FilePath,
            to: &'a FilePath,
            if_exists: IfExists,
        ) -> BoxFuture<'a, Result<(), StorageError>> {
            LocalFileSystem.publish(from, to, if_exists)
        }

        fn make_directories<'a>(
            &'a self,
            path: &'a FilePath,
            permission: Option<u32>,
        ) -> BoxFuture<'a, Result<(), StorageError>> {
            let owned = path.clone();
            let made = async move { LocalFileSystem.make_directories(&owned, permission).await };
            self.go_on(path, made)
        }

        fn delete<'a>(
            &'a self,
            path: &'a FilePath,
            recursive: bool,
        ) -> BoxFuture<'a, Result<bool, StorageError>> {
            LocalFileSystem.delete(path, recursive)
        }

        fn set_permission<'a>(
            &'a self,
            path: &'a FilePath,
            permission: u32,
        ) -> BoxFuture<'a, Result<(), StorageError>> {
            LocalFileSystem.set_permission(path, permission)
        }
    }

    fn description(engine: PathBuf, artifact: Option<ArtifactFile>) -> ApplicationDescription {
        ApplicationDescription {
            master: Master::default(),
            engine,
            ship_files: Vec::new(),
            ship_archives: Vec::new(),
            provided: Vec::new(),
            artifact,
            job_graph: None,
            name: String::new(),
            kind: String::new(),
            queue: String::new(),
            tags: Vec::new(),
            priority: None,
            node_label: None,
            acls: Vec::new(),
            rolled_logs: None,
            master_size: SIZE,
            worker_size: SIZE,
        }
    }

    /// Otherwise what arrives late would make the directory again that the failure removes.
    #[tokio::test]
    async fn nothing_is_on_its_way_to_the_file_system_when_staging_has_failed() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| FilePath::from(dir.path().join(name).as_path());
        let engine = dir.path().join("engine");
        std::fs::write(&engine, "an engine").unwrap();
        let (mut hadoop, files) = (HadoopConfiguration::new(), Remote::default());
        hadoop.set("yarn.resourcemanager.address", "rm:8032");
        let staging =
            Staging::new(&files, &path("staging"), "alice", Cluster::of(&hadoop).unwrap());
        let authority = Authority::generate("test").unwrap();
        let credentials = authority.issue(Role::Client, "alice", CLUSTER_LIFETIME).unwrap();
        let directory = path("application");
        let stage = async |deployment: ApplicationDescription, shipment| {
            let staged =
                Deployer::stage(&staging, &deployment, shipment, &directory, &credentials).await;
            let error = staged.expect_err("a part is missing").to_string();
            (error, files.on_their_way.load(Ordering::SeqCst))
        };

        let nothing = staging.find(&[], &[], &[]).await.unwrap();
        let artifact = Some(ArtifactFile::Staged(path("missing")));
        let (error, left) = stage(description(engine.clone(), artifact), nothing).await;
        assert!(error.contains("missing does not exist"), "{error}");
        assert_eq!(left, 0);

        // One of the shipped files vanishes.
        let names = ["a", "vanished", "slow"];
        names.iter().for_each(|name| std::fs::write(dir.path().join(name), "a file").unwrap());
        let shipment = staging.find(&[], &names.map(path), &[]).await.unwrap();
        std::fs::remove_file(dir.path().join("vanished")).unwrap();
        let shipped = staging.ship(shipment, &directory).await;
        assert!(shipped.is_err(), "{shipped:?}");
        assert_eq!(files.on_their_way.load(Ordering::SeqCst), 0);
    }

    const SIZE: ContainerSize = ContainerSize { memory_mb: 1024, vcores: 2 };

    fn resource(memory: i64, cores: i32) -> ResourceProto {
        ResourceProto {
            memory: Some(memory),
            virtual_cores: Some(cores),
            ..ResourceProto::default()
        }
    }

    fn refusal(maximum: ResourceProto, nodes: &[i64]) -> String {
        let node = |memory: &i64| NodeReportProto {
            capability: Some(resource(*memory, 8)),
            ..NodeReportProto::default()
        };
        let nodes: Vec<_> = nodes.iter().map(node).collect();
        fits(SIZE, &WORKER, &maximum, &nodes).err().unwrap_or_default()
    }

    #[test]
    fn a_refusal_names_the_limit() {
        assert_eq!(refusal(resource(1024, 2), &[]), "");
        assert_eq!(refusal(resource(8192, 8), &[512, 2048]), "");
        let error = refusal(resource(512, 8), &[2048]);
        assert_eq!(
            error,
            "a TaskManager of 1024 MB is more than YARN allows for one container, 512 MB \
             (yarn.scheduler.maximum-allocation-mb): lower taskmanager.memory.process.size"
        );
        let error = refusal(resource(8192, 1), &[2048]);
        assert!(error.starts_with("a TaskManager of 2 virtual cores is more than"), "{error}");
        assert!(
            error.contains("maximum-allocation-vcores): lower yarn.containers.vcores"),
            "{error}"
        );
        assert!(!error.contains("memory"), "{error}");
        assert!(refusal(resource(512, 1), &[]).contains("-mb): lower taskmanager.memory.process"));
        let error = refusal(resource(8192, 8), &[512, 768]);
        assert!(error.contains("fits on no node: the largest has 768 MB"), "{error}");
    }
}
