//! A task as a whole: a source, an operator and the writers of three exchanges, whose consumers
//! take what comes as slowly as a schedule says.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::time::{Duration, Instant};

use millstream_connector::NoEnumerator;
use millstream_graph::{EdgeId, Partitioner};
use millstream_network::Batch;
use millstream_types::{MaxParallelism, OperatorId};

use super::bodies::{Script, Scripted, all_or_bad, results};
use super::cases::{BAD, Operator, bad, is_bad, task, to_nobody};
use super::hosts::{Consumer, Hosts};
use super::probe::{END, Item};
use super::schedule::{OUTPUTS_MAX, Schedule};
use super::stages::compare;
use super::writers::{Bell, choose, output_bytes, writer};
use super::{Case, record, roll, time_of};
use crate::flat_map::flat_map;
use crate::output::Outputs;
use crate::program::{Built, OperatorMaker};
use crate::side::SideBuffer;
use crate::source::source;
use crate::stage::{FanOut, Stage, erase};
use crate::task::{OperatorContext, Step, TaskBody, TaskContext, turn};
use crate::writer::WriterContext;

/// The exchanges: how records go to how many consumers. The first two have the results of the
/// operator, the last one the records that it refuses.
const EXCHANGES: [(Partitioner, u32); 3] =
    [(Partitioner::Custom, 3), (Partitioner::Forward, 1), (Partitioner::Broadcast, 2)];

/// The first consumers of the exchanges.
const FIRST: [usize; 3] = [0, 3, 4];

/// The results of a record, by consumer.
fn expect(record: u64, time: Option<i64>, consumers: &mut [Vec<Item>]) {
    if is_bad(record) {
        for consumer in &mut consumers[FIRST[2]..] {
            consumer.push(Item::Record(record).at(time));
        }
        return;
    }
    for result in results(record) {
        let item = Item::Record(result).at(time);
        consumers[choose(&result, EXCHANGES[0].1 as usize)].push(item);
        consumers[FIRST[1]].push(item);
    }
}

pub(super) type Wrap = fn(FanOut<u64>) -> Box<dyn Stage<u64>>;

/// The operators of the chain, in programs of their own.
struct Programs {
    source: Operator,
    flat_map: Operator,
    script: Arc<Mutex<Script>>,
}

impl Programs {
    fn new() -> Self {
        let script = Arc::<Mutex<Script>>::default();
        let scripted = Arc::new(Scripted::<NoEnumerator<()>>::new(Arc::clone(&script)));
        let source = Operator::of(OperatorMaker::source(source(&scripted, "source")));
        let flat_map = Operator::of_stage(flat_map(bad(), |_| Ok(all_or_bad)));
        Self { source, flat_map, script }
    }

    /// Builds the chain from its end.
    fn build(
        &self,
        task: &TaskContext,
        hosts: &Hosts,
        timed: bool,
        wrap: Wrap,
    ) -> Box<dyn TaskBody> {
        let [spread, along, aside] = std::array::from_fn(|at| {
            writer(&WriterContext {
                task,
                exchange: hosts.producers(),
                edge: EdgeId(at as u32),
                partitioner: EXCHANGES[at].0,
                target_parallelism: EXCHANGES[at].1,
                target_max_parallelism: MaxParallelism::DEFAULT,
                timed,
                overtaken: None,
                sieves: false,
            })
        });
        let main = wrap(FanOut { branches: vec![spread, along], clone: Batch::clone });
        let aside = SideBuffer::<u64>::erased(erase::<u64>(aside), timed).unwrap();
        let sides = vec![(BAD.name().to_owned(), aside)];
        let outputs = Outputs { main: Some(erase::<u64>(main)), sides, timed };
        let flat_map = self.flat_map.build(task, &to_nobody(), outputs);
        let outputs = Outputs { main: Some(erase::<u64>(flat_map)), sides: Vec::new(), timed };
        let ctx = OperatorContext {
            task,
            operator: OperatorId::from_u128(1),
            name: "source",
            to_coordinator: &to_nobody(),
            from_coordinator: &Arc::default(),
        };
        match self.source.program.build_operator(self.source.node, &ctx, None, outputs).unwrap() {
            Built::Body(body) => body,
            Built::Stage(_) => panic!("a source is a body"),
        }
    }
}

/// A slot with the task, and the consumers of its exchanges.
struct Run {
    body: Box<dyn TaskBody>,
    script: Arc<Mutex<Script>>,
    bell: Arc<Bell>,
    hosts: Hosts,
    consumers: Vec<Consumer>,
    /// For each consumer: for how many rounds it takes nothing after each delivery.
    stalls: Vec<VecDeque<u8>>,
    stalled: Vec<u8>,
    /// Consumers take while the task could have a turn, too.
    eager: bool,
    /// Time that passes in each round, also while consumers are stalled.
    round: Duration,
    expected: Vec<Vec<Item>>,
    /// The number of records that are expected.
    read: u64,
    schedule: Schedule,
    timeout: Option<Duration>,
    now: Instant,
    deadline: Option<Instant>,
    step: Step,
}

/// More rounds than any schedule needs.
const ROUNDS_MAX: usize = 10_000_000;

