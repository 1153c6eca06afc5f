//! Writers of exchanges: their outputs are channels, whose consumers take what a schedule says.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use millstream_graph::{EdgeId, Partitioner};
use millstream_network::{
    Batch, ChannelId, Event, Exchange, ExchangeConfig, Flow, Generation, Inbox, Received,
};
use millstream_security::Secret;
use millstream_types::{HostId, MaxParallelism};

use super::cases::{task, to_all};
use super::probe::Item;
use super::schedule::{Act, Schedule};
use super::stages::{Expected, Oracle, compare, each};
use super::{Case, key, number, record, roll};
use crate::stage::{Stage, reveal};
use crate::writer::{WriterContext, broadcast, by_function, plain};

pub(super) const HOST: HostId = HostId::from_u128(1);

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

/// The channels of a process that runs alone.
pub(super) fn exchange() -> Exchange {
    Exchange::start(ExchangeConfig {
        host: HOST,
        generation: Generation::FIRST,
        token: Secret::new([0; 32]),
        credentials: None,
        bind: Vec::new(),
    })
    .unwrap()
}

/// The other end of a lane.
struct Consumer {
    id: ChannelId,
    inbox: Arc<Inbox<u64>>,
    is_attached: bool,
    seen: Vec<Item>,
    compared: usize,
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

struct Run {
    stage: Box<dyn Stage<u64>>,
    exchange: Exchange,
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
}

type Wrap = fn(Box<dyn Stage<u64>>) -> Box<dyn Stage<u64>>;

impl Run {
    fn new(partitioner: Partitioner, schedule: &Schedule, wrap: Wrap) -> Self {
        let setting = Setting::of(partitioner, schedule.seed);
        let exchange = exchange().encoding_always(setting.encodes_always);
        let bell = Arc::new(Bell::default());
        let mut task = task(false);
        task.waker = Waker::from(Arc::clone(&bell));
        task.buffer_timeout = setting.timeout;
        let ctx = WriterContext {
            task: &task,
            exchange: &exchange,
            edge: EdgeId(0),
            partitioner,
            target_parallelism: setting.lanes,
            target_max_parallelism: MaxParallelism::DEFAULT,
            timed: false,
        };
        let stage = match partitioner {
            Partitioner::Broadcast => broadcast::<u64>(&ctx),
            Partitioner::Custom | Partitioner::Hash => by_function(&ctx, choose),
            Partitioner::Forward
            | Partitioner::Global
            | Partitioner::Rebalance
            | Partitioner::Rescale => plain::<u64>(&ctx).unwrap(),
        };
        let consumers = (0..setting.lanes).map(|to| {
            let id = ChannelId { edge: 0, from: 0, to, generation: Generation::FIRST };
            let (waker, counters) = (Waker::noop().clone(), Arc::default());
            let inbox = Inbox::new(&[id], setting.credits, waker, counters);
            Consumer { id, inbox, is_attached: false, seen: Vec::new(), compared: 0 }
        });
        let consumers = consumers.collect();
        let mut run = Self {
            stage: wrap(reveal(stage).unwrap()),
            exchange,
            consumers,
            bell,
            is_full: false,
            next: 0,
            expected: Expected::new(oracle(partitioner, setting.lanes)),
            spreads: partitioner == Partitioner::Rebalance,
            timeout: setting.timeout,
            now: Instant::now(),
        };
        if !setting.attaches_late {
            for at in 0..run.consumers.len() {
                run.attach(at);
            }
        }
        run
    }

    /// Brings a consumer to its channel; `false` if it is there.
    fn attach(&mut self, at: usize) -> bool {
        let consumer = &mut self.consumers[at];
        let is_new = !std::mem::replace(&mut consumer.is_attached, true);
        if is_new {
            self.exchange.attach(&consumer.inbox, &[(consumer.id, HOST)]);
        }
        is_new
    }

