//! A job that is stopped or cancelled and goes on as another one, at another parallelism.

use std::sync::Arc;

use millstream_checkpoint::Metadata;
use millstream_gateway::{CheckpointRequest, JobDetails, JobMasterEvent, RequestState};
use millstream_jobmaster::{Event, Loaded};
use millstream_types::{JobStatus, TriggerId};

use crate::world::World;

/// The way in which a job makes place for the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// It is stopped with a savepoint.
    Stop,
    /// It is cancelled with a savepoint.
    Savepoint,
    /// It is cancelled, and its newest checkpoint is kept.
    Retain,
}

impl World {
    /// Now and then the job is asked to make place, once it has a checkpoint.
    pub fn have_job_leave(&mut self) {
        if self.legs_left == 0 || self.leave.is_some() || !self.storage.has_any() {
            return;
        }
        if self.random.below(1_500) > 0 {
            return;
        }
        let target = Some("/savepoints".to_owned());
        let leaves = [Leave::Stop, Leave::Savepoint, Leave::Retain];
        // Records are in flight in checkpoints alone, and in none of the savepoints.
        let is_retained = self.plan.unaligned && self.random.below(2) == 0;
        let leave = leaves[if is_retained { 2 } else { self.random.below(3) as usize }];
        self.leave = Some(leave);
        self.requests += 1;
        let trigger = TriggerId::from_u128(self.requests << 96);
        let request = match leave {
            Leave::Stop => CheckpointRequest::Stop { target, drain: false },
            Leave::Savepoint => CheckpointRequest::Savepoint { target, cancel: true },
            Leave::Retain => return self.post("user", JobMasterEvent::Cancel),
        };
        self.post("user", JobMasterEvent::Request { trigger, request });
    }

    /// The checkpoint from which the next job starts, if the one that has ended has made place.
    fn left_behind(&mut self, details: &JobDetails) -> Option<Option<Loaded>> {
        let of_savepoint = details.requests.iter().find_map(|request| match &request.state {
            RequestState::Complete { location: Some(location), .. } => Some(location.clone()),
            _ => None,
        });
        let (bytes, directory) = match (of_savepoint, details.status) {
            (Some(location), _) => {
                let savepoint = self.storage.savepoints.get(&location);
                (savepoint.expect("it is there").clone(), location)
            }
            (None, JobStatus::Canceled) => match self.storage.stored.last_key_value() {
                Some((id, bytes)) => (bytes.clone(), format!("/simulated/{id}")),
                None => return Some(None),
            },
            (None, _) => return None,
        };
        let metadata = Metadata::decode("_metadata", &bytes).expect("it is whole");
        self.ledger.on_stored(metadata.checkpoint.get());
        Some(Some(Loaded { metadata, directory }))
    }

    /// Goes on with another job, if this one has made place; `false` if it has finished.
    pub fn go_on(&mut self, details: &JobDetails) -> bool {
        let Some(loaded) = self.left_behind(details) else { return false };
        assert!(self.leave.is_some(), "no task has asked for it");
        self.seen.one(match self.leave {
            Some(Leave::Stop) => "stopped",
            Some(Leave::Savepoint) => "cancelled with a savepoint",
            _ => "cancelled",
        });
        self.legs_left -= 1;
        self.leave = None;
        self.noted(&(self.leave, loaded.as_ref().map(|it| it.metadata.checkpoint)));
        let before = self.plan.parallelism;
        self.plan.parallelism = 1 + self.random.below(3) as u32;
        self.seen.many("rescaled", u64::from(self.plan.parallelism != before && loaded.is_some()));
        self.next_job(loaded.as_ref().map(|loaded| loaded.directory.as_str()));
        self.event(match loaded {
            Some(loaded) => Event::StartFrom(Box::new(loaded)),
            None => Event::Start,
        });
        true
    }

    /// Hands in the news that come to a job that has ended: slots that were granted meanwhile go
    /// back.
    pub fn hand_in_late_news(&mut self) {
        for (_, news) in std::mem::take(&mut self.streams).into_values().flatten() {
            self.event(Event::Gateway(news));
        }
    }

    /// The next job begins, and nothing is left of the one before.
    fn next_job(&mut self, from: Option<&str>) {
        let hosts: Vec<_> = self.hosts.keys().copied().collect();
        for host in hosts {
            drop(self.hosts.remove(&host));
            self.disconnect(host);
        }
        self.hand_in_late_news();
        self.storage.clear();
        let (program, graph) =
            self.plan.build(from, &self.clock.clock(), &self.ledger, &self.trouble);
        self.program = Arc::new(program);
        self.begin_job(graph);
    }
}
