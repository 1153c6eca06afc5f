//! Keys are compared.

//~ error[E0277]
//~ `User: Eq`

use millstream::Key;

#[derive(Clone, Key)]
struct User(u64);

fn main() {}
