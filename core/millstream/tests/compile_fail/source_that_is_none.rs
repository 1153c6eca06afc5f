//! A stream starts at a source.

//~ error[E0277]: `Vec<{integer}>` is not a source

use millstream::prelude::*;

fn job(env: &mut Environment) {
    env.source("numbers", vec![1, 2, 3]).sink("numbers", DiscardSink::new());
}

fn main() {}
