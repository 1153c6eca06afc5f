//! A union has no defined content to compare.

//~ error: a union cannot be a key: nobody knows which of its fields is valid

use millstream::Key;

#[derive(Clone, Copy, Key)]
union Bits {
    int: u32,
    float: f32,
}

fn main() {}
