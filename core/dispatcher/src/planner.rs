//! Turning a program into a JobGraph, which takes running it: somebody else's work.

use std::path::PathBuf;

use futures::future::BoxFuture;
use millstream_graph::{JobGraph, JobSettings};

/// Why a program has no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PlanFailed {
    /// One sentence.
    pub message: String,
    /// Place of a panic, last lines of standard error. May be empty.
    pub detail: String,
}

/// Runs a program up to its first `execute()`, in a process of its own, under limits and a
/// deadline.
pub trait Planner: Send + Sync + std::fmt::Debug {
    /// The plan of the program in this file. Cancel-safe: the process is ended.
    fn plan(
        &self,
        artifact: PathBuf,
        settings: JobSettings,
    ) -> BoxFuture<'_, Result<JobGraph, PlanFailed>>;
}
