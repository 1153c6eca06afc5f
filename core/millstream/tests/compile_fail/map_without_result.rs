//! A user's function returns a result.

use millstream::prelude::*;

fn job(numbers: Stream<u64>) {
    numbers.map(|number| number + 1).sink("numbers", DiscardSink::new());
}

fn main() {}
