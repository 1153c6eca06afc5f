//! The plan of a run, drawn from its seed.

use std::fmt;
use std::time::Duration;

use millstream_oracle::Random;
use millstream_oracle::committed::{Input, LANES, Workload};

/// Milliseconds for which the source has records, without faults.
const RUN_MS: u64 = 12_000;
/// Milliseconds for which it has records more with each fault, beside a pause: the longest wait for
/// one.
const FAULT_MS: u64 = 2_500;
/// The shortest wait for a fault.
const WAIT_MS_MIN: u64 = 300;

/// The longest time between the kills of a pair.
const PAIR_MS_MAX: u64 = 25;
/// The longest wait for a second kill after the restart has begun.
const RESTART_MS_MAX: u64 = 200;
/// The largest parallelism.
const PARALLELISM_MAX: u64 = 4;
/// The shortest and the longest interval of checkpoints.
const INTERVAL_MS: (u64, u64) = (50, 400);

/// The shortest interval of checkpoints on HDFS.
const HDFS_INTERVAL_MIN: Duration = Duration::from_millis(200);

/// A kind of process that a fault hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    /// A task host of the job.
    TaskHost,
    /// A TaskManager that runs the job; one that is killed is replaced.
    TaskManager,
    /// The coordinator host of the job.
    CoordinatorHost,
}

impl fmt::Display for Process {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::TaskHost => "a task host",
            Self::TaskManager => "a TaskManager",
            Self::CoordinatorHost => "the coordinator host",
        })
    }
}

/// The harm that a fault does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// Kills the process with signal 9.
    Kill,
    /// Kills the process, and another one soon.
    KillTwo(Second),
    /// Stops the process where it is, and lets it go on after this time.
    Pause(Duration),
}

impl Harm {
    /// Whether the job loses a process for certain, so that it must restart.
    #[must_use]
    pub const fn is_kill(self) -> bool {
        matches!(self, Self::Kill | Self::KillTwo(_))
    }
}

/// The second process that a fault kills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Second {
    /// The kind of the process.
    pub process: Process,
    /// Selects the process among those of its kind.
    pub pick: u64,
    /// The moment of the kill.
    pub moment: Moment,
}

/// The moment of a second kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// So long after the first one, a few milliseconds.
    After(Duration),
    /// So long after the job was seen to restart.
    Restarting(Duration),
}

/// One fault of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The wait before it, from the moment on at which the job is seen to make records.
    pub wait: Duration,
    /// Behind the wait it comes as soon as a file is published: amid a commit.
    pub at_commit: bool,
    /// The kind of the process.
    pub process: Process,
    /// Selects the process among those of its kind.
    pub pick: u64,
    /// The harm.
    pub harm: Harm,
}

impl Fault {
    /// The time for which the source needs records at most, until the job runs again.
    fn time_ms(&self) -> u64 {
        match self.harm {
            Harm::Kill | Harm::KillTwo(_) => FAULT_MS,
            Harm::Pause(pause) => FAULT_MS + pause.as_millis() as u64,
        }
    }

    /// The second process that it kills.
    pub(super) fn second(&self) -> Option<Second> {
        match self.harm {
            Harm::KillTwo(second) => Some(second),
            Harm::Kill | Harm::Pause(_) => None,
        }
    }

    fn draw(random: &mut Random) -> Self {
        let wait = Duration::from_millis(WAIT_MS_MIN + random.below(FAULT_MS - WAIT_MS_MIN));
        let pause = Duration::from_millis(200 + random.below(5_000));
        let (process, is_kill) = match random.below(20) {
            0..6 => (Process::TaskHost, true),
            6..10 => (Process::TaskManager, true),
            10..13 => (Process::CoordinatorHost, true),
            13..16 => (Process::TaskHost, false),
            16..18 => (Process::TaskManager, false),
            _ => (Process::CoordinatorHost, false),
        };
        let pick = random.below(u64::MAX);
        let harm = if is_kill { Self::kill(random, process) } else { Harm::Pause(pause) };
        Self { wait, at_commit: random.below(4) == 0, process, pick, harm }
    }

