//! A sink slower than its source: nothing grows, and REST says who waits for whom.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use millstream_integration::{Cluster, Job, process_memory, scale, until};

/// No process may grow by more.
const GROWTH_MAX: u64 = 64 << 20;

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

#[test]
fn a_slow_sink_holds_a_fast_source_back_across_processes() {
    let cluster = Cluster::builder().task_managers(3).slots_with_memory(1, 256).start();
    let job = cluster.submit_job(&[], &["--job", "pressure", "--apart", "--fan-out", "1000"]);
    job.wait_for_tasks();
    let workers: BTreeSet<String> =
        job.subtasks().iter().map(|subtask| subtask["taskmanager-id"].to_string()).collect();
    assert_eq!(workers.len(), 3, "{workers:?}");
    assert_nothing_grows(&cluster, &job);
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
