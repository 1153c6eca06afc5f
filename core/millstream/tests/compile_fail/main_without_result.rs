//! A build function may fail.

//~ error: a build function returns a Result
//~ write `fn job(env: &mut Environment, args: Args) -> Result<()>`

use millstream::prelude::*;

#[millstream::main]
fn job(_env: &mut Environment, _args: Args) {}
