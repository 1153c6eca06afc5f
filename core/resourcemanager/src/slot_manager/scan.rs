//! The rules of the slot manager once more, by a look at every slot for every event.

use super::*;

#[derive(Debug)]
struct ScannedWorker {
    profile: ResourceProfile,
    owners: Vec<Option<(JobId, AllocationId)>>,
    draining: bool,
}

#[derive(Debug)]
struct ScannedJob {
    order: u64,
    requirements: Vec<SlotRequirement>,
    told: Option<String>,
}

type Slots = Vec<(SlotId, ResourceProfile)>;

/// A slot manager without an index.
#[derive(Debug)]
pub(super) struct Scan {
    workers: BTreeMap<TaskManagerId, ScannedWorker>,
    jobs: BTreeMap<JobId, ScannedJob>,
    declarations: u64,
    next_allocation: u128,
    obtainable: Option<Obtainable>,
    trouble: Option<String>,
}

impl Scan {
    pub(super) fn new(obtainable: Option<Obtainable>, next_allocation: u128) -> Self {
        let (workers, jobs) = (BTreeMap::new(), BTreeMap::new());
        Self { workers, jobs, declarations: 0, next_allocation, obtainable, trouble: None }
    }

    pub(super) fn on_event(&mut self, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Declared { job, requirements } => {
                let order = self.declarations;
                self.declarations += 1;
                let new = ScannedJob { order, requirements: Vec::new(), told: None };
                self.jobs.entry(job).or_insert(new).requirements = requirements;
            }
            Event::Released(released) => self.free(|_, allocation| released.contains(&allocation)),
            Event::JobGone(job) => {
                self.jobs.remove(&job);
                self.free(|owner, _| owner == job);
            }
            Event::Registered { worker, slots, profile } => {
                let why =
                    format!("TaskManager {worker} was started anew, so its former self is gone");
                let cause = FailureCause::new(CauseKind::WorkerLost, why);
                self.lose(&worker, &cause, &mut actions);
                let owners = vec![None; slots as usize];
                self.workers.insert(worker, ScannedWorker { profile, owners, draining: false });
            }
            Event::Draining(worker) => {
                self.workers.get_mut(&worker).into_iter().for_each(|it| it.draining = true);
            }
            Event::Trouble(trouble) => self.trouble = trouble,
            Event::Lost { worker, cause } => self.lose(&worker, &cause, &mut actions),
        }
        let holders: BTreeSet<JobId> = self.owners().map(|(_, (job, _))| job).collect();
        self.jobs.retain(|job, it| !it.requirements.is_empty() || holders.contains(job));
        self.schedule(&mut actions);
        actions
    }

    pub(super) fn knows(&self, job: JobId) -> bool {
        self.jobs.contains_key(&job)
    }

    pub(super) fn idle_workers(&self) -> BTreeSet<TaskManagerId> {
        let used: BTreeSet<_> = self.owners().map(|(slot, _)| slot.task_manager).collect();
        self.workers.keys().filter(|id| !used.contains(id)).cloned().collect()
    }

    pub(super) fn allocated(&self, worker: &TaskManagerId) -> Vec<(u32, JobId)> {
        let here = self.owners().filter(|(slot, _)| slot.task_manager == *worker);
        here.map(|(slot, (job, _))| (slot.index, job)).collect()
    }

    pub(super) fn workers_missing(&self) -> u32 {
        let Some(Obtainable { kind, .. }) = self.obtainable else { return 0 };
        let served = self.jobs.iter().filter(|(_, it)| self.too_small(&it.requirements).is_none());
        let missing: Vec<_> = served
            .flat_map(|(job, it)| self.missing(*job, &it.requirements))
            .filter(|profile| kind.slot_profile.fits(profile))
            .collect();
        let useful = |(_, slot): &(SlotId, ResourceProfile)| missing.iter().any(|m| slot.fits(m));
        let lacking =
            missing.len().saturating_sub(self.free_slots().iter().filter(|s| useful(s)).count());
        u32::try_from(lacking.div_ceil(kind.slots as usize)).unwrap()
    }

    fn all_slots(
        &self,
    ) -> impl Iterator<Item = (SlotId, &ScannedWorker, Option<(JobId, AllocationId)>)> {
        self.workers.iter().flat_map(|(id, worker)| {
            (0..).zip(&worker.owners).map(move |(index, owner)| {
                (SlotId { task_manager: id.clone(), index }, worker, *owner)
            })
        })
    }

    fn owners(&self) -> impl Iterator<Item = (SlotId, (JobId, AllocationId))> {
        self.all_slots().filter_map(|(slot, _, owner)| Some((slot, owner?)))
    }

    fn free(&mut self, is_free: impl Fn(JobId, AllocationId) -> bool) {
        for owner in self.workers.values_mut().flat_map(|worker| &mut worker.owners) {
            owner.take_if(|(job, allocation)| is_free(*job, *allocation));
        }
    }

    fn lose(&mut self, id: &TaskManagerId, cause: &FailureCause, actions: &mut Vec<Action>) {
        let Some(worker) = self.workers.remove(id) else { return };
        let owners: BTreeSet<_> = worker.owners.into_iter().flatten().map(|(job, _)| job).collect();
        let told = |job| Action::TellLost { job, worker: id.clone(), cause: cause.clone() };
        actions.extend(owners.into_iter().map(told));
    }

    fn chosen(&self, choose: impl Fn(&ScannedWorker, Option<JobId>) -> bool) -> Slots {
        let mut slots: Slots = self
            .all_slots()
            .filter(|(_, worker, owner)| choose(worker, owner.map(|(job, _)| job)))
            .map(|(slot, worker, _)| (slot, worker.profile))
            .collect();
        slots.sort_by_key(|(_, profile)| Kind(*profile));
        slots
    }

    fn free_slots(&self) -> Slots {
        self.chosen(|worker, owner| owner.is_none() && !worker.draining)
    }

    /// The profile of each slot that a job lacks.
    fn missing(&self, job: JobId, requirements: &[SlotRequirement]) -> Vec<ResourceProfile> {
        take(&mut self.chosen(|_, owner| owner == Some(job)), &singly(requirements)).1
    }

    fn too_small(&self, requirements: &[SlotRequirement]) -> Option<String> {
        // The sentences are the manager's own; here it counts which of them is said.
        let mut said = SlotManager::new(self.obtainable, 0);
        for (id, worker) in &self.workers {
            let slots = u32::try_from(worker.owners.len()).unwrap();
            said.on_registered(id.clone(), slots, Kind(worker.profile));
        }
        let sentence = said.too_small_for(requirements);
        let fits = match self.obtainable {
            Some(Obtainable { kind, slots_max }) => {
                count_all(requirements) <= u64::from(slots_max)
                    && requirements.iter().all(|it| kind.slot_profile.fits(&it.profile))
            }
            None => take(&mut self.chosen(|_, _| true), &singly(requirements)).1.is_empty(),
        };
        assert_eq!(sentence.is_none(), fits);
        sentence
    }

    fn schedule(&mut self, actions: &mut Vec<Action>) {
        let mut queue: Vec<_> = self.jobs.iter().map(|(job, it)| (it.order, *job)).collect();
        queue.sort_unstable();
        let mut blocked = false;
        for (_, job) in queue {
            let requirements = self.jobs[&job].requirements.clone();
            let missing = self.missing(job, &requirements);
            let (taken, lacking) = take(&mut self.free_slots(), &missing);
            if missing.is_empty() {
                self.tell(job, None, actions);
            } else if lacking.is_empty() && !blocked {
                self.tell(job, None, actions);
                let grant = |(slot, profile): (SlotId, ResourceProfile)| {
                    let allocation = AllocationId::from_u128(self.next_allocation);
                    self.next_allocation += 1;
                    let worker = self.workers.get_mut(&slot.task_manager).unwrap();
                    worker.owners[slot.index as usize] = Some((job, allocation));
                    Grant { allocation, slot, profile }
                };
                let slots = taken.into_iter().map(grant).collect();
                actions.push(Action::Grant { job, slots });
            } else {
                let too_small = self.too_small(&requirements);
                blocked |= too_small.is_none();
                self.tell(job, too_small.or_else(|| self.trouble.clone()), actions);
            }
        }
    }

    fn tell(&mut self, job: JobId, sentence: Option<String>, actions: &mut Vec<Action>) {
        let state = self.jobs.get_mut(&job).unwrap();
        if state.told != sentence {
            state.told.clone_from(&sentence);
            actions.push(match sentence {
                Some(reason) => Action::TellNotEnough { job, reason },
                None => Action::TellEnough(job),
            });
        }
    }
}

/// One profile per slot, the biggest first.
fn singly(requirements: &[SlotRequirement]) -> Vec<ResourceProfile> {
    let mut profiles: Vec<_> =
        requirements.iter().flat_map(|needed| (0..needed.count).map(|_| needed.profile)).collect();
    profiles.sort_by_key(|profile| std::cmp::Reverse(Kind(*profile)));
    profiles
}

/// Takes the smallest fitting slot for each profile, and names those that found none.
fn take(slots: &mut Slots, profiles: &[ResourceProfile]) -> (Slots, Vec<ResourceProfile>) {
    let (mut taken, mut lacking) = (Vec::new(), Vec::new());
    for profile in profiles {
        match slots.iter().position(|(_, offered)| offered.fits(profile)) {
            Some(at) => taken.push(slots.remove(at)),
            None => lacking.push(*profile),
        }
    }
    (taken, lacking)
}
