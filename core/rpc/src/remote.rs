//! A registered TaskManager as the master's components see it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use millstream_gateway::{
    FileChunk, FileError, FileInfo, HostCommand, JobMasterGateway, StartHost, TaskManagerGateway,
    TaskManagerGone,
};
use millstream_protocol::cluster::{self, ToTaskManager, to_task_manager};
use millstream_types::{ArtifactHash, HostId, LeaderEpoch, TaskManagerId};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::courier::Courier;
use crate::{convert, lock};

/// Limit on commands that wait for one TaskManager; more count as a lost connection.
pub(crate) const COMMANDS_MAX: usize = 8192;
/// Time limit for a TaskManager's answer to a request for its files.
const FILE_DEADLINE: Duration = Duration::from_secs(30);

/// The most questions about files that a worker leaves open.
const QUESTIONS_MAX: usize = 256;

/// See the module.
#[derive(Debug)]
pub(crate) struct RemoteTaskManager {
    pub(crate) link: Arc<WorkerLink>,
}

/// Shared state of the gateway and the TaskManager's session.
#[derive(Debug)]
pub(crate) struct WorkerLink {
    id: TaskManagerId,
    epoch: LeaderEpoch,
    commands: mpsc::Sender<ToTaskManager>,
    /// The way to each host's JobMaster; hosts of one share a courier. A host of the worker is here
    /// from its start until its end is heard or the connection ends.
    couriers: Mutex<HashMap<HostId, Arc<Courier>>>,
    /// The questions that the worker has not answered; at most [`QUESTIONS_MAX`].
    requests: Mutex<HashMap<u64, oneshot::Sender<FileAnswer>>>,
    next_request: AtomicU64,
    /// Cancelled when the connection is over, or shall be.
    pub(crate) closed: CancellationToken,
    /// Whether the master has given the TaskManager up.
    pub(crate) dismissed: AtomicBool,
}

/// A TaskManager's answer about its files.
#[derive(Debug)]
pub(crate) enum FileAnswer {
    List(Vec<cluster::FileInfo>),
    Chunk(cluster::FileChunk),
}

impl WorkerLink {
    pub(crate) fn new(
        id: TaskManagerId,
        epoch: LeaderEpoch,
        closed: CancellationToken,
    ) -> (Arc<Self>, mpsc::Receiver<ToTaskManager>) {
        let (commands, queued) = mpsc::channel(COMMANDS_MAX);
        let link = Self {
            id,
            epoch,
            commands,
            couriers: Mutex::default(),
            requests: Mutex::default(),
            next_request: AtomicU64::new(1),
            closed,
            dismissed: AtomicBool::new(false),
        };
        (Arc::new(link), queued)
    }

    pub(crate) fn id(&self) -> &TaskManagerId {
        &self.id
    }

    pub(crate) fn gone(&self) -> TaskManagerGone {
        TaskManagerGone(self.id.clone())
    }

    fn send(&self, message: to_task_manager::Message) -> Result<(), TaskManagerGone> {
        if self.closed.is_cancelled() {
            return Err(self.gone());
        }
        let message = ToTaskManager { epoch: self.epoch.get(), message: Some(message) };
        self.commands.try_send(message).map_err(|_| {
            self.closed.cancel();
            self.gone()
        })
    }

    fn add_courier(&self, host: HostId, owner: Arc<dyn JobMasterGateway>) {
        let mut couriers = lock(&self.couriers);
        let known = couriers.values().find(|courier| courier.is_to(&owner)).cloned();
        couriers.insert(host, known.unwrap_or_else(|| Arc::new(Courier::start(owner))));
    }

    /// The way to the JobMaster of a host.
    pub(crate) fn courier(&self, host: HostId) -> Option<Arc<Courier>> {
        lock(&self.couriers).get(&host).cloned()
    }

    /// The same, of a host that has ended.
    pub(crate) fn remove_courier(&self, host: HostId) -> Option<Arc<Courier>> {
        lock(&self.couriers).remove(&host)
    }

    /// Ends a host; after so long, by force.
    pub(crate) fn stop_host(&self, host: HostId, grace: Duration) -> Result<(), TaskManagerGone> {
        self.send(to_task_manager::Message::StopHost(cluster::StopHost {
            host_id: host.as_bytes().to_vec(),
            grace_ms: u64::try_from(grace.as_millis()).unwrap_or(u64::MAX),
        }))
    }

    pub(crate) fn answer(&self, request: u64, answer: FileAnswer) {
        if let Some(asked) = lock(&self.requests).remove(&request) {
            // The caller may have gone away.
            let _ = asked.send(answer);
        }
    }

    /// Ends the connection and forgets all callers that wait for an answer.
    pub(crate) fn close(&self) {
        self.closed.cancel();
        lock(&self.couriers).clear();
        lock(&self.requests).clear();
    }

