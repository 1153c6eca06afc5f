//! The examples in doc comments of crates below the facade: of all crates in `core/` whose manifest
//! says `doctest = false`.
//!
//! Such examples run jobs, so they need the facade. If it were a dev-dependency of those crates,
//! each of their unit tests would wait for the runtime and the whole cluster to be compiled.
//! A module here is named after the crate, the file and the line of its example.

include!(concat!(env!("OUT_DIR"), "/examples.rs"));
