//! Hints to the processor.

/// Asks the processor to fetch the memory at this place, which is read soon. A hint and no more:
/// any address will do.
#[inline]
pub fn prefetch<T>(place: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch has no effect that a program can see, and no address is a fault.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(place.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

/// As [`prefetch`], of the first elements: those of two lines of the cache. `false` if there is
/// none.
#[inline]
pub(crate) fn prefetch_first<T>(list: &[T]) -> bool {
    let Some(last) = size_of_val(list).checked_sub(1) else { return false };
    let place: *const u8 = list.as_ptr().cast();
    prefetch(place);
    prefetch(place.wrapping_add(last.min(LINE_BYTES)));
    true
}

/// A line of the cache.
const LINE_BYTES: usize = 64;
