//! The suite for sources.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use millstream_network::{Batch, BatchLimit};

use super::{Random, of_seed, restored, stored};
use crate::metrics::Counter;
use crate::reader_output::{ReaderOutput, SplitError, SplitNotes};
use crate::source::{NextSplit, Polled, ReaderContext, Source, SourceReader, SplitEnumerator};
use crate::{Result, bail, ensure};

/// The longest time that a reader may wait without waking its task.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest that the suite sleeps for a reader that names a time.
const SLEEP_MAX: Duration = Duration::from_millis(20);
/// Most readers at once.
const READERS_MAX: usize = 4;
/// More steps than any source of a test needs.
const STEPS_MAX: usize = 1_000_000;

/// Checks that a source reads each of the `expected` records once, in the same order within a
/// split as when the split is read alone, whatever happens between.
///
/// For each seed it reads with one to four readers, takes checkpoints, some of which come to
/// nothing, and kills: all at once, to go on from the last checkpoint with another number of
/// readers, or one reader, whose splits another one gets or the enumerator takes back. `make` makes
/// the source as each new process does. The records must differ, and the source must be bounded.
///
/// If the readers name the splits of their records, it checks these too.
///
/// # Errors
/// A record was lost, doubled, reordered or said to be of another split, or a call failed; the
/// error names the seed.
pub fn check_source<S>(make: impl Fn() -> S, expected: &[S::Out], seeds: Range<u64>) -> Result<()>
where
    S: Source,
    S::Out: Debug,
{
    let order = Order::of(&make(), expected)?;
    for seed in seeds {
        of_seed(seed, World::start(&make, &order, seed).and_then(World::run))?;
    }
    Ok(())
}

/// The place of each record: its split and its number there.
struct Order<'a, O> {
    expected: &'a [O],
    numbers: HashMap<Vec<u8>, usize>,
    /// By number among the expected records.
    places: Vec<(usize, usize)>,
    /// The number of records of each split.
    lengths: Vec<usize>,
}

impl<'a, O: crate::Data + Debug> Order<'a, O> {
    /// Reads each split alone.
    fn of<S: Source<Out = O>>(source: &S, expected: &'a [O]) -> Result<Self> {
        let mut numbers = HashMap::new();
        for (number, record) in expected.iter().enumerate() {
            let twin = numbers.insert(stored(record)?, number);
            ensure!(
                twin.is_none(),
                "the record {record:?} is expected twice: the records must differ, as one that is \
                 lost and one that is doubled would look alike"
            );
        }
        let mut order = Self { expected, numbers, places: Vec::new(), lengths: Vec::new() };
        let mut places = vec![None; expected.len()];
        for split in all_splits(source)? {
            let (ctx, woken) = context(0, 1);
            let mut running = Running::new(source.reader(&ctx)?, woken);
            running.add_splits(vec![restored(&split)?])?;
            let (at, mut length) = (order.lengths.len(), 0);
            while !running.is_done {
                let polled = running.poll(source.has_timestamps(), &order)?;
                for number in running.fresh.drain(..) {
                    let place =
                        places.get_mut(number).and_then(|place| place.replace((at, length)));
                    length += 1;
                    if let (Some(_), Some(record)) = (place, expected.get(number)) {
                        bail!("the record {record:?} was read twice, without any restart");
                    }
                }
                running.is_done |= polled == Polled::NeedSplit;
            }
            order.lengths.push(length);
        }
        for (place, record) in places.into_iter().zip(expected) {
            let Some(place) = place else {
                bail!("the record {record:?} was not read, without any restart");
            };
            order.places.push(place);
        }
        Ok(order)
    }

    fn number(&self, record: &O) -> Result<usize> {
        let number = self.numbers.get(&stored(record)?).copied();
        number.ok_or_else(|| crate::error!("the record {record:?} was read, which is not expected"))
    }
}

/// All splits of a source, in bytes.
fn all_splits<S: Source>(source: &S) -> Result<Splits> {
    if !S::Enumerator::EXISTS {
        return source.splits()?.iter().map(stored).collect();
    }
    let mut enumerator = source.enumerator(None)?;
    let mut splits = Vec::new();
    enumerator.discover()?;
    for _ in 0..STEPS_MAX {
        match enumerator.next_split(0)? {
            NextSplit::Split(split) => splits.push(stored(&split)?),
            NextSplit::NoMore => return Ok(splits),
            NextSplit::Later => drop(enumerator.discover()?),
        }
    }
    bail!("the enumerator has found {} splits and no end", splits.len())
}

