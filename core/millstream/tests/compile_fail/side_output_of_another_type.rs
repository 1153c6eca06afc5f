//! A tag knows the type of its records.

use millstream::prelude::*;

static BAD: OutputTag<String> = OutputTag::new("bad");

fn job(numbers: Stream<u64>) -> Stream<u64> {
    numbers.side_output(&BAD)
}

fn main() {}
