//! Records travel without names.

#[millstream::record]
struct Visit {
    page: String,
    #[serde(flatten)]
    more: std::collections::BTreeMap<String, String>,
}

fn main() {}
