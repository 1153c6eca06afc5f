//! Records that are computed from their number, so that any run of any parallelism has the same.

use std::time::{Duration, Instant};

use millstream_connector::{
    Boundedness, Data, NoEnumerator, Polled, ReaderContext, ReaderOutput, Result, Source,
    SourceReader,
};
use millstream_mutants::Mutant;
use millstream_network::batch_capacity;
use serde::{Deserialize, Serialize};

/// The number of splits: the same at any parallelism, so that a job can go on at another one.
const SPLITS: u64 = 128;

/// Shortest sleep of a source with a rate: a shorter one would cost more than it smooths.
const PAUSE_MIN: Duration = Duration::from_millis(1);

/// Makes records from the numbers 0, 1, 2 and so on, each subtask in the order of the numbers.
/// There are 128 splits: split `s` has the numbers `s`, `s + 128`, `s + 256` and so on, and
/// subtasks beyond the 128th have none. As the splits of a subtask take turns record by record,
/// none is ahead of another: they are one for `Stream::watermarks_per_split`.
///
/// ```
/// use millstream::connectors::Datagen;
///
/// let numbers = Datagen::sequence(0..1_000_000);
/// let squares = Datagen::from_fn(|i| i * i).count(100);
/// let visits = Datagen::random(42, |_, random| random.below(10)).rate_per_second(1_000);
/// # let _ = (numbers, squares, visits);
/// ```
#[derive(Debug, Clone)]
pub struct Datagen<F> {
    function: F,
    /// `None`: without end.
    count: Option<u64>,
    rate: Option<f64>,
}

/// Pseudo-random numbers for one record.
///
/// ```
/// # use millstream::connectors::Random;
/// let mut random = Random::new(42, 0);
/// assert_eq!(random.next_u64(), Random::new(42, 0).next_u64()); // the same in every run
/// assert!(random.below(6) < 6);
/// assert!((0.0..1.0).contains(&random.unit()));
/// ```
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The numbers of the record `index`, the same for the same seed.
    #[inline]
    #[must_use]
    pub const fn new(seed: u64, index: u64) -> Self {
        Self(mix(index.wrapping_add(mix(seed))))
    }

    /// Any number.
    #[inline]
    pub const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `bound`, or 0 for a bound of 0.
    #[inline]
    pub const fn below(&mut self, bound: u64) -> u64 {
        ((self.next_u64() as u128 * bound as u128) >> 64) as u64
    }

    /// A number from 0 to below 1.
    #[inline]
    pub const fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The finaliser of SplitMix64.
#[inline]
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Datagen<()> {
    /// The numbers of a range.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing};
    /// # let env = &mut testing::environment();
    /// let numbers = CollectSink::new();
    /// env.source("numbers", Datagen::sequence(7..10)).sink("collect", numbers.clone());
    /// env.execute("numbers")?;
    /// assert_eq!(numbers.take(), [7, 8, 9]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn sequence(
        range: std::ops::Range<u64>,
    ) -> Datagen<impl Fn(u64) -> u64 + Clone + Send + Sync + 'static> {
        let count = range.end.saturating_sub(range.start);
        Datagen::from_fn(move |index| range.start + index).count(count)
    }

    /// Emits the result of a function for each number, without end unless [`Datagen::count`] sets
    /// one.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing};
    /// # let env = &mut testing::environment();
    /// let words = CollectSink::new();
    /// let source = Datagen::from_fn(|n| format!("word {n}")).count(2);
    /// env.source("words", source).sink("all", words.clone());
    /// env.execute("words")?;
    /// assert_eq!(words.take(), ["word 0", "word 1"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn from_fn<T, F: Fn(u64) -> T>(function: F) -> Datagen<F> {
        Datagen { function, count: None, rate: None }
    }

    /// The same with pseudo-random numbers, which depend on the seed and the record's number alone.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing};
    /// # let env = &mut testing::environment();
    /// let dice = CollectSink::new();
    /// let throws = Datagen::random(42, |_, random| random.below(6) + 1).count(100);
    /// env.source("throws", throws).sink("dice", dice.clone());
    /// env.execute("throw dice")?;
    /// assert!(dice.take().iter().all(|die| (1..=6).contains(die)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn random<T, F>(
        seed: u64,
        function: F,
    ) -> Datagen<impl Fn(u64) -> T + Clone + Send + Sync + 'static>
    where
        F: Fn(u64, &mut Random) -> T + Clone + Send + Sync + 'static,
    {
        Datagen::from_fn(move |index| function(index, &mut Random::new(seed, index)))
    }
}

impl<F> Datagen<F> {
    /// Ends after this many records over all subtasks.
    #[must_use]
    pub const fn count(mut self, records: u64) -> Self {
        self.count = Some(records);
        self
    }

