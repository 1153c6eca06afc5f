//! The bodies and parameters of REST: one definition for the Dispatcher, which writes them, and for
//! its clients, which read them.
//!
//! Names and values are those of Flink's REST API; fields of Flink 1.20 and 2.x stand side by side.
//! Times are milliseconds since 1970, lengths of time milliseconds, and -1 is Flink's word for one
//! that does not exist. [`cluster`] describes the cluster as a whole, [`jobs`] jobs, [`vertices`]
//! vertices and subtasks, [`checkpoints`] checkpoints, [`operations`] checkpoints and savepoints on
//! request, [`task_managers`] TaskManagers, [`metrics`] metrics, [`jars`] uploaded programs, and
//! [`submission`] our own way to start a job.
//!
//! A reader takes an answer of its own release. A field that a later release adds has
//! `#[serde(default)]`, so that its clients still read the answers of the release before.

pub mod checkpoints;
pub mod cluster;
pub mod jars;
pub mod jobs;
pub mod metrics;
pub mod operations;
pub mod submission;
pub mod task_managers;
#[cfg(feature = "test-util")]
pub mod testing;
pub mod vertices;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use millstream_types::TriggerId;

/// A list that Flink fills and that is always empty here.
pub type EmptyList = [(); 0];

/// An object that Flink fills and that is always empty here.
pub type EmptyObject = BTreeMap<String, ()>;

/// `{}`: the answer that says only that the call worked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct EmptyBody {}

/// The body of every refusal.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ErrorBody {
    /// One sentence each; we send exactly one.
    pub errors: Vec<String>,
}
