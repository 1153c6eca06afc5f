//! The output of a reader: the records of a poll, and of which splits they are.

use millstream_network::{Batch, BatchLimit, Data, TimesError};

/// The splits that a reader has named, for the task that polls it. A run is a number of records one
/// behind the other that are of one split.
#[derive(Debug, Default)]
pub struct SplitNotes {
    has_any: bool,
    /// The split of records that are added.
    current: u64,
    /// The split and the place of the first record of each run; not more than records, and one.
    runs: Vec<(u64, usize)>,
    ended: Vec<u64>,
    /// The splits that wait for others, in order.
    paused: Vec<u64>,
}

impl SplitNotes {
    /// Whether the reader has ever named a split.
    #[must_use]
    pub const fn has_any(&self) -> bool {
        self.has_any
    }

    /// The runs of a poll that has added so many records: the number of the split, and of records.
    pub fn runs(&self, records: usize) -> impl Iterator<Item = (u64, usize)> {
        let ends = self.runs.iter().skip(1).map(|(_, first)| *first).chain([records]);
        let runs = self.runs.iter().zip(ends);
        runs.map(|((split, first), end)| (*split, end.saturating_sub(*first)))
            .filter(|(_, count)| *count > 0)
    }

    /// The splits that have ended in this poll, behind all its records.
    #[must_use]
    pub fn ended(&self) -> &[u64] {
        &self.ended
    }

    /// Says which splits wait for others.
    pub fn pause(&mut self, splits: impl IntoIterator<Item = u64>) {
        self.paused.clear();
        self.paused.extend(splits);
        self.paused.sort_unstable();
    }

    /// Whether a split waits for others.
    #[must_use]
    pub fn is_paused(&self, split: u64) -> bool {
        self.paused.binary_search(&split).is_ok()
    }

    /// A poll begins.
    fn restart(&mut self) {
        self.runs.clear();
        self.runs.push((self.current, 0));
        self.ended.clear();
    }

    fn switch(&mut self, split: u64, first: usize) {
        self.has_any = true;
        if split == self.current {
            return;
        }
        self.current = split;
        match self.runs.last_mut() {
            Some(run) if run.1 == first => run.0 = split,
            _ => self.runs.push((split, first)),
        }
    }

    fn end(&mut self, split: u64) {
        self.has_any = true;
        self.ended.push(split);
    }
}

/// A number of a split that a reader must not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// The reader has not got so many.
    #[error(
        "the reader names split {split} and was given {given}: number splits from 0 in the order \
         in which they came to add_splits()"
    )]
    Unknown {
        /// The split.
        split: u64,
        /// The number of splits so far.
        given: u64,
    },
    /// The split has ended.
    #[error(
        "the reader names split {split} after it has ended it: call end_split() once, behind the \
         last record"
    )]
    Ended {
        /// The split.
        split: u64,
    },
}

impl SplitError {
    /// The fault of a split that is not open, of a reader that was given so many.
    #[must_use]
    pub const fn of(split: u64, given: u64) -> Self {
        if split < given { Self::Ended { split } } else { Self::Unknown { split, given } }
    }
}

/// Takes the records of a reader during one poll.
///
/// A reader of several splits names the split of its records by [`ReaderOutput::of_split`], so that
/// each can have watermarks of its own.
#[derive(Debug)]
pub struct ReaderOutput<'a, T> {
    batch: &'a mut Batch<T>,
    limit: &'a mut BatchLimit<T>,
    splits: Option<&'a mut SplitNotes>,
}

impl<'a, T> ReaderOutput<'a, T> {
    /// Makes an output that adds records to an empty batch; the limit is that of earlier batches.
    pub const fn new(batch: &'a mut Batch<T>, limit: &'a mut BatchLimit<T>) -> Self {
        limit.restart();
        Self { batch, limit, splits: None }
    }

    /// Notes the splits that the reader names, which are forgotten otherwise.
    #[must_use]
    pub fn with_splits(mut self, splits: &'a mut SplitNotes) -> Self {
        splits.restart();
        self.splits = Some(splits);
        self
    }

