//! The check of a job's committed output, file by file, while the job runs.
//!
//! A [`KeyedSum`] is the job's input and the results that it must publish. A [`Watcher`] looks at
//! the directory of published files again and again:
//! - a published file never changes and never disappears;
//! - each line is a result of the input, and no result comes twice;
//! - the results of a key stand in their order within a file;
//! - at the end no result is missing.
//!
//! The first fault is the verdict, a [`Difference`] that names the file, the line and the key. The
//! watcher keeps a few bytes for each record of the input and for each file.

mod difference;
mod keyed_sum;
mod published;
mod watcher;

#[cfg(test)]
mod tests;

pub use difference::{Difference, Place};
pub use keyed_sum::{Expected, KeyedSum, LANES};
pub use published::{Directory, Published, PublishedFile};
pub use watcher::{Progress, Watcher};