    /// Makes this many records per second over all subtasks, evenly; after a stall it catches up.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing};
    /// # let env = &mut testing::environment();
    /// let started = std::time::Instant::now();
    /// env.source("numbers", Datagen::sequence(0..20).rate_per_second(200))
    ///     .sink("nowhere", DiscardSink::new());
    /// env.execute("slowly")?;
    /// assert!(started.elapsed().as_millis() >= 50);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn rate_per_second(mut self, records: u64) -> Self {
        self.rate = Some(records as f64);
        self
    }
}

impl<T, F> Source for Datagen<F>
where
    T: Data,
    F: Fn(u64) -> T + Clone + Send + Sync + 'static,
{
    type Out = T;
    type Split = DatagenSplit;
    type Reader = DatagenReader<F>;
    type Enumerator = NoEnumerator<DatagenSplit>;

    fn boundedness(&self) -> Boundedness {
        match self.count {
            Some(_) => Boundedness::Bounded,
            None => Boundedness::Unbounded,
        }
    }

    fn splits(&self) -> Result<Vec<DatagenSplit>> {
        Ok((0..SPLITS).map(|next| DatagenSplit { next }).collect())
    }

    fn reader(&self, ctx: &ReaderContext) -> Result<DatagenReader<F>> {
        let parallelism = f64::from(ctx.parallelism.max(1));
        Ok(DatagenReader {
            function: self.function.clone(),
            count: self.count.unwrap_or(u64::MAX),
            now: Numbers::default(),
            later: Vec::new(),
            made: 0,
            pace: self.rate.map(|rate| Pace {
                rate: rate / parallelism,
                started: None,
                rests: false,
            }),
        })
    }
}

/// The numbers from one on that leave the same rest when they are divided by 128.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DatagenSplit {
    next: u64,
}

/// The speed of one subtask.
#[derive(Debug, Clone)]
struct Pace {
    /// Records per second.
    rate: f64,
    started: Option<Instant>,
    /// Nothing is due any more: more records come together after a pause, not one by one.
    rests: bool,
}

impl Pace {
    /// Number of records that are due at `now` in all.
    fn due(&mut self, now: Instant) -> u64 {
        let started = *self.started.get_or_insert(now);
        // The cast saturates; the first record is due at once.
        let due = now.saturating_duration_since(started).as_secs_f64() * self.rate;
        (due as u64).saturating_add(1)
    }

    /// When to look again after `made` records.
    fn next(&self, made: u64, now: Instant) -> Instant {
        let started = self.started.unwrap_or(now);
        let at = Duration::try_from_secs_f64(made as f64 / self.rate).unwrap_or(Duration::MAX);
        let at = started.checked_add(at).unwrap_or(now + Duration::from_secs(3600));
        at.max(now + PAUSE_MIN)
    }
}

/// The numbers of splits that take turns, in order.
#[derive(Debug, Default)]
struct Numbers {
    /// The first number of each split, in order.
    firsts: Vec<u64>,
    /// The position: numbers before it are made.
    at: u64,
}

impl Numbers {
    /// The number at a position.
    #[inline]
    fn number(&self, at: u64) -> u64 {
        let splits = self.firsts.len().max(1) as u64;
        let first = self.firsts.get((at % splits) as usize).copied().unwrap_or_default();
        (at / splits).saturating_mul(SPLITS).saturating_add(first)
    }

    /// The position of the first number that is not below `end`.
    fn position_of(&self, end: u64) -> u64 {
        let within = self.firsts.partition_point(|first| *first < end % SPLITS) as u64;
        (end / SPLITS).saturating_mul(self.firsts.len() as u64).saturating_add(within)
    }

    /// The distance of neighbouring numbers, if it is the same everywhere.
    fn step(&self) -> Option<u64> {
        let splits = self.firsts.len() as u64;
        let step = SPLITS.checked_div(splits).filter(|step| step * splits == SPLITS)?;
        let first = *self.firsts.first()?;
        let is_regular = (0..).zip(&self.firsts).all(|(n, it)| *it == first + n * step);
        is_regular.then_some(step)
    }

    /// Adds a split that goes on with `next`, which is one of the numbers about to be made.
    fn add(&mut self, next: u64) {
        let reached = self.number(self.at);
        self.firsts.push(next % SPLITS);
        self.firsts.sort_unstable();
        let reached = if self.firsts.len() == 1 { next } else { reached.min(next) };
        self.at = self.position_of(reached);
    }

    /// Each split with the first of its numbers that is not made.
    fn splits(&self) -> impl Iterator<Item = DatagenSplit> {
        let positions = self.at..self.at + self.firsts.len() as u64;
        positions.map(|at| DatagenSplit { next: self.number(at) })
    }

