//! Bodies of tasks: their inputs are channels and readers, their outputs probes, and the test is
//! the slot that gives them turns.

use std::collections::{BTreeMap, VecDeque};
use std::marker::PhantomData;
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::time::{Duration, Instant};

use millstream_connector::{
    EventMailbox, EventSender, Mail, NextSplit, NoEnumerator, Polled, ReaderContext, ReaderOutput,
    Source, SourceReader, SplitEnumerator, decode, encode,
};
use millstream_graph::Boundedness;
use millstream_network::{ChannelId, ChannelWriter, Event, Exchange, Generation, InputChannels};
use millstream_state::ValueState;
use millstream_types::OperatorId;

use super::barriers::{Barriers, barrier};
use super::cases::{
    Operator, SIDE, bad, by_key, ensure_time, refuse_bad, same, task, three, to_nobody, without_bad,
};
use super::finishing::finishing;
use super::hosts::{HOST, clock, exchange};
use super::probe::{END, Item, Shared};
use super::schedule::{Act, Schedule};
use super::stages::{AT_THE_END, Oracle, at_time, outputs};
use super::watermarks::check_watermarks;
use super::writers::Bell;
use super::{
    BodyKind, Case, batch, broadcast, joins, key, number, record, roll, split_sources, time_of,
};
use crate::collector::Collector;
use crate::connected::{KeyedCoProcess, co_flat_map, co_process};
use crate::coordinator::SourceEvent;
use crate::flat_map::flat_map;
use crate::keyed::Context;
use crate::program::{Built, OperatorMaker};
use crate::source::source as source_operator;
use crate::task::{InputContext, OperatorContext, Step, TaskBody, turn};
use crate::{Result, ensure};

/// The cases to explore of a kind of body.
pub(super) fn cases(kind: BodyKind) -> Vec<Case> {
    match kind {
        BodyKind::OneInput => vec![one_input("one input", |body| body)],
        BodyKind::TwoInput => {
            vec![
                two_inputs(),
                two_keyed_inputs(),
                joins::case(),
                broadcast::case(),
                finishing("two inputs that finish", false, |body, _| body),
                finishing("two inputs with timers", true, |body, _| body),
            ]
        }
        BodyKind::Source => {
            vec![
                source("source", false, |body| body),
                source("source of splits", true, |body| body),
                split_sources::source(false),
                split_sources::source(true),
            ]
        }
    }
}

/// The bits of a record's number that are the channel's number.
const CHANNEL_SHIFT: u32 = 18;

/// The shift of the results of explored operators; records that go aside have none.
const RESULT_SHIFT: u32 = 12;

fn channel_of(output: usize, item: Item) -> usize {
    let Some(item) = item.record() else { return 0 };
    let record = if output == 0 { item >> RESULT_SHIFT } else { item };
    (number(record) >> CHANNEL_SHIFT) as usize
}

pub(super) type Wrap = fn(Box<dyn TaskBody>) -> Box<dyn TaskBody>;

/// A case: the operator, its inputs, and the oracle of what must come of them.
pub(super) struct Explored<'a> {
    pub(super) operator: &'a Operator,
    /// The number of channels of each input.
    pub(super) inputs: &'a [usize],
    pub(super) oracle: fn() -> Box<dyn Oracle>,
    pub(super) sorts: bool,
}

/// A slot with one task.
pub(super) struct Slot {
    body: Box<dyn TaskBody>,
    pub(super) outputs: Vec<Shared>,
    pub(super) bell: Arc<Bell>,
    pub(super) now: Instant,
    pub(super) deadline: Option<Instant>,
    pub(super) step: Step,
}

impl Slot {
    pub(super) fn start(
        kind: BodyKind,
        body: Box<dyn TaskBody>,
        outputs: Vec<Shared>,
        bell: Arc<Bell>,
    ) -> Result<Self, String> {
        if body.kind() != kind {
            return Err(format!("the body of {kind:?} is {:?}", body.kind()));
        }
        let (now, step) = (clock().clock().now(), Step::Progress);
        let mut slot = Self { body, outputs, bell, now, deadline: None, step };
        slot.body.open().map_err(|error| format!("{error:#}"))?;
        slot.bell.ring();
        Ok(slot)
    }

    /// Time passes, for the task's timers too.
    pub(super) fn wait(&mut self, passed: Duration) {
        self.now += passed;
        clock().advance(passed);
    }

    fn is_full(&self) -> bool {
        self.outputs.iter().any(|output| output.lock().is_full())
    }

