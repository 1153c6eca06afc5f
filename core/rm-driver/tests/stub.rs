//! The smallest possible driver, against an external manager in memory: a test of the contracts,
//! and a start for new drivers. Its workers outlive the driver's process, as on Mesos, so that it
//! keeps them in a [`ClusterStore`].

#![expect(clippy::unwrap_used, reason = "a test ends where a step fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};
use millstream_rm_driver::{
    ClusterDeployer, ClusterEnd, ClusterId, ClusterReport, ClusterStatus, ClusterStore,
    DeployError, Deployment, DriverEvent, DriverEvents, KnownEpoch, ManagerWords, MemoryStore,
    Progress, RequestId, ResourceManagerDriver, Running, StoreKey, StoreKind, WorkerRequest,
    conformance,
};
use millstream_security::{Authority, Credentials, Role};
use millstream_types::{ByteSize, LeaderEpoch, ResourceProfile, TaskManagerId};

const DAY: Duration = Duration::from_secs(86_400);

/// The external manager's knowledge, which outlives drivers and deployers.
#[derive(Debug, Clone, Default)]
struct Manager(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    named: u64,
    workers: BTreeSet<TaskManagerId>,
    clusters: BTreeMap<ClusterId, Cluster>,
}

#[derive(Debug)]
struct Cluster {
    port: u16,
    credentials: Credentials,
    end: Option<ClusterEnd>,
}

impl Manager {
    fn with<T>(&self, change: impl FnOnce(&mut Known) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }

    fn next_name(&self) -> u64 {
        self.with(|known| {
            known.named += 1;
            known.named
        })
    }
}

#[derive(Debug)]
struct StubDriver {
    manager: Manager,
    store: MemoryStore,
    epoch: LeaderEpoch,
    events: DriverEvents,
    requests: u64,
    deregistered: bool,
}

impl StubDriver {
    /// The driver of a master of this epoch: it takes over what its predecessors left.
    fn start(
        manager: &Manager,
        store: &MemoryStore,
        epoch: LeaderEpoch,
        events: DriverEvents,
    ) -> Self {
        let kept = store.list(StoreKind::Workers).now_or_never().unwrap().unwrap();
        let alive = manager.with(|known| known.workers.clone());
        let workers = kept.into_iter().filter_map(|(key, _)| match key {
            StoreKey::Worker(worker) => alive.contains(&worker).then_some(worker),
            StoreKey::Id(_) | StoreKey::TokenHash(_) => None,
        });
        assert!(events.try_post(DriverEvent::Recovered(workers.collect())));
        let (manager, store) = (manager.clone(), store.clone());
        Self { manager, store, epoch, events, requests: 0, deregistered: false }
    }
}

impl ResourceManagerDriver for StubDriver {
    fn obtainable(&self) -> Option<WorkerRequest> {
        let memory = ByteSize::from_mib(256);
        let slot_profile = ResourceProfile { cpu_cores: 1.0, memory };
        Some(WorkerRequest { slots: 1, slot_profile, memory_process: memory })
    }

    fn request(&mut self, _worker: WorkerRequest) -> RequestId {
        self.requests += 1;
        let request = RequestId::new(self.requests);
        if !self.deregistered {
            let worker = TaskManagerId::new(format!("worker-{}", self.manager.next_name()));
            // It is written down before it can exist.
            let key = StoreKey::Worker(worker.clone());
            self.store.put(self.epoch, key, Vec::new()).now_or_never().unwrap().unwrap();
            self.manager.with(|known| known.workers.insert(worker.clone()));
            assert!(self.events.try_post(DriverEvent::Allocated { request, worker }));
        }
        request
    }

    fn withdraw(&mut self, _request: RequestId) {}

    fn release(&mut self, worker: &TaskManagerId) {
        self.manager.with(|known| known.workers.remove(worker));
        let key = StoreKey::Worker(worker.clone());
        self.store.remove(self.epoch, key).now_or_never().unwrap().unwrap();
    }

    fn deregister(&mut self, _: ClusterStatus, _: String) -> BoxFuture<'static, ()> {
        self.deregistered = true;
        Box::pin(ready(()))
    }
}

