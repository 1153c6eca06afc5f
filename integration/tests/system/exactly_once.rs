//! The trial of exactly-once: runs with and without checkpoints, those of the day, and the refusal
//! of options.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use millstream_integration::exactly_once::{
    Campaign, CheckpointPlan, Evidence, Fault, Harm, Plan, Process, Rescale, Storage, Surroundings,
    Workload, run,
};
use millstream_integration::{Cluster, Outcome, binary, until, workspace};
use millstream_mutants::{Mutant, VARIABLE};
use millstream_oracle::committed::{Directory, Input, Published};
use millstream_soak::{is_long, rounds};

fn oracle(arguments: &[&str]) -> Outcome {
    let mut command = Command::new(binary("oracle"));
    command.args(arguments);
    Outcome::of(command)
}

/// A plan without faults, with this many records of a workload at a rate.
fn plan(workload: Workload, records: u64, rate: u64) -> Plan {
    let plan = Plan::draw(1, 0, Some(workload));
    Plan { input: Input { records, ..plan.input }, rate, rescale: None, ..plan }
}

/// Carries a plan out; its output must be exact.
fn evidence_of(plan: &Plan) -> Evidence {
    let mut log = Vec::new();
    let report = run(plan, &Surroundings::default(), &mut log);
    let log = String::from_utf8(log).unwrap();
    let (plan, evidence) = (plan.to_string(), report.evidence);
    assert_eq!(report.output, Ok(()), "{plan}: {log} {:?}", report.kept);
    assert!(log.lines().last().is_some_and(|line| line.contains("the job is finished")), "{log}");
    eprintln!("{plan}: {evidence}\n{log}");
    evidence
}

fn kill(process: Process, milliseconds: u64) -> Fault {
    let wait = Duration::from_millis(milliseconds);
    let at_commit = process == Process::TaskHost;
    Fault { wait, at_commit, process, pick: 1, harm: Harm::Kill }
}

#[test]
fn a_job_whose_hosts_are_killed_is_exact_and_its_run_counts() {
    check_kills(false);
}

#[test]
fn a_job_whose_barriers_overtake_is_exact_too() {
    check_kills(true);
}

fn check_kills(unaligned: bool) {
    let (interval, storage) = (Duration::from_millis(100), Storage::DirectoryOfStates);
    let checkpoints = CheckpointPlan { interval, storage, unaligned };
    let faults = vec![kill(Process::TaskHost, 700), kill(Process::CoordinatorHost, 500)];
    let evidence = evidence_of(&Plan {
        parallelism: 2,
        checkpoints: Some(checkpoints),
        faults,
        rescale: Some(Rescale { after: 1, parallelism: 3 }),
        ..plan(Workload::KeyedSum, 20_000, 2_000)
    });
    assert_eq!(evidence.counts(), Ok(()));
    assert_eq!((evidence.results[0], evidence.kills, evidence.coordinator_kills), (20_000, 2, 1));
    assert_eq!((evidence.faults, evidence.faults_in_flight), (2, 2));
    assert_eq!((evidence.stops, evidence.resumes), (1, 1));
    // The coordinator host has committers alone, and is replaced without a restart.
    assert!(evidence.restores >= 1, "{evidence}");
}

#[test]
fn a_job_without_checkpoints_is_exact_and_its_run_does_not_count() {
    let plan = Plan { checkpoints: None, ..plan(Workload::Session, 6_000, 3_000) };
    let evidence = evidence_of(&plan);
    let results: u64 = evidence.results.iter().sum();
    assert!(results > 1_000 && results == evidence.results[4], "{evidence}");
    assert_eq!((evidence.checkpoints, evidence.restores), (0, 0));
    assert_eq!((evidence.faults, evidence.kills), (0, 0));
    // Results are published when the job has finished.
    assert!(evidence.longest_pause > Duration::from_secs(1), "{evidence}");
    let reason = evidence.counts().unwrap_err();
    let count = "0 of at least 10 checkpoints were complete: ";
    assert!(reason.starts_with(count) && reason.len() > count.len(), "{reason}");
}

/// Other seeds each day: what a day's runs find is repeated by the seed that they print. They have
/// the workloads by turns, so that those of three days in a row have all of them.
#[test]
fn the_runs_of_the_day_are_exact() {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let day = since_1970.as_secs() / (24 * 60 * 60);
    let kills = if is_long() { 5 } else { 3 };
    for round in rounds("runs of the oracle", 0.2, 3, 50) {
        let seed = 101 * day + round;
        let surroundings = Surroundings::default();
        let campaign = Campaign { runs: 1, seed, kills, workload: None, surroundings };
        let mut log = Vec::new();
        let is_exact = campaign.carry_out(&mut log).unwrap();
        let log = String::from_utf8(log).unwrap();
        assert!(is_exact, "scripts/oracle.sh --runs 1 --seed {seed} --kills {kills}:\n{log}");
        eprintln!("{log}");
    }
}

