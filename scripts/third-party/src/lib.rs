//! Names third-party crates with the features that the whole workspace asks of them, so that they
//! are compiled once whatever is selected.
//!
//! Cargo unites the features of the selected packages only: `cargo test -p millstream-types` would
//! build a `rustix` of its own, and another selection one more. Every package depends on this one,
//! those below the facade only for their tests, because a user's build needs none of it.
//! `cargo xtask features` fails, and names the crate, when a selection still differs.
