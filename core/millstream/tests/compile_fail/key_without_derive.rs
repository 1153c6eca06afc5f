//! A type of one's own is a key once it derives `Key`.

//~ error[E0277]: `User` cannot be a key
//~ types with `#[millstream::record]` and `#[derive(PartialEq, Eq, Key)]`

use millstream::prelude::*;

#[millstream::record]
#[derive(PartialEq, Eq)]
struct User(u64);

fn job(users: Stream<User>) {
    let _by_user = users.key_by_ref(|user| user);
}

fn main() {}
