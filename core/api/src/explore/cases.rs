//! The cases to explore of each kind of stage, and the results that its records must have.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use millstream_connector::{CommitterInfo, NoCommitter, Sink, SinkWriter, Source, WriterInfo};
use millstream_graph::{NodeId, OutputName};
use millstream_network::{Batch, Data, Event};
use millstream_state::ValueState;
use millstream_types::{JobId, MaxParallelism, OperatorId};

use super::bodies::Scripted;
use super::probe::{Item, Output, Probe, Shared};
use super::stages::{Explored, Oracle, drive, each, outputs};
use super::{Case, Kind, key, roll, writers};
use crate::operators::OnError;
use crate::operators::collector::Collector;
use crate::operators::keyed::{Context, KeyedProcess};
use crate::operators::process::Process;
use crate::program::{Built, Program};
use crate::side::{OutputTag, SideBuffer};
use crate::stage::{Discard, Outputs, Stage, erase, reveal};
use crate::stream::Stream;
use crate::task::{EventSender, OperatorContext, TaskContext};
use crate::{Environment, Execution, Executor, Result};

/// The cases to explore of a kind of stage.
pub(super) fn cases(kind: Kind) -> Vec<Case> {
    match kind {
        Kind::Discard => vec![Case::new("discard", |schedule| {
            let (stage, oracle) = (Box::new(Discard), each(|_| Vec::new()));
            drive(Explored { stage, kind: Kind::Discard, outputs: Vec::new(), oracle }, schedule)
        })],
        Kind::FanOut => vec![fan_out()],
        Kind::FlatMap => flat_maps(),
        Kind::Map => maps(),
        Kind::Probe => vec![Case::new("probe", |schedule| {
            let outputs = outputs(schedule, 1);
            let stage = outputs[0].probe(same);
            drive(
                Explored { stage, kind: Kind::Probe, outputs, oracle: each(|r| vec![r]) },
                schedule,
            )
        })],
        Kind::Process => processes(),
        Kind::Reduce => reduces(),
        Kind::Rows => vec![rows()],
        Kind::Sink => vec![sink()],
        Kind::Writer => writers::cases(),
    }
}

/// The side outputs of explored operators: what they emit, and what they refuse.
pub(super) static SIDE: OutputTag<u64> = OutputTag::new("side");
pub(super) static BAD: OutputTag<u64> = OutputTag::new("bad");

pub(super) const fn same(record: u64) -> u64 {
    record
}

/// Nothing is executed: stages are taken from the program.
struct Never;

impl Executor for Never {
    fn settings(&self) -> millstream_graph::JobSettings {
        millstream_graph::JobSettings::default()
    }

    fn plan_value(&self, _name: &str) -> Option<Vec<u8>> {
        None
    }

    fn execute(
        &mut self,
        _program: Program,
        _graph: millstream_graph::JobGraph,
        _wait: bool,
    ) -> Result<Execution> {
        crate::bail!("nothing is executed")
    }
}

/// A stream from a source, in a program of its own.
pub(super) fn stream_of<S: Source>(source: S) -> Stream<S::Out> {
    Environment::new(Box::new(Never)).source("source", source)
}

pub(super) fn numbers() -> Stream<u64> {
    stream_of(Scripted::default())
}

/// A task that runs alone.
pub(super) fn task(batch: bool) -> TaskContext {
    TaskContext {
        job: JobId::from_u128(1),
        name: "explored".to_owned(),
        subtask: 0,
        parallelism: 1,
        max_parallelism: MaxParallelism::new(2).unwrap(),
        attempt: 0,
        counters: Arc::default(),
        waker: std::task::Waker::noop().clone(),
        user_counters: Arc::default(),
        buffer_timeout: None,
        batch,
    }
}

/// The last operator of a program.
pub(super) struct Operator {
    pub(super) program: Program,
    pub(super) node: NodeId,
}

