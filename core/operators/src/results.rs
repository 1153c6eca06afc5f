//! Records that wait to become a batch, as an operator makes them.

use millstream_network::{Batch, BatchLimit, Data};

use crate::Result;

/// Adds the record that `make` makes, if it makes one, where it stays; `false` if it makes none.
///
/// `Vec::push` calls the allocator on the way, so a record that it is given is in memory by then,
/// and one that was written there word by word and is then read as a whole makes the processor wait
/// for its own stores, some 4 ns. Here the room is made first.
#[inline(always)]
pub(crate) fn append<O>(records: &mut Vec<O>, make: impl FnOnce() -> Option<O>) -> bool {
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
pub(crate) struct Results<O> {
    pub(crate) records: Vec<O>,
    pub(crate) times: Vec<i64>,
    /// Says when they make a batch.
    pub(crate) limit: BatchLimit<O>,
    timed: bool,
}

impl<O> Results<O> {
    /// No results yet, of a stream with event times or without.
    pub(crate) const fn new(timed: bool) -> Self {
        Self::limited_by(BatchLimit::new(), timed)
    }

    /// No results yet; the limit says when they make a batch.
    pub(crate) const fn limited_by(limit: BatchLimit<O>, timed: bool) -> Self {
        Self { records: Vec::new(), times: Vec::new(), limit, timed }
    }

    pub(crate) const fn len(&self) -> usize {
        self.records.len()
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Gives the records that have no time yet the time of the record that they were made of.
    #[inline]
    pub(crate) fn stamp(&mut self, time: Option<i64>) -> Result<()> {
        if self.timed {
            self.times.resize(self.records.len(), time.ok_or_else(without_time)?);
        }
        Ok(())
    }

    /// Gives the records that have no time yet one of these each.
    pub(crate) fn stamp_each(&mut self, times: &[i64]) -> Result<()> {
        if self.timed {
            self.times.extend_from_slice(times);
            if self.times.len() != self.records.len() {
                return Err(without_time());
            }
        }
        Ok(())
    }

    /// Gives the records that have no time yet one of these each, or all the same.
    #[inline]
    pub(crate) fn stamp_as(&mut self, each: Option<&[i64]>, time: Option<i64>) -> Result<()> {
        match each {
            Some(times) => self.stamp_each(times),
            None => self.stamp(time),
        }
    }

    /// Adds one record with its time.
    #[inline]
    pub(crate) fn push(&mut self, record: O, time: Option<i64>) -> Result<()> {
        if self.timed {
            self.times.push(time.ok_or_else(without_time)?);
        }
        append(&mut self.records, || Some(record));
        Ok(())
    }

    /// Adds a batch of the same kind.
    pub(crate) fn append(&mut self, batch: Batch<O>) {
        let (mut records, times) = batch.into_parts();
        self.records.append(&mut records);
        self.times.append(&mut times.unwrap_or_default());
    }

    /// Takes the room of a batch that has been sent, for the next records. The batch is empty.
    pub(crate) fn reuse(&mut self, batch: Batch<O>) {
        let (records, times) = batch.into_parts();
        (self.records, self.times) = (records, times.unwrap_or_default());
    }

    /// Keeps the first `count` records only.
    pub(crate) fn truncate(&mut self, count: usize) {
        self.records.truncate(count);
        self.times.truncate(count);
    }

    /// Everything, as a batch.
    pub(crate) fn take(&mut self) -> Result<Batch<O>> {
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
    pub(crate) fn is_full(&mut self) -> bool {
        self.limit.is_full(&self.records)
    }

    /// So many more records do not make a batch before [`Self::is_full`] is asked again.
    #[inline]
    pub(crate) const fn until_look(&self) -> usize {
        self.limit.until_look(self.records.len())
    }
}

/// The plan says that the stream has times, so this is a fault of the engine.
#[cold]
fn without_time() -> crate::Error {
    anyhow::anyhow!("a record without event time came where the plan says that all have one")
}
