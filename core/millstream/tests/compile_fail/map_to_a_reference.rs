//! Records own their data.

//~ error[E0515]
//~ referencing function parameter `word`

use millstream::prelude::*;

fn job(words: Stream<String>) {
    words.map(|word| Ok(word.as_str())).sink("words", DiscardSink::new());
}

fn main() {}
