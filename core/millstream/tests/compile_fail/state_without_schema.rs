//! State has a schema.
//~ `Visit` cannot be stored as state: it has no schema
//~ put `#[millstream::record]` before a type of your own
//~ is stored as `Opaque<Visit>`

use millstream::prelude::*;
use millstream::serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
#[serde(crate = "millstream::serde")]
struct Visit(u64);

fn last(pages: Stream<u64>) -> Stream<u64> {
    pages.key_by(|page| *page).map_with_state("last", |last: &mut Option<Visit>, page| {
        Ok(last.replace(Visit(page)).map_or(0, |visit| visit.0))
    })
}

fn main() {}
