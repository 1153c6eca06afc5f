//! Two hosts on loopback: credits, order, loss, and strangers at the door.

#![expect(clippy::unwrap_used, reason = "a test ends where a step fails")]
#![expect(clippy::disallowed_methods, reason = "it waits by the system's clock")]

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use millstream_network::*;
use millstream_security::{Authority, Credentials, Role, Secret};
use millstream_types::{Barrier, BarrierKind, CheckpointId, HostId, LeaderEpoch, Timestamp};

const TOKEN: [u8; 32] = [9; 32];
const GENERATION: Generation = Generation { epoch: LeaderEpoch::new(1), attempt: 1 };

const DAY: Duration = Duration::from_secs(86_400);

fn host(number: u128, credentials: Option<Credentials>) -> Exchange {
    Exchange::start(ExchangeConfig {
        host: HostId::from_u128(number),
        generation: GENERATION,
        token: Secret::new(TOKEN),
        credentials,
        bind: vec!["127.0.0.1:0".parse().unwrap()],
        layout: ChannelLayout::all_to(1),
    })
    .unwrap()
}

/// The certificate of a host of this job.
fn of_job(authority: &Authority, job: &str, number: u128) -> Option<Credentials> {
    let name = format!("{job}/{}", HostId::from_u128(number));
    Some(authority.issue(Role::Host, &name, DAY).unwrap())
}

#[test]
fn the_first_free_port_of_a_range_is_the_data_port() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = |bind| ExchangeConfig {
        host: HostId::from_u128(1),
        generation: GENERATION,
        token: Secret::new([7; 32]),
        credentials: None,
        bind,
        layout: ChannelLayout::all_to(1),
    };
    let taken = taken.local_addr().unwrap();
    let exchange = Exchange::start(config(vec![taken, free])).unwrap();
    assert_eq!(exchange.address(), Some(free));
    let error = Exchange::start(config(vec![taken, free])).unwrap_err().to_string();
    assert_eq!(error, format!("failed to open the data port on {taken} and the 1 after it"));
}

fn connected(low: Exchange, high: Exchange) -> (Exchange, Exchange) {
    for (from, to, number) in [(&low, &high, 2), (&high, &low, 1)] {
        let address = to.address().unwrap().to_string();
        from.connect([PeerAddress { host: HostId::from_u128(number), address }]);
    }
    (low, high)
}

fn pair() -> (Exchange, Exchange) {
    connected(host(1, None), host(2, None))
}

fn secured_pair() -> (Exchange, Exchange) {
    let authority = Authority::generate("c").unwrap();
    connected(host(1, of_job(&authority, "j", 1)), host(2, of_job(&authority, "j", 2)))
}

const PAIRS: [fn() -> (Exchange, Exchange); 2] = [pair, secured_pair];

const CHANNEL: ChannelId = ChannelId { edge: 3, from: 1, to: 0, generation: GENERATION };

type Record = (u64, String);

fn ends(low: &Exchange, high: &Exchange) -> (ChannelWriter<Record>, Arc<Inbox<Record>>) {
    ends_with(low, high, 4)
}

fn ends_with(
    low: &Exchange,
    high: &Exchange,
    credits: u32,
) -> (ChannelWriter<Record>, Arc<Inbox<Record>>) {
    let writer = low.writer(CHANNEL, Waker::noop().clone(), Arc::default());
    let input = vec![InputChannels::one(CHANNEL, HostId::from_u128(1))];
    let inbox = Inbox::new(input, credits, Waker::noop().clone(), Arc::default());
    high.attach(&inbox);
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
    PAIRS.into_iter().for_each(|pair| in_order(pair()));
}

fn in_order((low, high): (Exchange, Exchange)) {
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
    writer.send_event(Event::EndOfInput).unwrap();
    eventually(|| (writer.drain().unwrap() == Flow::Ready).then_some(()));
    assert!(matches!(next(&inbox), Received::Event(0, Event::EndOfInput)));
}

/// Both ends of a channel inside one process.
fn within(exchange: &Exchange) -> (ChannelWriter<Record>, Arc<Inbox<Record>>) {
    let channel = ChannelId { edge: 4, ..CHANNEL };
    let writer = exchange.writer(channel, Waker::noop().clone(), Arc::default());
    let inbox = Inbox::new(
        vec![InputChannels::one(channel, HostId::from_u128(1))],
        4,
        Waker::noop().clone(),
        Arc::default(),
    );
    exchange.attach(&inbox);
    (writer, inbox)
}

