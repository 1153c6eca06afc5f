//! Keys are compared.

//~ error[E0277]
//~ `User: Eq`

use millstream::Key;

#[millstream::record]
#[derive(Key)]
struct User(u64);

fn main() {}
