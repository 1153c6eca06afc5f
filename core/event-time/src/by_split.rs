//! Decides the watermarks of a stream or of a source: the least of those of its splits. Pure: it is
//! told what comes and what time it is.
//!
//! A stream amid a job is one split. So is a source whose reader names none; otherwise each split
//! has a generator of its own from when the reader gets it, so that the watermark waits for the
//! first record of each. A split that has no records for a while is idle, and one that has ended is
//! left out.
//!
//! # Invariants
//! - The watermark never goes back, whatever the times of a split that comes later.
//! - At least one channel of the tracker has not ended: where no split is open, the one that ended
//!   last stands for the next one. It is idle after the same patience as a split, so that a reader
//!   that gets one split after another is not idle between two of them.
//! - Time in which the output takes no records makes no split idle, nor does time in which a split
//!   waits for others of its alignment group.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use millstream_network::Event;
use millstream_types::Timestamp;

use crate::alignment::Aligner;
use crate::strategy::{Generate, WatermarkOutput, WatermarkStrategy};
use crate::tracker::{Advance, WatermarkTracker};

/// The splits that a source begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// All records are of one split, as far as is known.
    One,
    /// There is no split yet: the reader has to ask for one.
    None,
}

/// One channel of the tracker.
struct Split<T> {
    generator: Box<dyn Generate<T>>,
    /// The generator has seen records since it was asked last.
    has_news: bool,
    /// Records came since the last look at the time.
    came: bool,
    /// The last look at the time that found that records had come.
    last: Duration,
    is_idle: bool,
}

/// The watermarks of a stream or source, and whether it is idle.
pub struct Watermarks<T> {
    strategy: WatermarkStrategy<T>,
    /// `false` in batch mode, where the end of the input is the only watermark.
    is_on: bool,
    interval: Duration,
    /// The splits by channel of the tracker.
    splits: Vec<Split<T>>,
    tracker: WatermarkTracker,
    /// The channels of the open splits by number; `None` as long as the reader has named none.
    open: Option<BTreeMap<u64, usize>>,
    /// The number of splits that the reader was given.
    given: u64,
    /// The channel that stands for the next split, if none is open.
    vacant: Option<usize>,
    emitted: WatermarkOutput,
    /// The end of the present interval: generators are asked then.
    due: Option<Instant>,
    /// A generator has seen records since it was asked last.
    has_news: bool,
    /// Generators are asked in each interval, also without records.
    always: bool,
    /// The channels to which records came since the last look at the time.
    came: Vec<usize>,
    /// The last look at the time.
    looked: Option<Instant>,
    /// The time that has passed, less that in which the output was full.
    passed: Duration,
    /// No split is idle before this.
    idle_from: Option<Duration>,
    /// Lets splits wait for others, if the strategy says so.
    aligner: Option<Aligner>,
    /// The channels of the splits that wait.
    waiting: Vec<usize>,
}

