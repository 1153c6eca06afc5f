//! A float is no key.

use millstream::prelude::*;

fn job(prices: Stream<f64>) {
    prices.key_by(|price| *price).reduce("sum", |sum, price| Ok(*sum += price));
}

fn main() {}
