//! Records for a tag are of its type.

//~ error[E0308]
//~ expected `String`, found `u64`

use millstream::prelude::*;

static BAD: OutputTag<String> = OutputTag::new("bad");

struct Split;

impl KeyedProcess<u64, u64> for Split {
    type Out = u64;

    fn process(
        &mut self,
        number: u64,
        ctx: &mut Context<'_, u64>,
        out: &mut Collector<'_, u64>,
    ) -> Result<()> {
        out.emit_to(&BAD, number)
    }
}

fn main() {}
