//! Hosts under test: the example `misbehaving_host` of this package, which cargo builds with its
//! tests.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use millstream_launcher::{
    HostEvents, HostOutput, HostProcess, HostProcessEvent, HostProcessExit, HostSpec,
};
use millstream_protocol::host::{FromHost, OperatorEvent};
use millstream_types::HostId;
use tempfile::TempDir;

/// The program of the hosts.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("examples/misbehaving_host");
    assert!(program.exists(), "{}: build it by `--example misbehaving_host`", program.display());
    program
}

/// A spec that runs `behaviour`, with its files in `dir`.
pub fn spec(dir: &TempDir, behaviour: &str) -> HostSpec {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let host = HostId::from_u128(u128::from(std::process::id()) << 64 | u128::from(number));
    let mut spec = HostSpec::new(host, program());
    spec.args = vec![behaviour.into()];
    spec.temp_dir = Some(dir.path().join(format!("host-{number}")));
    spec.output = HostOutput::Files {
        stdout: dir.path().join("out"),
        stderr: dir.path().join(format!("err-{number}")),
    };
    spec
}

/// Runs one to its end and returns its messages.
#[allow(dead_code)]
pub async fn run(spec: HostSpec) -> (Vec<FromHost>, HostProcessExit) {
    let (process, events) = HostProcess::spawn(spec).await.unwrap();
    let result = drain(events).await;
    drop(process);
    result
}

#[allow(dead_code)]
pub async fn drain(mut events: HostEvents) -> (Vec<FromHost>, HostProcessExit) {
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
    OperatorEvent {
        operator_id: Vec::new(),
        subtask: number,
        payload: vec![7; bytes],
        hands_out: false,
    }
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