/// Wakes the suite.
struct Bell(SyncSender<()>);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        // One that rings already is heard.
        let _ = self.0.try_send(());
    }
}

fn context(subtask: u32, parallelism: u32) -> (ReaderContext, Receiver<()>) {
    let (sender, woken) = sync_channel(1);
    let waker = Waker::from(Arc::new(Bell(sender)));
    let (dropped, replaced, skipped) = <(Counter, Counter, Counter)>::default();
    (ReaderContext { subtask, parallelism, waker, dropped, replaced, skipped }, woken)
}

/// A reader and what it did since the last checkpoint.
struct Running<R: SourceReader> {
    reader: R,
    woken: Receiver<()>,
    /// The records that it has read since, by number.
    fresh: Vec<usize>,
    /// Its splits at the checkpoint.
    held: Splits,
    /// The splits that it was given since.
    given: Splits,
    /// The splits as the reader names them.
    named: SplitNotes,
    /// The number of splits that it was ever given.
    count: u64,
    /// The open splits by their names, with their places in the order once a record has come.
    open: BTreeMap<u64, Option<usize>>,
    is_done: bool,
}

impl<R: SourceReader> Running<R> {
    fn new(reader: R, woken: Receiver<()>) -> Self {
        let (fresh, held, given) = (Vec::new(), Vec::new(), Vec::new());
        let (named, count, open) = Default::default();
        Self { reader, woken, fresh, held, given, named, count, open, is_done: false }
    }

    fn add_splits(&mut self, splits: Vec<R::Split>) -> Result<()> {
        let before = self.count;
        self.count += splits.len() as u64;
        self.open.extend((before..self.count).map(|number| (number, None)));
        self.reader.add_splits(splits)
    }