    /// Says that the records which are added from now on are of this split, until another one is
    /// named, in this poll or a later one. Splits are numbered in the order in which they came to
    /// [`SourceReader::add_splits`](crate::SourceReader::add_splits), from 0 over the life of the
    /// reader. A reader that names splits does so from its first record on, and ends each. Costs
    /// little, but is meant for many records at once, not for each.
    ///
    /// With watermarks per split the watermark of the subtask then waits for each split that is
    /// open, also for one that has had no record yet. All splits of a reader that names none are
    /// one.
    ///
    /// ```
    /// # use millstream::{prelude::*, testing, Boundedness};
    /// # use std::{ops::Range, time::Duration};
    /// /// Two logs of a thousand seconds, of which the second began a day later.
    /// struct Logs;
    ///
    /// const DAY: i64 = 24 * 3_600;
    ///
    /// impl Source for Logs {
    ///     type Out = i64;
    ///     type Split = Range<i64>;
    ///     type Reader = ByTurns;
    ///     type Enumerator = NoEnumerator<Range<i64>>;
    ///
    ///     fn boundedness(&self) -> Boundedness {
    ///         Boundedness::Bounded
    ///     }
    ///
    ///     fn splits(&self) -> Result<Vec<Range<i64>>> {
    ///         Ok(vec![0..1_000, DAY..DAY + 1_000])
    ///     }
    ///
    ///     fn reader(&self, _ctx: &ReaderContext) -> Result<ByTurns> {
    ///         Ok(ByTurns(Vec::new()))
    ///     }
    /// }
    ///
    /// /// Reads some records of each split by turns.
    /// struct ByTurns(Vec<Range<i64>>);
    ///
    /// impl SourceReader for ByTurns {
    ///     type Out = i64;
    ///     type Split = Range<i64>;
    ///
    ///     fn add_splits(&mut self, splits: Vec<Range<i64>>) -> Result<()> {
    ///         self.0.extend(splits);
    ///         Ok(())
    ///     }
    ///
    ///     fn poll(&mut self, out: &mut ReaderOutput<'_, i64>) -> Result<Polled> {
    ///         let open = (0..).zip(&mut self.0).filter(|(_, split)| !split.is_empty());
    ///         for (number, split) in open {
    ///             out.of_split(number);
    ///             out.extend(split.by_ref().take(100))?;
    ///             if split.is_empty() {
    ///                 out.end_split(number);
    ///             }
    ///         }
    ///         Ok(if out.is_empty() { Polled::Finished } else { Polled::Ready })
    ///     }
    ///
    ///     fn snapshot(&mut self) -> Result<Vec<Range<i64>>> {
    ///         Ok(self.0.iter().filter(|split| !split.is_empty()).cloned().collect())
    ///     }
    /// }
    ///
    /// let mut env = testing::environment();
    /// env.set_runtime_mode(RuntimeMode::Streaming);
    /// let strategy = WatermarkStrategy::monotonous().timestamps(|second| Ok(second * 1_000));
    /// let seconds = CollectSink::new();
    /// env.source("logs", Logs)
    ///     .watermarks_per_split(strategy)
    ///     .order_by_time("in order", LateRecords::drop_record())
    ///     .sink("collect", seconds.clone());
    /// env.execute("logs")?;
    /// // None was late, and the second log comes after the first.
    /// assert_eq!(seconds.take(), (0..1_000).chain(DAY..DAY + 1_000).collect::<Vec<_>>());
    /// # Ok::<(), millstream::Error>(())
    /// ```
    pub fn of_split(&mut self, number: u64) {
        if let Some(splits) = &mut self.splits {
            splits.switch(number, self.batch.len());
        }
    }

    /// Says that no record of this split will follow: the watermark does not wait for it any more.
    /// It is meant behind all records of the split, wherever it is called in a poll. See
    /// [`ReaderOutput::of_split`].
    pub fn end_split(&mut self, number: u64) {
        if let Some(splits) = &mut self.splits {
            splits.end(number);
        }
    }

