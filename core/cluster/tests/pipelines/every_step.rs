//! One small job, in which a process is killed at each of its steps.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use millstream_connectors::Random;
use millstream_soak::simulation::{self, Trace};

use crate::hide_trouble;
use crate::program::{Kind, Plan};
use crate::world::{Victim, World};

/// One step of so many is tried, each day others, unless `SIM_EVERY_STEP` or a long form asks for
/// all.
const STEP_EVERY: u64 = 16;

/// The least number of steps that the job takes.
const STEPS_LEAST: u64 = 2_000;

const fn plan(kind: Kind, unaligned: bool) -> Plan {
    Plan {
        kind,
        parallelism: 2,
        count: 900,
        per_poll: 4,
        pause: Duration::from_millis(1),
        enumerated: matches!(kind, Kind::Rounds),
        two_sources: false,
        alone: true,
        unaligned,
        aligned_timeout: Duration::ZERO,
        encodes: false,
        chaining: true,
        buffer_timeout: Duration::from_millis(1),
        interval: Duration::from_millis(12),
        retained: 1,
        per_worker: 1,
    }
}

/// Runs the job, with this process killed at this step: the steps that it has taken, and whether
/// there was such a process.
fn run(plan: &Plan, kill: Option<(u64, Victim)>) -> (u64, bool) {
    let mut world = World::new(plan.clone(), Random::new(1, 0), 0, 0, Trace::default());
    world.kill = kill;
    let steps = world.run();
    let killed = world.seen.count("task host killed") + world.seen.count("coordinator host killed");
    (steps, killed > 0)
}

#[test]
fn a_kill_at_any_step_leaves_the_results_exact() {
    hide_trouble();
    let asked = std::env::var_os("SIM_EVERY_STEP").is_some();
    let every = if asked { 1 } else { millstream_soak::scale(STEP_EVERY, 1) };
    let today = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970");
    let offset = today.as_secs() / 86_400 % every;
    let (mut kills, mut sum) = (0, 0);
    for plan in [plan(Kind::Rounds, true), plan(Kind::Timers, false)] {
        let (steps, _) = run(&plan, None);
        assert!(steps >= STEPS_LEAST, "the job takes {steps} steps");
        sum += steps;
        for step in (offset..steps).step_by(every as usize) {
            for victim in [Victim::FirstTasks, Victim::LastTasks, Victim::Coordinators] {
                let run = std::panic::AssertUnwindSafe(|| run(&plan, Some((step, victim))));
                match std::panic::catch_unwind(run) {
                    Ok((_, killed)) => kills += u64::from(killed),
                    Err(_) => panic!("{victim:?} is killed at step {step} of {plan:?}"),
                }
            }
        }
    }
    assert!(kills * every > sum, "{kills} kills in {sum} steps");
    if asked || simulation::asked().is_some() {
        use std::io::Write;
        let line = format!("simulation steps: seeds 1, kills {kills}, steps {sum}");
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}
