//! The cases to explore of each kind of stage, and the results that its records must have.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::time::{Duration, Instant};

use millstream_connector::{
    Committer, EventSender, PreCommitted, Sink, SinkWriter, WriterInfo, decode,
};
use millstream_event_time::{WatermarkGenerator, WatermarkOutput, WatermarkStrategy};
use millstream_graph::{NodeId, NodeKind, OutputName};
use millstream_network::{Batch, Event, Flow, Generation};
use millstream_output_buffers::{CollectQueue, Taken};
use millstream_state::{ByValue, ValueState};
use millstream_types::{AttemptId, CheckpointId, JobId, MaxParallelism, OperatorId, Timestamp};

use super::hosts::{clock, wake_ups};
use super::probe::{Item, Output, Probe, Shared};
use super::schedule::Act;
use super::stages::{Explored, Oracle, drive, each, outputs};
use super::{
    Case, Kind, clock_windows, evictors, expiry, heavy, key, roll, time_of, timers, windows,
    writers,
};
use crate::Result;
use crate::aggregate::{Aggregate, Reduce, Summary};
use crate::collect::CollectStage;
use crate::collector::Collector;
use crate::flat_map::flat_map;
use crate::fold::fold;
use crate::keyed::{Context, KeyedProcess, keyed_process};
use crate::map::map;
use crate::on_error::OnError;
use crate::output::Outputs;
use crate::process::{Process, process};
use crate::program::{Built, NewOperator, OperatorMaker, OutputMaker, Program, StageMaker};
use crate::side::{OutputTag, SideBuffer};
use crate::stage::{Discard, Moment, Stage, erase, reveal};
use crate::task::{OperatorContext, TaskContext};
use crate::watermarks::assign_timestamps;

/// The cases to explore of a kind of stage.
pub(super) fn cases(kind: Kind) -> Vec<Case> {
    let mut cases = light(kind);
    cases.extend(heavy::cases(kind));
    cases
}

fn light(kind: Kind) -> Vec<Case> {
    match kind {
        Kind::Collect => vec![collect()],
        Kind::Discard => vec![Case::new("discard", |schedule| {
            let (stage, oracle) = (Box::new(Discard), each(|_| Vec::new()));
            drive(Explored { stage, kind: Kind::Discard, outputs: Vec::new(), oracle }, schedule)
        })],
        Kind::FanOut => vec![fan_out()],
        Kind::FlatMap => flat_maps(),
        Kind::Map => maps(),
        Kind::Order => vec![timers::order()],
        Kind::Probe => vec![Case::new("probe", |schedule| {
            let outputs = outputs(schedule, 1);
            let stage = outputs[0].probe(same);
            drive(
                Explored { stage, kind: Kind::Probe, outputs, oracle: each(|r| vec![r]) },
                schedule,
            )
        })],
        Kind::Process => {
            let cases = processes().into_iter().chain(timers::cases()).chain([expiry::case()]);
            let windows = windows::sessions().into_iter().chain(clock_windows::cases());
            cases.chain(windows).chain(evictors::cases()).collect()
        }
        Kind::Fold => reduces().into_iter().chain(aggregates()).collect(),
        Kind::Rows => vec![rows()],
        Kind::Sink => vec![sink("sink", |stage| stage)],
        Kind::Timestamps => vec![timestamps()],
        Kind::Window => windows::cases(),
        Kind::Writer => writers::cases(),
    }
}

/// The side outputs of explored operators: what they emit, and what they refuse.
pub(super) static SIDE: OutputTag<u64> = OutputTag::new("side");
pub(super) static BAD: OutputTag<u64> = OutputTag::new("bad");

pub(super) const fn same(record: u64) -> u64 {
    record
}

/// A task that runs alone.
pub(crate) fn task(batch: bool) -> TaskContext {
    TaskContext {
        job: JobId::from_u128(1),
        name: "explored".to_owned(),
        subtask: 0,
        parallelism: 1,
        max_parallelism: MaxParallelism::new(2).unwrap(),
        attempt: 0,
        generation: Generation::FIRST,
        counters: Arc::default(),
        waker: Waker::from(wake_ups()),
        clock: clock().clock(),
        metrics: Arc::default(),
        buffer_timeout: None,
        output_bytes: crate::task::OUTPUT_BYTES,
        watermark_interval: Duration::from_millis(20),
        batch,
        checkpoints: None,
        has_finished: false,
        beside: None,
    }
}

