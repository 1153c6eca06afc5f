//! Only keyed streams have state.

use millstream::prelude::*;

fn job(numbers: Stream<u64>) {
    numbers.reduce("sum", |sum, number| Ok(*sum += number));
}

fn main() {}
