//! A failure leaves the tasks alone that no channel connects with it.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use millstream_integration::{Cluster, Daemon, Job, until};

use crate::kills::kill_9;

const RECORDS: u64 = 30_000;
const OPTIONS: [&str; 10] = [
    "-p",
    "2",
    "-D",
    "execution.checkpointing.interval=100ms",
    "-D",
    "restart-strategy.type=fixed-delay",
    "-D",
    "restart-strategy.fixed-delay.attempts=9",
    "-D",
    "restart-strategy.fixed-delay.delay=100ms",
];

fn published(output: &Path) -> Vec<std::path::PathBuf> {
    let files = std::fs::read_dir(output).into_iter().flatten().flatten();
    let visible = files.filter(|file| !file.file_name().to_string_lossy().starts_with('.'));
    visible.map(|file| file.path()).collect()
}

/// Waits until more is published.
fn wait_for_more(output: &Path) {
    let before = published(output).len();
    until("more files are published", Duration::from_secs(60), || {
        (published(output).len() > before + 4).then_some(())
    });
}

fn wait_for_attempts(job: &Job, wanted: &[u64]) {
    until(&format!("the attempts are {wanted:?}"), Duration::from_secs(60), || {
        let mut attempts = job.attempts();
        attempts.sort_unstable();
        (attempts == wanted).then_some(())
    });
    job.wait_for("RUNNING");
    job.wait_for_tasks();
}

/// Starts a job whose two subtasks have nothing to do with each other, each in its own worker.
fn start(cluster: &Cluster, output: &Path) -> Job {
    let (records, output) = (RECORDS.to_string(), output.display().to_string());
    let arguments =
        ["--job", "lanes", "--records", &records, "--rate", "3000", "--output", &output];
    cluster.submit_job(&OPTIONS, &arguments)
}

/// Checks that each number is there once.
fn check(output: &Path, records: u64) {
    let mut numbers = BTreeSet::new();
    for file in published(output) {
        let text = std::fs::read_to_string(file).unwrap();
        for line in text.lines() {
            assert!(numbers.insert(line.parse::<u64>().unwrap()), "{line} is there twice");
        }
    }
    assert_eq!(numbers.len() as u64, records, "some are lost");
}

#[test]
fn a_killed_host_restarts_the_regions_that_had_tasks_in_it_alone() {
    let cluster = Cluster::builder().task_managers(2).slots_with_memory(1, 128).start();
    let output = cluster.data("output");
    let job = start(&cluster, &output);
    wait_for_more(&output);
    let hosts = |worker: &Daemon| cluster.children_of(worker);
    let [first, second] = &cluster.task_managers[..] else { panic!("two were started") };
    let (victims, others) = (hosts(first), hosts(second));
    assert_eq!((victims.len(), others.len()), (1, 1));
    kill_9(victims[0]);
    wait_for_attempts(&job, &[0, 1]);
    let [host] = hosts(first)[..] else { panic!("it has not one host") };
    assert!(host != victims[0] && hosts(second) == others, "{victims:?} {others:?}");
    wait_for_more(&output);
    kill_9(host);
    wait_for_attempts(&job, &[0, 2]);
    assert_eq!(hosts(second), others, "an untouched host was replaced");
    job.wait_for("FINISHED");
    assert_eq!(job.causes().len(), 2, "{:?}", job.causes());
    check(&output, RECORDS);
}

#[test]
fn a_killed_coordinator_host_of_committers_restarts_alone() {
    let cluster = Cluster::builder().task_managers(2).slots_with_memory(1, 128).start();
    let output = cluster.data("output");
    let job = start(&cluster, &output);
    wait_for_more(&output);
    let coordinators = || cluster.children_of(cluster.job_manager.as_ref().unwrap());
    let hosts: Vec<Vec<u32>> =
        cluster.task_managers.iter().map(|worker| cluster.children_of(worker)).collect();
    let [coordinator] = coordinators()[..] else {
        panic!("there is not one: {:?}", coordinators())
    };
    kill_9(coordinator);
    wait_for_more(&output);
    let [other] = coordinators()[..] else { panic!("there is not one: {:?}", coordinators()) };
    assert_ne!(other, coordinator);
    assert_eq!(job.attempts(), [0, 0], "tasks were restarted");
    let now: Vec<Vec<u32>> =
        cluster.task_managers.iter().map(|worker| cluster.children_of(worker)).collect();
    assert_eq!(now, hosts);
    job.wait_for("FINISHED");
    assert_eq!(job.causes().len(), 1, "{:?}", job.causes());
    check(&output, RECORDS);
}

/// The task hosts of each worker.
fn hosts_of(cluster: &Cluster) -> Vec<Vec<u32>> {
    cluster.task_managers.iter().map(|worker| cluster.children_of(worker)).collect()
}

#[test]
fn a_killed_coordinator_host_that_hands_out_files_restarts_alone() {
    let cluster = Cluster::builder().task_managers(2).slots_with_memory(1, 128).start();
    let (input, output) = (cluster.data("input"), cluster.data("output"));
    // 46 splits, each for a quarter of a second.
    let records = 12_000;
    let lines: Vec<String> = (0..records).map(|number| format!("{number:04000}")).collect();
    std::fs::write(&input, lines.join("\n")).unwrap();
    let (read, written) = (input.display().to_string(), output.display().to_string());
    let job = cluster.submit_job(
        &OPTIONS,
        &["--job", "lines", "--input", &read, "--pause-us", "1000", "--output", &written],
    );
    wait_for_more(&output);
    let hosts = hosts_of(&cluster);
    let coordinators = || cluster.children_of(cluster.job_manager.as_ref().unwrap());
    let mut killed = Vec::new();
    for _ in 0..3 {
        let [coordinator] = coordinators()[..] else {
            panic!("there is not one: {:?}", coordinators())
        };
        assert!(!killed.contains(&coordinator), "{coordinator} was killed and lives");
        kill_9(coordinator);
        killed.push(coordinator);
        // Checkpoints go on, so that the next one begins from another one.
        wait_for_more(&output);
    }
    assert_eq!(job.attempts(), [0, 0], "tasks were restarted");
    assert_eq!(hosts_of(&cluster), hosts);
    job.wait_for("FINISHED");
    assert_eq!(job.attempts(), [0, 0]);
    assert_eq!(job.causes().len(), 3, "{:?}", job.causes());
    check(&output, records);
}

#[test]
fn the_region_of_a_lost_worker_moves_to_another_one() {
    let mut cluster = Cluster::builder().task_managers(3).slots_with_memory(1, 128).start();
    let output = cluster.data("output");
    let job = start(&cluster, &output);
    wait_for_more(&output);
    let hosts: Vec<Vec<u32>> =
        cluster.task_managers.iter().map(|worker| cluster.children_of(worker)).collect();
    let used: Vec<usize> = (0..3).filter(|at| !hosts[*at].is_empty()).collect();
    let [victim, other] = used[..] else { panic!("not two workers are used: {hosts:?}") };
    cluster.task_managers[victim].kill();
    wait_for_attempts(&job, &[0, 1]);
    let spare = 3 - victim - other;
    assert_eq!(cluster.children_of(&cluster.task_managers[other]), hosts[other]);
    assert_eq!(cluster.children_of(&cluster.task_managers[spare]).len(), 1);
    job.wait_for("FINISHED");
    check(&output, RECORDS);
}
