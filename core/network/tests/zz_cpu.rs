//! ad hoc
#![allow(clippy::unwrap_used)]
use millstream_network::*;
use millstream_security::{Authority, Credentials, Role, Secret};
use millstream_types::HostId;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let rest = stat.rsplit(')').next().unwrap();
    let f: Vec<&str> = rest.split_whitespace().collect();
    (f[11].parse::<f64>().unwrap() + f[12].parse::<f64>().unwrap()) / 100.0
}
fn host(number: u128, credentials: Option<Credentials>) -> Exchange {
    Exchange::start(ExchangeConfig {
        host: HostId::from_u128(number),
        token: Secret::new([9; 32]),
        credentials,
        bind: Some("127.0.0.1:0".parse().unwrap()),
    })
    .unwrap()
}
fn run(name: &str, low: Exchange, high: Exchange, length: usize, total: usize) {
    for (from, to, number) in [(&low, &high, 2), (&high, &low, 1)] {
        let address = to.address().unwrap().to_string();
        from.connect([PeerAddress { host: HostId::from_u128(number), address }]);
    }
    let channel = ChannelId { edge: 3, from: 1, to: 0 };
    let mut writer = low.writer::<Vec<u8>>(channel, Waker::noop().clone(), Arc::default());
    let inbox =
        Inbox::<Vec<u8>>::new(&[channel.number()], 16, Waker::noop().clone(), Arc::default());
    high.attach(&inbox, &[(channel, HostId::from_u128(1))]);
    let per = 32 * 1024 / length;
    let batches = total / (per * length);
    let (mut sent, mut got) = (0, 0);
    let (c, t) = (cpu(), Instant::now());
    while got < batches {
        while sent < batches && writer.drain().unwrap() == Flow::Ready {
            writer.send_batch(Batch::of(vec![vec![7u8; length]; per])).unwrap();
            sent += 1;
        }
        match inbox.receive().unwrap() {
            Received::Batch(..) => got += 1,
            _ => {
                std::thread::sleep(Duration::from_micros(20));
            }
        }
    }
    let mb = total as f64 / 1e6;
    println!(
        "{name} {length}: {:.0} MB/s wall, {:.0} MB per cpu-second",
        mb / t.elapsed().as_secs_f64(),
        mb / (cpu() - c)
    );
}
#[test]
fn cpu_per_byte() {
    let authority = Authority::generate("c").unwrap();
    let c = |n: u128| {
        Some(
            authority
                .issue(
                    Role::Host,
                    &format!("j/{}", HostId::from_u128(n)),
                    Duration::from_secs(1000),
                )
                .unwrap(),
        )
    };
    for _ in 0..3 {
        run("plain", host(1, None), host(2, None), 4096, 2_000_000_000);
        run("tls", host(1, c(1)), host(2, c(2)), 4096, 2_000_000_000);
    }
}
