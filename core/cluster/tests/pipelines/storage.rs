//! The storage of checkpoints, which answers as it is or badly.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use millstream_checkpoint::metadata::Kind;
use millstream_checkpoint::{Event as Answer, Metadata};
use millstream_jobmaster::{Event, StorageAnswer, StorageRequest};
use millstream_types::CheckpointId;

use crate::world::World;

/// The metadata that is there, and the requests that are on their way.
#[derive(Debug, Default)]
pub struct Storage {
    pub stored: BTreeMap<CheckpointId, Vec<u8>>,
    /// Savepoints, by their directories.
    pub savepoints: BTreeMap<String, Vec<u8>>,
    requests: VecDeque<(Instant, StorageRequest)>,
}

impl Storage {
    pub fn ask(&mut self, due: Instant, request: StorageRequest) {
        self.requests.push_back((due, request));
    }

    /// The job has ended, and the next one has a directory of its own.
    pub fn clear(&mut self) {
        self.stored.clear();
        self.requests.clear();
    }

    pub fn next_time(&self) -> Option<Instant> {
        self.requests.front().map(|(due, _)| *due)
    }

    pub fn has_any(&self) -> bool {
        !self.stored.is_empty()
    }
}

impl World {
    /// The storage answers the oldest request, if it is due.
    pub fn answer(&mut self) -> bool {
        if self.storage.next_time().is_none_or(|due| due > self.now()) {
            return false;
        }
        let (_, request) = self.storage.requests.pop_front().expect("one is due");
        let faults = self.faults_left > 0;
        let luck = if faults { self.random.below(16) } else { 15 };
        let reason = || "the disk is full".to_owned();
        let answer = match request {
            StorageRequest::Prepare(trigger, _) => {
                let prepared = if luck == 0 { Err(reason()) } else { Ok(()) };
                self.event(Event::Storage(StorageAnswer::Prepared(trigger, prepared)));
                return true;
            }
            StorageRequest::Store(id, metadata, directory) => {
                self.store(luck, id, &metadata, directory)
            }
            StorageRequest::ReadBack(id, directory) => match (luck, self.has(id, directory)) {
                (0, _) => Answer::StoreUnknown { id, reason: reason() },
                (_, true) => Answer::Stored(id),
                (_, false) => Answer::StoreFailed { id, reason: reason() },
            },
            StorageRequest::Discard(id) if luck == 0 => Answer::NotDiscarded(id),
            StorageRequest::Discard(id) => {
                self.storage.stored.remove(&id);
                Answer::Discarded(id)
            }
            StorageRequest::Remove(directory) => {
                self.storage.savepoints.remove(&directory);
                return true;
            }
            StorageRequest::Delete(..)
            | StorageRequest::DeleteAll
            | StorageRequest::DeleteClaimed => return true,
        };
        self.event(Event::Storage(StorageAnswer::News(answer)));
        true
    }

    fn has(&self, id: CheckpointId, directory: Option<String>) -> bool {
        match directory {
            Some(directory) => self.storage.savepoints.contains_key(&directory),
            None => self.storage.stored.contains_key(&id),
        }
    }

    fn store(
        &mut self,
        luck: u64,
        id: CheckpointId,
        metadata: &Metadata,
        directory: Option<String>,
    ) -> Answer {
        let bytes = metadata.encode().expect("metadata is encoded");
        let read = Metadata::decode("_metadata", &bytes).expect("and decoded");
        assert_eq!(&read, metadata, "it is not what was stored");
        let reason = "the disk is full".to_owned();
        if luck == 0 {
            self.seen.one("storage failed");
            return Answer::StoreFailed { id, reason };
        }
        if luck != 1 {
            if metadata.kind.commits() {
                self.ledger.on_stored(id.get());
            }
            match directory {
                Some(directory) => {
                    self.storage.savepoints.insert(directory, bytes);
                    self.seen.one("savepoint stored");
                }
                None => {
                    self.storage.stored.insert(id, bytes);
                    self.seen.one("checkpoint stored");
                }
            }
            self.seen.many("final checkpoint", u64::from(metadata.kind == Kind::Final));
        }
        if luck < 4 {
            self.seen.one("storage in doubt");
            return Answer::StoreUnknown { id, reason };
        }
        Answer::Stored(id)
    }
}
