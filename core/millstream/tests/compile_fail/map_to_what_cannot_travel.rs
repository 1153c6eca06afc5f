//! Records travel between tasks, so they are serde's.

use millstream::prelude::*;

struct Ticket(u64);

fn job(numbers: Stream<u64>) {
    numbers.map(|number| Ok(Ticket(number))).sink("tickets", DiscardSink::new());
}

fn main() {}
