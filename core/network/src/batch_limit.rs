//! Says when a batch is full, by its number of records and by the bytes that they own.

use std::marker::PhantomData;

use crate::batch::batch_capacity;
use crate::rows::encoded_bytes;
use crate::wire::Data;

/// About the most bytes of a batch, counting what the records own, unless one record has more. A
/// frame of such a batch fits into one read of 256 KiB, so that its reader moves it only once.
pub(crate) const OWNED_BYTES: usize = 240 << 10;

/// A record of so many bytes is worth a look by itself.
const LARGE: usize = 4 << 10;
/// The records that follow one look until the next, where records are small.
const STRIDE: usize = 64;
/// So many small records in a row, and they are not looked at one by one any more.
const CALM: usize = 1024;

/// Says when a batch of records is full.
///
/// Records that own nothing beyond their own size are counted. Of others the first, and then one in
/// 64, is measured, and those between are taken to be like it; where there are large ones, each is
/// measured.
#[derive(Debug)]
pub struct BatchLimit<T> {
    /// The most records of a batch.
    capacity: usize,
    /// The most bytes of a batch.
    budget: usize,
    /// The length at which the batch is looked at.
    next: usize,
    /// The records that are counted in `bytes`.
    counted: usize,
    bytes: usize,
    stride: usize,
    /// The number of small records since a large one.
    calm: usize,
    records: PhantomData<fn(T)>,
}

impl<T> BatchLimit<T> {
    /// Whether records own memory beyond their own size.
    const OWNS: bool = std::mem::needs_drop::<T>();

    /// For batches of [`batch_capacity`] records, or of 240 KiB.
    #[must_use]
    pub const fn new() -> Self {
        Self::within(usize::MAX)
    }

    /// For batches of at most so many bytes, too.
    #[must_use]
    pub const fn within(bytes: usize) -> Self {
        let size = if size_of::<T>() == 0 { 1 } else { size_of::<T>() };
        let (fitting, most) = (bytes / size, batch_capacity::<T>());
        let capacity = if fitting > most { most } else { fitting };
        let capacity = if capacity == 0 { 1 } else { capacity };
        let budget = if bytes > OWNED_BYTES { OWNED_BYTES } else { bytes };
        let next = if Self::OWNS { 1 } else { capacity };
        let records = PhantomData;
        Self { capacity, budget, next, counted: 0, bytes: 0, stride: STRIDE, calm: 0, records }
    }

    /// The most records of a batch, whatever they own.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    /// A new batch begins.
    #[inline]
    pub const fn restart(&mut self) {
        if Self::OWNS {
            (self.next, self.counted, self.bytes) = (1, 0, 0);
        }
    }

    /// Whether a batch of so many records must be looked at; see [`Self::look`].
    #[inline(always)]
    #[must_use]
    pub const fn is_due(&self, length: usize) -> bool {
        length >= self.next
    }

    /// The records that a batch of this length takes until it must be looked at; at least one.
    #[inline]
    #[must_use]
    pub const fn until_look(&self, length: usize) -> usize {
        if length < self.next { self.next - length } else { 1 }
    }
}

impl<T> Default for BatchLimit<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Data> BatchLimit<T> {
    /// Whether the batch that has grown to these records since [`Self::restart`] is full.
    #[inline]
    pub fn is_full(&mut self, records: &[T]) -> bool {
        self.is_due(records.len()) && self.look(records)
    }

    /// As [`Self::is_full`], without a look at the length first.
    #[inline(never)]
    pub fn look(&mut self, records: &[T]) -> bool {
        let length = records.len();
        if !Self::OWNS || length >= self.capacity {
            return length >= self.capacity;
        }
        let Some(last) = records.last() else { return false };
        let bytes = encoded_bytes(last).max(size_of::<T>());
        let uncounted = length.saturating_sub(self.counted);
        self.bytes = self.bytes.saturating_add(bytes.saturating_mul(uncounted));
        self.counted = length;
        if bytes >= LARGE {
            (self.stride, self.calm) = (1, 0);
        } else if self.stride == 1 {
            self.calm += 1;
            if self.calm >= CALM {
                self.stride = STRIDE;
            }
        }
        let left = self.budget.saturating_sub(self.bytes);
        let fitting = left.div_ceil(bytes.max(1)).min(self.stride);
        self.next = length.saturating_add(fitting).min(self.capacity);
        left == 0
    }

