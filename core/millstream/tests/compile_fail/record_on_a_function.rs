//! A record is data.

#[millstream::record]
fn visit() {}

fn main() {}
