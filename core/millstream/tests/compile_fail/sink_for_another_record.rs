//! A sink is of the stream's type.

//~ CollectSink<String>` does not take records of type `u64`
//~ map the stream's records to what the sink takes

use millstream::prelude::*;

fn job(numbers: Stream<u64>, words: CollectSink<String>) {
    numbers.sink("words", words);
}

fn main() {}
