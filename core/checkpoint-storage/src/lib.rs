//! The files of a job's checkpoints, on the local disk or on HDFS.
//!
//! ```text
//! <directory>/<job>/chk-7/_metadata       the checkpoint, once this exists
//! <directory>/<job>/chk-7/<name>          state that was written for it
//! <directory>/<job>/chk-7/_metadata.new   metadata before it is published
//! ```
//!
//! A state file belongs to the checkpoint for which it was written, and later checkpoints may refer
//! to it. This crate does not count references: its caller says which files go.
//!
//! # Invariants
//! - A state file is never replaced, and metadata neither.
//! - `_metadata` appears complete or not at all.
//! - Nothing outside of the job's own directory is read or deleted.
//! - No call allocates more than a file holds, whatever its metadata says.
//! - A directory `chk-<n>` goes with its last file.
//!
//! Not here: the format of metadata, pointers in a store for high availability, savepoints.

mod error;
mod files;

#[cfg(test)]
mod double;
#[cfg(test)]
mod tests;

pub use error::{Outcome, ReadError};
pub use files::{CheckpointFiles, Segment, StateFile};
