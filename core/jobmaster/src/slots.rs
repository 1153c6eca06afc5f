//! The slots that a job holds, and which subtasks share which of them.

use std::collections::BTreeMap;

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
    /// Every shared slot, neighbours first: where workers have several slots, subtasks of one
    /// number of different groups come to lie on one worker.
    shared: Vec<SharedSlot>,
    held: BTreeMap<AllocationId, AllocatedSlot>,
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
        Self { shared, held: BTreeMap::new() }
    }

    /// What to declare.
    pub(crate) fn requirements(&self) -> Vec<SlotRequirement> {
        let count = u32::try_from(self.shared.len()).unwrap_or(u32::MAX);
        vec![SlotRequirement { profile: ResourceProfile::UNKNOWN, count }]
    }

    /// How many slots the job needs.
    pub(crate) fn needed(&self) -> usize {
        self.shared.len()
    }

    /// How many of them it lacks.
    pub(crate) fn missing(&self) -> usize {
        self.shared.len().saturating_sub(self.held.len())
    }

    /// Takes what is needed and returns what is not.
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

    /// Forgets the slots of a worker that is gone.
    pub(crate) fn lose(&mut self, task_manager: &TaskManagerId) {
        self.held.retain(|_, slot| slot.slot.task_manager != *task_manager);
    }

    /// Gives up all slots.
    pub(crate) fn take_all(&mut self) -> Vec<AllocationId> {
        std::mem::take(&mut self.held).into_keys().collect()
    }

    /// Which slot is whose; complete once nothing is missing.
    pub(crate) fn assignment(&self) -> Vec<(&SharedSlot, &AllocatedSlot)> {
        let mut slots: Vec<_> = self.held.values().collect();
        slots.sort_by(|a, b| a.slot.cmp(&b.slot));
        self.shared.iter().zip(slots).collect()
    }
}
