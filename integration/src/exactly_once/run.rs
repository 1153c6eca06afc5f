//! One run: a cluster, a job, the faults of a plan, and the judgement of the output.

use std::fmt::Display;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use millstream_oracle::committed::{Expected, Progress, Published, Watcher};

use super::checkpoint_files::CheckpointFiles;
use super::checkpoints::Checkpoints;
use super::evidence::Evidence;
use super::faults::Victim;
use super::place::{Output, Place, Surroundings};
use super::plan::{CheckpointPlan, Fault, Harm, Moment, Plan, Process, Rescale, Second, Storage};
use super::status::Status;
use crate::job::Job;

/// Interval of the looks at the output and at the job.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Time limit for the job to run, and to run again after a fault.
const RUNS_WITHIN: Duration = Duration::from_secs(90);
/// Time limit for the end of the job, as a multiple of the time for which the source has records:
/// a job that begins anew reads all of them again.
const ENDS_WITHIN: u32 = 6;
/// Time limit for the removal of the checkpoints after the end of the job.
const REMOVED_WITHIN: Duration = Duration::from_secs(10);
/// Interval of the looks for a commit.
const COMMIT_LOOK_EVERY: Duration = Duration::from_millis(1);
/// The longest wait for a commit.
const COMMITS_WITHIN: Duration = Duration::from_secs(3);
/// The wait before a stop, from the moment on at which the job is seen to make records.
const SETTLED: Duration = Duration::from_millis(500);
/// The most moments at which a fault is tried on a job that is not restarting.
const MOMENTS_MAX: u32 = 10;

/// The settings of the job.
const JOB: [&str; 3] = [
    "restart-strategy.type=fixed-delay",
    "restart-strategy.fixed-delay.attempts=1000",
    "restart-strategy.fixed-delay.delay=100ms",
];

/// The result of a run.
#[derive(Debug)]
pub struct Report {
    /// The evidence that the run has shown something.
    pub evidence: Evidence,
    /// Whether the output is exact; else the first difference, or why the job did not finish.
    pub output: Result<(), String>,
    /// The directory with the output and the logs, which stays if the output is not exact or a run
    /// with checkpoints does not count.
    pub kept: Option<PathBuf>,
}

/// Carries out a plan on a cluster of its own and judges the output of the job. What happens is
/// written to `log`.
///
/// # Panics
/// The cluster does not start, or the job is refused.
pub fn run(plan: &Plan, surroundings: &Surroundings, log: &mut dyn Write) -> Report {
    let expected = Expected::of(&plan.input);
    let place = Place::start(plan, surroundings);
    let start = Instant::now();
    let job = submit(&place, plan, plan.parallelism, None);
    let evidence = Evidence {
        faults: plan.faults.len() as u64,
        stops: u64::from(plan.rescale.is_some()),
        ..Evidence::default()
    };
    let mut run = Run {
        output: place.output(),
        files: checkpoint_files(&place, &job, plan.parallelism),
        job,
        place,
        watcher: Watcher::new(expected),
        checkpoints: Checkpoints::default(),
        start,
        evidence,
        log,
    };
    let output = run.carry_out(plan);
    run.add_checkpoints();
    let evidence = run.evidence;
    let is_evident = output.is_ok() && (plan.checkpoints.is_none() || evidence.counts().is_ok());
    let kept = (!is_evident).then(|| run.place.keep());
    Report { evidence, output, kept }
}

/// The files of a job's checkpoints, which the local disk has.
fn checkpoint_files(place: &Place, job: &Job, parallelism: u64) -> Option<CheckpointFiles> {
    let Place::Local(cluster) = place else { return None };
    let directory = cluster.data("checkpoints").join(&job.id);
    // A file for each state of a task and of the coordinators, and the metadata twice.
    Some(CheckpointFiles::new(directory, 8 + 6 * parallelism as usize))
}