/// An operator in a program of its own.
pub(super) struct Operator {
    pub(super) program: Program,
    pub(super) node: NodeId,
}

impl Operator {
    pub(super) fn of(maker: OperatorMaker) -> Self {
        let mut program = Program::default();
        let node = program.add(NewOperator {
            name: "explored",
            uid: None,
            kind: NodeKind::Operator,
            stateful: false,
            assigns_times: false,
            output_type: "u64",
            maker,
            coordinator: None,
        });
        program.set_output(node, OutputName::Main, OutputMaker::single::<u64>());
        Self { program, node }
    }

    pub(super) fn of_stage(stage: StageMaker) -> Self {
        Self::of(OperatorMaker::one_input::<u64>(stage))
    }

    pub(super) fn build(
        &self,
        task: &TaskContext,
        to_coordinator: &EventSender,
        outputs: Outputs,
    ) -> Box<dyn Stage<u64>> {
        let ctx = OperatorContext {
            task,
            operator: OperatorId::from_u128(2),
            name: "explored",
            to_coordinator,
            from_coordinator: &Arc::default(),
        };
        match self.program.build_operator(self.node, &ctx, None, outputs).unwrap() {
            Built::Stage(stage) => reveal(stage).unwrap(),
            Built::Body(_) => panic!("the operator is no stage"),
        }
    }
}

pub(super) fn to_nobody() -> EventSender {
    Arc::new(|_, _, _| {})
}

/// The three outputs of an operator: its results, what it emits aside, what it refuses.
pub(super) fn three<O: Send + 'static>(
    outputs: &[Shared],
    number: fn(O) -> u64,
    timed: bool,
) -> Outputs {
    let side = |output: &Shared| SideBuffer::<u64>::erased(erase::<u64>(output.probe(same)), timed);
    Outputs {
        main: Some(erase::<O>(outputs[0].probe(number))),
        sides: vec![
            (SIDE.name().to_owned(), side(&outputs[1]).unwrap()),
            (BAD.name().to_owned(), side(&outputs[2]).unwrap()),
        ],
        timed,
    }
}

/// Explores an operator on a stream of numbers.
pub(super) fn operator<O: Send + 'static>(
    name: &'static str,
    kind: Kind,
    batch: bool,
    stage: StageMaker,
    number: fn(O) -> u64,
    oracle: impl Fn() -> Box<dyn Oracle> + 'static,
) -> Case {
    let (operator, task, nobody) = (Operator::of_stage(stage), task(batch), to_nobody());
    Case::new(name, move |schedule| {
        let outputs = outputs(schedule, 3);
        let stage = operator.build(&task, &nobody, three(&outputs, number, schedule.is_timed()));
        drive(Explored { stage, kind, outputs, oracle: oracle() }, schedule)
    })
}

pub(super) fn bad() -> OnError<u64> {
    OnError::side_output(&BAD)
}

/// The key of a record, as a selector.
pub(super) fn by_key() -> ByValue<fn(&u64) -> u64> {
    ByValue(|record| key(*record))
}

pub(super) fn is_bad(record: u64) -> bool {
    roll(record, 1, 29) == 0
}

/// An oracle that hands what is bad to the third output if `kept`.
pub(super) fn without_bad(
    kept: bool,
    mut good: impl FnMut(u64, &mut [Vec<Item>]) + 'static,
) -> Box<dyn Oracle> {
    Box::new(move |record, outputs: &mut [Vec<Item>]| {
        if !is_bad(record) {
            good(record, outputs);
        } else if kept {
            outputs[2].push(Item::Record(record));
        }
    })
}

