//! Files and variables for containers arrive as they were written, no shell of a launch script
//! interprets them, and staged files of other clusters stay.

use std::path::Path;
use std::time::Duration;

use millstream_integration::{Hadoop, OnYarn, Outcome, application_id, binary, until};

const DEADLINE: Duration = Duration::from_secs(90);

/// Names that would run a command on the node, or have another special meaning there.
const STRANGE: [&str; 7] =
    ["x$(touch PWNED)", "x`touch PWNED`", "$HOME", "a b", "a\nb", "a'b\"c\\d", "-rf"];
const OLD: &str = "SETTIMES&modificationtime=1000000000000&accesstime=1000000000000";

#[test]
fn what_is_shipped_arrives_and_no_shell_reads_it() {
    let yarn = OnYarn::new(Hadoop::start(1));
    // One that this ResourceManager does not know, of another cluster or of long ago.
    let foreign = yarn.home(".millstream/application_1_0007");
    let marked = yarn.home(".millstream/application_1_0008");
    write(&yarn, "mark", "name=\naddresses=other:8032\nmachine=\n");
    yarn.upload(&yarn.data("mark"), &format!("{foreign}/job.graph"), 0o600);
    yarn.upload(&yarn.data("mark"), &format!("{marked}/cluster"), 0o600);
    for directory in [&foreign, &marked] {
        let path = directory.trim_start_matches(&yarn.hadoop.default_fs()).to_owned();
        let _ = yarn.hadoop.webhdfs("PUT", &path, OLD);
    }
    strange_names_are_refused(&yarn);
    files_and_variables_arrive(&yarn);
    let staged = yarn.staged();
    assert_eq!(staged, [foreign, marked], "what others staged is left alone, and nothing else");
    let found = find(yarn.hadoop.dir(), "PWNED");
    assert_eq!(found, [""; 0], "a shell has run what a name says");
}

/// A job that starts while HDFS is in safe mode is told why, and goes on when that is over.
#[test]
fn an_hdfs_in_safe_mode_costs_one_attempt_and_is_the_cause() {
    let yarn = OnYarn::new(Hadoop::start(1))
        .set("restart-strategy.type", "fixed-delay")
        .set("restart-strategy.fixed-delay.attempts", "1")
        .set("restart-strategy.fixed-delay.delay", "100ms")
        .set("millstream.host.start-timeout", "15s");
    let session = application_id(&yarn.run("yarn-session", &["-d"]).success().stdout);
    let (program, output) = (binary("jobs"), yarn.home("output"));
    yarn.hadoop.dfs_admin(&["-safemode", "enter"]);
    let arguments = ["-d", "-c", "copy", program.to_str().unwrap(), "--records", "100"];
    let submitted = yarn.run("run", &[&arguments[..], &["--output", &output]].concat()).success();
    let job = yarn.job(&session, &submitted.job_id());
    until("two attempts have failed", DEADLINE, || {
        let causes = job.causes();
        let all = causes.iter().all(|cause| cause.contains("safe mode"));
        assert!(all, "{causes:#?}");
        (causes.len() > 1).then_some(())
    });
    yarn.hadoop.dfs_admin(&["-safemode", "leave"]);
    job.wait_for("FINISHED");
    assert_eq!(yarn.sorted_lines(&output).len(), 100);
    let _ = yarn.told("yarn-session", &["-id", &session], "stop\n").success();
    assert_eq!(yarn.ended(&session), "FINISHED/SUCCEEDED");
}