    /// The number of first records that fill a batch; all if they do not.
    pub fn fitting(&mut self, records: &[T]) -> usize {
        self.restart();
        while let Some(first) = records.get(..self.next) {
            if self.look(first) {
                return first.len();
            }
        }
        records.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lengths of the batches that records of these lengths make.
    fn batches(limit: &mut BatchLimit<String>, lengths: impl Iterator<Item = usize>) -> Vec<usize> {
        let (mut batch, mut full) = (Vec::new(), Vec::new());
        limit.restart();
        for length in lengths {
            batch.push("x".repeat(length));
            if limit.is_full(&batch) {
                full.push(batch.len());
                batch.clear();
                limit.restart();
            }
        }
        full
    }

    #[test]
    fn records_that_own_nothing_are_counted() {
        let mut limit = BatchLimit::<u64>::new();
        let records = vec![0; 1024];
        assert!(!limit.is_full(&records[..1023]) && limit.is_full(&records));
        limit.restart();
        assert!(!limit.is_full(&records[..1023]) && limit.is_full(&records));
        let mut limit = BatchLimit::<[u64; 16]>::within(5_000);
        assert!(!limit.is_full(&[[0; 16]; 38]) && limit.is_full(&[[0; 16]; 39]));
        let mut limit = BatchLimit::<[u64; 16]>::within(1);
        assert!(limit.is_full(&[[0; 16]]), "one record always fits");
        let mut limit = BatchLimit::<()>::new();
        assert!(!limit.is_full(&[(); 1023]) && limit.is_full(&[(); 1024]));
    }

    #[test]
    fn a_batch_has_a_budget_of_bytes_or_one_record() {
        let small = batches(&mut BatchLimit::new(), std::iter::repeat_n(10, 5_000));
        assert_eq!(small, [1024; 4]);
        let large = batches(&mut BatchLimit::new(), std::iter::repeat_n(1 << 20, 20));
        assert_eq!(large, [1; 20]);
        for length in [300, 1_000, 3_000, 5_000, 10_000, 100_000, 200_000] {
            let full =
                batches(&mut BatchLimit::new(), std::iter::repeat_n(length, 2_000_000 / length));
            let fitting = (OWNED_BYTES / (length + 4)).min(1024);
            assert!(
                full.iter().all(|records| records.abs_diff(fitting) <= 1),
                "{length}: {full:?}"
            );
        }
        let within = batches(&mut BatchLimit::within(5_000), std::iter::repeat_n(1_000, 50));
        assert_eq!(within, [5; 10]);
    }

    #[test]
    fn large_records_among_small_ones_are_found_and_then_all_are_measured() {
        let mut limit = BatchLimit::new();
        let length = |at: usize| if at.is_multiple_of(10) { 100_000 } else { 10 };
        batches(&mut limit, (0..50_000).map(length));
        // After the first ones were found, no batch has more than the budget and one record.
        let full = batches(&mut limit, (0..1_000).map(length));
        assert!(full.iter().all(|records| *records <= 30), "{full:?}");
        // Where they have stopped, few are measured again.
        batches(&mut limit, std::iter::repeat_n(10, 5_000));
        assert_eq!(limit.stride, STRIDE);
    }

    #[test]
    fn the_first_records_that_fill_a_batch_are_told() {
        let text = |length: usize| "x".repeat(length);
        let mut limit = BatchLimit::new();
        assert_eq!(limit.fitting(&vec![text(10); 1_000]), 1_000);
        assert_eq!(limit.fitting(&vec![text(10); 3_000]), 1_024);
        assert_eq!(limit.fitting(&vec![text(1 << 20); 7]), 1);
        assert_eq!(limit.fitting(&[]), 0);
        let mut records = vec![text(10); 100];
        records.extend(vec![text(100_000); 100]);
        let fitting = limit.fitting(&records);
        assert!((100..=165).contains(&fitting), "{fitting}");
        assert_eq!(limit.fitting(&records[100..]), 3);
    }
}
