//! Matching by events and actions, and a random world that checks the invariants.

use millstream_types::ByteSize;

use super::*;

const SMALL: ResourceProfile = ResourceProfile { cpu_cores: 1.0, memory: ByteSize::from_mib(100) };
const BIG: ResourceProfile = ResourceProfile { cpu_cores: 2.0, memory: ByteSize::from_mib(200) };

fn job(number: u128) -> JobId {
    JobId::from_u128(number)
}

fn worker(name: &str) -> TaskManagerId {
    TaskManagerId::new(name)
}

fn manager() -> SlotManager {
    SlotManager::new(None, 1)
}

fn registered(name: &str, slots: u32, profile: ResourceProfile) -> Event {
    Event::Registered { worker: worker(name), slots, profile }
}

fn declared(number: u128, count: u32) -> Event {
    let profile = ResourceProfile::UNKNOWN;
    let requirements = if count == 0 { vec![] } else { vec![SlotRequirement { profile, count }] };
    Event::Declared { job: job(number), requirements }
}

fn lost(name: &str) -> Event {
    let cause = FailureCause::new(CauseKind::WorkerLost, "the connection broke");
    Event::Lost { worker: worker(name), cause }
}

/// The grants among the actions, as (job number, slots).
fn grants(actions: &[Action]) -> Vec<(JobId, Vec<Grant>)> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Grant { job, slots } => Some((*job, slots.clone())),
            Action::TellLost { .. } | Action::TellNotEnough { .. } | Action::TellEnough(_) => None,
        })
        .collect()
}

fn granted_counts(actions: &[Action]) -> Vec<(JobId, usize)> {
    grants(actions).into_iter().map(|(job, slots)| (job, slots.len())).collect()
}

#[test]
fn a_declaration_is_granted_once() {
    let mut manager = manager();
    assert_eq!(manager.on_event(registered("a", 4, SMALL)), vec![]);
    assert_eq!(granted_counts(&manager.on_event(declared(1, 3))), [(job(1), 3)]);
    assert_eq!(manager.on_event(declared(1, 3)), vec![]);
    assert_eq!(granted_counts(&manager.on_event(declared(1, 4))), [(job(1), 1)]);
    assert_eq!(manager.allocated(&worker("a")).len(), 4);
}

#[test]
fn a_job_waits_until_all_of_it_fits() {
    let mut manager = manager();
    manager.on_event(registered("a", 2, SMALL));
    let actions = manager.on_event(declared(1, 3));
    let [Action::TellNotEnough { reason, .. }] = &actions[..] else { panic!("{actions:?}") };
    assert!(reason.starts_with("3 slots are needed but the cluster has 2:"), "{reason}");
    let actions = manager.on_event(registered("b", 1, SMALL));
    assert_eq!(actions[0], Action::TellEnough(job(1)));
    assert_eq!(granted_counts(&actions), [(job(1), 3)]);
}

#[test]
fn a_smaller_later_job_does_not_starve_an_older_one() {
    let mut manager = manager();
    manager.on_event(registered("a", 4, SMALL));
    let first = grants(&manager.on_event(declared(1, 3))).remove(0).1;
    assert_eq!(manager.on_event(declared(2, 4)), vec![]);
    assert_eq!(manager.on_event(declared(3, 1)), vec![], "job 3 must not overtake job 2");
    manager.on_event(declared(1, 0));
    let released = first.iter().map(|grant| grant.allocation).collect();
    assert_eq!(granted_counts(&manager.on_event(Event::Released(released))), [(job(2), 4)]);
}

#[test]
fn a_job_that_can_never_fit_holds_up_nobody() {
    let mut manager = manager();
    manager.on_event(registered("a", 2, SMALL));
    manager.on_event(declared(1, 3));
    assert_eq!(granted_counts(&manager.on_event(declared(2, 2))), [(job(2), 2)]);
}

