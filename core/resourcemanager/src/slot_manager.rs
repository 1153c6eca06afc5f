//! Decides which job gets which slot; pure, without clock or I/O.
//!
//! Jobs are served in the order in which they first declared a need. A job is granted its missing
//! slots only when all of them fit, so two jobs never hold half of their slots each while both
//! wait. A job that waits keeps those behind it waiting too, unless all slots of the cluster
//! together could not serve it: then it waits for new TaskManagers and the others go on.
//!
//! # Invariants
//! - a slot belongs to at most one job, and a grant's id is never used again;
//! - a job's slots stay its own until it releases them, it ends or their TaskManager is lost.
//!
//! Matching is best fit, biggest requirement first. That is exact as long as profiles can be
//! ordered (one kind of slot, or kinds that grow in all dimensions); it does not search for more.

use std::collections::{BTreeMap, BTreeSet};

use millstream_gateway::{CauseKind, FailureCause, SlotRequirement};
use millstream_rm_driver::WorkerRequest;
use millstream_types::{AllocationId, JobId, ResourceProfile, SlotId, TaskManagerId};

#[cfg(test)]
mod tests;

/// An event of the SlotManager.
#[derive(Debug, Clone)]
pub enum Event {
    /// A job needs so many slots in all.
    Declared {
        /// The job.
        job: JobId,
        /// All slots that it needs, including those that it holds.
        requirements: Vec<SlotRequirement>,
    },
    /// Slots are given back.
    Released(Vec<AllocationId>),
    /// A job ended without a word: it needs nothing, and its slots are free.
    JobGone(JobId),
    /// A TaskManager joined, or joined again.
    Registered {
        /// The TaskManager.
        worker: TaskManagerId,
        /// The number of its slots.
        slots: u32,
        /// The profile of each slot.
        profile: ResourceProfile,
    },
    /// A TaskManager will be taken away: its free slots are not granted any more.
    Draining(TaskManagerId),
    /// The reason why obtainable workers do not come; none if nothing is known to be wrong.
    Trouble(Option<String>),
    /// A TaskManager is gone with its slots.
    Lost {
        /// The TaskManager.
        worker: TaskManagerId,
        /// The reason.
        cause: FailureCause,
    },
}

/// A slot given to a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Grant {
    /// Names the grant.
    pub allocation: AllocationId,
    /// The slot.
    pub slot: SlotId,
    /// Its profile.
    pub profile: ResourceProfile,
}

/// An instruction for the actor.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Tell a job of its new slots.
    Grant {
        /// The job.
        job: JobId,
        /// All that it lacked.
        slots: Vec<Grant>,
    },
    /// Tell a job that a TaskManager is gone on which it held slots.
    TellLost {
        /// The job.
        job: JobId,
        /// The TaskManager.
        worker: TaskManagerId,
        /// The reason.
        cause: FailureCause,
    },
    /// Tell a job that the cluster is too small for it.
    TellNotEnough {
        /// The job.
        job: JobId,
        /// By how much.
        reason: String,
    },
    /// Tell a job that the cluster is big enough now.
    TellEnough(JobId),
}

#[derive(Debug)]
struct Slot {
    owner: Option<(JobId, AllocationId)>,
}

#[derive(Debug)]
struct Worker {
    profile: ResourceProfile,
    slots: Vec<Slot>,
    draining: bool,
}

/// The workers that can be started on demand.
#[derive(Debug, Clone, Copy)]
pub struct Obtainable {
    /// The kind of worker.
    pub kind: WorkerRequest,
    /// The number of slots that all workers together may have.
    pub slots_max: u32,
}

#[derive(Debug)]
struct Job {
    /// Its place in the queue.
    order: u64,
    requirements: Vec<SlotRequirement>,
    /// The sentence that it was last told, while the cluster is too small for it.
    told: Option<String>,
}

/// See the module.
#[derive(Debug)]
pub struct SlotManager {
    workers: BTreeMap<TaskManagerId, Worker>,
    jobs: BTreeMap<JobId, Job>,
    allocations: BTreeMap<AllocationId, SlotId>,
    obtainable: Option<Obtainable>,
    next_order: u64,
    next_allocation: u128,
    /// The reason why workers do not come.
    trouble: Option<String>,
}

