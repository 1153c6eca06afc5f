//! Each subtask gets a clone of the function.

use std::sync::atomic::{AtomicU64, Ordering};

use millstream::prelude::*;

fn job(numbers: Stream<u64>) {
    let seen = AtomicU64::new(0);
    numbers
        .map(move |number| Ok((seen.fetch_add(1, Ordering::Relaxed), number)))
        .sink("numbers", DiscardSink::new());
}

fn main() {}
