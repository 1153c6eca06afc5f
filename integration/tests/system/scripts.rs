//! Starting, stopping and interrupting as people do it: scripts, signals, Ctrl-C, the quick start.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use millstream_integration::{Cluster, Outcome, binary, example, until, workspace};

use crate::neighbour::Neighbour;

fn script(name: &str) -> PathBuf {
    workspace().join("scripts").join(name)
}

fn run(cluster: &Cluster, name: &str, arguments: &[&str]) -> String {
    let mut command = cluster.command(&script(name));
    command.args(arguments);
    Outcome::of(command).success().stdout
}

#[test]
fn scripts_start_and_stop_a_cluster() {
    let cluster = Cluster::builder().task_managers(2).prepare();
    let said = run(&cluster, "start-cluster.sh", &[]);
    assert_eq!(said.matches("Starting taskexecutor daemon").count(), 2, "{said}");
    cluster.wait_for_task_managers(2);
    run(&cluster, "taskmanager.sh", &["start"]);
    cluster.wait_for_task_managers(3);
    Neighbour::start(&cluster, "sums", 1_000, 0, &["-p", "6"]).finish_undisturbed();
    let listed = cluster.millstream(&["list", "-a"]).success().stdout;
    assert!(listed.contains("neighbour (FINISHED)"), "{listed}");
    run(&cluster, "taskmanager.sh", &["stop"]);
    cluster.wait_for_task_managers(2);
    run(&cluster, "stop-cluster.sh", &[]);
    let left = cluster.census();
    assert!(left.processes.is_empty() && left.ports.is_empty(), "{left:?}");
    assert!(left.files.iter().all(|path| may_stay(&cluster, path)), "{left:?}");
    assert_eq!(std::fs::read_dir(cluster.dir().join("pid")).unwrap().count(), 0);
}

#[test]
fn the_setup_names_what_a_machine_lacks() {
    let cluster = Cluster::builder().prepare();
    let tools = cluster.data("tools");
    std::fs::create_dir(&tools).unwrap();
    for tool in ["cargo", "cc", "ld", "flock", "ps"] {
        std::os::unix::fs::symlink("/bin/true", tools.join(tool)).unwrap();
    }
    let mut command = cluster.command(Path::new("/bin/bash"));
    command.arg(script("setup.sh")).env("PATH", &tools);
    let outcome = Outcome::of(command);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.stderr.contains("install curl"), "{outcome:?}");
}

#[test]
fn the_quick_start_shows_ten_words() {
    let mut command = Command::new(script("quickstart.sh"));
    // Built already: another build under the running tests would take their programs away.
    command.env("MILLSTREAM_BINARY", binary("millstream"));
    let _ = example("word_count");
    let mark = format!("quickstart-{}", std::process::id());
    command.env("MILLSTREAM_TEST", &mark);
    let said = Outcome::of(command).success().stdout;
    let shown = said.split_once("The ten most frequent words:\n").unwrap().1;
    let words: Vec<&str> = shown.lines().take_while(|line| !line.is_empty()).collect();
    assert_eq!(words.len(), 10, "{said}");
    for line in words {
        let (count, word) = line.trim().split_once("  ").unwrap();
        assert!(count.parse::<u64>().is_ok() && !word.is_empty(), "{line}");
    }
    assert!(said.contains("REST answers at http://localhost:"), "{said}");
    let left = millstream_integration::processes_marked(&format!("MILLSTREAM_TEST={mark}"));
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_cluster_that_is_told_to_stop_leaves_nothing() {
    let mut cluster = Cluster::builder().task_managers(2).start();
    let neighbour = Neighbour::start(&cluster, "endless", 1_000_000, 1_000, &["-p", "3"]);
    let mut worker = cluster.task_managers.remove(0);
    assert!(worker.stop().success(), "{}", worker.logged());
    neighbour.job.wait_for("FAILED");
    let again = Neighbour::start(&cluster, "again", 1_000_000, 1_000, &["-p", "2"]);
    assert_eq!(again.job.status(), "RUNNING");
    let mut master = cluster.job_manager.take().unwrap();
    assert!(master.stop().success(), "{}", master.logged());
    let mut worker = cluster.task_managers.remove(0);
    assert!(worker.stop().success(), "{}", worker.logged());
    let left = cluster.census();
    assert!(left.processes.is_empty() && left.ports.is_empty(), "{left:?}");
    assert!(left.files.iter().all(|path| may_stay(&cluster, path)), "{left:?}");
}

/// Whether a stopped cluster leaves this file: its logs, and the counter of its masters' epochs,
/// which must outlive them.
fn may_stay(cluster: &Cluster, path: &Path) -> bool {
    let counter = cluster.dir().join("home/.local/state/millstream/epoch");
    path.starts_with(cluster.dir().join("log"))
        || counter.starts_with(path)
        || *path == counter.with_extension("lock")
}

/// Interrupts an attached `run` and gives the job's state some time later.
fn interrupted(options: &[&str], last: &str) {
    let cluster = Cluster::builder().start();
    let (program, output) = (binary("jobs"), cluster.data("sums"));
    let arguments = ["--job", "neighbour", "--records", "1000000", "--rate", "1000", "--output"];
    let run =
        [&["run"], options, &[program.to_str().unwrap()], &arguments, &[output.to_str().unwrap()]];
    let command = cluster.start_millstream(&run.concat());
    until("the job runs", Duration::from_secs(20), || {
        (cluster.overview("jobs-running") == Some(1)).then_some(())
    });
    let job = cluster.newest_job();
    job.wait_for_tasks();
    command.interrupt();
    let outcome = command.finish();
    assert_eq!(outcome.code, Some(130), "{outcome:?}");
    assert_eq!(job.status(), last, "{outcome:?}");
}

#[test]
fn ctrl_c_cancels_if_it_was_told_to() {
    interrupted(&["-sae"], "CANCELED");
    interrupted(&[], "RUNNING");
}
