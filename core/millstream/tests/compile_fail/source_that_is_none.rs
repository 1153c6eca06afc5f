//! A stream starts at a source.

use millstream::prelude::*;

fn job(env: &mut Environment) {
    env.source("numbers", vec![1, 2, 3]).sink("numbers", DiscardSink::new());
}

fn main() {}