impl Operator {
    pub(super) fn of<O: Data>(stream: &Stream<O>) -> Self {
        let mut builder = stream.builder.borrow_mut();
        assert!(builder.faults.is_empty(), "{:?}", builder.faults);
        let node = stream.origins[0].node;
        Self { program: std::mem::take(&mut builder.program), node }
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
pub(super) fn three<O: Data>(outputs: &[Shared], number: fn(O) -> u64) -> Outputs {
    let side = |output: &Shared| SideBuffer::<u64>::erased(erase::<u64>(output.probe(same)), false);
    Outputs {
        main: Some(erase::<O>(outputs[0].probe(number))),
        sides: vec![
            (SIDE.name().to_owned(), side(&outputs[1]).unwrap()),
            (BAD.name().to_owned(), side(&outputs[2]).unwrap()),
        ],
        timed: false,
    }
}

/// Explores an operator on a stream of numbers.
fn operator<O: Data>(
    name: &'static str,
    kind: Kind,
    batch: bool,
    stream: &Stream<O>,
    number: fn(O) -> u64,
    oracle: impl Fn() -> Box<dyn Oracle> + 'static,
) -> Case {
    let (operator, task, nobody) = (Operator::of(stream), task(batch), to_nobody());
    Case::new(name, move |schedule| {
        let outputs = outputs(schedule, 3);
        let stage = operator.build(&task, &nobody, three(&outputs, number));
        drive(Explored { stage, kind, outputs, oracle: oracle() }, schedule)
    })
}

pub(super) fn bad() -> OnError<u64> {
    OnError::side_output(&BAD)
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

pub(super) fn refuse_bad(record: u64) -> Result<u64> {
    crate::ensure!(!is_bad(record), "a bad record");
    Ok(record)
}

fn maps() -> Vec<Case> {
    let plus_one = |record: u64, outputs: &mut [Vec<Item>]| {
        outputs[0].push(Item::Record(record + 1));
    };
    let map = |record| refuse_bad(record).map(|record| record + 1);
    let double = numbers().map(|record| Ok((record, record + 1)));
    let even = numbers().filter(|record| Ok(record % 2 == 0));
    let dropping = numbers().on_error(OnError::drop_record()).map(map);
    let sorting = numbers().on_error(bad()).map(map);
    let evens = |record: u64| if record.is_multiple_of(2) { vec![record] } else { Vec::new() };
    vec![
        operator("map", Kind::Map, false, &double, |(_, n)| n, || each(|r| vec![r + 1])),
        operator("filter", Kind::Map, false, &even, same, move || each(evens)),
        operator("map or drop", Kind::Map, false, &dropping, same, move || {
            without_bad(false, plus_one)
        }),
        operator("map or side output", Kind::Map, false, &sorting, same, move || {
            without_bad(true, plus_one)
        }),
    ]
}

/// Mostly few results, seldom more than two batches of them.
fn results(record: u64) -> std::ops::Range<u64> {
    let count = if roll(record, 2, 200) == 0 { 2_500 } else { roll(record, 3, 4) };
    (record << 12)..(record << 12) + count
}

fn flat_maps() -> Vec<Case> {
    let all = numbers().flat_map(|record| Ok(results(record)));
    let sorting = numbers().on_error(bad()).flat_map(|r| refuse_bad(r).map(results));
    vec![
        operator("flat_map", Kind::FlatMap, false, &all, same, || each(|r| results(r).collect())),
        operator("flat_map or side output", Kind::FlatMap, false, &sorting, same, || {
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
    let reduce = |value: &mut u64, record| {
        *value = combine(*value, record);
        Ok(())
    };
    let fail_late = |value: &mut u64, record| {
        *value = combine(*value, record);
        refuse_bad(record).map(|_| ())
    };
    let plain = numbers().key_by(|r| key(*r)).reduce("reduce", reduce);
    let sorting = numbers().on_error(bad()).key_by(|r| key(*r)).reduce("reduce", fail_late);
    // Each record is the one of its key, so that more than a batch of values leaves at the end;
    // the values come by key group, in no order that is promised.
    let distinct = numbers().key_by(|r| *r).reduce("reduce", reduce);
    let few = numbers().key_by(|r| key(*r)).reduce("reduce", reduce);
    let kind = Kind::Reduce;
    vec![
        operator("reduce", kind, false, &plain, same, || Box::new(Reduced::default())),
        operator("reduce or side output", kind, false, &sorting, same, || {
            Box::new(Reduced { refuses: true, ..Reduced::default() })
        }),
        unordered("reduce to final values", kind, &few, || {
            Box::new(Reduced { final_only: true, ..Reduced::default() })
        }),
        unordered("reduce to many final values", kind, &distinct, || Box::new(AtTheEnd::default())),
    ]
}

/// All records, when the input has ended.
#[derive(Default)]
struct AtTheEnd(Vec<Item>);

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
fn unordered(
    name: &'static str,
    kind: Kind,
    stream: &Stream<u64>,
    oracle: impl Fn() -> Box<dyn Oracle> + 'static,
) -> Case {
    let (operator, task, nobody) = (Operator::of(stream), task(true), to_nobody());
    Case::new(name, move |schedule| {
        let outputs = outputs(schedule, 3);
        outputs[0].lock().sorts_runs = true;
        let stage = operator.build(&task, &nobody, three(&outputs, same));
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
    let keyed = numbers().on_error(bad()).key_by(|r| key(*r));
    let counts = keyed.process("counts", |states| Ok(Counts(states.value("count")?)));
    let plain = numbers().on_error(bad()).process(|_| Ok(Aside));
    // Each record is the one of its key, so that more than a batch of keys is finished.
    let last = numbers().key_by(|r| *r).process("last", |states| Ok(Last(states.value("last")?)));
    let kind = Kind::Process;
    vec![
        operator("process", kind, false, &counts, same, counted),
        operator("process without a key", kind, false, &plain, same, || {
            without_bad(true, |r, outputs| {
                outputs[0].extend(results(r).map(Item::Record));
                outputs[1].push(Item::Record(r));
            })
        }),
        unordered("process that finishes its keys", kind, &last, || Box::new(AtTheEnd::default())),
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

fn rows() -> Case {
    let operator = Operator::of(&numbers().map(Ok));
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
    let stream = numbers().map(Ok);
    drop(stream.clone());
    Operator::of(&stream)
}

fn fan_out() -> Case {
    let operator = read_by_several();
    Case::new("fan out", move |schedule| {
        let outputs = outputs(schedule, 3);
        let stage = several(&operator, &outputs);
        drive(Explored { stage, kind: Kind::FanOut, outputs, oracle: Box::new(to_all) }, schedule)
    })
}

/// Writes into the output that the test has put there.
#[derive(Clone, Default)]
struct Place(Arc<Mutex<Option<Shared>>>);

struct PlaceWriter {
    output: Box<Probe<u64>>,
    written: u64,
}

impl Sink<u64> for Place {
    type Committable = u64;
    type Writer = PlaceWriter;
    type Committer = NoCommitter<u64>;

    fn writer(&self, _info: &WriterInfo) -> Result<PlaceWriter> {
        let mut output = self.0.lock().unwrap().as_ref().unwrap().probe(same as fn(u64) -> u64);
        output.open()?;
        Ok(PlaceWriter { output, written: 0 })
    }

    fn committer(&self, _info: &CommitterInfo) -> Result<Option<NoCommitter<u64>>> {
        Ok(None)
    }

    fn has_committer(&self) -> bool {
        true
    }
}

impl SinkWriter<u64> for PlaceWriter {
    type Committable = u64;

    fn write(&mut self, batch: Batch<u64>) -> Result<()> {
        self.written += batch.len() as u64;
        self.output.push(batch).map(|_| ())
    }

    fn tick(&mut self, now: Instant) -> Result<Option<Instant>> {
        self.output.on_time(now)?;
        Ok(self.output.next_time())
    }

    fn finish(&mut self) -> Result<Vec<u64>> {
        self.output.event(Event::EndOfInput)?;
        Ok(vec![self.written])
    }
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
        outputs[1].push(Item::Record(self.0));
    }

    fn sees(&self, output: usize, event: Event) -> bool {
        output == 0 && event == Event::EndOfInput
    }
}

fn sink() -> Case {
    let place = Place::default();
    let sink = numbers().sink("sink", place.clone());
    let operator = {
        let mut builder = sink.builder.borrow_mut();
        Operator { program: std::mem::take(&mut builder.program), node: sink.node }
    };
    let task = task(false);
    Case::new("sink", move |schedule| {
        let outputs = vec![Output::of(&[]), Output::of(&[])];
        *place.0.lock().unwrap() = Some(outputs[0].clone());
        let committer = outputs[1].clone();
        let send: EventSender = Arc::new(move |_, _, payload| {
            let committables: Vec<u64> = crate::coordinator::decode(&payload).unwrap();
            committer.lock().seen.extend(committables.into_iter().map(Item::Record));
        });
        let stage = operator.build(&task, &send, Outputs::default());
        let oracle = Box::<Written>::default();
        drive(Explored { stage, kind: Kind::Sink, outputs, oracle }, schedule)
    })
}
