//! Master's server and TaskManagers together, over real connections and with real hosts.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod harness;

use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::{Heard, Master, Worker, begin, eventually, job_master, marked, script};
use millstream_gateway::{
    CauseKind, FileError, HostCommand, JobMasterEvent, StartHost, TaskManagerGateway,
};
use millstream_protocol::host::{FromHost, OperatorEvent, ToHost, from_host, to_host};
use millstream_taskmanager::{CoordinatorHosts, CoordinatorHostsConfig, ExitReason};
use millstream_types::{ArtifactHash, ByteSize, HostId, TaskManagerId};
use tokio::sync::mpsc::UnboundedReceiver;

fn event(number: u32) -> ToHost {
    let event = OperatorEvent {
        operator_id: Vec::new(),
        subtask: number,
        payload: vec![1; 64],
        hands_out: false,
    };
    ToHost { message: Some(to_host::Message::OperatorEvent(event)) }
}

async fn message(events: &mut UnboundedReceiver<JobMasterEvent>) -> (HostId, FromHost) {
    match events.recv().await.unwrap() {
        JobMasterEvent::HostMessage { host, message } => (host, *message),
        other => panic!("{other:?}"),
    }
}

async fn exit(events: &mut UnboundedReceiver<JobMasterEvent>) -> millstream_gateway::HostExit {
    loop {
        match events.recv().await.unwrap() {
            JobMasterEvent::HostExited(exit) => return exit,
            JobMasterEvent::HostMessage { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

fn start(host: u128, artifact: (ArtifactHash, u64), slots: &[u32]) -> StartHost {
    StartHost {
        host: HostId::from_u128(host << 64 | u128::from(std::process::id())),
        artifact: artifact.0,
        artifact_size: artifact.1,
        slots: slots.to_vec(),
        begin: begin(),
    }
}

#[tokio::test]
async fn a_host_runs_on_a_worker_and_its_job_hears_it() {
    let mut master = Master::start(1).await;
    let artifact = master.add(&script("serve"));
    let worker = Worker::start(&master.address);
    let gateway = master.registered().await;
    let Heard::Heartbeat(heartbeat) = master.heard().await else { panic!("no heartbeat") };
    assert!(heartbeat.resident_memory > ByteSize::from_mib(1));

    let (owner, mut events) = job_master();
    let start = start(1, artifact, &[0, 1]);
    let host = start.host;
    gateway.start_host(owner, start).unwrap();
    for number in 0..100 {
        gateway.command(HostCommand { host, message: event(number) }).unwrap();
    }
    let (of, ready) = message(&mut events).await;
    assert_eq!(of, host);
    let Some(from_host::Message::Ready(ready)) = ready.message else { panic!("{ready:?}") };
    assert_eq!(ready.data_address, "127.0.0.1:0", "what the worker told it to bind");
    for number in 0..100 {
        let (_, message) = message(&mut events).await;
        let Some(from_host::Message::OperatorEvent(event)) = message.message else {
            panic!("{message:?}")
        };
        assert_eq!(event.subtask, number);
    }
    assert_eq!(worker.artifacts(), 1);
    gateway.release_artifact(artifact.0).unwrap();
    gateway.stop_host(host, Duration::from_secs(60)).unwrap();
    let exit = exit(&mut events).await;
    assert_eq!((exit.host, exit.cause.kind), (host, CauseKind::Requested), "{exit:?}");
    assert_eq!(marked(host), 0);
    eventually("the copy is released", || worker.artifacts() == 0).await;
    worker.shutdown.cancel();
    assert_eq!(worker.done.await.unwrap(), ExitReason::Shutdown);
    let (_, cause) = master.lost().await;
    assert_eq!(cause.kind, CauseKind::WorkerLost);
}

#[tokio::test]
async fn one_host_dies_and_its_neighbour_does_not_notice() {
    let mut master = Master::start(1).await;
    let (good, bad) = (master.add(&script("serve")), master.add(&script("abort")));
    let worker = Worker::start(&master.address);
    let gateway = master.registered().await;
    let (owner, mut events) = job_master();
    let (bad_owner, mut bad_events) = job_master();
    let (good, bad) = (start(2, good, &[0]), start(3, bad, &[1]));
    let host = good.host;
    gateway.start_host(owner, good).unwrap();
    message(&mut events).await;
    gateway.start_host(bad_owner.clone(), bad.clone()).unwrap();
    let died = exit(&mut bad_events).await;
    assert_eq!(died.cause.kind, CauseKind::Signal);
    assert!(died.cause.message.contains("SIGABRT"), "{died:?}");
    assert!(died.stderr_tail.contains("last words"), "{died:?}");

    // Its slot is free again, the neighbour's is not, and there is no third one.
    for (slots, sentence) in [
        (&[1][..], "SIGABRT"),
        (&[0], "slot 0 is still used by host"),
        (&[2], "there is no slot 2"),
        (&[], "fills no slot"),
    ] {
        let again = StartHost { slots: slots.to_vec(), ..bad.clone() };
        gateway.start_host(bad_owner.clone(), again).unwrap();
        let refused = exit(&mut bad_events).await;
        assert!(refused.cause.message.contains(sentence), "{refused:?}");
    }
    gateway.command(HostCommand { host, message: event(7) }).unwrap();
    assert_eq!(message(&mut events).await.0, host);
    let out = gateway.read_file(".out".to_owned(), 0, 1 << 20).await.unwrap();
    let out = String::from_utf8(out.data).unwrap();
    assert!(out.contains("last words") && out.contains("standard error of host"), "{out}");
    drop(worker);
}

#[tokio::test]
async fn a_job_that_does_not_listen_holds_up_no_other() {
    let mut master = Master::start(1).await;
    let artifact = master.add(&script("serve"));
    let worker = Worker::start(&master.address);
    let gateway = master.registered().await;
    gateway.start_host(Arc::new(harness::DeafJobMaster), start(4, artifact, &[0])).unwrap();
    // Its first message is on its way to a JobMaster that takes none.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (owner, mut events) = job_master();
    let neighbour = start(5, artifact, &[1]);
    gateway.start_host(owner, neighbour.clone()).unwrap();
    let ready = tokio::time::timeout(Duration::from_secs(20), message(&mut events)).await;
    assert_eq!(ready.expect("the other job hears its host").0, neighbour.host);
    drop(worker);
}

#[tokio::test]
async fn artifacts_that_do_not_come_are_the_cause() {
    let mut master = Master::start(1).await;
    let good = master.add(&script("serve"));
    let _worker = Worker::start(&master.address);
    let gateway = master.registered().await;
    let (owner, mut events) = job_master();
    let missing = (ArtifactHash::new([9; 32]), 10);
    for (artifact, sentence) in [
        (missing, "is not in the store"),
        ((good.0, good.1 + 1), "arrived damaged"),
        ((good.0, 1 << 40), "the cache of this TaskManager holds only"),
        (master.add_changed(&script("serve")), "arrived damaged"),
    ] {
        gateway.start_host(owner.clone(), start(4, artifact, &[0])).unwrap();
        let exit = exit(&mut events).await;
        assert!(exit.cause.message.contains(sentence), "{exit:?}");
        assert_eq!(exit.cause.kind, CauseKind::Start);
    }
}

#[tokio::test]
async fn log_files_are_listed_and_read() {
    let mut master = Master::start(1).await;
    let worker = Worker::start(&master.address);
    let gateway = master.registered().await;
    std::fs::write(worker.log_dir().join("tm.log"), vec![b'x'; 3 << 20]).unwrap();
    let files = gateway.list_files().await.unwrap();
    assert!(files.iter().any(|file| file.name == "tm.log" && file.size == 3 << 20), "{files:?}");
    let chunk = gateway.read_file(".log".to_owned(), 1, u32::MAX).await.unwrap();
    assert_eq!((chunk.data.len(), chunk.last), (1 << 20, false));
    for name in ["../secret", "none"] {
        let result = gateway.read_file(name.to_owned(), 0, 1).await;
        assert_eq!(result, Err(FileError::NotFound(name.to_owned())));
    }
    drop(worker);
    master.lost().await;
    assert!(matches!(gateway.list_files().await, Err(FileError::Gone(_))));
}

#[tokio::test]
async fn a_worker_without_master_kills_its_hosts_and_finds_the_next_one() {
    let mut master = Master::start(1).await;
    let artifact = master.add(&script("serve"));
    let worker = Worker::start(&master.address);
    let gateway = master.registered().await;
    let (owner, mut events) = job_master();
    let first = start(5, artifact, &[0]);
    let host = first.host;
    gateway.start_host(owner.clone(), first).unwrap();
    message(&mut events).await;
    assert!(marked(host) > 0);

    let listener = master.stop().await;
    eventually("the host is killed", || marked(host) == 0).await;
    assert!(gateway.command(HostCommand { host, message: event(1) }).is_err());
    let mut master = Master::start_on(listener, 2).await;
    let artifact = master.add(&script("serve"));
    let gateway = master.registered().await;
    gateway.start_host(owner, start(6, artifact, &[0])).unwrap();
    message(&mut events).await;

    // An older leader on the same address is not followed.
    let listener = master.stop().await;
    let mut master = Master::start_on(listener, 1).await;
    master.registered().await;
    let (_, cause) = master.lost().await;
    assert_eq!(cause.kind, CauseKind::WorkerLost);
    drop(worker);
}

#[tokio::test]
async fn a_worker_that_is_not_wanted_or_finds_nobody_ends() {
    let master = Master::refusing("the cluster is full").await;
    let worker = Worker::start(&master.address);
    let reason = worker.done.await.unwrap();
    assert_eq!(reason.to_string(), "the JobManager refused this TaskManager: the cluster is full");

    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let worker = Worker::with_timeout(&nobody.to_string(), Duration::from_millis(500));
    let started = Instant::now();
    let reason = worker.done.await.unwrap().to_string();
    assert!(reason.contains("could not register within 500ms"), "{reason}");
    assert!(reason.contains("Connection refused"), "{reason}");
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn killing_a_worker_takes_its_hosts_with_it_and_is_noticed_at_once() {
    let mut master = Master::start(1).await;
    let artifact = master.add(&script("serve"));
    let mut worker = harness::worker_process(&master.address);
    let gateway = master.registered().await;
    let (owner, mut events) = job_master();
    let start = start(7, artifact, &[0]);
    let host = start.host;
    gateway.start_host(owner, start).unwrap();
    message(&mut events).await;
    worker.kill().unwrap();
    let killed = Instant::now();
    let (_, cause) = master.lost().await;
    assert!(killed.elapsed() < Duration::from_secs(2), "{cause}");
    worker.wait().unwrap();
    eventually("the host dies with its worker", || marked(host) == 0).await;
}

#[tokio::test]
async fn coordinator_hosts_are_children_of_the_master() {
    let dir = tempfile::tempdir().unwrap();
    let store = harness::Store::default();
    let artifact = store.add(&script("serve"));
    let config = CoordinatorHostsConfig {
        id: TaskManagerId::new("jobmanager"),
        hosts: harness::host_settings(dir.path()),
        memory_limit: ByteSize::from_mib(256),
    };
    let hosts = CoordinatorHosts::new(config, Arc::new(store));
    let (owner, mut events) = job_master();
    let start = start(8, artifact, &[]);
    let host = start.host;
    hosts.start_host(owner.clone(), start.clone()).unwrap();
    hosts.command(HostCommand { host, message: event(3) }).unwrap();
    message(&mut events).await;
    assert_eq!(message(&mut events).await.0, host);
    hosts.shut_down().await;
    assert_eq!(exit(&mut events).await.cause.kind, CauseKind::Requested);
    assert_eq!(marked(host), 0);
    let missing = StartHost { artifact: ArtifactHash::new([1; 32]), ..start };
    hosts.start_host(owner, missing).unwrap();
    assert!(exit(&mut events).await.cause.message.contains("is not in the store"));
    assert_eq!(std::fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
}
