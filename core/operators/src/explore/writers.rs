//! Writers of exchanges: their outputs are channels, whose consumers take what a schedule says.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use millstream_graph::{EdgeId, Partitioner};
use millstream_network::{Event, Flow};
use millstream_types::{Key, KeyGroup, MaxParallelism};

use super::cases::{self, task, to_all};
use super::hosts::{Consumer, Hosts, Socket};
use super::probe::Item;
use super::schedule::{Act, Schedule};
use super::stages::{Expected, Oracle, compare, each};
use super::{Case, batch, key, number, record, roll};
use crate::stage::{Moment, Stage, reveal};
use crate::task::OUTPUT_BYTES;
use crate::writer::{WriterContext, broadcast, by_function, by_key, plain};

/// A waker that notes that it was called.
#[derive(Debug, Default)]
pub(super) struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }
}

impl Bell {
    pub(super) fn ring(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_rung(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn clear(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// The setting of a run; drawn from its seed.
struct Setting {
    lanes: u32,
    credits: u32,
    timeout: Option<Duration>,
    encodes_always: bool,
    attaches_late: bool,
}

impl Setting {
    fn of(partitioner: Partitioner, seed: u64) -> Self {
        let alone = matches!(partitioner, Partitioner::Forward);
        let timeout = match roll(seed, 12, 4) {
            0 => None,
            1 => Some(Duration::ZERO),
            _ => Some(Duration::from_millis(5)),
        };
        Self {
            lanes: if alone { 1 } else { 1 + roll(seed, 10, 3) as u32 },
            credits: 1 + roll(seed, 11, 3) as u32,
            timeout,
            encodes_always: roll(seed, 13, 2) == 0,
            attaches_late: roll(seed, 14, 4) == 0,
        }
    }
}

/// The bytes of the records that wait in an output; mostly few.
pub(super) fn output_bytes(seed: u64) -> usize {
    [50, 1_000, OUTPUT_BYTES, OUTPUT_BYTES][roll(seed, 23, 4) as usize]
}

struct Run {
    stage: Box<dyn Stage<u64>>,
    hosts: Hosts,
    consumers: Vec<Consumer>,
    bell: Arc<Bell>,
    is_full: bool,
    /// The next consumer that takes something when all are waited for.
    next: usize,
    expected: Expected,
    /// Records go round the lanes, so that it is open which one sees which.
    spreads: bool,
    timeout: Option<Duration>,
    now: Instant,
    /// Number of looks at the time.
    looks: u64,
    /// Quiet comes because the task is idle, and no time passes.
    idles: bool,
}

type Wrap = fn(Box<dyn Stage<u64>>) -> Box<dyn Stage<u64>>;

impl Drop for Run {
    fn drop(&mut self) {
        let channels: Vec<_> = self.consumers.iter().map(|consumer| consumer.id).collect();
        self.hosts.forget(&channels);
    }
}

/// The writer of an exchange.
pub(super) fn writer(ctx: &WriterContext<'_>) -> Box<dyn Stage<u64>> {
    let stage = match ctx.partitioner {
        Partitioner::Broadcast => broadcast::<u64>(ctx),
        Partitioner::Custom => by_function(ctx, choose),
        Partitioner::Hash => by_key(ctx, cases::by_key()),
        Partitioner::Forward
        | Partitioner::Global
        | Partitioner::Rebalance
        | Partitioner::Rescale => plain::<u64>(ctx),
    };
    let stage = stage.unwrap();
    reveal(stage).unwrap()
}

impl Run {
    fn new(partitioner: Partitioner, link: &Link, schedule: &Schedule, wrap: Wrap) -> Self {
        let setting = Setting::of(partitioner, schedule.seed);
        let hosts = link.hosts(schedule.seed, setting.encodes_always);
        let (edge, bell) = (hosts.edge(), Arc::new(Bell::default()));
        let mut task = task(false);
        task.waker = Waker::from(Arc::clone(&bell));
        task.buffer_timeout = setting.timeout;
        task.output_bytes = output_bytes(schedule.seed);
        let stage = writer(&WriterContext {
            task: &task,
            exchange: hosts.producers(),
            edge: EdgeId(edge),
            partitioner,
            target_parallelism: setting.lanes,
            target_max_parallelism: MaxParallelism::DEFAULT,
            timed: schedule.is_timed(),
            overtaken: None,
            sieves: false,
        });
        let consumers = 0..setting.lanes;
        let consumers = consumers.map(|to| Consumer::new(edge, to, setting.credits)).collect();
        let mut run = Self {
            stage: wrap(stage),
            hosts,
            consumers,
            bell,
            is_full: false,
            next: 0,
            expected: Expected::new(oracle(partitioner, setting.lanes), schedule.is_timed()),
            spreads: partitioner == Partitioner::Rebalance,
            timeout: setting.timeout,
            now: Instant::now(),
            looks: schedule.seed,
            idles: roll(schedule.seed, 19, 2) == 0,
        };
        if !setting.attaches_late {
            for consumer in &mut run.consumers {
                consumer.attach(&run.hosts);
            }
        }
        run
    }

    /// A consumer takes so many deliveries; whether that was anything, or something came nearer.
    fn take(&mut self, at: usize, deliveries: usize) -> Result<bool, String> {
        let consumer = &mut self.consumers[at];
        let is_new = consumer.attach(&self.hosts);
        let came = self.hosts.carry(false)?;
        Ok(consumer.take(deliveries)? | came | is_new)
    }

    /// Everything that was sent arrives; if that must be all, a socket is waited for.
    fn take_all(&mut self, all: bool) -> Result<(), String> {
        let since = Instant::now();
        loop {
            let mut came = self.hosts.carry(true)?;
            for consumer in &mut self.consumers {
                came |= consumer.attach(&self.hosts) | consumer.take(usize::MAX)?;
            }
            let waits = all && !self.has_all() && self.hosts.may_bring_more(since);
            if !came && !waits {
                return Ok(());
            }
        }
    }

    /// Whether as many items have arrived as there must be.
    fn has_all(&self) -> bool {
        let seen =
            |items: usize| self.consumers.iter().map(|c| c.seen.len()).sum::<usize>() >= items;
        let expected = self.expected.items();
        if !self.spreads {
            return seen(expected.iter().take(self.consumers.len()).map(Vec::len).sum());
        }
        let records = expected[0].iter().filter(|item| item.record().is_some()).count();
        seen(records + (expected[0].len() - records) * self.consumers.len())
    }

    fn call(
        &mut self,
        call: impl FnOnce(&mut dyn Stage<u64>) -> crate::Result<Flow>,
    ) -> Result<(), String> {
        self.bell.clear();
        let flow = call(&mut *self.stage).map_err(|error| format!("{error:#}"))?;
        self.is_full = flow == Flow::Full;
        Ok(())
    }

    /// As [`Self::make_ready_at`], between two steps of the task that may be idle.
    fn make_ready(&mut self) -> Result<(), String> {
        self.looks += 1;
        self.make_ready_at(Moment { now: self.now, idle: roll(self.looks, 18, 2) == 0 })
    }

    /// Consumers take by turns until the writer is ready, also after a look at the time.
    fn make_ready_at(&mut self, moment: Moment) -> Result<(), String> {
        loop {
            while self.is_full {
                self.wait_for_the_bell()?;
                self.call(|stage| stage.resume())?;
            }
            // As a slot does after each step.
            self.call(|stage| stage.on_time(moment))?;
            if !self.is_full {
                return Ok(());
            }
        }
    }

    fn wait_for_the_bell(&mut self) -> Result<(), String> {
        let (lanes, since) = (self.consumers.len(), Instant::now());
        while !self.bell.is_rung() {
            let mut took = false;
            for _ in 0..lanes {
                self.next = (self.next + 1) % lanes;
                took = self.take(self.next, 1)?;
                if took {
                    break;
                }
            }
            if !took && !self.hosts.may_bring_more(since) {
                return Err("its consumers have nothing, and nothing woke it".into());
            }
        }
        Ok(())
    }

    fn check(&mut self, all: bool) -> Result<(), String> {
        if self.spreads {
            return if all { self.check_spread() } else { Ok(()) };
        }
        for (at, consumer) in self.consumers.iter_mut().enumerate() {
            compare(at, &consumer.seen, &self.expected.items()[at], consumer.compared, all)?;
            consumer.compared = consumer.seen.len();
        }
        Ok(())
    }

    /// Between two events the lanes together have the records, each lane in order.
    fn check_spread(&self) -> Result<(), String> {
        let is_event = |item: &Item| matches!(item, Item::Event(..));
        let expected = &self.expected.items()[0];
        let mut parts: Vec<Vec<Item>> = vec![Vec::new(); expected.split(is_event).count()];
        for (at, consumer) in self.consumers.iter().enumerate() {
            let events =
                |items: &[Item]| items.iter().copied().filter(is_event).collect::<Vec<_>>();
            compare(at, &events(&consumer.seen), &events(expected), 0, true)?;
            for (part, items) in parts.iter_mut().zip(consumer.seen.split(is_event)) {
                if !items.is_sorted_by_key(place) {
                    return Err(format!("lane {at} saw records out of order"));
                }
                part.extend(items);
            }
        }
        for (part, should) in parts.iter_mut().zip(expected.split(is_event)) {
            part.sort_by_key(place);
            compare(0, part, should, 0, true)?;
        }
        Ok(())
    }

    /// Once all are ready and the time has passed, everything has arrived.
    fn check_quiet(&mut self) -> Result<(), String> {
        self.make_ready()?;
        self.take_all(false)?;
        self.check(false)?;
        // A ready writer holds nothing that waits for credits: resuming it sends nothing.
        let before: usize = self.consumers.iter().map(|consumer| consumer.seen.len()).sum();
        self.call(|stage| stage.resume())?;
        self.take_all(false)?;
        let after: usize = self.consumers.iter().map(|consumer| consumer.seen.len()).sum();
        if before != after && !matches!(self.hosts, Hosts::Socket(_)) {
            return Err("it was ready although something waited for credits".to_owned());
        }
        if self.timeout.is_none() {
            return Ok(());
        }
        // Either the time passes, or the task is idle and its consumers take what was sent.
        while let Some(due) = self.stage.next_time() {
            if self.idles {
                self.make_ready_at(Moment { now: self.now, idle: true })?;
                if self.stage.next_time().is_some() {
                    self.wait_for_the_bell()?;
                }
            } else {
                self.now = self.now.max(due);
                self.make_ready_at(Moment { now: self.now, idle: false })?;
            }
        }
        self.take_all(true)?;
        self.check(true)
    }
}

const fn place(item: &Item) -> u64 {
    match item {
        Item::Record(record) | Item::Timed(record, _) => number(*record),
        Item::Event(..) => 0,
    }
}

pub(super) fn choose(record: &u64, lanes: usize) -> usize {
    key(*record) as usize % lanes
}

/// The consumer that owns the record's key.
fn owner(record: u64, lanes: u32) -> usize {
    let group = KeyGroup::of_hash(key(record).stable_hash(), MaxParallelism::DEFAULT);
    group.owner(MaxParallelism::DEFAULT, lanes) as usize
}

fn oracle(partitioner: Partitioner, lanes: u32) -> Box<dyn Oracle> {
    match partitioner {
        Partitioner::Broadcast => Box::new(to_all),
        Partitioner::Custom => Box::new(move |record, outputs: &mut [Vec<Item>]| {
            outputs[choose(&record, lanes as usize)].push(Item::Record(record));
        }),
        Partitioner::Hash => Box::new(move |record, outputs: &mut [Vec<Item>]| {
            outputs[owner(record, lanes)].push(Item::Record(record));
        }),
        Partitioner::Forward
        | Partitioner::Global
        | Partitioner::Rebalance
        | Partitioner::Rescale => each(|record| vec![record]),
    }
}

/// Does to a writer what a schedule says.
pub(super) fn drive(
    partitioner: Partitioner,
    link: &Link,
    schedule: &Schedule,
    wrap: Wrap,
) -> Result<(), String> {
    let mut run = Run::new(partitioner, link, schedule, wrap);
    run.stage.open().map_err(|error| format!("{error:#}"))?;
    let mut next = 0;
    for act in &schedule.acts {
        match *act {
            Act::Batch { records, .. } => {
                run.make_ready()?;
                let numbers = (next..).take(records.into());
                let records: Vec<u64> = numbers.map(|n| record(schedule.seed, n)).collect();
                next += records.len() as u64;
                records.iter().for_each(|record| run.expected.record(*record));
                let batch = batch(records, schedule.is_timed());
                run.call(|stage| stage.push(batch))?;
            }
            Act::Event { event, .. } => {
                run.make_ready()?;
                run.expected.event(event);
                run.call(|stage| stage.event(event))?;
            }
            Act::Wait { ms } => {
                run.now += Duration::from_millis(ms.into());
                run.make_ready()?;
            }
            Act::Take { output, deliveries } => {
                let lane = usize::from(output) % run.consumers.len();
                run.take(lane, deliveries.into())?;
                if run.is_full && run.bell.is_rung() {
                    run.call(|stage| stage.resume())?;
                }
            }
            Act::Turn { .. } => run.check_quiet()?,
        }
        run.check(false)?;
    }
    run.make_ready()?;
    run.expected.event(Event::EndOfInput);
    run.call(|stage| stage.event(Event::EndOfInput))?;
    run.make_ready()?;
    run.take_all(true)?;
    run.check(true)
}

/// The way from the writer of a case to its consumers.
pub(super) enum Link {
    /// In the same process.
    Within,
    /// In another one. A faulty connection loses one in so many grants of credits.
    Between(Option<u64>),
    /// In another one, through a socket.
    Socket(Rc<Socket>),
}

impl Link {
    fn hosts(&self, seed: u64, encodes_always: bool) -> Hosts {
        match self {
            Self::Within => Hosts::one(encodes_always),
            Self::Between(loses) => Hosts::two(seed, *loses),
            Self::Socket(socket) => Hosts::Socket(Rc::clone(socket)),
        }
    }
}

pub(super) fn cases() -> Vec<Case> {
    let case = |name, partitioner, link| {
        Case::new(name, move |schedule| drive(partitioner, &link, schedule, |stage| stage))
    };
    vec![
        case("forward", Partitioner::Forward, Link::Within),
        case("rebalance", Partitioner::Rebalance, Link::Within),
        case("broadcast", Partitioner::Broadcast, Link::Within),
        case("custom", Partitioner::Custom, Link::Within),
        case("hash", Partitioner::Hash, Link::Within),
        case("hash to another process", Partitioner::Hash, Link::Between(None)),
        case("rebalance to another process", Partitioner::Rebalance, Link::Between(None)),
        case("broadcast to another process", Partitioner::Broadcast, Link::Between(None)),
        case("custom to another process", Partitioner::Custom, Link::Between(None)),
        case("custom through a socket", Partitioner::Custom, Link::Socket(Hosts::socket(false))),
        case("rebalance through TLS", Partitioner::Rebalance, Link::Socket(Hosts::socket(true))),
    ]
}
