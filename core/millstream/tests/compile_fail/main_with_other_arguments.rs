//! The arguments come in order.

//~ error[E0308]
//~ expected fn pointer, found fn item

use millstream::prelude::*;

#[millstream::main]
fn job(args: Args, env: &mut Environment) -> Result<()> {
    env.execute("nothing")?;
    Ok(())
}