    /// Gives the task a turn if it is to have one; whether it was.
    pub(super) fn turn(&mut self) -> Result<bool, String> {
        // A full output wakes the task when it takes more, or before that by mistake.
        let is_due = self.deadline.is_some_and(|due| due <= self.now);
        let is_called = self.bell.is_rung() || self.is_full() || self.step == Step::Progress;
        if self.step == Step::Finished || !(is_due || is_called) {
            return Ok(false);
        }
        self.bell.clear();
        let now = self.now;
        let (step, deadline) =
            turn(&mut *self.body, || now).map_err(|error| format!("{error:#}"))?;
        (self.step, self.deadline) = (step, deadline);
        match (step, self.is_full()) {
            (Step::Full, false) if self.bell.is_rung() => Ok(true),
            (Step::Full, false) => Err("it is full, but no output is".to_owned()),
            (Step::Progress | Step::Idle(_) | Step::Finished | Step::Stopped, true) => {
                Err(format!("it answers {step:?}, but an output is full"))
            }
            (Step::Full, true) | (_, false) => Ok(true),
        }
    }
}

/// The channels of a task's inputs, what was sent, and what must come of it.
struct Inputs {
    exchange: Exchange,
    channels: Vec<ChannelWriter<u64>>,
    oracles: Vec<Box<dyn Oracle>>,
    /// The items that each output must see of each channel.
    expected: Vec<Vec<Vec<Item>>>,
    next: Vec<u64>,
    timed: bool,
    has_ended: bool,
    /// The last watermark of each channel, and whether it is idle.
    watermarks: Vec<(i64, bool)>,
    barriers: Barriers,
    /// The results at the end come in any order.
    sorts: bool,
}

pub(super) const OUTPUTS: usize = 3;

impl Inputs {
    fn new(channels: usize, oracle: fn() -> Box<dyn Oracle>, timed: bool) -> Self {
        let exchange = exchange();
        let writer = |at| exchange.writer(channel(at), Waker::noop().clone(), Arc::default());
        Self {
            channels: (0..channels).map(writer).collect(),
            exchange,
            oracles: (0..channels).map(|_| oracle()).collect(),
            expected: vec![vec![Vec::new(); OUTPUTS]; channels],
            next: vec![0; channels],
            timed,
            has_ended: false,
            watermarks: vec![(i64::MIN, false); channels],
            barriers: Barriers::of(channels),
            sorts: false,
        }
    }

    fn send(&mut self, seed: u64, at: usize, records: u16) -> Result<()> {
        let (first, base) = (self.next[at], (at as u64) << CHANNEL_SHIFT);
        self.next[at] += u64::from(records);
        let numbers = first..self.next[at];
        let records: Vec<u64> = numbers.map(|n| record(seed, base | n)).collect();
        for record in &records {
            let time = self.timed.then(|| time_of(*record));
            let oracle = &mut self.oracles[at];
            at_time(time, &mut self.expected[at], |outputs| oracle.record(*record, outputs));
        }
        self.channels[at].send_batch(batch(records, self.timed))?;
        Ok(())
    }

    fn send_event(&mut self, at: usize, event: Event) -> Result<()> {
        let (watermark, idle) = &mut self.watermarks[at];
        match event {
            Event::Watermark(time) => *watermark = time.as_millis().max(*watermark),
            Event::Idle(is) => *idle = is,
            Event::EndOfInput => {}
            Event::Barrier(barrier) => {
                let places = self.expected[at].iter().map(Vec::len).collect();
                if !self.barriers.send(at, barrier.checkpoint.get(), places) {
                    return Ok(()); // a channel's barriers grow
                }
            }
        }
        self.channels[at].send_event(event)?;
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        let time = self.timed.then_some(AT_THE_END);
        for (oracle, expected) in self.oracles.iter_mut().zip(&mut self.expected) {
            at_time(time, expected, |outputs| oracle.end(outputs));
        }
        self.has_ended = true;
        self.barriers.end();
        for channel in &mut self.channels {
            channel.send_event(Event::EndOfInput)?;
        }
        Ok(())
    }

    fn drain(&mut self) -> Result<()> {
        for channel in &mut self.channels {
            channel.drain()?;
        }
        Ok(())
    }

