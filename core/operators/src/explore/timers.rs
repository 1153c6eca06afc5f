//! Operators that wait for time, and plain computations of what they must do: functions that set
//! and delete timers, and the order of records by event time.

use std::collections::BTreeSet;
use std::time::Instant;

use millstream_network::{Batch, Event, Flow};
use millstream_state::{Timer, Timers};
use millstream_types::{ManualClock, Timestamp};

use super::cases::{
    Operator, SIDE, bad, by_key, ensure_time, is_bad, refuse_bad, same, task, three, to_nobody,
};
use super::hosts::clock;
use super::mutants::{Hidden, Mutant};
use super::probe::Item;
use super::stages::{Explored, Oracle, drive, outputs};
use super::{Case, Kind, key, roll, time_of};
use crate::collector::Collector;
use crate::keyed::{Context, KeyedProcess, keyed_process};
use crate::late::LateRecords;
use crate::order::order_by_time;
use crate::stage::Stage;
use crate::{Result, ensure};

pub(super) fn cases() -> Vec<Case> {
    [true, false]
        .map(|batch| {
            let stage = keyed_process(bad(), by_key(), |ctx| {
                // Without event times there are none.
                let event = ctx.event_timers("first").ok().zip(ctx.event_timers("second").ok());
                Ok(Alarms { event, clock: ctx.processing_timers("clock")? })
            });
            let (operator, task, nobody) = (Operator::of_stage(stage), task(batch), to_nobody());
            let name = if batch { "timers in batch mode" } else { "timers" };
            Case::new(name, move |schedule| {
                let timed = schedule.is_timed();
                let outputs = outputs(schedule, 3);
                let stage = operator.build(&task, &nobody, three(&outputs, same, timed));
                let oracle = Box::new(Fired {
                    timed,
                    batch,
                    clock: clock(),
                    watermark: i64::MIN,
                    event: BTreeSet::new(),
                    processing: BTreeSet::new(),
                    is_closed: false,
                });
                drive(Explored { stage, kind: Kind::Process, outputs, oracle }, schedule)
            })
        })
        .into()
}

/// The names of timers, as parts of their times: no two timers are due at one time, so that they
/// fire in one order.
const FIRST: u64 = 0;
const SECOND: u64 = 1;

const BITS: u32 = 4;

fn event_time(record: u64, salt: u64, name: u64) -> i64 {
    (roll(record, salt, 80) << BITS | key(record) << 1 | name) as i64
}

/// The time of a timer that is set at a moment of processing time.
fn clock_time(record: u64, now: i64) -> i64 {
    let now = now >> BITS << BITS;
    now + (roll(record, 42, 20) << BITS | key(record)) as i64
}

/// The time of the timer that another one sets.
fn next_time(time: i64) -> Option<i64> {
    let after = 1 + roll(time as u64, 45, 5);
    (roll(time as u64, 46, 3) == 0).then(|| time + (after << BITS) as i64)
}

/// The result of a timer: mostly one, seldom more than a batch.
fn results(time: i64) -> impl Iterator<Item = u64> {
    let count = if roll(time as u64, 47, 150) == 0 { 1_200 } else { 1 };
    (0..count).map(move |number| (time as u64) << 12 | number)
}

/// Sets timers for its records, and others when those are due.
struct Alarms {
    event: Option<(Timers, Timers)>,
    clock: Timers,
}

impl KeyedProcess<u64, u64> for Alarms {
    type Out = u64;

    fn process(
        &mut self,
        record: u64,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, u64>,
    ) -> Result<()> {
        ensure_time(ctx.timestamp(), record)?;
        let now = ctx.processing_time();
        self.clock.set(ctx, clock_time(record, now))?;
        if let Some((first, second)) = self.event {
            first.set(ctx, event_time(record, 40, FIRST))?;
            second.set(ctx, event_time(record, 41, SECOND))?;
            second.delete(ctx, event_time(record, 43, SECOND))?;
        }
        out.emit(record);
        // Everything above is taken back.
        refuse_bad(record).map(|_| ())
    }

    fn on_timer(
        &mut self,
        timer: Timer,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, u64>,
    ) -> Result<()> {
        let mut timers = self.clock;
        if timer.is_of(&self.clock) {
            ensure!(ctx.timestamp() == out.timestamp(), "two times");
        } else {
            let watermark = ctx.current_watermark();
            ensure!(watermark >= Some(timer.time()), "the watermark is {watermark:?}");
            ensure!(ctx.timestamp() == Some(timer.time()), "{:?}", ctx.timestamp());
            let name = timer.time() as u64 & 1;
            let (first, second) = self.event.unwrap_or((timers, timers));
            timers = if name == FIRST { first } else { second };
            ensure!(timer.is_of(&timers), "{timer:?} is of others");
            ensure!(timer.time() as u64 >> 1 & 7 == *ctx.key(), "another key's");
        }
        if let Some(next) = next_time(timer.time()) {
            timers.set(ctx, next)?;
            out.emit_to(&SIDE, timer.time() as u64)?;
        }
        results(timer.time()).for_each(|result| out.emit(result));
        Ok(())
    }
}