#[test]
fn profiles_decide_which_slot_serves() {
    let mut manager = manager();
    manager.on_event(registered("a", 1, BIG));
    manager.on_event(registered("b", 1, SMALL));
    let requirements = vec![
        SlotRequirement { profile: SMALL, count: 1 },
        SlotRequirement { profile: BIG, count: 1 },
    ];
    let actions = manager.on_event(Event::Declared { job: job(1), requirements });
    assert_eq!(granted_counts(&actions), [(job(1), 2)]);

    let requirements = vec![SlotRequirement { profile: BIG, count: 2 }];
    let actions = manager.on_event(Event::Declared { job: job(2), requirements });
    let [Action::TellNotEnough { reason, .. }] = &actions[..] else { panic!("{actions:?}") };
    assert!(reason.contains("2 cores, 200 mb"), "{reason}");
}

#[test]
fn a_lost_worker_is_told_to_its_jobs_alone_and_its_slots_are_replaced() {
    let mut manager = manager();
    manager.on_event(registered("a", 1, SMALL));
    manager.on_event(declared(1, 1));
    manager.on_event(registered("b", 2, SMALL));
    manager.on_event(declared(2, 1));
    let actions = manager.on_event(lost("a"));
    assert!(
        matches!(&actions[0], Action::TellLost { job: told, .. } if *told == job(1)),
        "{actions:?}"
    );
    assert_eq!(granted_counts(&actions), [(job(1), 1)]);
    assert_eq!(manager.on_event(lost("a")), vec![]);
}

#[test]
fn registering_again_replaces_the_old_self() {
    let mut manager = manager();
    manager.on_event(registered("a", 2, SMALL));
    let old = grants(&manager.on_event(declared(1, 2))).remove(0).1;
    let actions = manager.on_event(registered("a", 2, SMALL));
    assert!(matches!(&actions[0], Action::TellLost { .. }), "{actions:?}");
    let new = grants(&actions).remove(0).1;
    assert_eq!(new.len(), 2);
    assert!(new.iter().all(|grant| old.iter().all(|o| o.allocation != grant.allocation)));
    let stale = old.iter().map(|grant| grant.allocation).collect();
    manager.on_event(Event::Released(stale));
    assert_eq!(manager.allocated(&worker("a")).len(), 2, "a stale release must free nothing");
}

#[test]
fn a_job_without_need_or_slots_is_forgotten() {
    let mut manager = manager();
    manager.on_event(registered("a", 1, SMALL));
    let slots = grants(&manager.on_event(declared(1, 1))).remove(0).1;
    manager.on_event(declared(1, 0));
    assert!(manager.knows(job(1)), "it still holds a slot");
    manager.on_event(Event::Released(vec![slots[0].allocation]));
    assert!(!manager.knows(job(1)));
    manager.on_event(declared(2, 1));
    manager.on_event(Event::JobGone(job(2)));
    assert!(!manager.knows(job(2)));
    assert_eq!(*manager.idle_workers(), BTreeSet::from([worker("a")]));
}

#[test]
fn missing_workers_are_counted_by_what_nobody_serves() {
    let kind =
        WorkerRequest { slots: 2, slot_profile: SMALL, memory_process: ByteSize::from_mib(200) };
    let mut manager = SlotManager::new(Some(Obtainable { kind, slots_max: 6 }), 1);
    assert_eq!(manager.on_event(declared(1, 5)), vec![], "new workers can serve it");
    assert_eq!(manager.workers_missing(), 3);
    manager.on_event(registered("a", 2, SMALL));
    assert_eq!(manager.workers_missing(), 2);
    let requirements = vec![SlotRequirement { profile: BIG, count: 1 }];
    let actions = manager.on_event(Event::Declared { job: job(2), requirements });
    assert!(matches!(&actions[..], [Action::TellNotEnough { .. }]), "{actions:?}");
    assert_eq!(manager.workers_missing(), 2, "no worker of this kind would help job 2");
    let actions = manager.on_event(declared(3, 7));
    let [Action::TellNotEnough { reason, .. }] = &actions[..] else { panic!("{actions:?}") };
    assert!(reason.contains("slotmanager.number-of-slots.max"), "{reason}");
    assert_eq!(manager.workers_missing(), 2, "job 3 would need more than there may be");
}

