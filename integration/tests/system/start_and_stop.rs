//! The scripts under load, beside strange files and in strange environments: a start that succeeded
//! has started all its daemons, any other start and a stop leave nothing.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use millstream_integration::{Cluster, Outcome, Started, binary, scale, until, workspace};

fn script(cluster: &Cluster, name: &str, arguments: &[&str]) -> Command {
    let mut command = cluster.command(&workspace().join("scripts").join(name));
    command.args(arguments);
    command
}

fn run(cluster: &Cluster, name: &str, arguments: &[&str]) -> Outcome {
    Outcome::of(script(cluster, name, arguments))
}

fn pid_files(cluster: &Cluster) -> BTreeSet<u32> {
    let mut pids = BTreeSet::new();
    for entry in fs::read_dir(cluster.dir().join("pid")).into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "pid") {
            let text = fs::read_to_string(entry.path()).unwrap();
            pids.extend(text.lines().map(|line| line.parse::<u32>().unwrap()));
        }
    }
    pids
}

fn processes(cluster: &Cluster) -> BTreeSet<u32> {
    cluster.census().processes.into_keys().collect()
}

fn assert_nothing(cluster: &Cluster, when: &str) {
    let left = cluster.census();
    assert!(left.processes.is_empty(), "{when}: {left:?}");
    let directory = cluster.dir().join("pid");
    let files: Vec<_> = fs::read_dir(directory).into_iter().flatten().flatten().collect();
    assert!(files.is_empty(), "{when}: {files:?}");
}

/// Starts, looks at the pid files, and stops.
fn start_and_stop(cluster: &Cluster, daemons: usize, arguments: &[&str]) -> String {
    let said = run(cluster, "start-cluster.sh", arguments).success().stdout;
    let running = processes(cluster);
    assert_eq!(running.len(), daemons, "{said}");
    assert_eq!(pid_files(cluster), running);
    let _ = run(cluster, "stop-cluster.sh", &[]).success();
    assert_nothing(cluster, "stopped");
    said
}

/// A process that uses all the time of a core that it gets.
struct Burner(Child);

