//! Peers that do not keep to the rules: each is dropped, and good TaskManagers never notice.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod harness;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use harness::{Master, Worker};
use millstream_protocol::cluster::cluster_client::ClusterClient;
use millstream_protocol::cluster::{
    self, FetchArtifactRequest, FromTaskManager, Register, ToTaskManager, from_task_manager,
    to_task_manager,
};
use tokio::sync::mpsc::{self, Sender};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

type Peer = (Sender<FromTaskManager>, Result<Streaming<ToTaskManager>, Status>);

fn register(major: u32) -> from_task_manager::Message {
    from_task_manager::Message::Register(Register {
        major,
        task_manager_id: "peer".to_owned(),
        address: "here".to_owned(),
        slots: 1,
        ..Register::default()
    })
}

fn heartbeat() -> from_task_manager::Message {
    from_task_manager::Message::Heartbeat(cluster::TaskManagerHeartbeat::default())
}

fn with_epoch(epoch: u64, message: from_task_manager::Message) -> FromTaskManager {
    FromTaskManager { epoch, message: Some(message) }
}

async fn client(master: &Master) -> ClusterClient<Channel> {
    ClusterClient::connect(format!("http://{}", master.address)).await.unwrap()
}

async fn attach(master: &Master, first: Option<from_task_manager::Message>) -> Peer {
    let (queue, queued) = mpsc::channel(64);
    if let Some(first) = first {
        queue.send(with_epoch(0, first)).await.unwrap();
    }
    let answer = client(master).await.attach(ReceiverStream::new(queued)).await;
    (queue, answer.map(tonic::Response::into_inner))
}

async fn drain(mut stream: Streaming<ToTaskManager>) -> Vec<to_task_manager::Message> {
    let mut said = Vec::new();
    while let Ok(Some(message)) = stream.message().await {
        said.extend(message.message);
    }
    said
}

#[tokio::test]
async fn who_does_not_register_is_dropped() {
    let master = Master::start(7).await;
    let (_queue, answer) = attach(&master, Some(heartbeat())).await;
    assert_eq!(answer.unwrap_err().code(), Code::InvalidArgument);
    let started = Instant::now();
    let (_queue, answer) = attach(&master, None).await;
    assert_eq!(answer.unwrap_err().code(), Code::DeadlineExceeded);
    assert!(started.elapsed() < Duration::from_secs(5));
    let (_queue, answer) = attach(&master, Some(register(2))).await;
    let said = drain(answer.unwrap()).await;
    let [to_task_manager::Message::Refused(refused)] = said.as_slice() else { panic!("{said:?}") };
    assert!(refused.reason.contains("speaks version 2.0 of the cluster protocol"), "{refused:?}");
}

