//! A tag knows the type of its records.

//~ error[E0308]
//~ found `&OutputTag<String>`

use millstream::prelude::*;

static BAD: OutputTag<String> = OutputTag::new("bad");

fn job(numbers: Stream<u64>) -> Stream<u64> {
    numbers.side_output(&BAD)
}

fn main() {}
