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

use super::fixture::for_seeds;
use faults::{Fault, Seen};
use world::World;

const SEEDS: u64 = 3_000;
const STEPS: usize = 800;
/// The seeds with which each fault is looked for.
const SEEDS_OF_FAULT: u64 = 400;

fn run(seed: u64, fault: Option<Fault>) -> Seen {
    let mut world = World::new(seed, fault);
    world.start();
    for _ in 0..STEPS {
        world.step();
    }
    world.recover();
    world.seen
}

#[test]
fn whatever_happens_checkpoints_keep_their_promises() {
    let seen = for_seeds(SEEDS, |seed| run(seed, None));
    let mut sum = Seen::default();
    seen.iter().for_each(|one| sum.add(one));
    eprintln!("{sum:?}");
    if seen.len() as u64 == SEEDS {
        sum.assert_enough();
    }
}

#[test]
fn the_same_seed_does_the_same() {
    for seed in 0..20 {
        assert_eq!(run(seed, None), run(seed, None), "seed {seed}");
    }
}

#[test]
fn faults_of_a_coordinator_are_found() {
    for fault in Fault::ALL {
        let found = (0..SEEDS_OF_FAULT).find_map(|seed| {
            let world = AssertUnwindSafe(|| run(seed, Some(fault)));
            let panic = catch_unwind(world).err()?;
            let text = panic.downcast_ref::<String>().cloned();
            Some((seed, text.or_else(|| panic.downcast_ref::<&str>().map(|it| (*it).to_owned()))))
        });
        let (seed, text) = found.unwrap_or_else(|| panic!("{fault:?} is not found"));
        eprintln!("{fault:?} is found by seed {seed}: {}", text.unwrap_or_default());
    }
}
