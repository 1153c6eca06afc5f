//! A consumer that stalls and goes on gets everything, also from a stream that has gone quiet.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write;
use std::net::TcpListener;
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::Duration;

use millstream::prelude::*;
use millstream::testing;

/// More lines than a channel has credits for batches of one line each.
const LINES: usize = 12;
const BUFFER_TIMEOUT: Duration = Duration::from_millis(2);
/// The time between two lines of the server, so that each travels alone.
const BETWEEN_LINES: Duration = Duration::from_millis(25);
/// Longer than any machine needs.
const PATIENCE: Duration = Duration::from_secs(30);

/// The state that the job and the test share.
#[derive(Default)]
struct Stage {
    is_open: bool,
    lines: Vec<String>,
}

static STAGE: Mutex<Stage> = Mutex::new(Stage { is_open: false, lines: Vec::new() });
static CHANGED: Condvar = Condvar::new();

/// Takes a line, the first one only once the test has opened the gate.
fn take(line: String) {
    let stage = CHANGED.wait_while(STAGE.lock().unwrap(), |stage| !stage.is_open).unwrap();
    let mut stage = stage;
    stage.lines.push(line);
    CHANGED.notify_all();
}

fn run(port: u16) {
    let mut env = testing::environment();
    env.set_buffer_timeout(Some(BUFFER_TIMEOUT));
    env.source("lines", SocketSource::lines("127.0.0.1", port))
        .rebalance()
        .map(|line| {
            take(line);
            Ok(())
        })
        .slot_sharing_group("slow")
        .sink("nowhere", DiscardSink::new());
    env.execute("stall").unwrap();
}

#[test]
fn the_last_lines_of_a_quiet_socket_arrive_although_their_consumer_stalled() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let job = thread::spawn(move || run(port));
    let (mut peer, _) = server.accept().unwrap();
    for number in 0..LINES {
        writeln!(peer, "{number}").unwrap();
        thread::sleep(BETWEEN_LINES);
    }
    let mut stage = STAGE.lock().unwrap();
    stage.is_open = true;
    CHANGED.notify_all();
    let (stage, waited) =
        CHANGED.wait_timeout_while(stage, PATIENCE, |stage| stage.lines.len() < LINES).unwrap();
    let lines = stage.lines.clone();
    drop((stage, waited));
    drop(peer); // the stream ends, and the job with it
    job.join().unwrap();
    let all: Vec<String> = (0..LINES).map(|number| number.to_string()).collect();
    assert_eq!(lines, all, "the socket was still open");
}
