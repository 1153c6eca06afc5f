//! Jobs of many tasks, all of which are connected: their start, its costs, and its failures.

use std::time::{Duration, Instant};

use millstream_integration::{Cluster, Job, process_memory, scale, sorted_lines, until};

const DEADLINE: Duration = Duration::from_secs(60);

/// Costs of the start of a mesh, at ten times and more of what they are: a cost that grows with the
/// square of the tasks goes far beyond, and a busy machine does not.
struct Limits {
    job_manager_cpu: Duration,
    hosts_memory: u64,
}

/// A parallelism that two TaskManagers share: a soak of some minutes has any number between.
fn parallelism(short: usize, long: usize) -> usize {
    scale(short, long).next_multiple_of(2)
}

/// The parallelism of a job of four vertices, and its limits.
fn size() -> (usize, Limits) {
    let job_manager_cpu = scale(Duration::from_secs(2), Duration::from_secs(3));
    (parallelism(100, 800), Limits { job_manager_cpu, hosts_memory: scale(1 << 30, 5 << 30) })
}

/// Two TaskManagers, which together have a slot for each subtask of a vertex.
fn cluster(parallelism: usize) -> Cluster {
    Cluster::builder().task_managers(2).slots_with_memory(parallelism / 2, 10).start()
}

fn submit(cluster: &Cluster, parallelism: usize, more: &[&str]) -> Job {
    let output = cluster.data("mesh");
    let parallelism = parallelism.to_string();
    let options = [
        "-p",
        &parallelism,
        "-D",
        "restart-strategy.type=fixed-delay",
        "-D",
        "restart-strategy.fixed-delay.delay=100ms",
    ];
    let arguments = ["--job", "mesh", "--output", output.to_str().unwrap()];
    cluster.submit_job(&options, &[&arguments, more].concat())
}

/// The CPU time of a process so far.
fn cpu_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

fn hosts(cluster: &Cluster) -> Vec<u32> {
    cluster.task_managers.iter().flat_map(|daemon| cluster.children_of(daemon)).collect()
}

fn cancel(cluster: &Cluster, job: &Job) {
    let _ = cluster.millstream(&["cancel", &job.id]).success();
    job.wait_for("CANCELED");
}

#[test]
fn a_job_of_many_channels_starts_at_the_cost_of_its_tasks() {
    let (parallelism, limits) = size();
    let mut cluster = cluster(parallelism);
    let job_manager = cluster.job_manager.as_ref().unwrap().pid();
    let (start, before) = (Instant::now(), cpu_time(job_manager));
    let job = submit(&cluster, parallelism, &[]);
    job.wait_for_tasks();
    let (took, cpu) = (start.elapsed(), cpu_time(job_manager) - before);
    let hosts = hosts(&cluster);
    let memory: u64 = hosts.iter().copied().filter_map(process_memory).sum();
    for host in hosts {
        let status = std::fs::read_to_string(format!("/proc/{host}/status")).unwrap();
        assert!(!status.contains("THP_enabled:\t1"), "huge pages for each of many threads");
    }
    eprintln!(
        "{} tasks run after {took:?}; JobManager {cpu:?}, hosts {} MiB",
        4 * parallelism,
        memory >> 20
    );
    assert!(cpu < limits.job_manager_cpu, "the JobManager used {cpu:?}");
    assert!(memory < limits.hosts_memory, "the hosts hold {} MiB", memory >> 20);
    cancel(&cluster, &job);
    cluster.assert_daemons_live();
}

#[test]
fn every_channel_of_a_job_of_many_delivers() {
    let parallelism = parallelism(40, 200);
    let cluster = cluster(parallelism);
    let records = 40 * parallelism;
    submit(&cluster, parallelism, &["--records", &records.to_string()]).wait_for("FINISHED");
    let mut expected: Vec<_> = (0..records).map(|number| format!("{number} 2")).collect();
    expected.sort_unstable();
    assert!(sorted_lines(&cluster.data("mesh")) == expected, "records are lost or doubled");
}

#[test]
fn a_large_job_whose_host_dies_while_tasks_are_deployed_runs_again() {
    let parallelism = parallelism(40, 400);
    let cluster = cluster(parallelism);
    let job = submit(&cluster, parallelism, &[]);
    let victim = until("a host is there", DEADLINE, || {
        cluster.children_of(&cluster.task_managers[1]).first().copied()
    });
    // SAFETY: takes no pointers.
    assert_eq!(unsafe { libc::kill(libc::pid_t::try_from(victim).unwrap(), libc::SIGKILL) }, 0);
    until("every task is in its second attempt", DEADLINE, || {
        job.attempts().iter().all(|attempt| *attempt == 1).then_some(())
    });
    job.wait_for_tasks();
    assert!(job.causes().iter().any(|cause| cause.contains("SIGKILL")), "{:?}", job.causes());
    cancel(&cluster, &job);
}

#[test]
fn a_large_job_is_cancelled_while_its_tasks_are_deployed() {
    let parallelism = parallelism(40, 400);
    let mut cluster = cluster(parallelism);
    // The TaskManagers keep the program of a job that ran for the next one.
    let first = submit(&cluster, parallelism, &[]);
    first.wait_for_tasks();
    cancel(&cluster, &first);
    until("the hosts of the first job are gone", DEADLINE, || {
        cluster.children().is_empty().then_some(())
    });
    let before = cluster.census();
    for pause in [0, 20, 100, 200] {
        let job = submit(&cluster, parallelism, &[]);
        std::thread::sleep(Duration::from_millis(pause));
        cancel(&cluster, &job);
        cluster.wait_until_as_before(&before, DEADLINE);
    }
    assert_eq!(cluster.overview("slots-available"), Some(parallelism as u64));
    cluster.assert_daemons_live();
}