    /// Checks the splits that a poll has named, whose records are those from `first` on.
    fn check_splits(&mut self, first: usize, order: &Order<'_, R::Out>) -> Result<()>
    where
        R::Out: Debug,
    {
        if !self.named.has_any() {
            return Ok(());
        }
        let mut fresh = self.fresh.iter().skip(first);
        for (split, count) in self.named.runs(fresh.len()) {
            let Some(place) = self.open.get_mut(&split) else {
                return Err(SplitError::of(split, self.count).into());
            };
            for number in fresh.by_ref().take(count) {
                let Some((of, _)) = order.places.get(*number) else { continue };
                ensure!(
                    *place.get_or_insert(*of) == *of,
                    "the record {:?} is said to be of a split that it is not of: call of_split() \
                     before the records of each split",
                    order.expected.get(*number)
                );
            }
        }
        for split in self.named.ended() {
            ensure!(self.open.remove(split).is_some(), SplitError::of(*split, self.count));
        }
        Ok(())
    }

    /// Polls until there is something other than waiting.
    fn poll(&mut self, timed: bool, order: &Order<'_, R::Out>) -> Result<Polled>
    where
        R::Out: Debug,
    {
        loop {
            let (mut batch, mut limit) = (Batch::empty(timed), BatchLimit::new());
            let out = ReaderOutput::new(&mut batch, &mut limit);
            let polled = self.reader.poll(&mut out.with_splits(&mut self.named))?;
            let (is_empty, first) = (batch.is_empty(), self.fresh.len());
            for record in batch.records() {
                self.fresh.push(order.number(record)?);
            }
            self.check_splits(first, order)?;
            self.is_done |= polled == Polled::Finished;
            match polled {
                Polled::Pending(Some(until)) if is_empty => {
                    let wait = until.saturating_duration_since(Instant::now());
                    std::thread::sleep(wait.min(SLEEP_MAX));
                }
                Polled::Pending(None) if is_empty => {
                    let woken = self.woken.recv_timeout(PATIENCE);
                    ensure!(
                        woken.is_ok(),
                        "the reader answered Pending(None) and has not called its waker for {} s",
                        PATIENCE.as_secs()
                    );
                }
                _ => return Ok(polled),
            }
        }
    }
}

/// Splits, as bytes of a checkpoint.
type Splits = Vec<Vec<u8>>;

/// A complete checkpoint.
struct Checkpoint {
    enumerator: Option<Vec<u8>>,
    splits: Splits,
    read: Vec<usize>,
}

/// A job's source in one run.
struct World<'a, S: Source, M> {
    make: &'a M,
    source: S,
    order: &'a Order<'a, S::Out>,
    random: Random,
    readers: Vec<Running<S::Reader>>,
    enumerator: Option<S::Enumerator>,
    /// The number of records that were read of each split.
    read: Vec<usize>,
    /// `None`: the job begins anew.
    checkpoint: Option<Checkpoint>,
    kills_left: usize,
    /// Splits of the checkpoint were given back since, of which its enumerator knows nothing.
    gave_held: bool,
}

impl<'a, S, M> World<'a, S, M>
where
    S: Source,
    S::Out: Debug,
    M: Fn() -> S,
{
    fn start(make: &'a M, order: &'a Order<'a, S::Out>, seed: u64) -> Result<Self> {
        let mut random = Random::new(seed);
        let kills_left = random.below(8);
        let mut world = Self {
            make,
            source: make(),
            order,
            random,
            readers: Vec::new(),
            enumerator: None,
            read: Vec::new(),
            checkpoint: None,
            kills_left,
            gave_held: false,
        };
        world.restore()?;
        Ok(world)
    }

    /// Goes on from the last checkpoint in a new process, at any parallelism.
    fn restore(&mut self) -> Result<()> {
        self.readers.clear();
        self.enumerator = None;
        self.gave_held = false;
        self.source = (self.make)();
        let parallelism = 1 + self.random.below(READERS_MAX);
        let state = self.checkpoint.as_ref().and_then(|it| it.enumerator.as_deref());
        if S::Enumerator::EXISTS {
            let state = state.map(restored).transpose()?;
            let mut enumerator = self.source.enumerator(state)?;
            enumerator.discover()?;
            self.enumerator = Some(enumerator);
        }
        let splits = match &self.checkpoint {
            Some(checkpoint) => checkpoint.splits.clone(),
            None if S::Enumerator::EXISTS => Vec::new(),
            None => all_splits(&self.source)?,
        };
        self.read = match &self.checkpoint {
            Some(checkpoint) => checkpoint.read.clone(),
            None => vec![0; self.order.lengths.len()],
        };
        for subtask in 0..parallelism {
            let share = splits.iter().skip(subtask).step_by(parallelism).cloned().collect();
            let running = self.reader(subtask, parallelism, share)?;
            self.readers.push(running);
        }
        Ok(())
    }

    fn reader(
        &self,
        subtask: usize,
        parallelism: usize,
        splits: Splits,
    ) -> Result<Running<S::Reader>> {
        let (ctx, woken) = context(subtask as u32, parallelism as u32);
        let mut running = Running::new(self.source.reader(&ctx)?, woken);
        let share = splits.iter().map(|split| restored(split)).collect::<Result<Vec<_>>>()?;
        if !share.is_empty() {
            running.add_splits(share)?;
        }
        running.held = splits;
        Ok(running)
    }

    fn run(mut self) -> Result<()> {
        for _ in 0..STEPS_MAX {
            let Some(at) = self.any_that_reads() else { return self.check_all_is_read() };
            match self.random.below(100) {
                0..70 => self.poll(at)?,
                70..85 => self.take_checkpoint()?,
                85..90 => drop(self.snapshots()?), // of a checkpoint that comes to nothing
                _ if self.kills_left == 0 => self.poll(at)?,
                90..94 => {
                    self.kills_left -= 1;
                    self.restore()?;
                }
                94..96 if S::Enumerator::RESTARTS_ALONE && !self.gave_held => {
                    self.kills_left -= 1;
                    self.kill_enumerator()?;
                }
                _ => {
                    self.kills_left -= 1;
                    self.kill_one()?;
                }
            }
        }
        bail!("the readers have not ended after {STEPS_MAX} steps")
    }

    fn any_that_reads(&mut self) -> Option<usize> {
        let reading: Vec<usize> = (0..self.readers.len())
            .filter(|at| self.readers.get(*at).is_some_and(|it| !it.is_done))
            .collect();
        if reading.is_empty() {
            return None;
        }
        reading.get(self.random.below(reading.len())).copied()
    }

    fn poll(&mut self, at: usize) -> Result<()> {
        let timed = self.source.has_timestamps();
        let Some(running) = self.readers.get_mut(at) else { return Ok(()) };
        let known = running.fresh.len();
        let polled = running.poll(timed, self.order)?;
        for number in running.fresh.iter().skip(known) {
            note(&mut self.read, self.order, *number)?;
        }
        if polled != Polled::NeedSplit {
            return Ok(());
        }
        let Some(enumerator) = &mut self.enumerator else {
            running.is_done = true;
            return Ok(());
        };
        match enumerator.next_split(at as u32)? {
            NextSplit::Split(split) => {
                let bytes = stored(&split)?;
                running.add_splits(vec![restored(&bytes)?])?;
                running.given.push(bytes);
            }
            NextSplit::NoMore => running.is_done = true,
            NextSplit::Later => drop(enumerator.discover()?),
        }
        Ok(())
    }

    /// The state of the enumerator, and the splits of each reader.
    fn snapshots(&mut self) -> Result<(Option<Vec<u8>>, Vec<Splits>)> {
        let state = match &mut self.enumerator {
            Some(enumerator) => Some(stored(&enumerator.snapshot()?)?),
            None => None,
        };
        let splits = self.readers.iter_mut().map(|running| {
            running.reader.snapshot()?.iter().map(stored).collect::<Result<Vec<_>>>()
        });
        Ok((state, splits.collect::<Result<_>>()?))
    }

    fn take_checkpoint(&mut self) -> Result<()> {
        let (enumerator, splits) = self.snapshots()?;
        let (read, all) = (self.read.clone(), splits.concat());
        self.checkpoint = Some(Checkpoint { enumerator, splits: all, read });
        self.gave_held = false;
        for (running, held) in self.readers.iter_mut().zip(splits) {
            running.held = held;
            running.given.clear();
            running.fresh.clear();
        }
        Ok(())
    }

    /// One reader fails; the others read on.
    fn kill_one(&mut self) -> Result<()> {
        let (parallelism, at) = (self.readers.len(), self.random.below(self.readers.len()));
        let Some(failed) = self.readers.get_mut(at) else { return Ok(()) };
        for (split, _) in failed.fresh.drain(..).filter_map(|it| self.order.places.get(it)) {
            if let Some(read) = self.read.get_mut(*split) {
                *read -= 1;
            }
        }
        let (mut held, mut given) = (failed.held.split_off(0), failed.given.split_off(0));
        if let Some(enumerator) = &mut self.enumerator {
            if self.random.chance(50) {
                given.append(&mut held);
                self.gave_held = true;
            }
            if !given.is_empty() {
                let splits = given.iter().map(|split| restored(split)).collect::<Result<_>>()?;
                enumerator.give_back(at as u32, splits)?;
            }
        }
        let next = self.reader(at, parallelism, held)?;
        if let Some(failed) = self.readers.get_mut(at) {
            *failed = next;
        }
        Ok(())
    }

    /// The enumerator fails and another one takes its place; all readers read on.
    fn kill_enumerator(&mut self) -> Result<()> {
        let state = self.checkpoint.as_ref().and_then(|it| it.enumerator.as_deref());
        let mut enumerator = (self.make)().enumerator(state.map(restored).transpose()?)?;
        let mut handed = Vec::new();
        for (subtask, running) in (0..).zip(&self.readers) {
            handed.extend(running.given.iter().map(|split| (subtask, split)));
        }
        // In two parts, in any order.
        while !handed.is_empty() {
            let at = self.random.below(handed.len());
            handed.rotate_left(at);
            let rest = handed.split_off(handed.len().div_ceil(2));
            let part = handed.into_iter().map(|(subtask, split)| Ok((subtask, restored(split)?)));
            enumerator.was_handed_out(part.collect::<Result<_>>()?)?;
            handed = rest;
        }
        self.enumerator = Some(enumerator);
        if self.random.chance(20) {
            self.take_checkpoint()?;
        }
        if let Some(enumerator) = &mut self.enumerator {
            enumerator.discover()?;
        }
        Ok(())
    }

    fn check_all_is_read(&self) -> Result<()> {
        for (split, (read, length)) in self.read.iter().zip(&self.order.lengths).enumerate() {
            let lost = (0..self.order.expected.len())
                .find(|number| self.order.places.get(*number) == Some(&(split, *read)));
            if let (true, Some(record)) =
                (read < length, lost.and_then(|number| self.order.expected.get(number)))
            {
                bail!("the record {record:?} is lost, and {} of its split", length - read);
            }
        }
        Ok(())
    }
}

/// Notes that a record was read, which must be the next one of its split.
fn note<O: Debug>(read: &mut [usize], order: &Order<'_, O>, number: usize) -> Result<()> {
    let Some((split, place)) = order.places.get(number) else { return Ok(()) };
    let Some(next) = read.get_mut(*split) else { return Ok(()) };
    let record = order.expected.get(number);
    ensure!(place >= next, "the record {record:?} is doubled: it was read, and is read again");
    ensure!(
        place <= next,
        "the record {record:?} was read too early: {} records of its split are before it",
        place - *next
    );
    *next += 1;
    Ok(())
}
