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
//!
//! No event looks at all slots: slots are counted by kind, each job knows its own,
//! and only the jobs that lack slots are looked at again.

use std::collections::{BTreeMap, BTreeSet};

use millstream_gateway::{CauseKind, FailureCause, SlotRequirement};
use millstream_rm_driver::WorkerRequest;
use millstream_types::{AllocationId, JobId, ResourceProfile, SlotId, TaskManagerId};

use stock::{Kind, Stock, serve};

#[cfg(test)]
mod scan;
mod stock;
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
struct Worker {
    kind: Kind,
    slots: Vec<Option<(JobId, AllocationId)>>,
    /// The number of slots that belong to jobs.
    used: u32,
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
    held: BTreeSet<AllocationId>,
    /// The number of its slots of each kind.
    held_by_kind: BTreeMap<Kind, u32>,
    /// The sentence that it was last told, while the cluster is too small for it.
    told: Option<String>,
}

impl Job {
    /// The part of its requirements that its own slots do not serve.
    fn missing(&self) -> Vec<SlotRequirement> {
        let held = self.held_by_kind.iter().map(|(kind, count)| (*kind, *count));
        serve(&self.requirements, held).missing
    }

    fn take(&mut self, allocation: AllocationId, kind: Kind) {
        self.held.insert(allocation);
        *self.held_by_kind.entry(kind).or_default() += 1;
    }

