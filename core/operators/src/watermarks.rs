//! Event times and watermarks: where they come from, and the stage that gives them to a stream.

mod stage;
mod strategy;

pub use stage::assign_timestamps;
pub use strategy::{WatermarkGenerator, WatermarkOutput, WatermarkStrategy};
