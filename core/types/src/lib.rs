//! The vocabulary of every Millstream crate: ids, epochs, resources, key groups, states and time.
//!
//! Nothing here does I/O or knows an executor. A type lives here when two components must agree on
//! it; a type that only one component uses lives in that component.

mod artifact;
mod barrier;
mod cause;
mod clock;
pub mod counters;
mod escape;
mod hex;
pub mod ids;
pub mod key;
pub mod metrics;
mod mode;
mod prefetch;
pub mod resource;
pub mod schema;
pub mod states;
mod text;
pub mod time;

pub use artifact::{ArtifactHash, ArtifactHashError};
pub use barrier::{Barrier, BarrierKind};
pub use cause::{CauseKind, FailureCause, with_sources};
pub use clock::{Clock, ManualClock};
pub use escape::Escaped;
pub use ids::{
    AllocationId, AttemptId, CheckpointId, ExecutionAttemptId, HostId, JobId, LeaderEpoch,
    OperatorId, ParseIdError, SlotId, TaskManagerId, TriggerId, VertexId,
};
pub use key::{Key, KeyGroup, KeyHasher, MaxParallelism};
pub use mode::RuntimeMode;
pub use prefetch::prefetch;
pub use resource::{ByteSize, ParseByteSizeError, ResourceProfile};
pub use schema::{Opaque, Schema, State};
pub use states::{ExecutionState, JobStatus};
pub use text::Str;
pub use time::Timestamp;