#[derive(Debug)]
struct StubDeployer(Manager);

impl StubDeployer {
    fn cluster<T>(
        &self,
        id: &ClusterId,
        look: impl FnOnce(&mut Cluster) -> T,
    ) -> Result<T, DeployError> {
        let unknown = || DeployError::Unknown(format!("there is no cluster {id}").into());
        self.0.with(|known| known.clusters.get_mut(id).map(look).ok_or_else(unknown))
    }
}

impl ClusterDeployer for StubDeployer {
    fn words(&self) -> ManagerWords {
        ManagerWords {
            system: "Stub",
            manager: "the stub",
            cluster: "cluster",
            status_command: "stub status",
            kill_command: "stub kill",
        }
    }

    fn silence_max(&self) -> Duration {
        Duration::from_secs(60)
    }

    fn submit(&mut self, deployment: Deployment) -> BoxFuture<'_, Result<ClusterId, DeployError>> {
        assert_eq!(deployment.engine, Path::new("engine"));
        let number = self.0.next_name();
        let id = ClusterId::new(format!("cluster-{number}"));
        let authority = Authority::generate(id.as_str()).unwrap();
        let credentials = authority.issue(Role::Client, "me", DAY).unwrap();
        let port = u16::try_from(number).unwrap();
        let cluster = Cluster { port, credentials, end: None };
        self.0.with(|known| known.clusters.insert(id.clone(), cluster));
        Box::pin(ready(Ok(id)))
    }

    fn wait_until_up<'a>(
        &'a mut self,
        id: &'a ClusterId,
        progress: Progress<'a>,
    ) -> BoxFuture<'a, Result<Running, DeployError>> {
        progress("the stub is never late");
        let up = self.cluster(id, |cluster| match cluster.end.clone() {
            Some(end) => Err(DeployError::Ended { id: id.clone(), end }),
            None => Ok(Running {
                host: "localhost".to_owned(),
                port: cluster.port,
                web_page: String::new(),
                credentials: Some(cluster.credentials.clone()),
            }),
        });
        Box::pin(ready(up.flatten()))
    }

    fn report<'a>(
        &'a mut self,
        id: &'a ClusterId,
    ) -> BoxFuture<'a, Result<ClusterReport, DeployError>> {
        Box::pin(ready(self.cluster(id, |cluster| match cluster.end.clone() {
            Some(end) => ClusterReport::Over(end),
            None => ClusterReport::Alive,
        })))
    }

    fn kill<'a>(
        &'a mut self,
        id: &'a ClusterId,
        why: &'a str,
    ) -> BoxFuture<'a, Result<(), DeployError>> {
        Box::pin(ready(self.cluster(id, |cluster| {
            let (state, said, why) = ("KILLED".to_owned(), String::new(), why.to_owned());
            cluster.end.get_or_insert(ClusterEnd { succeeded: false, state, said, why });
        })))
    }

    fn sweep(&mut self) -> BoxFuture<'_, Result<(), DeployError>> {
        Box::pin(ready(Ok(())))
    }
}

#[tokio::test]
async fn the_stub_keeps_the_contract_of_drivers() {
    conformance::run(|events| {
        StubDriver::start(&Manager::default(), &MemoryStore::default(), LeaderEpoch::new(1), events)
    })
    .await;
}

#[tokio::test]
async fn workers_of_the_stub_outlive_their_master() {
    let (manager, store, mut epoch) = (Manager::default(), MemoryStore::default(), 0);
    conformance::recovery(|events| {
        epoch += 1;
        StubDriver::start(&manager, &store, LeaderEpoch::new(epoch), events)
    })
    .await;
}

#[tokio::test]
async fn the_stub_keeps_the_contract_of_deployers() {
    let manager = Manager::default();
    let unknown = ClusterId::new("cluster-0");
    let make = || StubDeployer(manager.clone());
    conformance::deployer(make, Path::new("engine"), &unknown).await;
}

#[tokio::test]
async fn the_stub_keeps_the_contract_of_epochs() {
    let mut attempt = 0;
    conformance::epochs(|| {
        attempt += 1;
        KnownEpoch(LeaderEpoch::new(attempt))
    })
    .await;
}
