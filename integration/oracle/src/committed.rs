//! The check of a job's committed output, file by file, while the job runs.
//!
//! An [`Input`] is the job and its records, and has the results that the job must publish,
//! [`Expected`]. A [`Watcher`] looks at the directory of published files again and again:
//! - a published file never changes and never disappears;
//! - each line is a result of the input, and no result comes twice;
//! - the results of a key stand in their order within a file, if the [`Workload`] has an order;
//! - at the end no result is missing.
//!
//! The first fault is the verdict, a [`Difference`] that names the file, the line and the result.
//! The watcher keeps a few bytes for each result and for each file.

mod answers;
mod difference;
mod entries;
mod expected;
mod published;
mod watcher;
mod workload;

#[cfg(test)]
mod tests;

pub use difference::{Difference, Place};
pub use entries::{Entries, LANES};
pub use expected::{Expected, Input, Outcome};
pub use published::{Directory, Published, PublishedFile};
pub use watcher::{Progress, Watcher};
pub use workload::{Fields, Workload};
