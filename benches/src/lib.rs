//! Benchmarks beside Apache Flink, for `paired.sh`.
//!
//! One [`engine::Engine`] describes an installation, Flink's or ours: both have the same scripts,
//! configuration keys, command line and REST interface, so everything else is written once.
//! [`rows`] lists the measurements, [`measure`] runs them A/B/A/B, [`probe`] finds the physical
//! limit in the same rounds, [`report`] turns the rounds into one JSON line. [`yarn`] does the same
//! with both engines on one Hadoop. Nothing here is a library for others, and all connections stay
//! on this machine's loopback.

pub mod cluster;
pub mod ends;
pub mod engine;
pub mod http;
pub mod json;
pub mod measure;
pub mod paced;
pub mod probe;
pub mod process;
pub mod records;
pub mod recovery;
pub mod report;
pub mod rows;
pub mod shapes;
pub mod start;
pub mod text;
pub mod tls;
pub mod wide_start;
pub mod words;
pub mod yarn;
