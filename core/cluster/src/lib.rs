//! Brings the components together; the only crate that knows them all.
//!
//! [`MiniCluster`] runs a job in this process: the same JobMaster and ResourceManager as in a
//! cluster, with hosts that are threads instead of processes. With the feature `daemons`,
//! [`run_job_manager`] and [`run_task_manager`] are the bodies of a cluster's processes.

#[cfg(feature = "daemons")]
mod daemon;
mod in_process;
#[cfg(feature = "daemons")]
mod job_manager;
#[cfg(feature = "daemons")]
mod lifecycle;
mod mini_cluster;
#[cfg(feature = "daemons")]
mod planner;
#[cfg(feature = "daemons")]
mod task_manager;

#[cfg(feature = "daemons")]
pub use daemon::{DaemonError, DaemonFiles, Ended};
#[cfg(feature = "daemons")]
pub use job_manager::{Driver, Endpoints, JobManagerSetup, check_job_manager, run_job_manager};
#[cfg(feature = "daemons")]
pub use lifecycle::{Application, Lifecycle, PlannedJob};
pub use mini_cluster::{JobFailed, MiniCluster};
#[cfg(feature = "daemons")]
pub use task_manager::{TaskManagerSetup, check_task_manager, run_task_manager};
