//! The unit in which records move.

/// The most records of a batch.
pub const BATCH_RECORDS: usize = 1024;

/// About the most bytes of a batch, counting what the records hold inline.
pub const BATCH_BYTES: usize = 64 << 10;

/// How many records of this type make a full batch: at most [`BATCH_RECORDS`], fewer when they are
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

/// Records in order, with their event times beside them if they have any.
///
/// ```
/// # use millstream_network::Batch;
/// let mut batch = Batch::of(vec![1, 2, 3]);
/// batch.records.push(4);
/// assert_eq!(batch.records.iter().sum::<i32>(), 10);
/// assert!(batch.timestamps.is_empty());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch<T> {
    /// The records.
    pub records: Vec<T>,
    /// Milliseconds since 1970; empty, or as many as there are records.
    pub timestamps: Vec<i64>,
}

impl<T> Batch<T> {
    /// A batch without records.
    #[must_use]
    pub const fn new() -> Self {
        Self { records: Vec::new(), timestamps: Vec::new() }
    }

    /// A batch of these records, without event times.
    #[must_use]
    pub const fn of(records: Vec<T>) -> Self {
        Self { records, timestamps: Vec::new() }
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

    /// Drops the first `count` records.
    pub(crate) fn remove_first(&mut self, count: usize) {
        self.records.drain(..count.min(self.records.len()));
        self.timestamps.drain(..count.min(self.timestamps.len()));
    }

    /// Whether the records have event times.
    #[must_use]
    pub const fn is_timed(&self) -> bool {
        !self.timestamps.is_empty()
    }
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        Self::new()
    }
}
