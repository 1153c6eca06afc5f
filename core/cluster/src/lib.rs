//! Brings the components together; the only crate that knows them all.
//!
//! [`MiniCluster`] runs a job in this process: the same JobMaster and ResourceManager as in a
//! cluster, with hosts that are threads instead of processes.

mod in_process;
mod mini_cluster;

pub use mini_cluster::{JobFailed, MiniCluster};