    /// One kill in three has a second one.
    fn kill(random: &mut Random, first: Process) -> Harm {
        let moment = match random.below(6) {
            0 => Moment::After(Duration::from_millis(random.below(PAIR_MS_MAX + 1))),
            1 => Moment::Restarting(Duration::from_millis(random.below(RESTART_MS_MAX))),
            _ => return Harm::Kill,
        };
        let process = match random.below(3) {
            0 => Process::TaskHost,
            1 => Process::TaskManager,
            // There is one of these, which is gone a few milliseconds after its kill.
            _ if first == Process::CoordinatorHost => Process::TaskHost,
            _ => Process::CoordinatorHost,
        };
        Harm::KillTwo(Second { process, pick: random.below(u64::MAX), moment })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let process = self.process;
        if self.at_commit {
            out.write_str("amid a commit: ")?;
        }
        match self.harm {
            Harm::Kill => write!(out, "kill -9 of {process}"),
            Harm::KillTwo(Second { process: second, moment: Moment::After(time), .. }) => {
                write!(out, "kill -9 of {process} and {time:?} later of {second}")
            }
            Harm::KillTwo(Second { process: second, moment: Moment::Restarting(_), .. }) => {
                write!(out, "kill -9 of {process} and of {second} during the restart")
            }
            Harm::Pause(pause) => write!(out, "stop of {process} for {pause:?}"),
        }
    }
}

/// The place where a job's checkpoints are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// The JobManager's memory.
    Memory,
    /// A directory. States up to the default size are within the metadata.
    Directory,
    /// A directory, in which each state has a file of its own.
    DirectoryOfStates,
}

/// The checkpoints of a run's job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointPlan {
    /// The time between the starts of two checkpoints.
    pub interval: Duration,
    /// The place where they are kept.
    pub storage: Storage,
    /// Whether their barriers overtake records.
    pub unaligned: bool,
}

impl CheckpointPlan {
    fn draw(random: &mut Random) -> Self {
        let (least, most) = INTERVAL_MS;
        let interval = Duration::from_millis(least + random.below(most - least + 1));
        let storage = match random.below(3) {
            0 => Storage::Memory,
            1 => Storage::Directory,
            _ => Storage::DirectoryOfStates,
        };
        Self { interval, storage, unaligned: random.below(3) == 0 }
    }
}

impl fmt::Display for CheckpointPlan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match self.storage {
            Storage::Memory => "in memory",
            Storage::Directory => "in a directory",
            Storage::DirectoryOfStates => "in a directory with files of state",
        };
        let kind = if self.unaligned { "unaligned checkpoints" } else { "checkpoints" };
        write!(out, "{kind} every {:?} {place}", self.interval)
    }
}

/// A stop with a savepoint, from which the job goes on at another parallelism.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rescale {
    /// It comes behind so many of the faults.
    pub after: usize,
    /// The parallelism from then on.
    pub parallelism: u64,
}

impl Rescale {
    /// One run in three has one.
    fn draw(random: &mut Random, faults: usize, parallelism: u64) -> Option<Self> {
        let (is_drawn, after) = (random.below(3) == 0, random.below(faults as u64 + 1) as usize);
        let other = (parallelism + random.below(PARALLELISM_MAX - 1)) % PARALLELISM_MAX + 1;
        is_drawn.then_some(Self { after, parallelism: other })
    }
}

/// The input of a run, its cluster, and its faults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The job and its records.
    pub input: Input,
    /// Number of records that the source makes per second.
    pub rate: u64,
    /// The parallelism of the job.
    pub parallelism: u64,
    /// Number of TaskManagers, of two slots each.
    pub task_managers: usize,
    /// The checkpoints of the job; `None`: it takes none.
    pub checkpoints: Option<CheckpointPlan>,
    /// The faults in their order.
    pub faults: Vec<Fault>,
    /// The stop amid them.
    pub rescale: Option<Rescale>,
}

