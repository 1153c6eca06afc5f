//! Hosts that are threads of this process, behind the contract of a TaskManager.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use millstream_api::Program;
use millstream_gateway::{
    CauseKind, FailureCause, FileChunk, FileError, FileInfo, HostCommand, HostExit, JobMasterEvent,
    JobMasterGateway, StartHost, TaskManagerGateway, TaskManagerGone,
};
use millstream_graph::JobGraph;
use millstream_protocol::host::{Begin, Failure, Role, Shutdown, ToHost, to_host};
use millstream_runtime::{
    CoordinatorHost, HostCheckpointing, Outbox, TaskHost, TaskHostConfig, ToControl, control_queue,
};
use millstream_security::Secret;
use millstream_types::{ArtifactHash, Clock, HostId, JobId, LeaderEpoch, TaskManagerId};
use tokio::runtime::Handle;

/// Starts a program's hosts as threads.
#[derive(Debug)]
pub(crate) struct InProcessHosts {
    id: TaskManagerId,
    program: Arc<Program>,
    runtime: Handle,
    /// Whether hosts exchange records over loopback, as hosts of other processes do.
    listens: bool,
    hosts: Arc<Controls>,
}

/// Commands to the running hosts.
type Controls = Mutex<BTreeMap<HostId, SyncSender<ToControl>>>;

impl InProcessHosts {
    pub(crate) fn new(
        id: &str,
        program: Arc<Program>,
        runtime: Handle,
        listens: bool,
    ) -> Arc<Self> {
        let id = TaskManagerId::new(id);
        Arc::new(Self { id, program, runtime, listens, hosts: Arc::default() })
    }

    /// Never waits: a host that leaves so much unread is as good as gone.
    fn send(&self, host: HostId, message: to_host::Message) -> Result<(), TaskManagerGone> {
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(control) = hosts.get(&host) else { return Ok(()) };
        let message = Box::new(ToHost { message: Some(message) });
        match control.try_send(ToControl::Parent(message)) {
            Err(TrySendError::Full(_)) => Err(TaskManagerGone(self.id.clone())),
            Ok(()) | Err(TrySendError::Disconnected(_)) => Ok(()),
        }
    }
}

impl TaskManagerGateway for InProcessHosts {
    fn id(&self) -> &TaskManagerId {
        &self.id
    }

    fn start_host(
        &self,
        owner: Arc<dyn JobMasterGateway>,
        start: StartHost,
    ) -> Result<(), TaskManagerGone> {
        let (control, messages) = control_queue();
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.insert(start.host, control.clone());
        drop(hosts);
        let host = HostThread {
            program: Arc::clone(&self.program),
            owner,
            runtime: self.runtime.clone(),
            listens: self.listens,
            host: start.host,
            control,
            messages,
        };
        let hosts = Arc::clone(&self.hosts);
        let spawned = std::thread::Builder::new().name("host".to_owned()).spawn(move || {
            host.run(start.begin);
            hosts.lock().unwrap_or_else(PoisonError::into_inner).remove(&start.host);
        });
        spawned.map(|_| ()).map_err(|_| TaskManagerGone(self.id.clone()))
    }

    fn command(&self, command: HostCommand) -> Result<(), TaskManagerGone> {
        if let Some(message) = command.message.message {
            self.send(command.host, message)?;
        }
        Ok(())
    }

    fn stop_host(&self, host: HostId, _grace: Duration) -> Result<(), TaskManagerGone> {
        let control = self.hosts.lock().unwrap_or_else(PoisonError::into_inner).remove(&host);
        let Some(control) = control else { return Ok(()) };
        let shutdown = to_host::Message::Shutdown(Shutdown {});
        let message = ToControl::Parent(Box::new(ToHost { message: Some(shutdown) }));
        if let Err(TrySendError::Full(message)) = control.try_send(message) {
            // Nothing but this ends the host: it waits for room, once per host.
            let wait = move || drop(control.send(message));
            let spawned = std::thread::Builder::new().name("shutdown".to_owned()).spawn(wait);
            spawned.map_err(|_| TaskManagerGone(self.id.clone()))?;
        }
        Ok(())
    }

