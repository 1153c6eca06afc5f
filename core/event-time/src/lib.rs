//! Event time as it is decided: the watermarks of records and splits, the least of several, their
//! alignment, the arithmetic of windows and panes, the calendar, triggers, evictors and folds, and
//! the open windows of a key.
//!
//! Everything here is pure: it is told what comes and what time it is; [`ChannelEvents`] alone, the
//! events of a task's channels, looks at the clock, to say how long barriers took. The operators
//! that work by it are in `millstream-operators`.

mod alignment;
mod by_split;
mod calendar;
mod channel_events;
mod contents;
mod evictor;
mod grid;
pub mod kept;
mod open_windows;
mod panes;
mod processing;
mod replaced;
mod strategy;
mod tracker;
mod trigger;
mod window_fold;

pub use alignment::{Aligner, Alignment, AlignmentGroups};
pub use by_split::{Begin, Watermarks};
pub use calendar::Calendar;
pub use channel_events::{ChannelEvents, Gates, Noted};
pub use contents::{Contents, Evicted, Folded};
pub use evictor::{Evictor, EvictorContext, KeepAfter, KeepLast, KeepNear, KeepRecent};
pub use grid::{Grid, Sliding, Tumbling, Window, clamp, whole_millis};
pub use open_windows::{OpenWindow, OpenWindows};
pub use panes::{Firing, Panes, Standing, Walk};
pub use processing::ProcessingTime;
pub use replaced::Replaced;
pub use strategy::{FindTimes, Generate, WatermarkGenerator, WatermarkOutput, WatermarkStrategy};
pub use tracker::{Advance, WatermarkTracker};
pub use trigger::{
    Asked, AtEnd, Clocks, EveryRecords, EveryStep, Fire, Purging, Trigger, TriggerContext,
};
pub use window_fold::{Aggregated, Listed, Reduced, Summed, WindowFold};

use anyhow::{Error, Result, anyhow as error, bail};
