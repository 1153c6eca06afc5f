//! The Dispatcher: submission, artifacts, REST, and one JobMaster per job.
//!
//! [`start_dispatcher`] starts the actor that knows all jobs, running and lately ended;
//! [`ArtifactStore`] keeps executables by their hash; [`RestServer`] speaks Flink's REST API and
//! our own submission; [`Disposals`] delete savepoints. User code never runs here: a [`Planner`]
//! plans programs.

mod artifacts;
mod dispatcher;
mod disposal;
mod ended_jobs;
mod jars;
mod java;
mod lease;
mod planner;
mod program_args;
mod random;
mod rest;

pub use artifacts::{ArtifactStore, StoreError, Upload};
pub use dispatcher::{DispatcherConfig, DispatcherHandle, start_dispatcher};
pub use disposal::{Disposals, SavepointDisposer, StoredSavepoints};
pub use jars::{Jar, JarId, JarStore};
pub use lease::ClientLease;
pub use planner::{PlanExtent, PlanFailed, Planner};
pub use rest::{BindError, LogFiles, ProxyServer, RestConfig, RestServer, RestServices};
