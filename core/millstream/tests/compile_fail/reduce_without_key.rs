//! Only keyed streams have state.

//~ error[E0599]
//~ `millstream::Stream<u64>`

use millstream::prelude::*;

fn job(numbers: Stream<u64>) {
    numbers.reduce("sum", |sum, number| Ok(*sum += number));
}

fn main() {}
