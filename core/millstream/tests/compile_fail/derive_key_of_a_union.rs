//! Nobody knows what a union holds.

use millstream::Key;

#[derive(Clone, Copy, Key)]
union Bits {
    int: u32,
    float: f32,
}

fn main() {}
