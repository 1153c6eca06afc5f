//! Several runs with one verdict.

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use super::evidence::Evidence;
use super::plan::Plan;
use super::run::{Report, run};

/// The job of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    /// Sums by key: one operator with state between a source and files.
    KeyedSum,
}

impl FromStr for Workload {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "keyed-sum" => Ok(Self::KeyedSum),
            _ => Err("there is no such workload; there is keyed-sum".to_owned()),
        }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeyedSum => write!(out, "keyed-sum"),
        }
    }
}

/// Runs whose seeds follow each other.
#[derive(Debug, Clone, Copy)]
pub struct Campaign {
    /// Number of runs.
    pub runs: u32,
    /// The seed of the first run.
    pub seed: u64,
    /// Number of faults in each run: kills of one process or two, and stops.
    pub kills: u32,
    /// The job.
    pub workload: Workload,
}

impl Campaign {
    /// Carries out the runs up to the first that is not exact or does not count, and returns
    /// whether there was none. What happens is written to `out`; the last line is the verdict.
    ///
    /// # Errors
    /// `out` refuses the verdict.
    ///
    /// # Panics
    /// A cluster does not start, or the job is refused.
    pub fn carry_out(&self, out: &mut dyn Write) -> io::Result<bool> {
        self.judge(out, |plan, out| run(plan, out))
    }

    /// The same with any way to carry out a plan.
    fn judge(
        &self,
        out: &mut dyn Write,
        mut run: impl FnMut(&Plan, &mut dyn Write) -> Report,
    ) -> io::Result<bool> {
        let mut sum = Evidence::default();
        for number in 1..=self.runs {
            let seed = self.seed.wrapping_add(u64::from(number - 1));
            let plan = Plan::draw(seed, self.kills);
            writeln!(out, "run {number} of {}: {}, {plan}", self.runs, self.workload)?;
            let report = run(&plan, out);
            if report.output.is_ok() {
                writeln!(out, "run {number}: the output is exact; {}", report.evidence)?;
            }
            if let Some(kept) = &report.kept {
                writeln!(out, "the output and the logs are in {}", kept.display())?;
            }
            if let Err(verdict) = verdict(&report) {
                writeln!(out, "run {number} {verdict} (seed {seed} repeats it)")?;
                return Ok(false);
            }
            sum += report.evidence;
        }
        writeln!(out, "{0}/{0} exact: {0} runs, {sum}", self.runs)?;
        Ok(true)
    }
}

/// The verdict on a run that is not exact or does not count.
fn verdict(report: &Report) -> Result<(), String> {
    report.output.as_ref().map_err(|difference| format!("differs: {difference}"))?;
    report.evidence.counts().map_err(|reason| format!("does not count: {reason}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const ENOUGH: Evidence = Evidence {
        faults: 2,
        faults_in_flight: 2,
        kills: 1,
        coordinator_kills: 1,
        double_kills: 1,
        checkpoints: 60,
        hindrance: None,
        restores: 1,
        results: 5_000,
        longest_pause: Duration::from_millis(1_500),
    };

    /// The result of the runs with the seeds 7, 8 and so on, the last line, and the seeds.
    fn judge(reports: Vec<Report>) -> (bool, String, Vec<u64>) {
        let runs = u32::try_from(reports.len()).unwrap();
        let campaign = Campaign { runs, seed: 7, kills: 2, workload: Workload::KeyedSum };
        let (mut out, mut seeds, mut reports) = (Vec::new(), Vec::new(), reports.into_iter());
        let is_exact = campaign.judge(&mut out, |plan, _| {
            seeds.push(plan.seed);
            reports.next().unwrap()
        });
        let text = String::from_utf8(out).unwrap();
        (is_exact.unwrap(), text.lines().last().unwrap_or_default().to_owned(), seeds)
    }

    fn report(output: Result<(), &str>, evidence: Evidence) -> Report {
        Report { evidence, output: output.map_err(str::to_owned), kept: None }
    }

    #[test]
    fn runs_that_are_exact_and_count_are_summed_up() {
        let reports = vec![report(Ok(()), ENOUGH), report(Ok(()), ENOUGH)];
        let (is_exact, last, seeds) = judge(reports);
        assert!(is_exact);
        assert_eq!(
            last,
            "2/2 exact: 2 runs, 4 of 4 faults with records in flight (2 of them kills, 2 of the \
             coordinator host, 2 of two processes), 120 completed checkpoints, 2 restores from a \
             checkpoint, 10000 committed results, longest pause 1.5 s"
        );
        assert_eq!(seeds, [7, 8]);
    }

    #[test]
    fn the_first_run_that_differs_ends_them_all() {
        let differs = report(Err("part-0, line 3: too much"), ENOUGH);
        let (is_exact, last, seeds) =
            judge(vec![report(Ok(()), ENOUGH), differs, report(Ok(()), ENOUGH)]);
        assert!(!is_exact);
        assert_eq!(last, "run 2 differs: part-0, line 3: too much (seed 8 repeats it)");
        assert_eq!(seeds, [7, 8]);
    }

    #[test]
    fn an_exact_run_without_evidence_does_not_count() {
        let (is_exact, last, _) = judge(vec![report(Ok(()), Evidence::default())]);
        assert!(!is_exact);
        assert_eq!(
            last,
            "run 1 does not count: 0 of at least 10 checkpoints were complete (seed 7 repeats it)"
        );
        let (is_exact, last, _) = judge(vec![report(Err("gone"), Evidence::default())]);
        assert!(!is_exact);
        assert_eq!(last, "run 1 differs: gone (seed 7 repeats it)");
    }

    #[test]
    fn a_workload_is_known_by_its_name() {
        assert_eq!(Workload::KeyedSum.to_string().parse(), Ok(Workload::KeyedSum));
        let refusal = "windows".parse::<Workload>().unwrap_err();
        assert_eq!(refusal, "there is no such workload; there is keyed-sum");
    }
}
