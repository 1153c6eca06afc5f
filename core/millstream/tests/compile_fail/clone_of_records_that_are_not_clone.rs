//! A stream is read twice only if its records can be cloned.

//~ error[E0599]
//~ `Ticket: Clone`

use millstream::prelude::*;
use millstream::serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(crate = "millstream::serde")]
struct Ticket(u64);

fn job(tickets: Stream<Ticket>) {
    tickets.clone().sink("once", DiscardSink::new());
    tickets.sink("twice", DiscardSink::new());
}

fn main() {}
