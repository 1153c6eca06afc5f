//! The entry is a function.

#[millstream::main]
struct Job;

fn main() {}
