//! Turns a vector of records into one of results, each in the place of a record.
//!
//! std collects in place too, but vectorizes the loop only where all of it is inlined into its
//! caller: as a function of its own it compares the ends of what it reads and writes, finds them
//! to overlap, and goes record by record. That is a matter of the job's codegen units, and costs
//! 0.2 ns per record and function.

use std::marker::PhantomData;
use std::mem::ManuallyDrop;

use crate::batch::{BATCH_BYTES, BATCH_RECORDS, batch_capacity};

/// Whether a batch of results can be larger than one of records that has as many.
const fn grows<O>() -> bool {
    std::mem::needs_drop::<O>() || size_of::<O>() * BATCH_RECORDS > BATCH_BYTES
}

/// The results of a function that turns each record into one or none, until `is_full` says that
/// they make a batch, and the records that are left then. It is asked only if results can be larger
/// than records.
///
/// # Errors
/// The function's first; the results before it and the records behind it are dropped.
#[inline]
pub fn filter_map_in_place<I, O, E>(
    records: Vec<I>,
    mut function: impl FnMut(I) -> Result<Option<O>, E>,
    mut is_full: impl FnMut(&[O]) -> bool,
) -> Result<(Vec<O>, Vec<I>), E> {
    if const { size_of::<I>() != size_of::<O>() || align_of::<I>() != align_of::<O>() } {
        let mut results = Vec::with_capacity(records.len().min(batch_capacity::<O>()));
        let mut records = records.into_iter();
        while let Some(record) = records.next() {
            results.extend(function(record)?);
            if const { grows::<O>() } && is_full(&results) {
                return Ok((results, records.collect()));
            }
        }
        return Ok((results, Vec::new()));
    }
    let mut room = Room::of(records);
    while room.read < room.length {
        // SAFETY: `read` is below the length, and each record is moved out once.
        let record = unsafe { room.start.add(room.read).read() };
        room.read += 1;
        if let Some(result) = function(record)? {
            // SAFETY: at most one result is written per record that was moved out, so the place is
            // one of those; it is as large and as aligned as a result needs.
            unsafe { room.start.cast::<O>().add(room.written).write(result) };
            room.written += 1;
        }
        if const { grows::<O>() } && is_full(room.results()) {
            break;
        }
    }
    let left = room.take_left();
    Ok((room.into_results(), left))
}

/// The buffer of a vector: results, places without content, then the records that are left.
struct Room<I, O> {
    start: *mut I,
    capacity: usize,
    length: usize,
    read: usize,
    written: usize,
    results: PhantomData<O>,
}

impl<I, O> Room<I, O> {
    #[inline]
    fn of(records: Vec<I>) -> Self {
        let mut records = ManuallyDrop::new(records);
        let (start, length, capacity) = (records.as_mut_ptr(), records.len(), records.capacity());
        Self { start, capacity, length, read: 0, written: 0, results: PhantomData }
    }

    /// The results so far.
    const fn results(&self) -> &[O] {
        // SAFETY: the first `written` places hold results, and are as aligned as those need.
        unsafe { std::slice::from_raw_parts(self.start.cast(), self.written) }
    }

    /// The records that were not read.
    #[inline]
    fn take_left(&mut self) -> Vec<I> {
        let count = self.length - self.read;
        if count == 0 {
            return Vec::new();
        }
        let mut left = Vec::<I>::with_capacity(count);
        // SAFETY: the records from `read` to `length` were not moved out, and there is room for
        // them; afterwards none is left here.
        unsafe {
            left.as_mut_ptr().copy_from_nonoverlapping(self.start.add(self.read), count);
            left.set_len(count);
        }
        self.length = self.read;
        left
    }

    #[inline]
    fn into_results(self) -> Vec<O> {
        let room = ManuallyDrop::new(self);
        // SAFETY: a vector of records allocated it, whose size and alignment results have; the
        // first `written` places hold results, and no record is left behind them.
        unsafe { Vec::from_raw_parts(room.start.cast(), room.written, room.capacity) }
    }
}

