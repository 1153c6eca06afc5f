//! The suites that drivers must pass, one for each contract.
//!
//! - [`run`]: a [`ResourceManagerDriver`]; [`recovery`]: one whose workers outlive their master
//! - [`deployer`]: a `ClusterDeployer`
//! - [`epochs`]: an `EpochSource`
//! - [`store`]: a `ClusterStore`
//!
//! A suite asserts, so it panics where the contract is broken; it is for tests only.

mod deployer;
mod epochs;
mod store;

use std::collections::BTreeSet;
use std::time::Duration;

use millstream_types::{ByteSize, ResourceProfile, TaskManagerId};

pub use deployer::deployer;
pub use epochs::epochs;
pub use store::store;

use crate::{
    ClusterStatus, DriverEvent, DriverEventReceiver, DriverEvents, RequestId,
    ResourceManagerDriver, WorkerRequest, driver_events,
};

/// Time limit for the external manager to give a worker.
const ALLOCATION_TIMEOUT: Duration = Duration::from_secs(60);
/// Time of silence after which the suite believes that no event will come.
const SILENCE: Duration = Duration::from_millis(300);

/// Runs the suite; `make` starts a driver on a manager that has no worker yet and room for four.
///
/// # Panics
/// The driver breaks the contract.
pub async fn run<D: ResourceManagerDriver>(mut make: impl FnMut(DriverEvents) -> D) {
    recovery_is_reported_first_and_once(&mut make).await;
    unknown_names_are_ignored(&mut make).await;
    withdrawn_requests_leave_nothing(&mut make).await;
    requests_get_distinct_workers_that_release_silences(&mut make).await;
    a_deregistered_driver_is_silent(&mut make).await;
}

fn kind(driver: &impl ResourceManagerDriver) -> WorkerRequest {
    driver.obtainable().unwrap_or(WorkerRequest {
        slots: 1,
        slot_profile: ResourceProfile::UNKNOWN,
        memory_process: ByteSize::from_mib(64),
    })
}

async fn start<D: ResourceManagerDriver>(
    make: &mut impl FnMut(DriverEvents) -> D,
) -> (D, DriverEventReceiver) {
    let (events, mut received) = driver_events();
    let driver = make(events);
    let first = tokio::time::timeout(ALLOCATION_TIMEOUT, received.next()).await;
    let recovered = Ok(Some(DriverEvent::Recovered(Vec::new())));
    assert_eq!(first, recovered, "the first event must be an empty recovery");
    (driver, received)
}

async fn next_within(received: &mut DriverEventReceiver, limit: Duration) -> Option<DriverEvent> {
    tokio::time::timeout(limit, received.next()).await.ok().flatten()
}

/// The answer to an open request: waits may be told before it.
async fn answer(received: &mut DriverEventReceiver) -> Option<DriverEvent> {
    let answer = async {
        loop {
            match received.next().await {
                Some(DriverEvent::Waiting { .. }) => {}
                event => return event,
            }
        }
    };
    tokio::time::timeout(ALLOCATION_TIMEOUT, answer).await.ok().flatten()
}

async fn recovery_is_reported_first_and_once<D: ResourceManagerDriver>(
    make: &mut impl FnMut(DriverEvents) -> D,
) {
    let (driver, mut received) = start(make).await;
    assert_eq!(next_within(&mut received, SILENCE).await, None, "nothing was asked for");
    drop(driver);
}

async fn unknown_names_are_ignored<D: ResourceManagerDriver>(
    make: &mut impl FnMut(DriverEvents) -> D,
) {
    let (mut driver, mut received) = start(make).await;
    driver.withdraw(RequestId::new(u64::MAX));
    driver.release(&TaskManagerId::new("nobody"));
    assert_eq!(next_within(&mut received, SILENCE).await, None, "unknown names are ignored");
}

async fn withdrawn_requests_leave_nothing<D: ResourceManagerDriver>(
    make: &mut impl FnMut(DriverEvents) -> D,
) {
    let (mut driver, mut received) = start(make).await;
    let kind = kind(&driver);
    let request = driver.request(kind);
    driver.withdraw(request);
    driver.withdraw(request);
    while let Some(event) = next_within(&mut received, SILENCE).await {
        match event {
            DriverEvent::Allocated { request: answered, worker } => {
                assert_eq!(answered, request);
                driver.release(&worker);
            }
            // Told before the withdrawal.
            DriverEvent::Waiting { .. } => {}
            other => assert!(
                matches!(&other, DriverEvent::RequestFailed { request: r, .. } if *r == request),
                "unexpected after a withdrawal: {other:?}"
            ),
        }
    }
}

