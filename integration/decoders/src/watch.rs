//! Runs a decoder over many inputs and watches for panics, hangs and large allocations.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::inputs::changed;

/// Factor that stretches the run to ten minutes. In CI the decoders share two million inputs, which
/// take seconds.
const SOAK_FACTOR: u64 = 150;
/// A decoder's share of the minutes of a long run; the decoders of one program run side by side.
const SOAK_SHARE: f64 = 0.08;

/// No input has more than some kilobytes, and nothing that is made of it may be larger than this.
const ALLOCATION_MAX: usize = 1 << 20;
/// All that one input may allocate, whether it is freed again or not.
const ALLOCATIONS_MAX: usize = 16 << 20;
/// Inputs take microseconds.
const HANG: Duration = Duration::from_secs(60);

/// Notes what each thread allocates.
struct Watching;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
    static TOTAL: Cell<usize> = const { Cell::new(0) };
}

fn note(size: usize) {
    // At the end of a thread the counters are gone.
    let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(size)));
    let _ = TOTAL.try_with(|total| total.set(total.get().saturating_add(size)));
}

// SAFETY: everything is left to the system's allocator, the sizes are only noted.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static WATCHING: Watching = Watching;

/// Gives `decode` so many thousand changed inputs.
///
/// # Panics
/// The decoder panicked, hung or allocated too much; the message names the seed.
pub fn run(name: &str, thousands: u64, good: &[Vec<u8>], mut decode: impl FnMut(&[u8])) {
    // One-time setup must not count as an input's allocation.
    good.iter().for_each(|input| decode(input));
    if let Ok(seed) = std::env::var("DECODER_SEED") {
        let input = changed(good, seed.parse().unwrap());
        eprintln!("{name}: {}", input.escape_ascii());
        return decode(&input);
    }
    let current = Arc::new(AtomicU64::new(0));
    let watched = Arc::downgrade(&current);
    let whose = name.to_owned();
    std::thread::spawn(move || watch(&whose, &watched));
    let inputs = thousands * 1_000;
    for seed in millstream_soak::rounds(name, SOAK_SHARE, inputs, inputs * SOAK_FACTOR) {
        current.store(seed, Ordering::Relaxed);
        let input = changed(good, seed);
        LARGEST.set(0);
        TOTAL.set(0);
        let outcome = catch_unwind(AssertUnwindSafe(|| decode(&input)));
        let (largest, total) = (LARGEST.get(), TOTAL.get());
        let wrong = match outcome {
            Err(_) => "it panicked".to_owned(),
            Ok(()) if largest > ALLOCATION_MAX => format!("it allocated {largest} bytes at once"),
            Ok(()) if total > ALLOCATIONS_MAX => format!("it allocated {total} bytes"),
            Ok(()) => continue,
        };
        panic!("{name}, seed {seed}: {wrong} on {}", input.escape_ascii());
    }
    let seeds = current.load(Ordering::Relaxed) + 1;
    eprintln!("{name}: {seeds} inputs");
}

/// Ends the process when one input takes too long; nothing else can.
fn watch(name: &str, current: &Weak<AtomicU64>) {
    let mut last = None;
    loop {
        std::thread::park_timeout(HANG);
        let Some(current) = current.upgrade() else { return };
        let seed = current.load(Ordering::Relaxed);
        if last == Some(seed) {
            eprintln!("{name}, seed {seed}: it hangs");
            std::process::abort();
        }
        last = Some(seed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Vec<Vec<u8>> {
        vec![vec![0, 0, 0, 4, 1, 2, 3, 4]]
    }

    #[test]
    #[should_panic(expected = "it panicked")]
    fn a_decoder_that_panics_is_caught() {
        run("an indexing decoder", 1, &good(), |bytes| {
            if !bytes.is_empty() {
                std::hint::black_box(bytes[bytes[0] as usize]);
            }
        });
    }

    #[test]
    #[should_panic(expected = "bytes at once")]
    fn a_decoder_that_believes_a_length_is_caught() {
        run("a trusting decoder", 1, &good(), |bytes| {
            if let Some(length) = bytes.first_chunk::<4>() {
                let length = u32::from_be_bytes(*length) as usize;
                std::hint::black_box(Vec::<u8>::with_capacity(length));
            }
        });
    }
}
