//! The unit in which records move.

use std::vec::IntoIter;

/// The most records of a batch.
pub const BATCH_RECORDS: usize = 1024;

/// About the most bytes of a batch, counting what the records hold inline.
pub const BATCH_BYTES: usize = 64 << 10;

/// Number of records of this type in a full batch: at most [`BATCH_RECORDS`], fewer when they are
/// large, at least 16.
#[must_use]
pub const fn batch_capacity<T>() -> usize {
    let size = if size_of::<T>() == 0 { 1 } else { size_of::<T>() };
    let fitting = BATCH_BYTES / size;
    if fitting > BATCH_RECORDS {
        BATCH_RECORDS
    } else if fitting < 16 {
        16
    } else {
        fitting
    }
}

/// Why records and event times do not make a batch: all its records have one, or none has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TimesError {
    /// A record without a time, for a batch with times.
    #[error("a record without event time was added to a batch whose records have event times")]
    Missing,
    /// A record with a time, for a batch without times.
    #[error("a record with an event time was added to a batch whose records have none")]
    Unexpected,
    /// Not one time for each record.
    #[error("there are {times} event times for {records} records")]
    Count {
        /// The number of records.
        records: usize,
        /// The number of times.
        times: usize,
    },
}

/// Records in order. Either each has an event time (milliseconds since 1970), or none has: a batch
/// is timed or it is not from when it is made, as the stream is that it belongs to.
///
/// ```
/// # use millstream_network::{Batch, TimesError};
/// let mut batch = Batch::of(vec![1, 2]);
/// batch.push(3)?;
/// assert_eq!(batch.push_at(4, 1_000), Err(TimesError::Unexpected));
/// assert_eq!((batch.records(), batch.timestamps()), ([1, 2, 3].as_slice(), None));
///
/// let mut timed = Batch::timed(vec!["a", "b"], vec![10, 20])?;
/// timed.push_at("c", 30)?;
/// assert_eq!(timed.push("d"), Err(TimesError::Missing));
/// assert_eq!(timed.into_iter().last(), Some(("c", Some(30))));
/// # Ok::<(), TimesError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch<T> {
    records: Vec<T>,
    /// As many as there are records; `None` in a batch without times.
    times: Option<Vec<i64>>,
}

impl<T> Batch<T> {
    /// A batch without records, for records with event times or without.
    #[must_use]
    pub const fn empty(timed: bool) -> Self {
        Self { records: Vec::new(), times: if timed { Some(Vec::new()) } else { None } }
    }

    /// A batch of these records, without event times.
    #[must_use]
    pub const fn of(records: Vec<T>) -> Self {
        Self { records, times: None }
    }

    /// A batch of these records with their event times.
    ///
    /// # Errors
    /// There are not as many times as records.
    pub fn timed(records: Vec<T>, times: Vec<i64>) -> Result<Self, TimesError> {
        if records.len() != times.len() {
            return Err(TimesError::Count { records: records.len(), times: times.len() });
        }
        Ok(Self { records, times: Some(times) })
    }

    /// The number of records.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is no record.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Whether the records have event times.
    #[must_use]
    pub const fn is_timed(&self) -> bool {
        self.times.is_some()
    }

    /// The records.
    #[must_use]
    pub fn records(&self) -> &[T] {
        &self.records
    }

    /// The event times, one for each record, if the records have some.
    #[must_use]
    pub fn timestamps(&self) -> Option<&[i64]> {
        self.times.as_deref()
    }

    /// The records and, if they have some, their event times.
    #[must_use]
    pub fn into_parts(self) -> (Vec<T>, Option<Vec<i64>>) {
        (self.records, self.times)
    }

    /// The records, without their event times.
    #[must_use]
    pub fn into_records(self) -> Vec<T> {
        self.records
    }

    /// Makes room for so many more records.
    pub fn reserve(&mut self, additional: usize) {
        self.records.reserve(additional);
        if let Some(times) = &mut self.times {
            times.reserve(additional);
        }
    }

    /// Adds a record without event time.
    ///
    /// # Errors
    /// The batch is one of records with event times.
    #[inline]
    pub fn push(&mut self, record: T) -> Result<(), TimesError> {
        if self.times.is_some() {
            return Err(TimesError::Missing);
        }
        self.records.push(record);
        Ok(())
    }

    /// Adds a record with its event time in milliseconds since 1970.
    ///
    /// # Errors
    /// The batch is one of records without event times.
    #[inline]
    pub fn push_at(&mut self, record: T, time: i64) -> Result<(), TimesError> {
        let Some(times) = &mut self.times else { return Err(TimesError::Unexpected) };
        times.push(time);
        self.records.push(record);
        Ok(())
    }

    /// Adds records without event times.
    ///
    /// # Errors
    /// The batch is one of records with event times; nothing was taken from `records`.
    pub fn extend(&mut self, records: impl IntoIterator<Item = T>) -> Result<(), TimesError> {
        if self.times.is_some() {
            return Err(TimesError::Missing);
        }
        self.records.extend(records);
        Ok(())
    }

