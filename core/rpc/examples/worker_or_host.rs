//! A process that the tests of this package start: a TaskManager, or a host with one behaviour.
//!
//! `worker ADDRESS` registers at a master. `serve`, `abort` and `chatter` are hosts, which a
//! TaskManager starts: one that answers, one that dies, one that talks without end.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a part of tests")]

#[path = "../tests/harness/mod.rs"]
mod harness;

use std::io::Write;
use std::os::fd::FromRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use millstream_protocol::frame::{read_blocking, write_blocking};
use millstream_protocol::host::{
    FromHost, Hello, OperatorEvent, Ready, ToHost, from_host, to_host,
};
use millstream_protocol::{HOST_PROTOCOL, HOST_SOCKET_VARIABLE};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["worker", address] => be_a_worker(address),
        [behaviour @ ("serve" | "abort" | "chatter")] => be_a_host(behaviour),
        _ => panic!("no such role: {arguments:?}"),
    }
}

fn be_a_worker(address: &str) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let done = runtime.block_on(async { harness::Worker::start(address).done.await });
    panic!("{done:?}");
}

fn be_a_host(behaviour: &str) {
    let descriptor = std::env::var(HOST_SOCKET_VARIABLE).unwrap();
    // SAFETY: the TaskManager handed this descriptor over for this purpose, and nothing else uses
    // it.
    let mut socket = unsafe { UnixStream::from_raw_fd(descriptor.parse().unwrap()) };
    let hello = Hello { major: HOST_PROTOCOL.major, ..Hello::default() };
    say(&mut socket, from_host::Message::Hello(hello));
    let Some(to_host::Message::Begin(begin)) = hear(&mut socket) else { panic!("no begin") };
    assert!(begin.attempt == 3 && Path::new(&begin.temp_dir).is_dir(), "{begin:?}");
    match behaviour {
        "abort" => {
            std::io::stderr().write_all(b"last words\n").unwrap();
            std::process::abort();
        }
        "chatter" => loop {
            let event = OperatorEvent { payload: vec![0; 64 << 10], ..OperatorEvent::default() };
            say(&mut socket, from_host::Message::OperatorEvent(event));
        },
        _ => {}
    }
    say(&mut socket, from_host::Message::Ready(Ready { data_address: begin.bind_address }));
    loop {
        match hear(&mut socket) {
            Some(to_host::Message::OperatorEvent(event)) => {
                say(&mut socket, from_host::Message::OperatorEvent(event));
            }
            Some(to_host::Message::Shutdown(_)) | None => return,
            Some(_) => {}
        }
    }
}

fn say(socket: &mut UnixStream, message: from_host::Message) {
    write_blocking(socket, &FromHost { message: Some(message) }).unwrap();
}

fn hear(socket: &mut UnixStream) -> Option<to_host::Message> {
    read_blocking::<ToHost>(socket).ok()?.message
}
