//! Real processes that behave in every bad way: the cause is true and nothing is left of them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

mod child;

use std::time::{Duration, Instant};

use child::{drain, event, marked, run, spec};
use millstream_launcher::{
    HostEnvironment, HostOutput, HostProcess, HostProcessEvent, HostSpec, SpawnError, adopt_orphans,
};
use millstream_protocol::HOST_PROTOCOL;
use millstream_protocol::host::{FromHost, OperatorEvent, ToHost, from_host, to_host};
use millstream_types::{ByteSize, CauseKind, HostId};
use tempfile::tempdir;

fn to(event: OperatorEvent) -> ToHost {
    ToHost { message: Some(to_host::Message::OperatorEvent(event)) }
}

fn number(message: &FromHost) -> u32 {
    match &message.message {
        Some(from_host::Message::OperatorEvent(event)) => event.subtask,
        other => panic!("{other:?}"),
    }
}

async fn check(behaviour: &str, kind: CauseKind, sentence: &str) {
    let dir = tempdir().unwrap();
    let mut spec = spec(&dir, behaviour);
    spec.start_timeout = Duration::from_secs(if behaviour == "silent" { 1 } else { 60 });
    spec.memory_limit = Some(ByteSize::from_mib(96));
    let (host, temp_dir) = (spec.host, spec.temp_dir.clone().unwrap());
    let (_, exit) = run(spec).await;
    assert!(exit.cause.message.contains(sentence), "{behaviour}: {exit:?}");
    assert_eq!(exit.cause.kind, kind, "{behaviour}: {exit:?}");
    assert_eq!(marked(host), Vec::<String>::new(), "{behaviour}");
    assert!(!temp_dir.exists(), "{behaviour}");
}

#[tokio::test]
async fn bad_starts_have_their_cause() {
    check("exit at once", CauseKind::Start, "code 3 before it said hello").await;
    check("silent", CauseKind::Start, "did not say hello within 1s and was killed").await;
    let theirs = HOST_PROTOCOL.major + 1;
    let theirs = format!("speaks version {theirs}.0 of the host protocol (millstream 9.9)");
    check("old", CauseKind::Mismatch, &theirs).await;
    let ours = format!("the cluster speaks {HOST_PROTOCOL}: rebuild the artifact with");
    check("old", CauseKind::Mismatch, &ours).await;
    check("garbage", CauseKind::Mismatch, "does not keep to the host protocol").await;
    check("giant", CauseKind::Mismatch, "4294967295 bytes is over the limit").await;
}

#[tokio::test]
async fn output_without_a_file_is_held_until_the_hello_and_its_end_is_kept() {
    let dir = tempdir().unwrap();
    let mut babbles = spec(&dir, "babble");
    (babbles.output, babbles.start_timeout) = (HostOutput::Tail, Duration::from_secs(1));
    let (_, exit) = run(babbles).await;
    assert!(exit.cause.message.contains("did not say hello"), "{exit:?}");
    assert_eq!(exit.stderr_tail, "last words\n");

    let mut prints = spec(&dir, "prints");
    prints.output = HostOutput::Tail;
    let (_, exit) = run(prints).await;
    assert_eq!(exit.exit_code, Some(7), "it is not held up: {exit:?}");
    assert!(exit.stderr_tail.ends_with("line 9999\n"), "{}", exit.stderr_tail);
    assert!(exit.stderr_tail.len() <= 8 << 10);
}

#[tokio::test]
async fn bad_ends_have_their_cause() {
    check("panic", CauseKind::Panic, "boom 17").await;
    check("abort", CauseKind::Signal, "SIGABRT").await;
    check("overflow", CauseKind::Signal, "thread 'slot-3'").await;
    check("exit", CauseKind::Exit, "user code ended its process with exit code 7").await;
    check("failure", CauseKind::Panic, "map panicked: of its own").await;
    check("closed", CauseKind::Exit, "user code closed the file descriptors").await;
}

#[tokio::test]
async fn memory_is_limited() {
    check("leak", CauseKind::Memory, " of 96 mb").await;
    check("leak in a child", CauseKind::Memory, " of 96 mb").await;
    check("allocate", CauseKind::Memory, "it asked for 16384 mb more, its limit is 96 mb").await;
}