impl Burner {
    fn start() -> Self {
        let mut command = Command::new("nice");
        command.args(["-n", "10", "sh", "-c", "while :; do :; done"]);
        Self(command.stdin(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Burner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn processes_and_pid_files_are_equal_beside_a_busy_machine() {
    let cluster = Cluster::builder().task_managers(2).prepare();
    let _busy = [Burner::start(), Burner::start()];
    let nice = |name: &str| {
        let mut command = cluster.command(Path::new("nice"));
        command.args(["-n", "15"]).arg(workspace().join("scripts").join(name));
        Outcome::of(command).success()
    };
    for round in 0..scale(20, 200) {
        nice("start-cluster.sh");
        let running = processes(&cluster);
        assert_eq!(running.len(), 3, "round {round}");
        assert_eq!(pid_files(&cluster), running, "round {round}");
        nice("stop-cluster.sh");
        assert_nothing(&cluster, &format!("round {round}"));
    }
}

#[test]
fn a_configuration_has_one_reader() {
    let cluster = Cluster::builder().prepare();
    let path = cluster.dir().join("conf/config.yaml");
    let usual = fs::read_to_string(&path).unwrap();
    let value = |key: &str| {
        let line = usual.lines().find_map(|line| line.strip_prefix(&format!("{key}: ")));
        line.unwrap().to_owned()
    };
    let (rest, rpc, tmp) = (value("rest.port"), value("jobmanager.rpc.port"), value("io.tmp.dirs"));
    let base = format!("io.tmp.dirs: {tmp}\n");
    let port = format!("http://localhost:{rest}\n");
    for (text, url) in [
        (format!("rest: {{port: {rest}}}\njobmanager: {{rpc: {{port: {rpc}}}}}\n{base}"), &*port),
        (format!("rest.port:\n  {rest}\njobmanager.rpc.port:\n    {rpc}\n{base}"), &port),
        (format!("\u{feff}{usual}"), &port),
        (usual.replace('\n', "\r\n"), &port),
        (format!("web.port: {rest}\njobmanager.rpc.port: {rpc}\n{base}"), &port),
        (usual.replace(&format!("rest.port: {rest}"), "rest.port: 0\nenv.log.level: WARN"), ""),
        (usual.replace(&format!("rpc.port: {rpc}"), "rpc.port: 0"), &port),
        (usual.replace("rest.port", "env.log.level: OFF\nrest.bind-port"), &port),
        (format!("{usual}rest.bind-port: {rest}-{}\n", rest.parse::<u16>().unwrap() + 3), &port),
        (format!("{usual}'env.log.level': \"ERROR\" # few\n"), &port),
    ] {
        fs::write(&path, &text).unwrap();
        let said = start_and_stop(&cluster, 2, &[]);
        let shown = format!("JobManager Web Interface: {url}");
        assert!(said.contains(&shown) && !said.contains("localhost:0\n"), "{text}: {said}");
    }
}

#[test]
fn a_start_that_cannot_succeed_starts_nothing() {
    let cluster = Cluster::builder().prepare();
    let conf = cluster.dir().join("conf");
    let refused = |arguments: &[&str], part: &str| {
        let outcome = run(&cluster, "start-cluster.sh", arguments);
        assert_eq!(outcome.code, Some(1), "{part}: {outcome:?}");
        assert!(outcome.stderr.contains(part), "{part}: {outcome:?}");
        assert!(outcome.stderr.starts_with("error: "), "{part}: {outcome:?}");
        assert!(!outcome.stdout.contains("daemon"), "{part}: {outcome:?}");
        assert_nothing(&cluster, part);
    };
    for (workers, part) in [
        (Some(""), "names no host"),
        (Some("localhost\nlocalhost:8081\n"), "localhost:8081 has a port"),
        (Some("localhost\n-oProxyCommand=x\n"), "is not a host"),
        (None, "there is no "),
    ] {
        match workers {
            Some(text) => fs::write(conf.join("workers"), text).unwrap(),
            None => fs::remove_file(conf.join("workers")).unwrap(),
        }
        refused(&[], part);
    }
    fs::write(conf.join("workers"), "localhost\n").unwrap();
    fs::write(conf.join("masters"), "localhost\nother\n").unwrap();
    refused(&[], "names 2 hosts");
    fs::write(conf.join("masters"), "localhost\n").unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let file = cluster.data("file");
    fs::write(&file, "").unwrap();
    let below = file.join("x").display().to_string();
    let refused_option = |option: &str, part: &str| refused(&["-D", option], part);
    refused_option(&format!("rest.port={port}"), "failed to listen on ");
    refused_option(&format!("jobmanager.rpc.port={port}"), "(jobmanager.rpc.port)");
    refused_option(&format!("io.tmp.dirs={below}"), "failed to make a directory in");
    refused_option("taskmanager.numberOfTaskSlots=0", "expected more than 0");
    refused_option("taskmanager.memory.process.size=1m", "cannot share");
    refused_option("taskmanager.bind-host=0.0.0.0", "is not a loopback address");
    refused_option("heartbeat.timeout=1 s", "is not longer than heartbeat.interval");
    refused_option("env.log.dir=", "env.log.dir expected a path");
    refused_option("rest.prot=1", "did you mean rest.port?");
    refused_option("rest.port=many", "expected a whole number");
    for (name, part) in
        [("MILLSTREAM_LOG_DIR", "the log directory"), ("MILLSTREAM_PID_DIR", "the pid directory")]
    {
        let mut command = script(&cluster, "start-cluster.sh", &[]);
        command.env(name, &below);
        let outcome = Outcome::of(command);
        assert!(outcome.code == Some(1) && outcome.stderr.contains(part), "{outcome:?}");
        assert_nothing(&cluster, part);
    }
    let user = cluster.dir().join("pid/millstream-me-taskexecutor.pid");
    symlink("/etc/hostname", &user).unwrap();
    let mut command = script(&cluster, "start-cluster.sh", &[]);
    command.env("MILLSTREAM_IDENT_STRING", "me");
    let outcome = Outcome::of(command);
    assert!(outcome.stderr.contains("belongs to another user or is no file"), "{outcome:?}");
    fs::remove_file(user).unwrap();
    assert_nothing(&cluster, "a pid file that is a link");
}

#[test]
fn what_was_started_ends_when_the_rest_does_not_come() {
    let cluster = Cluster::builder().prepare();
    let tools = cluster.data("tools");
    fs::create_dir(&tools).unwrap();
    let calls = cluster.data("calls");
    let ssh = tools.join("ssh");
    let text = format!("#!/bin/sh\necho \"$*\" >>'{}'\n[ \"$2\" != bad ]\n", calls.display());
    fs::write(&ssh, text).unwrap();
    fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(cluster.dir().join("conf/workers"), "localhost\ngood\nbad\n").unwrap();
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
    let mut command = script(&cluster, "start-cluster.sh", &[]);
    command.env("PATH", &path);
    let outcome = Outcome::of(command);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.stderr.contains("taskmanager.sh start failed on bad"), "{outcome:?}");
    assert_nothing(&cluster, "one host failed");
    let calls = fs::read_to_string(calls).unwrap();
    let stops: Vec<&str> = calls.lines().filter(|call| call.ends_with(" stop")).collect();
    assert!(stops.len() == 1 && stops[0].starts_with("-n good -- env "), "{calls}");
}

#[test]
fn the_second_of_two_starts_says_that_a_cluster_runs() {
    let cluster = Cluster::builder().prepare();
    let start = || Started::new(script(&cluster, "start-cluster.sh", &[]));
    let both = [start(), start()].map(Started::finish);
    let [mut won, mut lost] = both;
    if won.code != Some(0) {
        std::mem::swap(&mut won, &mut lost);
    }
    assert_eq!((won.code, lost.code), (Some(0), Some(1)), "{won:?} {lost:?}");
    assert!(lost.stderr.contains("a cluster runs already: its JobManager has pid"), "{lost:?}");
    assert!(lost.stderr.contains("listens at http://"), "{lost:?}");
    assert_eq!(processes(&cluster).len(), 2);
    assert_eq!(pid_files(&cluster), processes(&cluster));
    let _ = run(&cluster, "stop-cluster.sh", &[]).success();
    assert_nothing(&cluster, "stopped");
}

#[test]
fn dead_and_deaf_daemons_leave_the_pid_files() {
    let cluster = Cluster::builder().task_managers(2).prepare();
    let _ = run(&cluster, "start-cluster.sh", &[]).success();
    let pid_file = |service: &str| {
        let files = fs::read_dir(cluster.dir().join("pid")).unwrap().flatten();
        let name = format!("-{service}.pid");
        let found =
            files.map(|file| file.path()).find(|file| file.to_string_lossy().ends_with(&name));
        fs::read_to_string(found.unwrap()).unwrap()
    };
    let workers: Vec<String> = pid_file("taskexecutor").lines().map(str::to_owned).collect();
    signal("KILL", &workers[0]);
    until("the worker is gone", Duration::from_secs(20), || {
        (processes(&cluster).len() == 2).then_some(())
    });
    signal("STOP", &workers[1]);
    // The configuration has become wrong meanwhile.
    let config = cluster.dir().join("conf/config.yaml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text + "rest.prot: 1\n").unwrap();
    let mut command = script(&cluster, "stop-cluster.sh", &[]);
    command.env("MILLSTREAM_STOP_TIMEOUT", "1");
    let outcome = Outcome::of(command).success();
    let gone = format!("No taskexecutor daemon (pid: {}) is running anymore", workers[0]);
    assert!(outcome.stdout.contains(&gone), "{outcome:?}");
    let killed = format!("(pid: {}) did not stop within 1 s, killing it", workers[1]);
    assert!(outcome.stdout.contains(&killed), "{outcome:?}");
    assert!(outcome.stderr.contains("unknown option \"rest.prot\""), "{outcome:?}");
    assert_nothing(&cluster, "stopped");
}

fn signal(name: &str, pid: &str) {
    assert!(Command::new("kill").args(["-s", name, pid]).status().unwrap().success());
}

/// An installation whose path needs quoting, with the configuration of `cluster` in it.
fn installation(cluster: &Cluster) -> PathBuf {
    let home = cluster.data("a \"home\"\nof $HOME's");
    fs::create_dir_all(home.join("bin")).unwrap();
    for name in ["engine", "start-cluster", "stop-cluster", "jobmanager", "taskmanager"] {
        let name = format!("{name}.sh");
        fs::copy(workspace().join("scripts").join(&name), home.join("bin").join(&name)).unwrap();
    }
    fs::copy(binary("millstream"), home.join("bin/millstream")).unwrap();
    symlink(cluster.dir().join("conf"), home.join("conf")).unwrap();
    home
}

#[test]
fn the_callers_surroundings_do_not_matter() {
    let cluster = Cluster::builder().prepare();
    let home = installation(&cluster);
    let linked = cluster.data("start");
    symlink(home.join("bin/start-cluster.sh"), &linked).unwrap();
    let rc = cluster.data("rc");
    fs::write(&rc, "cd / ; exit 3\n").unwrap();
    let plain = |program: &Path| {
        let mut command = cluster.command(program);
        for name in ["MILLSTREAM_BINARY", "MILLSTREAM_CONF_DIR"] {
            command.env_remove(name);
        }
        command
    };
    let cases: [(&str, &[(&str, &str)]); 6] = [
        ("POSIX", &[("POSIXLY_CORRECT", "1")]),
        ("CDPATH", &[("CDPATH", "/tmp:/usr:.")]),
        ("IFS", &[("IFS", "/.-e"), ("GREP_OPTIONS", "--color=always")]),
        ("language", &[("LANG", "tr_TR.UTF-8"), ("LC_ALL", "xx_YY")]),
        ("start files", &[("BASH_ENV", rc.to_str().unwrap()), ("ENV", rc.to_str().unwrap())]),
        ("user", &[("USER", ""), ("LOGNAME", "")]),
    ];
    for (name, variables) in cases {
        let mut command = plain(Path::new("bin/start-cluster.sh"));
        command.current_dir(&home).envs(variables.iter().copied());
        let _ = Outcome::of(command).success();
        assert_eq!(processes(&cluster).len(), 2, "{name}");
        let mut command = plain(Path::new("./stop-cluster.sh"));
        command.current_dir(home.join("bin")).envs(variables.iter().copied());
        let _ = Outcome::of(command).success();
        assert_nothing(&cluster, name);
    }
    let _ = Outcome::of(plain(&linked)).success();
    let mut command = plain(Path::new("sh"));
    command.arg("stop-cluster.sh").current_dir(home.join("bin"));
    let _ = Outcome::of(command).success();
    assert_nothing(&cluster, "through a link");
}

#[test]
fn every_script_explains_itself_and_refuses_what_it_does_not_know() {
    let cluster = Cluster::builder().prepare();
    for name in [
        "start-cluster.sh",
        "stop-cluster.sh",
        "jobmanager.sh",
        "taskmanager.sh",
        "standalone-job.sh",
    ] {
        let help = run(&cluster, name, &["--help"]).success().stdout;
        assert!(help.contains(&format!("Usage: {name}")), "{help}");
        let refused = run(&cluster, name, &["--no-such-option"]);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains("--no-such-option"), "{refused:?}");
    }
    for name in ["jobmanager.sh", "taskmanager.sh", "standalone-job.sh"] {
        assert_eq!(run(&cluster, name, &[]).code, Some(1));
        let stopped = run(&cluster, name, &["stop"]).success().stdout;
        assert!(stopped.starts_with("No ") && stopped.contains("daemon to stop"), "{stopped}");
    }
    assert_nothing(&cluster, "nothing was started");
}
