//! A build function only describes the job.

use millstream::prelude::*;

#[millstream::main]
async fn job(env: &mut Environment, _args: Args) -> Result<()> {
    env.execute("nothing")?;
    Ok(())
}
