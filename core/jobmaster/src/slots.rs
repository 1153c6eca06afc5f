//! The slots that a job holds, and which subtasks share which of them.
//!
//! A slot keeps its subtasks as long as it lives: after the loss of a TaskManager the others'
//! subtasks stay where they are.

use std::collections::{BTreeMap, BTreeSet};

use millstream_gateway::{AllocatedSlot, SlotRequirement};
use millstream_graph::JobGraph;
use millstream_types::{AllocationId, ResourceProfile, TaskManagerId};

/// One slot of a slot sharing group: subtask `index` of every vertex of the group runs there.
/// Subtasks of one number within a group are therefore co-located always.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SharedSlot {
    pub(crate) index: u32,
    pub(crate) group: String,
}

/// The slots of a job.
#[derive(Debug)]
pub(crate) struct SlotPool {
    /// Every shared slot, neighbours first: where TaskManagers have several slots, subtasks of one
    /// number of different groups come to lie on one TaskManager.
    shared: Vec<SharedSlot>,
    held: BTreeMap<AllocationId, AllocatedSlot>,
    /// The shared slot of each held slot, assigned when none was missing for the first time.
    assigned: BTreeMap<AllocationId, SharedSlot>,
}

impl SlotPool {
    /// No slots yet for a job that needs those of `graph`.
    pub(crate) fn new(graph: &JobGraph) -> Self {
        let groups = graph.slots_by_group();
        let mut shared: Vec<_> = groups
            .iter()
            .flat_map(|(group, width)| {
                (0..*width).map(|index| SharedSlot { index, group: (*group).to_owned() })
            })
            .collect();
        shared.sort();
        Self { shared, held: BTreeMap::new(), assigned: BTreeMap::new() }
    }

    /// The slots to declare to the ResourceManager.
    pub(crate) fn requirements(&self) -> Vec<SlotRequirement> {
        let count = u32::try_from(self.shared.len()).unwrap_or(u32::MAX);
        vec![SlotRequirement { profile: ResourceProfile::UNKNOWN, count }]
    }

    /// The number of slots that the job needs.
    pub(crate) fn needed(&self) -> usize {
        self.shared.len()
    }

    /// The number of slots that the job lacks.
    pub(crate) fn missing(&self) -> usize {
        self.shared.len().saturating_sub(self.held.len())
    }

    /// Takes the slots that are needed and returns the others.
    pub(crate) fn offer(&mut self, granted: Vec<AllocatedSlot>) -> Vec<AllocationId> {
        let mut surplus = Vec::new();
        for slot in granted {
            if self.held.contains_key(&slot.allocation) {
                continue;
            }
            if self.missing() == 0 {
                surplus.push(slot.allocation);
            } else {
                self.held.insert(slot.allocation, slot);
            }
        }
        surplus
    }

    /// Forgets the slots of a TaskManager that is gone.
    pub(crate) fn lose(&mut self, task_manager: &TaskManagerId) {
        self.held.retain(|_, slot| slot.slot.task_manager != *task_manager);
        self.assigned.retain(|allocation, _| self.held.contains_key(allocation));
    }

    /// Gives up all slots.
    pub(crate) fn take_all(&mut self) -> Vec<AllocationId> {
        self.assigned.clear();
        std::mem::take(&mut self.held).into_keys().collect()
    }

    /// The slot of every shared slot, once none is missing. Slots that have none yet get those that
    /// are left, in the order of their names.
    pub(crate) fn assign(&mut self) -> Option<Vec<(SharedSlot, AllocatedSlot)>> {
        if self.missing() > 0 {
            return None;
        }
        let taken: BTreeSet<&SharedSlot> = self.assigned.values().collect();
        let left: Vec<SharedSlot> =
            self.shared.iter().filter(|shared| !taken.contains(shared)).cloned().collect();
        let is_free = |slot: &&AllocatedSlot| !self.assigned.contains_key(&slot.allocation);
        let mut free: Vec<_> = self.held.values().filter(is_free).collect();
        free.sort_by(|a, b| a.slot.cmp(&b.slot));
        let free: Vec<AllocationId> = free.into_iter().map(|slot| slot.allocation).collect();
        self.assigned.extend(free.into_iter().zip(left));
        let slot = |(allocation, shared): (&AllocationId, &SharedSlot)| {
            Some((shared.clone(), self.held.get(allocation)?.clone()))
        };
        let mut assigned: Vec<_> = self.assigned.iter().filter_map(slot).collect();
        assigned.sort_by(|(a, _), (b, _)| a.cmp(b));
        Some(assigned)
    }
}

#[cfg(test)]
mod tests {
    use millstream_gateway::testing::TestingTaskManager;
    use millstream_types::SlotId;

    use super::*;
    use crate::master::fixture::pipeline;

    fn slot(allocation: u128, worker: &str, index: u32) -> AllocatedSlot {
        let (gateway, _) = TestingTaskManager::new(worker);
        AllocatedSlot {
            allocation: AllocationId::from_u128(allocation),
            slot: SlotId { task_manager: TaskManagerId::new(worker), index },
            profile: ResourceProfile::UNKNOWN,
            address: worker.to_owned(),
            gateway,
        }
    }

    /// Subtask number to TaskManager.
    fn workers(pool: &mut SlotPool) -> Vec<String> {
        let assigned = pool.assign().expect("none is missing");
        assigned.iter().map(|(_, slot)| slot.slot.task_manager.to_string()).collect()
    }

    #[test]
    fn a_slot_keeps_its_subtasks_as_long_as_it_lives() {
        let mut pool = SlotPool::new(&pipeline(3));
        pool.offer(vec![slot(1, "b", 0), slot(2, "c", 0), slot(3, "d", 0)]);
        assert_eq!(workers(&mut pool), ["b", "c", "d"]);
        pool.lose(&TaskManagerId::new("c"));
        assert!(pool.assign().is_none());
        pool.offer(vec![slot(4, "a", 0)]);
        assert_eq!(workers(&mut pool), ["b", "a", "d"]);
    }
}
