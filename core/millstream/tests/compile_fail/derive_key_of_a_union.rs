//! A union has no defined content to compare.

use millstream::Key;

#[derive(Clone, Copy, Key)]
union Bits {
    int: u32,
    float: f32,
}

fn main() {}
