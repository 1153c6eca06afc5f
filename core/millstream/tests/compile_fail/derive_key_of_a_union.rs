//! A union has no defined content to compare.

//~ error: a union cannot be a key: its valid field is not known

use millstream::Key;

#[derive(Clone, Copy, Key)]
union Bits {
    int: u32,
    float: f32,
}

fn main() {}