impl Plan {
    /// Draws the plan of a seed, with this number of faults, of which the first is a kill. Seeds
    /// that follow each other have the workloads by turns, unless one is given.
    #[must_use]
    pub fn draw(seed: u64, faults: u32, workload: Option<Workload>) -> Self {
        let turn = (seed % Workload::ALL.len() as u64) as usize;
        let workload = workload.unwrap_or(Workload::ALL[turn]);
        let mut random = Random::new(seed);
        let task_managers = 2 + random.below(2);
        let rate = 1_000 * (2 + random.below(4));
        let parallelism = 1 + random.below(PARALLELISM_MAX);
        let keys_per_lane = 1 + random.below(8);
        let checkpoints = Some(CheckpointPlan::draw(&mut random));
        let mut drawn: Vec<Fault> = Vec::new();
        while drawn.len() < faults as usize {
            let fault = Fault::draw(&mut random);
            if fault.harm.is_kill() || !drawn.is_empty() {
                drawn.push(fault);
            }
        }
        let span_ms = (400 + random.below(1_200)).cast_signed();
        let time_ms = RUN_MS + drawn.iter().map(Fault::time_ms).sum::<u64>();
        let records = rate * time_ms / 1_000;
        Self {
            input: Input { workload, seed, records, keys_per_lane, span_ms },
            rate,
            parallelism,
            task_managers: task_managers as usize,
            checkpoints,
            rescale: Rescale::draw(&mut random, drawn.len(), parallelism),
            faults: drawn,
        }
    }

    /// The same on HDFS, where a checkpoint and a restart take longer: checkpoints are fewer and
    /// kept in a directory, and there are twice as many records.
    #[must_use]
    pub fn on_hdfs(self) -> Self {
        let checkpoints = self.checkpoints.map(|plan| {
            let CheckpointPlan { interval, storage, .. } = plan;
            let storage = if storage == Storage::Memory { Storage::Directory } else { storage };
            CheckpointPlan { interval: 2 * interval + HDFS_INTERVAL_MIN, storage, ..plan }
        });
        let input = Input { records: 2 * self.input.records, ..self.input };
        Self { input, checkpoints, ..self }
    }