    async fn ask(
        &self,
        message: impl FnOnce(u64) -> to_task_manager::Message,
    ) -> Result<FileAnswer, FileError> {
        let request = self.next_request.fetch_add(1, Ordering::Relaxed);
        let (asked, answer) = oneshot::channel();
        {
            let mut requests = lock(&self.requests);
            if requests.len() >= QUESTIONS_MAX {
                let reason = format!("the TaskManager has left {QUESTIONS_MAX} questions open");
                return Err(FileError::Unreadable { name: "log directory".to_owned(), reason });
            }
            requests.insert(request, asked);
        }
        let _forget = Forget { link: self, request };
        self.send(message(request))?;
        match tokio::time::timeout(FILE_DEADLINE, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(self.gone().into()),
            Err(_) => {
                let reason = format!("the TaskManager did not answer within {FILE_DEADLINE:?}");
                Err(FileError::Unreadable { name: "log directory".to_owned(), reason })
            }
        }
    }
}

/// Forgets a request when its caller goes away.
struct Forget<'a> {
    link: &'a WorkerLink,
    request: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        lock(&self.link.requests).remove(&self.request);
    }
}

impl TaskManagerGateway for RemoteTaskManager {
    fn id(&self) -> &TaskManagerId {
        &self.link.id
    }

    fn start_host(
        &self,
        owner: Arc<dyn JobMasterGateway>,
        start: StartHost,
    ) -> Result<(), TaskManagerGone> {
        let host = start.host;
        self.link.add_courier(host, owner);
        let message = to_task_manager::Message::StartHost(convert::start_host(start));
        self.link.send(message).inspect_err(|_| drop(self.link.remove_courier(host)))
    }

    fn command(&self, command: HostCommand) -> Result<(), TaskManagerGone> {
        self.link.send(to_task_manager::Message::HostCommand(cluster::HostCommand {
            host_id: command.host.as_bytes().to_vec(),
            message: Some(command.message),
        }))
    }

    fn stop_host(&self, host: HostId, grace: Duration) -> Result<(), TaskManagerGone> {
        self.link.stop_host(host, grace)
    }

    fn release_artifact(&self, artifact: ArtifactHash) -> Result<(), TaskManagerGone> {
        let sha256 = artifact.to_string();
        self.link
            .send(to_task_manager::Message::ReleaseArtifact(cluster::ReleaseArtifact { sha256 }))
    }

    fn dismiss(&self) {
        self.link.dismissed.store(true, Ordering::Relaxed);
        self.link.close();
    }

    fn list_files(&self) -> BoxFuture<'static, Result<Vec<FileInfo>, FileError>> {
        let link = Arc::clone(&self.link);
        Box::pin(async move {
            let ask =
                |request_id| to_task_manager::Message::ListFiles(cluster::ListFiles { request_id });
            match link.ask(ask).await? {
                FileAnswer::List(files) => Ok(files.into_iter().map(convert::file_info).collect()),
                FileAnswer::Chunk(_) => Err(link.gone().into()),
            }
        })
    }

    fn read_file(
        &self,
        name: String,
        offset: u64,
        length: u32,
    ) -> BoxFuture<'static, Result<FileChunk, FileError>> {
        let link = Arc::clone(&self.link);
        Box::pin(async move {
            let asked = name.clone();
            let ask = |request_id| {
                let read = cluster::ReadFile { request_id, name: asked, offset, length };
                to_task_manager::Message::ReadFile(read)
            };
            match link.ask(ask).await? {
                FileAnswer::Chunk(cluster::FileChunk { data, last, error: None, .. }) => {
                    Ok(FileChunk { data, last })
                }
                FileAnswer::Chunk(cluster::FileChunk { error: Some(reason), .. })
                    if !reason.is_empty() =>
                {
                    Err(FileError::Unreadable { name, reason })
                }
                FileAnswer::Chunk(_) => Err(FileError::NotFound(name)),
                FileAnswer::List(_) => Err(link.gone().into()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_does_not_answer_is_asked_so_many_questions_and_no_more() {
        let id = TaskManagerId::new("tm1");
        let (link, mut queued) = WorkerLink::new(id, LeaderEpoch::new(1), CancellationToken::new());
        let worker = RemoteTaskManager { link: Arc::clone(&link) };
        let mut asked = tokio::task::JoinSet::new();
        for _ in 0..QUESTIONS_MAX {
            asked.spawn(worker.list_files());
        }
        for _ in 0..QUESTIONS_MAX {
            assert!(queued.recv().await.is_some());
        }
        let refused = worker.list_files().await.unwrap_err().to_string();
        assert!(refused.contains("has left 256 questions open"), "{refused}");
        assert!(queued.try_recv().is_err(), "the worker does not hear of it");
        // Those that wait give up after a while, and make room.
        while asked.join_next().await.is_some() {}
        assert!(lock(&link.requests).is_empty());
    }
}