const fn watermark(time: i64) -> Event {
    Event::Watermark(Timestamp::from_millis(time))
}

#[test]
fn watermarks_behind_a_stalled_consumer_take_no_room_and_the_last_one_arrives() {
    let (low, high) = pair();
    for (mut writer, inbox) in [ends(&low, &high), within(&low)] {
        writer.send_batch(Batch::of(vec![(1, String::new())])).unwrap();
        eventually(|| (writer.drain().unwrap() == Flow::Ready).then_some(()));
        for time in 0..20_000 {
            writer.send_event(watermark(time)).unwrap();
        }
        assert!(inbox.waiting() <= 4, "{} wait at the consumer", inbox.waiting());
        assert_eq!(writer.waiting(), 1, "a newer watermark takes the place of one before it");
        assert!(matches!(next(&inbox), Received::Batch(..)));
        let mut last = None;
        while last != Some(watermark(19_999)) {
            writer.drain().unwrap();
            if let Received::Event(0, event) = inbox.receive().unwrap() {
                last = Some(event);
            }
        }
    }
}

#[test]
fn events_keep_their_place_among_the_records_of_a_slow_consumer() {
    let (low, high) = pair();
    for (mut writer, inbox) in [ends(&low, &high), within(&low)] {
        let mut sent = Vec::new();
        for number in 0..100 {
            writer.send_batch(Batch::of(vec![(number, String::new())])).unwrap();
            let checkpoint = CheckpointId::new(number);
            let barrier = Event::Barrier(Barrier::new(checkpoint, BarrierKind::Checkpoint));
            writer.send_event(barrier).unwrap();
            writer.send_event(Event::Idle(true)).unwrap();
            writer.send_event(Event::Idle(false)).unwrap();
            sent.extend([format!("{number}"), format!("{barrier:?}")]);
        }
        let mut received = Vec::new();
        while received.len() < sent.len() {
            writer.drain().unwrap();
            match inbox.receive().unwrap() {
                Received::Batch(_, batch) => received.push(batch.records()[0].0.to_string()),
                Received::Event(_, Event::Idle(_)) | Received::Nothing => {}
                Received::Event(_, event) => received.push(format!("{event:?}")),
            }
        }
        assert_eq!(received, sent);
    }
}

#[test]
fn a_batch_of_long_records_takes_as_many_credits_as_it_has_frames() {
    PAIRS.into_iter().for_each(|pair| long_records(pair()));
}

fn long_records((low, high): (Exchange, Exchange)) {
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
fn large_batches_take_the_room_of_several_and_none_is_stuck() {
    PAIRS.into_iter().for_each(|pair| {
        let (low, high) = pair();
        let (writer, inbox) = ends_with(&low, &high, 8);
        sizes(writer, &inbox);
    });
    let exchange = host(1, None);
    let (writer, inbox) = ends_with(&exchange, &exchange, 8);
    sizes(writer, &inbox);
}

fn sizes(mut writer: ChannelWriter<Record>, inbox: &Inbox<Record>) {
    let batch = |number: u64, bytes| Batch::of(vec![(number, "x".repeat(bytes))]);
    eventually(|| writer.is_awaited().then_some(()));
    for number in 0..4 {
        writer.send_batch(batch(number, 400_000)).unwrap();
    }
    eventually(|| (inbox.waiting() == 2).then_some(()));
    std::thread::sleep(Duration::from_millis(20));
    writer.drain().unwrap();
    assert_eq!((inbox.waiting(), writer.waiting()), (2, 2), "six of eight credits are not used");
    assert!(!writer.is_awaited());
    for number in 0..4 {
        assert_eq!(next_batch(&mut writer, inbox).records()[0].0, number);
    }

    // Of any sizes in any order, with a consumer that takes what is there from time to time.
    let (mut seed, mut sent, mut taken) = (5u64, 0, 0);
    while taken < 400 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let bytes = [1, 3_000, 70_000, 130_000, 260_000, 600_000][(seed >> 33) as usize % 6];
        while sent < 400 && writer.drain().unwrap() == Flow::Ready {
            writer.send_batch(batch(sent, bytes)).unwrap();
            sent += 1;
        }
        for _ in 0..(seed >> 50) % 4 {
            if taken < sent {
                assert_eq!(next_batch(&mut writer, inbox).records()[0].0, taken);
                taken += 1;
            }
        }
    }
}

