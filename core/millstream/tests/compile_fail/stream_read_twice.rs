//! Reading a stream twice takes a clone.

//~ error[E0382]: use of moved value: `numbers`

use millstream::prelude::*;

fn job(numbers: Stream<u64>) {
    numbers.sink("once", DiscardSink::new());
    numbers.sink("twice", DiscardSink::new());
}

fn main() {}
