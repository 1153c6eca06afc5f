//! One run: a cluster, a job, the faults of a plan, and the judgement of the output.

use std::fmt::Display;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use millstream_oracle::committed::{Directory, Expected, KeyedSum, Watcher};
use serde_json::Value;

use super::checkpoints::Checkpoints;
use super::evidence::Evidence;
use super::faults::strike;
use super::plan::{Fault, Plan};
use crate::cluster::Cluster;
use crate::job::Job;

/// Interval of the looks at the output and at the job.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Time limit for the job to run, and to run again after a fault.
const RUNS_WITHIN: Duration = Duration::from_secs(90);
/// Time limit for the end of the job, as a multiple of the time for which the source has records:
/// a job that begins anew reads all of them again.
const ENDS_WITHIN: u32 = 6;

/// The settings of a cluster that notices faults early.
const CLUSTER: [(&str, &str); 2] = [("heartbeat.interval", "500 ms"), ("heartbeat.timeout", "3 s")];
/// The settings of the job.
const JOB: [&str; 4] = [
    "restart-strategy.type=fixed-delay",
    "restart-strategy.fixed-delay.attempts=1000",
    "restart-strategy.fixed-delay.delay=100ms",
    "execution.checkpointing.interval=200ms",
];

/// The result of a run.
#[derive(Debug)]
pub struct Report {
    /// The evidence that the run has shown something.
    pub evidence: Evidence,
    /// Whether the output is exact; else the first difference, or why the job did not finish.
    pub output: Result<(), String>,
    /// The directory with the output and the logs, which stays if the output is not exact.
    pub kept: Option<PathBuf>,
}

/// Carries out a plan on a cluster of its own and judges the output of the job. What happens is
/// written to `log`.
///
/// # Panics
/// The cluster does not start, or the job is refused.
pub fn run(plan: &Plan, log: &mut dyn Write) -> Report {
    let mut builder = Cluster::builder().task_managers(plan.task_managers);
    builder = builder.slots_with_memory(2, 128);
    for (key, value) in CLUSTER {
        builder = builder.set(key, value);
    }
    let cluster = builder.start();
    let expected = Expected::of(&KeyedSum::new(plan.seed, plan.records, plan.keys_per_lane));
    let start = Instant::now();
    let job = submit(&cluster, plan);
    let mut run = Run {
        job,
        output: Directory(cluster.data("output")),
        cluster,
        watcher: Watcher::new(expected),
        checkpoints: Checkpoints::default(),
        start,
        evidence: Evidence { faults: plan.faults.len() as u64, ..Evidence::default() },
        log,
    };
    let output = run.carry_out(plan);
    let Checkpoints { completed, restores, .. } = run.checkpoints;
    let evidence = Evidence { checkpoints: completed, restores, ..run.evidence };
    let kept = output.is_err().then(|| run.cluster.keep());
    Report { evidence, output, kept }
}

fn submit(cluster: &Cluster, plan: &Plan) -> Job {
    let parallelism = plan.parallelism.to_string();
    let mut options = vec!["-p", &parallelism];
    for setting in JOB {
        options.extend(["-D", setting]);
    }
    let numbers = [plan.seed, plan.records, plan.keys_per_lane, plan.rate];
    let [seed, records, keys_per_lane, rate] = numbers.map(|number| number.to_string());
    let output = cluster.data("output").display().to_string();
    let arguments = [
        ["--job", "keyed-sum"],
        ["--seed", &seed],
        ["--records", &records],
        ["--keys-per-lane", &keys_per_lane],
        ["--rate", &rate],
        ["--output", &output],
    ];
    cluster.submit_job(&options, &arguments.concat())
}

/// The state of the job at one look.
struct Status {
    state: String,
    restarts: u64,
    /// All tasks run at this moment.
    all_run: bool,
    /// All tasks run or have run to their end.
    all_ran: bool,
    /// Number of records that all tasks have emitted since the last restart.
    emitted: u64,
}

impl Status {
    fn of(details: &Value) -> Self {
        let vertices = details["vertices"].as_array().map_or(&[][..], Vec::as_slice);
        let count = |vertex: &Value, path: &str| vertex.pointer(path).and_then(Value::as_u64);
        let tasks = |vertex: &Value, states: &[&str]| {
            let counts = states.iter().map(|state| count(vertex, &format!("/tasks/{state}")));
            Some(counts.flatten().sum()) == count(vertex, "/parallelism")
        };
        let all = |states: &[&str]| {
            !vertices.is_empty() && vertices.iter().all(|vertex| tasks(vertex, states))
        };
        let emitted = vertices.iter().map(|vertex| count(vertex, "/metrics/write-records"));
        Self {
            state: details["state"].as_str().unwrap_or_default().to_owned(),
            restarts: details["millstream"]["restarts"].as_u64().unwrap_or(0),
            all_run: all(&["RUNNING"]),
            all_ran: all(&["RUNNING", "FINISHED"]),
            emitted: emitted.flatten().sum(),
        }
    }