/// A function sees the event time of the record that it processes.
pub(super) fn ensure_time(time: Option<i64>, record: u64) -> Result<()> {
    crate::ensure!(
        time.is_none_or(|time| time == time_of(record)),
        "{time:?} is of another record"
    );
    Ok(())
}

pub(super) fn refuse_bad(record: u64) -> Result<u64> {
    crate::ensure!(!is_bad(record), "a bad record");
    Ok(record)
}

fn maps() -> Vec<Case> {
    let plus_one = |record: u64, outputs: &mut [Vec<Item>]| {
        outputs[0].push(Item::Record(record + 1));
    };
    let plus = |record| refuse_bad(record).map(|record| Some(record + 1));
    let double = map(OnError::fail(), |_| Ok(|record: u64| Ok(Some((record, record + 1)))));
    let even =
        map(OnError::fail(), |_| Ok(|record: u64| Ok(record.is_multiple_of(2).then_some(record))));
    let dropping = map(OnError::drop_record(), move |_| Ok(plus));
    let sorting = map(bad(), move |_| Ok(plus));
    let evens = |record: u64| if record.is_multiple_of(2) { vec![record] } else { Vec::new() };
    vec![
        operator("map", Kind::Map, false, double, |(_, n): (u64, u64)| n, || each(|r| vec![r + 1])),
        operator("filter", Kind::Map, false, even, same, move || each(evens)),
        operator("map or drop", Kind::Map, false, dropping, same, move || {
            without_bad(false, plus_one)
        }),
        operator("map or side output", Kind::Map, false, sorting, same, move || {
            without_bad(true, plus_one)
        }),
    ]
}

/// Emits a watermark at some records.
pub(super) struct Markers;

pub(super) fn is_marker(record: u64) -> bool {
    roll(record, 31, 9) == 0
}

impl WatermarkGenerator<u64> for Markers {
    fn on_record(&mut self, record: &u64, time: i64, out: &mut WatermarkOutput) {
        if is_marker(*record) {
            out.emit(time);
        }
    }
}

/// Records with their times; watermarks behind those that are markers, if they advance.
struct Marked(i64);

impl Oracle for Marked {
    fn record(&mut self, record: u64, outputs: &mut [Vec<Item>]) {
        if is_bad(record) {
            return;
        }
        let time = time_of(record);
        outputs[0].push(Item::Record(record).at(Some(time)));
        if is_marker(record) && time > self.0 {
            self.0 = time;
            let watermark = Event::Watermark(Timestamp::from_millis(time));
            outputs.iter_mut().for_each(|output| output.push(watermark.into()));
        }
    }

    fn sees(&self, _output: usize, event: Event) -> bool {
        !matches!(event, Event::Watermark(_) | Event::Idle(_))
    }
}

fn timestamps() -> Case {
    let strategy = WatermarkStrategy::generator(|| Markers)
        .timestamps(|record| refuse_bad(*record).map(time_of));
    let operator = Operator::of_stage(assign_timestamps(OnError::drop_record(), strategy));
    let (task, nobody) = (task(false), to_nobody());
    Case::new("timestamps", move |schedule| {
        let outputs = outputs(schedule, 3);
        let stage = operator.build(&task, &nobody, three(&outputs, same, true));
        let oracle = Box::new(Marked(i64::MIN));
        drive(Explored { stage, kind: Kind::Timestamps, outputs, oracle }, schedule)
    })
}

/// Mostly few results, seldom more than two batches of them.
fn results(record: u64) -> std::ops::Range<u64> {
    let count = if roll(record, 2, 200) == 0 { 2_500 } else { roll(record, 3, 4) };
    (record << 12)..(record << 12) + count
}

fn flat_maps() -> Vec<Case> {
    let all = flat_map(OnError::fail(), |_| Ok(|record| Ok(results(record))));
    let sorting = flat_map(bad(), |_| Ok(|record| refuse_bad(record).map(results)));
    vec![
        operator("flat_map", Kind::FlatMap, false, all, same, || each(|r| results(r).collect())),
        operator("flat_map or side output", Kind::FlatMap, false, sorting, same, || {
            without_bad(true, |r, outputs| outputs[0].extend(results(r).map(Item::Record)))
        }),
    ]
}

