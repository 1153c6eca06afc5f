//! Files wherever they are: what the engine asks of a file system, the local disk as one, and the
//! suite that every other one must pass.
//!
//! A [`FilePath`] says which file system it is on; [`FileSystems`] knows the implementations by
//! their scheme, so that whoever reads `hdfs://` depends on none of them. Calls return futures that
//! any executor can run, [`block_on`] among them: threads that may block need no runtime.
//!
//! # What a file system promises
//! - [`FileSystem::create`] without replacing succeeds for exactly one of many that race.
//! - [`FileSystem::publish`] is atomic and durable: whoever looks at the name sees what was there
//!   before or the whole new file.
//! - What a writer has synced survives the death of every process of ours; what it has closed
//!   cannot change any more.
//! - Every call ends: with its result, or with an error that says what the caller may do
//!   ([`StorageError`]). A change whose outcome cannot be told is never reported as failed.
//!
//! Not here: appending to files, symbolic links, locks.

#[cfg(feature = "test-util")]
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
