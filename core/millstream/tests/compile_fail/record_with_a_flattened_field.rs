//! Records travel without names.

//~ error: a record cannot have #[serde(flatten)]
//~ because between tasks records travel without names, which it needs: leave it out
//~ or make another type with it for where you read or write JSON

#[millstream::record]
struct Visit {
    page: String,
    #[serde(flatten)]
    more: std::collections::BTreeMap<String, String>,
}

fn main() {}
