//! Outputs that stall as a schedule says, and that hold their caller to the contract of a stage.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use millstream_network::{Batch, Event, Flow};

use super::Kind;
use crate::Result;
use crate::stage::{Moment, Stage};

/// An item that an output sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Item {
    Record(u64),
    /// A record with its event time.
    Timed(u64, i64),
    /// An event, by its number on the wire and its value.
    Event(u8, i64),
}

impl From<Event> for Item {
    fn from(event: Event) -> Self {
        match event {
            Event::Watermark(time) => Self::Event(0, time.as_millis()),
            Event::Barrier(barrier) => Self::Event(1, barrier.checkpoint.get() as i64),
            Event::Idle(idle) => Self::Event(2, i64::from(idle)),
            Event::EndOfInput => Self::Event(3, 0),
        }
    }
}

impl Item {
    /// The record, if it is one.
    pub(super) const fn record(self) -> Option<u64> {
        match self {
            Self::Record(record) | Self::Timed(record, _) => Some(record),
            Self::Event(..) => None,
        }
    }

    /// The same with an event time, if it is a record and there is one.
    pub(super) const fn at(self, time: Option<i64>) -> Self {
        match (self, time) {
            (Self::Record(record), Some(time)) => Self::Timed(record, time),
            (item, _) => item,
        }
    }
}

/// The records of a batch, by the numbers that stand for them.
pub(super) fn items<T>(batch: Batch<T>, number: fn(T) -> u64) -> impl Iterator<Item = Item> {
    batch.into_iter().map(move |(record, time)| Item::Record(number(record)).at(time))
}

/// The end of the input, as an output sees it.
pub(super) const END: Item = Item::Event(3, 0);

/// An output seen from the test.
#[derive(Debug, Default)]
pub(super) struct Output {
    pub(super) seen: Vec<Item>,
    /// The number of them that were compared.
    pub(super) compared: usize,
    /// Records between two events come in any order.
    pub(super) sorts_runs: bool,
    stalls: VecDeque<u8>,
    /// The number of resumes that find it full.
    full_for: u8,
    /// The end of the input does not fill it.
    takes_the_end: bool,
    /// It holds what a timeout sends on.
    holds: bool,
    due: Option<Instant>,
    is_open: bool,
}

impl Output {
    pub(super) fn of(stalls: &[u8]) -> Shared {
        let stalls = stalls.iter().copied().collect();
        Shared(Arc::new(Mutex::new(Self { stalls, ..Self::default() })))
    }

    /// An output that the end of the input does not fill.
    pub(super) fn that_takes_the_end(stalls: &[u8]) -> Shared {
        let output = Self::of(stalls);
        output.lock().takes_the_end = true;
        output
    }

    pub(super) const fn is_full(&self) -> bool {
        self.full_for > 0
    }

    pub(super) const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Takes a call that may fill it.
    fn call(&self, what: &str) -> Result<()> {
        crate::ensure!(self.is_open, "{what} came before open()");
        crate::ensure!(!self.is_full(), "{what} came while the output was full");
        crate::ensure!(self.seen.last() != Some(&END), "{what} came after the end of the input");
        Ok(())
    }

    fn answer(&mut self) -> Flow {
        self.full_for = self.stalls.pop_front().unwrap_or_default();
        self.flow()
    }

    const fn flow(&self) -> Flow {
        if self.is_full() { Flow::Full } else { Flow::Ready }
    }
}

/// An output that the test and its probe share.
#[derive(Debug, Clone)]
pub(super) struct Shared(Arc<Mutex<Output>>);

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Output> {
        self.0.lock().unwrap()
    }

    /// The stage that leads to it.
    pub(super) fn probe<T>(&self, number: fn(T) -> u64) -> Box<Probe<T>> {
        Box::new(Probe { output: self.clone(), number })
    }
}

/// The longest time that a probe holds its records.
const HOLDS: Duration = Duration::from_millis(5);

/// The stage of an explored output.
pub(super) struct Probe<T> {
    output: Shared,
    /// The number that stands for a record.
    number: fn(T) -> u64,
}

impl<T: Send> Stage<T> for Probe<T> {
    fn open(&mut self) -> Result<()> {
        let mut output = self.output.lock();
        crate::ensure!(!output.is_open, "open() came twice");
        output.is_open = true;
        Ok(())
    }

    fn push(&mut self, batch: Batch<T>) -> Result<Flow> {
        let mut output = self.output.lock();
        output.call("a batch")?;
        crate::ensure!(!batch.is_empty(), "an empty batch came");
        output.seen.extend(items(batch, self.number));
        output.holds = true;
        Ok(output.answer())
    }

    fn event(&mut self, event: Event) -> Result<Flow> {
        let mut output = self.output.lock();
        output.call("an event")?;
        output.seen.push(event.into());
        output.holds = false;
        output.due = None;
        if output.takes_the_end && event == Event::EndOfInput {
            return Ok(Flow::Ready);
        }
        Ok(output.answer())
    }

    fn resume(&mut self) -> Result<Flow> {
        let mut output = self.output.lock();
        output.full_for = output.full_for.saturating_sub(1);
        Ok(output.flow())
    }

    fn on_time(&mut self, moment: Moment) -> Result<Flow> {
        let mut output = self.output.lock();
        crate::ensure!(!output.is_full(), "on_time() came while the output was full");
        if !output.holds {
            return Ok(Flow::Ready);
        }
        let due = *output.due.get_or_insert(moment.now + HOLDS);
        if moment.now < due && !moment.idle {
            return Ok(Flow::Ready);
        }
        output.holds = false;
        output.due = None;
        Ok(output.answer())
    }

    fn next_time(&self) -> Option<Instant> {
        self.output.lock().due
    }

    fn kind(&self) -> Kind {
        Kind::Probe
    }
}
