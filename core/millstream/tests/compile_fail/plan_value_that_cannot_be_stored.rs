//! A plan value is stored in the JobGraph.

//~ error[E0277]
//~ `Instant: serde::Serialize`

use millstream::prelude::*;

fn job(env: &mut Environment) -> Result<()> {
    let started = env.plan_value("started", || Ok(std::time::Instant::now()))?;
    drop(started);
    Ok(())
}

fn main() {}
