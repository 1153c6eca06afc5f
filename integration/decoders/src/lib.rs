//! Two million broken inputs for everything that reads bytes from outside: each is refused or
//! taken, none makes it panic, hang, or allocate what a length says.
//!
//! Inputs are good ones, changed as their seed says; a failure names decoder and seed, and
//! `DECODER_SEED=… cargo test … that_decoder` plays that one alone. With `MILLSTREAM_SOAK=1` it
//! takes ten minutes.
//!
//! A package of its own, because it brings an allocator that counts.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says where"
)]

mod inputs;
mod watch;

pub use watch::run;
