//! Why a call to a file system failed, by what the caller may do about it.

use std::io::{self, ErrorKind};

use crate::path::FilePath;

/// The result of a call.
pub type Result<T> = std::result::Result<T, StorageError>;

/// Why a call failed. Each names its path, and says in one line what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// The path does not exist. Retrying cannot help until it is created.
    #[error("{path} does not exist")]
    NotFound {
        /// The path.
        path: FilePath,
    },
    /// The path exists, and the call does not replace it.
    #[error("{path} exists already and is not replaced: remove it first")]
    AlreadyExists {
        /// The path.
        path: FilePath,
    },
    /// The user may not do this.
    #[error("no permission to {action} {path}: {reason}")]
    PermissionDenied {
        /// The attempted action, a verb.
        action: &'static str,
        /// The path that it was attempted on.
        path: FilePath,
        /// The missing permission, as far as it is known.
        reason: String,
    },
    /// The disk is full or a quota is used up.
    #[error("no room to {action} {path}: {reason}; free space or have the quota raised")]
    QuotaExceeded {
        /// The attempted action, a verb.
        action: &'static str,
        /// The path that it was attempted on.
        path: FilePath,
        /// The limit that was reached.
        reason: String,
    },
    /// Nothing was changed; the same call may succeed later.
    #[error("failed to {action} {path}: {reason}; the same may succeed later")]
    Unavailable {
        /// The attempted action, a verb.
        action: &'static str,
        /// The path that it was attempted on.
        path: FilePath,
        /// The server that does not answer, or its state.
        reason: String,
    },
    /// The change was made or not, or still will be: look before doing anything else.
    #[error("failed to learn the outcome of an attempt to {action} {path}: {reason}")]
    OutcomeUnknown {
        /// The attempted action, a verb.
        action: &'static str,
        /// The path that it was attempted on.
        path: FilePath,
        /// The interruption.
        reason: String,
    },
    /// The file that was being written cannot be completed: write it again from its beginning.
    #[error("lost {path} while it was written: {reason}; it must be written again")]
    Lost {
        /// The file.
        path: FilePath,
        /// The cause of the loss.
        reason: String,
    },
    /// Anything else; retrying does not help.
    #[error("failed to {action} {path}: {reason}")]
    Other {
        /// The attempted action, a verb.
        action: &'static str,
        /// The path that it was attempted on.
        path: FilePath,
        /// The reason, for people.
        reason: String,
    },
}

impl FilePath {
    /// Refuses a path that cannot be used as it is written.
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
    /// Converts an error of the local system.
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

    /// The path that the error is about.
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

    /// Whether nothing was changed and the same call may succeed later.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// Whether the storage itself failed, rather than the caller or the request.
    #[must_use]
    pub const fn is_of_infrastructure(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::OutcomeUnknown { .. } | Self::Lost { .. })
    }

    /// Whether the path does not exist.
    #[must_use]
    pub const fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}
