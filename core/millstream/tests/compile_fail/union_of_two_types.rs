//! A union is of one type.

//~ error[E0308]
//~ found `Stream<String>`

use millstream::prelude::*;

fn job(numbers: Stream<u64>, words: Stream<String>) {
    numbers.union(words).sink("both", DiscardSink::new());
}

fn main() {}
