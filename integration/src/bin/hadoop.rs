//! Real HDFS and YARN for people: `scripts/hadoop.sh` runs it.
//!
//! `start` leaves a process behind that holds the harness of the tests and obeys the other commands
//! over a socket in the cluster's directory. When it ends, in any way, all daemons end with it.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for developers that stops where a step fails"
)]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use millstream_integration::Hadoop;

const USAGE: &str = "usage: hadoop.sh start [--node-managers N] [--defaults] [KEY=VALUE ...]
       hadoop.sh stop | status
       hadoop.sh kill | pause | resume | restart DAEMON

start     HDFS and YARN of Hadoop 3.5.0 on free loopback ports, with 2 NodeManagers of 8 GB unless
          said otherwise; --defaults: as quick as clusters are, not as tests like them;
          KEY=VALUE: properties of Hadoop
kill      with signal 9; pause and resume with STOP and CONT; restart on the same ports
DAEMON    namenode, datanode-0, datanode-1, resourcemanager, nodemanager-0, ...

Its files are in $MILLSTREAM_HADOOP_DIR, by default ~/.cache/millstream/hadoop-cluster, and are gone
after `stop`.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["start", rest @ ..] => start(rest),
        ["serve", rest @ ..] => serve(rest),
        ["stop" | "status"] | ["kill" | "pause" | "resume" | "restart", _] => {
            tell(&words.join(" "))
        }
        _ => Err(USAGE.to_owned()),
    };
    match done {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(text) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

fn dir() -> PathBuf {
    let named = std::env::var_os("MILLSTREAM_HADOOP_DIR").map(PathBuf::from);
    let cache = || {
        let cache = std::env::var_os("MILLSTREAM_CACHE").map(PathBuf::from);
        let home = || PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/millstream");
        cache.unwrap_or_else(home).join("hadoop-cluster")
    };
    named.unwrap_or_else(cache)
}

fn socket() -> PathBuf {
    dir().join("control")
}

/// Starts the process that holds the cluster, and waits for its word.
fn start(options: &[&str]) -> Result<String, String> {
    if UnixStream::connect(socket()).is_ok() {
        return Err(format!("error: Hadoop runs already in {}", dir().display()));
    }
    // The leftovers of a cluster that was not stopped.
    let _ = fs::remove_dir_all(dir());
    fs::create_dir_all(dir()).unwrap();
    let log = dir().join("harness.log");
    let mut serve = Command::new(std::env::current_exe().unwrap());
    serve.arg("serve").args(options).stdin(Stdio::null()).stdout(Stdio::piped());
    serve.stderr(File::create(&log).unwrap());
    // Ctrl-C here is not for it.
    serve.process_group(0);
    #[expect(clippy::zombie_processes, reason = "it outlives this program")]
    let mut started = serve.spawn().unwrap();
    let mut word = String::new();
    let out = started.stdout.take().unwrap();
    BufReader::new(out).read_line(&mut word).unwrap();
    if word.trim() == "ready" {
        return tell("status");
    }
    let why = fs::read_to_string(&log).unwrap_or_default();
    Err(format!("error: Hadoop did not start; its logs are in {}\n{why}", dir().display()))
}

/// Holds the cluster until it is told to stop.
fn serve(options: &[&str]) -> Result<String, String> {
    let mut builder = Hadoop::builder().node_managers(2).dir(dir());
    let mut options = options.iter();
    while let Some(option) = options.next() {
        builder = match (*option, option.split_once('=')) {
            ("--defaults", _) => builder.defaults(),
            ("--node-managers", _) => {
                let count = options.next().and_then(|count| count.parse().ok());
                builder.node_managers(count.ok_or("error: --node-managers needs a number")?)
            }
            (_, Some((key, value))) => builder.set(key, value),
            _ => return Err(format!("error: {option} is unknown\n{USAGE}")),
        };
    }
    let mut hadoop = builder.start();
    let listener = UnixListener::bind(socket()).unwrap();
    println!("ready");
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
        let mut line = String::new();
        if BufReader::new(&stream).read_line(&mut line).is_err() {
            continue;
        }
        if line.trim() == "stop" {
            let at = hadoop.dir().to_owned();
            drop(hadoop);
            assert!(!at.exists(), "{} is still there", at.display());
            let _ = writeln!(&stream, "ok\nstopped");
            return Ok(String::new());
        }
        let answer = obey(&mut hadoop, line.trim());
        let _ = writeln!(&stream, "{answer}");
    }
    Ok(String::new())
}

/// Carries a command out; returns `ok` and a report, or an error.
fn obey(hadoop: &mut Hadoop, line: &str) -> String {
    let (verb, name) = line.split_once(' ').unwrap_or((line, ""));
    if verb != "status" && !hadoop.names().any(|known| known == name) {
        let names: Vec<&str> = hadoop.names().collect();
        return format!("error: there is no {name}; there are {}", names.join(", "));
    }
    match verb {
        "kill" => hadoop.kill(name),
        "pause" => hadoop.daemon(name).pause(),
        "resume" => hadoop.daemon(name).resume(),
        "restart" => hadoop.restart(name),
        _ => {}
    }
    let mut text = "ok\n".to_owned();
    for daemon in &mut hadoop.daemons {
        let state = match daemon.exit() {
            None => format!("process {}", daemon.pid()),
            Some(exit) => format!("not running ({exit})"),
        };
        text += &format!("{:<18}{state}\n", daemon.name);
    }
    let user = millstream_integration::USER;
    text += &format!("HDFS              {}\n", hadoop.default_fs());
    text += &format!("NameNode's web    http://localhost:{}\n", hadoop.name_node_web.port);
    if hadoop.names().any(|name| name == "resourcemanager") {
        text += &format!("YARN's web        http://localhost:{}\n", hadoop.web.port);
    }
    text += &format!("logs              {}/*.out\n", hadoop.dir().display());
    text += "\nThe user of this cluster that is not its administrator:\n";
    text += &format!("export HADOOP_CONF_DIR={}\n", hadoop.conf_dir().display());
    text + &format!("export HADOOP_USER_NAME={user}")
}

/// Gives a command to the process that holds the cluster.
fn tell(line: &str) -> Result<String, String> {
    let Ok(mut stream) = UnixStream::connect(socket()) else {
        // After a restart of the machine there is a directory without a process.
        if line == "stop" && Path::new(&dir()).exists() {
            fs::remove_dir_all(dir()).unwrap();
        }
        return Err(format!("error: Hadoop does not run in {}", dir().display()));
    };
    writeln!(stream, "{line}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    match answer.trim_end().strip_prefix("ok\n") {
        Some(text) => Ok(text.to_owned()),
        None => Err(answer.trim_end().to_owned()),
    }
}