#[test]
fn a_draining_worker_gets_no_further_job() {
    let kind =
        WorkerRequest { slots: 2, slot_profile: SMALL, memory_process: ByteSize::from_mib(200) };
    let mut manager = SlotManager::new(Some(Obtainable { kind, slots_max: 6 }), 1);
    manager.on_event(registered("a", 2, SMALL));
    assert_eq!(granted_counts(&manager.on_event(declared(1, 1))), [(job(1), 1)]);
    manager.on_event(Event::Draining(worker("a")));
    assert_eq!(manager.on_event(declared(2, 1)), vec![]);
    assert_eq!(manager.workers_missing(), 1);
    let actions = manager.on_event(registered("b", 2, SMALL));
    assert_eq!(granted_counts(&actions), [(job(2), 1)]);
    assert_eq!(manager.allocated(&worker("a")).len(), 1, "job 1 goes on there");
}

/// A seeded stream of numbers (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// The cluster as the actions alone describe it.
#[derive(Default)]
struct World {
    held: BTreeMap<AllocationId, (JobId, SlotId)>,
    slots: BTreeMap<TaskManagerId, u32>,
    needs: BTreeMap<JobId, u32>,
}

impl World {
    fn apply(&mut self, actions: &[Action], used: &mut BTreeSet<AllocationId>) {
        for action in actions {
            match action {
                Action::TellLost { job, worker, .. } => self
                    .held
                    .retain(|_, (owner, slot)| !(owner == job && slot.task_manager == *worker)),
                Action::Grant { job, slots } => {
                    for grant in slots {
                        assert!(used.insert(grant.allocation), "an allocation id was reused");
                        let taken = self.held.values().any(|(_, slot)| *slot == grant.slot);
                        assert!(!taken, "{} was granted twice", grant.slot);
                        assert!(grant.slot.index < self.slots[&grant.slot.task_manager]);
                        self.held.insert(grant.allocation, (*job, grant.slot.clone()));
                    }
                }
                Action::TellNotEnough { .. } | Action::TellEnough(_) => {}
            }
        }
    }

    fn held_by(&self, job: JobId) -> Vec<AllocationId> {
        self.held.iter().filter(|(_, (owner, _))| *owner == job).map(|(id, _)| *id).collect()
    }

    fn event(&mut self, numbers: &mut Numbers) -> Event {
        let name = format!("w{}", numbers.below(4));
        let job = JobId::from_u128(u128::from(numbers.below(5)));
        match numbers.below(7) {
            0 | 1 => {
                let slots = u32::try_from(1 + numbers.below(3)).unwrap();
                self.slots.insert(worker(&name), slots);
                registered(&name, slots, SMALL)
            }
            2 => {
                self.slots.remove(&worker(&name));
                lost(&name)
            }
            3 | 4 => {
                let count = u32::try_from(numbers.below(6)).unwrap();
                self.needs.insert(job, count);
                declared(job.as_bytes()[15].into(), count)
            }
            5 => {
                let released = self.held_by(job);
                self.held.retain(|_, (owner, _)| *owner != job);
                self.needs.insert(job, 0);
                Event::Released(released)
            }
            _ => {
                self.held.retain(|_, (owner, _)| *owner != job);
                self.needs.remove(&job);
                Event::JobGone(job)
            }
        }
    }
}

#[test]
fn no_slot_is_granted_twice_and_none_is_lost() {
    for seed in 0..300 {
        let mut numbers = Numbers(seed);
        let mut manager = manager();
        let mut world = World::default();
        let mut used = BTreeSet::new();
        for step in 0..200 {
            let event = world.event(&mut numbers);
            // A job that gives everything back needs nothing more.
            if let Event::Released(_) = &event {
                let idle: Vec<JobId> =
                    world.needs.iter().filter(|(_, n)| **n == 0).map(|(job, _)| *job).collect();
                for job in idle {
                    let actions =
                        manager.on_event(Event::Declared { job, requirements: Vec::new() });
                    world.apply(&actions, &mut used);
                }
            }
            let actions = manager.on_event(event);
            world.apply(&actions, &mut used);
            let believed: BTreeSet<&SlotId> = world.held.values().map(|(_, slot)| slot).collect();
            let known: usize =
                world.slots.keys().map(|worker| manager.allocated(worker).len()).sum();
            assert_eq!(believed.len(), known, "seed {seed} step {step}: a slot was lost");
        }
        for (worker, slots) in world.slots.clone() {
            let actions = manager.on_event(registered(worker.as_str(), slots, SMALL));
            world.apply(&actions, &mut used);
        }
        for job in world.needs.keys().copied().collect::<Vec<_>>() {
            manager.on_event(Event::JobGone(job));
        }
        assert_eq!(manager.idle_workers().len(), world.slots.len(), "seed {seed}");
    }
}

