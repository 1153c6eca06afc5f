//! Question: what does a record cost between two tasks, without the work of the tasks?
//!
//! Method: one producer and one consumer take turns on one thread, so that no time of waiting is in
//! the figure: eight full batches are sent, then received. In one process a batch changes hands;
//! between processes (two exchanges that speak over loopback here) it is encoded, written, read and
//! decoded, and the kernel's share and two threads of input and output are in the time.
//!
//! Machine: any; figures are comparable on one machine only.
//!
//! Bound on paper: handing over is two short critical sections per batch of 1,024 records, below
//! 0.1 ns per record, plus filling the batch, 16 bytes at 10 GB/s, 1.6 ns. Over TCP a record of 100
//! bytes is copied four times, user to kernel and back included, at about 10 GB/s: 40 ns; one of 16
//! bytes 6 ns, and the codec's 3 to 6 ns.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use millstream_benches::records::{Wide, scramble};
use millstream_benches::rows::SEED;
use millstream_network::{
    Batch, ChannelId, ChannelLayout, ChannelWriter, Data, Exchange, ExchangeConfig, Generation,
    Inbox, InputChannels, PeerAddress, Received, TaskCounters, batch_capacity,
};
use millstream_security::{Authority, Role, Secret};
use millstream_types::HostId;

const BATCHES: u32 = 8;
const LIFETIME: Duration = Duration::from_secs(3600);
const CHANNEL: ChannelId = ChannelId { edge: 1, from: 0, to: 0, generation: Generation::FIRST };

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Both ends of one channel, and the exchanges that keep it alive.
struct Ends<T> {
    writer: ChannelWriter<T>,
    inbox: Arc<Inbox<T>>,
    _exchanges: Vec<Exchange>,
}

fn config(host: HostId, bind: Option<SocketAddr>) -> ExchangeConfig {
    let bind = bind.into_iter().collect();
    let (generation, token) = (Generation::FIRST, Secret::new([7; 32]));
    ExchangeConfig {
        host,
        generation,
        token,
        credentials: None,
        bind,
        layout: ChannelLayout::all_to(1),
    }
}

fn ends<T: Data>(producer: Exchange, consumer: Option<Exchange>, from: HostId) -> Ends<T> {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let counters = Arc::new(TaskCounters::default());
    let input = vec![InputChannels::one(CHANNEL, from)];
    let inbox = Inbox::new(input, 2 * BATCHES, waker.clone(), Arc::clone(&counters));
    let writer = producer.writer(CHANNEL, waker, counters);
    consumer.as_ref().unwrap_or(&producer).attach(&inbox);
    Ends { writer, inbox, _exchanges: std::iter::once(producer).chain(consumer).collect() }
}

fn in_process<T: Data>() -> Ends<T> {
    let host = HostId::from_u128(1);
    let exchange = Exchange::start(config(host, None)).expect("no port is opened");
    ends(exchange, None, host)
}

fn over_tcp<T: Data>(authority: Option<&Authority>) -> Ends<T> {
    let bind = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let (one, other) = (HostId::from_u128(1), HostId::from_u128(2));
    let start = |host| {
        let issue = |it: &Authority| it.issue(Role::Host, &format!("job/{host}"), LIFETIME);
        let credentials = authority.map(|it| issue(it).expect("the name is short"));
        let config = ExchangeConfig { credentials, ..config(host, bind) };
        Exchange::start(config).expect("loopback has a free port")
    };
    let (from, to) = (start(one), start(other));
    let address = |exchange: &Exchange| exchange.address().expect("it listens").to_string();
    from.connect([PeerAddress { host: other, address: address(&to) }]);
    to.connect([PeerAddress { host: one, address: address(&from) }]);
    ends(from, Some(to), one)
}

fn exchange<T: Data>(
    criterion: &mut Criterion,
    name: &str,
    mut ends: Ends<T>,
    make: impl Fn(u64) -> T,
) {
    let capacity = batch_capacity::<T>() as u64;
    let mut group = criterion.benchmark_group("exchange");
    group.throughput(Throughput::Elements(u64::from(BATCHES) * capacity));
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            for _ in 0..BATCHES {
                let batch = Batch::of((0..capacity).map(&make).collect());
                ends.writer.send_batch(batch).expect("the consumer lives");
            }
            let mut missing = BATCHES;
            while missing > 0 {
                match ends.inbox.receive().expect("the producer lives") {
                    Received::Batch(..) => missing -= 1,
                    Received::Event(..) => {}
                    Received::Nothing => {
                        // Credits may have come instead of records.
                        ends.writer.drain().expect("the consumer lives");
                        std::thread::park();
                    }
                }
            }
        });
    });
    group.finish();
}

fn all(criterion: &mut Criterion) {
    let pair = |index| (scramble(SEED, index), index);
    let wide = |index| Wide::new(SEED, index);
    exchange(criterion, "in_process/16_bytes", in_process(), pair);
    exchange(criterion, "in_process/100_bytes", in_process(), wide);
    exchange(criterion, "tcp/16_bytes", over_tcp(None), pair);
    exchange(criterion, "tcp/100_bytes", over_tcp(None), wide);
    let authority = Authority::generate("bench").expect("the system has random numbers");
    exchange(criterion, "tls/16_bytes", over_tcp(Some(&authority)), pair);
    exchange(criterion, "tls/100_bytes", over_tcp(Some(&authority)), wide);
}

criterion_group!(benches, all);
criterion_main!(benches);