/// Submits the job, with the state of a savepoint if there is one.
fn submit(place: &Place, plan: &Plan, parallelism: u64, savepoint: Option<&str>) -> Job {
    let parallelism = parallelism.to_string();
    let mut settings: Vec<String> = JOB.iter().map(|&setting| setting.to_owned()).collect();
    settings.extend(plan.checkpoints.iter().flat_map(|plan| checkpointing(place, *plan)));
    let mut options = vec!["-p", &parallelism];
    for setting in &settings {
        options.extend(["-D", setting]);
    }
    options.extend(savepoint.iter().flat_map(|savepoint| ["-s", savepoint]));
    let input = &plan.input;
    let numbers = [
        ("--seed", input.seed),
        ("--records", input.records),
        ("--keys-per-lane", input.keys_per_lane),
        ("--span", input.span_ms.unsigned_abs()),
        ("--rate", plan.rate),
    ];
    let numbers = numbers.map(|(name, number)| (name, number.to_string()));
    let output = place.path("output");
    let mut arguments = vec!["--output", &output];
    arguments.extend(numbers.iter().flat_map(|(name, number)| [*name, number.as_str()]));
    place.submit(input.workload.name(), &options, &arguments)
}

/// The settings of a job's checkpoints.
fn checkpointing(place: &Place, plan: CheckpointPlan) -> Vec<String> {
    let interval = plan.interval.as_millis();
    let mut settings = vec![format!("execution.checkpointing.interval={interval}ms")];
    if plan.unaligned {
        settings.push("execution.checkpointing.unaligned.enabled=true".to_owned());
    }
    if plan.storage != Storage::Memory {
        let directory = place.path("checkpoints");
        settings.push(format!("execution.checkpointing.dir={directory}"));
    }
    if plan.storage == Storage::DirectoryOfStates {
        settings.push("execution.checkpointing.data-inline-threshold=0b".to_owned());
    }
    settings
}

struct Run<'a> {
    place: Place,
    job: Job,
    output: Output,
    /// On the local disk alone.
    files: Option<CheckpointFiles>,
    watcher: Watcher,
    checkpoints: Checkpoints,
    start: Instant,
    evidence: Evidence,
    log: &'a mut dyn Write,
}

