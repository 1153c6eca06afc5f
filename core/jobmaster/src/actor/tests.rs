//! The actor carries out the decider's actions; the decider's own tests check its decisions.

use std::time::Duration;

use futures::FutureExt;
use millstream_gateway::testing::{TaskManagerCall, TestingTaskManager};
use millstream_gateway::{
    AllocatedSlot, HostExit, RegistrationRefused, TaskManagerDetails, TaskManagerHeartbeat,
    TaskManagerRegistration,
};
use millstream_protocol::host::{FromHost, Ready, from_host, to_host};
use millstream_security::{Authority, Credentials, Role};
use millstream_types::{JobStatus, ResourceProfile, SlotId, TaskManagerId};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::*;
use crate::master::fixture::{pipeline, submission};

/// A call to the ResourceManager.
#[derive(Debug)]
enum Told {
    Declare(Arc<dyn JobMasterGateway>, u32),
    Release(Vec<AllocationId>),
}

#[derive(Debug)]
struct TestingResourceManager(UnboundedSender<Told>);

impl ResourceManagerGateway for TestingResourceManager {
    fn declare(
        &self,
        owner: Arc<dyn JobMasterGateway>,
        requirements: Vec<SlotRequirement>,
    ) -> BoxFuture<'_, Result<(), Stopped>> {
        let count = requirements.iter().map(|slots| slots.count).sum();
        let sent = self.0.send(Told::Declare(owner, count)).map_err(|_| Stopped);
        async move { sent }.boxed()
    }

    fn release(&self, allocations: Vec<AllocationId>) -> BoxFuture<'_, Result<(), Stopped>> {
        let sent = self.0.send(Told::Release(allocations)).map_err(|_| Stopped);
        async move { sent }.boxed()
    }

    fn register(
        &self,
        _registration: TaskManagerRegistration,
        _gateway: Arc<dyn TaskManagerGateway>,
    ) -> BoxFuture<'_, Result<(), RegistrationRefused>> {
        async { Ok(()) }.boxed()
    }

    fn heartbeat(
        &self,
        _task_manager: TaskManagerId,
        _heartbeat: TaskManagerHeartbeat,
    ) -> BoxFuture<'_, Result<(), Stopped>> {
        async { Ok(()) }.boxed()
    }

    fn lost(
        &self,
        _gateway: Arc<dyn TaskManagerGateway>,
        _cause: FailureCause,
    ) -> BoxFuture<'_, Result<(), Stopped>> {
        async { Ok(()) }.boxed()
    }

    fn task_managers(&self) -> BoxFuture<'_, Result<Vec<TaskManagerDetails>, Stopped>> {
        async { Ok(Vec::new()) }.boxed()
    }
}

struct Cluster {
    job: Arc<dyn JobMasterGateway>,
    told: UnboundedReceiver<Told>,
    worker: Arc<TestingTaskManager>,
    calls: UnboundedReceiver<TaskManagerCall>,
}

impl Cluster {
    fn start() -> Self {
        Self::configured(JobMasterConfig::default())
    }

    fn configured(config: JobMasterConfig) -> Self {
        #[expect(clippy::disallowed_methods, reason = "a test says how much comes")]
        let (tell, told) = unbounded_channel();
        let (coordinator_hosts, _) = TestingTaskManager::new("coordinators");
        let (worker, calls) = TestingTaskManager::new("tm1");
        let factory = Factory {
            resource_manager: Arc::new(TestingResourceManager(tell)),
            coordinator_hosts,
            config,
        };
        Self { job: factory.start(submission(pipeline(1))), told, worker, calls }
    }

    async fn grant(&self) {
        let slot = AllocatedSlot {
            allocation: AllocationId::from_u128(1),
            slot: SlotId { task_manager: TaskManagerId::new("tm1"), index: 0 },
            profile: ResourceProfile::UNKNOWN,
            address: "localhost".to_owned(),
            gateway: self.worker.clone(),
        };
        self.job.post(JobMasterEvent::SlotsGranted(vec![slot])).await.unwrap();
    }

