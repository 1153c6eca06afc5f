//! Why a call to a file system failed, by what the caller may do about it.

use std::io::{self, ErrorKind};

use crate::path::FilePath;

/// What calls give.
pub type Result<T> = std::result::Result<T, StorageError>;

/// Why a call failed. Each names its path, and says in one line what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// There is nothing of this name. Retrying cannot help until somebody makes it.
    #[error("{path} does not exist")]
    NotFound {
        /// The name.
        path: FilePath,
    },
    /// There is something of this name, and it was not to be replaced.
    #[error("{path} exists already and is not replaced: remove it first")]
    AlreadyExists {
        /// The name.
        path: FilePath,
    },
    /// The user may not do this.
    #[error("no permission to {action} {path}: {reason}")]
    PermissionDenied {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: FilePath,
        /// Who may, as far as it is known.
        reason: String,
    },
    /// There is no room, or no more is allowed.
    #[error("no room to {action} {path}: {reason}; free space or have the quota raised")]
    QuotaExceeded {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: FilePath,
        /// Which limit was reached.
        reason: String,
    },
    /// Nothing has happened; the same call may succeed later.
    #[error("failed to {action} {path}: {reason}; the same may succeed later")]
    Unavailable {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: FilePath,
        /// Who does not answer, or does not yet.
        reason: String,
    },
    /// It has happened or not, or will: look before doing anything else.
    #[error("failed to learn the outcome of an attempt to {action} {path}: {reason}")]
    OutcomeUnknown {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: FilePath,
        /// What came between.
        reason: String,
    },
    /// The file that was being written cannot be completed: write it again from its beginning.
    #[error("lost {path} while it was written: {reason}; it must be written again")]
    Lost {
        /// The file.
        path: FilePath,
        /// What became of it.
        reason: String,
    },
    /// Anything else; retrying does not help.
    #[error("failed to {action} {path}: {reason}")]
    Other {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: FilePath,
        /// Why not.
        reason: String,
    },
}

impl FilePath {
    /// Refuses a path that cannot be meant as it is written.
    ///
    /// # Errors
    /// [`StorageError::Other`] with the reason: a relative remote path, `file://` with a host, `..`
    /// in a remote path, a zero byte, an empty path.
    pub fn check(&self) -> Result<()> {
        self.fault().map_or(Ok(()), |reason| {
            Err(StorageError::Other { action: "use path", path: self.clone(), reason })
        })
    }
}

impl StorageError {
    /// What the local system's refusal means.
    #[must_use]
    pub fn of_io(action: &'static str, path: &FilePath, error: &io::Error) -> Self {
        let (path, reason) = (path.clone(), error.to_string());
        match error.kind() {
            ErrorKind::NotFound => Self::NotFound { path },
            ErrorKind::AlreadyExists => Self::AlreadyExists { path },
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                Self::PermissionDenied { action, path, reason }
            }
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                Self::QuotaExceeded { action, path, reason }
            }
            _ => Self::Other { action, path, reason },
        }
    }

    /// The path that it is about.
    #[must_use]
    pub const fn path(&self) -> &FilePath {
        match self {
            Self::NotFound { path }
            | Self::AlreadyExists { path }
            | Self::PermissionDenied { path, .. }
            | Self::QuotaExceeded { path, .. }
            | Self::Unavailable { path, .. }
            | Self::OutcomeUnknown { path, .. }
            | Self::Lost { path, .. }
            | Self::Other { path, .. } => path,
        }
    }

    /// Whether nothing has happened and the same call may succeed later.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// Whether the storage failed, and neither the caller nor what it asked for did.
    #[must_use]
    pub const fn is_of_infrastructure(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::OutcomeUnknown { .. } | Self::Lost { .. })
    }

    /// Whether there is nothing of this name.
    #[must_use]
    pub const fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}
