//! Functions go to the threads of their tasks.

//~ error[E0277]: `Rc<u64>` cannot be sent between threads

use std::rc::Rc;

use millstream::prelude::*;

fn job(numbers: Stream<u64>) {
    let step = Rc::new(2);
    numbers.map(move |number| Ok(number + *step)).sink("numbers", DiscardSink::new());
}

fn main() {}
