//! The evidence that a run has shown something, and the rule by which it counts.

use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

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
    /// Number of those that killed two processes.
    pub double_kills: u64,
    /// Number of checkpoints that were complete.
    pub checkpoints: u64,
    /// The reason why no checkpoint was complete.
    pub hindrance: Option<String>,
    /// Number of restores from a checkpoint with a number above 0.
    pub restores: u64,
    /// Number of published results.
    pub results: u64,
    /// The longest time without a new published result.
    pub longest_pause: Duration,
}

impl Evidence {
    /// Whether one run with this evidence counts.
    ///
    /// # Errors
    /// The run does not count, for the first of the reasons.
    pub fn counts(&self) -> Result<(), String> {
        let Self { faults, faults_in_flight, kills, checkpoints, restores, results, .. } = *self;
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
        if restores < kills {
            return Err(format!(
                "{kills} faults killed processes, and the job was restored from a checkpoint \
                 {restores} times"
            ));
        }
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
        self.double_kills += other.double_kills;
        self.checkpoints += other.checkpoints;
        self.restores += other.restores;
        self.results += other.results;
        self.longest_pause = self.longest_pause.max(other.longest_pause);
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} of {} faults with records in flight ({} of them kills, {} of the coordinator \
             host, {} of two processes), {} completed checkpoints, {} restores from a checkpoint, \
             {} committed results, longest pause {:.1} s",
            self.faults_in_flight,
            self.faults,
            self.kills,
            self.coordinator_kills,
            self.double_kills,
            self.checkpoints,
            self.restores,
            self.results,
            self.longest_pause.as_secs_f64()
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
        double_kills: 0,
        checkpoints: 10,
        hindrance: None,
        restores: 2,
        results: 1_000,
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
                "2 faults killed processes, and the job was restored from a checkpoint 1 times",
            ),
            (Evidence { results: 999, ..ENOUGH }, "999 of at least 1000 results were published"),
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
        sum += Evidence { longest_pause: Duration::from_millis(100), ..ENOUGH };
        assert_eq!(
            sum.to_string(),
            "6 of 6 faults with records in flight (4 of them kills, 2 of the coordinator host, 0 \
             of two processes), 20 completed checkpoints, 4 restores from a checkpoint, 2000 \
             committed results, longest pause 30.0 s"
        );
    }
}
