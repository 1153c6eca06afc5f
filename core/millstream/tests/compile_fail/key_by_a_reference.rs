//! A key that is a part of the record is asked for with `key_by_ref`.

//~ error[E0277]: `&str` cannot be a key
//~ types with `#[millstream::record]` and `#[derive(PartialEq, Eq, Key)]`
//~ a key that is a part of the record is given by reference to `key_by_ref`

use millstream::prelude::*;

fn job(words: Stream<(String, u64)>) {
    words.key_by(|(word, _)| word.as_str()).count("words").sink("words", DiscardSink::new());
}

fn main() {}