    /// Makes at most `count` records from the position on, as many as make a batch, and returns
    /// their number.
    fn make<T: Data>(
        &mut self,
        count: u64,
        function: impl Fn(u64) -> T,
        out: &mut ReaderOutput<'_, T>,
    ) -> Result<u64> {
        let first = self.number(self.at);
        let made = if let Some(step) = self.step() {
            out.fill((0..count).map(|at| function(first + at * step)))?
        } else {
            let splits = self.firsts.len();
            let (mut turn, mut base) = ((self.at % splits as u64) as usize, first - first % SPLITS);
            out.fill((0..count).map(|_| {
                let number = base + self.firsts.get(turn).copied().unwrap_or_default();
                turn += 1;
                if turn == splits {
                    (turn, base) = (0, base.saturating_add(SPLITS));
                }
                function(number)
            }))?
        };
        self.at += made as u64;
        Ok(made as u64)
    }
}

/// Makes the records of one subtask, in the order of their numbers.
#[derive(Debug)]
pub struct DatagenReader<F> {
    function: F,
    /// The number of all records.
    count: u64,
    /// The splits whose numbers are made in turns.
    now: Numbers,
    /// Splits that go on with a larger number, the largest first: after a restore of splits that
    /// were with several readers.
    later: Vec<DatagenSplit>,
    /// The number of records that this reader has made.
    made: u64,
    pace: Option<Pace>,
}

impl<F> DatagenReader<F> {
    /// The number of records up to where the splits that take turns change.
    fn left(&mut self) -> u64 {
        while let Some(split) = self.later.last()
            && (self.now.firsts.is_empty()
                || split.next < self.now.number(self.now.at).saturating_add(SPLITS))
        {
            self.now.add(split.next);
            self.later.pop();
        }
        let end = self.later.last().map_or(self.count, |split| split.next.min(self.count));
        self.now.position_of(end).saturating_sub(self.now.at)
    }

    fn poll_at<T: Data>(
        &mut self,
        now: impl Fn() -> Instant,
        out: &mut ReaderOutput<'_, T>,
    ) -> Result<Polled>
    where
        F: Fn(u64) -> T,
    {
        let mut most = self.left().min(batch_capacity::<T>() as u64);
        if most == 0 {
            return Ok(Polled::Finished);
        }
        if let Some(pace) = &mut self.pace {
            let now = now();
            let due = pace.due(now).saturating_sub(self.made);
            if std::mem::take(&mut pace.rests) || due == 0 {
                return Ok(Polled::Pending(Some(pace.next(self.made, now))));
            }
            pace.rests = due <= most;
            most = most.min(due);
        }
        self.made += self.now.make(most, &self.function, out)?;
        Ok(Polled::Ready)
    }
}

