//! Records that wait to become a batch, as an operator makes them.

use millstream_network::{Batch, BatchLimit, Data};

use crate::{Error, Result};

/// Adds the record that `make` makes, if it makes one, where it stays; `false` if it makes none.
///
/// `Vec::push` calls the allocator on the way, so a record that it is given is in memory by then,
/// and one that was written there word by word and is then read as a whole makes the processor wait
/// for its own stores, some 4 ns. Here the room is made first.
#[inline(always)]
pub fn append<O>(records: &mut Vec<O>, make: impl FnOnce() -> Option<O>) -> bool {
    let length = records.len();
    if length == records.capacity() {
        grow(records);
    }
    let Some(place) = records.spare_capacity_mut().first_mut() else { return false };
    let Some(record) = make() else { return false };
    place.write(record);
    // SAFETY: there was room for one more, and now a record is in it.
    unsafe { records.set_len(length + 1) };
    true
}

#[cold]
fn grow<O>(records: &mut Vec<O>) {
    records.reserve(1);
}

/// Records on their way into a [`Batch`].
///
/// An operator appends what its function emits for the record at hand and then gives all of it the
/// time of that record: one check a record, however many its results are.
#[derive(Debug)]
pub struct Results<O> {
    /// The records.
    pub records: Vec<O>,
    /// Their times, of a stream with event times: as many, or fewer until they are stamped.
    pub times: Vec<i64>,
    /// Says when they make a batch.
    pub limit: BatchLimit<O>,
    timed: bool,
}

impl<O> Results<O> {
    /// No results yet, of a stream with event times or without.
    #[must_use]
    pub const fn new(timed: bool) -> Self {
        Self::limited_by(BatchLimit::new(), timed)
    }

    /// No results yet; the limit says when they make a batch.
    #[must_use]
    pub const fn limited_by(limit: BatchLimit<O>, timed: bool) -> Self {
        Self { records: Vec::new(), times: Vec::new(), limit, timed }
    }

    /// The number of records.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Gives the records that have no time yet the time of the record that they were made of.
    ///
    /// # Errors
    /// The stream has event times, and the record has none.
    #[inline]
    pub fn stamp(&mut self, time: Option<i64>) -> Result<()> {
        if self.timed {
            self.times.resize(self.records.len(), time.ok_or_else(without_time)?);
        }
        Ok(())
    }

    /// Gives the records that have no time yet one of these each.
    ///
    /// # Errors
    /// The stream has event times, and these are not as many as those records.
    pub fn stamp_each(&mut self, times: &[i64]) -> Result<()> {
        if self.timed {
            self.times.extend_from_slice(times);
            if self.times.len() != self.records.len() {
                return Err(without_time());
            }
        }
        Ok(())
    }

    /// Gives the records that have no time yet one of these each, or all the same.
    ///
    /// # Errors
    /// As [`Results::stamp`] and [`Results::stamp_each`].
    #[inline]
    pub fn stamp_as(&mut self, each: Option<&[i64]>, time: Option<i64>) -> Result<()> {
        match each {
            Some(times) => self.stamp_each(times),
            None => self.stamp(time),
        }
    }

    /// Adds one record with its time.
    ///
    /// # Errors
    /// The stream has event times, and the record has none.
    #[inline]
    pub fn push(&mut self, record: O, time: Option<i64>) -> Result<()> {
        if self.timed {
            self.times.push(time.ok_or_else(without_time)?);
        }
        append(&mut self.records, || Some(record));
        Ok(())
    }

    /// Adds a batch of the same kind.
    pub fn append(&mut self, batch: Batch<O>) {
        let (mut records, times) = batch.into_parts();
        self.records.append(&mut records);
        self.times.append(&mut times.unwrap_or_default());
    }

    /// Takes the room of a batch that has been sent, for the next records. The batch is empty.
    pub fn reuse(&mut self, batch: Batch<O>) {
        let (records, times) = batch.into_parts();
        (self.records, self.times) = (records, times.unwrap_or_default());
    }

    /// Keeps the first `count` records only.
    pub fn truncate(&mut self, count: usize) {
        self.records.truncate(count);
        self.times.truncate(count);
    }

    /// Everything, as a batch.
    ///
    /// # Errors
    /// Not each record has a time, although the stream has event times.
    pub fn take(&mut self) -> Result<Batch<O>> {
        self.limit.restart();
        let records = std::mem::take(&mut self.records);
        if self.timed {
            Ok(Batch::timed(records, std::mem::take(&mut self.times))?)
        } else {
            Ok(Batch::of(records))
        }
    }
}

impl<O: Data> Results<O> {
    /// Whether they make a batch.
    #[inline]
    pub fn is_full(&mut self) -> bool {
        self.limit.is_full(&self.records)
    }

    /// So many more records do not make a batch before [`Self::is_full`] is asked again.
    #[inline]
    #[must_use]
    pub const fn until_look(&self) -> usize {
        self.limit.until_look(self.records.len())
    }
}

/// The plan says that the stream has times, so this is a fault of the engine.
#[cold]
fn without_time() -> Error {
    anyhow::anyhow!("a record without event time came where the plan says that all have one")
}
