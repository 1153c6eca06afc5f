//! The slots of the cluster by kind, and the matching of requirements with kinds.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet};

use millstream_gateway::SlotRequirement;
use millstream_types::{ResourceProfile, SlotId, TaskManagerId};

/// A kind of slot: its profile, ordered from small to big.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind(pub(super) ResourceProfile);

impl Ord for Kind {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (&self.0, &other.0);
        a.memory.cmp(&b.memory).then(a.cpu_cores.total_cmp(&b.cpu_cores))
    }
}

impl PartialOrd for Kind {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Kind {}

/// All slots, and which of them may be granted.
#[derive(Debug, Default)]
pub(super) struct Stock(BTreeMap<Kind, Shelf>);

/// The slots of one kind.
#[derive(Debug, Default)]
struct Shelf {
    /// The number of slots, granted ones included.
    all: u32,
    /// The number of free ones.
    free: u32,
    /// The free ones of each worker that has some.
    workers: BTreeMap<TaskManagerId, BTreeSet<u32>>,
}

impl Stock {
    /// Adds a worker whose slots are free.
    pub(super) fn add(&mut self, kind: Kind, worker: &TaskManagerId, slots: u32) {
        let shelf = self.0.entry(kind).or_default();
        shelf.all += slots;
        shelf.free += slots;
        shelf.workers.insert(worker.clone(), (0..slots).collect());
    }

    /// The free slots of a worker may not be granted any more.
    pub(super) fn withdraw(&mut self, kind: Kind, worker: &TaskManagerId) {
        if let Some(shelf) = self.0.get_mut(&kind)
            && let Some(free) = shelf.workers.remove(worker)
        {
            shelf.free -= count(free.len());
        }
    }

    /// Removes a worker with all its slots.
    pub(super) fn remove(&mut self, kind: Kind, worker: &TaskManagerId, slots: usize) {
        self.withdraw(kind, worker);
        if let Some(shelf) = self.0.get_mut(&kind) {
            shelf.all -= count(slots);
            if shelf.all == 0 {
                self.0.remove(&kind);
            }
        }
    }

    /// A slot that was taken is free again.
    pub(super) fn put_back(&mut self, kind: Kind, slot: &SlotId) {
        let Some(shelf) = self.0.get_mut(&kind) else { return };
        match shelf.workers.get_mut(&slot.task_manager) {
            Some(free) => free.insert(slot.index),
            None => {
                let free = BTreeSet::from([slot.index]);
                shelf.workers.insert(slot.task_manager.clone(), free).is_none()
            }
        };
        shelf.free += 1;
    }

    /// Takes free slots of a kind, in the order of their names.
    pub(super) fn take(&mut self, kind: Kind, count: u32) -> Vec<SlotId> {
        let mut taken = Vec::with_capacity(count as usize);
        let Some(shelf) = self.0.get_mut(&kind) else { return taken };
        while taken.len() < count as usize
            && let Some(mut worker) = shelf.workers.first_entry()
        {
            let task_manager = worker.key().clone();
            while taken.len() < count as usize
                && let Some(index) = worker.get_mut().pop_first()
            {
                taken.push(SlotId { task_manager: task_manager.clone(), index });
                shelf.free -= 1;
            }
            if worker.get().is_empty() {
                worker.remove();
            }
        }
        taken
    }

    /// The number of slots of each kind, smallest kind first.
    pub(super) fn all(&self) -> impl Iterator<Item = (Kind, u32)> {
        self.0.iter().map(|(kind, shelf)| (*kind, shelf.all))
    }

    /// The number of slots of each kind that may be granted, smallest kind first.
    pub(super) fn free(&self) -> impl Iterator<Item = (Kind, u32)> {
        self.0.iter().map(|(kind, shelf)| (*kind, shelf.free))
    }
}

fn count(slots: usize) -> u32 {
    u32::try_from(slots).unwrap_or(u32::MAX)
}

/// Requirements matched with slots.
#[derive(Debug, PartialEq)]
pub(super) struct Served {
    /// The slots that serve them, of these kinds in this order.
    pub(super) taken: Vec<(Kind, u32)>,
    /// The part that is not served.
    pub(super) missing: Vec<SlotRequirement>,
}

/// Serves each requirement, the biggest first, by the smallest slots that fit. `offered` is the
/// number of slots of each kind, smallest kind first.
pub(super) fn serve(
    requirements: &[SlotRequirement],
    offered: impl Iterator<Item = (Kind, u32)>,
) -> Served {
    let mut offered: Vec<_> = offered.collect();
    let mut sorted: Vec<_> = requirements.iter().collect();
    sorted.sort_by_key(|needed| Reverse(Kind(needed.profile)));
    let (mut taken, mut missing) = (Vec::new(), Vec::new());
    for SlotRequirement { profile, count } in sorted {
        let mut left = *count;
        for (kind, there) in offered.iter_mut().filter(|(kind, _)| kind.0.fits(profile)) {
            let some = left.min(*there);
            if some > 0 {
                *there -= some;
                left -= some;
                taken.push((*kind, some));
            }
        }
        if left > 0 {
            missing.push(SlotRequirement { profile: *profile, count: left });
        }
    }
    Served { taken, missing }
}
