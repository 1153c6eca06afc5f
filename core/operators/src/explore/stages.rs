//! Stages between probes: what a schedule does to one, and what a plain computation says of it.

use std::time::{Duration, Instant};

use millstream_network::{Event, Flow};
use millstream_types::Timestamp;

use super::hosts::{clock, take_wake_up};
use super::probe::{Item, Output, Shared};
use super::schedule::{Act, OUTPUTS_MAX, Schedule};
use super::{Kind, batch, record, roll, time_of};
use crate::stage::{Moment, Stage};

/// The results that a stage must make of its input, computed without the engine.
pub(super) trait Oracle {
    fn record(&mut self, record: u64, outputs: &mut [Vec<Item>]);

    /// An event comes, which is added by the caller, and which is not the end.
    fn event(&mut self, _event: Event, _outputs: &mut [Vec<Item>]) {}

    /// Time has passed.
    fn on_time(&mut self, _outputs: &mut [Vec<Item>]) {}

    /// The time when more results will come.
    fn next_time(&self) -> Option<Instant> {
        None
    }

    /// The input ends; the event is added by the caller.
    fn end(&mut self, _outputs: &mut [Vec<Item>]) {}

    /// Whether an output sees an event.
    fn sees(&self, _output: usize, _event: Event) -> bool {
        true
    }
}

impl<F: FnMut(u64, &mut [Vec<Item>])> Oracle for F {
    fn record(&mut self, record: u64, outputs: &mut [Vec<Item>]) {
        self(record, outputs);
    }
}

/// A stage with its outputs and what is known of them.
pub(super) struct Explored {
    pub(super) stage: Box<dyn Stage<u64>>,
    pub(super) kind: Kind,
    pub(super) outputs: Vec<Shared>,
    pub(super) oracle: Box<dyn Oracle>,
}

/// The outputs of a schedule.
pub(super) fn outputs(schedule: &Schedule, count: usize) -> Vec<Shared> {
    schedule.stalls.iter().take(count).map(|stalls| Output::of(stalls)).collect()
}

/// Compares what the outputs have seen with what they should have seen so far.
pub(super) struct Expected {
    items: Vec<Vec<Item>>,
    oracle: Box<dyn Oracle>,
    timed: bool,
}

/// Gives the records that are added to outputs the event time of those that they are made of.
pub(super) fn at_time(
    time: Option<i64>,
    outputs: &mut [Vec<Item>],
    add: impl FnOnce(&mut [Vec<Item>]),
) {
    let before: [usize; OUTPUTS_MAX] =
        std::array::from_fn(|output| outputs.get(output).map_or(0, Vec::len));
    add(outputs);
    for (items, before) in outputs.iter_mut().zip(before) {
        items.iter_mut().skip(before).for_each(|item| *item = item.at(time));
    }
}

/// The event time of what stands for all up to the end of the input.
pub(super) const AT_THE_END: i64 = Timestamp::MAX.as_millis();

impl Expected {
    pub(super) fn new(oracle: Box<dyn Oracle>, timed: bool) -> Self {
        Self { items: vec![Vec::new(); OUTPUTS_MAX], oracle, timed }
    }

    pub(super) fn items(&self) -> &[Vec<Item>] {
        &self.items
    }

    pub(super) fn record(&mut self, record: u64) {
        let time = self.timed.then(|| time_of(record));
        at_time(time, &mut self.items, |outputs| self.oracle.record(record, outputs));
    }

    pub(super) fn event(&mut self, event: Event) {
        if event == Event::EndOfInput {
            let time = self.timed.then_some(AT_THE_END);
            at_time(time, &mut self.items, |outputs| self.oracle.end(outputs));
        } else {
            self.oracle.event(event, &mut self.items);
        }
        for (output, items) in self.items.iter_mut().enumerate() {
            if self.oracle.sees(output, event) {
                items.push(event.into());
            }
        }
    }

    /// Nothing that was seen is wrong, and if all must be there, nothing is missing.
    pub(super) fn check(&self, outputs: &[Shared], all: bool) -> Result<(), String> {
        for (at, (expected, output)) in self.items.iter().zip(outputs).enumerate() {
            let mut output = output.lock();
            let from = output.compared;
            if !output.sorts_runs {
                compare(at, &output.seen, expected, from, all)?;
                output.compared = output.seen.len();
            } else if all {
                let runs = output.seen.get_mut(from..).unwrap_or_default();
                runs.split_mut(|item| matches!(item, Item::Event(..))).for_each(<[Item]>::sort);
                compare(at, &output.seen, expected, from, all)?;
                output.compared = output.seen.len();
            }
        }
        Ok(())
    }
}

