//! Every part of a key is a key.

use millstream::Key;

#[derive(Clone, PartialEq, Key)]
struct Place {
    x: f64,
    y: f64,
}

fn main() {}
