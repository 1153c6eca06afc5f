//! A keyed function is of the stream's types.

//~ `Pass` does not process records of type `String` with keys of type `usize`
//~ implement `KeyedProcess<usize, String>` for it

use millstream::prelude::*;

struct Pass;

impl KeyedProcess<u64, u64> for Pass {
    type Out = u64;

    fn process(
        &mut self,
        number: u64,
        _: &mut Context<'_, u64>,
        out: &mut Collector<'_, u64>,
    ) -> Result<()> {
        out.emit(number);
        Ok(())
    }
}

fn job(words: Stream<String>) {
    words.key_by(|word| word.len()).process("pass", |_| Ok(Pass)).sink("all", DiscardSink::new());
}

fn main() {}
