//! The trait that turns a program into a JobGraph. Its implementation runs the program.

use std::path::PathBuf;

use futures::future::BoxFuture;
use millstream_graph::{JobGraph, JobSettings};

/// The reason why a program has no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PlanFailed {
    /// The reason in one sentence.
    pub message: String,
    /// The place of a panic, or the last lines of standard error. May be empty.
    pub detail: String,
}

/// The extent to which a program is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlanExtent {
    /// Up to its first `execute()`: to show the plan.
    FirstJob,
    /// To the end of its build function: to run it. A program of several jobs has no plan, because
    /// the one job that would run is not all that it does.
    OnlyJob,
}

/// Runs a program in a process of its own, under limits and a deadline.
pub trait Planner: Send + Sync + std::fmt::Debug {
    /// Plans the program in this file. Cancel-safe: the process is ended.
    fn plan(
        &self,
        artifact: PathBuf,
        settings: JobSettings,
        extent: PlanExtent,
    ) -> BoxFuture<'_, Result<JobGraph, PlanFailed>>;
}
