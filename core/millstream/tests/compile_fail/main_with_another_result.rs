//! A build function has nothing to return.

use millstream::prelude::*;

#[millstream::main]
fn job(env: &mut Environment, _args: Args) -> Result<u64> {
    env.execute("nothing")?;
    Ok(7)
}
