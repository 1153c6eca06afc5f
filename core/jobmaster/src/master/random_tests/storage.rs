//! The storage of checkpoints, which answers as it is or badly.

use super::*;

impl World {
    /// The storage answers the oldest request, as it is or badly.
    pub(super) fn store(&mut self, faults: bool) -> bool {
        let Some(request) = self.storage.pop_front().filter(|_| self.ended == 0) else {
            return false;
        };
        let luck = if faults { self.random.below(10) } else { 9 };
        let reason = || "the disk is full".to_owned();
        let answer = match request {
            StorageRequest::Prepare(trigger, directory) => {
                assert!(self.directories.insert(directory), "a directory is used twice");
                let prepared = if luck == 0 { Err(reason()) } else { Ok(()) };
                self.event(Event::Storage(StorageAnswer::Prepared(trigger, prepared)));
                return true;
            }
            StorageRequest::Remove(directory) => {
                assert!(self.directories.remove(&directory), "it was complete, or never begun");
                return true;
            }
            StorageRequest::Store(id, metadata, directory) if !metadata.kind.commits() => {
                self.store_savepoint(luck, id, &directory.expect("it has one"))
            }
            StorageRequest::ReadBack(id, Some(_)) if !self.stored.contains(&id.get()) => {
                assert!(!self.savepoints.contains(&id.get()), "its outcome is known");
                Answer::StoreFailed { id, reason: reason() }
            }
            StorageRequest::Store(id, metadata, directory) => {
                self.seen.many("final", u64::from(metadata.kind == Kind::Final));
                self.seen.many("stop", u64::from(directory.is_some()));
                self.store_one(luck, id, directory.is_some())
            }
            StorageRequest::ReadBack(id, directory) => {
                match (luck, self.stored.contains(&id.get())) {
                    (0, _) => Answer::StoreUnknown { id, reason: reason() },
                    (_, true) => {
                        self.is_complete(id.get());
                        self.has_stopped |= directory.is_some();
                        Answer::Stored(id)
                    }
                    (_, false) => Answer::StoreFailed { id, reason: reason() },
                }
            }
            StorageRequest::Discard(id) if luck == 0 => Answer::NotDiscarded(id),
            StorageRequest::Discard(id) => {
                assert!(id.get() < self.newest, "the newest checkpoint is removed");
                self.stored.remove(&id.get());
                Answer::Discarded(id)
            }
            StorageRequest::Delete(..) => return true,
            StorageRequest::DeleteAll | StorageRequest::DeleteClaimed => return true,
        };
        self.event(Event::Storage(StorageAnswer::News(answer)));
        true
    }

    fn store_savepoint(&mut self, luck: usize, id: CheckpointId, directory: &str) -> Answer {
        let reason = "the disk is full".to_owned();
        self.seen.one("savepoint");
        match luck {
            0 => Answer::StoreFailed { id, reason },
            1..=3 => Answer::StoreUnknown { id, reason },
            _ => {
                self.savepoints.insert(id.get());
                self.directories.remove(directory);
                Answer::Stored(id)
            }
        }
    }

    /// Stores a checkpoint, or the savepoint with which the job stops.
    fn store_one(&mut self, luck: usize, id: CheckpointId, stops: bool) -> Answer {
        let reason = "the disk is full".to_owned();
        match luck {
            0 => Answer::StoreFailed { id, reason },
            1..=6 => {
                if luck % 2 == 1 {
                    self.stored.insert(id.get());
                }
                self.seen.one("in doubt");
                Answer::StoreUnknown { id, reason }
            }
            _ => {
                self.stored.insert(id.get());
                self.is_complete(id.get());
                self.has_stopped |= stops;
                Answer::Stored(id)
            }
        }
    }
}
