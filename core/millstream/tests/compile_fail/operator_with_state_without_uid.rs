//! An operator with state names it.

//~ error[E0061]
//~ argument #1 of type `&str` is missing

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

fn job(numbers: Stream<u64>) {
    numbers.key_by(|number| *number).process(|_| Ok(Pass)).sink("numbers", DiscardSink::new());
}

fn main() {}
