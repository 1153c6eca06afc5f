//! Two million broken inputs for all decoders of bytes from outside: each is refused or taken, none
//! makes a decoder panic, hang, or allocate as much as a false length says.
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
