//! A type of one's own is a key once it derives `Key`.

use millstream::prelude::*;

#[millstream::record]
#[derive(PartialEq, Eq)]
struct User(u64);

fn job(users: Stream<User>) {
    users.key_by_ref(|user| user).into_stream().sink("users", DiscardSink::new());
}

fn main() {}
