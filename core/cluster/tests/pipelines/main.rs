//! A job as it really runs, in one thread: the JobMaster, hosts with real tasks, coordinators and
//! exchanges. A seed chooses the part that has the next turn, the time that each message travels,
//! and the faults. The published results must be those of a computation outside of the engine.
//!
//! The environment can ask for seeds, see [`millstream_soak::simulation`].

#![expect(clippy::expect_used, clippy::panic, reason = "a test ends where a step fails")]

mod every_step;
mod faults;
mod host;
mod ledger;
mod legs;
mod network;
mod program;
mod source;
mod storage;
mod sums;
mod world;

use millstream_connectors::Random;
use millstream_soak::simulation::{self, STEPS_LEAST, Seen, Trace};

use program::{Plan, TROUBLE};
use world::World;

/// The number of seeds in a run of the tests.
const SEEDS: u64 = 300;
/// The most jobs of a seed.
const JOBS_MAX: u64 = 20;

/// Failures that the world causes are not printed.
pub fn hide_trouble() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if info.payload().downcast_ref() != Some(&TROUBLE) {
                before(info);
            }
        }));
    });
}

/// One job after the other, until enough has happened behind complete checkpoints.
fn run(seed: u64, trace: &Trace) -> Seen {
    hide_trouble();
    let mut seen = Seen::default();
    for job in 0..JOBS_MAX {
        let mut random = Random::new(seed, job);
        let plan = Plan::random(&mut random);
        let (faults, legs) = (random.below(9), random.below(5).saturating_sub(2));
        let mut world = World::new(plan, random, faults, legs, trace.clone());
        world.run();
        seen.add(&world.seen);
        if seen.count(simulation::STEPS) >= STEPS_LEAST {
            return seen;
        }
    }
    panic!("too little happens behind complete checkpoints: {seen}");
}

#[test]
fn whatever_happens_the_results_are_exact() {
    simulation::World { name: "pipelines", seeds: SEEDS, least: sums::LEAST }.simulate(run);
}
