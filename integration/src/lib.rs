//! System tests of Millstream: a cluster of real processes, driven as a user would drive it.
//!
//! [`Cluster`] starts the built binaries on free loopback ports in a directory of its own, runs
//! jobs through the command line, looks at them through REST, and kills with `kill -9`. [`Census`]
//! counts processes, descriptors, files and ports, so that a test can assert that nothing was left.
//! All processes of a test die with it; after a failure its directory with all logs stays and is
//! named.
//!
//! [`exactly_once`] runs a job under kills and judges what it publishes.
//!
//! [`Hadoop`] is the same for HDFS and YARN: real daemons of Hadoop 3.5.0.
//!
//! Tests wait for conditions ([`until`]), never for seconds. With `MILLSTREAM_SOAK=1` the same
//! tests run with larger numbers ([`scale`], [`rounds`]).

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a harness of tests fails by panicking and says where the logs are"
)]

mod binaries;
mod census;
mod cluster;
mod command_line;
mod daemon;
mod hadoop;
mod job;
mod on_yarn;
mod rest;
mod secrets;
mod text;
mod wait;

pub mod exactly_once;

pub use binaries::{binary, example, workspace};
pub use census::{Census, parent_of, process_memory, processes_marked};
pub use cluster::{Cluster, ClusterBuilder, free_port};
pub use command_line::{Outcome, Started};
pub use daemon::Daemon;
pub use hadoop::{Hadoop, HadoopBuilder, USER};
pub use job::Job;
pub use millstream_soak::{is_long, rounds, scale};
pub use on_yarn::{OnHdfs, OnYarn, application_id};
pub use rest::{Answer, Rest};
pub use secrets::Secrets;
pub use text::{make_text, reference_counts, sorted_lines};
pub use wait::until;
