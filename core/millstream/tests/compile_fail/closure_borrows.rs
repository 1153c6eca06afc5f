//! Functions outlive the build function.

//~ error[E0373]
//~ it borrows `step`

use millstream::prelude::*;

fn job(numbers: Stream<u64>) {
    let step = 2;
    numbers.map(|number| Ok(number + step)).sink("numbers", DiscardSink::new());
}

fn main() {}
