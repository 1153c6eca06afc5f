//! Event times and watermarks: where they come from, and the stage that gives them to a stream or
//! to the records of a source.

mod stage;

pub(crate) use stage::{SourceTimes, TimestampStage};
pub use stage::{assign_timestamps, watermarks_per_split};
