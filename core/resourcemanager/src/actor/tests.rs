//! The actor between testing JobMasters, workers and drivers.

use millstream_gateway::JobDetails;
use millstream_gateway::testing::{TaskManagerCall, TestingJobMaster, TestingTaskManager};
use millstream_graph::{Fingerprint, JobGraph, JobSettings, RuntimeMode};
use millstream_rm_driver::driver_events;
use millstream_rm_driver::testing::{TestingDriver, TestingManager};
use millstream_types::{ArtifactHash, ByteSize, JobStatus, ResourceProfile};

use super::*;

/// The longest time that a test waits.
const PATIENCE: Duration = Duration::from_secs(60);
const SLOT: ResourceProfile = ResourceProfile { cpu_cores: 1.0, memory: ByteSize::from_mib(256) };

fn job_master(number: u128) -> (Arc<TestingJobMaster>, mpsc::UnboundedReceiver<JobMasterEvent>) {
    TestingJobMaster::new(JobDetails {
        job: JobId::from_u128(number),
        graph: Arc::new(JobGraph {
            name: "job".into(),
            vertices: vec![],
            edges: vec![],
            runtime_mode: RuntimeMode::Streaming,
            ordinal: 0,
            plan_values: BTreeMap::new(),
            settings: JobSettings::default(),
            fingerprint: Fingerprint::default(),
        }),
        artifact: ArtifactHash::new([0; 32]),
        status: JobStatus::Running,
        status_times: BTreeMap::new(),
        start_time: Timestamp::from_millis(0),
        end_time: None,
        vertices: vec![],
        exceptions: vec![],
        exceptions_truncated: false,
        restarts: 0,
        waiting_for: None,
        checkpoints: None,
        requests: Vec::new(),
    })
}

fn registration(name: &str, slots: u32) -> TaskManagerRegistration {
    TaskManagerRegistration {
        id: TaskManagerId::new(name),
        address: "127.0.0.1".into(),
        data_port: 0,
        slots,
        slot_profile: SLOT,
        memory_process: ByteSize::from_mib(1024),
        cpu_cores: 2,
        physical_memory: ByteSize::from_mib(4096),
        pid: 1,
    }
}

fn need(count: u32) -> Vec<SlotRequirement> {
    vec![SlotRequirement { profile: SLOT, count }]
}

/// A driver without workers on demand, as in a standalone cluster.
#[derive(Debug)]
struct Fixed;

