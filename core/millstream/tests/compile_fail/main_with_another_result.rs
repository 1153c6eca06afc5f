//! A build function has nothing to return.

//~ error[E0308]
//~ expected fn pointer, found fn item

use millstream::prelude::*;

#[millstream::main]
fn job(env: &mut Environment, _args: Args) -> Result<u64> {
    env.execute("nothing")?;
    Ok(7)
}