#[test]
fn a_host_that_goes_away_is_noticed_at_both_ends() {
    for pair in PAIRS {
        let (low, high) = pair();
        let (writer, _) = said_something(&low, &high);
        drop(high);
        eventually(|| writer.borrow_mut().drain().is_err().then_some(()));

        let (low, high) = pair();
        let (_, inbox) = said_something(&low, &high);
        drop(low);
        let error = eventually(|| inbox.receive().err());
        assert!(matches!(error, InboxError::Lost(_)), "{error}");
    }
}

/// Both ends of a channel through which a batch has come.
fn said_something(
    low: &Exchange,
    high: &Exchange,
) -> (RefCell<ChannelWriter<Record>>, Arc<Inbox<Record>>) {
    let (mut writer, inbox) = ends(low, high);
    writer.send_batch(Batch::of(vec![(1, String::new())])).unwrap();
    eventually(|| (writer.drain().unwrap() == Flow::Ready).then_some(()));
    assert!(matches!(next(&inbox), Received::Batch(..)));
    (RefCell::new(writer), inbox)
}

#[test]
fn both_directions_are_full_at_once() {
    for pair in PAIRS {
        let (low, high) = pair();
        let (low, high) = (Arc::new(low), Arc::new(high));
        let direction = |from: &Arc<Exchange>, to: &Arc<Exchange>, edge: u32, host: u128| {
            let (from, to) = (Arc::clone(from), Arc::clone(to));
            std::thread::spawn(move || one_direction(&from, &to, edge, host))
        };
        let up = direction(&low, &high, 5, 1);
        let down = direction(&high, &low, 6, 2);
        up.join().unwrap();
        down.join().unwrap();
    }
}

/// Short and long frames, more than any buffer on the way holds.
fn one_direction(from: &Exchange, to: &Exchange, edge: u32, host: u128) {
    let channel = ChannelId { edge, from: 0, to: 0, generation: GENERATION };
    let mut writer = from.writer(channel, Waker::noop().clone(), Arc::default());
    let inbox = Inbox::new(
        vec![InputChannels::one(channel, HostId::from_u128(host))],
        8,
        Waker::noop().clone(),
        Arc::default(),
    );
    to.attach(&inbox);
    let record = |number: u64| {
        let length = usize::try_from(number * 7919 % 90_001).unwrap();
        let letter = char::from(b'a' + u8::try_from(number % 26).unwrap());
        Batch::of(vec![(number, letter.to_string().repeat(length))])
    };
    let (mut sent, mut received) = (0, 0);
    while received < 3_000 {
        if sent < 3_000 && writer.drain().unwrap() == Flow::Ready {
            writer.send_batch(record(sent)).unwrap();
            sent += 1;
        }
        writer.drain().unwrap();
        if let Received::Batch(_, batch) = inbox.receive().unwrap() {
            assert!(batch == record(received), "batch {received} was changed on the way");
            received += 1;
        }
    }
}

/// Why a host that dials another one, of number 2, gets nothing from it.
fn refusal(dialling: Option<Credentials>, answering: Option<Credentials>) -> String {
    let (low, high) = connected(host(1, dialling), host(2, answering));
    let mut writer = high.writer(CHANNEL, Waker::noop().clone(), Arc::default());
    let inbox = Inbox::new(
        vec![InputChannels::one(CHANNEL, HostId::from_u128(2))],
        4,
        Waker::noop().clone(),
        Arc::default(),
    );
    low.attach(&inbox);
    writer.send_batch(Batch::of(vec![(1, String::new())])).unwrap();
    let error = eventually(|| match inbox.receive() {
        Ok(received) => {
            assert!(matches!(received, Received::<Record>::Nothing), "{received:?}");
            None
        }
        Err(error) => Some(error.to_string()),
    });
    assert_eq!(writer.drain().unwrap(), Flow::Full, "no credit came");
    error
}

#[test]
fn only_hosts_of_the_same_job_are_talked_to() {
    let authority = Authority::generate("c").unwrap();
    let good = |number| of_job(&authority, "j", number);
    let worker = |number| {
        let name = format!("j/{}", HostId::from_u128(number));
        Some(authority.issue(Role::Worker, &name, DAY).unwrap())
    };
    let other = Authority::generate("c").unwrap();
    for (dialling, answering, why) in [
        (of_job(&authority, "k", 1), good(2), "millstream://c/host/j%2F"),
        (good(1), of_job(&authority, "k", 2), "millstream://c/host/k%2F"),
        // Another host of the job says that it is this one.
        (good(3), good(2), "host"),
        (good(1), good(3), "is not let in here"),
        (worker(1), good(2), "CertificateUnknown"),
        (good(1), worker(2), "is not let in here"),
        (of_job(&other, "j", 1), good(2), "BadSignature"),
        (good(1), of_job(&other, "j", 2), "BadSignature"),
        (None, good(2), "host"),
        (good(1), None, "host"),
    ] {
        let text = refusal(dialling.clone(), answering.clone());
        assert!(text.contains(why), "{dialling:?} {answering:?}: {text}");
    }
}

