//! The runtime mode of a job.

use serde::{Deserialize, Serialize};

/// Whether a job emits every update or only final results, as in Flink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum RuntimeMode {
    /// Every update is emitted.
    #[default]
    Streaming,
    /// Only final results are emitted; all sources must be bounded.
    Batch,
    /// Batch if every source is bounded, else streaming.
    Automatic,
}
