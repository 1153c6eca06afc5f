//! A part of a record that is a float is no key either.

//~ error[E0277]: `f32` cannot be a key
//~ types with `#[millstream::record]` and `#[derive(PartialEq, Eq, Key)]`
//~ floating point numbers are not, because `NaN != NaN`

use millstream::prelude::*;

fn job(prices: Stream<(f32, u64)>) {
    prices.key_by_ref(|(price, _)| price).reduce("sum", |sum, next| Ok(sum.1 += next.1));
}

fn main() {}
