//! Keyed streams that are joined have one type of key.

//~ error[E0271]
//~ to return `u64`, but it returns `String`

use millstream::prelude::*;

fn job(numbers: Stream<u64>, words: Stream<String>) {
    let numbers = numbers.key_by(|number| *number);
    let words = words.key_by(|word| word.clone());
    numbers.interval_join(words, 0..=1_000).apply("pairs", |_, _| Ok(1)).sink(
        "joined",
        DiscardSink::new(),
    );
}

fn main() {}
