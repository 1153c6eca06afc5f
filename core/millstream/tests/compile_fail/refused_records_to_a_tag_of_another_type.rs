//! Records that a function refuses go to a tag of their type.

//~ error[E0308]
//~ found `&OutputTag<String>`

use millstream::prelude::*;

static BAD: OutputTag<String> = OutputTag::new("bad");

fn job(numbers: Stream<u64>) {
    numbers
        .on_error(OnError::side_output(&BAD))
        .map(|number| Ok(number + 1))
        .sink("numbers", DiscardSink::new());
}

fn main() {}