    fn give_up(&mut self, allocation: AllocationId, kind: Kind) {
        if self.held.remove(&allocation)
            && let Some(count) = self.held_by_kind.get_mut(&kind)
        {
            *count -= 1;
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct SlotManager {
    workers: BTreeMap<TaskManagerId, Worker>,
    stock: Stock,
    /// Workers without any granted slot.
    idle: BTreeSet<TaskManagerId>,
    jobs: BTreeMap<JobId, Job>,
    /// The jobs that may lack slots, in the order in which they are served.
    waiting: BTreeSet<(u64, JobId)>,
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
            stock: Stock::default(),
            idle: BTreeSet::new(),
            jobs: BTreeMap::new(),
            waiting: BTreeSet::new(),
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
            Event::JobGone(job) => self.on_job_gone(job),
            Event::Registered { worker, slots, profile } => {
                let cause = FailureCause::new(
                    CauseKind::WorkerLost,
                    format!("TaskManager {worker} was started anew, so its former self is gone"),
                );
                self.on_lost(&worker, &cause, &mut actions);
                self.on_registered(worker, slots, Kind(profile));
            }
            Event::Draining(worker) => {
                if let Some(state) = self.workers.get_mut(&worker)
                    && !std::mem::replace(&mut state.draining, true)
                {
                    self.stock.withdraw(state.kind, &worker);
                }
            }
            Event::Trouble(trouble) => self.trouble = trouble,
            Event::Lost { worker, cause } => self.on_lost(&worker, &cause, &mut actions),
        }
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
        (0..).zip(slots).filter_map(|(index, owner)| owner.map(|(job, _)| (index, job))).collect()
    }

    /// The number of further workers that would serve all jobs that wait for slots.
    #[must_use]
    pub fn workers_missing(&self) -> u32 {
        let Some(Obtainable { kind, .. }) = self.obtainable else { return 0 };
        let missing: Vec<_> = self
            .waiting
            .iter()
            .filter_map(|(_, job)| self.jobs.get(job))
            .filter(|job| self.too_small_for(&job.requirements).is_none())
            .flat_map(Job::missing)
            .filter(|needed| kind.slot_profile.fits(&needed.profile))
            .collect();
        let is_useful = |offered: Kind| missing.iter().any(|it| offered.0.fits(&it.profile));
        let free = self.stock.free().filter(|(offered, _)| is_useful(*offered));
        let useful: u64 = free.map(|(_, count)| u64::from(count)).sum();
        let slots = count_all(&missing).saturating_sub(useful);
        u32::try_from(slots.div_ceil(u64::from(kind.slots.max(1)))).unwrap_or(u32::MAX)
    }

    /// Workers without any granted slot.
    #[must_use]
    pub const fn idle_workers(&self) -> &BTreeSet<TaskManagerId> {
        &self.idle
    }

    fn on_declared(&mut self, job: JobId, requirements: Vec<SlotRequirement>) {
        let state = self.jobs.entry(job).or_insert_with(|| Job {
            order: self.next_order,
            requirements: Vec::new(),
            held: BTreeSet::new(),
            held_by_kind: BTreeMap::new(),
            told: None,
        });
        state.requirements = requirements;
        self.next_order += 1;
        self.look_at(job);
    }

    /// Has `schedule` look at a job whose need or slots changed, or forgets it if it has neither.
    fn look_at(&mut self, job: JobId) {
        let Some(state) = self.jobs.get(&job) else { return };
        let place = (state.order, job);
        if state.requirements.is_empty() && state.held.is_empty() {
            self.jobs.remove(&job);
            self.waiting.remove(&place);
        } else {
            self.waiting.insert(place);
        }
    }

    fn on_job_gone(&mut self, job: JobId) {
        let Some(state) = self.jobs.get_mut(&job) else { return };
        state.requirements.clear();
        let held: Vec<_> = state.held.iter().copied().collect();
        held.into_iter().for_each(|allocation| self.free(allocation));
        self.look_at(job);
    }

    fn on_registered(&mut self, worker: TaskManagerId, slots: u32, kind: Kind) {
        self.stock.add(kind, &worker, slots);
        let slots = vec![None; slots as usize];
        let state = Worker { kind, slots, used: 0, draining: false };
        self.workers.insert(worker.clone(), state);
        self.idle.insert(worker);
    }

    fn on_lost(&mut self, id: &TaskManagerId, cause: &FailureCause, actions: &mut Vec<Action>) {
        let Some(worker) = self.workers.remove(id) else { return };
        self.idle.remove(id);
        self.stock.remove(worker.kind, id, worker.slots.len());
        let mut owners = BTreeSet::new();
        for (job, allocation) in worker.slots.into_iter().flatten() {
            self.allocations.remove(&allocation);
            if let Some(state) = self.jobs.get_mut(&job) {
                state.give_up(allocation, worker.kind);
            }
            owners.insert(job);
        }
        owners.iter().for_each(|job| self.look_at(*job));
        actions.extend(owners.into_iter().map(|job| Action::TellLost {
            job,
            worker: id.clone(),
            cause: cause.clone(),
        }));
    }

    fn free(&mut self, allocation: AllocationId) {
        let Some(id) = self.allocations.remove(&allocation) else { return };
        let Some(worker) = self.workers.get_mut(&id.task_manager) else { return };
        let owner = worker.slots.get_mut(id.index as usize).and_then(Option::take);
        let Some((job, _)) = owner else { return };
        worker.used -= 1;
        let kind = worker.kind;
        if !worker.draining {
            self.stock.put_back(kind, &id);
        }
        if worker.used == 0 {
            self.idle.insert(id.task_manager);
        }
        if let Some(state) = self.jobs.get_mut(&job) {
            state.give_up(allocation, kind);
        }
        self.look_at(job);
    }

    /// Grants what can be granted, oldest job first.
    fn schedule(&mut self, actions: &mut Vec<Action>) {
        let mut blocked = false;
        let waiting: Vec<_> = self.waiting.iter().copied().collect();
        for (order, job) in waiting {
            let Some(state) = self.jobs.get(&job) else { continue };
            let missing = state.missing();
            if missing.is_empty() {
                self.waiting.remove(&(order, job));
                self.tell(job, None, actions);
                continue;
            }
            let fit = serve(&missing, self.stock.free());
            if fit.missing.is_empty() && !blocked {
                self.waiting.remove(&(order, job));
                self.tell(job, None, actions);
                let slots = self.grant(job, &fit.taken);
                actions.push(Action::Grant { job, slots });
            } else {
                let too_small = self.too_small_for(&state.requirements);
                blocked |= too_small.is_none();
                self.tell(job, too_small.or_else(|| self.trouble.clone()), actions);
            }
        }
    }

    fn grant(&mut self, job: JobId, kinds: &[(Kind, u32)]) -> Vec<Grant> {
        let mut grants = Vec::new();
        for (kind, count) in kinds {
            for slot in self.stock.take(*kind, *count) {
                let allocation = AllocationId::from_u128(self.next_allocation);
                self.next_allocation = self.next_allocation.wrapping_add(1);
                if let Some(worker) = self.workers.get_mut(&slot.task_manager)
                    && let Some(owner) = worker.slots.get_mut(slot.index as usize)
                {
                    debug_assert!(owner.is_none(), "{slot} was granted twice");
                    *owner = Some((job, allocation));
                    worker.used += 1;
                }
                self.idle.remove(&slot.task_manager);
                self.allocations.insert(allocation, slot.clone());
                if let Some(state) = self.jobs.get_mut(&job) {
                    state.take(allocation, *kind);
                }
                grants.push(Grant { allocation, slot, profile: kind.0 });
            }
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
        if serve(requirements, self.stock.all()).missing.is_empty() {
            return None;
        }
        let total: u64 = self.stock.all().map(|(_, count)| u64::from(count)).sum();
        Some(if needed > total {
            format!(
                "{needed} slots are needed but the cluster has {total}: add TaskManagers or lower \
                 the parallelism"
            )
        } else {
            let widest = requirements.iter().max_by_key(|it| Kind(it.profile));
            let profile = widest.map_or(ResourceProfile::UNKNOWN, |widest| widest.profile);
            format!(
                "{needed} slots are needed, some of {profile}, and too few of the cluster's \
                 {total} slots are that big: give TaskManagers more memory or fewer slots"
            )
        })
    }
}

fn count_all(requirements: &[SlotRequirement]) -> u64 {
    requirements.iter().map(|needed| u64::from(needed.count)).sum()
}
