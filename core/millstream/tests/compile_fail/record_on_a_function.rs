//! A record is data.

//~ error: #[millstream::record] goes before a struct or an enum

#[millstream::record]
fn visit() {}

fn main() {}
