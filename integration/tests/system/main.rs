//! System tests: promises to users of a standalone cluster, on real processes.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "what helpers of tests unwrap fails the test, and what was said is worth reading"
)]

mod backpressure;
mod bad_artifacts;
mod bad_bytes;
mod bad_surroundings;
mod exactly_once;
mod examples;
mod kills;
mod large_jobs;
mod many_jobs;
mod misbehaviour;
mod neighbour;
mod regions;
mod savepoints;
mod scripts;
mod standalone_job;
mod start_and_stop;
mod word_count;
