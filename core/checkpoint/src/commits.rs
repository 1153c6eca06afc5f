//! Committables of complete checkpoints, until the committers have published them.
//!
//! A task repeats its committables in every acknowledgement until it learns that a checkpoint that
//! carries them is complete, and it may learn that late. So the same ones come again after they
//! were published. They are told apart by the checkpoint for which they were pre-committed: an
//! acknowledgement carries everything that its task keeps, so all that were pre-committed up to the
//! last complete checkpoint that commits came with it or before. One of them that is not here any
//! more has been published.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_mutants::Mutant;
use millstream_types::{CheckpointId, OperatorId};

use crate::messages::CommitId;
use crate::metadata::{Committables, Owner};

type Key = (CheckpointId, OperatorId, u32, Owner);

fn key_of(one: &Committables) -> Key {
    (one.checkpoint, one.operator, one.subtask, one.owner)
}

#[derive(Debug)]
struct Entry {
    committables: Arc<Committables>,
    /// The order with which the committers of the present host were told.
    told: Option<CommitId>,
}

/// The committables that wait for their commit.
#[derive(Debug)]
pub(crate) struct Commits {
    entries: BTreeMap<Key, Entry>,
    count: u64,
    /// The last complete checkpoint that commits.
    through: CheckpointId,
    next: CommitId,
    /// The first order of the present host, if it names no committable and is not confirmed.
    bare: Option<CommitId>,
}

impl Commits {
    /// Those of the last complete checkpoint of an earlier coordinator, if there is one.
    pub(crate) fn new(through: CheckpointId, pending: &[Arc<Committables>]) -> Self {
        let (entries, next) = (BTreeMap::new(), CommitId::FIRST);
        let mut commits = Self { entries, count: 0, through, next, bare: None };
        pending.iter().for_each(|one| commits.insert(one));
        commits
    }

    /// All that a checkpoint has to carry: those that wait, and of `acknowledged` those that have
    /// not been published. In the order of metadata. A savepoint may be stored after a later
    /// checkpoint: what that one alone carries belongs to records behind the savepoint's barrier.
    pub(crate) fn carried<'a>(
        &self,
        id: CheckpointId,
        acknowledged: impl Iterator<Item = &'a Arc<Committables>>,
    ) -> Vec<Arc<Committables>> {
        let waiting = self.entries.values().map(|entry| &entry.committables);
        let waiting = waiting.filter(|one| one.checkpoint <= id).cloned();
        let new = acknowledged.filter(|one| one.checkpoint > self.through).cloned();
        let carried: BTreeMap<Key, Arc<Committables>> =
            waiting.chain(new).map(|one| (key_of(&one), one)).collect();
        carried.into_values().collect()
    }

    /// Takes in that a checkpoint that commits is complete. Those that were published while it was
    /// being stored do not come back.
    pub(crate) fn complete(&mut self, id: CheckpointId, carried: &[Arc<Committables>]) {
        let through = self.through;
        if Mutant::NeverCommitsSubsumed.lives() {
            self.entries.retain(|_, entry| entry.told.is_some());
            self.count = self.entries.values().map(|it| u64::from(it.committables.count)).sum();
        }
        carried.iter().filter(|one| one.checkpoint > through).for_each(|one| self.insert(one));
        self.through = through.max(id);
    }

    fn insert(&mut self, one: &Arc<Committables>) {
        let entry = Entry { committables: Arc::clone(one), told: None };
        if self.entries.insert(key_of(one), entry).is_none() {
            self.count += u64::from(one.count);
        }
    }

    /// The last complete checkpoint that commits.
    pub(crate) const fn through(&self) -> CheckpointId {
        self.through
    }

    /// An order for those that the committers have not been told of. The first one of a host comes
    /// also if there are none.
    pub(crate) fn order(&mut self, is_first: bool) -> Option<(CommitId, Vec<Arc<Committables>>)> {
        let commit = self.next;
        let mut ordered = Vec::new();
        for entry in self.entries.values_mut().filter(|entry| entry.told.is_none()) {
            entry.told = Some(commit);
            ordered.push(Arc::clone(&entry.committables));
        }
        if ordered.is_empty() {
            if !is_first {
                return None;
            }
            self.bare = Some(commit);
        }
        self.next = commit.next();
        Some((commit, ordered))
    }

    /// Takes in that the committers are gone: the next ones are told of everything.
    pub(crate) fn on_host_lost(&mut self) {
        self.bare = None;
        self.entries.values_mut().for_each(|entry| entry.told = None);
    }

    /// Takes in that an order is carried out; false if it is none of the present host's.
    pub(crate) fn confirm(&mut self, commit: CommitId) -> bool {
        if self.bare.take_if(|bare| *bare == commit).is_some() {
            return true;
        }
        let before = self.entries.len();
        let mut published = 0;
        self.entries.retain(|_, entry| {
            let is_published = entry.told == Some(commit);
            published += if is_published { u64::from(entry.committables.count) } else { 0 };
            !is_published
        });
        self.count = self.count.saturating_sub(published);
        self.entries.len() < before
    }

    /// The number of committables that wait.
    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    /// Whether none waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use millstream_types::LeaderEpoch;

    use super::*;

    fn of(checkpoint: u64) -> Arc<Committables> {
        Arc::new(Committables {
            operator: OperatorId::from_u128(1),
            subtask: 0,
            owner: Owner { epoch: LeaderEpoch::new(1), attempt: 0 },
            checkpoint: CheckpointId::new(checkpoint),
            count: 2,
            bytes: Vec::new(),
        })
    }

    fn numbers(committables: &[Arc<Committables>]) -> Vec<u64> {
        committables.iter().map(|one| one.checkpoint.get()).collect()
    }

    #[test]
    fn later_metadata_carries_what_is_not_published_and_nothing_that_is() {
        let mut commits = Commits::new(CheckpointId::new(0), &[]);
        let carried = commits.carried(CheckpointId::new(2), [of(1), of(2)].iter());
        commits.complete(CheckpointId::new(2), &carried);
        let (first, ordered) = commits.order(false).unwrap();
        assert_eq!((numbers(&ordered), commits.count()), (vec![1, 2], 4));
        assert_eq!(commits.order(false), None, "they have been told");
        // A task that has not heard of the completion repeats itself.
        let carried = commits.carried(CheckpointId::new(3), [of(2), of(3)].iter());
        assert_eq!(numbers(&carried), [1, 2, 3]);
        let savepoint = commits.carried(CheckpointId::new(1), [of(1)].iter());
        assert_eq!(numbers(&savepoint), [1], "the other one is of later records");
        assert!(commits.confirm(first));
        assert!(!commits.confirm(first), "it is over");
        let later = commits.carried(CheckpointId::new(4), [of(2), of(3)].iter());
        assert_eq!(numbers(&later), [3]);
        // It was assembled before the confirmation.
        commits.complete(CheckpointId::new(3), &carried);
        let (second, ordered) = commits.order(false).unwrap();
        assert_eq!(numbers(&ordered), [3]);
        commits.on_host_lost();
        let (third, ordered) = commits.order(false).unwrap();
        assert_eq!(numbers(&ordered), [3]);
        assert!(!commits.confirm(second), "it was another host's");
        assert!(commits.confirm(third) && commits.is_empty() && commits.count() == 0);
    }
}
