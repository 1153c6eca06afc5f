//! Outcomes of storing metadata, and the reasons why state cannot be read.

use millstream_storage::StorageError;

/// Whether the metadata of a checkpoint is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is.
    Stored,
    /// It is not and will not be, for this reason.
    Failed(String),
    /// That is not known, for this reason: look again.
    Unknown(String),
}

/// Why state cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The file does not exist. Retrying cannot help.
    #[error("state file {path} is missing: was it removed by hand?")]
    Missing {
        /// The file.
        path: String,
    },
    /// The file ends before the state does. Retrying cannot help.
    #[error("state file {path} is cut off: it has {found} bytes, and {expected} are needed")]
    Truncated {
        /// The file.
        path: String,
        /// The least length that it should have.
        expected: u64,
        /// Its length.
        found: u64,
    },
    /// The bytes are not those that were written. Retrying cannot help.
    #[error(
        "state file {path} was altered: bytes {offset} to {end} have the checksum {found:08x} \
         instead of {expected:08x}"
    )]
    Altered {
        /// The file.
        path: String,
        /// The first byte of the state.
        offset: u64,
        /// The byte after its last one.
        end: u64,
        /// The checksum that was noted when it was written.
        expected: u32,
        /// The checksum of the bytes that are there.
        found: u32,
    },
    /// The file is not one of this job. Retrying cannot help.
    #[error("state file {path} is not read: it is not below {root}")]
    Outside {
        /// The file.
        path: String,
        /// The job's directory.
        root: String,
    },
    /// There is no memory for so many bytes.
    #[error("no memory for {length} bytes of state file {path}")]
    TooLarge {
        /// The file.
        path: String,
        /// The length of the state.
        length: u64,
    },
    /// The file system failed; the error says whether a retry can help.
    #[error(transparent)]
    Storage(#[from] StorageError),
}
