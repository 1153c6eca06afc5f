//! The evidence that a run has shown something, and the rule by which it counts.

use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

use millstream_oracle::committed::Workload;

/// The fewest checkpoints that must be complete.
const CHECKPOINTS_MIN: u64 = 10;
/// The fewest results that must be published.
const RESULTS_MIN: u64 = 1_000;
/// The longest time without a new result. Results come with each checkpoint, some five times a
/// second; a fault costs a few seconds, on a busy machine more.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Counts of what happened in one run, or in several.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Number of faults of the plan.
    pub faults: u64,
    /// Number of faults that hit a job with records in flight.
    pub faults_in_flight: u64,
    /// Number of faults that killed a process, or two.
    pub kills: u64,
    /// Number of those that killed the coordinator host, maybe as the second process.
    pub coordinator_kills: u64,
    /// Number of those that killed a TaskManager or a task host.
    pub worker_kills: u64,
    /// Number of those that killed two processes.
    pub double_kills: u64,
    /// Number of checkpoints that were complete.
    pub checkpoints: u64,
    /// The reason why no checkpoint was complete.
    pub hindrance: Option<String>,
    /// Number of restores from a checkpoint with a number above 0.
    pub restores: u64,
    /// Number of stops with a savepoint in the plan.
    pub stops: u64,
    /// Number of those from whose savepoint the job went on.
    pub resumes: u64,
    /// Number of published results of each workload, in the order of [`Workload::ALL`].
    pub results: [u64; Workload::ALL.len()],
    /// The longest time without a new published result.
    pub longest_pause: Duration,
}

impl Evidence {
    /// Whether one run with this evidence counts.
    ///
    /// # Errors
    /// The run does not count, for the first of the reasons.
    pub fn counts(&self) -> Result<(), String> {
        let Self { faults, faults_in_flight, worker_kills, checkpoints, restores, .. } = *self;
        if checkpoints < CHECKPOINTS_MIN {
            let reason = self.hindrance.as_ref().filter(|_| checkpoints == 0);
            let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            return Err(format!(
                "{checkpoints} of at least {CHECKPOINTS_MIN} checkpoints were complete{reason}"
            ));
        }
        if faults_in_flight < faults {
            return Err(format!(
                "{faults_in_flight} of {faults} faults hit a job with records in flight"
            ));
        }
        // A coordinator host in which committers alone run is replaced without a restart.
        if restores < worker_kills {
            return Err(format!(
                "{worker_kills} faults killed workers, and the job was restored from a checkpoint \
                 {restores} times"
            ));
        }
        if self.resumes < self.stops {
            return Err("the job did not go on from a savepoint".to_owned());
        }
        let results: u64 = self.results.iter().sum();
        if results < RESULTS_MIN {
            return Err(format!("{results} of at least {RESULTS_MIN} results were published"));
        }
        if self.longest_pause > PAUSE_MAX {
            let (pause, most) = (self.longest_pause.as_secs(), PAUSE_MAX.as_secs());
            return Err(format!(
                "no new result was published for {pause} s, and at most {most} s are allowed"
            ));
        }
        Ok(())
    }
}

impl AddAssign for Evidence {
    fn add_assign(&mut self, other: Self) {
        self.faults += other.faults;
        self.faults_in_flight += other.faults_in_flight;
        self.kills += other.kills;
        self.coordinator_kills += other.coordinator_kills;
        self.worker_kills += other.worker_kills;
        self.double_kills += other.double_kills;
        self.checkpoints += other.checkpoints;
        self.restores += other.restores;
        self.stops += other.stops;
        self.resumes += other.resumes;
        for (sum, results) in self.results.iter_mut().zip(other.results) {
            *sum += results;
        }
        self.longest_pause = self.longest_pause.max(other.longest_pause);
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let results = Workload::ALL.iter().zip(self.results).filter(|(_, count)| *count > 0);
        let results: Vec<String> =
            results.map(|(workload, count)| format!("{workload} {count}")).collect();
        write!(
            out,
            "{} of {} faults with records in flight ({} of them kills, {} of the coordinator \
             host, {} of two processes), {} completed checkpoints, {} restores from a checkpoint, \
             {} stops with a savepoint and starts from it, longest pause {:.1} s, committed \
             results: {}",
            self.faults_in_flight,
            self.faults,
            self.kills,
            self.coordinator_kills,
            self.double_kills,
            self.checkpoints,
            self.restores,
            self.resumes,
            self.longest_pause.as_secs_f64(),
            results.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENOUGH: Evidence = Evidence {
        faults: 3,
        faults_in_flight: 3,
        kills: 2,
        coordinator_kills: 1,
        worker_kills: 2,
        double_kills: 0,
        checkpoints: 10,
        hindrance: None,
        restores: 2,
        stops: 1,
        resumes: 1,
        results: [1_000, 0, 0, 0, 0, 0, 0],
        longest_pause: Duration::from_secs(30),
    };

    #[test]
    fn a_run_with_enough_evidence_counts() {
        assert_eq!(ENOUGH.counts(), Ok(()));
    }

    #[test]
    fn a_run_that_lacks_one_thing_does_not_count_and_says_which() {
        let longest_pause = Duration::from_secs(31);
        let cases = [
            (Evidence { checkpoints: 9, ..ENOUGH }, "9 of at least 10 checkpoints were complete"),
            (
                Evidence { checkpoints: 0, hindrance: Some("none is due".to_owned()), ..ENOUGH },
                "0 of at least 10 checkpoints were complete: none is due",
            ),
            (
                Evidence { faults_in_flight: 2, ..ENOUGH },
                "2 of 3 faults hit a job with records in flight",
            ),
            (
                Evidence { restores: 1, ..ENOUGH },
                "2 faults killed workers, and the job was restored from a checkpoint 1 times",
            ),
            (Evidence { resumes: 0, ..ENOUGH }, "the job did not go on from a savepoint"),
            (
                Evidence { results: [0, 0, 999, 0, 0, 0, 0], ..ENOUGH },
                "999 of at least 1000 results were published",
            ),
            (
                Evidence { longest_pause, ..ENOUGH },
                "no new result was published for 31 s, and at most 30 s are allowed",
            ),
        ];
        for (evidence, says) in cases {
            assert_eq!(evidence.counts(), Err(says.to_owned()));
        }
    }

    #[test]
    fn the_evidence_of_runs_adds_up() {
        let mut sum = Evidence::default();
        sum += ENOUGH;
        let results = [0, 0, 0, 0, 0, 7, 0];
        sum += Evidence { longest_pause: Duration::from_millis(100), results, ..ENOUGH };
        assert_eq!(
            sum.to_string(),
            "6 of 6 faults with records in flight (4 of them kills, 2 of the coordinator host, 0 \
             of two processes), 20 completed checkpoints, 4 restores from a checkpoint, 2 stops \
             with a savepoint and starts from it, longest pause 30.0 s, committed results: \
             keyed-sum 1000, interval-join 7"
        );
    }
}