    /// The time for which the source has records, without faults.
    #[must_use]
    pub fn duration(&self) -> Duration {
        Duration::from_millis(self.input.records.saturating_mul(1_000) / self.rate.max(1))
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{}, seed {}, {} records at {} per second, {} keys, parallelism {} on {} \
             TaskManagers, ",
            self.input.workload,
            self.input.seed,
            self.input.records,
            self.rate,
            self.input.keys_per_lane * LANES,
            self.parallelism,
            self.task_managers
        )?;
        match &self.checkpoints {
            Some(checkpoints) => write!(out, "{checkpoints}")?,
            None => write!(out, "no checkpoints")?,
        }
        write!(out, ", {} faults", self.faults.len())?;
        match self.rescale {
            Some(Rescale { after, parallelism }) => write!(
                out,
                ", stop with a savepoint behind {after} of them and parallelism {parallelism}"
            ),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn draw(seed: u64, faults: u32) -> Plan {
        Plan::draw(seed, faults, None)
    }

    #[test]
    fn a_plan_depends_on_its_seed_alone() {
        assert_eq!(draw(42, 5), draw(42, 5));
        assert_ne!(draw(42, 5).faults, draw(43, 5).faults);
    }

    #[test]
    fn plans_are_within_what_a_cluster_can_run_and_all_kinds_of_faults_come() {
        let mut kinds: BTreeMap<String, u32> = BTreeMap::new();
        for seed in 0..300 {
            let plan = draw(seed, 4);
            assert!((2..=3).contains(&plan.task_managers), "{plan}");
            assert!((1..=4).contains(&plan.parallelism), "{plan}");
            assert!(plan.input.records >= 1_000 && plan.faults.len() == 4, "{plan}");
            let waits: Duration = plan.faults.iter().map(|fault| fault.wait).sum();
            assert!(waits + Duration::from_secs(10) <= plan.duration(), "{plan}");
            assert!(plan.faults[0].harm.is_kill(), "{plan}");
            for fault in plan.faults {
                if fault.at_commit {
                    *kinds.entry("at commit".to_owned()).or_default() += 1;
                }
                let name = format!("{:?} {:?}", fault.process, fault.harm);
                let kind = name.split('(').next().unwrap().to_owned();
                *kinds.entry(kind).or_default() += 1;
                if let Some(second) = fault.second() {
                    let moment = format!("{:?}", second.moment);
                    let moment = moment.split('(').next().unwrap();
                    *kinds.entry(format!("second {:?} {moment}", second.process)).or_default() += 1;
                }
            }
        }
        // Three processes with three harms each; three second ones at two moments; some at commit.
        assert_eq!(kinds.len(), 16, "{kinds:?}");
        assert!(kinds.values().all(|count| *count >= 15), "{kinds:?}");
    }

    #[test]
    fn two_of_three_runs_keep_their_checkpoints_in_a_directory() {
        let drawn = (0..300).filter_map(|seed| draw(seed, 0).checkpoints);
        let drawn: Vec<CheckpointPlan> = drawn.collect();
        assert_eq!(drawn.len(), 300);
        let count = |storage| drawn.iter().filter(|plan| plan.storage == storage).count();
        let unaligned = drawn.iter().filter(|plan| plan.unaligned).count();
        assert!((70..130).contains(&unaligned), "{unaligned}");
        let places = [Storage::Memory, Storage::Directory, Storage::DirectoryOfStates];
        assert!(places.map(count).iter().all(|count| (70..130).contains(count)));
        let intervals = drawn.iter().map(|plan| plan.interval.as_millis());
        assert!(intervals.clone().all(|interval| (50..=400).contains(&interval)));
        assert!(intervals.clone().min() < Some(70) && intervals.max() > Some(380));
    }

    #[test]
    fn one_run_in_three_stops_and_goes_on_at_another_parallelism() {
        let drawn: Vec<Plan> = (0..300).map(|seed| draw(seed, 4)).collect();
        let stops: Vec<(u64, Rescale)> =
            drawn.iter().filter_map(|plan| Some((plan.parallelism, plan.rescale?))).collect();
        assert!((70..130).contains(&stops.len()), "{}", stops.len());
        assert!(stops.iter().all(|(before, stop)| stop.parallelism != *before));
        assert!(stops.iter().all(|(_, stop)| (1..=4).contains(&stop.parallelism)));
        for after in 0..=4 {
            assert!(stops.iter().any(|(_, stop)| stop.after == after), "{after}");
        }
    }

    #[test]
    fn seeds_have_the_workloads_by_turns_unless_one_is_given() {
        let workloads = (0..14).map(|seed| draw(seed, 0).input.workload);
        let twice = [Workload::ALL, Workload::ALL].concat();
        assert_eq!(workloads.collect::<Vec<_>>(), twice);
        let session = Plan::draw(3, 0, Some(Workload::Session));
        assert_eq!(session.input.workload, Workload::Session);
        assert_eq!(session.faults, draw(3, 0).faults);
    }

    #[test]
    fn a_plan_says_what_repeats_it() {
        let plan = Plan { faults: Vec::new(), rescale: None, ..draw(1, 2) };
        let (interval, storage) = (Duration::from_millis(70), Storage::Directory);
        let checkpoints = CheckpointPlan { interval, storage, unaligned: false };
        let with = Plan { checkpoints: Some(checkpoints), ..plan.clone() }.to_string();
        assert!(with.ends_with(", checkpoints every 70ms in a directory, 0 faults"), "{with}");
        assert!(with.starts_with("timers, seed 1, "), "{with}");
        let unaligned = CheckpointPlan { unaligned: true, ..checkpoints }.to_string();
        assert_eq!(unaligned, "unaligned checkpoints every 70ms in a directory");
        let rescale = Some(Rescale { after: 0, parallelism: 3 });
        let without = Plan { checkpoints: None, rescale, ..plan }.to_string();
        let end = ", no checkpoints, 0 faults, stop with a savepoint behind 0 of them and \
            parallelism 3";
        assert!(without.ends_with(end), "{without}");
    }

    #[test]
    fn no_checkpoint_is_in_memory_on_hdfs() {
        for seed in 0..50 {
            let (local, plan) = (draw(seed, 2), draw(seed, 2).on_hdfs());
            let checkpoints = plan.checkpoints.unwrap();
            assert_ne!(checkpoints.storage, Storage::Memory);
            assert!((300..=1_000).contains(&checkpoints.interval.as_millis()), "{plan}");
            assert_eq!(plan.input.records, 2 * local.input.records);
            assert_eq!(plan.faults, local.faults);
        }
    }

    #[test]
    fn a_plan_may_have_no_faults() {
        assert_eq!(draw(1, 0).faults, []);
    }
}
