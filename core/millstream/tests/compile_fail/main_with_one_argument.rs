//! A build function is given the environment and the arguments.

//~ error: a build function has two arguments, the environment and args, not 1
//~ write `fn job(env: &mut Environment, args: Args) -> Result<()>`

use millstream::prelude::*;

#[millstream::main]
fn job(env: &mut Environment) -> Result<()> {
    env.execute("nothing")?;
    Ok(())
}
