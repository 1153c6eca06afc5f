//! Every part of a key is a key.

//~ error[E0277]: `f64` cannot be a key
//~ types with `#[millstream::record]` and `#[derive(PartialEq, Eq, Key)]`
//~ floating point numbers are not, because `NaN != NaN`

use millstream::Key;

#[millstream::record]
#[derive(PartialEq, Key)]
struct Place {
    x: f64,
    y: f64,
}

fn main() {}