#[test]
fn a_host_whose_certificate_ran_out_is_refused_until_it_is_renewed() {
    let authority = Authority::generate("c").unwrap();
    let good = |number| of_job(&authority, "j", number);
    let short = |number| {
        let name = format!("j/{}", HostId::from_u128(number));
        Some(authority.issue(Role::Host, &name, Duration::ZERO).unwrap())
    };
    let old = [short(1), short(2)];
    // Certificates count in seconds.
    std::thread::sleep(Duration::from_millis(1_100));
    let [first, second] = old.clone();
    assert!(refusal(first, good(2)).contains("Expired"));
    assert!(refusal(good(1), second).contains("Expired"));

    let hosts = [(1, &old[0]), (2, &old[1])].map(|(number, old)| {
        let host = host(number, old.clone());
        host.renew(good(number).unwrap()).unwrap();
        host
    });
    let [low, high] = hosts;
    let (low, high) = connected(low, high);
    let (mut writer, inbox) = ends(&low, &high);
    writer.send_batch(Batch::of(vec![(1, String::new())])).unwrap();
    assert_eq!(next_batch(&mut writer, &inbox).len(), 1);
}

#[test]
fn strangers_learn_nothing_and_do_no_harm() {
    PAIRS.into_iter().for_each(|pair| knock(pair()));
}

fn knock((low, high): (Exchange, Exchange)) {
    let (mut writer, inbox) = ends(&low, &high);
    let mut seed = 7u64;
    for round in millstream_soak::rounds("strangers at a data port", 0.03, 300, 20_000) {
        let mut stream = TcpStream::connect(high.address().unwrap()).unwrap();
        let mut bytes = vec![0; round as usize % 300];
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
        // TLS may say in seven bytes that it did not understand.
        let alert = answer.len() == 7 && answer[0] == 0x15;
        assert!(answer.is_empty() || alert, "the port answered a stranger: {answer:?}");
    }
    writer.send_batch(Batch::of(vec![(1, String::new())])).unwrap();
    eventually(|| (writer.drain().unwrap() == Flow::Ready).then_some(()));
    assert!(matches!(next(&inbox), Received::Batch(..)), "the port still works");
}

#[test]
fn a_barrier_overtakes_what_waits_at_its_sender_and_nothing_that_was_sent() {
    PAIRS.into_iter().for_each(|pair| overtaking(pair()));
}

fn overtaking((low, high): (Exchange, Exchange)) {
    let (mut writer, inbox) = ends(&low, &high);
    let mut sent = 0;
    let record = |number: u64| Batch::of(vec![(number, "x".to_owned())]);
    // All credits are used, and three batches wait.
    eventually(|| {
        writer.drain().unwrap();
        if writer.waiting() < 3 {
            writer.send_batch(record(sent)).unwrap();
            sent += 1;
        }
        (writer.waiting() == 3 && inbox.waiting() == 4).then_some(())
    });
    let gate = Gate::new(Arc::clone(&inbox));
    assert!(!gate.is_overtaken());
    let barrier = Barrier::new(CheckpointId::new(7), BarrierKind::Unaligned);
    let mut noted = Vec::new();
    let note = |element: &Element<Record>| {
        if let Element::Data(batch) = element {
            noted.extend(batch.records().iter().map(|(number, _)| *number));
        }
        Ok(())
    };
    writer.overtake(barrier, note).unwrap();
    assert_eq!(noted, [sent - 3, sent - 2, sent - 1]);
    assert_eq!(writer.waiting(), 3, "what it has overtaken is still to be sent");
    eventually(|| gate.is_overtaken().then_some(()));
    for number in 0..sent - 3 {
        assert_eq!(next_batch(&mut writer, &inbox).records()[0].0, number);
    }
    assert!(matches!(next(&inbox), Received::Event(0, Event::Barrier(it)) if it == barrier));
    for number in sent - 3..sent {
        assert_eq!(next_batch(&mut writer, &inbox).records()[0].0, number);
    }
}
