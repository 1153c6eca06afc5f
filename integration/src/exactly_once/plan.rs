//! The plan of a run, drawn from its seed.

use std::fmt;
use std::time::Duration;

use millstream_oracle::Random;

/// Milliseconds for which the source has records, without faults.
const RUN_MS: u64 = 12_000;
/// Milliseconds for which it has records more with each fault: the longest wait for one.
const FAULT_MS: u64 = 2_500;
/// The shortest wait for a fault.
const WAIT_MS_MIN: u64 = 300;

/// The harm that a fault does to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// Kills a task host of the job with signal 9.
    KillHost,
    /// Kills a TaskManager that runs the job with signal 9, and starts another one.
    KillTaskManager,
    /// Stops a task host of the job where it is, and lets it go on after this time.
    PauseHost(Duration),
    /// Stops a TaskManager that runs the job, and lets it go on after this time.
    PauseTaskManager(Duration),
}

impl FaultKind {
    /// Whether the job loses a process for certain, so that it must restart.
    #[must_use]
    pub const fn is_kill(self) -> bool {
        matches!(self, Self::KillHost | Self::KillTaskManager)
    }

    fn draw(random: &mut Random) -> Self {
        let pause = Duration::from_millis(200 + random.below(5_000));
        match random.below(10) {
            0..4 => Self::KillHost,
            4..7 => Self::KillTaskManager,
            7..9 => Self::PauseHost(pause),
            _ => Self::PauseTaskManager(pause),
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KillHost => write!(out, "kill -9 of a task host"),
            Self::KillTaskManager => write!(out, "kill -9 of a TaskManager"),
            Self::PauseHost(pause) => write!(out, "stop of a task host for {pause:?}"),
            Self::PauseTaskManager(pause) => write!(out, "stop of a TaskManager for {pause:?}"),
        }
    }
}

/// One fault of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The wait before it, from the moment on at which the job is seen to make records.
    pub wait: Duration,
    /// The kind of the fault.
    pub kind: FaultKind,
    /// Selects the process among those that the kind allows.
    pub pick: u64,
}

/// The input of a run, its cluster, and its faults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The seed of the input.
    pub seed: u64,
    /// Number of records of the input.
    pub records: u64,
    /// Number of keys in each of the input's lanes.
    pub keys_per_lane: u64,
    /// Number of records that the source makes per second.
    pub rate: u64,
    /// The parallelism of the job.
    pub parallelism: u64,
    /// Number of TaskManagers, of two slots each.
    pub task_managers: usize,
    /// The faults in their order.
    pub faults: Vec<Fault>,
}

impl Plan {
    /// Draws the plan of a seed, with this number of faults; the first is a kill.
    #[must_use]
    pub fn draw(seed: u64, faults: u32) -> Self {
        let mut random = Random::new(seed);
        let task_managers = 2 + random.below(2);
        let rate = 1_000 * (2 + random.below(4));
        let parallelism = 2 + random.below(2 * task_managers - 1);
        let keys_per_lane = 1 + random.below(8);
        let mut drawn = Vec::new();
        while drawn.len() < faults as usize {
            let wait = WAIT_MS_MIN + random.below(FAULT_MS - WAIT_MS_MIN);
            let kind = FaultKind::draw(&mut random);
            let pick = random.below(u64::MAX);
            if kind.is_kill() || !drawn.is_empty() {
                drawn.push(Fault { wait: Duration::from_millis(wait), kind, pick });
            }
        }
        Self {
            seed,
            records: rate * (RUN_MS + FAULT_MS * u64::from(faults)) / 1_000,
            keys_per_lane,
            rate,
            parallelism,
            task_managers: task_managers as usize,
            faults: drawn,
        }
    }

    /// The time for which the source has records, without faults.
    #[must_use]
    pub fn duration(&self) -> Duration {
        Duration::from_millis(self.records.saturating_mul(1_000) / self.rate.max(1))
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "seed {}, {} records at {} per second, {} keys, parallelism {} on {} TaskManagers, {} \
             faults",
            self.seed,
            self.records,
            self.rate,
            self.keys_per_lane * millstream_oracle::committed::LANES,
            self.parallelism,
            self.task_managers,
            self.faults.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_depends_on_its_seed_alone() {
        assert_eq!(Plan::draw(42, 5), Plan::draw(42, 5));
        assert_ne!(Plan::draw(42, 5).faults, Plan::draw(43, 5).faults);
    }

    #[test]
    fn plans_are_within_what_a_cluster_can_run_and_all_kinds_of_faults_come() {
        let mut kinds = [0; 4];
        for seed in 0..200 {
            let plan = Plan::draw(seed, 4);
            assert!((2..=3).contains(&plan.task_managers), "{plan}");
            assert!((2..=2 * plan.task_managers as u64).contains(&plan.parallelism), "{plan}");
            assert!(plan.records >= 1_000 && plan.faults.len() == 4, "{plan}");
            let waits: Duration = plan.faults.iter().map(|fault| fault.wait).sum();
            assert!(waits + Duration::from_secs(10) <= plan.duration(), "{plan}");
            assert!(plan.faults[0].kind.is_kill(), "{plan}");
            for fault in plan.faults {
                kinds[match fault.kind {
                    FaultKind::KillHost => 0,
                    FaultKind::KillTaskManager => 1,
                    FaultKind::PauseHost(_) => 2,
                    FaultKind::PauseTaskManager(_) => 3,
                }] += 1;
            }
        }
        assert!(kinds.iter().all(|count| *count > 20), "{kinds:?}");
    }

    #[test]
    fn a_plan_may_have_no_faults() {
        assert_eq!(Plan::draw(1, 0).faults, []);
    }
}
