//! Keys are compared.

use millstream::Key;

#[derive(Clone, Key)]
struct User(u64);

fn main() {}
