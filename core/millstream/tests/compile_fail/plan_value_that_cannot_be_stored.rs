//! A plan value is stored in the JobGraph.

use millstream::prelude::*;

fn job(env: &mut Environment) -> Result<()> {
    let started = env.plan_value("started", || Ok(std::time::Instant::now()))?;
    drop(started);
    Ok(())
}

fn main() {}