#[tokio::test]
async fn messages_of_another_epoch_are_counted_and_end_the_stream() {
    let mut master = Master::start(7).await;
    let (queue, answer) = attach(&master, Some(register(1))).await;
    master.registered().await;
    queue.send(with_epoch(7, heartbeat())).await.unwrap();
    assert!(matches!(master.heard().await, harness::Heard::Heartbeat(_)));
    queue.send(with_epoch(6, heartbeat())).await.unwrap();
    let (_, cause) = master.lost().await;
    assert_eq!(cause.message, "TaskManager peer is lost: it follows another leader (epoch 6)");
    assert_eq!(master.statistics.stale_messages.load(Ordering::Relaxed), 1);
    drain(answer.unwrap()).await;

    let request = FetchArtifactRequest { epoch: 6, sha256: "0".repeat(64) };
    let refused = client(&master).await.fetch_artifact(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(master.statistics.stale_messages.load(Ordering::Relaxed), 2);
    for (sha256, code) in
        [("../../etc/passwd".to_owned(), Code::InvalidArgument), ("0".repeat(64), Code::NotFound)]
    {
        let request = FetchArtifactRequest { epoch: 7, sha256 };
        let refused = client(&master).await.fetch_artifact(request).await.unwrap_err();
        assert_eq!(refused.code(), code);
    }
}

#[tokio::test]
async fn nonsense_and_silence_are_losses() {
    let mut master = Master::start(7).await;
    let (queue, _answer) = attach(&master, Some(register(1))).await;
    master.registered().await;
    let nameless = cluster::HostMessage { host_id: vec![1, 2, 3], message: None };
    let nameless = from_task_manager::Message::HostMessage(nameless);
    queue.send(with_epoch(7, nameless)).await.unwrap();
    assert!(master.lost().await.1.message.contains("a host's name that is none"));

    let (queue, _answer) = attach(&master, Some(register(1))).await;
    master.registered().await;
    queue.send(with_epoch(7, register(1))).await.unwrap();
    assert!(master.lost().await.1.message.contains("registered twice"));

    // Unexpected answers are ignored, silence is not.
    let (queue, _answer) = attach(&master, Some(register(1))).await;
    let gateway = master.registered().await;
    let answer = cluster::FileChunk { request_id: 99, ..cluster::FileChunk::default() };
    queue.send(with_epoch(7, from_task_manager::Message::FileChunk(answer))).await.unwrap();
    let exited = cluster::HostExited { host_id: vec![7; 16], ..cluster::HostExited::default() };
    queue.send(with_epoch(7, from_task_manager::Message::HostExited(exited))).await.unwrap();
    queue.send(FromTaskManager { epoch: 7, message: None }).await.unwrap();
    let (lost, cause) = master.lost().await;
    assert_eq!(cause.message, "TaskManager peer is lost: it was silent for 2s");
    assert!(std::sync::Arc::ptr_eq(&gateway, &lost));
}

#[tokio::test]
async fn a_worker_that_does_not_read_is_lost() {
    let mut master = Master::start(7).await;
    let (queue, _unread) = attach(&master, Some(register(1))).await;
    let gateway = master.registered().await;
    let beats = tokio::spawn(async move {
        while queue.send(with_epoch(7, heartbeat())).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let mut sent = 0_u64;
    let file = millstream_types::ArtifactHash::new([0; 32]);
    while gateway.release_artifact(file).is_ok() {
        sent += 1;
        assert!(sent < 1_000_000, "the queue has no limit");
        if sent.is_multiple_of(1000) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    assert!(master.lost().await.1.message.contains("does not take its messages"));
    beats.abort();
}

/// A small generator: the same bytes for the same seed.
struct Bytes(u64);

impl Bytes {
    fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn some(&mut self, length: u64) -> Vec<u8> {
        (0..length).map(|_| self.number().to_le_bytes()[3]).collect()
    }
}

fn hostile_bytes(seed: u64) -> Vec<u8> {
    let mut bytes = Bytes(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0].to_vec();
    let length = bytes.number() % 200;
    match bytes.number() % 5 {
        0 => bytes.some(length),
        1 => preface[..usize::try_from(bytes.number() % 24).unwrap()].to_vec(),
        2 => [preface, bytes.some(length)].concat(),
        // Giant lengths, unknown frames, streams that do not exist.
        3 => {
            let frame = bytes.some(9);
            [preface, settings, frame, bytes.some(length)].concat()
        }
        _ => {
            let mut frame = vec![255, 255, 255, u8::try_from(bytes.number() % 12).unwrap()];
            frame.extend(bytes.some(5));
            [preface, settings, frame].concat()
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_bytes_neither_crash_nor_leak() {
    let count = std::env::var("RPC_FUZZ").ok().and_then(|count| count.parse().ok());
    let count: u64 = count.unwrap_or(3000);
    let mut master = Master::start(7).await;
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    let address = master.address.clone();
    tokio::task::spawn_blocking(move || {
        for seed in 0..count {
            let mut stream = TcpStream::connect(&address).unwrap();
            stream.set_read_timeout(Some(Duration::from_micros(200))).unwrap();
            let _ = stream.write_all(&hostile_bytes(seed));
            let _ = stream.read(&mut [0; 64]);
        }
    })
    .await
    .unwrap();
    harness::eventually("all connections are closed", || descriptors() <= before + 2).await;
    let worker = Worker::start(&master.address);
    master.registered().await;
    drop(worker);
    master.lost().await;
}
