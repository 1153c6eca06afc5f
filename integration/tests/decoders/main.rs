//! A million broken inputs for everything that reads bytes from outside: each is refused or taken,
//! none makes it panic, hang, or allocate what a length says.
//!
//! Inputs are good ones, changed as their seed says; a failure names decoder and seed, and
//! `DECODER_SEED=… cargo test … that_decoder` plays that one alone. With `MILLSTREAM_SOAK=1` it
//! takes ten minutes.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test ends where a step fails, and says where"
)]

mod engine;
mod hadoop;
mod inputs;
mod watch;

/// The decoders share a million inputs in CI; so many times as many are ten minutes.
const SOAK_FACTOR: u64 = 40;