fn write(yarn: &OnYarn, name: &str, text: &str) {
    let path = yarn.data(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn deploy(yarn: &OnYarn, properties: &[&str], output: &str) -> Outcome {
    let program = binary("jobs");
    let options = ["-t", "yarn-application", "-Dexecution.attached=true"];
    let arguments = [
        "--variables",
        "A,MYVAR",
        "--files",
        "tree/a/b,tree/a_b,x+y.txt,words.txt",
        "--output",
        output,
    ];
    let job = ["-c", "surroundings", program.to_str().unwrap()];
    yarn.run("run-application", &[&options[..], properties, &job[..], &arguments[..]].concat())
}

fn strange_names_are_refused(yarn: &OnYarn) {
    let refused = |outcome: &Outcome, words: &str| {
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        assert!(outcome.complaint().contains(words), "{words:?} is not in {}", outcome.complaint());
        assert!(!outcome.stdout.contains("Submitted"), "{outcome:?}");
    };
    for (at, name) in STRANGE.into_iter().enumerate() {
        write(yarn, &format!("strange-{at}/{name}"), "x");
        let ship = format!("-Dyarn.ship-files={}", yarn.data(&format!("strange-{at}")).display());
        let outcome = deploy(yarn, &[&ship], &yarn.home("none"));
        refused(&outcome, "cannot be the name of a file in a container");
    }
    write(yarn, "own/millstream", "not the engine");
    let ship = format!("-Dyarn.ship-files={}", yarn.data("own/millstream").display());
    refused(&deploy(yarn, &[&ship], &yarn.home("none")), "uses in every container");
    let variable = "-Dcontainerized.master.env.A;touch PWNED=x";
    refused(&deploy(yarn, &[variable], &yarn.home("none")), "no name of an environment variable");
    // An executable that is on HDFS already keeps its name on the node.
    let staged = yarn.home("apps/x$(touch PWNED)");
    yarn.upload(&yarn.data("mark"), &staged, 0o755);
    refused(&yarn.run("run-application", &[&staged]), "PWNED");
}

fn files_and_variables_arrive(yarn: &OnYarn) {
    for (name, text) in [("tree/a/b", "deep"), ("tree/a_b", "flat"), ("x+y.txt", "single")] {
        write(yarn, name, text);
    }
    write(yarn, "words", "on HDFS");
    yarn.upload(&yarn.data("words"), &yarn.home("lib/words.txt"), 0o644);
    let value = "$HOME `touch PWNED` $(touch PWNED) \"q\" \\ {{USER}} {\"a\":{\"b\":1}} <LOG_DIR>";
    let properties = [
        format!("-Dyarn.ship-files={};{}", path(yarn, "tree"), path(yarn, "x+y.txt")),
        // Without a scheme it is on the default file system, for the client and for containers.
        "-Dyarn.provided.lib.dirs=/user/alice/lib".to_owned(),
        "-Dcontainerized.master.env.A=of the master".to_owned(),
        "-Dcontainerized.taskmanager.env.A=of the task".to_owned(),
        format!("-Dcontainerized.taskmanager.env.MYVAR={value}"),
        format!("-Dcontainerized.master.env.MYVAR={value}"),
    ];
    let properties: Vec<&str> = properties.iter().map(String::as_str).collect();
    let output = yarn.home("surroundings");
    let ran = deploy(yarn, &properties, &output).success();
    let ended = yarn.ended(&application_id(&ran.stdout));
    assert_eq!(ended, "FINISHED/SUCCEEDED");
    let mut expected = vec![
        "file tree/a/b: deep".to_owned(),
        "file tree/a_b: flat".to_owned(),
        "file words.txt: on HDFS".to_owned(),
        "file x+y.txt: single".to_owned(),
        "program A: of the master".to_owned(),
        format!("program MYVAR: {value}"),
        "task A: of the task".to_owned(),
        format!("task MYVAR: {value}"),
    ];
    expected.sort_unstable();
    assert_eq!(yarn.sorted_lines(&output), expected);
}

fn path(yarn: &OnYarn, name: &str) -> String {
    yarn.data(name).display().to_string()
}

/// Files of this name below a directory.
fn find(directory: &Path, name: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() && !path.is_symlink() {
                pending.push(path);
            } else if path.file_name().is_some_and(|own| own == name) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}
