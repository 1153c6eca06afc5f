//! A build function is given the environment and the arguments.

use millstream::prelude::*;

#[millstream::main]
fn job(env: &mut Environment) -> Result<()> {
    env.execute("nothing")?;
    Ok(())
}