    fn check(&self, outputs: &[Shared], all: bool) -> Result<(), String> {
        // Results of timers may come at any time.
        if self.sorts && !(self.has_ended && all) {
            return Ok(());
        }
        for (output, seen) in outputs.iter().enumerate() {
            let mut seen = seen.lock();
            if self.sorts {
                seen.seen.sort();
            } else {
                let arrived = all && !self.barriers.hold();
                check_watermarks(&self.watermarks, &seen.seen, arrived)?;
            }
            let seen = &seen.seen;
            let mut places = vec![0; self.channels.len()];
            let mut barriers = Vec::new();
            for item in seen {
                barriers.extend(barrier(*item).map(|checkpoint| (checkpoint, places.clone())));
                if item.record().is_none() {
                    continue;
                }
                let at = channel_of(output, *item);
                let place = places.get_mut(at).ok_or_else(|| format!("{item:?} of no channel"))?;
                let should = self.expected[at][output].get(*place);
                if should != Some(item) {
                    return Err(format!(
                        "output {output} saw {item:?} instead of {should:?} of channel {at}"
                    ));
                }
                *place += 1;
            }
            if !self.sorts {
                self.barriers.check(output, &self.expected, &barriers, all)?;
            }
            for (at, place) in places.iter().enumerate() {
                let allowed = self.barriers.allowed(at, output, self.expected[at][output].len());
                if *place > allowed || all && *place < allowed {
                    return Err(format!(
                        "output {output} saw {place} records of channel {at} and not {allowed} \
                         although nothing is full"
                    ));
                }
            }
        }
        Ok(())
    }
}

pub(super) fn channel(at: usize) -> ChannelId {
    ChannelId { edge: 0, from: at as u32, to: 0, generation: Generation::FIRST }
}

/// A body whose inputs have one channel after the other, with its slot.
pub(super) fn drive(
    kind: BodyKind,
    explored: &Explored<'_>,
    schedule: &Schedule,
    wrap: impl FnOnce(Box<dyn TaskBody>) -> Box<dyn TaskBody>,
) -> Result<(), String> {
    let count = explored.inputs.iter().sum();
    let mut sent = Inputs::new(count, explored.oracle, schedule.is_timed());
    sent.sorts = explored.sorts;
    let bell = Arc::new(Bell::default());
    let outputs = outputs(schedule, OUTPUTS);
    let mut numbers = (0..count).map(|at| InputChannels::one(channel(at), HOST));
    let inputs = explored.inputs.iter();
    let inputs = inputs.map(|channels| numbers.by_ref().take(*channels).collect()).collect();
    let inputs = InputContext {
        exchange: &sent.exchange,
        inputs,
        operator: OperatorId::from_u128(1),
        overtaken: None,
    };
    let parts = Parts { timed: schedule.is_timed(), ..Parts::default() };
    let body = build(explored.operator, &bell, Some(inputs), &outputs, &parts);
    let mut slot = Slot::start(kind, wrap(body), outputs, bell)?;
    let say = |error: crate::Error| format!("{error:#}");
    for act in &schedule.acts {
        match *act {
            Act::Batch { input, records } => {
                sent.send(schedule.seed, usize::from(input) % count, records).map_err(say)?;
            }
            Act::Event { input, event } => {
                let at = usize::from(input) % count;
                sent.send_event(at, event).map_err(say)?;
            }
            Act::Wait { ms } => slot.wait(Duration::from_millis(ms.into())),
            Act::Take { .. } => run_until_idle(&mut slot, &mut sent)?,
            Act::Turn { turns } => {
                for _ in 0..turns {
                    slot.turn()?;
                    sent.drain().map_err(say)?;
                }
            }
        }
        sent.check(&slot.outputs, false)?;
    }
    run_until_idle(&mut slot, &mut sent)?;
    sent.end().map_err(say)?;
    run_until_idle(&mut slot, &mut sent)?;
    ended(&slot, explored.sorts)
}

/// The stream is quiet: the task has turns until it has nothing to do and nothing is due. Then
/// everything that was sent has arrived.
fn run_until_idle(slot: &mut Slot, sent: &mut Inputs) -> Result<(), String> {
    for _ in 0..TURNS_MAX {
        sent.drain().map_err(|error| format!("{error:#}"))?;
        if slot.turn()? {
            continue;
        }
        match slot.deadline {
            Some(due) if slot.step != Step::Finished => {
                slot.wait(due.saturating_duration_since(slot.now));
            }
            _ => return sent.check(&slot.outputs, true),
        }
    }
    Err(format!("it is not idle after {TURNS_MAX} turns"))
}

/// More turns than any schedule needs.
pub(super) const TURNS_MAX: usize = 100_000;

