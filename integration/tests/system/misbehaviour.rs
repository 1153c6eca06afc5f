//! User code goes wrong in every way that it can: the job says why, other jobs do not notice,
//! nothing is left.

use std::time::{Duration, Instant};

use millstream_integration::{Census, Cluster, ClusterBuilder, Outcome, until};

use crate::neighbour::Neighbour;

/// When all must be as before.
const CLEAN_DEADLINE: Duration = Duration::from_secs(5);

/// One TaskManager with room for two jobs of two subtasks each, after a first job, so that one-time
/// setup is done.
fn cluster() -> (Cluster, Census) {
    cluster_of(Cluster::builder())
}

fn cluster_of(builder: ClusterBuilder) -> (Cluster, Census) {
    let cluster = builder.slots_with_memory(4, 128).start();
    let first = Neighbour::start(&cluster, "first", 100, 0, &["-p", "2"]);
    first.finish();
    // On these clusters artifacts go after three seconds without a user.
    let census = settled(&cluster);
    (cluster, census)
}

/// The census once hosts and artifacts of the first job are gone.
fn settled(cluster: &Cluster) -> Census {
    until("the first job has left nothing", Duration::from_secs(10), || {
        let census = cluster.census();
        let artifact = |path: &std::path::PathBuf| {
            path.parent().is_some_and(|parent| parent.ends_with("artifacts"))
        };
        let clean = census.processes.len() == 2 && !census.files.iter().any(artifact);
        clean.then_some(census)
    })
}

/// Runs the bad job beside a good one, and gives how the bad one ended.
fn run_beside_neighbour(how: &str, expected: &str) -> Outcome {
    run_beside(Cluster::builder(), 12_000, how, expected)
}

fn run_beside(builder: ClusterBuilder, records: u64, how: &str, expected: &str) -> Outcome {
    let (cluster, before) = cluster_of(builder);
    let neighbour = Neighbour::start(&cluster, "neighbour", records, 8_000, &["-p", "2"]);
    let output = cluster.data("bad");
    let arguments = ["--job", "misbehave", "--how", how, "--output", output.to_str().unwrap()];
    let outcome = cluster.run_job(&["-p", "2"], &arguments);
    check_complaint(&cluster, &outcome, how, expected);
    neighbour.finish_undisturbed();
    cluster.wait_until_as_before(&before, CLEAN_DEADLINE);
    assert_nothing_written(&output);
    assert_logged(&cluster, &outcome, how, expected);
    outcome
}

fn check_complaint(cluster: &Cluster, outcome: &Outcome, how: &str, expected: &str) {
    let complaint = outcome.complaint();
    eprintln!("{how}: {complaint}");
    assert!(complaint.contains(expected), "{how}: {complaint:?} lacks {expected:?}");
    let job = cluster.job(&outcome.job_id());
    assert_eq!(job.status(), "FAILED");
    let causes = job.causes();
    assert!(causes.first().is_some_and(|cause| cause.contains(expected)), "{how}: {causes:?}");
}

/// The JobManager's log has the cause, and a process's output is under the name of its job.
fn assert_logged(cluster: &Cluster, outcome: &Outcome, how: &str, expected: &str) {
    let mut daemons = cluster.daemons().map(|daemon| daemon.logged());
    let job_manager = daemons.next().unwrap();
    let logged =
        job_manager.lines().any(|line| line.contains("failure: ") && line.contains(expected));
    assert!(logged, "{how}: {job_manager}");
    if how == "panic" {
        let (job, printed) = (outcome.job_id(), daemons.collect::<String>());
        assert!(printed.contains(&format!("of job {job}\n")), "{printed}");
        assert!(printed.contains(&format!("job {job}, task ")), "{printed}");
    }
}

fn assert_nothing_written(output: &std::path::Path) {
    let left: Vec<_> = std::fs::read_dir(output).into_iter().flatten().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_panic_is_told_with_its_place() {
    let outcome = run_beside_neighbour("panic", "the chosen number is here");
    assert!(outcome.complaint().contains("jobs/misbehave.rs:"), "{}", outcome.complaint());
}

#[test]
fn an_error_is_told() {
    let _ = run_beside_neighbour("error", "the chosen number came");
}

#[test]
fn an_abort_is_told() {
    let _ = run_beside_neighbour("abort", "SIGABRT");
}

#[test]
fn a_stack_overflow_is_told() {
    let _ = run_beside_neighbour("overflow", "has overflowed its stack");
}

#[test]
fn an_exit_is_told_with_its_code() {
    let _ = run_beside_neighbour("exit", "user code ended its process with exit code 7");
}

#[test]
fn a_wild_pointer_is_told() {
    let _ = run_beside_neighbour("segfault", "SIGSEGV");
}

#[test]
fn a_leak_ends_at_the_limit() {
    let _ = run_beside_neighbour("leak", "memory");
}

#[test]
fn children_and_daemons_of_user_code_are_swept() {
    let _ = run_beside_neighbour("children", "SIGABRT");
}

#[test]
fn a_committer_that_panics_is_told() {
    let _ = run_beside_neighbour("committer-panic", "the chosen number is here");
}

#[test]
fn a_committer_that_aborts_is_told() {
    let _ = run_beside_neighbour("committer-abort", "SIGABRT");
}

/// User code that never comes back is ended by a cancellation.
fn cancel_beside_neighbour(how: &str) {
    let (cluster, before) = cluster();
    let neighbour = Neighbour::start(&cluster, "neighbour", 32_000, 8_000, &["-p", "2"]);
    let (output, marker) = (cluster.data("bad"), cluster.data("marker"));
    let arguments = [
        ["--job", "misbehave", "--how", how],
        ["--output", output.to_str().unwrap(), "--marker", marker.to_str().unwrap()],
    ]
    .concat();
    let job = cluster.submit_job(&["-p", "2"], &arguments);
    until("user code blocks", Duration::from_secs(20), || marker.exists().then_some(()));
    let _ = cluster.millstream(&["cancel", &job.id]).success();
    job.wait_for("CANCELED");
    neighbour.finish_undisturbed();
    cluster.wait_until_as_before(&before, CLEAN_DEADLINE);
    assert_nothing_written(&output);
}

#[test]
fn a_block_for_ever_ends_with_a_cancellation() {
    cancel_beside_neighbour("block");
}

#[test]
fn closed_descriptors_are_told_at_once() {
    let start = Instant::now();
    let _ = run_beside_neighbour("close", "user code closed the file descriptors of its process");
    assert!(start.elapsed() < Duration::from_secs(30), "not after heartbeat.timeout");
}

#[test]
fn closed_descriptors_of_a_coordinator_host_are_told_at_once() {
    let _ = run_beside_neighbour("committer-close", "user code closed the file descriptors");
}

#[test]
fn a_stopped_process_is_told_after_the_heartbeat_timeout() {
    let builder = Cluster::builder().set("heartbeat.timeout", "5 s");
    let expected = "said nothing for 5s and was killed: its process was stopped";
    let _ = run_beside(builder.set("heartbeat.interval", "500 ms"), 64_000, "stop", expected);
}

#[test]
fn a_stopped_coordinator_process_is_told_after_the_heartbeat_timeout() {
    let builder = Cluster::builder().set("heartbeat.timeout", "5 s");
    let expected = "the coordinator host said nothing for 5s and was killed";
    let builder = builder.set("heartbeat.interval", "500 ms");
    let _ = run_beside(builder, 64_000, "committer-late-stop", expected);
}

#[test]
fn a_stopped_process_ends_with_a_cancellation() {
    cancel_beside_neighbour("stop");
}
