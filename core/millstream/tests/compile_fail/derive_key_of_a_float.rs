//! Every part of a key is a key.

//~ error[E0277]: `f64` cannot be a key
//~ keys are integers, text, bytes, tuples of keys, or types with `#[derive(Key)]`
//~ floating point numbers are not, because `NaN != NaN`

use millstream::Key;

#[derive(Clone, PartialEq, Key)]
struct Place {
    x: f64,
    y: f64,
}

fn main() {}