impl<I, O> Drop for Room<I, O> {
    fn drop(&mut self) {
        let left = std::ptr::slice_from_raw_parts_mut(
            self.start.wrapping_add(self.read),
            self.length - self.read,
        );
        // SAFETY: as in `into_results`; the records from `read` on were not moved out. The vector
        // is made first, so that it is freed should the drop of a record panic.
        unsafe {
            let _results = Vec::<O>::from_raw_parts(self.start.cast(), self.written, self.capacity);
            left.drop_in_place();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::rc::Rc;

    use super::*;
    /// All results of a function.
    fn all<I, O>(
        records: Vec<I>,
        function: impl FnMut(I) -> Result<Option<O>, String>,
    ) -> Result<Vec<O>, String> {
        let (results, left) = filter_map_in_place(records, function, |_| false)?;
        assert!(left.is_empty());
        Ok(results)
    }

    /// As large as a record of the tests below, and aligned as one.
    struct Other(Rc<()>, u64);

    #[test]
    fn results_take_the_places_of_records_and_keep_their_order() {
        let records: Vec<u64> = (0..1_000).collect();
        let place = records.as_ptr().addr();
        let odd = all(records, |n| Ok((n % 2 == 1).then_some(n as i64 * 3))).unwrap();
        assert_eq!(odd.as_ptr().addr(), place);
        assert_eq!(odd, (0..1_000).filter(|n| n % 2 == 1).map(|n| n * 3).collect::<Vec<_>>());
        let floats = all(odd, |n| Ok(Some(n as f64))).unwrap();
        assert_eq!((floats.as_ptr().addr(), floats.len()), (place, 500));
    }

    #[test]
    fn results_of_another_size_or_alignment_get_a_vector_of_their_own() {
        let words = all(vec![1u8, 2, 3], |n| Ok((n != 2).then(|| n.to_string()))).unwrap();
        assert_eq!(words, ["1", "3"]);
        let bytes = all(words, |word| Ok(word.bytes().next())).unwrap();
        assert_eq!(bytes, b"13");
        let wide = all(vec![[1u8; 8], [2; 8]], |n| Ok(Some(u64::from_ne_bytes(n)))).unwrap();
        assert_eq!(wide, [u64::from_ne_bytes([1; 8]), u64::from_ne_bytes([2; 8])]);
    }

    #[test]
    fn vectors_without_records_and_records_without_size_are_fine() {
        for records in [Vec::<u64>::new(), Vec::with_capacity(9)] {
            assert!(all(records, |n| Ok(Some(n))).unwrap().is_empty());
        }
        let mut count = 0;
        let kept = all(vec![(); 5], |()| {
            count += 1;
            Ok((count != 3).then_some(()))
        });
        assert_eq!((kept.unwrap().len(), count), (4, 5));
    }

    /// At every record a function that keeps two of three ends it all, by an error or a panic.
    #[test]
    fn each_record_and_result_is_dropped_once_wherever_the_function_stops() {
        for length in 0..12 {
            for stop in 0..=length {
                for panics in [false, true] {
                    let alive = Rc::new(());
                    let records: Vec<(u64, Rc<()>)> =
                        (0..length).map(|n| (n, Rc::clone(&alive))).collect();
                    let results = catch_unwind(AssertUnwindSafe(|| {
                        all(records, |(n, alive)| {
                            assert!(n != stop || !panics, "stopped");
                            if n == stop {
                                return Err("stopped".to_owned());
                            }
                            Ok((n % 3 != 1).then_some(Other(alive, n)))
                        })
                    }));
                    if stop < length {
                        assert!(!matches!(results, Ok(Ok(_))));
                        drop(results);
                    } else {
                        let results = results.unwrap().unwrap();
                        let kept = (0..length).filter(|n| n % 3 != 1);
                        assert!(results.iter().map(|other| other.1).eq(kept));
                        assert_eq!(Rc::strong_count(&alive), 1 + results.len());
                        assert!(results.iter().all(|other| Rc::ptr_eq(&other.0, &alive)));
                    }
                    assert_eq!(Rc::strong_count(&alive), 1);
                }
            }
        }
    }

    /// A batch of any size ends it; the records behind it are all there, and go on.
    #[test]
    fn what_is_left_when_results_make_a_batch_goes_on() {
        for (length, size) in (0..60).map(|n| (n / 6, n as usize % 6 + 1)) {
            let alive = Rc::new(());
            let mut records: Vec<(u64, Rc<()>)> =
                (0..length).map(|n| (n, Rc::clone(&alive))).collect();
            let mut seen = Vec::new();
            while !records.is_empty() {
                let function = |(n, alive): (u64, Rc<()>)| {
                    Ok::<_, String>((n % 3 != 1).then_some(Other(alive, n)))
                };
                let results;
                (results, records) =
                    filter_map_in_place(records, function, |results| results.len() >= size)
                        .unwrap();
                assert!(results.len() == size || records.is_empty());
                assert_eq!(Rc::strong_count(&alive), 1 + results.len() + records.len());
                seen.extend(results.iter().map(|other| other.1));
            }
            assert!(seen.into_iter().eq((0..length).filter(|n| n % 3 != 1)));
            assert_eq!(Rc::strong_count(&alive), 1);
        }
        // Results of another size.
        let (texts, left) = filter_map_in_place(
            vec![1u8, 2, 3],
            |n| Ok::<_, String>(Some(n.to_string())),
            |texts: &[String]| texts.len() == 2,
        )
        .unwrap();
        assert_eq!((texts.join(" "), left), ("1 2".to_owned(), vec![3]));
    }
}
