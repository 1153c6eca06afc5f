//! A key is stored beside its state.
//~ `Place` cannot be stored as state: it has no schema
//~ put `#[millstream::record]` before a type of your own

use millstream::Key;

#[derive(Clone, PartialEq, Eq, Key)]
struct Place(u64);

fn main() {}