/// Compares what an output has seen with what it must see, from a place on.
pub(super) fn compare(
    output: usize,
    seen: &[Item],
    expected: &[Item],
    from: usize,
    all: bool,
) -> Result<(), String> {
    let (seen, should) = (seen.get(from..), expected.get(from..));
    let (seen, should) = (seen.unwrap_or_default(), should.unwrap_or_default());
    if let Some(wrong) = (0..seen.len()).find(|n| seen.get(*n) != should.get(*n)) {
        return Err(format!(
            "output {output} saw {:?} instead of {:?} at place {}",
            seen.get(wrong),
            should.get(wrong),
            from + wrong
        ));
    }
    if all && seen.len() < should.len() {
        return Err(format!(
            "output {output} did not see {:?} and the {} after it although nothing is full",
            should.get(seen.len()),
            should.len() - seen.len() - 1
        ));
    }
    Ok(())
}

struct Run<'a> {
    stage: &'a mut dyn Stage<u64>,
    kind: Kind,
    outputs: &'a [Shared],
    expected: Expected,
    now: Instant,
    /// Number of looks at the time.
    looks: u64,
}

/// More resumes than any schedule stalls.
const RESUMES_MAX: usize = 10_000;

impl Run<'_> {
    /// The stage's answer: then the outputs become ready bit by bit until it is, too.
    fn settle(&mut self, flow: crate::Result<Flow>) -> Result<(), String> {
        let mut flow = flow.map_err(|error| format!("{error:#}"))?;
        for _ in 0..RESUMES_MAX {
            let is_full = self.outputs.iter().any(|output| output.lock().is_full());
            match (flow, is_full) {
                (Flow::Full, false) if take_wake_up() => {
                    self.expected.check(self.outputs, false)?;
                }
                (Flow::Full, false) => {
                    return Err("it is full, but no output is: nothing would wake it".to_owned());
                }
                (Flow::Ready, true) => {
                    return Err("it is ready, but an output is full".to_owned());
                }
                (Flow::Ready, false) => return self.expected.check(self.outputs, true),
                (Flow::Full, true) => self.expected.check(self.outputs, false)?,
            }
            flow = self.stage.resume().map_err(|error| format!("{error:#}"))?;
        }
        Err(format!("it is full after {RESUMES_MAX} resumes"))
    }

    /// After each step the time is looked at, as by a slot.
    fn look_at_the_time(&mut self) -> Result<(), String> {
        self.looks += 1;
        self.expected.oracle.on_time(&mut self.expected.items);
        let idle = roll(self.looks, 18, 2) == 0;
        let flow = self.stage.on_time(Moment { now: self.now, idle });
        self.settle(flow)?;
        let due = self.outputs.iter().filter_map(|output| output.lock().due());
        let due = due.chain(self.expected.oracle.next_time()).min();
        let next = self.stage.next_time();
        // It may have work of its own, which is due earlier.
        let of_its_own = self.kind == Kind::Timestamps && due.into_iter().chain(next).min() == next;
        if next == due || of_its_own {
            return Ok(());
        }
        Err("next_time() is not when the next thing is due".to_owned())
    }
}

/// Does to a stage what a schedule says.
pub(super) fn drive(explored: Explored, schedule: &Schedule) -> Result<(), String> {
    let Explored { mut stage, kind, outputs, oracle } = explored;
    if stage.kind() != kind {
        return Err(format!("the stage of {kind:?} is {:?}", stage.kind()));
    }
    let timed = schedule.is_timed();
    let expected = Expected::new(oracle, timed);
    let now = Instant::now();
    let mut run =
        Run { stage: &mut *stage, kind, outputs: &outputs, expected, now, looks: schedule.seed };
    run.stage.open().map_err(|error| format!("{error:#}"))?;
    let mut number = 0;
    let mut buffer = Vec::new();
    for act in &schedule.acts {
        let flow = match *act {
            Act::Batch { records, .. } => {
                buffer.extend((number..).take(records.into()).map(|n| record(schedule.seed, n)));
                number += u64::from(records);
                buffer.iter().for_each(|record| run.expected.record(*record));
                run.stage.push(batch(std::mem::take(&mut buffer), timed))
            }
            Act::Event { event, .. } => {
                run.expected.event(event);
                run.stage.event(event)
            }
            Act::Wait { ms } => {
                let passed = Duration::from_millis(ms.into());
                run.now += passed;
                clock().advance(passed);
                Ok(Flow::Ready)
            }
            Act::Take { .. } | Act::Turn { .. } => continue,
        };
        run.settle(flow)?;
        run.look_at_the_time()?;
    }
    run.expected.event(Event::EndOfInput);
    let flow = run.stage.event(Event::EndOfInput);
    run.settle(flow)?;
    // A stage that is ready may be resumed, because another branch of its output was full.
    let flow = run.stage.resume();
    run.settle(flow)?;
    Ok(())
}

/// Each record to output 0 by a function of the record alone.
pub(super) fn each(results: impl Fn(u64) -> Vec<u64> + 'static) -> Box<dyn Oracle> {
    Box::new(move |record, outputs: &mut [Vec<Item>]| {
        outputs[0].extend(results(record).into_iter().map(Item::Record));
    })
}