    /// A consumer takes so many deliveries; whether that was anything.
    fn take(&mut self, at: usize, deliveries: usize) -> Result<bool, String> {
        let mut took = self.attach(at);
        let consumer = &mut self.consumers[at];
        for _ in 0..deliveries {
            match consumer.inbox.receive().map_err(|error| error.to_string())? {
                Received::Nothing => break,
                Received::Batch(_, batch) => {
                    consumer.seen.extend(batch.into_records().into_iter().map(Item::Record));
                }
                Received::Event(_, event) => consumer.seen.push(event.into()),
            }
            took = true;
        }
        Ok(took)
    }

    fn take_all(&mut self) -> Result<(), String> {
        (0..self.consumers.len()).try_for_each(|at| self.take(at, usize::MAX).map(|_| ()))
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

    /// Consumers take by turns until the writer is ready, also after a look at the time.
    fn make_ready(&mut self) -> Result<(), String> {
        loop {
            while self.is_full {
                self.wait_for_the_bell()?;
                self.call(|stage| stage.resume())?;
            }
            // As a slot does after each step.
            let now = self.now;
            self.call(|stage| stage.on_time(now))?;
            if !self.is_full {
                return Ok(());
            }
        }
    }

    fn wait_for_the_bell(&mut self) -> Result<(), String> {
        let lanes = self.consumers.len();
        while !self.bell.is_rung() {
            let mut took = false;
            for _ in 0..lanes {
                self.next = (self.next + 1) % lanes;
                took = self.take(self.next, 1)?;
                if took {
                    break;
                }
            }
            if !took {
                return Err("it is full, its consumers have nothing, and nothing woke it".into());
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
        self.take_all()?;
        self.check(false)?;
        // A ready writer holds nothing that waits for credits: resuming it sends nothing.
        let before: usize = self.consumers.iter().map(|consumer| consumer.seen.len()).sum();
        self.call(|stage| stage.resume())?;
        self.take_all()?;
        let after: usize = self.consumers.iter().map(|consumer| consumer.seen.len()).sum();
        if before != after {
            return Err("it was ready although something waited for credits".to_owned());
        }
        if self.timeout.is_none() {
            return Ok(());
        }
        while let Some(due) = self.stage.next_time() {
            self.now = self.now.max(due);
            self.make_ready()?;
        }
        self.take_all()?;
        self.check(true)
    }
}

const fn place(item: &Item) -> u64 {
    match item {
        Item::Record(record) => number(*record),
        Item::Event(..) => 0,
    }
}

fn choose(record: &u64, lanes: usize) -> usize {
    key(*record) as usize % lanes
}

fn oracle(partitioner: Partitioner, lanes: u32) -> Box<dyn Oracle> {
    match partitioner {
        Partitioner::Broadcast => Box::new(to_all),
        Partitioner::Custom | Partitioner::Hash => {
            Box::new(move |record, outputs: &mut [Vec<Item>]| {
                outputs[choose(&record, lanes as usize)].push(Item::Record(record));
            })
        }
        Partitioner::Forward
        | Partitioner::Global
        | Partitioner::Rebalance
        | Partitioner::Rescale => each(|record| vec![record]),
    }
}

/// Does to a writer what a schedule says.
pub(super) fn drive(
    partitioner: Partitioner,
    schedule: &Schedule,
    wrap: Wrap,
) -> Result<(), String> {
    let mut run = Run::new(partitioner, schedule, wrap);
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
                run.call(|stage| stage.push(Batch::of(records)))?;
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
    run.take_all()?;
    run.check(true)
}

pub(super) fn cases() -> Vec<Case> {
    let case = |name, partitioner| {
        Case::new(name, move |schedule| drive(partitioner, schedule, |stage| stage))
    };
    vec![
        case("forward", Partitioner::Forward),
        case("rebalance", Partitioner::Rebalance),
        case("broadcast", Partitioner::Broadcast),
        case("custom", Partitioner::Custom),
    ]
}