impl<T: 'static> Watermarks<T> {
    /// The watermarks of a stream or source. `interval` is the time between two that come without a
    /// record; without one, in batch mode, the end of the input is the only watermark.
    #[must_use]
    pub fn new(strategy: &WatermarkStrategy<T>, begin: Begin, interval: Option<Duration>) -> Self {
        let mut watermarks = Self {
            strategy: strategy.clone(),
            is_on: interval.is_some(),
            interval: interval.unwrap_or_default(),
            splits: Vec::new(),
            tracker: WatermarkTracker::new(1),
            open: None,
            given: 0,
            vacant: (begin == Begin::None).then_some(0),
            emitted: WatermarkOutput::default(),
            due: None,
            has_news: false,
            always: false,
            came: Vec::new(),
            looked: None,
            passed: Duration::ZERO,
            idle_from: None,
            aligner: None,
            waiting: Vec::new(),
        };
        if watermarks.is_on {
            watermarks.put(0);
            let always = |split: &Split<T>| split.generator.is_always_asked();
            watermarks.always = watermarks.splits.first().is_some_and(always);
        }
        watermarks
    }

    /// Lets splits wait for others of their group, if there are watermarks at all. `parallelism` is
    /// that of the source.
    #[must_use]
    pub fn aligned(mut self, parallelism: u32) -> Self {
        let alignment = self.strategy.alignment.as_ref().filter(|_| self.is_on);
        self.aligner = alignment.map(|alignment| Aligner::new(alignment, parallelism));
        self
    }

    /// Puts a fresh split on a channel; time runs for it from the next look on.
    fn put(&mut self, channel: usize) {
        let generator = (self.strategy.generator)();
        let last = self.passed;
        let split = Split { generator, has_news: false, came: false, last, is_idle: false };
        match self.splits.get_mut(channel) {
            Some(place) => *place = split,
            None => self.splits.push(split),
        }
        self.note(channel);
    }

    /// Notes that something came to a channel, so that its patience begins anew.
    fn note(&mut self, channel: usize) {
        if let Some(split) = self.splits.get_mut(channel)
            && !std::mem::replace(&mut split.came, true)
        {
            self.came.push(channel);
        }
    }

    /// The reader was given more splits.
    pub fn on_added(&mut self, count: u64, pending: &mut VecDeque<Event>) {
        let first = self.given;
        self.given += count;
        if !self.is_on || count == 0 {
            return;
        }
        if self.open.is_some() {
            (first..self.given).for_each(|number| self.open_split(number, pending));
        } else if let Some(channel) = self.vacant.take() {
            self.note(channel);
            self.wake(channel, pending);
        }
    }

    /// The reader names splits. Its records so far are of the first one.
    pub fn on_named(&mut self, pending: &mut VecDeque<Event>) {
        if !self.is_on || self.open.is_some() {
            return;
        }
        let first = (self.given > 0).then_some((0, 0));
        self.open = Some(first.into_iter().collect());
        (1..self.given).for_each(|number| self.open_split(number, pending));
    }

    fn open_split(&mut self, number: u64, pending: &mut VecDeque<Event>) {
        let (channel, advance) = self.tracker.add();
        tell(advance, pending);
        self.put(channel);
        if let Some(open) = &mut self.open {
            open.insert(number, channel);
        }
        if let Some(channel) = self.vacant.take() {
            tell(self.tracker.on_end(channel), pending);
        }
    }

    /// The number of splits that the reader was given.
    #[must_use]
    pub const fn given(&self) -> u64 {
        self.given
    }

    /// The channel of an open split; `None` if there is no such split.
    #[must_use]
    pub fn channel(&self, number: u64) -> Option<usize> {
        match &self.open {
            None => Some(0),
            Some(open) => open.get(&number).copied(),
        }
    }

    /// No record of the split will follow; `false` if there is no such split.
    pub fn on_ended(&mut self, number: u64, pending: &mut VecDeque<Event>) -> bool {
        let Some(open) = &mut self.open else { return true };
        let Some(channel) = open.remove(&number) else { return false };
        if open.is_empty() {
            // Its generator may have news, which are told as if it were open.
            self.vacant = Some(channel);
            self.note(channel);
        } else {
            tell(self.tracker.on_end(channel), pending);
        }
        true
    }

    /// Records are about to come to a channel: neither it nor the stream is idle any more.
    pub fn wake(&mut self, channel: usize, pending: &mut VecDeque<Event>) {
        if let Some(split) = self.splits.get_mut(channel)
            && std::mem::take(&mut split.is_idle)
        {
            tell(self.tracker.on_idle(channel, false), pending);
        }
    }

    /// Looks at records of a channel up to the first at which a watermark is emitted; their number.
    pub fn on_records(
        &mut self,
        channel: usize,
        records: &[T],
        times: &[i64],
        pending: &mut VecDeque<Event>,
    ) -> usize {
        if !self.is_on || records.is_empty() {
            return records.len();
        }
        self.note(channel);
        let Some(split) = self.splits.get_mut(channel) else { return records.len() };
        split.has_news = true;
        self.has_news = true;
        let mut seen = 0;
        while let (Some(records @ [_, ..]), Some(times)) = (records.get(seen..), times.get(seen..))
            && pending.is_empty()
        {
            let count = split.generator.on_records(records, times, &mut self.emitted);
            seen += count.clamp(1, records.len());
            tell(emitted(&mut self.emitted, &mut self.tracker, channel), pending);
        }
        if let Some(aligner) = &self.aligner
            && let Some(limit) = self.tracker.least_active().map(|least| aligner.limit(least))
            && times.iter().take(seen).any(|time| *time > limit.as_millis())
        {
            // The split may have to wait: its watermark must not wait for the interval's end.
            self.ask(channel, pending);
        }
        seen
    }

    /// Finds the splits that wait for others. Must be called before the reader is polled.
    pub fn align(&mut self) {
        let Some(aligner) = &mut self.aligner else { return };
        self.waiting.clear();
        let least = self.tracker.least_active();
        if let Some(limit) = least.map(|least| aligner.limit(least)) {
            let is_ahead = |channel: usize| self.tracker.watermark(channel) > limit;
            let all_are_one = self.open.is_none().then_some(0);
            let channels = self.open.iter().flatten().map(|(_, channel)| *channel);
            self.waiting.extend(channels.chain(all_are_one).filter(|channel| is_ahead(*channel)));
        }
        aligner.note(least, !self.waiting.is_empty());
    }

    /// The numbers of the splits that wait.
    pub fn waiting(&self) -> impl Iterator<Item = u64> {
        let waits = |channel: usize| self.waiting.contains(&channel);
        let open = self.open.iter().flatten();
        let named = open.filter(move |(_, channel)| waits(**channel)).map(|(number, _)| *number);
        named.chain((self.open.is_none() && waits(0)).then_some(0))
    }

    /// Whether all splits wait, so that there is nothing to read.
    #[must_use]
    pub fn all_wait(&self) -> bool {
        let open = self.open.as_ref().map_or(1, BTreeMap::len);
        !self.waiting.is_empty() && self.waiting.len() == open
    }

    /// Whether splits wait for others.
    #[must_use]
    pub const fn is_aligned(&self) -> bool {
        self.aligner.is_some()
    }

    /// The group has answered: the least watermark of its other members.
    pub const fn on_others(&mut self, others: Option<Timestamp>) {
        if let Some(aligner) = &mut self.aligner {
            aligner.on_answer(others);
        }
    }

    /// The group has forgotten this source: its next report is due at once.
    pub const fn on_forgotten(&mut self) {
        if let Some(aligner) = &mut self.aligner {
            aligner.on_forgotten();
        }
    }

    /// The report to the group that is due, if one is: the least watermark of the splits.
    pub fn report(&mut self, now: Instant) -> Option<Option<Timestamp>> {
        // Splits may have become idle, without a poll.
        self.align();
        self.aligner.as_mut()?.report(now)
    }

    /// Emits the watermark that is due, and the idleness of what has fallen silent. `was_full` says
    /// that the output took no records at some time since the last look.
    pub fn on_time(&mut self, now: Instant, was_full: bool, pending: &mut VecDeque<Event>) {
        if !self.is_on {
            return;
        }
        let before = self.looked.replace(now).unwrap_or(now);
        if !was_full {
            self.passed += now.saturating_duration_since(before);
        }
        let is_asked = self.has_news || self.always && !self.tracker.is_idle();
        if !is_asked {
            self.due = None;
        } else if now >= *self.due.get_or_insert(now + self.interval) {
            self.ask_all(pending);
            let again = self.always && !self.interval.is_zero();
            self.due = again.then(|| now + self.interval);
        }
        let waiting = std::mem::take(&mut self.waiting);
        waiting.iter().for_each(|channel| self.note(*channel));
        self.waiting = waiting;
        while let Some(channel) = self.came.pop() {
            if let Some(split) = self.splits.get_mut(channel) {
                split.came = false;
                split.last = self.passed;
            }
            let from = self.patience(channel).map(|patience| self.passed.saturating_add(patience));
            self.idle_from = self.idle_from.into_iter().chain(from).min();
        }
        if self.idle_from.is_some_and(|from| self.passed >= from) {
            self.find_idle(pending);
        }
    }

    /// The time after which a channel without records is idle.
    fn patience(&self, channel: usize) -> Option<Duration> {
        let is_vacant = self.vacant == Some(channel);
        self.strategy.idle_after.or_else(|| is_vacant.then_some(self.interval))
    }

    fn find_idle(&mut self, pending: &mut VecDeque<Event>) {
        self.idle_from = None;
        for channel in 0..self.splits.len() {
            let Some(patience) = self.patience(channel) else { continue };
            let Some(split) = self.splits.get_mut(channel) else { continue };
            if split.is_idle || self.tracker.is_ended(channel) {
                continue;
            }
            let from = split.last.saturating_add(patience);
            if self.passed < from {
                self.idle_from = self.idle_from.into_iter().chain([from]).min();
                continue;
            }
            split.is_idle = true;
            self.ask(channel, pending);
            tell(self.tracker.on_idle(channel, true), pending);
        }
        if self.tracker.is_idle() {
            self.due = None;
        }
    }

    /// Asks the generators that have news.
    fn ask_all(&mut self, pending: &mut VecDeque<Event>) {
        self.has_news = false;
        for channel in 0..self.splits.len() {
            let Some(split) = self.splits.get(channel) else { continue };
            let is_asked = split.has_news || self.always && !split.is_idle;
            if is_asked && !self.tracker.is_ended(channel) {
                self.ask(channel, pending);
            }
        }
    }

    fn ask(&mut self, channel: usize, pending: &mut VecDeque<Event>) {
        let Some(split) = self.splits.get_mut(channel) else { return };
        split.has_news = false;
        split.generator.on_interval(&mut self.emitted);
        tell(emitted(&mut self.emitted, &mut self.tracker, channel), pending);
    }

    /// The time when something will be due, as far as the last look could know.
    pub fn next_time(&self) -> Option<Instant> {
        let left = self.idle_from.map(|from| from.saturating_sub(self.passed));
        let idle_from = left.and_then(|left| self.looked?.checked_add(left));
        let report = self.aligner.as_ref().and_then(Aligner::next_time);
        idle_from.into_iter().chain(self.due).chain(report).min()
    }
}

/// Takes the watermark that a generator has emitted.
fn emitted(
    output: &mut WatermarkOutput,
    tracker: &mut WatermarkTracker,
    channel: usize,
) -> Advance {
    // The end of the input alone stands for the end of time.
    let last = Timestamp::from_millis(i64::MAX - 1);
    match output.watermark.take() {
        Some(watermark) => tracker.on_watermark(channel, watermark.min(last)),
        None => Advance::default(),
    }
}

fn tell(advance: Advance, pending: &mut VecDeque<Event>) {
    let Advance { awake, watermark, idle } = advance;
    pending.extend(awake.then_some(Event::Idle(false)));
    pending.extend(watermark.map(Event::Watermark));
    pending.extend(idle.then_some(Event::Idle(true)));
}

#[cfg(test)]
mod tests;