pub(super) fn ended(slot: &Slot, sorted: bool) -> Result<(), String> {
    if slot.step != Step::Finished {
        return Err(format!("it is {:?} although its input has ended", slot.step));
    }
    for (at, output) in slot.outputs.iter().enumerate() {
        let seen = &output.lock().seen;
        // Events are sorted behind records.
        let last = if sorted { END } else { seen.last().copied().unwrap_or(END) };
        if seen.iter().filter(|item| **item == END).count() != 1 || last != END {
            return Err(format!("output {at} did not see one end, as the last of all"));
        }
    }
    Ok(())
}

/// The surroundings of a body beside inputs and outputs.
pub(super) struct Parts {
    pub(super) to_coordinator: EventSender,
    pub(super) from_coordinator: Arc<EventMailbox>,
    pub(super) timed: bool,
}

impl Default for Parts {
    fn default() -> Self {
        Self { to_coordinator: to_nobody(), from_coordinator: Arc::default(), timed: false }
    }
}

pub(super) fn build(
    operator: &Operator,
    bell: &Arc<Bell>,
    inputs: Option<InputContext<'_>>,
    outputs: &[Shared],
    parts: &Parts,
) -> Box<dyn TaskBody> {
    let mut task = task(false);
    task.waker = Waker::from(Arc::clone(bell));
    let ctx = OperatorContext {
        task: &task,
        operator: OperatorId::from_u128(2),
        name: "explored",
        to_coordinator: &parts.to_coordinator,
        from_coordinator: &parts.from_coordinator,
    };
    let outputs = three(outputs, same, parts.timed);
    match operator.program.build_operator(operator.node, &ctx, inputs, outputs).unwrap() {
        Built::Body(body) => body,
        Built::Stage(_) => panic!("the operator is no body"),
    }
}

/// Mostly few results, seldom more than two batches of them.
pub(super) fn results(record: u64) -> Vec<u64> {
    let count = if roll(record, 2, 200) == 0 { 2_500 } else { roll(record, 3, 4) };
    let first = record << RESULT_SHIFT;
    (first..first + count).collect()
}

pub(super) fn all_or_bad(record: u64) -> Result<Vec<u64>> {
    refuse_bad(record).map(results)
}

fn all_or_bad_oracle() -> Box<dyn Oracle> {
    without_bad(true, |record, outputs| {
        outputs[0].extend(results(record).into_iter().map(Item::Record));
    })
}

pub(super) fn one_input(name: &'static str, wrap: Wrap) -> Case {
    let operator = Operator::of_stage(flat_map(bad(), |_| Ok(all_or_bad)));
    Case::new(name, move |schedule| {
        let explored =
            Explored { operator: &operator, inputs: &[3], oracle: all_or_bad_oracle, sorts: false };
        drive(BodyKind::OneInput, &explored, schedule, wrap)
    })
}

fn two_inputs() -> Case {
    let make = co_flat_map((bad(), bad()), (all_or_bad, all_or_bad));
    let operator = Operator::of(OperatorMaker::two_inputs(make));
    Case::new("two inputs", move |schedule| {
        let explored = Explored {
            operator: &operator,
            inputs: &[2, 1],
            oracle: all_or_bad_oracle,
            sorts: false,
        };
        drive(BodyKind::TwoInput, &explored, schedule, |body| body)
    })
}

/// Counts the records of each side apart, in state that both share.
struct Both {
    left: ValueState<u64>,
    right: ValueState<u64>,
}

pub(super) fn count(
    state: &ValueState<u64>,
    record: u64,
    ctx: &mut Context<'_, u64>,
    out: &mut Collector<'_, u64>,
) -> Result<()> {
    ensure_time(ctx.timestamp(), record)?;
    let count = state.get_or_insert_with(ctx, || 0)?;
    *count += 1;
    emit_counted(record, *count, out)
}

/// Emits the results of a record, the `count`th of its key, or refuses it.
pub(super) fn emit_counted(record: u64, count: u64, out: &mut Collector<'_, u64>) -> Result<()> {
    let first = (record << RESULT_SHIFT) | (count % 16);
    (0..results(record).len() as u64).for_each(|n| out.emit(first + 16 * (n % 200)));
    if roll(record, 4, 3) == 0 {
        out.emit_to(&SIDE, record)?;
    }
    // Everything that the record did is taken back.
    refuse_bad(record).map(|_| ())
}

impl KeyedCoProcess<u64, u64, u64> for Both {
    type Out = u64;

