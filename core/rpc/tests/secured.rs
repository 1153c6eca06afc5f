//! A master with TLS: the peers that it lets in, those that stay outside, and the reasons they get.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod harness;

use std::time::{Duration, Instant};

use harness::{DAY, Heard, Master, Worker, begin, job_master, script};
use millstream_gateway::{JobMasterEvent, StartHost};
use millstream_security::{Authority, Role};
use millstream_taskmanager::ExitReason;
use millstream_types::HostId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const SOON: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_worker_with_its_certificate_joins_and_fetches() {
    let authority = Authority::generate("c").unwrap();
    let mut master = Master::secured(&authority).await;
    let (artifact, size) = master.add(&script("serve"));
    let own = authority.issue(Role::Worker, "tm-1", DAY).unwrap();
    let worker = Worker::secured(&master.address, &own, LONG);
    let gateway = master.registered().await;
    let (owner, mut events) = job_master();
    let host = HostId::from_u128(71 << 64 | u128::from(std::process::id()));
    let start = StartHost { host, artifact, artifact_size: size, slots: vec![0], begin: begin() };
    gateway.start_host(owner, start).unwrap();
    assert!(matches!(events.recv().await.unwrap(), JobMasterEvent::HostMessage { .. }));
    worker.shutdown.cancel();
    worker.done.await.unwrap();
}

#[tokio::test]
async fn a_name_that_the_certificate_does_not_say_is_refused() {
    let authority = Authority::generate("c").unwrap();
    let mut master = Master::secured(&authority).await;
    let own = authority.issue(Role::Worker, "tm-2", DAY).unwrap();
    let worker = Worker::secured(&master.address, &own, LONG);
    let ExitReason::Refused(text) = worker.done.await.unwrap() else { panic!("not refused") };
    let why = "its name is tm-1, its certificate says millstream://c/worker/tm-2";
    assert!(text.contains(why), "{text}");
    let own = authority.issue(Role::Worker, "tm-1", DAY).unwrap();
    let _worker = Worker::secured(&master.address, &own, LONG);
    assert!(matches!(master.heard().await, Heard::Registered(..)), "nobody came before");
}

#[tokio::test]
async fn strangers_stay_outside() {
    let authority = Authority::generate("c").unwrap();
    let mut master = Master::secured(&authority).await;
    let other = Authority::generate("c").unwrap();
    for (credentials, why) in [
        (other.issue(Role::Worker, "tm-1", DAY), "BadSignature"),
        (Authority::generate("d").unwrap().issue(Role::Worker, "tm-1", DAY), "UnknownIssuer"),
        (authority.issue(Role::Host, "tm-1", DAY), "CertificateUnknown"),
        (authority.issue(Role::Client, "tm-1", DAY), "CertificateUnknown"),
    ] {
        let worker = Worker::secured(&master.address, &credentials.unwrap(), SOON);
        let reason = worker.done.await.unwrap();
        assert!(reason.to_string().contains(why), "{reason}, not for {why}");
    }
    let plain = Worker::with_timeout(&master.address, SOON);
    let reason = plain.done.await.unwrap();
    assert!(!matches!(reason, ExitReason::Shutdown), "{reason}");
    let own = authority.issue(Role::Worker, "tm-1", DAY).unwrap();
    let _worker = Worker::secured(&master.address, &own, LONG);
    assert!(matches!(master.heard().await, Heard::Registered(..)), "nobody came before");
}

#[tokio::test]
async fn a_worker_talks_to_no_impostor() {
    let authority = Authority::generate("c").unwrap();
    let own = authority.issue(Role::Worker, "tm-1", DAY).unwrap();
    let mut other = Master::secured(&Authority::generate("c").unwrap()).await;
    let mut plain = Master::start(1).await;
    for (address, why) in [(&other.address, "BadSignature"), (&plain.address, "reached")] {
        let worker = Worker::secured(address, &own, SOON);
        let reason = worker.done.await.unwrap();
        assert!(reason.to_string().contains(why), "{reason}, not for {why}");
    }
    for master in [&mut other, &mut plain] {
        let heard = tokio::time::timeout(Duration::from_millis(10), master.heard()).await;
        assert!(heard.is_err(), "{heard:?}");
    }
}

#[tokio::test]
async fn plain_half_and_silent_handshakes_end() {
    let authority = Authority::generate("c").unwrap();
    let mut master = Master::secured(&authority).await;
    let hello_of_giant_length = [0x16, 3, 1, 0xff, 0xff, 1, 0xff, 0xff, 0xff];
    for bytes in [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], b"GET / HTTP/1.1\r\n\r\n", &[0; 1000]] {
        let mut stream = TcpStream::connect(&master.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        // An alert of seven bytes, or nothing.
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(answer.len() <= 7, "{answer:?}");
    }
    let started = Instant::now();
    let mut open = Vec::new();
    for at in 0..60 {
        let mut stream = TcpStream::connect(&master.address).await.unwrap();
        stream.write_all(&hello_of_giant_length[..at % 10]).await.unwrap();
        open.push(stream);
    }
    let own = authority.issue(Role::Worker, "tm-1", DAY).unwrap();
    let _worker = Worker::secured(&master.address, &own, LONG);
    assert!(matches!(master.heard().await, Heard::Registered(..)));
    for mut stream in open {
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(LONG, stream.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "it is still open");
    }
    assert!(started.elapsed() < LONG, "each has the same deadline");
}