fn combine(value: u64, record: u64) -> u64 {
    value.rotate_left(5) ^ record
}

/// Values by key, every one of which is emitted, or the last one at the end.
#[derive(Default)]
struct Reduced {
    values: BTreeMap<u64, u64>,
    final_only: bool,
    refuses: bool,
}

impl Oracle for Reduced {
    fn record(&mut self, record: u64, outputs: &mut [Vec<Item>]) {
        let value = match self.values.get(&key(record)) {
            // The first record of a key is its value: the function is not asked.
            None => record,
            Some(_) if self.refuses && is_bad(record) => {
                outputs[2].push(Item::Record(record));
                return;
            }
            Some(value) => combine(*value, record),
        };
        self.values.insert(key(record), value);
        if !self.final_only {
            outputs[0].push(Item::Record(value));
        }
    }

    fn end(&mut self, outputs: &mut [Vec<Item>]) {
        if self.final_only {
            let mut values: Vec<Item> = self.values.values().map(|v| Item::Record(*v)).collect();
            values.sort();
            outputs[0].extend(values);
        }
    }
}

fn reduces() -> Vec<Case> {
    let combined = |value: &mut u64, record| {
        *value = combine(*value, record);
        Ok(())
    };
    let fail_late = |value: &mut u64, record| {
        *value = combine(*value, record);
        refuse_bad(record).map(|_| ())
    };
    let plain = fold(OnError::fail(), by_key(), Reduce(combined));
    let sorting = fold(bad(), by_key(), Reduce(fail_late));
    // Each record is the one of its key, so that more than a batch of values leaves at the end;
    // the values come by key group, in no order that is promised.
    let distinct = fold(OnError::fail(), ByValue(|r: &u64| *r), Reduce(combined));
    let few = fold(OnError::fail(), by_key(), Reduce(combined));
    let kind = Kind::Fold;
    vec![
        operator("reduce", kind, false, plain, same, || Box::new(Reduced::default())),
        operator("reduce or side output", kind, false, sorting, same, || {
            Box::new(Reduced { refuses: true, ..Reduced::default() })
        }),
        unordered("reduce to final values", kind, few, same, || {
            Box::new(Reduced { final_only: true, ..Reduced::default() })
        }),
        unordered("reduce to many final values", kind, distinct, same, || {
            Box::new(AtTheEnd::default())
        }),
    ]
}

/// A result with a key as one number.
const fn with_key((key, value): (u64, u64)) -> u64 {
    value.rotate_left(3) ^ key
}

/// The same as [`Reduced`] of pairs with the key; the first record of a key is added to 7.
struct Aggregated {
    values: BTreeMap<u64, u64>,
    final_only: bool,
}

impl Oracle for Aggregated {
    fn record(&mut self, record: u64, outputs: &mut [Vec<Item>]) {
        if !self.final_only && is_bad(record) {
            outputs[2].push(Item::Record(record));
            return;
        }
        let value = self.values.entry(key(record)).or_insert(7);
        *value = combine(*value, record);
        if !self.final_only {
            outputs[0].push(Item::Record(with_key((key(record), *value))));
        }
    }

    fn end(&mut self, outputs: &mut [Vec<Item>]) {
        if self.final_only {
            let results = self.values.iter().map(|(key, value)| with_key((*key, *value)));
            let mut results: Vec<Item> = results.map(Item::Record).collect();
            results.sort();
            outputs[0].extend(results);
        }
    }
}

