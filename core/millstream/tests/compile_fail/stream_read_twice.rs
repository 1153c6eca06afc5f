//! Reading a stream twice takes a clone.

use millstream::prelude::*;

fn job(numbers: Stream<u64>) {
    numbers.sink("once", DiscardSink::new());
    numbers.sink("twice", DiscardSink::new());
}

fn main() {}
