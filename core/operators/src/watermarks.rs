//! Event times and watermarks: where they come from, and the stage that gives them to a stream or
//! to the records of a source.

mod by_split;
mod stage;
mod strategy;

pub(crate) use by_split::Begin;
pub(crate) use stage::{SourceTimes, TimestampStage};
pub use stage::{assign_timestamps, watermarks_per_split};
pub use strategy::{WatermarkGenerator, WatermarkOutput, WatermarkStrategy};
