//! Workers that an administrator starts: the driver of a standalone cluster.
//!
//! The workers are all TaskManagers that register, started by `bin/taskmanager.sh` or by a process
//! manager. Nothing here starts or stops one: requests stay open for ever and are never fulfilled,
//! a release does nothing. A worker's end is noticed by its connection to the ResourceManager, not
//! here. The masters of a machine count their starts in a file ([`EpochCounter`]).

mod epoch;
pub mod options;

pub use epoch::EpochCounter;
use futures::future::BoxFuture;
use millstream_rm_driver::{
    ClusterStatus, DriverEvent, DriverEvents, RequestId, ResourceManagerDriver, WorkerRequest,
};
use millstream_types::TaskManagerId;

/// The driver of a fixed set of workers.
#[derive(Debug)]
pub struct StandaloneDriver {
    requests: u64,
    // Kept so that the ResourceManager does not take the driver for dead.
    _events: DriverEvents,
}

impl StandaloneDriver {
    /// A driver; it reports at once that there is nothing to recover.
    #[must_use]
    pub fn new(events: DriverEvents) -> Self {
        // The first event always finds room.
        let _ = events.try_post(DriverEvent::Recovered(Vec::new()));
        Self { requests: 0, _events: events }
    }
}

impl ResourceManagerDriver for StandaloneDriver {
    fn obtainable(&self) -> Option<WorkerRequest> {
        None
    }

    fn request(&mut self, _worker: WorkerRequest) -> RequestId {
        self.requests += 1;
        RequestId::new(self.requests)
    }

    fn withdraw(&mut self, _request: RequestId) {}

    fn release(&mut self, _worker: &TaskManagerId) {}

    fn deregister(
        &mut self,
        _status: ClusterStatus,
        _diagnostics: String,
    ) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_standalone_driver_keeps_the_driver_contract() {
        millstream_rm_driver::conformance::run(StandaloneDriver::new).await;
    }
}