    fn process_left(
        &mut self,
        record: u64,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, u64>,
    ) -> Result<()> {
        count(&self.left, record, ctx, out)
    }

    fn process_right(
        &mut self,
        record: u64,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, u64>,
    ) -> Result<()> {
        count(&self.right, record, ctx, out)
    }
}

pub(super) fn counted() -> Box<dyn Oracle> {
    let mut counts = BTreeMap::<u64, u64>::new();
    without_bad(true, move |record, outputs| {
        let count = counts.entry(key(record)).or_default();
        *count += 1;
        let first = (record << RESULT_SHIFT) | (*count % 16);
        let results = 0..results(record).len() as u64;
        outputs[0].extend(results.map(|n| Item::Record(first + 16 * (n % 200))));
        if roll(record, 4, 3) == 0 {
            outputs[1].push(Item::Record(record));
        }
    })
}

fn two_keyed_inputs() -> Case {
    let make = co_process((bad(), bad()), (by_key(), by_key()), |states| {
        Ok(Both { left: states.value("left")?, right: states.value("right")? })
    });
    let operator = Operator::of(OperatorMaker::two_inputs(make));
    Case::new("two keyed inputs", move |schedule| {
        let explored =
            Explored { operator: &operator, inputs: &[1, 1], oracle: counted, sorts: false };
        drive(BodyKind::TwoInput, &explored, schedule, |body| body)
    })
}

/// The script of a reader, poll by poll.
#[derive(Debug, Default)]
pub(super) struct Script {
    pub(super) seed: u64,
    pub(super) timed: bool,
    pub(super) acts: VecDeque<Act>,
    /// The number of records that were read.
    pub(super) next: u64,
    pub(super) now: Option<Instant>,
    /// It waits for its waker.
    pub(super) sleeps: bool,
    /// It waits for a split.
    needs_split: bool,
    is_finished: bool,
    /// It never says that it has finished, but asks for splits.
    has_splits: bool,
}

/// A source whose reader does what a schedule says; its enumerator is `E`.
#[derive(Debug)]
pub(super) struct Scripted<E>(Arc<Mutex<Script>>, PhantomData<fn() -> E>);

impl<E> Scripted<E> {
    pub(super) fn new(script: Arc<Mutex<Script>>) -> Self {
        Self(script, PhantomData)
    }
}

/// An enumerator that is never asked: the test answers for it.
struct Never;

impl SplitEnumerator for Never {
    type Split = ();
    type State = ();

    fn discover(&mut self) -> Result<Option<Duration>> {
        Ok(None)
    }

    fn next_split(&mut self, _subtask: u32) -> Result<NextSplit<()>> {
        Ok(NextSplit::NoMore)
    }

    fn give_back(&mut self, _subtask: u32, _splits: Vec<()>) -> Result<()> {
        Ok(())
    }

    fn snapshot(&mut self) -> Result<()> {
        Ok(())
    }
}

pub(super) struct ScriptedReader(Arc<Mutex<Script>>);

impl<E: SplitEnumerator<Split = ()> + 'static> Source for Scripted<E> {
    type Out = u64;
    type Split = ();
    type Reader = ScriptedReader;
    type Enumerator = E;

    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }

    fn reader(&self, _ctx: &ReaderContext) -> Result<ScriptedReader> {
        Ok(ScriptedReader(Arc::clone(&self.0)))
    }
}

impl Script {
    pub(super) fn of(schedule: &Schedule) -> Self {
        let acts = schedule.acts.iter().copied().collect();
        let (seed, timed) = (schedule.seed, schedule.is_timed());
        Self { seed, timed, acts, ..Self::default() }
    }

    /// The answer of a reader that has read all that it had.
    fn end(&mut self) -> Polled {
        if self.has_splits {
            self.needs_split = true;
            return Polled::NeedSplit;
        }
        self.is_finished = true;
        Polled::Finished
    }
}

impl SourceReader for ScriptedReader {
    type Out = u64;
    type Split = ();

