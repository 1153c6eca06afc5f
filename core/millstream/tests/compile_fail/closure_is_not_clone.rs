//! Each subtask gets a clone of the function.

//~ error[E0277]: the function cannot be cloned, and each subtask needs a clone of it
//~ it holds a value that is not `Clone`
//~ let `map_with`, `filter_with` or `flat_map_with` make the function in its subtask
//~ as in `map_with(|ctx| { let file = open()?; Ok(move |record| ..) })`

use std::sync::atomic::{AtomicU64, Ordering};

use millstream::prelude::*;

fn job(numbers: Stream<u64>) {
    let seen = AtomicU64::new(0);
    numbers
        .map(move |number| Ok((seen.fetch_add(1, Ordering::Relaxed), number)))
        .sink("numbers", DiscardSink::new());
}

fn main() {}
