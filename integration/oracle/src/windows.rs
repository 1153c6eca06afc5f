//! Windows on event time: their rules, which a case draws, and their results.
//!
//! A window is a span of time, `[start, end)`. It fires when the watermark reaches its last
//! millisecond, and again for each record that comes after that. It is gone when the watermark is
//! past its last millisecond by the lateness: a record is late if all its windows are gone. Each
//! result has all records of the window so far.
//!
//! # Limits of time
//! Bounds are computed without limits, and limited to an `i64` in results only. A window that ends
//! after the last time that a watermark can have fires at the end of the input.

use crate::{Input, Now, Random, Record};

mod evictors;

pub use evictors::{Eviction, Keep, distance, evicting_windows};

/// The windows in which a record is; all numbers are milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Windows {
    /// Windows one after the other; one starts at `offset`.
    Tumbling {
        /// The length of a window, at least 1.
        size: i64,
        /// The start of one of the windows.
        offset: i64,
    },
    /// Windows that start in regular distances; one starts at `offset`. They overlap if `slide` is
    /// less than `size`, and have gaps between them if it is more.
    Sliding {
        /// The length of a window, at least 1.
        size: i64,
        /// The distance between the starts of two windows, at least 1.
        slide: i64,
        /// The start of one of the windows.
        offset: i64,
    },
    /// One window for all records of a key between which no gap of this length is.
    Session {
        /// The length of the gap, at least 1.
        gap: i64,
    },
}

impl Windows {
    /// The windows of a time; for sessions, that of a record which is alone.
    fn of(self, time: i64) -> Vec<Window> {
        let time = i128::from(time);
        let (size, slide, offset) = match self {
            Self::Tumbling { size, offset } => (size, size, offset),
            Self::Sliding { size, slide, offset } => (size, slide, offset),
            Self::Session { gap } => return vec![Window { start: time, end: time + gap as i128 }],
        };
        let (size, slide, offset) = (size as i128, slide as i128, offset as i128);
        let mut windows = Vec::new();
        let mut start = time - (time - offset).rem_euclid(slide);
        while start + size > time {
            windows.push(Window { start, end: start + size });
            start -= slide;
        }
        windows
    }
}

/// The windows of an operator, and how long they take late records.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// The windows.
    pub windows: Windows,
    /// So long after its last millisecond a window still takes records.
    pub lateness: i64,
}

impl Rules {
    /// Rules of a case: windows of all kinds that are short or long, with and without offset;
    /// slides that divide the size, that do not, and that leave gaps; mostly no lateness.
    pub fn random(random: &mut Random) -> Self {
        let most = [3, 40, 300][random.below(3) as usize];
        let size = 1 + random.below(most).cast_signed();
        let windows = match random.below(3) {
            0 => Windows::Tumbling { size, offset: offset(size, random) },
            1 => {
                let (size, slide) = match random.below(3) {
                    0 => (size * (1 + random.below(6).cast_signed()), size),
                    1 => (size, 1 + size / (1 + random.below(6).cast_signed())),
                    _ => (size, size + 1 + random.below(60).cast_signed()),
                };
                Windows::Sliding { size, slide, offset: offset(slide, random) }
            }
            _ => Windows::Session { gap: size },
        };
        let lateness = match random.below(8) {
            0 => 1 + random.below(20).cast_signed(),
            1 => random.below(400).cast_signed(),
            2 => i64::MAX,
            _ => 0,
        };
        Self { windows, lateness }
    }
}

/// An offset between two starts, or none.
fn offset(slide: i64, random: &mut Random) -> i64 {
    let offset = random.below(slide.cast_unsigned()).cast_signed();
    match random.below(4) {
        0 => offset,
        1 => -offset,
        _ => 0,
    }
}

/// A span of time, `[start, end)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    start: i128,
    end: i128,
}

impl Window {
    /// The first millisecond, if that is a time.
    pub(crate) fn start(self) -> i64 {
        limited(self.start)
    }

    /// The first millisecond after the window, if that is a time.
    pub(crate) fn end(self) -> i64 {
        limited(self.end)
    }

    /// The event time of results: the last millisecond, if that is a time.
    pub(crate) fn result_time(self) -> i64 {
        self.fires_at()
    }

    /// The watermark that fires the window.
    fn fires_at(self) -> i64 {
        limited(self.end - 1)
    }

    /// The watermark from which on the window takes no records any more.
    fn gone_at(self, lateness: i64) -> i64 {
        self.fires_at().saturating_add(lateness)
    }

    /// Whether no millisecond is between the two.
    fn touches(self, other: Self) -> bool {
        self.start <= other.end && other.start <= self.end
    }