    fn add_splits(&mut self, splits: Vec<()>) -> Result<()> {
        let mut script = self.0.lock().unwrap();
        if splits.is_empty() {
            return Ok(());
        }
        ensure!(script.needs_split, "a split came that was not asked for");
        script.needs_split = false;
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Vec<()>> {
        Ok(Vec::new())
    }

    fn poll(&mut self, out: &mut ReaderOutput<'_, u64>) -> Result<Polled> {
        let mut script = self.0.lock().unwrap();
        ensure!(!script.is_finished, "a reader that has finished was polled");
        ensure!(out.is_empty(), "the output is not empty");
        if script.needs_split {
            return Ok(Polled::NeedSplit);
        }
        let soon = script.now.map(|now| now + Duration::from_millis(3));
        let Some(act) = script.acts.pop_front() else { return Ok(script.end()) };
        match act {
            Act::Batch { input, records } => {
                let numbers = script.next..script.next + u64::from(records);
                script.next = numbers.end;
                for number in numbers {
                    let record = record(script.seed, number);
                    match script.timed {
                        true => out.push_at(record, time_of(record))?,
                        false => out.push(record)?,
                    }
                }
                match input {
                    0 => Ok(Polled::Ready),
                    1 => Ok(Polled::Pending(soon)),
                    _ if script.acts.is_empty() => Ok(script.end()),
                    _ => Ok(Polled::Ready),
                }
            }
            Act::Wait { .. } => Ok(Polled::Pending(soon)),
            Act::Take { .. } => {
                script.sleeps = true;
                Ok(Polled::Pending(None))
            }
            Act::Event { .. } if script.has_splits => {
                script.needs_split = true;
                Ok(Polled::NeedSplit)
            }
            Act::Event { .. } | Act::Turn { .. } => Ok(Polled::Ready),
        }
    }
}

/// The enumerator's answers to a reader, late by some turns.
fn answer(schedule: &Schedule, script: &Script, asked: &mut u64, parts: &Parts) -> Result<bool> {
    if *asked == 0 {
        return Ok(false);
    }
    *asked -= 1;
    let message = match script.acts.is_empty() {
        true => SourceEvent::<()>::NoMoreSplits,
        false => SourceEvent::Splits(vec![()]),
    };
    ensure!(*asked == 0, "it asked twice at once in {schedule:?}");
    parts.from_coordinator.push(Mail::Event(encode(&message)?))?;
    Ok(true)
}

pub(super) fn source(name: &'static str, has_splits: bool, wrap: Wrap) -> Case {
    let script = Arc::<Mutex<Script>>::default();
    let operator = match has_splits {
        true => {
            let source = Arc::new(Scripted::<Never>::new(Arc::clone(&script)));
            Operator::of(OperatorMaker::source(source_operator(&source, "source")))
        }
        false => {
            let source = Arc::new(Scripted::<NoEnumerator<()>>::new(Arc::clone(&script)));
            Operator::of(OperatorMaker::source(source_operator(&source, "source")))
        }
    };
    Case::new(name, move |schedule| {
        let (bell, asked) = (Arc::new(Bell::default()), Arc::<Mutex<u64>>::default());
        let requests = Arc::clone(&asked);
        let parts = Parts {
            to_coordinator: Arc::new(move |_, _, payload| {
                let message = decode::<SourceEvent<()>>(&payload).unwrap();
                assert!(matches!(message, SourceEvent::RequestSplit(_)));
                *requests.lock().unwrap() += 1;
            }),
            from_coordinator: Arc::default(),
            timed: schedule.is_timed(),
        };
        *script.lock().unwrap() = Script { has_splits, ..Script::of(schedule) };
        let outputs = outputs(schedule, OUTPUTS);
        let body = wrap(build(&operator, &bell, None, &outputs, &parts));
        let mut slot = Slot::start(BodyKind::Source, body, outputs, bell)?;
        for _ in 0..TURNS_MAX {
            script.lock().unwrap().now = Some(slot.now);
            if slot.turn()? {
                continue;
            }
            if slot.step == Step::Finished {
                break;
            }
            let mut script = script.lock().unwrap();
            let is_answered =
                answer(schedule, &script, &mut asked.lock().unwrap(), &parts).map_err(text)?;
            if std::mem::take(&mut script.sleeps) || is_answered {
                slot.bell.ring();
            } else if let Some(due) = slot.deadline {
                slot.now = slot.now.max(due);
            } else {
                return Err("nothing will ever wake it".to_owned());
            }
        }
        ended(&slot, false)?;
        let script = script.lock().unwrap();
        let records = (0..script.next).map(|n| record(schedule.seed, n));
        let time = |record| schedule.is_timed().then(|| time_of(record));
        let records = records.map(|record| Item::Record(record).at(time(record)));
        let all: Vec<Item> = records.chain([END]).collect();
        super::stages::compare(0, &slot.outputs[0].lock().seen, &all, 0, true)
    })
}

fn text(error: crate::Error) -> String {
    format!("{error:#}")
}
