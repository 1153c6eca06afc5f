//! A user's function returns a result.

//~ error[E0308]
//~ expected `Result<_, Error>`, found `u64`

use millstream::prelude::*;

fn job(numbers: Stream<u64>) {
    numbers.map(|number| number + 1).sink("numbers", DiscardSink::new());
}

fn main() {}