impl SlotManager {
    /// No TaskManager, no job. Grants are named from `first_allocation` upwards.
    #[must_use]
    pub fn new(obtainable: Option<Obtainable>, first_allocation: u128) -> Self {
        Self {
            workers: BTreeMap::new(),
            jobs: BTreeMap::new(),
            allocations: BTreeMap::new(),
            obtainable,
            next_order: 0,
            next_allocation: first_allocation,
            trouble: None,
        }
    }

    /// The sentence that it was told last about workers that do not come.
    #[must_use]
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Takes in what happened and says what follows.
    pub fn on_event(&mut self, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Declared { job, requirements } => self.on_declared(job, requirements),
            Event::Released(allocations) => {
                for allocation in allocations {
                    self.free(allocation);
                }
            }
            Event::JobGone(job) => {
                self.jobs.remove(&job);
                for (allocation, _) in self.held_by(job) {
                    self.free(allocation);
                }
            }
            Event::Registered { worker, slots, profile } => {
                let cause = FailureCause::new(
                    CauseKind::WorkerLost,
                    format!("TaskManager {worker} was started anew, so its former self is gone"),
                );
                self.on_lost(&worker, &cause, &mut actions);
                let slots = (0..slots).map(|_| Slot { owner: None }).collect();
                self.workers.insert(worker, Worker { profile, slots, draining: false });
            }
            Event::Draining(worker) => {
                if let Some(worker) = self.workers.get_mut(&worker) {
                    worker.draining = true;
                }
            }
            Event::Trouble(trouble) => self.trouble = trouble,
            Event::Lost { worker, cause } => self.on_lost(&worker, &cause, &mut actions),
        }
        self.forget_satisfied_jobs_without_slots();
        self.schedule(&mut actions);
        actions
    }

    /// True if the job needs or holds slots.
    #[must_use]
    pub fn knows(&self, job: JobId) -> bool {
        self.jobs.contains_key(&job)
    }

    /// The slots of a TaskManager that belong to jobs, each with its job.
    #[must_use]
    pub fn allocated(&self, worker: &TaskManagerId) -> Vec<(u32, JobId)> {
        let slots = self.workers.get(worker).map_or(&[][..], |worker| &worker.slots);
        (0..)
            .zip(slots)
            .filter_map(|(index, slot)| slot.owner.map(|(job, _)| (index, job)))
            .collect()
    }

    /// The number of further workers that would serve all jobs that wait for slots.
    #[must_use]
    pub fn workers_missing(&self) -> u32 {
        let Some(Obtainable { kind, .. }) = self.obtainable else { return 0 };
        let missing: Vec<_> = self
            .jobs
            .iter()
            .filter(|(_, state)| self.too_small_for(&state.requirements).is_none())
            .flat_map(|(job, state)| self.missing(*job, &state.requirements))
            .filter(|needed| kind.slot_profile.fits(&needed.profile))
            .collect();
        let free = self.free_slots();
        let useful = free
            .iter()
            .filter(|(_, offered)| missing.iter().any(|needed| offered.fits(&needed.profile)));
        let slots = count_all(&missing).saturating_sub(useful.count() as u64);
        u32::try_from(slots.div_ceil(u64::from(kind.slots.max(1)))).unwrap_or(u32::MAX)
    }

    /// Workers without any granted slot.
    #[must_use]
    pub fn idle_workers(&self) -> Vec<TaskManagerId> {
        let idle = |worker: &Worker| worker.slots.iter().all(|slot| slot.owner.is_none());
        self.workers.iter().filter(|(_, w)| idle(w)).map(|(id, _)| id.clone()).collect()
    }

    fn on_declared(&mut self, job: JobId, requirements: Vec<SlotRequirement>) {
        let order = self.next_order;
        let state =
            self.jobs.entry(job).or_insert(Job { order, requirements: Vec::new(), told: None });
        state.requirements = requirements;
        self.next_order += 1;
    }

    fn on_lost(&mut self, id: &TaskManagerId, cause: &FailureCause, actions: &mut Vec<Action>) {
        let Some(worker) = self.workers.remove(id) else { return };
        let mut owners = BTreeSet::new();
        for (job, allocation) in worker.slots.into_iter().filter_map(|slot| slot.owner) {
            self.allocations.remove(&allocation);
            owners.insert(job);
        }
        actions.extend(owners.into_iter().map(|job| Action::TellLost {
            job,
            worker: id.clone(),
            cause: cause.clone(),
        }));
    }

    fn free(&mut self, allocation: AllocationId) {
        let Some(id) = self.allocations.remove(&allocation) else { return };
        if let Some(slot) = self.slot_mut(&id) {
            slot.owner = None;
        }
    }

    fn slot_mut(&mut self, id: &SlotId) -> Option<&mut Slot> {
        self.workers.get_mut(&id.task_manager)?.slots.get_mut(id.index as usize)
    }

    fn forget_satisfied_jobs_without_slots(&mut self) {
        let holders: BTreeSet<JobId> = self
            .workers
            .values()
            .flat_map(|worker| worker.slots.iter().filter_map(|slot| slot.owner))
            .map(|(job, _)| job)
            .collect();
        self.jobs.retain(|job, state| !state.requirements.is_empty() || holders.contains(job));
    }

    /// Grants what can be granted, oldest job first.
    fn schedule(&mut self, actions: &mut Vec<Action>) {
        let mut queue: Vec<(u64, JobId)> =
            self.jobs.iter().map(|(job, state)| (state.order, *job)).collect();
        queue.sort_unstable();
        let mut blocked = false;
        for (_, job) in queue {
            let Some(state) = self.jobs.get(&job) else { continue };
            let missing = self.missing(job, &state.requirements);
            let too_small = self.too_small_for(&state.requirements);
            let free = self.free_slots();
            match best_fit(&missing, free) {
                _ if missing.is_empty() => self.tell(job, None, actions),
                Some(slots) if !blocked => {
                    self.tell(job, None, actions);
                    let slots = self.grant(job, slots);
                    actions.push(Action::Grant { job, slots });
                }
                Some(_) | None => {
                    blocked |= too_small.is_none();
                    self.tell(job, too_small.or_else(|| self.trouble.clone()), actions);
                }
            }
        }
    }

    fn grant(&mut self, job: JobId, slots: Vec<(SlotId, ResourceProfile)>) -> Vec<Grant> {
        let mut grants = Vec::with_capacity(slots.len());
        for (slot, profile) in slots {
            let allocation = AllocationId::from_u128(self.next_allocation);
            self.next_allocation = self.next_allocation.wrapping_add(1);
            if let Some(state) = self.slot_mut(&slot) {
                debug_assert!(state.owner.is_none(), "{slot} was granted twice");
                state.owner = Some((job, allocation));
            }
            self.allocations.insert(allocation, slot.clone());
            grants.push(Grant { allocation, slot, profile });
        }
        grants
    }

    /// Tells a job whether the cluster is big enough, if that is news.
    fn tell(&mut self, job: JobId, too_small: Option<String>, actions: &mut Vec<Action>) {
        let Some(state) = self.jobs.get_mut(&job) else { return };
        if state.told == too_small {
            return;
        }
        actions.push(match &too_small {
            Some(reason) => Action::TellNotEnough { job, reason: reason.clone() },
            None => Action::TellEnough(job),
        });
        state.told = too_small;
    }

    /// The reason why all slots together, and all obtainable workers, cannot serve this.
    fn too_small_for(&self, requirements: &[SlotRequirement]) -> Option<String> {
        let needed = count_all(requirements);
        if let Some(Obtainable { kind, slots_max }) = self.obtainable {
            if needed > u64::from(slots_max) {
                return Some(format!(
                    "{needed} slots are needed but the cluster may have {slots_max} \
                     (slotmanager.number-of-slots.max): raise that or lower the parallelism"
                ));
            }
            let big = requirements.iter().find(|r| !kind.slot_profile.fits(&r.profile))?;
            return Some(format!(
                "a slot of {} is needed but a TaskManager's slots offer {}: give workers more \
                 memory or fewer slots",
                big.profile, kind.slot_profile
            ));
        }
        let all = self.slots(|_, _| true);
        let total = all.len() as u64;
        if best_fit(requirements, all).is_some() {
            return None;
        }
        Some(if needed > total {
            format!(
                "{needed} slots are needed but the cluster has {total}: add TaskManagers or lower \
                 the parallelism"
            )
        } else {
            let widest = requirements.iter().max_by(|a, b| compare(&a.profile, &b.profile));
            let profile = widest.map_or(ResourceProfile::UNKNOWN, |widest| widest.profile);
            format!(
                "{needed} slots are needed, some of {profile}, and too few of the cluster's \
                 {total} slots are that big: give TaskManagers more memory or fewer slots"
            )
        })
    }

    /// The part of `requirements` that the job's own slots do not serve.
    fn missing(&self, job: JobId, requirements: &[SlotRequirement]) -> Vec<SlotRequirement> {
        let mut held = self.slots(|_, slot| slot.owner.is_some_and(|(owner, _)| owner == job));
        let mut missing = Vec::new();
        for needed in biggest_first(requirements) {
            let mut count = needed.count;
            while count > 0 && take_fitting(&mut held, &needed.profile).is_some() {
                count -= 1;
            }
            if count > 0 {
                missing.push(SlotRequirement { profile: needed.profile, count });
            }
        }
        missing
    }

    fn held_by(&self, job: JobId) -> Vec<(AllocationId, JobId)> {
        self.workers
            .values()
            .flat_map(|worker| worker.slots.iter().filter_map(|slot| slot.owner))
            .filter(|(owner, _)| *owner == job)
            .map(|(owner, allocation)| (allocation, owner))
            .collect()
    }

    /// The slots that may be granted, smallest first.
    fn free_slots(&self) -> Vec<(SlotId, ResourceProfile)> {
        self.slots(|worker, slot| slot.owner.is_none() && !worker.draining)
    }

    /// The chosen slots, smallest first.
    fn slots(&self, chosen: impl Fn(&Worker, &Slot) -> bool) -> Vec<(SlotId, ResourceProfile)> {
        let mut slots: Vec<_> = self
            .workers
            .iter()
            .flat_map(|(id, worker)| {
                (0..).zip(&worker.slots).map(move |(index, slot)| (id, index, slot, worker))
            })
            .filter(|(_, _, slot, worker)| chosen(worker, slot))
            .map(|(id, index, _, worker)| {
                (SlotId { task_manager: id.clone(), index }, worker.profile)
            })
            .collect();
        slots.sort_by(|(_, a), (_, b)| compare(a, b));
        slots
    }
}

