//! kill -9 of everything that a cluster consists of.

use std::path::Path;
use std::time::Duration;

use millstream_integration::{Cluster, Daemon, until};

use crate::neighbour::Neighbour;

const RESTARTS: [&str; 8] = [
    "-p",
    "2",
    "-D",
    "restart-strategy.type=fixed-delay",
    "-D",
    "restart-strategy.fixed-delay.attempts=5",
    "-D",
    "restart-strategy.fixed-delay.delay=200ms",
];

pub(crate) fn kill_9(pid: u32) {
    let pid = libc::pid_t::try_from(pid).unwrap();
    // SAFETY: takes no pointers.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0);
}

/// The one process that `daemon` starts while `submit` runs.
fn host_of<T>(cluster: &Cluster, daemon: &Daemon, submit: impl FnOnce() -> T) -> (T, u32) {
    let before = cluster.children_of(daemon);
    let submitted = submit();
    let after = cluster.children_of(daemon);
    let new: Vec<u32> = after.into_iter().filter(|pid| !before.contains(pid)).collect();
    assert_eq!(new.len(), 1, "{} has the new hosts {new:?}", daemon.name);
    (submitted, new[0])
}

fn assert_empty(directory: &Path) {
    let left: Vec<_> = std::fs::read_dir(directory).into_iter().flatten().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Kills one process of a job beside an undisturbed one.
fn kill_beside_neighbour(daemon: impl Fn(&Cluster) -> &Daemon) {
    let cluster = Cluster::builder().slots_with_memory(4, 128).start();
    let neighbour = Neighbour::start(&cluster, "neighbour", 24_000, 8_000, &["-p", "2"]);
    let before = cluster.census();
    let (victim, host) = host_of(&cluster, daemon(&cluster), || {
        Neighbour::start(&cluster, "victim", 1_000_000, 1_000, &["-p", "2"])
    });
    kill_9(host);
    victim.job.wait_for("FAILED");
    let causes = victim.job.causes();
    eprintln!("kill -9 of a host of {}: {causes:?}", daemon(&cluster).name);
    assert!(causes.first().is_some_and(|cause| cause.contains("SIGKILL")), "{causes:?}");
    cluster.wait_until_as_before(&before, Duration::from_secs(5));
    assert_empty(&cluster.data("victim"));
    neighbour.finish_undisturbed();
}

#[test]
fn a_killed_task_host_hurts_its_job_alone() {
    kill_beside_neighbour(|cluster| &cluster.task_managers[0]);
}

#[test]
fn a_killed_coordinator_host_hurts_its_job_alone() {
    kill_beside_neighbour(|cluster| cluster.job_manager.as_ref().unwrap());
}

/// A job that restarts has exact output whichever of its processes is killed.
fn kill_and_restart(daemon: impl Fn(&Cluster) -> &Daemon) {
    let cluster = Cluster::builder().start();
    let (job, host) = host_of(&cluster, daemon(&cluster), || {
        Neighbour::start(&cluster, "victim", 12_000, 8_000, &RESTARTS)
    });
    kill_9(host);
    job.finish();
    assert_eq!(job.job.causes().len(), 1, "{:?}", job.job.causes());
}

#[test]
fn a_job_outlives_its_task_host() {
    kill_and_restart(|cluster| &cluster.task_managers[0]);
}

#[test]
fn a_job_outlives_its_coordinator_host() {
    kill_and_restart(|cluster| cluster.job_manager.as_ref().unwrap());
}

#[test]
fn a_killed_worker_takes_its_hosts_along_and_a_new_one_takes_over() {
    let mut cluster = Cluster::builder().task_managers(2).slots(1).start();
    let job = Neighbour::start(&cluster, "victim", 16_000, 8_000, &RESTARTS);
    let mut worker = cluster.task_managers.remove(0);
    let hosts = cluster.children_of(&worker);
    assert_eq!(hosts.len(), 1);
    worker.kill();
    until("the hosts of the killed worker are gone", Duration::from_secs(2), || {
        let alive = cluster.children();
        (!hosts.iter().any(|host| alive.contains(host))).then_some(())
    });
    until("the job waits for slots", Duration::from_secs(20), || {
        let details = job.job.details();
        details["millstream"]["waiting-for"].as_str()?.contains("1 of 2 slots").then_some(())
    });
    let causes = job.job.causes();
    eprintln!("kill -9 of a TaskManager: {causes:?}");
    assert!(causes[0].contains("is lost: its connection broke"), "{causes:?}");
    cluster.start_task_manager();
    job.finish();
}

#[test]
fn a_worker_without_a_master_waits_and_finds_the_next_one() {
    let mut cluster = Cluster::builder().start();
    let mut first = cluster.job_manager.take().unwrap();
    first.kill();
    cluster.start_job_manager();
    cluster.wait_for_task_managers(1);
    // The second is known as the later one.
    let second = cluster.job_manager.as_ref().unwrap();
    let epochs = [&first, second].map(|master| master.logged().matches("epoch=epoch-").count());
    assert_eq!(epochs, [1, 1]);
    assert!(first.logged().contains("epoch=epoch-1\n"), "{}", first.logged());
    assert!(second.logged().contains("epoch=epoch-2\n"), "{}", second.logged());
    let neighbour = Neighbour::start(&cluster, "next", 100, 0, &["-p", "2"]);
    neighbour.finish_undisturbed();
    cluster.assert_daemons_live();
}