impl Run<'_> {
    /// Runs the job to its end under all faults. The error is the first difference of the output,
    /// or says what the job failed to do.
    fn carry_out(&mut self, plan: &Plan) -> Result<(), String> {
        self.wait("the job runs", RUNS_WITHIN, |status| status.all_run)?;
        self.say("the job runs");
        let stop = plan.rescale.map_or(plan.faults.len(), |stop| stop.after);
        let (before, after) = plan.faults.split_at(stop.min(plan.faults.len()));
        if self.faults(before)?
            && let Some(rescale) = plan.rescale
            && self.rescale(plan, rescale)?
        {
            self.faults(after)?;
        }
        let limit = RUNS_WITHIN + ENDS_WITHIN * plan.duration();
        self.wait("the job is finished", limit, Status::is_finished)?;
        self.ask_for_checkpoints();
        self.wait_for_removal()?;
        let progress = self.watcher.finish(&self.output, self.start.elapsed());
        let progress = progress.map_err(|difference| difference.to_string())?;
        let checkpoints = self.files.as_ref().map(|it| (it.directories, it.files));
        let (directories, files) = checkpoints.unwrap_or_default();
        self.say(format_args!(
            "the job is finished: {} files; at most {directories} checkpoints with {files} files \
             at once",
            progress.files
        ));
        self.note(&progress);
        Ok(())
    }

    /// Carries out faults one after the other. False if the job finishes before.
    fn faults(&mut self, faults: &[Fault]) -> Result<bool, String> {
        for fault in faults {
            if !self.fault(fault)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Stops the job with a savepoint and lets it go on from that. False if the job finishes
    /// before.
    fn rescale(&mut self, plan: &Plan, rescale: Rescale) -> Result<bool, String> {
        if self.moment(SETTLED)?.is_none() {
            self.say("the job was finished before its stop");
            return Ok(false);
        }
        let stopped = self.place.stop(&self.job, &self.place.path("savepoints"));
        let path = stopped.stdout.split_once("Savepoint completed. Path: ");
        let Some(path) = path.and_then(|(_, path)| path.split_whitespace().next()) else {
            return Err(format!("the job was not stopped with a savepoint: {}", stopped.stderr));
        };
        self.wait("the stopped job is finished", RUNS_WITHIN, Status::is_finished)?;
        self.ask_for_checkpoints();
        self.wait_for_removal()?;
        self.add_checkpoints();
        self.say(format_args!("the job is stopped; it goes on from {path}"));
        let Rescale { parallelism, .. } = rescale;
        self.job = submit(&self.place, plan, parallelism, Some(path));
        self.checkpoints = Checkpoints::of_resumed();
        self.files = checkpoint_files(&self.place, &self.job, parallelism);
        self.wait("the job runs from the savepoint", RUNS_WITHIN, |status| {
            status.is_finished() || status.all_run
        })?;
        self.say(format_args!("the job runs at parallelism {parallelism}"));
        self.evidence.resumes += 1;
        Ok(true)
    }

    /// Adds the counts of the job's checkpoints to the evidence.
    fn add_checkpoints(&mut self) {
        let Checkpoints { completed, restores, hindrance, .. } = &mut self.checkpoints;
        self.evidence.checkpoints += std::mem::take(completed);
        self.evidence.restores += std::mem::take(restores);
        self.evidence.hindrance = hindrance.take();
    }

    fn note(&mut self, progress: &Progress) {
        self.evidence.results[self.watcher.workload() as usize] = progress.results;
        self.evidence.longest_pause = progress.longest_pause;
    }

    /// Carries out one fault and waits until the job runs again. False if the job finishes before.
    fn fault(&mut self, fault: &Fault) -> Result<bool, String> {
        let Some(before) = self.moment(fault.wait)? else {
            self.say(format_args!("the job was finished before the {fault}"));
            return Ok(false);
        };
        if fault.at_commit {
            self.wait_for_commit();
        }
        let victim = Victim::find(&self.place, fault.process, fault.pick);
        let victim = victim.ok_or_else(|| format!("no process was found for the {fault}"))?;
        let is_kill = fault.harm.is_kill();
        let mut hit = before.all_run;
        // The failures that the job must have more than.
        let mut failures = before.failures;
        match fault.harm {
            Harm::Kill => {
                victim.kill(&mut self.place);
                self.say(format_args!("{fault}: {}", victim.name));
            }
            Harm::KillTwo(second) => failures = self.kill_two(fault, &victim, second, failures)?,
            Harm::Pause(pause) => {
                victim.pause(&self.place);
                self.say(format_args!("{fault}: {}", victim.name));
                let from = Instant::now();
                self.wait("the end of the pause", RUNS_WITHIN, |_| from.elapsed() >= pause)?;
                hit &= !self.status().is_finished();
                victim.resume(&self.place);
            }
        }
        let status = self.wait("the job runs again", RUNS_WITHIN, |status| {
            let went_on = !is_kill || status.failures > failures;
            status.is_finished() || (status.all_ran && went_on)
        })?;
        if is_kill {
            self.evidence.kills += 1;
            let second = fault.second().map(|second| second.process);
            let kinds = [Some(fault.process), second];
            let kills_coordinator = kinds.contains(&Some(Process::CoordinatorHost));
            self.evidence.coordinator_kills += u64::from(kills_coordinator);
            let is_worker = |kind: &Process| *kind != Process::CoordinatorHost;
            let kills_worker = kinds.iter().flatten().any(is_worker);
            self.evidence.worker_kills += u64::from(kills_worker);
            self.evidence.double_kills += u64::from(second.is_some());
            hit &= status.failures > before.failures;
        }
        self.evidence.faults_in_flight += u64::from(hit);
        let causes = self.job.causes().into_iter();
        let failures = status.failures.saturating_sub(before.failures);
        let cause = match failures {
            0 => "the job did not fail".to_owned(),
            _ => causes.take(failures as usize).collect::<Vec<_>>().join(" | "),
        };
        self.say(format_args!("the job runs again: {cause}"));
        Ok(true)
    }

    /// Waits for the moment of a fault, at which all tasks run and records are made. `None` if the
    /// job finishes before.
    fn moment(&mut self, wait: Duration) -> Result<Option<Status>, String> {
        let mut moments = 0;
        loop {
            moments += 1;
            let mut emitted = None;
            self.wait("the job makes records", RUNS_WITHIN, |status| {
                let before = emitted.replace(status.emitted);
                let moves = before.is_some_and(|before| before < status.emitted);
                status.is_finished() || (status.all_run && moves)
            })?;
            let from = Instant::now();
            self.wait("the time of the fault", RUNS_WITHIN, |status| {
                status.is_finished() || from.elapsed() >= wait
            })?;
            let status = self.status();
            if status.is_finished() {
                return Ok(None);
            }
            // A fault before it may have made the job restart only now.
            if status.all_run || moments == MOMENTS_MAX {
                return Ok(Some(status));
            }
        }
    }

    /// Waits until one more file is published, for a while: others may follow right behind it.
    fn wait_for_commit(&self) {
        let files = || self.output.list().map_or(0, |files| files.len());
        let (from, before) = (Instant::now(), files());
        while files() <= before && from.elapsed() < COMMITS_WITHIN {
            std::thread::sleep(COMMIT_LOOK_EVERY);
        }
    }

    /// Kills two processes and returns the number of failures before the second kill, which makes
    /// the job fail once more if it ran again.
    fn kill_two(
        &mut self,
        fault: &Fault,
        first: &Victim,
        Second { process, pick, moment }: Second,
        failures: u64,
    ) -> Result<u64, String> {
        let mut second = first.find_beside(&self.place, process, pick);
        let killed = Instant::now();
        first.kill(&mut self.place);
        let mut before = failures;
        match moment {
            Moment::After(time) => std::thread::sleep(time.saturating_sub(killed.elapsed())),
            Moment::Restarting(time) => {
                self.wait("the job restarts", RUNS_WITHIN, |status| {
                    status.is_finished() || status.failures > failures || !status.all_ran
                })?;
                let from = Instant::now();
                self.wait("the second kill", RUNS_WITHIN, |_| from.elapsed() >= time)?;
                second = Victim::find(&self.place, process, pick);
                while second.is_none() && from.elapsed() < RUNS_WITHIN {
                    self.look()?;
                    second = Victim::find(&self.place, process, pick);
                }
                let status = self.status();
                if status.all_ran {
                    before = status.failures;
                }
            }
        }
        let Some(second) = second else {
            return Err(format!("no second process was found for the {fault}"));
        };
        second.kill(&mut self.place);
        let gap = killed.elapsed();
        let (first, second) = (&first.name, &second.name);
        self.say(format_args!("{fault}: {first}, and {gap:.0?} later {second}"));
        Ok(before)
    }

    /// Waits until the job's checkpoints are gone, which nobody asked to stay.
    fn wait_for_removal(&mut self) -> Result<(), String> {
        let Some(files) = &self.files else { return Ok(()) };
        let from = Instant::now();
        while !files.are_gone() {
            if from.elapsed() > REMOVED_WITHIN {
                return Err(format!(
                    "{REMOVED_WITHIN:?} after the end of the job its checkpoints are still there: \
                     {}",
                    files.left()
                ));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Looks at the job and its output again and again until a condition holds.
    fn wait(
        &mut self,
        what: &str,
        limit: Duration,
        mut condition: impl FnMut(&Status) -> bool,
    ) -> Result<Status, String> {
        let from = Instant::now();
        loop {
            let status = self.look()?;
            if condition(&status) {
                return Ok(status);
            }
            if ["FAILED", "CANCELED"].contains(&status.state.as_str()) {
                let cause = self.job.causes().into_iter().next().unwrap_or_default();
                return Err(format!("the job is {}: {cause}", status.state));
            }
            if from.elapsed() > limit {
                let state = &status.state;
                return Err(format!("{limit:?} were not enough until {what}; it is {state}"));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn look(&mut self) -> Result<Status, String> {
        let progress = self.watcher.look(&self.output, self.start.elapsed());
        let progress = progress.map_err(|difference| difference.to_string())?;
        self.note(&progress);
        self.ask_for_checkpoints();
        self.files.as_mut().map_or(Ok(()), CheckpointFiles::look)?;
        Ok(self.status())
    }

    fn status(&self) -> Status {
        Status::of(&self.job.details(), self.job.causes().len())
    }

    fn ask_for_checkpoints(&mut self) {
        let answer = self.job.rest.get(&format!("/v1/jobs/{}/checkpoints", self.job.id));
        self.checkpoints.on_answer(answer.status, &answer.json);
    }

    /// Writes a line to the log. A log that cannot be written does not change the verdict.
    fn say(&mut self, what: impl Display) {
        let seconds = self.start.elapsed().as_secs_f64();
        let _ = writeln!(self.log, "  {seconds:6.1} s  {what}");
    }
}