impl Run {
    fn new(programs: &Programs, schedule: &Schedule, wrap: Wrap) -> Self {
        let (seed, timed) = (schedule.seed, schedule.is_timed());
        let hosts = match roll(seed, 17, 3) {
            0 => Hosts::one(false),
            1 => Hosts::one(true),
            _ => Hosts::two(seed, None),
        };
        let timeout = match roll(seed, 12, 4) {
            0 => None,
            1 => Some(Duration::ZERO),
            _ => Some(Duration::from_millis(5)),
        };
        let bell = Arc::new(Bell::default());
        let mut task = task(false);
        task.waker = Waker::from(Arc::clone(&bell));
        task.buffer_timeout = timeout;
        task.output_bytes = output_bytes(seed);
        *programs.script.lock().unwrap() = Script::of(schedule);
        let body = programs.build(&task, &hosts, timed, wrap);
        let credits = 1 + roll(seed, 11, 3) as u32;
        let lanes = (0..).zip(EXCHANGES).flat_map(|(edge, (_, lanes))| {
            (0..lanes).map(move |to| Consumer::new(edge, to, credits))
        });
        let consumers: Vec<Consumer> = lanes.collect();
        let count = consumers.len();
        let stalls = |at: usize| schedule.stalls[at % OUTPUTS_MAX].iter().copied().collect();
        bell.ring();
        Self {
            body,
            script: Arc::clone(&programs.script),
            bell,
            hosts,
            consumers,
            stalls: (0..count).map(stalls).collect(),
            stalled: vec![0; count],
            eager: roll(seed, 16, 2) == 0,
            round: Duration::from_millis(roll(seed, 22, 2) * 2),
            expected: vec![Vec::new(); count],
            read: 0,
            schedule: schedule.clone(),
            timeout,
            now: Instant::now(),
            deadline: None,
            step: Step::Progress,
        }
    }

    /// Gives the task a turn if it is to have one; whether it was.
    fn turn(&mut self) -> Result<bool, String> {
        let is_due = self.deadline.is_some_and(|due| due <= self.now);
        let is_called = self.bell.is_rung() || self.step == Step::Progress;
        if self.step == Step::Finished || !(is_due || is_called) {
            return Ok(false);
        }
        self.bell.clear();
        self.script.lock().unwrap().now = Some(self.now);
        let now = self.now;
        (self.step, self.deadline) =
            turn(&mut *self.body, || now).map_err(|error| format!("{error:#}"))?;
        Ok(true)
    }

    /// A round of the consumers; whether anything moved.
    fn consume(&mut self) -> Result<bool, String> {
        let mut moved = self.hosts.carry(false)?;
        for (at, consumer) in self.consumers.iter_mut().enumerate() {
            if self.stalled[at] > 0 {
                self.stalled[at] -= 1;
                moved = true;
                continue;
            }
            moved |= consumer.attach(&self.hosts);
            if consumer.take(1)? {
                moved = true;
                self.stalled[at] = self.stalls[at].pop_front().unwrap_or_default();
            }
        }
        Ok(moved)
    }

    /// Compares what the consumers have seen with what was read.
    fn check(&mut self, all: bool) -> Result<(), String> {
        let read = self.script.lock().unwrap().next;
        for number in std::mem::replace(&mut self.read, read)..read {
            let record = record(self.schedule.seed, number);
            let time = self.schedule.is_timed().then(|| time_of(record));
            expect(record, time, &mut self.expected);
        }
        for (at, (consumer, expected)) in self.consumers.iter_mut().zip(&self.expected).enumerate()
        {
            let ended = consumer.seen.last() == Some(&END);
            let records = consumer.seen.len() - usize::from(ended);
            compare(at, &consumer.seen[..records], expected, consumer.compared, all)?;
            consumer.compared = records;
        }
        Ok(())
    }

    fn run(&mut self) -> Result<(), String> {
        self.body.open().map_err(|error| format!("{error:#}"))?;
        for _ in 0..ROUNDS_MAX {
            self.now += self.round;
            let had_turn = self.turn()?;
            let moved = (self.eager || !had_turn) && self.consume()?;
            self.check(false)?;
            if had_turn || moved {
                continue;
            }
            if self.step == Step::Finished {
                self.check(true)?;
                let has_ended = |consumer: &Consumer| consumer.seen.last() == Some(&END);
                let open = self.consumers.iter().filter(|consumer| !has_ended(consumer)).count();
                return match open {
                    0 => Ok(()),
                    _ => Err(format!("{open} consumers did not see the end as the last of all")),
                };
            }
            if matches!(self.step, Step::Idle(_)) && self.body.next_time().is_some() {
                return Err("it is idle and keeps records that its consumers wait for".into());
            }
            if let Some(due) = self.deadline {
                self.now = self.now.max(due);
                continue;
            }
            if self.step == Step::Full {
                return Err("it is full, its consumers have nothing, and nothing woke it".into());
            }
            // All is quiet, and the time has passed.
            if self.timeout.is_some() {
                self.check(true)?;
            }
            if !std::mem::take(&mut self.script.lock().unwrap().sleeps) {
                return Err("nothing will ever wake it".to_owned());
            }
            self.bell.ring();
        }
        Err(format!("it is not finished after {ROUNDS_MAX} rounds"))
    }
}

pub(super) fn case(name: &'static str, wrap: Wrap) -> Case {
    let programs = Programs::new();
    Case::new(name, move |schedule| Run::new(&programs, schedule, wrap).run())
}

#[test]
fn a_chain_with_its_writers() {
    super::explore(&case("chain", |fan_out| Box::new(fan_out)));
}
