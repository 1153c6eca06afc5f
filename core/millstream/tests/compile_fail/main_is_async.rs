//! A build function only describes the job.

//~ error: a build function is not async: it only describes the job
//~ write `fn job(env: &mut Environment, args: Args) -> Result<()>`

use millstream::prelude::*;

#[millstream::main]
async fn job(env: &mut Environment, _args: Args) -> Result<()> {
    env.execute("nothing")?;
    Ok(())
}
