//! A host that behaves as its argument says, mostly badly: the tests of this package launch it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    unconditional_recursion,
    reason = "a part of tests, which among others overflows its stack"
)]

use std::io::Write;
use std::os::fd::FromRawFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use millstream_protocol::frame::{read_blocking, write_blocking};
use millstream_protocol::host::{
    Failure, FromHost, Hello, OperatorEvent, ToHost, from_host, to_host,
};
use millstream_protocol::{HOST_PROTOCOL, HOST_SOCKET_VARIABLE};

/// The allocator of users' programs, which reserves memory ahead.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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

fn main() {
    let behaviour = std::env::args().nth(1).expect("the behaviour, as the one argument");
    let descriptor = std::env::var(HOST_SOCKET_VARIABLE).expect("a launcher starts this program");
    // SAFETY: the launcher handed this descriptor over for this purpose, and nothing else uses it.
    let mut socket = unsafe { UnixStream::from_raw_fd(descriptor.parse().unwrap()) };
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
        "threads" => start_threads(&mut socket),
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
                let event = OperatorEvent {
                    operator_id: Vec::new(),
                    subtask: number,
                    payload: vec![7; 1 << 10],
                    hands_out: false,
                };
                say(&mut socket, from_host::Message::OperatorEvent(event));
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

/// Fills a MiB for each byte of an event, then has as many threads at once as its subtask says.
fn start_threads(socket: &mut UnixStream) {
    let message = read_blocking::<ToHost>(socket).unwrap().message;
    let Some(to_host::Message::OperatorEvent(event)) = message else { panic!("{message:?}") };
    let mebibytes = event.payload.len();
    let filled: Vec<_> =
        (0..mebibytes).map(|_| std::hint::black_box(vec![1_u8; 1 << 20])).collect();
    let all_started = Arc::new(Barrier::new(event.subtask as usize + 1));
    for _ in 0..event.subtask {
        let all_started = Arc::clone(&all_started);
        std::thread::Builder::new().spawn(move || all_started.wait()).unwrap();
    }
    all_started.wait();
    drop(filled);
    say(socket, from_host::Message::OperatorEvent(event));
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

/// Reports the environment, descriptors and limits of the process.
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
