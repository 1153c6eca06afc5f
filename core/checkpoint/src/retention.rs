//! Complete checkpoints: which ones are kept, and which files may be deleted.
//!
//! A file is in use while a complete checkpoint whose pointer may exist, a checkpoint that is
//! pending, or the last report of a finished task refers to it. A checkpoint that is the base of a
//! pending one keeps its pointer until that one has ended, as acknowledgements to come may refer to
//! its files.
//!
//! A pointer is removed first; files that no other checkpoint refers to are deleted when that is
//! certain. Files of an aborted checkpoint wait until all checkpoints that were pending beside it
//! have all their acknowledgements. Files of users are never deleted.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use millstream_mutants::Mutant;
use millstream_types::CheckpointId;

use crate::files::Files;
use crate::messages::Completed;
use crate::metadata::Metadata;

/// The progress of a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Removal {
    /// Its turn has not come.
    Due,
    /// The pointer is being removed.
    Asked,
    /// That failed, and is tried again then.
    Again(Instant),
}

#[derive(Debug)]
struct Removed {
    metadata: Arc<Metadata>,
    removal: Removal,
}

#[derive(Debug)]
struct Orphans {
    /// Checkpoints up to this one had started when they lost their last reference.
    through: CheckpointId,
    files: Vec<String>,
}

/// The complete checkpoints of a job and all files in use.
#[derive(Debug)]
pub(crate) struct Retention {
    retained_max: usize,
    /// Newest last.
    retained: VecDeque<Completed>,
    removed: BTreeMap<CheckpointId, Removed>,
    /// The number of pending checkpoints that are based on each.
    pins: BTreeMap<CheckpointId, u32>,
    files: Files,
    orphans: Vec<Orphans>,
}

impl Retention {
    /// Those of an earlier coordinator, in the order of their ids.
    pub(crate) fn new(retained_max: usize, completed: Vec<Completed>) -> Self {
        let mut files = Files::default();
        completed.iter().for_each(|one| files.add(one.metadata.files()));
        Self {
            retained_max,
            retained: completed.into(),
            removed: BTreeMap::new(),
            pins: BTreeMap::new(),
            files,
            orphans: Vec::new(),
        }
    }

    /// The checkpoint to restore.
    pub(crate) fn latest(&self) -> Option<&Completed> {
        self.retained.back()
    }

    /// Those that are kept, oldest first.
    pub(crate) fn retained(&self) -> impl DoubleEndedIterator<Item = &Completed> {
        self.retained.iter()
    }

    /// The checkpoint whose files may be used again: the latest, if it is the job's own.
    pub(crate) fn base(&self) -> Option<CheckpointId> {
        let latest = self.latest()?;
        let may_be_base = latest.owned && !latest.metadata.kind.is_savepoint();
        may_be_base.then(|| latest.id())
    }

    /// Takes in that a checkpoint based on this one starts.
    pub(crate) fn pin(&mut self, base: Option<CheckpointId>) {
        if let Some(base) = base {
            *self.pins.entry(base).or_default() += 1;
        }
    }

    /// Takes in that a checkpoint based on this one has ended.
    pub(crate) fn unpin(&mut self, base: Option<CheckpointId>) {
        let Some(base) = base else { return };
        if let Some(count) = self.pins.get_mut(&base) {
            *count -= 1;
            if *count == 0 {
                self.pins.remove(&base);
            }
        }
    }

    /// Takes in that a checkpoint is complete, whose files are in use already. Those beyond the
    /// number that is kept are going to be removed; one of a user only falls out of use, and the
    /// references to its files stay for good.
    pub(crate) fn add(&mut self, completed: Completed) {
        let is_last = completed.metadata.kind.is_last();
        self.retained.push_back(completed);
        if is_last {
            return;
        }
        let newest = self.retained.len() - 1;
        let mut at = 0;
        self.retained.retain(|one| {
            at += 1;
            one.owned || at > newest
        });
        while self.retained.len() > self.retained_max {
            if let Some(oldest) = self.retained.pop_front() {
                let (id, metadata) = (oldest.id(), oldest.metadata);
                self.removed.insert(id, Removed { metadata, removal: Removal::Due });
            }
        }
    }

    /// The checkpoints whose pointers are to be removed now.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<CheckpointId> {
        let mut due = Vec::new();
        for (id, removed) in &mut self.removed {
            let is_due = match removed.removal {
                Removal::Due => true,
                Removal::Asked => false,
                Removal::Again(at) => at <= now,
            };
            if is_due && !self.pins.contains_key(id) {
                removed.removal = Removal::Asked;
                due.push(*id);
            }
        }
        due
    }

    /// When a removal is tried again.
    pub(crate) fn next_time(&self) -> Option<Instant> {
        let times = self.removed.iter().filter_map(|(id, removed)| match removed.removal {
            Removal::Again(at) if !self.pins.contains_key(id) => Some(at),
            Removal::Again(_) | Removal::Due | Removal::Asked => None,
        });
        times.min()
    }

    /// Takes in that a pointer is gone. Returns the files that go too, or `None` if nothing was
    /// being removed.
    pub(crate) fn on_discarded(&mut self, id: CheckpointId) -> Option<Vec<String>> {
        if self.removed.get(&id)?.removal == Removal::Due {
            return None;
        }
        let removed = self.removed.remove(&id)?;
        let unused = self.files.remove(removed.metadata.files());
        if Mutant::DeletesSharedFile.lives() {
            return Some(removed.metadata.files().map(str::to_owned).collect());
        }
        Some(unused)
    }

    /// Takes in that a pointer may still be there; false if nothing was being removed.
    pub(crate) fn on_not_discarded(&mut self, id: CheckpointId, again: Instant) -> bool {
        match self.removed.get_mut(&id) {
            Some(removed) if removed.removal == Removal::Asked => {
                removed.removal = Removal::Again(again);
                true
            }
            Some(_) | None => false,
        }
    }

    /// The number of checkpoints that are being removed.
    pub(crate) fn removals(&self) -> usize {
        self.removed.len()
    }

    /// Takes in that something refers to these files.
    pub(crate) fn hold<'a>(&mut self, files: impl Iterator<Item = &'a str>) {
        self.files.add(files);
    }

    /// Takes in that something that failed refers to these files no more; `last` is the newest
    /// checkpoint that has started.
    pub(crate) fn release<'a>(&mut self, files: impl Iterator<Item = &'a str>, last: CheckpointId) {
        let files = self.files.remove(files);
        if !files.is_empty() {
            self.orphans.push(Orphans { through: last, files });
        }
    }

    /// Takes in that files belong to a user from now on: they are never deleted. The last report
    /// of a finished task may refer to one of them too.
    pub(crate) fn give_away<'a>(&mut self, files: impl Iterator<Item = &'a str>) {
        self.files.give_away(files);
    }

    /// The files without a reference that can be deleted: no checkpoint waits for acknowledgements
    /// any more that had started when they lost their last reference.
    pub(crate) fn unused(&mut self, oldest_open: Option<CheckpointId>) -> Vec<String> {
        let is_free = |orphans: &Orphans| oldest_open.is_none_or(|oldest| oldest > orphans.through);
        let mut free: Vec<String> = Vec::new();
        for orphans in self.orphans.extract_if(.., |orphans| is_free(orphans)) {
            free.extend(orphans.files);
        }
        free.retain(|file| !self.files.has(file));
        free.sort_unstable();
        free.dedup();
        free
    }
}