/// A slot of 10 MB has a few threads, each with a stack of which it touches little.
#[tokio::test]
async fn a_host_of_any_size_has_the_threads_of_its_slots() {
    let dir = tempdir().unwrap();
    for mebibytes in [100, 200, 590, 620, 640, 700, 800, 1230] {
        let mut spec = spec(&dir, "threads");
        spec.memory_limit = Some(ByteSize::from_mib(mebibytes));
        let (process, events) = HostProcess::spawn(spec).await.unwrap();
        let threads = u32::try_from(mebibytes / 10 * 4).unwrap();
        process.send(&to(event(threads, mebibytes as usize / 2))).unwrap();
        let (messages, exit) = drain(events).await;
        assert_eq!(messages.len(), 1, "{mebibytes} MiB: {exit:?}");
    }
}

#[tokio::test]
async fn children_go_with_their_host() {
    adopt_orphans().await.unwrap();
    check("children", CauseKind::Signal, "SIGABRT").await;
    check("daemons", CauseKind::Exit, "code 7").await;
    let sleeping = std::fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let status = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let own = format!(" {} ", std::process::id());
        command.starts_with(b"sleep\x001000") && status.contains(&own)
    });
    assert_eq!(sleeping.count(), 0);
}

#[tokio::test]
async fn a_host_answers_in_order_and_stops_when_asked() {
    let dir = tempdir().unwrap();
    let (process, mut events) = HostProcess::spawn(spec(&dir, "serve")).await.unwrap();
    for count in 0..500 {
        process.send(&to(event(count, 100))).unwrap();
    }
    for count in 0..500 {
        match events.next().await {
            Some(HostProcessEvent::Message(message)) => assert_eq!(number(&message), count),
            other => panic!("{other:?}"),
        }
    }
    while process.usage().resident == ByteSize::from_bytes(0) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    process.stop(Duration::from_secs(60));
    let (_, exit) = drain(events).await;
    assert_eq!((exit.cause.kind, exit.exit_code), (CauseKind::Requested, Some(0)));
    assert_eq!(process.send(&to(event(0, 0))), Err(millstream_launcher::HostGone));
}

#[tokio::test]
async fn a_stuck_host_is_killed_after_the_grace() {
    let dir = tempdir().unwrap();
    let (process, events) = HostProcess::spawn(spec(&dir, "deaf")).await.unwrap();
    process.stop(Duration::from_millis(200));
    let (_, exit) = drain(events).await;
    assert_eq!(exit.cause.message, "the process did not stop within 200ms and was killed");
    assert_eq!(exit.signal, Some(9));
}

#[tokio::test]
async fn a_host_that_does_not_read_is_stuck() {
    let dir = tempdir().unwrap();
    let mut slow = spec(&dir, "deaf");
    slow.drain_timeout = Duration::from_millis(300);
    let (process, events) = HostProcess::spawn(slow).await.unwrap();
    process.send(&to(event(0, 4 << 20))).unwrap();
    let (_, exit) = drain(events).await;
    assert_eq!(exit.cause.kind, CauseKind::Stuck);
    assert!(exit.cause.message.contains("did not read a message within 300ms"), "{exit:?}");

    let (process, events) = HostProcess::spawn(spec(&dir, "deaf")).await.unwrap();
    while process.send(&to(event(0, 1 << 20))).is_ok() {}
    let (_, exit) = drain(events).await;
    assert!(exit.cause.message.contains("more slowly than they come"), "{exit:?}");
}