/// `aggregate`, and what only looks at records.
fn aggregates() -> Vec<Case> {
    let add = |value: &mut u64, record| {
        *value = combine(*value, record);
        Ok(())
    };
    let fail_late = |value: &mut u64, record| {
        *value = combine(*value, record);
        refuse_bad(record).map(|_| ())
    };
    let fail_first = |record: &u64| refuse_bad(*record).map(|record| combine(7, record));
    let look = move |value: &mut u64, record: &u64| fail_late(value, *record);
    let aggregate = fold(bad(), by_key(), Aggregate { init: || 7, add: fail_late });
    let summary = fold(bad(), by_key(), Summary { first: fail_first, add: look });
    let last = fold(OnError::fail(), by_key(), Aggregate { init: || 7, add });
    let oracle = |final_only| Box::new(Aggregated { values: BTreeMap::new(), final_only });
    let kind = Kind::Fold;
    vec![
        operator("aggregate or side output", kind, false, aggregate, with_key, move || {
            oracle(false)
        }),
        operator("summary or side output", kind, false, summary, with_key, move || oracle(false)),
        unordered("aggregate to final values", kind, last, with_key, move || oracle(true)),
    ]
}

/// All records, when the input has ended.
#[derive(Default)]
pub(super) struct AtTheEnd(Vec<Item>);

impl Oracle for AtTheEnd {
    fn record(&mut self, record: u64, _outputs: &mut [Vec<Item>]) {
        self.0.push(Item::Record(record));
    }

    fn end(&mut self, outputs: &mut [Vec<Item>]) {
        self.0.sort();
        outputs[0].append(&mut self.0);
    }
}

/// Explores a batch operator whose results at the end come in any order.
pub(super) fn unordered<O: Send + 'static>(
    name: &'static str,
    kind: Kind,
    stage: StageMaker,
    number: fn(O) -> u64,
    oracle: impl Fn() -> Box<dyn Oracle> + 'static,
) -> Case {
    let (operator, task, nobody) = (Operator::of_stage(stage), task(true), to_nobody());
    Case::new(name, move |schedule| {
        let outputs = outputs(schedule, 3);
        outputs[0].lock().sorts_runs = true;
        let stage = operator.build(&task, &nobody, three(&outputs, number, schedule.is_timed()));
        drive(Explored { stage, kind, outputs, oracle: oracle() }, schedule)
    })
}

/// Counts the records of a key; emits some results for each, and some records aside.
pub(super) struct Counts(ValueState<u64>);

impl KeyedProcess<u64, u64> for Counts {
    type Out = u64;

    fn process(
        &mut self,
        record: u64,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, u64>,
    ) -> Result<()> {
        ensure_time(ctx.timestamp(), record)?;
        let count = self.0.get_or_insert_with(ctx, || 0)?;
        *count += 1;
        let first = (record << 12) | (*count % 16);
        (0..results(record).count() as u64).for_each(|n| out.emit(first + 16 * n));
        if roll(record, 4, 3) == 0 {
            out.emit_to(&SIDE, record)?;
        }
        // Everything above is taken back.
        refuse_bad(record).map(|_| ())
    }
}

/// The oracle of [`Counts`], with `refuses` under a policy that keeps bad records.
fn counted() -> Box<dyn Oracle> {
    let mut counts = BTreeMap::<u64, u64>::new();
    without_bad(true, move |record, outputs| {
        let count = counts.entry(key(record)).or_default();
        *count += 1;
        let first = (record << 12) | (*count % 16);
        outputs[0]
            .extend((0..results(record).count() as u64).map(|n| Item::Record(first + 16 * n)));
        if roll(record, 4, 3) == 0 {
            outputs[1].push(Item::Record(record));
        }
    })
}

fn processes() -> Vec<Case> {
    let counts = keyed_process(bad(), by_key(), |states| Ok(Counts(states.value("count")?)));
    let plain = process(bad(), |_| Ok(Aside));
    // Each record is the one of its key, so that more than a batch of keys is finished.
    let distinct = ByValue(|r: &u64| *r);
    let last = keyed_process(OnError::fail(), distinct, |states| Ok(Last(states.value("last")?)));
    let kind = Kind::Process;
    vec![
        operator("process", kind, false, counts, same, counted),
        operator("process without a key", kind, false, plain, same, || {
            without_bad(true, |r, outputs| {
                outputs[0].extend(results(r).map(Item::Record));
                outputs[1].push(Item::Record(r));
            })
        }),
        unordered("process that finishes its keys", kind, last, same, || {
            Box::new(AtTheEnd::default())
        }),
    ]
}

/// Emits some results for each record, and the record aside.
struct Aside;

