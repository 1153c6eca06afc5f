//! Strangers on every port: random bytes, giant lengths, half frames. Seeded, so that a failure can
//! be played again.

use std::collections::VecDeque;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use millstream::connectors::Random;
use millstream_integration::{Cluster, process_memory, scale};

use crate::neighbour::Neighbour;

/// So many connections are left open at once.
const OPEN_MAX: usize = 40;
/// The daemons may not grow by more.
const GROWTH_MAX: u64 = 64 << 20;

/// The beginnings that the ports' protocols know.
const BEGINNINGS: [&[u8]; 8] = [
    b"",
    b"GET /v1/overview HTTP/1.1\r\nHost: localhost\r\n",
    b"POST /v1/jars/upload HTTP/1.1\r\nHost: localhost\r\n\
      Content-Length: 18446744073709551615\r\n\r\n",
    b"POST /v1/millstream/jobs HTTP/1.1\r\nHost: localhost\r\n\
      Transfer-Encoding: chunked\r\n\r\nfffffff\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\x10\0\0\0",
];

/// The bytes of one stranger.
fn speech(random: &mut Random) -> Vec<u8> {
    let beginning = BEGINNINGS[usize::try_from(random.below(8)).unwrap()];
    let length = usize::try_from(random.below(9)).unwrap();
    let mut bytes = beginning.to_vec();
    // Nothing, a few bytes, or some thousands.
    let length = [0, 0, 1, 3, 4, 9, 64, 1_000, 20_000][length];
    bytes.extend(std::iter::repeat_with(|| random.below(256) as u8).take(length));
    if random.below(4) == 0 && bytes.len() >= beginning.len() + 8 {
        // An absurd length.
        let at = beginning.len();
        bytes[at..at + 4].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff]);
    }
    bytes
}

#[test]
fn strangers_on_every_port_disturb_nobody() {
    let mut cluster = Cluster::builder().task_managers(2).slots(1).start();
    let before = cluster.census();
    let memory: Vec<u64> =
        cluster.daemons().map(|daemon| process_memory(daemon.pid()).unwrap()).collect();
    // Runs as long as the strangers come, over both workers, so that their data ports are open.
    let records = scale(30_000, 600_000);
    let neighbour = Neighbour::start(&cluster, "neighbour", records, 5_000, &["-p", "2"]);
    let ports: Vec<u16> = cluster.census().ports.into_iter().collect();
    assert!(ports.len() >= 4, "{ports:?}");
    let mut open = VecDeque::new();
    for seed in 0..scale(1_000, 100_000) {
        let mut random = Random::new(seed, 0);
        let port = ports[usize::try_from(seed).unwrap() % ports.len()];
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        // A host's port is gone once its job has ended.
        let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(5)) else {
            continue;
        };
        stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        // It may be sent away before it has said all.
        let _ = stream.write_all(&speech(&mut random));
        if random.below(2) == 0 {
            open.push_back(stream);
        }
        if open.len() > OPEN_MAX {
            open.pop_front();
        }
    }
    cluster.assert_daemons_live();
    neighbour.finish_undisturbed();
    drop(open);
    // The artifact of the job goes some seconds after it.
    cluster.wait_until_as_before(&before, Duration::from_secs(10));
    for (daemon, before) in cluster.daemons().zip(memory) {
        let now = process_memory(daemon.pid()).unwrap();
        assert!(now <= before + GROWTH_MAX, "{} grew from {before} to {now}", daemon.name);
    }
}