    /// Whether a split waits for others that are behind it in event time
    /// (`WatermarkStrategy::aligned`): the reader must add no record of it in this poll. A reader
    /// of several splits that has nothing else to read answers
    /// [`Polled::Pending`](crate::Polled::Pending)`(None)`: the task polls it again when a split
    /// goes on. While all its splits wait, a reader is not polled.
    #[must_use]
    pub fn is_paused(&self, number: u64) -> bool {
        self.splits.as_ref().is_some_and(|splits| splits.is_paused(number))
    }

    /// The number of records so far.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.batch.len()
    }

    /// Whether there is no record yet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// Makes room for so many more records.
    pub fn reserve(&mut self, additional: usize) {
        self.batch.reserve(additional);
    }

    /// Adds a record without event time.
    ///
    /// # Errors
    /// The source says that its records have event times.
    #[inline]
    pub fn push(&mut self, record: T) -> Result<(), TimesError> {
        self.batch.push(record)
    }

    /// Adds a record with its event time in milliseconds since 1970.
    ///
    /// # Errors
    /// The source says that its records have no event times.
    #[inline]
    pub fn push_at(&mut self, record: T, time: i64) -> Result<(), TimesError> {
        self.batch.push_at(record, time)
    }

    /// Adds records without event times.
    ///
    /// # Errors
    /// The source says that its records have event times; nothing was taken from `records`.
    #[inline]
    pub fn extend(&mut self, records: impl IntoIterator<Item = T>) -> Result<(), TimesError> {
        self.batch.extend(records)
    }
}

impl<T: Data> ReaderOutput<'_, T> {
    /// Whether the records make a batch: about a thousand of them, or 240 KiB. A reader ends its
    /// poll then; what it adds beyond takes memory only.
    #[inline]
    pub fn is_full(&mut self) -> bool {
        self.limit.is_full(self.batch.records())
    }

    /// Adds records without event times until they make a batch, and returns their number.
    ///
    /// # Errors
    /// The source says that its records have event times; nothing was taken from `records`.
    #[inline]
    pub fn fill(&mut self, records: impl IntoIterator<Item = T>) -> Result<usize, TimesError> {
        let before = self.len();
        let mut records = records.into_iter();
        if const { !std::mem::needs_drop::<T>() } {
            self.batch.extend(records.take(self.limit.capacity().saturating_sub(before)))?;
        } else {
            self.batch.extend([])?;
            while !self.is_full()
                && let Some(record) = records.next()
            {
                self.batch.push(record)?;
            }
        }
        Ok(self.len() - before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The runs and the ended splits of a poll.
    fn poll(
        notes: &mut SplitNotes,
        read: impl FnOnce(&mut ReaderOutput<'_, u64>),
    ) -> (Vec<(u64, usize)>, Vec<u64>) {
        let (mut batch, mut limit) = (Batch::empty(false), BatchLimit::new());
        read(&mut ReaderOutput::new(&mut batch, &mut limit).with_splits(notes));
        (notes.runs(batch.len()).collect(), notes.ended().to_vec())
    }

    #[test]
    fn a_poll_tells_which_records_are_of_which_split() {
        let mut notes = SplitNotes::default();
        let seen = poll(&mut notes, |out| out.extend(0..3).unwrap());
        assert_eq!(seen, (vec![(0, 3)], vec![]));
        assert!(!notes.has_any());
        let seen = poll(&mut notes, |out| {
            out.of_split(1);
            out.of_split(2);
            out.extend(0..3).unwrap();
            out.of_split(2);
            out.push(3).unwrap();
            out.end_split(2);
            out.of_split(0);
            out.push(4).unwrap();
            out.of_split(7);
        });
        assert_eq!(seen, (vec![(2, 4), (0, 1)], vec![2]));
        assert!(notes.has_any());
        let seen = poll(&mut notes, |out| out.push(5).unwrap());
        assert_eq!(seen, (vec![(7, 1)], vec![]), "the split that was named last");
        assert_eq!(poll(&mut notes, |_| {}), (vec![], vec![]));
    }
}
