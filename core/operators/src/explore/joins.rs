//! An interval join, and a plain computation of its pairs. The task is idle before anything else
//! comes, so that which record is late, and which one of a refused pair came last, is known.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use millstream_network::{Batch, ChannelWriter, Event, InputChannels};

use super::bodies::{OUTPUTS, Parts, Slot, TURNS_MAX, build, channel, ended};
use super::cases::{Operator, SIDE, bad, by_key};
use super::hosts::{HOST, exchange};
use super::probe::Item;
use super::schedule::{Act, Schedule};
use super::stages::outputs;
use super::writers::Bell;
use super::{BodyKind, Case, key, record, roll, time_of};
use crate::joins::{IntervalJoin, interval_join};
use crate::late::LateRecords;
use crate::program::OperatorMaker;
use crate::task::{InputContext, Step};
use crate::{Result, ensure};

/// By how much later right records are than left ones.
const LOWER: i64 = -20;
const UPPER: i64 = 35;

/// The time of a record that watermarks of schedules may reach.
fn time(record: u64) -> i64 {
    time_of(record) % 1_100
}

fn is_bad_pair(left: u64, right: u64) -> bool {
    roll(left ^ right.rotate_left(7), 61, 60) == 0
}

const fn result(left: u64, right: u64) -> u64 {
    left.wrapping_mul(31).wrapping_add(right)
}

fn pair(left: &u64, right: &u64) -> Result<u64> {
    ensure!(!is_bad_pair(*left, *right), "{left} and {right} are a bad pair");
    Ok(result(*left, *right))
}

pub(super) fn case() -> Case {
    let late = LateRecords::side_output(&SIDE);
    let rules = IntervalJoin { later: LOWER..=UPPER, late_left: late, late_right: late };
    let make = interval_join(rules, (bad(), bad()), (by_key(), by_key()), pair);
    let operator = Operator::of(OperatorMaker::two_inputs(make));
    Case::new("interval join", move |schedule| run(&operator, schedule))
}

/// All records that were in time and not refused, by side, key and time.
#[derive(Default)]
struct Plain {
    sides: [BTreeMap<(u64, i64), Vec<u64>>; 2],
    watermarks: [Option<i64>; 2],
    expected: [Vec<Item>; OUTPUTS],
}

impl Plain {
    fn record(&mut self, side: usize, record: u64) {
        let (key, time) = (key(record), time(record));
        let item = Item::Timed(record, time);
        // Before both inputs have one there is none.
        if self.watermarks.iter().min().copied().flatten().is_some_and(|reached| time <= reached) {
            return self.expected[1].push(item);
        }
        let (from, to) =
            if side == 0 { (time + LOWER, time + UPPER) } else { (time - UPPER, time - LOWER) };
        let others = self.sides[1 - side].range((key, from)..=(key, to));
        let mut pairs = Vec::new();
        for ((_, other_time), other) in
            others.flat_map(|(at, others)| others.iter().map(move |other| (at, *other)))
        {
            let (left, right) = if side == 0 { (record, other) } else { (other, record) };
            if is_bad_pair(left, right) {
                return self.expected[2].push(item);
            }
            pairs.push(Item::Timed(result(left, right), time.max(*other_time)));
        }
        self.expected[0].append(&mut pairs);
        self.sides[side].entry((key, time)).or_default().push(record);
    }

    fn watermark(&mut self, side: usize, watermark: i64) {
        self.watermarks[side] = self.watermarks[side].max(Some(watermark));
    }

    fn check(&mut self, slot: &Slot) -> Result<(), String> {
        for (at, (output, expected)) in slot.outputs.iter().zip(&mut self.expected).enumerate() {
            let mut seen: Vec<_> = output.lock().seen.clone();
            seen.retain(|item| item.record().is_some());
            seen.sort();
            expected.sort();
            if seen != *expected {
                let wrong = seen.iter().zip(&*expected).find(|(seen, expected)| seen != expected);
                let counts = (seen.len(), expected.len());
                return Err(format!("output {at} saw {wrong:?}, {counts:?} records"));
            }
        }
        Ok(())
    }
}

fn run(operator: &Operator, schedule: &Schedule) -> Result<(), String> {
    let say = |error: crate::Error| format!("{error:#}");
    let exchange = exchange();
    let writer = |at| exchange.writer(channel(at), Waker::noop().clone(), Arc::default());
    let mut writers: Vec<ChannelWriter<u64>> = (0..2).map(writer).collect();
    let (bell, outputs) = (Arc::new(Bell::default()), outputs(schedule, OUTPUTS));
    let inputs = (0..2).map(|at| vec![InputChannels::one(channel(at), HOST)]).collect();
    let inputs = InputContext {
        exchange: &exchange,
        inputs,
        operator: millstream_types::OperatorId::from_u128(1),
        overtaken: None,
    };
    let parts = Parts { timed: true, ..Parts::default() };
    let body = build(operator, &bell, Some(inputs), &outputs, &parts);
    let mut slot = Slot::start(BodyKind::TwoInput, body, outputs, bell)?;
    let (mut plain, mut next) = (Plain::default(), 0);
    for act in &schedule.acts {
        match *act {
            Act::Batch { input, records } => {
                let side = usize::from(input) % 2;
                let numbers = next..next + u64::from(records.min(100));
                next = numbers.end;
                let records: Vec<_> = numbers.map(|n| record(schedule.seed, n)).collect();
                records.iter().for_each(|record| plain.record(side, *record));
                let times = records.iter().map(|record| time(*record)).collect();
                let batch = Batch::timed(records, times).map_err(|error| error.to_string())?;
                writers[side].send_batch(batch).map_err(|error| say(error.into()))?;
            }
            Act::Event { input, event: Event::Watermark(watermark) } => {
                let side = usize::from(input) % 2;
                plain.watermark(side, watermark.as_millis());
                let event = Event::Watermark(watermark);
                writers[side].send_event(event).map_err(|error| say(error.into()))?;
            }
            Act::Wait { ms } => slot.wait(Duration::from_millis(ms.into())),
            Act::Event { .. } | Act::Take { .. } | Act::Turn { .. } => {}
        }
        idle(&mut slot, &mut writers)?;
    }
    for writer in &mut writers {
        writer.send_event(Event::EndOfInput).map_err(|error| say(error.into()))?;
    }
    idle(&mut slot, &mut writers)?;
    plain.check(&slot)?;
    ended(&slot, false)
}

/// Gives the task turns until it has nothing to do.
fn idle(slot: &mut Slot, writers: &mut [ChannelWriter<u64>]) -> Result<(), String> {
    for _ in 0..TURNS_MAX {
        for writer in &mut *writers {
            writer.drain().map_err(|error| error.to_string())?;
        }
        if slot.turn()? {
            continue;
        }
        match slot.deadline {
            Some(due) if slot.step != Step::Finished => {
                slot.wait(due.saturating_duration_since(slot.now));
            }
            _ => return Ok(()),
        }
    }
    Err(format!("it is not idle after {TURNS_MAX} turns"))
}
