//! Records that are computed from their number, so that any run of any parallelism has the same.

use std::time::{Duration, Instant};

use millstream_connector::{
    Batch, Boundedness, Data, NoEnumerator, Polled, ReaderContext, Result, Source, SourceReader,
};
use millstream_network::batch_capacity;

/// Shortest sleep of a source with a rate: a shorter one would cost more than it smooths.
const PAUSE_MIN: Duration = Duration::from_millis(1);

/// Makes records from the numbers 0, 1, 2 and so on. Subtask `s` of `p` makes the records of the
/// numbers `s`, `s + p`, `s + 2p` and so on.
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
    type Split = ();
    type Reader = DatagenReader<F>;
    type Enumerator = NoEnumerator<()>;

    fn boundedness(&self) -> Boundedness {
        match self.count {
            Some(_) => Boundedness::Bounded,
            None => Boundedness::Unbounded,
        }
    }

    fn reader(&self, ctx: &ReaderContext) -> Result<DatagenReader<F>> {
        let (subtask, parallelism) = (u64::from(ctx.subtask), u64::from(ctx.parallelism.max(1)));
        let count = self.count.unwrap_or(u64::MAX);
        Ok(DatagenReader {
            function: self.function.clone(),
            first: subtask,
            step: parallelism,
            left: count.saturating_sub(subtask).div_ceil(parallelism),
            made: 0,
            pace: self.rate.map(|rate| Pace { rate: rate / parallelism as f64, started: None }),
        })
    }

    fn enumerator(&self) -> Result<Option<NoEnumerator<()>>> {
        Ok(None)
    }

    fn has_enumerator(&self) -> bool {
        false
    }
}

/// The speed of one subtask.
#[derive(Debug, Clone)]
struct Pace {
    /// Records per second.
    rate: f64,
    started: Option<Instant>,
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

/// Makes the records of one subtask.
#[derive(Debug)]
pub struct DatagenReader<F> {
    function: F,
    /// The number of the next record.
    first: u64,
    step: u64,
    left: u64,
    made: u64,
    pace: Option<Pace>,
}

impl<T, F: Fn(u64) -> T> DatagenReader<F> {
    /// Makes at most `most` records.
    fn make(&mut self, most: u64, batch: &mut Batch<T>) -> Result<()> {
        let most = most.min(batch_capacity::<T>() as u64).min(self.left);
        let (first, step, function) = (self.first, self.step, &self.function);
        batch.extend((0..most).map(|at| function(first + at * step)))?;
        self.first = first.saturating_add(most * step);
        self.left -= most;
        self.made += most;
        Ok(())
    }

    fn poll_at(&mut self, now: impl Fn() -> Instant, batch: &mut Batch<T>) -> Result<Polled> {
        if self.left == 0 {
            return Ok(Polled::Finished);
        }
        let Some(pace) = &mut self.pace else {
            self.make(u64::MAX, batch)?;
            return Ok(Polled::Ready);
        };
        let now = now();
        let due = pace.due(now).saturating_sub(self.made);
        if due == 0 {
            return Ok(Polled::Pending(Some(pace.next(self.made, now))));
        }
        self.make(due, batch)?;
        Ok(Polled::Ready)
    }
}

impl<T, F> SourceReader for DatagenReader<F>
where
    T: Data,
    F: Fn(u64) -> T + Send,
{
    type Out = T;
    type Split = ();

    fn add_split(&mut self, _split: ()) -> Result<()> {
        Ok(())
    }

    fn poll(&mut self, batch: &mut Batch<T>) -> Result<Polled> {
        self.poll_at(Instant::now, batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{context, read_reader};

    fn read<T, F>(source: &Datagen<F>, parallelism: u32) -> Vec<Vec<T>>
    where
        T: Data,
        F: Fn(u64) -> T + Clone + Send + Sync + 'static,
    {
        let subtasks = 0..parallelism;
        subtasks
            .map(|subtask| {
                let (ctx, woken) = context(subtask, parallelism);
                read_reader(source.reader(&ctx).unwrap(), &woken).unwrap()
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
        let mut reader = source.reader(&ctx).unwrap();
        let start = Instant::now();
        let mut now = start;
        let mut largest = 0;
        while now < start + Duration::from_secs(10) {
            let mut batch = Batch::empty(false);
            match reader.poll_at(|| now, &mut batch).unwrap() {
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
    fn a_rate_of_zero_or_of_many_is_no_fault() {
        let (ctx, _) = context(0, 1);
        let now = Instant::now();
        for rate in [0, 1, u64::MAX] {
            let source = Datagen::from_fn(|i| i).rate_per_second(rate);
            let mut reader = source.reader(&ctx).unwrap();
            for step in 0..10 {
                let now = || now + Duration::from_secs(step);
                let polled = reader.poll_at(now, &mut Batch::empty(false)).unwrap();
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
