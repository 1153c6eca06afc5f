//! Files on any file system: the engine's trait for it, the local disk as one, and the suite that
//! every other one must pass.
//!
//! A [`FilePath`] names its file system by scheme and authority; [`FileSystems`] finds the
//! implementation by the scheme, so that code which reads `hdfs://` depends on none of them. Calls
//! return futures that any executor can run, [`block_on`] among them: threads that may block need
//! no runtime.
//!
//! # What a file system promises
//! - [`FileSystem::create`] without replacing succeeds for exactly one of many that race.
//! - [`FileSystem::publish`] is atomic and durable: a reader of the name sees the earlier file or
//!   the whole new one.
//! - Synced bytes survive the death of every process of ours; a closed file cannot change any more.
//! - Every call ends: with its result, or with an error that tells the caller what to do
//!   ([`StorageError`]). A change whose outcome is unknown is never reported as failed.
//!
//! Not here: appending to files, symbolic links, locks.

#[cfg(any(test, feature = "test-util"))]
pub mod conformance;

mod blocking;
mod error;
mod file_system;
mod local;
mod path;
pub mod patience;
mod registry;

pub use blocking::block_on;
pub use error::{Result, StorageError};
pub use file_system::{
    BoxFuture, CreateOptions, FileKind, FileReader, FileStatus, FileSystem, FileWriter, IfExists,
    read_all, write_all,
};
pub use local::LocalFileSystem;
pub use path::FilePath;
pub use registry::{FileSystems, OpenFileSystem};
