//! A reduce emits its value and keeps it.

//~ error[E0277]
//~ `Ticket: Clone`

use millstream::prelude::*;
use millstream::serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(crate = "millstream::serde")]
struct Ticket(u64);

fn job(tickets: Stream<Ticket>) {
    tickets.key_by(|ticket| ticket.0).reduce("last", |last, ticket| Ok(*last = ticket));
}

fn main() {}