fn compare(a: &ResourceProfile, b: &ResourceProfile) -> std::cmp::Ordering {
    a.memory.cmp(&b.memory).then(a.cpu_cores.total_cmp(&b.cpu_cores))
}

fn biggest_first(requirements: &[SlotRequirement]) -> Vec<&SlotRequirement> {
    let mut sorted: Vec<_> = requirements.iter().collect();
    sorted.sort_by(|a, b| compare(&b.profile, &a.profile));
    sorted
}

fn count_all(requirements: &[SlotRequirement]) -> u64 {
    requirements.iter().map(|needed| u64::from(needed.count)).sum()
}

/// Takes the smallest slot that serves `needed` from slots sorted by size.
fn take_fitting(
    slots: &mut Vec<(SlotId, ResourceProfile)>,
    needed: &ResourceProfile,
) -> Option<(SlotId, ResourceProfile)> {
    let at = slots.iter().position(|(_, offered)| offered.fits(needed))?;
    Some(slots.remove(at))
}

/// Slots that serve all of `requirements`, or none.
fn best_fit(
    requirements: &[SlotRequirement],
    mut slots: Vec<(SlotId, ResourceProfile)>,
) -> Option<Vec<(SlotId, ResourceProfile)>> {
    if count_all(requirements) > slots.len() as u64 {
        return None;
    }
    let mut taken = Vec::new();
    for needed in biggest_first(requirements) {
        for _ in 0..needed.count {
            taken.push(take_fitting(&mut slots, &needed.profile)?);
        }
    }
    Some(taken)
}
