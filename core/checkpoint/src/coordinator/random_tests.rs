//! The coordinator in a random world: tasks that acknowledge, decline, finish, fail and restart;
//! messages that come late, twice, in another order or never; a store that fails or does not know;
//! slow committers; masters that are replaced. After each step invariants are checked against a
//! second bookkeeping, and after the last fault a checkpoint has to complete.
//!
//! The checks are checked: a world with a fault in the coordinator's place ([`Fault`]) must fail.

mod faults;
mod oracle;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use millstream_soak::simulation::{self, STEPS_LEAST, Seen, Trace};

use faults::{Fault, LEAST};
use world::World;

const WORLD: simulation::World =
    simulation::World { name: "checkpoints", seeds: 3_000, least: LEAST };

const STEPS: usize = 800;
/// The most jobs of a seed: most of them take checkpoints for long enough.
const JOBS_MAX: u64 = 50;
/// The seeds with which each fault is looked for.
const SEEDS_OF_FAULT: u64 = 400;

/// One job after the other, until enough has happened behind complete checkpoints.
fn run(seed: u64, fault: Option<Fault>, trace: &Trace) -> Seen {
    let mut seen = Seen::default();
    for job in 0..JOBS_MAX {
        let mut world = World::new(seed ^ job << 48, fault, trace.clone());
        world.start();
        for _ in 0..STEPS {
            world.step();
        }
        world.recover();
        seen.add(&world.seen);
        if seen.count(simulation::STEPS) >= STEPS_LEAST {
            return seen;
        }
    }
    panic!("too little happens behind complete checkpoints: {seen}");
}

#[test]
fn whatever_happens_checkpoints_keep_their_promises() {
    WORLD.simulate(|seed, trace| run(seed, None, trace));
}

#[test]
fn faults_of_a_coordinator_are_found() {
    for fault in Fault::ALL {
        let found = (0..SEEDS_OF_FAULT).find_map(|seed| {
            let world = AssertUnwindSafe(|| run(seed, Some(fault), &Trace::default()));
            let panic = catch_unwind(world).err()?;
            let text = panic.downcast_ref::<String>().cloned();
            Some((seed, text.or_else(|| panic.downcast_ref::<&str>().map(|it| (*it).to_owned()))))
        });
        let (seed, text) = found.unwrap_or_else(|| panic!("{fault:?} is not found"));
        eprintln!("{fault:?} is found by seed {seed}: {}", text.unwrap_or_default());
    }
}
