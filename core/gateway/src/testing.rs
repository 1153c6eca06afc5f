//! Gateways for tests: they record the calls that they get.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use millstream_types::{ArtifactHash, HostId, JobId, TaskManagerId};
use tokio::sync::{mpsc, watch};

use crate::{
    FileChunk, FileError, FileInfo, HostCommand, JobDetails, JobMasterEvent, JobMasterGateway,
    StartHost, Stopped, TaskManagerGateway, TaskManagerGone,
};

/// A call that a [`TestingTaskManager`] received.
#[derive(Debug)]
pub enum TaskManagerCall {
    /// `start_host`.
    StartHost(StartHost),
    /// `command`.
    Command(HostCommand),
    /// `stop_host`.
    StopHost(HostId, Duration),
    /// `release_artifact`.
    ReleaseArtifact(ArtifactHash),
    /// The connection is ended.
    Dismiss,
}

/// A TaskManager that hands every call to the test; gone once the test dropped the receiver.
#[derive(Debug)]
pub struct TestingTaskManager {
    id: TaskManagerId,
    calls: mpsc::UnboundedSender<TaskManagerCall>,
}

impl TestingTaskManager {
    /// A TaskManager of this name, and the receiver of its calls.
    #[must_use]
    pub fn new(id: &str) -> (Arc<Self>, mpsc::UnboundedReceiver<TaskManagerCall>) {
        #[expect(clippy::disallowed_methods, reason = "a test says how much comes")]
        let (calls, received) = mpsc::unbounded_channel();
        (Arc::new(Self { id: TaskManagerId::new(id), calls }), received)
    }

    fn record(&self, call: TaskManagerCall) -> Result<(), TaskManagerGone> {
        self.calls.send(call).map_err(|_| TaskManagerGone(self.id.clone()))
    }
}

impl TaskManagerGateway for TestingTaskManager {
    fn id(&self) -> &TaskManagerId {
        &self.id
    }

    fn start_host(
        &self,
        _owner: Arc<dyn JobMasterGateway>,
        start: StartHost,
    ) -> Result<(), TaskManagerGone> {
        self.record(TaskManagerCall::StartHost(start))
    }

    fn command(&self, command: HostCommand) -> Result<(), TaskManagerGone> {
        self.record(TaskManagerCall::Command(command))
    }

    fn stop_host(&self, host: HostId, grace: Duration) -> Result<(), TaskManagerGone> {
        self.record(TaskManagerCall::StopHost(host, grace))
    }

    fn release_artifact(&self, artifact: ArtifactHash) -> Result<(), TaskManagerGone> {
        self.record(TaskManagerCall::ReleaseArtifact(artifact))
    }

    fn dismiss(&self) {
        // A receiver that is gone needs no call.
        let _ = self.record(TaskManagerCall::Dismiss);
    }

    /// No files; no answer once the test has dropped its end.
    fn list_files(&self) -> BoxFuture<'static, Result<Vec<FileInfo>, FileError>> {
        let answer = match self.calls.is_closed() {
            true => Err(FileError::Gone(TaskManagerGone(self.id.clone()))),
            false => Ok(Vec::new()),
        };
        Box::pin(std::future::ready(answer))
    }

    fn read_file(
        &self,
        name: String,
        _offset: u64,
        _length: u32,
    ) -> BoxFuture<'static, Result<FileChunk, FileError>> {
        Box::pin(async { Err(FileError::NotFound(name)) })
    }
}

/// A JobMaster that hands every event to the test.
#[derive(Debug)]
pub struct TestingJobMaster {
    job: JobId,
    events: mpsc::UnboundedSender<JobMasterEvent>,
    details: watch::Receiver<Arc<JobDetails>>,
}

impl TestingJobMaster {
    /// A JobMaster of this job that shows `details`, and the receiver of its events.
    #[must_use]
    pub fn new(details: JobDetails) -> (Arc<Self>, mpsc::UnboundedReceiver<JobMasterEvent>) {
        #[expect(clippy::disallowed_methods, reason = "a test says how much comes")]
        let (events, received) = mpsc::unbounded_channel();
        let job = details.job;
        let (_, details) = watch::channel(Arc::new(details));
        (Arc::new(Self { job, events, details }), received)
    }
}

impl JobMasterGateway for TestingJobMaster {
    fn job(&self) -> JobId {
        self.job
    }

    fn post(&self, event: JobMasterEvent) -> BoxFuture<'_, Result<(), Stopped>> {
        let sent = self.events.send(event).map_err(|_| Stopped);
        Box::pin(async move { sent })
    }

    fn details(&self) -> watch::Receiver<Arc<JobDetails>> {
        self.details.clone()
    }
}