#[tokio::test]
async fn a_slow_reader_slows_the_host_down() {
    let dir = tempdir().unwrap();
    let (process, events) = HostProcess::spawn(spec(&dir, "flood")).await.unwrap();
    let written = || std::fs::metadata(dir.path().join("out")).map_or(0, |file| file.len());
    let mut before = 0;
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = written();
        if now > 0 && now == before {
            break;
        }
        assert!(Instant::now() < deadline, "the host goes on writing");
        before = now;
    }
    process.stop(Duration::ZERO);
    let (messages, exit) = drain(events).await;
    assert_eq!(exit.cause.message, "the process was killed as asked");
    assert!((1000..4000).contains(&messages.len()), "{}", messages.len());
    let numbers: Vec<u32> = messages.iter().map(number).collect();
    assert_eq!(numbers, (0..numbers.len() as u32).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_host_gets_what_it_should_and_no_more() {
    let dir = tempdir().unwrap();
    // A careless launcher would leak it: it is neither close-on-exec nor meant for hosts.
    let leaky = std::fs::File::open("/dev/zero").unwrap();
    rustix::io::fcntl_setfd(&leaky, rustix::io::FdFlags::empty()).unwrap();
    let mut spec = spec(&dir, "report");
    spec.memory_limit = Some(ByteSize::from_mib(400));
    assert_eq!(spec.environment, HostEnvironment::Clean);
    let temp_dir = spec.temp_dir.clone().unwrap();
    let (_, exit) = run(spec).await;
    let report = exit.cause.detail;
    let lines = |prefix: &str| -> Vec<&str> {
        report.lines().filter_map(|line| line.strip_prefix(prefix)).collect()
    };
    assert!(lines("env CARGO").is_empty(), "{report}");
    assert!(lines("env PATH=").len() == 1 && lines("env MILLSTREAM_HOST_ID=").len() == 1);
    assert_eq!(lines("env TMPDIR="), [temp_dir.display().to_string()]);
    let descriptors = lines("fd ");
    assert!(!descriptors.iter().any(|line| line.contains("/dev/zero")), "{descriptors:?}");
    // Three standard ones, the socket, and the directory that is being listed.
    assert_eq!(descriptors.len(), 5, "{descriptors:?}");
    let limit = |name: &str| lines("limit ").into_iter().find(|line| line.starts_with(name));
    assert!(limit("Max core file size").unwrap().contains(" 0 "));
    let data = (2 * 400_u64 + 256) << 20;
    assert!(limit("Max data size").unwrap().contains(&format!(" {data} ")));
    assert!(lines("oom ")[0].parse::<i32>().unwrap() >= 500);
    assert_eq!(lines("stdin "), ["0 bytes"]);
    let group = |stat: &str| -> Vec<String> {
        stat.rsplit(')').next().unwrap().split(' ').skip(3).take(2).map(str::to_owned).collect()
    };
    let own = std::fs::read_to_string("/proc/self/stat").unwrap();
    assert_eq!(group(lines("stat ")[0]), group(&own), "its process group and session are ours");
}

#[tokio::test]
async fn what_cannot_start_says_why_and_leaves_nothing() {
    let dir = tempdir().unwrap();
    let start = async |path: &std::path::Path| -> String {
        let mut spec = HostSpec::new(HostId::from_u128(1), path);
        spec.temp_dir = Some(dir.path().join("temp"));
        match HostProcess::spawn(spec).await {
            Err(error @ SpawnError::Execute { .. }) => error.to_string(),
            other => panic!("{other:?}"),
        }
    };
    assert!(start(&dir.path().join("none")).await.contains("does not exist"));
    let plain = dir.path().join("plain");
    std::fs::write(&plain, "text").unwrap();
    assert!(start(&plain).await.contains("may not be executed here"));
    assert!(!dir.path().join("temp").exists());
}

#[tokio::test]
async fn a_file_that_is_still_open_for_writing_is_tried_again() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempdir().unwrap();
    let mut busy = spec(&dir, "exit");
    let copy = dir.path().join("copy");
    std::fs::copy(&busy.executable, &copy).unwrap();
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o700)).unwrap();
    let writer = std::fs::OpenOptions::new().append(true).open(&copy).unwrap();
    busy.executable = copy;
    let run = tokio::spawn(run(busy));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!run.is_finished());
    drop(writer);
    assert_eq!(run.await.unwrap().1.exit_code, Some(7));
}

#[tokio::test]
async fn a_dropped_handle_kills_its_host() {
    let dir = tempdir().unwrap();
    let (process, events) = HostProcess::spawn(spec(&dir, "deaf")).await.unwrap();
    drop(process);
    let (_, exit) = drain(events).await;
    assert_eq!(exit.cause.kind, CauseKind::Requested);
}

#[test]
fn the_end_of_the_runtime_kills_its_hosts() {
    let dir = tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let spec = spec(&dir, "deaf");
    let (host, temp_dir) = (spec.host, spec.temp_dir.clone().unwrap());
    let started = runtime.block_on(HostProcess::spawn(spec)).unwrap();
    drop(runtime);
    assert_eq!(marked(host), Vec::<String>::new());
    assert!(!temp_dir.exists());
    drop(started);
}
