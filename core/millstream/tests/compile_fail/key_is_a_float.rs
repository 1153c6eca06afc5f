//! A float is no key.

//~ error[E0277]: `f64` cannot be a key
//~ types with `#[millstream::record]` and `#[derive(PartialEq, Eq, Key)]`
//~ floating point numbers are not, because `NaN != NaN`

use millstream::prelude::*;

fn job(prices: Stream<f64>) {
    prices.key_by(|price| *price).reduce("sum", |sum, price| Ok(*sum += price));
}

fn main() {}
