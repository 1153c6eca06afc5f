//! Keyed streams that are connected have one type of key.

//~ error[E0271]
//~ to return `u64`, but it returns `String`

use millstream::prelude::*;

struct Join;

impl KeyedCoProcess<u64, u64, String> for Join {
    type Out = u64;

    fn process_left(
        &mut self,
        _: u64,
        _: &mut Context<'_, u64>,
        _: &mut Collector<'_, u64>,
    ) -> Result<()> {
        Ok(())
    }

    fn process_right(
        &mut self,
        _: String,
        _: &mut Context<'_, u64>,
        _: &mut Collector<'_, u64>,
    ) -> Result<()> {
        Ok(())
    }
}

fn job(numbers: Stream<u64>, words: Stream<String>) {
    let numbers = numbers.key_by(|number| *number);
    let words = words.key_by(|word| word.clone());
    numbers.connect(words).process("join", |_| Ok(Join)).sink("joined", DiscardSink::new());
}

fn main() {}