impl Process<u64> for Aside {
    type Out = u64;

    fn process(&mut self, record: u64, out: &mut Collector<'_, u64>) -> Result<()> {
        results(record).for_each(|result| out.emit(result));
        out.emit_to(&SIDE, record)?;
        // Everything above is taken back.
        refuse_bad(record).map(|_| ())
    }
}

/// Emits the last record of each key when the input has ended.
struct Last(ValueState<u64>);

impl KeyedProcess<u64, u64> for Last {
    type Out = u64;

    fn process(
        &mut self,
        record: u64,
        ctx: &mut Context<'_, u64>,
        _: &mut Collector<'_, u64>,
    ) -> Result<()> {
        Ok(self.0.set(ctx, record)?)
    }

    fn finish_key(
        &mut self,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, u64>,
    ) -> Result<()> {
        out.emit(self.0.get(ctx)?.copied().unwrap_or_default());
        Ok(())
    }
}

/// An operator that passes records as they are.
fn passing() -> Operator {
    Operator::of_stage(map(OnError::fail(), |_| Ok(|record: u64| Ok(Some(record)))))
}

fn rows() -> Case {
    let operator = passing();
    Case::new("rows", move |schedule| {
        let outputs = outputs(schedule, 1);
        let next = erase::<u64>(outputs[0].probe(same));
        let rows = operator.program.put_rows_before(operator.node, &OutputName::Main, next);
        let stage = reveal(rows.unwrap()).unwrap();
        drive(Explored { stage, kind: Kind::Rows, outputs, oracle: each(|r| vec![r]) }, schedule)
    })
}

/// The stage in front of several readers.
pub(super) fn several(operator: &Operator, outputs: &[Shared]) -> Box<dyn Stage<u64>> {
    let readers = outputs.iter().map(|output| erase::<u64>(output.probe(same))).collect();
    let outputs = operator
        .program
        .build_outputs(operator.node, false, vec![(OutputName::Main, readers)])
        .unwrap();
    reveal(outputs.main.unwrap()).unwrap()
}

pub(super) fn to_all(record: u64, outputs: &mut [Vec<Item>]) {
    outputs.iter_mut().for_each(|output| output.push(Item::Record(record)));
}

/// An operator whose output may have several readers.
pub(super) fn read_by_several() -> Operator {
    let mut operator = passing();
    let Operator { program, node } = &mut operator;
    program.set_output(*node, OutputName::Main, OutputMaker::shared::<u64>());
    operator
}

fn fan_out() -> Case {
    let operator = read_by_several();
    Case::new("fan out", move |schedule| {
        let outputs = outputs(schedule, 3);
        let stage = several(&operator, &outputs);
        drive(Explored { stage, kind: Kind::FanOut, outputs, oracle: Box::new(to_all) }, schedule)
    })
}

/// A program that takes records when it likes: seldom, or when a task waits for it.
fn collect() -> Case {
    Case::new("collect", |schedule| {
        let queue = Arc::<CollectQueue<u64>>::default();
        let waker = std::task::Waker::noop().clone();
        let mut stage = CollectStage { queue: Arc::clone(&queue), attempt: 0, waker };
        let (mut number, mut taken) = (0, Vec::new());
        let mut take = || {
            let Taken::Batch(batch) = queue.take(Duration::ZERO) else { return false };
            taken.extend(batch);
            true
        };
        let told = |error: crate::Error| format!("{error:#}");
        stage.open().map_err(told)?;
        for act in &schedule.acts {
            let mut flow = match *act {
                Act::Batch { records, .. } => {
                    let batch = (number..).take(records.into());
                    number += u64::from(records);
                    stage.push(Batch::of(batch.collect())).map_err(told)?
                }
                Act::Take { mut deliveries, .. } => {
                    while deliveries > 0 && take() {
                        deliveries -= 1;
                    }
                    Flow::Ready
                }
                Act::Event { event, .. } => stage.event(event).map_err(told)?,
                Act::Wait { .. } | Act::Turn { .. } => Flow::Ready,
            };
            while flow == Flow::Full {
                if !take() {
                    return Err("it is full of nothing".to_owned());
                }
                flow = stage.resume().map_err(told)?;
            }
        }
        while take() {}
        match taken.iter().copied().eq(0..number) {
            true => Ok(()),
            false => Err(format!("{number} numbers were sent, and these taken: {taken:?}")),
        }
    })
}

