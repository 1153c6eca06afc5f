//! A sink is of the stream's type.

use millstream::prelude::*;

fn job(numbers: Stream<u64>, words: CollectSink<String>) {
    numbers.sink("words", words);
}

fn main() {}
