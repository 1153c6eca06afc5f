//! A driver whose external manager is the test itself.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use millstream_types::{ByteSize, ResourceProfile, TaskManagerId};

use crate::{
    ClusterStatus, DriverEvent, DriverEvents, RequestId, ResourceManagerDriver, WorkerRequest,
};

#[derive(Debug, Default)]
struct World {
    requests: u64,
    open: BTreeSet<RequestId>,
    workers: BTreeSet<TaskManagerId>,
    released: Vec<TaskManagerId>,
    ended: Option<(ClusterStatus, String)>,
}

/// The test's view of a [`TestingDriver`], with the actions of an external manager.
#[derive(Debug, Clone)]
pub struct TestingManager {
    world: Arc<Mutex<World>>,
    events: DriverEvents,
}

impl TestingManager {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The requests that wait for an answer.
    #[must_use]
    pub fn open_requests(&self) -> Vec<RequestId> {
        self.world().open.iter().copied().collect()
    }

    /// The workers that were given back, oldest first.
    #[must_use]
    pub fn released(&self) -> Vec<TaskManagerId> {
        self.world().released.clone()
    }

    /// The end of the cluster, if it has ended.
    #[must_use]
    pub fn ended(&self) -> Option<(ClusterStatus, String)> {
        self.world().ended.clone()
    }

    /// Answers the oldest open request with a worker of this name; false when there is none.
    #[must_use]
    pub fn allocate(&self, worker: &str) -> bool {
        let worker = TaskManagerId::new(worker);
        let mut world = self.world();
        let Some(request) = world.open.pop_first() else { return false };
        world.workers.insert(worker.clone());
        self.events.try_post(DriverEvent::Allocated { request, worker })
    }

    /// Ends a worker as if its machine had died; false when there is no such worker.
    #[must_use]
    pub fn kill(&self, worker: &str) -> bool {
        let worker = TaskManagerId::new(worker);
        let known = self.world().workers.remove(&worker);
        let reason = "killed by the test".to_owned();
        known && self.events.try_post(DriverEvent::Terminated { worker, reason })
    }

    /// Refuses the oldest open request; false when there is none.
    #[must_use]
    pub fn refuse(&self) -> bool {
        let Some(request) = self.world().open.pop_first() else { return false };
        let reason = "refused by the test".to_owned();
        self.events.try_post(DriverEvent::RequestFailed { request, reason })
    }
}

/// A driver that the test controls.
#[derive(Debug)]
pub struct TestingDriver {
    manager: TestingManager,
    fulfils: bool,
    slots: u32,
}

impl TestingDriver {
    /// A driver of workers with so many slots, and the test's side of it.
    #[must_use]
    pub fn new(slots: u32, events: DriverEvents) -> (Self, TestingManager) {
        let _ = events.try_post(DriverEvent::Recovered(Vec::new()));
        let manager = TestingManager { world: Arc::default(), events };
        (Self { manager: manager.clone(), fulfils: false, slots }, manager)
    }

    /// A driver that tells of a wait for every request and then fulfils it at once.
    #[must_use]
    pub fn generous(slots: u32, events: DriverEvents) -> Self {
        Self { fulfils: true, ..Self::new(slots, events).0 }
    }
}

impl ResourceManagerDriver for TestingDriver {
    fn obtainable(&self) -> Option<WorkerRequest> {
        Some(WorkerRequest {
            slots: self.slots,
            slot_profile: ResourceProfile { cpu_cores: 1.0, memory: ByteSize::from_mib(256) },
            memory_process: ByteSize::from_mib(256 * u64::from(self.slots)),
        })
    }

    fn request(&mut self, _worker: WorkerRequest) -> RequestId {
        let mut world = self.manager.world();
        world.requests += 1;
        let number = world.requests;
        world.open.insert(RequestId::new(number));
        drop(world);
        if self.fulfils && self.manager.ended().is_none() {
            let reason = "the test hesitates".to_owned();
            let _ = self.manager.events.try_post(DriverEvent::Waiting { reason });
            let _ = self.manager.allocate(&format!("worker-{number}"));
        }
        RequestId::new(number)
    }

    fn withdraw(&mut self, request: RequestId) {
        self.manager.world().open.remove(&request);
    }

    fn release(&mut self, worker: &TaskManagerId) {
        let mut world = self.manager.world();
        if world.workers.remove(worker) {
            world.released.push(worker.clone());
        }
    }
    fn deregister(&mut self, status: ClusterStatus, diagnostics: String) -> BoxFuture<'static, ()> {
        self.manager.world().ended = Some((status, diagnostics));
        Box::pin(std::future::ready(()))
    }
}