    fn cover(self, other: Self) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

/// The nearest time.
fn limited(number: i128) -> i64 {
    number.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

/// A window of a key, with all values in it.
#[derive(Debug, Clone)]
pub(crate) struct Open<V> {
    pub(crate) key: u64,
    pub(crate) window: Window,
    pub(crate) values: Vec<V>,
    /// Whether the watermark has yet to fire it.
    is_due: bool,
}

/// Takes values out of a window.
type Evict<V> = fn(Eviction, &mut Vec<V>);

/// An operator that keeps all values of its windows.
#[derive(Debug)]
pub(crate) struct Operator<V> {
    rules: Rules,
    now: Now,
    open: Vec<Open<V>>,
    /// Each window that fired, as often as it did.
    fired: Vec<Open<V>>,
    /// The values that windows lose when they fire.
    eviction: Option<(Eviction, Evict<V>)>,
}

impl<V: Clone> Operator<V> {
    pub(crate) const fn new(rules: Rules) -> Self {
        Self { rules, now: Now::before(), open: Vec::new(), fired: Vec::new(), eviction: None }
    }

    /// A window fires.
    fn fire(&mut self, open: &mut Open<V>) {
        let Some((eviction, evict)) = self.eviction else {
            self.fired.push(open.clone());
            return;
        };
        if !eviction.after {
            evict(eviction, &mut open.values);
        }
        if !open.values.is_empty() {
            self.fired.push(open.clone());
        }
        if eviction.after {
            evict(eviction, &mut open.values);
        }
    }

    /// Adds a value to its windows. False is the answer if all of them are gone.
    pub(crate) fn on_record(&mut self, key: u64, time: i64, value: &V) -> bool {
        let windows = self.rules.windows.of(time);
        let count = windows.len();
        let gone = windows.into_iter().filter(|window| !self.add(key, *window, value)).count();
        count == 0 || gone < count
    }

    /// Adds a value to one window, unless that is gone.
    fn add(&mut self, key: u64, window: Window, value: &V) -> bool {
        let is_session = matches!(self.rules.windows, Windows::Session { .. });
        let joins = |open: &mut Open<V>| {
            let is_it =
                if is_session { open.window.touches(window) } else { open.window == window };
            open.key == key && is_it
        };
        let mut joined: Vec<_> = self.open.extract_if(.., joins).collect();
        joined.sort_by_key(|open| open.window.start);
        // Windows that are gone are open no more, so that one with an open one in it is not gone.
        let window = joined.iter().fold(window, |cover, open| cover.cover(open.window));
        if self.now.has_reached(window.gone_at(self.rules.lateness)) {
            assert!(joined.is_empty(), "a window is open that is gone");
            return false;
        }
        let mut values: Vec<V> = joined.into_iter().flat_map(|open| open.values).collect();
        values.push(value.clone());
        let is_due = !self.now.has_reached(window.fires_at());
        let mut open = Open { key, window, values, is_due };
        if !is_due {
            self.fire(&mut open);
        }
        self.open.push(open);
        true
    }

    pub(crate) fn on_watermark(&mut self, watermark: i64) {
        if !self.now.move_to(watermark) {
            return;
        }
        let now = self.now;
        let mut windows = std::mem::take(&mut self.open);
        for open in &mut windows {
            if open.is_due && now.has_reached(open.window.fires_at()) {
                open.is_due = false;
                self.fire(open);
            }
        }
        self.open = windows;
        let lateness = self.rules.lateness;
        self.open.retain(|open| !now.has_reached(open.window.gone_at(lateness)));
    }

    /// Ends the input; returns each window that fired, as it was then.
    pub(crate) fn finish(mut self) -> Vec<Open<V>> {
        let windows = std::mem::take(&mut self.open);
        windows.into_iter().filter(|open| open.is_due).for_each(|mut open| self.fire(&mut open));
        self.fired
    }
}

impl Operator<Record> {
    /// Takes inputs one after the other; returns the late records.
    fn take(&mut self, inputs: &[Input]) -> Vec<Record> {
        let mut late = Vec::new();
        for input in inputs {
            match *input {
                Input::Record(record) => {
                    if !self.on_record(record.key, record.time, &record) {
                        late.push(record);
                    }
                }
                Input::Watermark(watermark) => self.on_watermark(watermark),
            }
        }
        late
    }
}

/// A result of a window. It does not depend on the order of the records in the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Output {
    /// The key.
    pub key: u64,
    /// The first millisecond of the window.
    pub start: i64,
    /// The first millisecond after the window.
    pub end: i64,
    /// The number of records.
    pub count: u64,
    /// The sum of the values, which wraps.
    pub sum: u64,
    /// The sum of the squares of the values, which wraps.
    pub squares: u64,
    /// The event time of the result.
    pub time: i64,
}

impl Output {
    fn new(fired: &Open<Record>) -> Self {
        let sum = |each: fn(u64) -> u64| {
            fired.values.iter().fold(0, |sum: u64, record| sum.wrapping_add(each(record.value)))
        };
        Self {
            key: fired.key,
            start: fired.window.start(),
            end: fired.window.end(),
            count: sum(|_| 1),
            sum: sum(|value| value),
            squares: sum(|value| value.wrapping_mul(value)),
            time: fired.window.result_time(),
        }
    }
}

/// The results of all windows, and the records that came too late for all of theirs.
#[must_use]
pub fn windows(inputs: &[Input], rules: &Rules) -> (Vec<Output>, Vec<Record>) {
    run(inputs, Operator::new(*rules))
}

/// As [`windows`], before the end of the input: the results and the late records so far.
#[must_use]
pub fn windows_so_far(inputs: &[Input], rules: &Rules) -> (Vec<Output>, Vec<Record>) {
    let mut operator = Operator::new(*rules);
    let late = operator.take(inputs);
    (operator.fired.iter().map(Output::new).collect(), late)
}

fn run(inputs: &[Input], mut operator: Operator<Record>) -> (Vec<Output>, Vec<Record>) {
    let late = operator.take(inputs);
    (operator.finish().iter().map(Output::new).collect(), late)
}

#[cfg(test)]
mod tests;