/// Writes into the output that the test has put there.
#[derive(Clone, Default)]
struct Place(Arc<Mutex<Option<Shared>>>);

struct PlaceWriter {
    output: Box<Probe<u64>>,
    written: u64,
}

/// A committer that is never made.
struct NeverCommits;

impl Committer for NeverCommits {
    type Committable = u64;

    fn recover(&mut self, _: Vec<(CheckpointId, Vec<u64>)>, _: &[AttemptId]) -> Result<()> {
        Ok(())
    }

    fn commit(&mut self, _: CheckpointId, _: Vec<u64>) -> Result<()> {
        Ok(())
    }

    fn abort(&mut self, _: &[AttemptId]) -> Result<()> {
        Ok(())
    }
}

impl Sink<u64> for Place {
    type Committable = u64;
    type Writer = PlaceWriter;
    type Committer = NeverCommits;

    fn writer(&self, _info: &WriterInfo) -> Result<PlaceWriter> {
        let mut output = self.0.lock().unwrap().as_ref().unwrap().probe(same as fn(u64) -> u64);
        output.open()?;
        Ok(PlaceWriter { output, written: 0 })
    }
}

impl SinkWriter<u64> for PlaceWriter {
    type Committable = u64;

    fn write(&mut self, batch: Batch<u64>) -> Result<Flow> {
        self.written += batch.len() as u64;
        self.output.push(batch)
    }

    fn resume(&mut self) -> Result<Flow> {
        self.output.resume()
    }

    fn on_time(&mut self, now: Instant) -> Result<Flow> {
        self.output.on_time(Moment { now, idle: false })
    }

    fn next_time(&self) -> Option<Instant> {
        self.output.next_time()
    }

    fn pre_commit(&mut self, id: CheckpointId) -> Result<Vec<u64>> {
        crate::ensure!(id == CheckpointId::FIRST, "{id} came at the end of the input");
        self.output.event(Event::EndOfInput)?;
        Ok(vec![self.written])
    }
}

/// Committables are no records of a stream.
const fn committable(records: u64) -> Item {
    Item::Event(u8::MAX, records as i64)
}

/// Records to the first output; the committable, which is their number, to the second.
#[derive(Default)]
struct Written(u64);

impl Oracle for Written {
    fn record(&mut self, record: u64, outputs: &mut [Vec<Item>]) {
        outputs[0].push(Item::Record(record));
        self.0 += 1;
    }

    fn end(&mut self, outputs: &mut [Vec<Item>]) {
        outputs[1].push(committable(self.0));
    }

    fn sees(&self, output: usize, event: Event) -> bool {
        output == 0 && event == Event::EndOfInput
    }
}

/// Puts a stage into another, which may have a fault.
type Wrap = fn(Box<dyn Stage<u64>>) -> Box<dyn Stage<u64>>;

pub(super) fn sink(name: &'static str, wrap: Wrap) -> Case {
    let place = Place::default();
    let operator = Operator::of_stage(crate::sink::sink::<u64, _>(&Arc::new(place.clone())));
    let task = task(false);
    Case::new(name, move |schedule| {
        let outputs = vec![Output::that_takes_the_end(&schedule.stalls[0]), Output::of(&[])];
        *place.0.lock().unwrap() = Some(outputs[0].clone());
        let committer = outputs[1].clone();
        let send: EventSender = Arc::new(move |_, _, payload| {
            let committables: PreCommitted<u64> = decode(&payload).unwrap();
            committer.lock().seen.extend(committables.1.into_iter().map(committable));
        });
        let stage = wrap(operator.build(&task, &send, Outputs::default()));
        let oracle = Box::<Written>::default();
        drive(Explored { stage, kind: Kind::Sink, outputs, oracle }, schedule)
    })
}
