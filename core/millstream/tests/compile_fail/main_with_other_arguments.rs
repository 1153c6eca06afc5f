//! The arguments come in order.

use millstream::prelude::*;

#[millstream::main]
fn job(args: Args, env: &mut Environment) -> Result<()> {
    env.execute("nothing")?;
    Ok(())
}