    /// Adds all records of another batch.
    ///
    /// # Errors
    /// One of the two batches has event times and the other has none.
    pub fn append(&mut self, mut other: Self) -> Result<(), TimesError> {
        match (&mut self.times, &mut other.times) {
            (None, None) => {}
            (Some(times), Some(others)) => times.append(others),
            (Some(_), None) => return Err(TimesError::Missing),
            (None, Some(_)) => return Err(TimesError::Unexpected),
        }
        self.records.append(&mut other.records);
        Ok(())
    }

    /// Takes everything; the batch is empty then, and for records of the same kind.
    #[must_use]
    pub fn take(&mut self) -> Self {
        let records = std::mem::take(&mut self.records);
        Self { records, times: self.times.as_mut().map(std::mem::take) }
    }

    /// Takes the first `count` records into a batch of their own, which is just large enough.
    #[must_use]
    pub fn take_first(&mut self, count: usize) -> Self {
        let count = count.min(self.len());
        let records = self.records.drain(..count).collect();
        Self { records, times: self.times.as_mut().map(|times| times.drain(..count).collect()) }
    }

    /// Drops the first `count` records.
    pub(crate) fn remove_first(&mut self, count: usize) {
        let count = count.min(self.len());
        self.records.drain(..count);
        if let Some(times) = &mut self.times {
            times.drain(..count);
        }
    }

    /// Moves everything into a batch that is just large enough; the room of this one stays.
    pub(crate) fn move_out(&mut self) -> Self {
        fn moved<V>(from: &mut Vec<V>) -> Vec<V> {
            let mut all = Vec::with_capacity(from.len());
            all.append(from);
            all
        }
        Self { records: moved(&mut self.records), times: self.times.as_mut().map(moved) }
    }
}

impl<T> IntoIterator for Batch<T> {
    type Item = (T, Option<i64>);
    type IntoIter = Records<T>;

    fn into_iter(self) -> Records<T> {
        let times = self.times.unwrap_or_default().into_iter();
        Records { records: self.records.into_iter(), times }
    }
}

/// The records of a [`Batch`], each with its event time if it has one.
#[derive(Debug)]
pub struct Records<T> {
    records: IntoIter<T>,
    times: IntoIter<i64>,
}

impl<T> Records<T> {
    /// The records that are left, as a batch of records with event times or without.
    #[must_use]
    pub fn into_batch(self, timed: bool) -> Batch<T> {
        Batch { records: self.records.collect(), times: timed.then(|| self.times.collect()) }
    }
}

impl<T> Iterator for Records<T> {
    type Item = (T, Option<i64>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let record = self.records.next()?;
        Some((record, self.times.next()))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.records.size_hint()
    }
}

impl<T> ExactSizeIterator for Records<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    /// The content of a batch, after a check that it has as many times as records.
    fn parts<T: Clone>(batch: &Batch<T>) -> (Vec<T>, Option<Vec<i64>>) {
        let (records, times) = batch.clone().into_parts();
        assert!(times.as_ref().is_none_or(|times| times.len() == records.len()));
        (records, times)
    }

    #[test]
    fn no_operation_mixes_records_with_times_and_without() {
        let timed = || Batch::timed(vec![1, 2], vec![10, 20]).unwrap();
        let plain = || Batch::of(vec![1, 2]);
        for (error, attempt) in [
            (TimesError::Missing, timed().push(3)),
            (TimesError::Missing, timed().extend([3])),
            (TimesError::Missing, timed().append(plain())),
            (TimesError::Missing, Batch::empty(true).append(plain())),
            (TimesError::Unexpected, plain().push_at(3, 30)),
            (TimesError::Unexpected, plain().append(timed())),
            (TimesError::Unexpected, Batch::empty(false).append(timed())),
        ] {
            assert_eq!(attempt, Err(error));
        }
        for times in [vec![], vec![10], vec![10, 20, 30]] {
            let count = TimesError::Count { records: 2, times: times.len() };
            assert_eq!(Batch::timed(vec![1, 2], times), Err(count));
        }
    }

    #[test]
    fn what_takes_records_takes_their_times_with_them() {
        let mut batch = Batch::empty(true);
        batch.reserve(3);
        (0..3).for_each(|n| batch.push_at(n, i64::from(n) * 10).unwrap());
        batch.append(Batch::timed(vec![3, 4], vec![30, 40]).unwrap()).unwrap();
        batch.remove_first(2);
        assert_eq!(parts(&batch), (vec![2, 3, 4], Some(vec![20, 30, 40])));
        let moved = batch.move_out();
        assert_eq!(parts(&batch), (vec![], Some(vec![])));
        assert!(batch.is_timed() && batch.is_empty());
        assert_eq!(
            moved.into_iter().collect::<Vec<_>>(),
            [(2, Some(20)), (3, Some(30)), (4, Some(40))]
        );
        let mut plain = Batch::of(vec![5, 6]);
        plain.remove_first(9);
        assert_eq!(parts(&plain.move_out()), (vec![], None));
    }
}
