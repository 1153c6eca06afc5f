//! Writers of exchanges: both ends agree, and what a stalled consumer does not take is bounded.

use std::sync::Arc;
use std::task::Waker;

use millstream_graph::sources;
use millstream_network::{
    ChannelId, ChannelLayout, ExchangeConfig, Generation, Inbox, InputChannels,
};
use millstream_security::Secret;
use millstream_types::HostId;

use super::*;
use crate::task::OUTPUT_BYTES;

#[test]
fn both_ends_agree_on_the_channels() {
    for partitioner in
        [Partitioner::Forward, Partitioner::Global, Partitioner::Rescale, Partitioner::Rebalance]
    {
        for (producers, consumers) in (0..400).map(|n| (n / 20 + 1, n % 20 + 1)) {
            if partitioner == Partitioner::Forward && producers != consumers {
                continue;
            }
            for to in 0..consumers {
                let sources = sources(partitioner, to, producers, consumers);
                for from in 0..producers {
                    let targets = targets(partitioner, from, producers, consumers);
                    assert_eq!(targets.contains(&to), sources.contains(&from));
                }
            }
        }
    }
}

/// A writer over one lane, and the inbox at its end.
fn one_lane(timeout: Duration) -> (ExchangeWriter<u64, OneLane>, Arc<Inbox<u64>>) {
    let config = ExchangeConfig {
        host: HostId::from_u128(1),
        generation: Generation::FIRST,
        token: Secret::new([0; 32]),
        credentials: None,
        bind: Vec::new(),
        layout: ChannelLayout::all_to(1),
    };
    let exchange = Exchange::start(config).unwrap();
    let id = ChannelId { edge: 0, from: 0, to: 0, generation: Generation::FIRST };
    let waker = Waker::noop().clone();
    let input = vec![InputChannels::one(id, HostId::from_u128(1))];
    let inbox = Inbox::new(input, 8, waker.clone(), Arc::default());
    exchange.attach(&inbox);
    let channel = exchange.writer(id, waker, Arc::default());
    let lanes = Lanes::new(vec![channel], OUTPUT_BYTES, false);
    (
        ExchangeWriter {
            route: OneLane,
            lanes,
            timeout: Some(timeout),
            due: None,
            overtaken: None,
        },
        inbox,
    )
}

/// Between two steps of a task that has input.
const fn busy(now: Instant) -> Moment {
    Moment { now, idle: false }
}

#[test]
fn a_slow_stream_behind_a_stalled_consumer_does_not_fill_the_writer() {
    let timeout = Duration::from_millis(100);
    let (mut writer, _stalled) = one_lane(timeout);
    let mut now = Instant::now();
    let mut flow = Flow::Ready;
    for record in 0..1_000 {
        if flow == Flow::Full {
            flow = writer.resume().unwrap();
            continue;
        }
        assert_eq!(writer.push(Batch::of(vec![record])).unwrap(), Flow::Ready);
        assert_eq!(writer.on_time(busy(now)).unwrap(), Flow::Ready);
        now += timeout;
        assert_eq!(writer.next_time(), Some(now));
        flow = writer.on_time(busy(now)).unwrap();
    }
    let waiting = writer.lanes.waiting();
    assert!(waiting <= 1, "{waiting} batches wait for credits");
}
