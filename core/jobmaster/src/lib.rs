//! The master of one job: gets slots, starts hosts, deploys tasks, brings the job to its end.
//!
//! [`JobMaster`] decides: events and the time in, [`Action`]s out, no I/O. A thin actor per job
//! carries the actions out; [`Factory`] starts it. The job's picture is the [`ExecutionGraph`].
//!
//! # Invariants
//! - A restart of all tasks has hosts of its own, one of some regions uses the hosts that live.
//!   News of an earlier host, or of an attempt that is over, is stale.
//! - A status that nothing follows (`FINISHED`, `FAILED`, `CANCELED`) is reached once, and only
//!   after every host that was started has ended and everything unpublished was discarded.
//! - Every slot that was granted is given back, or its TaskManager was lost.
//!
//! It does not store the job, choose TaskManagers, or start processes itself.

mod actor;
mod causes;
mod checkpoints;
mod config;
mod execution_graph;
mod history;
mod hosts;
mod ids;
mod master;
mod regions;
mod requests;
mod restarts;
mod settlement;
mod slots;
mod storage;
mod tasks;
mod timer;

pub use actor::Factory;
pub use checkpoints::{Loaded, StorageAnswer, StorageRequest};
pub use config::{
    CheckpointingConfig, JobMasterConfig, Recovery, RestartConfig, RestartStrategy, Retention,
    SchedulingStrategy,
};
pub use execution_graph::{Execution, ExecutionGraph, ExecutionVertex, Place, Subtask};
pub use ids::{IdSource, OsIds};
pub use master::{Action, Event, JobMaster};
pub use millstream_checkpoint::messages::Now;
pub use timer::{Owner, Timer, TimerKind};
