//! The master's own children: coordinator hosts, started in the JobManager's process.
//!
//! To a JobMaster this is one more TaskManager, without slots. It cannot be lost while the master
//! lives.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use millstream_gateway::{
    ArtifactLocator, FileChunk, FileError, FileInfo, HostCommand, JobMasterEvent, JobMasterGateway,
    StartHost, TaskManagerGateway, TaskManagerGone,
};
use millstream_launcher::{HostListener, HostManager, HostProcessExit, ProcessUsage};
use millstream_protocol::host::FromHost;
use millstream_types::{ArtifactHash, ByteSize, CauseKind, FailureCause, HostId, TaskManagerId};

use crate::HostSettings;

/// Settings of the hosts of coordinators.
#[derive(Debug, Clone)]
pub struct CoordinatorHostsConfig {
    /// The master's id, shown where a TaskManager's would be.
    pub id: TaskManagerId,
    /// Settings of each host.
    pub hosts: HostSettings,
    /// Memory limit of each host.
    pub memory_limit: ByteSize,
}

/// Starts coordinator hosts as children of this process. Dropping it kills them.
#[derive(Debug)]
pub struct CoordinatorHosts {
    config: CoordinatorHostsConfig,
    artifacts: Arc<dyn ArtifactLocator>,
    manager: HostManager,
}

impl CoordinatorHosts {
    /// Without any host yet. To be used within a tokio runtime.
    #[must_use]
    pub fn new(config: CoordinatorHostsConfig, artifacts: Arc<dyn ArtifactLocator>) -> Self {
        Self { config, artifacts, manager: HostManager::default() }
    }

    /// Kills all hosts and waits until nothing is left of them.
    pub async fn shut_down(&self) {
        self.manager.kill_all();
        self.manager.all_ended().await;
    }

    /// Resource usage of all hosts together.
    #[must_use]
    pub fn usage(&self) -> ProcessUsage {
        self.manager.usage()
    }
}

struct Owner(Arc<dyn JobMasterGateway>);

impl HostListener for Owner {
    fn on_message(&self, host: HostId, message: FromHost) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            // A job that has ended has stopped its hosts.
            let _ =
                self.0.post(JobMasterEvent::HostMessage { host, message: Box::new(message) }).await;
        })
    }

    fn on_exited(&self, host: HostId, exit: HostProcessExit) -> BoxFuture<'_, ()> {
        let HostProcessExit { cause, stderr_tail, .. } = exit;
        let exit = millstream_gateway::HostExit { host, cause, stderr_tail };
        Box::pin(async move {
            let _ = self.0.post(JobMasterEvent::HostExited(exit)).await;
        })
    }
}

impl TaskManagerGateway for CoordinatorHosts {
    fn id(&self) -> &TaskManagerId {
        &self.config.id
    }

    fn start_host(
        &self,
        owner: Arc<dyn JobMasterGateway>,
        start: StartHost,
    ) -> Result<(), TaskManagerGone> {
        let StartHost { host, artifact, begin, .. } = start;
        let (artifacts, config) = (Arc::clone(&self.artifacts), self.config.clone());
        let prepare = Box::pin(async move {
            let executable = artifacts.locate(artifact).await.ok_or_else(|| {
                let missing = format!("artifact {artifact} is not in the store");
                FailureCause::new(CauseKind::Start, missing)
            })?;
            let limit = Some(config.memory_limit);
            Ok(config.hosts.launch(host, executable, Box::new(()), limit, begin))
        });
        if let Err(error) = self.manager.start(host, prepare, Arc::new(Owner(owner))) {
            tracing::error!(%error, "a coordinator host was started twice");
        }
        Ok(())
    }

    fn command(&self, command: HostCommand) -> Result<(), TaskManagerGone> {
        self.manager.send(command.host, command.message);
        Ok(())
    }

    fn stop_host(&self, host: HostId, grace: Duration) -> Result<(), TaskManagerGone> {
        self.manager.stop(host, grace);
        Ok(())
    }

    fn release_artifact(&self, _artifact: ArtifactHash) -> Result<(), TaskManagerGone> {
        // The store is the Dispatcher's.
        Ok(())
    }

    fn list_files(&self) -> BoxFuture<'static, Result<Vec<FileInfo>, FileError>> {
        let logs = self.config.hosts.logs.clone();
        Box::pin(async move { Ok(logs.list().await) })
    }

    fn read_file(
        &self,
        name: String,
        offset: u64,
        length: u32,
    ) -> BoxFuture<'static, Result<FileChunk, FileError>> {
        let logs = self.config.hosts.logs.clone();
        Box::pin(async move { logs.read(name, offset, length).await })
    }
}