impl ResourceManagerDriver for Fixed {
    fn obtainable(&self) -> Option<millstream_rm_driver::WorkerRequest> {
        None
    }
    fn request(
        &mut self,
        _worker: millstream_rm_driver::WorkerRequest,
    ) -> millstream_rm_driver::RequestId {
        unreachable!("a fixed set is never asked")
    }
    fn withdraw(&mut self, _request: millstream_rm_driver::RequestId) {}
    fn release(&mut self, _worker: &TaskManagerId) {}
    fn deregister(&mut self, _: ClusterStatus, _: String) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

#[tokio::test]
async fn the_external_manager_hears_how_the_cluster_ended() {
    let (events, received) = driver_events();
    let (driver, world) = TestingDriver::new(1, events);
    let config = ResourceManagerConfig::new(1);
    let (manager, ended) = start_resource_manager(&config, Box::new(driver), received);
    manager.stop(ClusterStatus::Failed, "a job failed".to_owned()).await;
    ended.await.unwrap().unwrap();
    assert_eq!(world.ended(), Some((ClusterStatus::Failed, "a job failed".to_owned())));
}

fn standalone() -> ResourceManagerHandle {
    let (_, events) = driver_events();
    start_resource_manager(&ResourceManagerConfig::new(1), Box::new(Fixed), events).0
}

#[tokio::test]
async fn a_declared_slot_arrives_with_its_workers_gateway() {
    let manager = standalone();
    let (worker, _calls) = TestingTaskManager::new("w");
    manager.register(registration("w", 2), worker.clone()).await.unwrap();
    let (master, mut events) = job_master(1);
    manager.declare(master.clone(), need(2)).await.unwrap();
    let Some(JobMasterEvent::SlotsGranted(slots)) = events.recv().await else { panic!() };
    assert_eq!(slots.len(), 2);
    assert_eq!(slots[0].gateway.id(), worker.id());
    let details = manager.task_managers().await.unwrap();
    assert_eq!(details[0].allocated.len(), 2);

    manager.declare(master, vec![]).await.unwrap();
    let allocations = slots.iter().map(|slot| slot.allocation).collect();
    manager.release(allocations).await.unwrap();
    assert!(manager.task_managers().await.unwrap()[0].allocated.is_empty());
}

#[tokio::test]
async fn a_lost_worker_is_told_once_and_a_late_report_about_its_former_self_is_ignored() {
    let manager = standalone();
    let (old, old_calls) = TestingTaskManager::new("w");
    let (new, _new_calls) = TestingTaskManager::new("w");
    manager.register(registration("w", 1), old.clone()).await.unwrap();
    let (master, mut events) = job_master(1);
    manager.declare(master, need(1)).await.unwrap();
    assert!(matches!(events.recv().await, Some(JobMasterEvent::SlotsGranted(_))));
    drop(old_calls);
    manager.register(registration("w", 1), new.clone()).await.unwrap();
    assert!(matches!(events.recv().await, Some(JobMasterEvent::TaskManagerLost { .. })));
    assert!(matches!(events.recv().await, Some(JobMasterEvent::SlotsGranted(_))));

    let cause = FailureCause::new(CauseKind::WorkerLost, "the connection broke");
    manager.lost(old, cause.clone()).await.unwrap();
    assert_eq!(manager.task_managers().await.unwrap().len(), 1);
    manager.lost(new, cause).await.unwrap();
    assert!(manager.task_managers().await.unwrap().is_empty());
    let Some(JobMasterEvent::TaskManagerLost { cause, .. }) = events.recv().await else { panic!() };
    assert_eq!(cause.message, "the connection broke");
}

#[tokio::test]
async fn a_second_worker_of_a_name_is_refused_while_the_first_lives() {
    let manager = standalone();
    let (first, calls) = TestingTaskManager::new("w");
    let (second, _second_calls) = TestingTaskManager::new("w");
    manager.register(registration("w", 1), first).await.unwrap();
    let refused = manager.register(registration("w", 1), second.clone()).await.unwrap_err();
    assert!(refused.0.contains("the name w is registered and lives (process 1"), "{}", refused.0);
    assert!(refused.0.contains("taskmanager.resource-id"), "{}", refused.0);
    drop(calls);
    manager.register(registration("w", 1), second).await.unwrap();
    assert_eq!(manager.task_managers().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_job_master_that_ended_loses_its_slots() {
    let manager = standalone();
    let (worker, _calls) = TestingTaskManager::new("w");
    manager.register(registration("w", 1), worker).await.unwrap();
    let (master, events) = job_master(1);
    drop(events);
    manager.declare(master, need(1)).await.unwrap();
    let (second, mut events) = job_master(2);
    manager.declare(second, need(1)).await.unwrap();
    assert!(matches!(events.recv().await, Some(JobMasterEvent::SlotsGranted(_))));
}

#[tokio::test]
async fn malformed_registrations_are_refused_with_the_reason() {
    let manager = standalone();
    for slots in [0, u32::MAX] {
        let (worker, _calls) = TestingTaskManager::new("w");
        let error = manager.register(registration("w", slots), worker).await.unwrap_err();
        assert!(error.to_string().contains("taskmanager.numberOfTaskSlots"), "{error}");
    }
    let (worker, _calls) = TestingTaskManager::new("w");
    let mut bad = registration("w", 1);
    bad.slot_profile.cpu_cores = f64::NAN;
    assert!(manager.register(bad, worker).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn missing_workers_are_requested_and_idle_ones_released() {
    let (events, received) = driver_events();
    let (driver, outside) = TestingDriver::new(2, events);
    let config = ResourceManagerConfig::new(1);
    let (manager, _task) = start_resource_manager(&config, Box::new(driver), received);
    let (master, mut events) = job_master(1);
    manager.declare(master.clone(), need(3)).await.unwrap();
    manager.task_managers().await.unwrap();
    tokio::time::sleep(TICK).await;
    assert_eq!(outside.open_requests().len(), 2);
    for name in ["a", "b"] {
        assert!(outside.allocate(name));
        tokio::time::sleep(TICK).await;
        let (worker, _calls) = TestingTaskManager::new(name);
        manager.register(registration(name, 2), worker).await.unwrap();
    }
    let Some(JobMasterEvent::SlotsGranted(slots)) = events.recv().await else { panic!() };
    manager.declare(master, vec![]).await.unwrap();
    manager.release(slots.iter().map(|slot| slot.allocation).collect()).await.unwrap();
    tokio::time::sleep(TICK).await;
    assert!(outside.released().is_empty(), "the next job may come soon");
    tokio::time::sleep(config.fleet.idle_timeout).await;
    assert_eq!(outside.released().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_registers_before_it_is_named_is_ours() {
    let (events, received) = driver_events();
    let (driver, outside) = TestingDriver::new(1, events);
    let config = ResourceManagerConfig::new(1);
    let (manager, _task) = start_resource_manager(&config, Box::new(driver), received);
    let (master, _events) = job_master(1);
    manager.declare(master.clone(), need(2)).await.unwrap();
    tokio::time::sleep(TICK).await;
    let (worker, _calls) = TestingTaskManager::new("w");
    manager.register(registration("w", 1), worker.clone()).await.unwrap();
    assert!(outside.allocate("w"));
    tokio::time::sleep(TICK).await;
    let cause = FailureCause::new(CauseKind::WorkerLost, "the connection broke");
    manager.lost(worker, cause).await.unwrap();
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(outside.released(), [TaskManagerId::new("w")]);
}

/// A job with the slot of the only worker, that came on demand.
struct Served {
    manager: ResourceManagerHandle,
    outside: TestingManager,
    worker: Arc<TestingTaskManager>,
    calls: mpsc::UnboundedReceiver<TaskManagerCall>,
    heard: mpsc::UnboundedReceiver<JobMasterEvent>,
    master: Arc<TestingJobMaster>,
}

async fn served() -> Served {
    let (events, received) = driver_events();
    let (driver, outside) = TestingDriver::new(1, events);
    let config = ResourceManagerConfig::new(1);
    let (manager, _task) = start_resource_manager(&config, Box::new(driver), received);
    let (master, mut heard) = job_master(1);
    manager.declare(master.clone(), need(1)).await.unwrap();
    tokio::time::sleep(TICK).await;
    assert!(outside.allocate("w"));
    tokio::time::sleep(TICK).await;
    let (worker, calls) = TestingTaskManager::new("w");
    manager.register(registration("w", 1), worker.clone()).await.unwrap();
    assert!(matches!(heard.recv().await, Some(JobMasterEvent::SlotsGranted(_))));
    Served { manager, outside, worker, calls, heard, master }
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_end_is_known_outside_alone_is_sent_away() {
    let Served { manager, outside, worker, mut calls, mut heard, .. } = served().await;
    assert!(outside.kill("w"));
    assert!(matches!(heard.recv().await, Some(JobMasterEvent::TaskManagerLost { .. })));
    assert!(matches!(calls.recv().await, Some(TaskManagerCall::Dismiss)));
    let refused = manager.register(registration("w", 1), worker).await.unwrap_err();
    assert!(refused.0.contains("has ended"), "{}", refused.0);
}

#[tokio::test(start_paused = true)]
async fn why_a_worker_ended_is_told_after_its_loss() {
    let Served { manager, outside, worker, mut heard, .. } = served().await;
    let cause = FailureCause::new(CauseKind::WorkerLost, "the connection broke");
    manager.lost(worker, cause).await.unwrap();
    assert!(matches!(heard.recv().await, Some(JobMasterEvent::TaskManagerLost { .. })));
    assert!(outside.kill("w"));
    let ended = heard.recv().await;
    let Some(JobMasterEvent::TaskManagerEnded { task_manager, reason }) = ended else { panic!() };
    assert_eq!(task_manager.as_str(), "w");
    assert!(!reason.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_job_that_needs_no_slots_any_more_is_told_why_it_lost_a_worker() {
    let Served { manager, outside, worker, mut heard, master, .. } = served().await;
    let cause = FailureCause::new(CauseKind::WorkerLost, "the connection broke");
    manager.lost(worker, cause).await.unwrap();
    let lost = heard.recv().await;
    let Some(JobMasterEvent::TaskManagerLost { explanation, .. }) = lost else { panic!() };
    assert_eq!(explanation, Explanation::Follows);
    manager.declare(master, vec![]).await.unwrap();
    tokio::time::sleep(TICK).await;
    assert!(outside.kill("w"));
    assert!(matches!(heard.recv().await, Some(JobMasterEvent::TaskManagerEnded { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_loss_whose_reason_is_known_needs_no_further_word() {
    let Served { manager: _manager, outside, mut heard, .. } = served().await;
    assert!(outside.kill("w"));
    let lost = heard.recv().await;
    let Some(JobMasterEvent::TaskManagerLost { explanation, .. }) = lost else { panic!() };
    assert_eq!(explanation, Explanation::Complete);
}

#[tokio::test(start_paused = true)]
async fn a_draining_worker_is_given_back_when_it_is_idle() {
    let (events, received) = driver_events();
    let (driver, outside) = TestingDriver::new(1, events.clone());
    let config = ResourceManagerConfig::new(1);
    let (manager, _task) = start_resource_manager(&config, Box::new(driver), received);
    let (master, mut granted) = job_master(1);
    manager.declare(master.clone(), need(1)).await.unwrap();
    tokio::time::sleep(TICK).await;
    assert!(outside.allocate("w"));
    tokio::time::sleep(TICK).await;
    let (worker, _calls) = TestingTaskManager::new("w");
    manager.register(registration("w", 1), worker).await.unwrap();
    let Some(JobMasterEvent::SlotsGranted(slots)) = granted.recv().await else { panic!() };
    let (worker, reason) = (TaskManagerId::new("w"), "preempted soon".to_owned());
    events.post(DriverEvent::Draining { worker, reason, time_left: None }).await;
    tokio::time::sleep(TICK).await;
    assert!(outside.released().is_empty());
    manager.declare(master, vec![]).await.unwrap();
    manager.release(slots.iter().map(|slot| slot.allocation).collect()).await.unwrap();
    tokio::time::sleep(TICK).await;
    assert_eq!(outside.released().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn why_no_worker_comes_is_told_to_the_job_that_waits() {
    let (events, received) = driver_events();
    let (driver, outside) = TestingDriver::new(1, events.clone());
    let config = ResourceManagerConfig::new(1);
    let (manager, _task) = start_resource_manager(&config, Box::new(driver), received);
    let (master, mut heard) = job_master(1);
    manager.declare(master, need(1)).await.unwrap();
    tokio::time::sleep(TICK).await;
    let reason = "the queue has 0 MB left".to_owned();
    events.post(DriverEvent::Waiting { reason }).await;
    let said = tokio::time::timeout(PATIENCE, heard.recv()).await.expect("the wait is explained");
    let Some(JobMasterEvent::NotEnoughSlots(said)) = said else { panic!("{said:?}") };
    assert_eq!(said, "the queue has 0 MB left");
    assert!(outside.allocate("a"));
    let Some(JobMasterEvent::EnoughSlots) = heard.recv().await else { panic!() };
    assert!(outside.kill("a"));
    let Some(JobMasterEvent::NotEnoughSlots(said)) = heard.recv().await else { panic!() };
    assert_eq!(said, "the last TaskManager could not be started: killed by the test");
    tokio::time::sleep(TICK).await;
    assert!(outside.allocate("b"));
    tokio::time::sleep(TICK).await;
    let (worker, _calls) = TestingTaskManager::new("b");
    manager.register(registration("b", 1), worker).await.unwrap();
    assert!(matches!(heard.recv().await, Some(JobMasterEvent::EnoughSlots)));
    assert!(matches!(heard.recv().await, Some(JobMasterEvent::SlotsGranted(_))));
}

#[tokio::test]
async fn a_fatal_driver_ends_the_resource_manager() {
    let (events, received) = driver_events();
    let (driver, _outside) = TestingDriver::new(1, events.clone());
    let config = ResourceManagerConfig::new(1);
    let (manager, task) = start_resource_manager(&config, Box::new(driver), received);
    events.post(DriverEvent::Fatal { reason: "the token expired".into() }).await;
    let error = task.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "the ResourceManager's driver failed: the token expired");
    assert_eq!(manager.release(vec![]).await, Err(Stopped));
}