#[test]
fn a_job_without_end_publishes_as_its_checkpoints_complete() {
    let cluster = Cluster::builder().slots_with_memory(2, 128).start();
    let output = cluster.data("output");
    let directory = output.display().to_string();
    let arguments = ["--job", "keyed-sum", "--seed", "1", "--keys-per-lane", "1", "--rate", "1000"];
    let arguments = [&arguments[..], &["--output", &directory]].concat();
    let refused = cluster.run_job(&["-p", "2"], &arguments);
    assert!(refused.stderr.contains("execution.checkpointing.interval=10s"), "{refused:?}");
    let options = ["-p", "2", "-D", "execution.checkpointing.interval=100ms"];
    let job = cluster.submit_job(&options, &arguments);
    let files = || Directory(output.clone()).list().unwrap();
    until("files are published", Duration::from_secs(30), || (files().len() > 5).then_some(()));
    assert_eq!(job.status(), "RUNNING");
    let before = files();
    let _ = cluster.millstream(&["cancel", &job.id]).success();
    job.wait_for("CANCELED");
    let after: Vec<String> = files().into_iter().map(|file| file.name).collect();
    assert!(before.iter().all(|file| after.contains(&file.name)), "{before:?} {after:?}");
}

#[test]
fn the_commands_of_the_guide_take_checkpoints() {
    let page = workspace().join("docs/guide/state-and-checkpoints.md");
    let page = std::fs::read_to_string(page).unwrap();
    let cluster = Cluster::builder().slots_with_memory(2, 128).start();
    let data = cluster.data("checkpoints");
    let commands = page.split("```").filter_map(|block| block.strip_prefix("sh\n"));
    let words: Vec<String> = commands
        .flat_map(|command| command.split_whitespace().map(str::to_owned))
        .filter(|word| word.contains('=') || word.starts_with("localhost:8081/"))
        .map(|word| word.replace("/data/checkpoints", &data.display().to_string()))
        .collect();
    let (path, settings) = words.split_last().unwrap();
    assert_eq!(settings.len(), 4, "{words:?}");
    let mut options = vec!["-p", "2"];
    settings.iter().for_each(|setting| options.extend(["-D", setting]));
    let output = cluster.data("output").display().to_string();
    let arguments = ["--job", "keyed-sum", "--seed", "1", "--keys-per-lane", "1", "--rate", "100"];
    let job = cluster.submit_job(&options, &[&arguments[..], &["--output", &output]].concat());
    job.wait_for_tasks();
    let path = path.strip_prefix("localhost:8081").unwrap().replace("JOB", &job.id);
    until("a checkpoint is complete", Duration::from_secs(60), || {
        let answer = cluster.rest.get(&path);
        assert_eq!(answer.status, 200, "{}", answer.text);
        let fields = ["/counts/failed", "/latest/failed", "/millstream/pending"];
        assert!(fields.iter().all(|field| answer.json.pointer(field).is_some()), "{}", answer.text);
        (answer.json["counts"]["completed"].as_u64()? > 0).then_some(())
    });
    let config = cluster.rest.get(&format!("{path}/config")).json;
    assert_eq!(config["interval"], 10_000, "{config}");
    let kept = data.join(&job.id).join("chk-1/_metadata");
    assert!(kept.exists(), "{}", kept.display());
}

#[test]
fn the_oracle_refuses_options_that_it_does_not_know() {
    for (arguments, complaint) in [
        (&["--mutant", "drops-record"][..], "this program has no deliberate faults"),
        (&["--workload", "windows"][..], "there is no such workload; there are all, keyed-sum, "),
        (&["--hdfs", "yes"][..], "unexpected argument 'yes' found"),
        (&["--runs", "0"][..], "0 is not in 1..=1000"),
        (&["--kills", "some"][..], "invalid value 'some' for '--kills <K>'"),
    ] {
        let outcome = oracle(arguments);
        assert_eq!(outcome.code, Some(2), "{outcome:?}");
        assert!(outcome.stderr.contains(complaint), "{outcome:?}");
        assert!(outcome.stdout.is_empty(), "{outcome:?}");
    }
}

#[test]
fn the_script_says_all_options_of_the_oracle() {
    let options = |text: &str| -> BTreeSet<String> {
        let words = text.split(|letter: char| !letter.is_alphanumeric() && letter != '-');
        words.filter(|word| word.starts_with("--")).map(str::to_owned).collect()
    };
    let mut script = Command::new(workspace().join("scripts/oracle.sh"));
    script.arg("--help");
    let usage = Outcome::of(script).success().stdout;
    assert!(usage.starts_with("usage: oracle.sh [--runs N]"), "{usage}");
    let mut known = options(&oracle(&["--help"]).success().stdout);
    assert!(known.remove("--help") && known.len() > 3, "{known:?}");
    assert_eq!(options(&usage), known);
}

#[test]
fn mutants_are_listed_with_what_they_do() {
    let listed = oracle(&["--list-mutants"]).success().stdout;
    let lines: Vec<(&str, &str)> = listed.lines().filter_map(|it| it.split_once(' ')).collect();
    assert_eq!(lines.len(), Mutant::ALL.len(), "{listed}");
    for (mutant, (name, description)) in Mutant::ALL.iter().zip(lines) {
        assert_eq!((mutant.name(), mutant.description()), (name, description.trim()));
    }
}

/// A program with mutants reads the variable that chooses one.
#[test]
fn the_programs_have_no_mutants() {
    for name in ["millstream", "jobs"] {
        let program = std::fs::read(binary(name)).unwrap();
        let has = |text: &str| memchr::memmem::find(&program, text.as_bytes()).is_some();
        assert!(!has(VARIABLE), "{name} reads {VARIABLE}");
        assert!(has("MILLSTREAM_CONF_DIR"), "the variables that {name} reads are not in it");
    }
}