/// The timers that are set, and what comes of those that fire.
struct Fired {
    timed: bool,
    batch: bool,
    clock: ManualClock,
    watermark: i64,
    event: BTreeSet<i64>,
    processing: BTreeSet<i64>,
    is_closed: bool,
}

impl Fired {
    fn now(&self) -> i64 {
        self.clock.clock().wall().as_millis()
    }

    fn fire(&self, timer: i64, time: i64, outputs: &mut [Vec<Item>]) -> Option<i64> {
        let at = |record| Item::Record(record).at(self.timed.then_some(time));
        outputs[0].extend(results(timer).map(at));
        let next = next_time(timer);
        outputs[1].extend(next.map(|_| at(timer as u64)));
        next
    }

    fn fire_event(&mut self, outputs: &mut [Vec<Item>]) {
        while let Some(time) = self.event.first().copied().filter(|time| *time <= self.watermark) {
            self.event.remove(&time);
            let next = self.fire(time, time, outputs);
            self.event.extend(next);
        }
    }

    fn fire_processing(&mut self, until: i64, outputs: &mut [Vec<Item>]) {
        while let Some(time) = self.processing.first().copied().filter(|time| *time <= until) {
            self.processing.remove(&time);
            let next = self.fire(time, self.watermark.saturating_add(1), outputs);
            self.processing.extend(next.filter(|_| !self.is_closed));
        }
    }
}

impl Oracle for Fired {
    fn record(&mut self, record: u64, outputs: &mut [Vec<Item>]) {
        if is_bad(record) {
            outputs[2].push(Item::Record(record));
            return;
        }
        outputs[0].push(Item::Record(record));
        self.processing.insert(clock_time(record, self.now()));
        if self.timed {
            self.event.insert(event_time(record, 40, FIRST));
            self.event.insert(event_time(record, 41, SECOND));
            self.event.remove(&event_time(record, 43, SECOND));
        }
    }

    fn event(&mut self, event: Event, outputs: &mut [Vec<Item>]) {
        if let Event::Watermark(watermark) = event {
            self.watermark = self.watermark.max(watermark.as_millis());
            self.fire_event(outputs);
        }
    }

    fn on_time(&mut self, outputs: &mut [Vec<Item>]) {
        if !self.batch {
            self.fire_processing(self.now(), outputs);
        }
    }

    fn next_time(&self) -> Option<Instant> {
        let next = self.processing.first().filter(|_| !self.batch)?;
        let clock = self.clock.clock();
        Some(clock.now() + Timestamp::from_millis(*next).saturating_since(clock.wall()))
    }

    fn end(&mut self, outputs: &mut [Vec<Item>]) {
        self.watermark = i64::MAX;
        self.fire_event(outputs);
        self.is_closed = true;
        self.fire_processing(i64::MAX, outputs);
        self.fire_event(outputs);
    }
}

/// The order of event times, which are made smaller: watermarks of schedules are below 1,000.
pub(super) fn order() -> Case {
    let operator = Operator::of_stage(order_by_time(LateRecords::side_output(&SIDE)));
    let (task, nobody) = (task(false), to_nobody());
    Case::new("order", move |schedule| {
        let outputs = outputs(schedule, 3);
        let order = operator.build(&task, &nobody, three(&outputs, same, true));
        let mut stage = Box::new(Mutant::of(Hidden(order)));
        stage.push = push_sooner;
        let oracle = Box::new(Ordered { kept: Vec::new(), watermark: i64::MIN });
        drive(Explored { stage, kind: Kind::Order, outputs, oracle }, schedule)
    })
}

const fn sooner(time: i64) -> i64 {
    time % 1_100
}

/// Hands a stage records whose times the watermarks of a schedule may reach.
fn push_sooner(stage: &mut Hidden, batch: Batch<u64>) -> Result<Flow> {
    let (records, _) = batch.into_parts();
    let times = records.iter().map(|record| sooner(time_of(*record))).collect();
    stage.push(Batch::timed(records, times)?)
}

/// Keeps records in the order in which they come.
struct Ordered {
    kept: Vec<(i64, u64)>,
    watermark: i64,
}

impl Ordered {
    fn hand_on(&mut self, outputs: &mut [Vec<Item>]) {
        let reached = self.kept.extract_if(.., |(time, _)| *time <= self.watermark);
        let mut reached: Vec<_> = reached.collect();
        reached.sort_by_key(|(time, _)| *time);
        outputs[0].extend(reached.into_iter().map(|(time, record)| Item::Timed(record, time)));
    }
}

impl Oracle for Ordered {
    fn record(&mut self, record: u64, outputs: &mut [Vec<Item>]) {
        let time = sooner(time_of(record));
        if time <= self.watermark {
            outputs[1].push(Item::Timed(record, time));
        } else {
            self.kept.push((time, record));
        }
    }

    fn event(&mut self, event: Event, outputs: &mut [Vec<Item>]) {
        if let Event::Watermark(watermark) = event {
            self.watermark = self.watermark.max(watermark.as_millis());
            self.hand_on(outputs);
        }
    }

    fn end(&mut self, outputs: &mut [Vec<Item>]) {
        self.watermark = i64::MAX;
        self.hand_on(outputs);
    }
}