    async fn declaration(&mut self) -> u32 {
        match self.told.recv().await {
            Some(Told::Declare(owner, count)) => {
                assert_eq!(owner.job(), self.job.job());
                count
            }
            other => panic!("expected a declaration, not {other:?}"),
        }
    }

    async fn wait_for(&self, status: JobStatus) -> Arc<JobDetails> {
        let mut details = self.job.details();
        let found = details.wait_for(|details| details.status == status).await;
        Arc::clone(&found.expect("the status is reached"))
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_is_cancelled_through_all_parties() {
    let mut cluster = Cluster::start();
    assert_eq!(cluster.declaration().await, 1);
    cluster.grant().await;
    let Some(TaskManagerCall::StartHost(start)) = cluster.calls.recv().await else {
        panic!("expected the start of a host");
    };
    let ready = from_host::Message::Ready(Ready { data_address: "localhost:1".to_owned() });
    let message = FromHost { message: Some(ready) };
    cluster
        .job
        .post(JobMasterEvent::HostMessage { host: start.host, message: Box::new(message) })
        .await
        .unwrap();
    let Some(TaskManagerCall::Command(command)) = cluster.calls.recv().await else {
        panic!("expected a deployment");
    };
    assert!(matches!(command.message.message, Some(to_host::Message::Deploy(_))));

    cluster.job.post(JobMasterEvent::Cancel).await.unwrap();
    cluster.wait_for(JobStatus::Cancelling).await;
    assert!(matches!(cluster.calls.recv().await, Some(TaskManagerCall::Command(_))));
    // The cancellation stays without an answer, so the timer kills the host.
    let Some(TaskManagerCall::StopHost(host, Duration::ZERO)) = cluster.calls.recv().await else {
        panic!("expected the host to be killed");
    };
    let cause = FailureCause::new(CauseKind::Requested, "was told to end");
    let exit = HostExit { host, cause, stderr_tail: String::new() };
    cluster.job.post(JobMasterEvent::HostExited(exit)).await.unwrap();

    let details = cluster.wait_for(JobStatus::Canceled).await;
    assert_eq!(details.exceptions.len(), 1);
    assert_eq!(cluster.declaration().await, 0);
    assert!(matches!(cluster.told.recv().await, Some(Told::Release(slots)) if slots.len() == 1));
    assert!(cluster.told.recv().await.is_none(), "the actor has ended");
    assert_eq!(cluster.job.post(JobMasterEvent::Cancel).await, Err(Stopped));
    assert_eq!(cluster.job.details().borrow().status, JobStatus::Canceled);
}

#[tokio::test(start_paused = true)]
async fn with_an_authority_each_host_gets_its_certificate() {
    let authority = Arc::new(Authority::generate("c").unwrap());
    let config = JobMasterConfig { authority: Some(authority), ..JobMasterConfig::default() };
    let mut cluster = Cluster::configured(config);
    assert_eq!(cluster.declaration().await, 1);
    cluster.grant().await;
    let Some(TaskManagerCall::StartHost(start)) = cluster.calls.recv().await else {
        panic!("expected the start of a host");
    };
    let credentials = Credentials::from_secret(&start.begin.credentials).unwrap();
    let name = format!("{}/{}", cluster.job.job(), start.host);
    assert_eq!((credentials.identity().role, &credentials.identity().name), (Role::Host, &name));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_cannot_be_reached_counts_as_lost() {
    // The system's clock does not jump with the runtime's: a wait would take its time.
    let explanation_wait = Duration::ZERO;
    let mut cluster =
        Cluster::configured(JobMasterConfig { explanation_wait, ..JobMasterConfig::default() });
    assert_eq!(cluster.declaration().await, 1);
    cluster.calls.close();
    cluster.grant().await;
    let details = cluster.wait_for(JobStatus::Failed).await;
    assert_eq!(details.exceptions[0].cause.message, "TaskManager tm1 cannot be reached");
}

#[tokio::test(start_paused = true)]
async fn slots_that_do_not_come_are_waited_for_as_long_as_configured() {
    let cluster = Cluster::start();
    let before = tokio::time::Instant::now();
    cluster.wait_for(JobStatus::Failed).await;
    assert!(before.elapsed() >= Duration::from_secs(300));
}
