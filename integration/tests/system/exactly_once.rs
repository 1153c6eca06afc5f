//! The trial of exactly-once: its verdict on a job without kills, and the refusal of options.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use millstream_integration::exactly_once::{Plan, run};
use millstream_integration::{Outcome, binary, workspace};

fn oracle(arguments: &[&str]) -> Outcome {
    let mut command = Command::new(binary("oracle"));
    command.args(arguments);
    Outcome::of(command)
}

#[test]
fn a_finished_job_is_exact_and_its_run_does_not_count_without_checkpoints() {
    let plan = Plan { records: 6_000, rate: 3_000, ..Plan::draw(1, 0) };
    let mut log = Vec::new();
    let report = run(&plan, &mut log);
    let log = String::from_utf8(log).unwrap();
    assert_eq!(report.output, Ok(()), "{log}");
    assert!(log.lines().last().is_some_and(|line| line.contains("the job is finished")), "{log}");
    let evidence = report.evidence;
    assert_eq!((evidence.results, evidence.checkpoints, evidence.restores), (6_000, 0, 0));
    assert_eq!((evidence.faults, evidence.kills), (0, 0));
    // Results are published when the job has finished.
    assert!(evidence.longest_pause > Duration::from_secs(1), "{evidence}");
    let reason = "0 of at least 10 checkpoints were complete";
    assert_eq!(evidence.counts(), Err(reason.to_owned()));
    assert_eq!(report.kept, None);
}

#[test]
fn the_oracle_refuses_options_that_it_does_not_know() {
    for (arguments, complaint) in [
        (&["--mutant", "drops-a-record"][..], "unexpected argument '--mutant' found"),
        (&["--workload", "windows"][..], "there is no such workload; there is keyed-sum"),
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