async fn requests_get_distinct_workers_that_release_silences<D: ResourceManagerDriver>(
    make: &mut impl FnMut(DriverEvents) -> D,
) {
    let (mut driver, mut received) = start(make).await;
    let kind = kind(&driver);
    let mut open: BTreeSet<RequestId> = (0..3).map(|_| driver.request(kind)).collect();
    assert_eq!(open.len(), 3, "request ids must differ");
    if driver.obtainable().is_none() {
        assert_eq!(next_within(&mut received, SILENCE).await, None, "no request is fulfilled");
        return;
    }
    let mut workers = BTreeSet::new();
    while !open.is_empty() {
        let event = answer(&mut received).await;
        let Some(DriverEvent::Allocated { request, worker }) = event else {
            unreachable!("expected an allocation, got {event:?}");
        };
        assert!(open.remove(&request), "{request} was answered twice");
        assert!(workers.insert(worker), "two requests got one worker");
    }
    for worker in &workers {
        driver.release(worker);
    }
    assert_eq!(next_within(&mut received, SILENCE).await, None, "released workers are silent");
}

async fn a_deregistered_driver_is_silent<D: ResourceManagerDriver>(
    make: &mut impl FnMut(DriverEvents) -> D,
) {
    let (mut driver, mut received) = start(make).await;
    let request = driver.request(kind(&driver));
    if driver.obtainable().is_some() {
        let event = answer(&mut received).await;
        let answered =
            matches!(&event, Some(DriverEvent::Allocated { request: r, .. }) if *r == request);
        assert!(answered, "expected an allocation, got {event:?}");
    }
    let ended = driver.deregister(ClusterStatus::Succeeded, "all is well".to_owned());
    let ended = tokio::time::timeout(ALLOCATION_TIMEOUT, ended).await;
    assert!(ended.is_ok(), "the end of the cluster was not acknowledged");
    driver.request(kind(&driver));
    assert_eq!(next_within(&mut received, SILENCE).await, None, "the cluster has ended");
}

/// Runs the suite of drivers whose workers outlive their master; `make` starts the driver of the
/// next master of one cluster, whose manager has no worker yet and room for two.
///
/// # Panics
/// The driver breaks the contract.
pub async fn recovery<D: ResourceManagerDriver>(mut make: impl FnMut(DriverEvents) -> D) {
    let (mut driver, mut received) = start(&mut make).await;
    let kind = kind(&driver);
    let mut workers = BTreeSet::new();
    for _ in 0..2 {
        driver.request(kind);
        let event = answer(&mut received).await;
        let Some(DriverEvent::Allocated { worker, .. }) = event else {
            unreachable!("expected an allocation, got {event:?}");
        };
        workers.insert(worker);
    }
    drop((driver, received));
    // The next master finds both, each once, and may give one back.
    let (events, mut received) = driver_events();
    let mut driver = make(events);
    let mut recovered = Vec::new();
    while recovered.len() < workers.len() {
        let event = next_within(&mut received, ALLOCATION_TIMEOUT).await;
        let Some(DriverEvent::Recovered(more)) = event else {
            unreachable!("expected workers of the earlier master, got {event:?}");
        };
        recovered.extend(more);
    }
    let distinct: BTreeSet<TaskManagerId> = recovered.iter().cloned().collect();
    assert_eq!((distinct.len(), &distinct), (recovered.len(), &workers));
    let released = workers.pop_first().expect("there are two");
    driver.release(&released);
    assert_eq!(next_within(&mut received, SILENCE).await, None, "a released worker is silent");
    drop((driver, received));
    // The third finds the one that is left.
    let (events, mut received) = driver_events();
    let _driver = make(events);
    let event = next_within(&mut received, ALLOCATION_TIMEOUT).await;
    assert_eq!(event, Some(DriverEvent::Recovered(workers.into_iter().collect())));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestingDriver;

    #[tokio::test]
    async fn the_testing_driver_keeps_the_contract() {
        run(|events| TestingDriver::generous(2, events)).await;
    }
}
