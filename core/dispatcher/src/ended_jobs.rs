//! Jobs that have ended, remembered for a while.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_gateway::JobDetails;
use millstream_types::JobId;

/// Ended jobs, limited in number and in age.
#[derive(Debug)]
pub(crate) struct EndedJobs {
    capacity: usize,
    expiration: Duration,
    jobs: BTreeMap<JobId, Arc<JobDetails>>,
    order: VecDeque<(Instant, JobId)>,
}

impl EndedJobs {
    pub(crate) fn new(capacity: usize, expiration: Duration) -> Self {
        Self { capacity, expiration, jobs: BTreeMap::new(), order: VecDeque::new() }
    }

    pub(crate) fn remember(&mut self, now: Instant, details: Arc<JobDetails>) {
        self.order.push_back((now, details.job));
        self.jobs.insert(details.job, details);
        while self.order.len() > self.capacity {
            self.forget_oldest();
        }
    }

    pub(crate) fn expire(&mut self, now: Instant) {
        while self
            .order
            .front()
            .is_some_and(|(since, _)| now.duration_since(*since) >= self.expiration)
        {
            self.forget_oldest();
        }
    }

    pub(crate) fn get(&self, job: JobId) -> Option<&Arc<JobDetails>> {
        self.jobs.get(&job)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<JobDetails>> {
        self.jobs.values()
    }

    fn forget_oldest(&mut self) {
        if let Some((_, job)) = self.order.pop_front() {
            self.jobs.remove(&job);
        }
    }
}
