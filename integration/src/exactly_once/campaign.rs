//! Several runs with one verdict.

use std::io::{self, Write};

use millstream_oracle::committed::Workload;

use super::evidence::Evidence;
use super::place::Surroundings;
use super::plan::Plan;
use super::run::{Report, run};

/// Runs whose seeds follow each other.
#[derive(Debug, Clone, Copy)]
pub struct Campaign {
    /// Number of runs.
    pub runs: u32,
    /// The seed of the first run.
    pub seed: u64,
    /// Number of faults in each run: kills of one process or two, and stops.
    pub kills: u32,
    /// The job; by turns all of them if there is none.
    pub workload: Option<Workload>,
    /// The place of the runs, and the fault that they must notice.
    pub surroundings: Surroundings,
}

impl Campaign {
    /// Carries out the runs up to the first that is not exact or does not count, and returns
    /// whether there was none. With a mutant it is the other way round: it returns whether one of
    /// the runs is not exact. What happens is written to `out`; the last line is the verdict.
    ///
    /// # Errors
    /// `out` refuses the verdict.
    ///
    /// # Panics
    /// A cluster does not start, or the job is refused.
    pub fn carry_out(&self, out: &mut dyn Write) -> io::Result<bool> {
        self.judge(out, |plan, out| run(plan, &self.surroundings, out))
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
            let mut plan = Plan::draw(seed, self.kills, self.workload);
            if self.surroundings.hdfs {
                plan = plan.on_hdfs();
            }
            writeln!(out, "run {number} of {}: {plan}", self.runs)?;
            let report = run(&plan, out);
            if report.output.is_ok() {
                writeln!(out, "run {number}: the output is exact; {}", report.evidence)?;
            }
            if let Some(kept) = &report.kept {
                writeln!(out, "the output and the logs are in {}", kept.display())?;
            }
            match (self.surroundings.mutant, verdict(&report)) {
                (None, Err(verdict)) => {
                    writeln!(out, "run {number} {verdict} (seed {seed} repeats it)")?;
                    return Ok(false);
                }
                (Some(_), Err(_)) if let Err(difference) = &report.output => {
                    writeln!(out, "caught in run {number} of {}: {difference}", self.runs)?;
                    return Ok(true);
                }
                (Some(_), Err(verdict)) => writeln!(out, "run {number} {verdict}")?,
                (_, Ok(())) => {}
            }
            sum += report.evidence;
        }
        if self.surroundings.mutant.is_some() {
            writeln!(out, "NOT caught in {} runs: {sum}", self.runs)?;
            return Ok(false);
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

    use millstream_mutants::Mutant;

    use super::*;

    const ENOUGH: Evidence = Evidence {
        faults: 2,
        faults_in_flight: 2,
        kills: 1,
        coordinator_kills: 1,
        worker_kills: 1,
        double_kills: 1,
        checkpoints: 60,
        hindrance: None,
        restores: 1,
        stops: 0,
        resumes: 0,
        results: [0, 0, 5_000, 0, 0, 0, 0],
        longest_pause: Duration::from_millis(1_500),
    };

    /// The result of the runs with the seeds 7, 8 and so on, the last line, and the seeds.
    fn judge(reports: Vec<Report>) -> (bool, String, Vec<u64>) {
        judge_with(None, reports)
    }

    fn judge_with(mutant: Option<Mutant>, reports: Vec<Report>) -> (bool, String, Vec<u64>) {
        let runs = u32::try_from(reports.len()).unwrap();
        let surroundings = Surroundings { mutant, ..Surroundings::default() };
        let campaign = Campaign { runs, seed: 7, kills: 2, workload: None, surroundings };
        let (mut out, mut seeds, mut reports) = (Vec::new(), Vec::new(), reports.into_iter());
        let is_exact = campaign.judge(&mut out, |plan, _| {
            seeds.push(plan.input.seed);
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
             checkpoint, 0 stops with a savepoint and starts from it, longest pause 1.5 s, \
             committed results: tumbling 10000"
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
    fn a_mutant_is_caught_by_a_run_that_differs_and_by_no_other() {
        let mutant = Some(Mutant::FiresTwice);
        let differs = || report(Err("part-0, line 3: too much"), ENOUGH);
        let lacks = || report(Ok(()), Evidence::default());
        let exact = || report(Ok(()), ENOUGH);
        let (is_caught, last, seeds) =
            judge_with(mutant, vec![exact(), lacks(), differs(), exact()]);
        assert!(is_caught);
        let verdict = "caught in run 3 of 4: part-0, line 3: too much";
        assert_eq!((last.as_str(), seeds.len()), (verdict, 3));
        let (is_caught, last, _) = judge_with(mutant, vec![exact(), lacks()]);
        assert!(!is_caught);
        assert!(last.starts_with("NOT caught in 2 runs: "), "{last}");
    }
}
