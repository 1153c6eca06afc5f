//! Records for every subtask are cloned.

//~ error[E0277]
//~ `Ticket: Clone`

use millstream::prelude::*;
use millstream::serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(crate = "millstream::serde")]
struct Ticket(u64);

fn job(tickets: Stream<Ticket>) {
    tickets.broadcast().sink("tickets", DiscardSink::new());
}

fn main() {}