    fn release_artifact(&self, _artifact: ArtifactHash) -> Result<(), TaskManagerGone> {
        Ok(())
    }

    fn list_files(&self) -> BoxFuture<'static, Result<Vec<FileInfo>, FileError>> {
        Box::pin(async { Ok(Vec::new()) })
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

/// One host's control thread.
struct HostThread {
    program: Arc<Program>,
    owner: Arc<dyn JobMasterGateway>,
    runtime: Handle,
    listens: bool,
    host: HostId,
    control: SyncSender<ToControl>,
    messages: Receiver<ToControl>,
}

impl HostThread {
    fn run(self, begin: Begin) {
        let (outbox, outgoing) = Outbox::new();
        outbox.show_life(begin.heartbeat_interval_ms);
        let (owner, runtime, host) = (Arc::clone(&self.owner), self.runtime.clone(), self.host);
        let courier = std::thread::spawn(move || {
            for message in outgoing {
                let event = JobMasterEvent::HostMessage { host, message: Box::new(message) };
                if runtime.block_on(owner.post(event)).is_err() {
                    return;
                }
            }
        });
        let (owner, runtime) = (Arc::clone(&self.owner), self.runtime.clone());
        let cause = match self.serve(&begin, &outbox) {
            Ok(()) => FailureCause::new(CauseKind::Requested, "the host was told to stop"),
            Err(failure) => FailureCause::new(CauseKind::Error, failure.message),
        };
        drop(outbox);
        // Everything that the host said arrives before its end does.
        let _ = courier.join();
        let exit = HostExit { host, cause, stderr_tail: String::new() };
        let _ = runtime.block_on(owner.post(JobMasterEvent::HostExited(exit)));
    }

    fn serve(self, begin: &Begin, outbox: &Outbox) -> Result<(), Failure> {
        let malformed =
            |message: String| Failure { kind: "error".to_owned(), message, detail: String::new() };
        let job = JobId::try_from(begin.job_id.as_slice())
            .map_err(|error| malformed(error.to_string()))?;
        let graph = begin.job_graph.clone().unwrap_or_default();
        let graph = JobGraph::try_from(graph).map_err(|error| malformed(error.to_string()))?;
        if begin.role() == Role::Coordinator {
            let program = &self.program;
            let (control, outbox) = (self.control.clone(), outbox.clone());
            let on_failure = Arc::new(move |failure| {
                let _ = control.send(ToControl::CoordinatorFailed(Box::new(failure)));
            });
            let clock = Clock::system();
            return CoordinatorHost::start(begin, job, program, &graph, on_failure, outbox, clock)?
                .run(&self.messages);
        }
        let config = TaskHostConfig {
            job,
            host: self.host,
            epoch: LeaderEpoch::new(begin.epoch),
            attempt: begin.attempt,
            token: Secret::new([0; 32]),
            credentials: None,
            bind: Vec::from_iter(self.listens.then_some((Ipv4Addr::LOCALHOST, 0).into())),
            clock: Clock::system(),
            checkpointing: HostCheckpointing::of(begin)
                .map_err(|error| malformed(format!("{error:#}")))?,
        };
        let host = TaskHost::start(config, self.program, graph, self.control, outbox.clone())
            .map_err(|error| malformed(format!("{error:#}")))?;
        host.run(&self.messages);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_host_that_leaves_its_messages_unread_is_shut_down_nevertheless() {
        let program = Arc::new(Program::default());
        let hosts = InProcessHosts::new("local", program, Handle::current(), false);
        let (host, (control, messages)) = (HostId::from_u128(1), control_queue());
        hosts.hosts.lock().unwrap().insert(host, control.clone());
        let cancel = to_host::Message::Cancel(millstream_protocol::host::Cancel::default());
        while hosts.send(host, cancel.clone()).is_ok() {}
        hosts.stop_host(host, Duration::ZERO).unwrap();
        let is_shutdown = |message: &ToControl| {
            let ToControl::Parent(parent) = message else { return false };
            matches!(parent.message, Some(to_host::Message::Shutdown(_)))
        };
        drop(control);
        assert!(messages.iter().any(|message| is_shutdown(&message)), "the host runs on");
    }
}