/// A look at all slots for each of these events would take a hundred times as long.
#[test]
fn ten_thousand_slots_are_granted_and_released_one_by_one() {
    let start = std::time::Instant::now();
    let mut manager = manager();
    for number in 0..100 {
        manager.on_event(registered(&format!("w{number}"), 100, SMALL));
    }
    let mut held = Vec::new();
    for number in 0..10_000 {
        held.extend(grants(&manager.on_event(declared(number, 1))).remove(0).1);
    }
    assert!(manager.idle_workers().is_empty());
    for grant in held {
        manager.on_event(Event::Released(vec![grant.allocation]));
    }
    assert!(start.elapsed() < std::time::Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn whatever_happens_the_manager_decides_as_a_scan_of_all_slots_would() {
    const PROFILES: [ResourceProfile; 4] = [
        ResourceProfile::UNKNOWN,
        SMALL,
        BIG,
        // Between the two in memory, and with more cores than both.
        ResourceProfile { cpu_cores: 4.0, memory: ByteSize::from_mib(150) },
    ];
    for seed in 0..400 {
        let mut numbers = Numbers(seed);
        let kind =
            WorkerRequest { slots: 3, slot_profile: BIG, memory_process: ByteSize::from_mib(700) };
        let obtainable = (seed % 3 == 0).then_some(Obtainable { kind, slots_max: 12 });
        let mut manager = SlotManager::new(obtainable, 1);
        let mut scan = scan::Scan::new(obtainable, 1);
        let mut granted = Vec::new();
        for step in 0..150 {
            let event = random_event(&mut numbers, &PROFILES, &granted);
            let at = format!("seed {seed}, step {step}: {event:?}");
            let expected = scan.on_event(event.clone());
            let actions = manager.on_event(event);
            assert_eq!(actions, expected, "{at}");
            granted.extend(grants(&actions).into_iter().flat_map(|(_, slots)| slots));
            assert_eq!(manager.workers_missing(), scan.workers_missing(), "{at}");
            assert_eq!(*manager.idle_workers(), scan.idle_workers(), "{at}");
            for number in 0..6 {
                assert_eq!(manager.knows(job(number)), scan.knows(job(number)), "{at}");
                let name = worker(&format!("w{number}"));
                assert_eq!(manager.allocated(&name), scan.allocated(&name), "{at}");
            }
        }
    }
}

fn random_event(numbers: &mut Numbers, profiles: &[ResourceProfile], granted: &[Grant]) -> Event {
    let name = format!("w{}", numbers.below(6));
    let job = job(u128::from(numbers.below(6)));
    let mut below = |limit: u64| usize::try_from(numbers.below(limit)).unwrap();
    match below(16) {
        0..4 => registered(&name, u32::try_from(1 + below(4)).unwrap(), profiles[below(4)]),
        4 => lost(&name),
        5 => Event::Draining(worker(&name)),
        6..11 => {
            let requirement = |profile: &ResourceProfile| SlotRequirement {
                profile: *profile,
                count: u32::try_from(below(5)).unwrap(),
            };
            let requirements: Vec<_> = profiles.iter().map(requirement).collect();
            let some = requirements.into_iter().filter(|it| it.count > 0 && below(2) == 0);
            Event::Declared { job, requirements: some.collect() }
        }
        11..14 => {
            let some = (0..below(4).min(granted.len())).map(|_| {
                let at = below(granted.len() as u64);
                granted[at].allocation
            });
            Event::Released(some.collect())
        }
        14 => Event::JobGone(job),
        _ => Event::Trouble((below(2) == 0).then(|| "no room".to_owned())),
    }
}