impl<T, F> SourceReader for DatagenReader<F>
where
    T: Data,
    F: Fn(u64) -> T + Send,
{
    type Out = T;
    type Split = DatagenSplit;

    fn add_splits(&mut self, splits: Vec<DatagenSplit>) -> Result<()> {
        let held = std::mem::take(&mut self.now);
        self.later.extend(splits.into_iter().chain(held.splits()));
        self.later.sort_unstable_by(|left, right| right.cmp(left));
        Ok(())
    }

    fn poll(&mut self, out: &mut ReaderOutput<'_, T>) -> Result<Polled> {
        self.poll_at(Instant::now, out)
    }

    fn snapshot(&mut self) -> Result<Vec<DatagenSplit>> {
        let splits = self.now.splits().chain(self.later.iter().copied());
        let back = u64::from(Mutant::ReplaysBatch.lives());
        let splits = splits.map(|split| DatagenSplit { next: split.next.saturating_sub(back) });
        Ok(splits.filter(|split| split.next < self.count).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_connector::{Batch, BatchLimit, conformance};

    use crate::testing::{context, read_reader, reader_of};

    fn read<T, F>(source: &Datagen<F>, parallelism: u32) -> Vec<Vec<T>>
    where
        T: Data,
        F: Fn(u64) -> T + Clone + Send + Sync + 'static,
    {
        let subtasks = 0..parallelism;
        subtasks
            .map(|subtask| {
                let (ctx, woken) = context(subtask, parallelism);
                read_reader(reader_of(source, &ctx), &woken).unwrap()
            })
            .collect()
    }

    #[test]
    fn every_number_is_made_once_at_any_parallelism() {
        for count in [0, 1, 5, 10_000] {
            for parallelism in [1, 2, 3, 7] {
                let source = Datagen::sequence(100..100 + count);
                let mut numbers = read(&source, parallelism).concat();
                numbers.sort_unstable();
                assert_eq!(numbers, (100..100 + count).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn subtasks_take_turns() {
        let read = read(&Datagen::from_fn(|i| i).count(7), 3);
        assert_eq!(read, [vec![0, 3, 6], vec![1, 4], vec![2, 5]]);
    }

    #[test]
    fn each_subtask_makes_its_numbers_in_order() {
        for parallelism in [1, 3, 4, 100, 127, 128, 130] {
            for numbers in read(&Datagen::from_fn(|i| i).count(20_000), parallelism) {
                assert!(numbers.is_sorted(), "{parallelism} subtasks");
            }
        }
    }

    #[test]
    fn whatever_is_restored_at_any_parallelism_every_number_is_made_once() {
        for count in [0, 1, 127, 1_000, 5_000] {
            let numbers: Vec<u64> = (0..count).collect();
            let source = || Datagen::sequence(0..count);
            conformance::check_source(source, &numbers, 0..60).unwrap();
        }
    }

    #[test]
    fn a_range_that_ends_before_it_begins_is_empty() {
        #[expect(clippy::reversed_empty_ranges, reason = "what a user may write")]
        let source = Datagen::sequence(5..3);
        assert!(read(&source, 2).concat().is_empty());
    }

    #[test]
    fn random_records_depend_on_seed_and_number_only() {
        let make = |seed, parallelism| {
            let source = Datagen::random(seed, |i, random| (i, random.below(1000))).count(5000);
            let mut records = read(&source, parallelism).concat();
            records.sort_unstable();
            records
        };
        assert_eq!(make(1, 1), make(1, 4));
        assert_ne!(make(1, 1), make(2, 1));
        let mean = make(1, 1).iter().map(|(_, value)| *value as f64).sum::<f64>() / 5000.0;
        assert!((480.0..520.0).contains(&mean), "{mean}");
    }

    #[test]
    fn a_rate_is_kept_smoothly() {
        let (ctx, _) = context(1, 2);
        let source = Datagen::from_fn(|i| i).rate_per_second(20_000);
        let mut reader = reader_of(&source, &ctx);
        let start = Instant::now();
        let mut now = start;
        let mut largest = 0;
        while now < start + Duration::from_secs(10) {
            let mut batch = Batch::empty(false);
            match reader
                .poll_at(|| now, &mut ReaderOutput::new(&mut batch, &mut BatchLimit::new()))
                .unwrap()
            {
                Polled::Pending(Some(until)) => {
                    assert!(until > now);
                    now = until;
                }
                polled => assert_eq!(polled, Polled::Ready),
            }
            largest = largest.max(batch.len());
        }
        assert!((99_990..=100_011).contains(&reader.made), "{} records", reader.made);
        assert!(largest <= 12, "{largest} records in one batch");
    }

    #[test]
    fn a_high_rate_has_a_pause_between_two_batches() {
        let (ctx, _) = context(0, 1);
        let source = Datagen::from_fn(|i| i).rate_per_second(10_000_000);
        let mut reader = reader_of(&source, &ctx);
        let start = Instant::now();
        let mut now = start;
        let mut polls = 0;
        while now < start + Duration::from_millis(100) {
            let mut batch = Batch::empty(false);
            let mut limit = BatchLimit::new();
            let mut out = ReaderOutput::new(&mut batch, &mut limit);
            match reader.poll_at(|| now, &mut out).unwrap() {
                Polled::Pending(Some(until)) => now = until,
                // A batch takes time, in which other records become due.
                _ => now += Duration::from_nanos(5_000 + batch.len() as u64),
            }
            polls += 1;
        }
        let least = 1_000_000 / batch_capacity::<u64>();
        assert!(polls < 2 * least, "{polls} batches and pauses, of {least} full ones");
        assert!(reader.made > 980_000, "{} records", reader.made);
    }

    #[test]
    fn a_rate_of_zero_or_of_many_is_no_fault() {
        let (ctx, _) = context(0, 1);
        let now = Instant::now();
        for rate in [0, 1, u64::MAX] {
            let source = Datagen::from_fn(|i| i).rate_per_second(rate);
            let mut reader = reader_of(&source, &ctx);
            for step in 0..10 {
                let now = || now + Duration::from_secs(step);
                let mut batch = Batch::empty(false);
                let polled = reader
                    .poll_at(now, &mut ReaderOutput::new(&mut batch, &mut BatchLimit::new()))
                    .unwrap();
                assert!(matches!(polled, Polled::Ready | Polled::Pending(Some(_))));
            }
        }
    }

    #[test]
    fn without_a_count_it_is_unbounded() {
        let unbounded = Datagen::from_fn(|i| i);
        assert_eq!(unbounded.boundedness(), Boundedness::Unbounded);
        assert_eq!(unbounded.count(3).boundedness(), Boundedness::Bounded);
    }
}
