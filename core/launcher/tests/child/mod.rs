//! The program under test is this test binary, run again with one test that behaves badly.
#![allow(unconditional_recursion, reason = "to overflow the stack")]

use std::io::Write;
use std::os::fd::FromRawFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millstream_launcher::{
    HostEvents, HostExit, HostOutput, HostProcess, HostProcessEvent, HostSpec,
};
use millstream_protocol::frame::{read_blocking, write_blocking};
use millstream_protocol::host::{
    Failure, FromHost, Hello, OperatorEvent, ToHost, from_host, to_host,
};
use millstream_protocol::{HOST_PROTOCOL, HOST_SOCKET_VARIABLE};
use millstream_types::HostId;
use tempfile::TempDir;

const BEHAVIOUR: &str = "TEST_BEHAVIOUR";

/// A spec that runs `behaviour`, with its files in `dir`. The test binary needs a test named
/// `host_entry` that calls [`behave`].
pub fn spec(dir: &TempDir, behaviour: &str) -> HostSpec {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let host = HostId::from_u128(u128::from(std::process::id()) << 64 | u128::from(number));
    let mut spec = HostSpec::new(host, std::env::current_exe().unwrap());
    spec.args = ["--exact", "host_entry", "--nocapture", "--test-threads=1"].map(Into::into).into();
    spec.variables.push((BEHAVIOUR.into(), behaviour.into()));
    spec.temp_dir = Some(dir.path().join(format!("host-{number}")));
    spec.output = HostOutput::Files {
        stdout: dir.path().join("out"),
        stderr: dir.path().join(format!("err-{number}")),
    };
    spec
}

/// Runs one to its end and returns its messages.
#[allow(dead_code)]
pub async fn run(spec: HostSpec) -> (Vec<FromHost>, HostExit) {
    let (process, events) = HostProcess::spawn(spec).await.unwrap();
    let result = drain(events).await;
    drop(process);
    result
}

#[allow(dead_code)]
pub async fn drain(mut events: HostEvents) -> (Vec<FromHost>, HostExit) {
    let mut messages = Vec::new();
    loop {
        match events.next().await.expect("an exit comes last") {
            HostProcessEvent::Message(message) => messages.push(message),
            HostProcessEvent::Exited(exit) => {
                assert!(events.next().await.is_none());
                return (messages, exit);
            }
        }
    }
}

#[allow(dead_code)]
pub fn event(number: u32, bytes: usize) -> OperatorEvent {
    OperatorEvent { operator_id: Vec::new(), subtask: number, payload: vec![7; bytes] }
}

/// Processes that carry the host's mark.
pub fn marked(host: HostId) -> Vec<String> {
    let mark = format!("MILLSTREAM_HOST_ID={host}");
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        if environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes()) {
            let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            found.push(format!("{}: {name}", entry.file_name().display()));
        }
    }
    found
}

fn hello(socket: &mut UnixStream, major: u32) {
    let hello = Hello { major, minor: 0, engine_version: "9.9".to_owned(), pid: 0 };
    say(socket, from_host::Message::Hello(hello));
}

fn say(socket: &mut UnixStream, message: from_host::Message) {
    write_blocking(socket, &FromHost { message: Some(message) }).unwrap();
}

fn overflow(depth: u64) -> u64 {
    let mut frame = [depth; 512];
    std::hint::black_box(&mut frame);
    overflow(depth + 1) + frame[0]
}

/// Acts as the child; returns at once when this process is not a child.
pub fn behave() {
    let Ok(descriptor) = std::env::var(HOST_SOCKET_VARIABLE) else { return };
    // SAFETY: the parent handed this descriptor over for this purpose, and it has no other owner.
    let mut socket = unsafe { UnixStream::from_raw_fd(descriptor.parse().unwrap()) };
    let behaviour = std::env::var(BEHAVIOUR).unwrap();
    match behaviour.as_str() {
        "exit at once" => std::process::exit(3),
        "silent" => block(),
        "babble" => {
            let _ = writeln!(std::io::stderr(), "last words");
            loop {
                println!("y");
            }
        }
        "old" => hello(&mut socket, HOST_PROTOCOL.major + 1),
        "garbage" => socket.write_all(&[3, 0, 0, 0, 255, 255, 255]).unwrap(),
        "giant" => socket.write_all(&[255; 64]).unwrap(),
        _ => {
            hello(&mut socket, HOST_PROTOCOL.major);
            after_hello(&behaviour, socket);
            std::process::exit(0);
        }
    }
    block()
}

