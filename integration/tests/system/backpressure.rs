//! A sink slower than its source: nothing grows, and REST says who waits for whom.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use millstream_integration::{Cluster, Job, process_memory, scale, until};
use serde_json::Value;

/// No process may grow by more.
const GROWTH_MAX: u64 = 16 << 20;

/// The memory of every process of the cluster.
fn memory(cluster: &Cluster) -> BTreeMap<u32, u64> {
    let processes = cluster.census().processes.into_keys();
    processes.filter_map(|pid| Some((pid, process_memory(pid)?))).collect()
}

/// Watches all processes for a while; the job must run all the time.
fn assert_nothing_grows(cluster: &Cluster, job: &Job) {
    let before = memory(cluster);
    let (start, duration) =
        (Instant::now(), scale(Duration::from_secs(4), Duration::from_secs(60)));
    let mut most = 0;
    while start.elapsed() < duration {
        for (pid, bytes) in memory(cluster) {
            let growth = bytes.saturating_sub(before[&pid]);
            most = most.max(growth);
            assert!(growth <= GROWTH_MAX, "process {pid} grew by {} MiB", growth >> 20);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(job.status(), "RUNNING");
    eprintln!("{} processes, most growth {} KiB", before.len(), most >> 10);
}

fn ratio(cluster: &Cluster, job: &Job, vertex: &str, name: &str) -> f64 {
    let path = format!("/v1/jobs/{}/vertices/{vertex}/backpressure", job.id);
    cluster.rest.get(&path).json["subtasks"][0][name].as_f64().unwrap_or(0.0)
}

/// Number of records that the sink has read.
fn read_by_sink(job: &Job) -> f64 {
    let details = job.details();
    let sink = |vertex: &&Value| vertex["name"].as_str().is_some_and(|name| name.contains("slow"));
    let sink = details["vertices"].as_array().and_then(|vertices| vertices.iter().find(sink));
    sink.and_then(|sink| sink["metrics"]["read-records"].as_f64()).unwrap_or(0.0)
}

/// Records per second that the sink reads while `watch` runs. In a steady run the source makes as
/// many.
fn records_per_second(job: &Job, watch: impl FnOnce()) -> f64 {
    let (start, before) = (Instant::now(), read_by_sink(job));
    watch();
    (read_by_sink(job) - before) / start.elapsed().as_secs_f64()
}

fn start_pressure(cluster: &Cluster, pause_ns_per_record: u64) -> Job {
    let pause = pause_ns_per_record.to_string();
    let arguments = ["--job", "pressure", "--apart", "--fan-out", "1000", "--pause-ms", "0"];
    let arguments = [&arguments[..], &["--pause-ns-per-record", &pause]].concat();
    let job = cluster.submit_job(&[], &arguments);
    job.wait_for_tasks();
    until("the sink reads", Duration::from_secs(20), || (read_by_sink(&job) > 0.0).then_some(()));
    job
}

/// Records per second when the sink does not wait.
fn free_records_per_second(cluster: &Cluster) -> f64 {
    let job = start_pressure(cluster, 0);
    let rate = records_per_second(&job, || {
        std::thread::sleep(scale(Duration::from_secs(2), Duration::from_secs(10)));
    });
    let _ = cluster.millstream(&["cancel", &job.id]).success();
    job.wait_for("CANCELED");
    assert!(rate > 10_000.0, "{rate} records a second");
    rate
}

#[test]
fn a_slow_sink_holds_a_fast_source_back_across_processes() {
    let cluster = Cluster::builder().task_managers(3).slots_with_memory(1, 256).start();
    let free = free_records_per_second(&cluster);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a pause")]
    let job = start_pressure(&cluster, (100.0 * 1e9 / free) as u64);
    let workers: BTreeSet<String> =
        job.subtasks().iter().map(|subtask| subtask["taskmanager-id"].to_string()).collect();
    assert_eq!(workers.len(), 3, "{workers:?}");
    let slow = records_per_second(&job, || assert_nothing_grows(&cluster, &job));
    let share = 100.0 * slow / free;
    eprintln!("free {free:.0} records/s, slow {slow:.0} records/s: {share:.2} %");
    assert!((0.2..3.0).contains(&share), "the sink is to be at 1 % of the source's speed");
    let vertices = job.vertices();
    let vertex = |name: &str| {
        let found = vertices.iter().find(|(vertex, _)| vertex.contains(name));
        found.unwrap_or_else(|| panic!("{vertices:?}")).1.clone()
    };
    let (source, fan_out, sink) = (vertex("numbers"), vertex("fan out"), vertex("slow"));
    until("REST shows who waits for whom", Duration::from_secs(10), || {
        let shown = [
            ratio(&cluster, &job, &source, "ratio"),
            ratio(&cluster, &job, &fan_out, "ratio"),
            ratio(&cluster, &job, &sink, "busyRatio"),
        ];
        eprintln!(
            "source waits {}, fan out waits {}, sink is busy {}",
            shown[0], shown[1], shown[2]
        );
        (shown.iter().all(|ratio| *ratio > 0.5)
            && ratio(&cluster, &job, &sink, "ratio") < 0.1
            && ratio(&cluster, &job, &source, "busyRatio") < 0.5)
            .then_some(())
    });
    let _ = cluster.millstream(&["cancel", &job.id]).success();
    job.wait_for("CANCELED");
}

/// A million records of one, through a sink that takes a second for a hundred batches.
fn explode(options: &[&str]) {
    let cluster = Cluster::builder().slots_with_memory(1, 512).start();
    let arguments = [&["--job", "pressure", "--fan-out", "1000000"], options].concat();
    let job = cluster.submit_job(&[], &arguments);
    job.wait_for_tasks();
    assert_nothing_grows(&cluster, &job);
    let _ = cluster.millstream(&["cancel", &job.id]).success();
    job.wait_for("CANCELED");
}

#[test]
fn a_record_that_becomes_a_million_in_a_chain_takes_no_room() {
    explode(&["--chained"]);
}

#[test]
fn a_record_that_becomes_a_million_between_tasks_of_a_slot_takes_no_room() {
    explode(&["--unchained"]);
}
