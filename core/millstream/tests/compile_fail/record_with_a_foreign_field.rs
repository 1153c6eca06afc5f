//! A field's type has a schema, or the record says that it has none.
//~ `Uuid` cannot be stored as state: it has no schema
//~ as a field with `#[state(opaque)]` before it

use millstream::serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(crate = "millstream::serde")]
struct Uuid(u128);

#[millstream::record]
struct Order {
    id: Uuid,
    cents: u64,
}

fn main() {}