fn block() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(1000));
    }
}

fn after_hello(behaviour: &str, mut socket: UnixStream) {
    match behaviour {
        "serve" => serve(&mut socket),
        "panic" => panic!("boom 17"),
        "abort" => std::process::abort(),
        "overflow" => {
            let thread = std::thread::Builder::new().name("slot-3".to_owned());
            let thread = thread.stack_size(256 << 10).spawn(|| overflow(1)).unwrap();
            std::process::exit(i32::try_from(thread.join().unwrap() % 2).unwrap());
        }
        "exit" => std::process::exit(7),
        "prints" => {
            (0..100_000).for_each(|number| println!("{number:0100}"));
            let mut stderr = std::io::stderr();
            (0..10_000).for_each(|number| writeln!(stderr, "line {number}").unwrap());
            std::process::exit(7);
        }
        "leak" => {
            let mut leaked = Vec::new();
            loop {
                leaked.push(vec![1_u8; 1 << 20]);
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        "leak in a child" => {
            let command = "x=$(head -c 1000000 /dev/zero | tr '\\0' x); while :; do x=$x$x; done";
            Command::new("sh").args(["-c", command]).spawn().unwrap().wait().unwrap();
        }
        "allocate" => {
            let bytes = std::hint::black_box(1_usize << 34);
            println!("{}", std::hint::black_box(vec![1_u8; bytes]).len());
        }
        "children" => {
            Command::new("sleep").arg("1000").spawn().unwrap();
            Command::new("sh").args(["-c", "sleep 1000 & sleep 1000"]).spawn().unwrap();
            std::process::abort();
        }
        "daemons" => {
            Command::new("sh").args(["-c", "setsid sleep 1000 & exit 0"]).status().unwrap();
            let clean = "env -i setsid sh -c 'sleep 1000 & exec sleep 1000' & sleep 1; exit 0";
            Command::new("sh").args(["-c", clean]).status().unwrap();
            std::process::exit(7);
        }
        "failure" => say_failure(&mut socket),
        "closed" => {
            drop(socket);
            block();
        }
        "deaf" => block(),
        "flood" => {
            for number in 0.. {
                say(
                    &mut socket,
                    from_host::Message::OperatorEvent(super::child::event(number, 1 << 10)),
                );
                println!("{number}");
            }
        }
        "report" => report(&mut socket),
        other => panic!("unknown behaviour {other}"),
    }
}

fn say_failure(socket: &mut UnixStream) {
    let failure = Failure {
        kind: "panic".to_owned(),
        message: "map panicked: of its own".to_owned(),
        detail: "src/lib.rs:1".to_owned(),
    };
    say(socket, from_host::Message::Failure(failure));
    std::process::exit(1);
}

/// Answers events until told to stop.
fn serve(socket: &mut UnixStream) {
    loop {
        match read_blocking::<ToHost>(socket).map(|message| message.message) {
            Ok(Some(to_host::Message::OperatorEvent(event))) => {
                say(socket, from_host::Message::OperatorEvent(event));
            }
            Ok(Some(to_host::Message::Shutdown(_))) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

/// Reports the environment, arguments and descriptors of the process.
fn report(socket: &mut UnixStream) {
    let read = |path: &str| std::fs::read_to_string(path).unwrap();
    let mut lines: Vec<String> =
        std::env::vars().map(|(name, value)| format!("env {name}={value}")).collect();
    for entry in std::fs::read_dir("/proc/self/fd").unwrap().flatten() {
        let target = std::fs::read_link(entry.path()).unwrap_or_default();
        lines.push(format!("fd {} {}", entry.file_name().display(), target.display()));
    }
    lines.extend(read("/proc/self/limits").lines().map(|line| format!("limit {line}")));
    lines.push(format!("oom {}", read("/proc/self/oom_score_adj").trim()));
    lines.push(format!("stat {}", read("/proc/self/stat").trim()));
    let stdin = Command::new("cat").stdin(Stdio::inherit()).output().unwrap();
    lines.push(format!("stdin {} bytes", stdin.stdout.len()));
    let detail = lines.join("\n");
    let failure = Failure { kind: "error".to_owned(), message: String::new(), detail };
    say(socket, from_host::Message::Failure(failure));
}