    fn is_finished(&self) -> bool {
        self.state == "FINISHED"
    }
}

struct Run<'a> {
    cluster: Cluster,
    job: Job,
    output: Directory,
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
        for fault in &plan.faults {
            if !self.fault(fault)? {
                break;
            }
        }
        let limit = RUNS_WITHIN + ENDS_WITHIN * plan.duration();
        self.wait("the job is finished", limit, Status::is_finished)?;
        self.ask_for_checkpoints();
        let progress = self.watcher.finish(&self.output, self.start.elapsed());
        let progress = progress.map_err(|difference| difference.to_string())?;
        self.say(format_args!("the job is finished: {} files", progress.files));
        self.evidence.results = progress.results;
        self.evidence.longest_pause = progress.longest_pause;
        Ok(())
    }

    /// Carries out one fault and waits until the job runs again. False if the job finishes before.
    fn fault(&mut self, fault: &Fault) -> Result<bool, String> {
        let mut emitted = None;
        let status = self.wait("the job makes records", RUNS_WITHIN, |status| {
            let before = emitted.replace(status.emitted);
            let moves = before.is_some_and(|before| before < status.emitted);
            status.is_finished() || (status.all_run && moves)
        })?;
        let (moved, from) = (!status.is_finished(), Instant::now());
        self.wait("the time of the fault", RUNS_WITHIN, |status| {
            status.is_finished() || from.elapsed() >= fault.wait
        })?;
        let before = Status::of(&self.job.details());
        if before.is_finished() {
            self.say(format_args!("the job was finished before the {}", fault.kind));
            return Ok(false);
        }
        let struck = strike(&mut self.cluster, fault)?;
        self.say(format_args!("{}: {}", fault.kind, struck.victim));
        let mut hit = moved && before.all_run;
        if let Some((paused, pause)) = struck.paused {
            let from = Instant::now();
            self.wait("the end of the pause", RUNS_WITHIN, |_| from.elapsed() >= pause)?;
            hit &= !Status::of(&self.job.details()).is_finished();
            paused.resume(&self.cluster);
        }
        let is_kill = fault.kind.is_kill();
        let status = self.wait("the job runs again", RUNS_WITHIN, |status| {
            let went_on = !is_kill || status.restarts > before.restarts;
            status.is_finished() || (status.all_ran && went_on)
        })?;
        if is_kill {
            self.evidence.kills += 1;
            hit &= status.restarts > before.restarts;
        }
        self.evidence.faults_in_flight += u64::from(hit);
        let cause = match status.restarts > before.restarts {
            true => self.job.causes().into_iter().next().unwrap_or_default(),
            false => "the job did not restart".to_owned(),
        };
        self.say(format_args!("the job runs again: {cause}"));
        Ok(true)
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
        self.evidence.results = progress.results;
        self.evidence.longest_pause = progress.longest_pause;
        self.ask_for_checkpoints();
        Ok(Status::of(&self.job.details()))
    }

    fn ask_for_checkpoints(&mut self) {
        let answer = self.cluster.rest.get(&format!("/v1/jobs/{}/checkpoints", self.job.id));
        self.checkpoints.on_answer(answer.status, &answer.json);
    }

    /// Writes a line to the log. A log that cannot be written does not change the verdict.
    fn say(&mut self, what: impl Display) {
        let seconds = self.start.elapsed().as_secs_f64();
        let _ = writeln!(self.log, "  {seconds:6.1} s  {what}");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(running: [u64; 2], finished: u64) -> Status {
        let vertex = |running: u64| {
            json!({"parallelism": 2, "tasks": {"RUNNING": running, "FINISHED": finished},
                "metrics": {"write-records": 10 * running}})
        };
        let vertices = running.map(vertex);
        Status::of(&json!({"state": "RUNNING", "millstream": {"restarts": 3},
            "vertices": vertices}))
    }

    #[test]
    fn the_state_of_a_job_is_read_from_its_details() {
        let all = status([2, 2], 0);
        assert_eq!((all.state.as_str(), all.restarts, all.emitted), ("RUNNING", 3, 40));
        assert!(all.all_run && all.all_ran && !all.is_finished());
        let some = status([2, 1], 0);
        assert!(!some.all_run && !some.all_ran);
        let ending = status([1, 1], 1);
        assert!(!ending.all_run && ending.all_ran);
        let nothing = Status::of(&json!({"state": "FINISHED"}));
        assert!(!nothing.all_run && !nothing.all_ran && nothing.is_finished());
    }
}
