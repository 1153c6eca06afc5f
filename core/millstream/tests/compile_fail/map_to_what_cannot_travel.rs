//! Records travel between tasks, so they are serde's.

//~ error[E0277]: `Ticket` cannot travel between tasks
//~ not a record
//~ put `#[millstream::record]` before its definition, or derive serde's `Serialize` and
//~ records own what they hold (`'static`) and are `Send`

use millstream::prelude::*;

struct Ticket(u64);

fn job(numbers: Stream<u64>) {
    numbers.map(|number| Ok(Ticket(number))).sink("tickets", DiscardSink::new());
}

fn main() {}
