//! Clusters in bad surroundings: too few slots, ports taken, disks full.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use millstream_integration::{Cluster, binary, example, free_port, until};

use crate::neighbour::Neighbour;

#[test]
fn a_job_that_is_too_parallel_says_what_it_waits_for_and_fails_in_time() {
    let mut cluster = Cluster::builder().slots(2).set("slot.request.timeout", "3 s").start();
    let output = cluster.data("waits");
    let arguments = ["--job", "neighbour", "--output", output.to_str().unwrap()];
    let job = cluster.submit_job(&["-p", "3"], &arguments);
    let waiting = until("the job says what it waits for", Duration::from_secs(3), || {
        let details = job.details();
        details["millstream"]["waiting-for"].as_str().map(str::to_owned)
    });
    eprintln!("{waiting}");
    assert!(waiting.contains("3 slots"), "{waiting}");
    job.wait_for("FAILED");
    let causes = job.causes();
    eprintln!("{causes:?}");
    assert!(causes[0].contains("slot"), "{causes:?}");
    let outcome = cluster.run_job(&["-p", "3"], &arguments);
    eprintln!("{}", outcome.complaint());
    assert!(outcome.complaint().contains("slot"), "{outcome:?}");
    // Slots of a worker that comes in time are taken.
    let late = cluster.submit_job(&["-p", "3"], &arguments);
    cluster.start_task_manager();
    late.wait_for("FINISHED");
}

#[test]
fn a_taken_port_is_named() {
    let mut cluster = Cluster::builder().start();
    let before = cluster.census();
    let said = cluster.refused_daemon("jobmanager", &[]);
    eprintln!("{said}");
    assert!(said.contains("rest.bind-port"), "{said}");
    let rest = format!("rest.port={}", free_port());
    let said = cluster.refused_daemon("jobmanager", &["-D", &rest]);
    assert!(said.contains("jobmanager.rpc.port"), "{said}");
    assert_no_new_directory(&cluster, &before.files);
    Neighbour::start(&cluster, "afterwards", 1_000, 0, &["-p", "2"]).finish_undisturbed();
    cluster.assert_daemons_live();
}

#[test]
fn a_second_worker_of_a_name_is_refused_on_both_sides() {
    let mut cluster = Cluster::builder().set("taskmanager.resource-id", "only-one").start();
    let said = cluster.refused_daemon("taskmanager", &[]);
    eprintln!("{said}");
    let expected = "another TaskManager of the name only-one is registered and lives";
    assert!(said.contains(expected) && said.contains("taskmanager.resource-id"), "{said}");
    let job_manager = cluster.daemons().next().unwrap().logged();
    assert!(job_manager.contains(expected), "{job_manager}");
    assert_eq!(cluster.overview("taskmanagers"), Some(1));
    Neighbour::start(&cluster, "afterwards", 1_000, 0, &[]).finish_undisturbed();
    cluster.assert_daemons_live();
}

#[test]
fn an_address_that_others_reach_is_refused() {
    let mut cluster = Cluster::builder().prepare();
    let cases = [
        ("jobmanager", "rest.bind-address"),
        ("jobmanager", "jobmanager.bind-host"),
        ("taskmanager", "taskmanager.bind-host"),
    ];
    for (daemon, key) in cases {
        let said = cluster.refused_daemon(daemon, &["-D", &format!("{key}=0.0.0.0")]);
        eprintln!("{said}");
        assert!(said.contains(key) && said.contains("not a loopback address"), "{said}");
    }
    assert_no_new_directory(&cluster, &std::collections::BTreeSet::new());
}

/// Refused daemons leave their logs and nothing else.
fn assert_no_new_directory(
    cluster: &Cluster,
    before: &std::collections::BTreeSet<std::path::PathBuf>,
) {
    let files = cluster.census().files;
    let left: Vec<_> = files
        .difference(before)
        .filter(|path| path.starts_with(cluster.dir().join("tmp")))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn full_logs_stop_nobody() {
    let mut cluster = Cluster::builder().prepare();
    for name in ["jobmanager-0.log", "jobmanager-0.out", "taskmanager-1.log", "taskmanager-1.out"] {
        symlink("/dev/full", cluster.dir().join("log").join(name)).unwrap();
    }
    cluster.start_job_manager();
    cluster.start_task_manager();
    cluster.wait_for_task_managers(1);
    let neighbour = Neighbour::start(&cluster, "neighbour", 4_000, 4_000, &["-p", "1"]);
    let outcome = cluster.run_job(&[], &["--job", "misbehave", "--how", "panic"]);
    assert!(outcome.complaint().contains("the chosen number is here"), "{outcome:?}");
    neighbour.finish_undisturbed();
    cluster.assert_daemons_live();
}

#[test]
fn a_full_disk_for_uploads_is_told_and_passes() {
    let disk = tempfile::tempdir().unwrap();
    // Room for one of the two programs. The mount is the process's own and ends with it.
    let size = |program: &Path| std::fs::metadata(program).unwrap().len();
    let room = size(&binary("jobs")) + size(&example("word_count")) / 2;
    let disk_path = disk.path().display();
    let script = format!("mount -t tmpfs -o size={room} tmpfs {disk_path} && exec \"$0\" \"$@\"");
    // SAFETY: takes nothing.
    let unshare = if unsafe { libc::geteuid() } == 0 { "-m" } else { "-Urm" };
    let mut cluster = Cluster::builder()
        .set("web.upload.dir", disk.path().to_str().unwrap())
        .job_manager_through(&["unshare", unshare, "sh", "-c", &script])
        .start();
    let neighbour = Neighbour::start(&cluster, "neighbour", 8_000, 4_000, &["-p", "1"]);
    let (text, output) = (cluster.data("text"), cluster.data("counts"));
    std::fs::write(&text, "one two two\n").unwrap();
    let arguments = ["--input", text.to_str().unwrap(), "--output", output.to_str().unwrap()];
    let program = example("word_count");
    let outcome = cluster.run(&[], &program, &arguments);
    eprintln!("{}", outcome.complaint());
    assert!(outcome.complaint().contains("is full"), "{outcome:?}");
    neighbour.finish_undisturbed();
    until("there is room again", Duration::from_secs(10), || {
        (cluster.run(&[], &program, &arguments).code == Some(0)).then_some(())
    });
    assert_eq!(millstream_integration::sorted_lines(&output), ["one 1", "two 2"]);
    cluster.assert_daemons_live();
}
