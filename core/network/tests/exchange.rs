//! Two hosts on loopback: credits, order, loss, and strangers at the door.

#![expect(clippy::unwrap_used, reason = "a test ends where a step fails")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use millstream_network::*;
use millstream_types::HostId;

const TOKEN: [u8; 32] = [9; 32];

fn host(number: u128) -> Exchange {
    Exchange::start(ExchangeConfig {
        host: HostId::from_u128(number),
        token: TOKEN,
        bind: Some("127.0.0.1:0".parse().unwrap()),
    })
    .unwrap()
}

fn pair() -> (Exchange, Exchange) {
    let (low, high) = (host(1), host(2));
    for (from, to, number) in [(&low, &high, 2), (&high, &low, 1)] {
        let address = to.address().unwrap().to_string();
        from.connect([PeerAddress { host: HostId::from_u128(number), address }]);
    }
    (low, high)
}

const CHANNEL: ChannelId = ChannelId { edge: 3, from: 1, to: 0 };

type Record = (u64, String);

fn ends(low: &Exchange, high: &Exchange) -> (ChannelWriter<Record>, Arc<Inbox<Record>>) {
    let writer = low.writer(CHANNEL, Waker::noop().clone(), Arc::default());
    let inbox = Inbox::new(&[CHANNEL.number()], 4, Waker::noop().clone(), Arc::default());
    high.attach(&inbox, &[(CHANNEL, HostId::from_u128(1))]);
    (writer, inbox)
}

/// Tries until it gives a value, for at most ten seconds.
fn eventually<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(Instant::now() < deadline, "nothing happened for 10 s");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn next(inbox: &Inbox<Record>) -> Received<Record> {
    eventually(|| match inbox.receive().unwrap() {
        Received::Nothing => None,
        received => Some(received),
    })
}

/// The next batch, for which the writer may have to send first.
fn next_batch(writer: &mut ChannelWriter<Record>, inbox: &Inbox<Record>) -> Batch<Record> {
    eventually(|| {
        writer.drain().unwrap();
        match inbox.receive().unwrap() {
            Received::Batch(0, batch) => Some(batch),
            received => {
                assert!(matches!(received, Received::Nothing), "{received:?} came, no batch");
                None
            }
        }
    })
}

#[test]
fn batches_and_events_arrive_in_order_and_no_faster_than_they_are_read() {
    let (low, high) = pair();
    let (mut writer, inbox) = ends(&low, &high);
    let record = |number: u64| Batch::of(vec![(number, format!("record {number}"))]);
    let first = writer.send_batch(record(0)).unwrap();
    assert_eq!(first, Flow::Full, "there is no credit before the consumer is there");
    eventually(|| (writer.drain().unwrap() == Flow::Ready).then_some(()));
    for number in 1..4 {
        assert_eq!(writer.send_batch(record(number)).unwrap(), Flow::Ready);
    }
    assert_eq!(writer.send_batch(record(4)).unwrap(), Flow::Full, "four credits are used up");
    for number in 0..1000 {
        assert_eq!(next_batch(&mut writer, &inbox), record(number));
        if number + 5 < 1000 {
            writer.send_batch(record(number + 5)).unwrap();
        }
    }
    eventually(|| (writer.send_event(Event::EndOfInput).unwrap() == Flow::Ready).then_some(()));
    assert!(matches!(next(&inbox), Received::Event(0, Event::EndOfInput)));
}

#[test]
fn a_batch_of_long_records_takes_as_many_credits_as_it_has_frames() {
    let (low, high) = pair();
    let (mut writer, inbox) = ends(&low, &high);
    let record = |number: u64| (number, "x".repeat(1 << 20));
    let one = |number: u64| Batch::of(vec![record(number)]);
    writer.send_batch(Batch::of((0..10).map(record).collect())).unwrap();
    assert_eq!(next_batch(&mut writer, &inbox), one(0));
    assert_eq!(writer.drain().unwrap(), Flow::Full, "four credits are used up");
    for number in 1..10 {
        assert_eq!(next_batch(&mut writer, &inbox), one(number));
    }
    let mut buffer = Batch::of((10..20).map(record).collect());
    writer.send_all_of(&mut buffer).unwrap();
    assert!(buffer.is_empty(), "all of it was taken");
    for number in 10..20 {
        assert_eq!(next_batch(&mut writer, &inbox), one(number));
    }
    assert_eq!(writer.drain().unwrap(), Flow::Ready);
}

#[test]
fn a_host_that_goes_away_is_noticed_at_both_ends() {
    let (low, high) = pair();
    let (mut writer, inbox) = ends(&low, &high);
    writer.send_batch(Batch::of(vec![(1, String::new())])).unwrap();
    eventually(|| (writer.drain().unwrap() == Flow::Ready).then_some(()));
    assert!(matches!(next(&inbox), Received::Batch(..)));
    drop(high);
    eventually(|| writer.drain().is_err().then_some(()));

    let (low, high) = pair();
    let (mut writer, inbox) = ends(&low, &high);
    writer.send_batch(Batch::of(vec![(1, String::new())])).unwrap();
    eventually(|| (writer.drain().unwrap() == Flow::Ready).then_some(()));
    assert!(matches!(next(&inbox), Received::Batch(..)));
    drop(low);
    let error = eventually(|| inbox.receive().err());
    assert!(matches!(error, InboxError::Lost(_)), "{error}");
}

#[test]
fn strangers_learn_nothing_and_do_no_harm() {
    let (low, high) = pair();
    let (mut writer, inbox) = ends(&low, &high);
    let rounds = if std::env::var_os("MILLSTREAM_SOAK").is_some() { 20_000 } else { 300 };
    let mut seed = 7u64;
    for round in 0..rounds {
        let mut stream = TcpStream::connect(high.address().unwrap()).unwrap();
        let mut bytes = vec![0; round % 300];
        for byte in &mut bytes {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (seed >> 56) as u8;
        }
        if round % 7 == 0 && bytes.len() >= 4 {
            bytes[..4].fill(0xff);
        }
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert_eq!(answer, [0; 0], "the port answered a stranger");
    }
    writer.send_batch(Batch::of(vec![(1, String::new())])).unwrap();
    eventually(|| (writer.drain().unwrap() == Flow::Ready).then_some(()));
    assert!(matches!(next(&inbox), Received::Batch(..)), "the port still works");
}
