//! The scripts that start and stop a cluster, and the quick start of the README.

use std::path::{Path, PathBuf};
use std::process::Command;

use millstream_integration::{Cluster, Outcome};

use crate::neighbour::Neighbour;

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("scripts").join(name)
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
    let not_logs = left.files.iter().filter(|path| !path.starts_with(cluster.dir().join("log")));
    assert_eq!(not_logs.count(), 0, "{left:?}");
    assert_eq!(std::fs::read_dir(cluster.dir().join("pid")).unwrap().count(), 0);
}

#[test]
fn the_quick_start_shows_ten_words() {
    let mut command = Command::new(script("quickstart.sh"));
    command.env("MILLSTREAM_TEST", "quickstart");
    let said = Outcome::of(command).success().stdout;
    let shown = said.split_once("The ten most frequent words:\n").unwrap().1;
    let words: Vec<&str> = shown.lines().take_while(|line| !line.is_empty()).collect();
    assert_eq!(words.len(), 10, "{said}");
    for line in words {
        let (count, word) = line.trim().split_once("  ").unwrap();
        assert!(count.parse::<u64>().is_ok() && !word.is_empty(), "{line}");
    }
    assert!(said.contains("REST answers at http://localhost:"), "{said}");
    let left = millstream_integration::processes_marked("MILLSTREAM_TEST=quickstart");
    assert!(left.is_empty(), "{left:?}");
}
