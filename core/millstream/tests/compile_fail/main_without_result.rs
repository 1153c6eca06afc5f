//! A build function may fail.

use millstream::prelude::*;

#[millstream::main]
fn job(_env: &mut Environment, _args: Args) {}
