//! Translates errors of the library and of NameNodes for callers.

use std::io::ErrorKind;

use hdfs_native::HdfsError;
use millstream_storage::{FilePath, StorageError};

/// Longest reason in an error text.
const REASON_CHARS_MAX: usize = 400;

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    NotFound(String),
    AlreadyExists,
    PermissionDenied(String),
    QuotaExceeded(String),
    /// Nothing was changed; the call may succeed soon.
    NotNow(String),
    /// The answer was lost; the change may have been made.
    Ambiguous(String),
    Other(String),
}

impl Failure {
    pub(crate) fn of(error: &HdfsError) -> Self {
        match error {
            HdfsError::AlreadyExists(_) => Self::AlreadyExists,
            HdfsError::FileNotFound(text) => Self::NotFound(first_line(text)),
            HdfsError::RPCError(class, text) => Self::of_exception(class, text),
            HdfsError::FatalRPCError(class, text) => match Self::of_exception(class, text) {
                Self::Other(reason) => Self::Other(format!(
                    "the NameNode ended the connection with {reason}; is it the right port?"
                )),
                known => known,
            },
            HdfsError::IOError(error) => Self::of_io(error),
            HdfsError::DataTransferError(text) => {
                Self::Ambiguous(format!("no DataNode could serve it: {}", first_line(text)))
            }
            HdfsError::ChecksumError | HdfsError::BlocksNotFound(_) => {
                Self::Ambiguous(first_line(&error.to_string()))
            }
            HdfsError::OperationFailed(text) => Self::Ambiguous(first_line(text)),
            HdfsError::InvalidRPCResponse(_) => {
                Self::Other("the answer is none of a NameNode; is it the right port?".to_owned())
            }
            _ => Self::Other(first_line(&error.to_string())),
        }
    }

    fn of_io(error: &std::io::Error) -> Self {
        let text = first_line(&error.to_string());
        match error.kind() {
            ErrorKind::ConnectionRefused
            | ErrorKind::AddrNotAvailable
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::NotConnected => Self::NotNow(format!("no NameNode answers: {text}")),
            // std has no `ErrorKind` for a failed name lookup.
            _ if text.contains("failed to lookup address") => {
                Self::NotNow(format!("the NameNode's host name is not known: {text}"))
            }
            _ => Self::Ambiguous(format!("the connection to the NameNode broke: {text}")),
        }
    }

    fn of_exception(class: &str, text: &str) -> Self {
        let reason = first_line(text);
        let name = class.rsplit(['.', '$']).next().unwrap_or(class);
        match name {
            "FileNotFoundException" | "PathNotFoundException" => Self::NotFound(reason),
            "FileAlreadyExistsException" | "AlreadyBeingCreatedException" => Self::AlreadyExists,
            "AccessControlException" | "AuthorizationException" | "InvalidToken" => {
                Self::PermissionDenied(reason)
            }
            _ if name.contains("QuotaExceeded") || name.contains("QuotaByStorageType") => {
                Self::QuotaExceeded(reason)
            }
            "SafeModeException"
            | "RetriableException"
            | "StandbyException"
            | "ObserverRetryOnActiveException"
            | "NotReplicatedYetException"
            | "ServerNotActiveException" => Self::NotNow(format!("{name}: {reason}")),
            _ => Self::Other(format!("{name}: {reason}")),
        }
    }

    /// The error for a caller that waits no longer.
    pub(crate) fn explain(self, action: &'static str, path: &FilePath) -> StorageError {
        let path = path.clone();
        match self {
            Self::NotFound(_) => StorageError::NotFound { path },
            Self::AlreadyExists => StorageError::AlreadyExists { path },
            Self::PermissionDenied(reason) => {
                StorageError::PermissionDenied { action, path, reason }
            }
            Self::QuotaExceeded(reason) => StorageError::QuotaExceeded { action, path, reason },
            Self::NotNow(reason) => StorageError::Unavailable { action, path, reason },
            Self::Ambiguous(reason) => StorageError::OutcomeUnknown { action, path, reason },
            Self::Other(reason) => StorageError::Other { action, path, reason },
        }
    }

    /// The error for a call that changes nothing.
    pub(crate) fn explain_reading(self, action: &'static str, path: &FilePath) -> StorageError {
        match self {
            Self::Ambiguous(reason) => Self::NotNow(reason),
            known => known,
        }
        .explain(action, path)
    }

    /// The error for the writer of a file.
    pub(crate) fn explain_writing(self, action: &'static str, path: &FilePath) -> StorageError {
        match self {
            Self::NotFound(reason)
            | Self::NotNow(reason)
            | Self::Ambiguous(reason)
            | Self::Other(reason) => StorageError::Lost { path: path.clone(), reason },
            Self::AlreadyExists => {
                let reason = "another writes it".to_owned();
                StorageError::Lost { path: path.clone(), reason }
            }
            known => known.explain(action, path),
        }
    }
}

/// The first line of a text that Java made, without its stack trace.
pub(crate) fn first_line(text: &str) -> String {
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("no reason given");
    let line = line.trim();
    match line.char_indices().nth(REASON_CHARS_MAX) {
        Some((end, _)) => format!("{}...", line.get(..end).unwrap_or_default()),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(class: &str, text: &str) -> Failure {
        Failure::of(&HdfsError::RPCError(class.to_owned(), text.to_owned()))
    }

    #[test]
    fn exceptions_are_told_by_what_to_do() {
        let path = FilePath::from("hdfs://nn/a");
        let denied = remote(
            "org.apache.hadoop.security.AccessControlException",
            "Permission denied: user=alice, access=WRITE, inode=\"/\":root:root:drwxr-xr-x\n\tat x",
        );
        assert_eq!(
            denied.explain("create", &path).to_string(),
            "no permission to create hdfs://nn/a: Permission denied: user=alice, access=WRITE, \
             inode=\"/\":root:root:drwxr-xr-x"
        );
        for class in [
            "org.apache.hadoop.hdfs.protocol.NSQuotaExceededException",
            "org.apache.hadoop.hdfs.protocol.DSQuotaExceededException",
            "org.apache.hadoop.hdfs.protocol.QuotaByStorageTypeExceededException",
        ] {
            assert_eq!(remote(class, "full"), Failure::QuotaExceeded("full".to_owned()));
        }
        for class in [
            "org.apache.hadoop.hdfs.server.namenode.SafeModeException",
            "org.apache.hadoop.ipc.RetriableException",
            "org.apache.hadoop.ipc.StandbyException",
        ] {
            assert!(matches!(remote(class, "x"), Failure::NotNow(_)), "{class}");
        }
        let lost = remote("org.apache.hadoop.hdfs.server.namenode.LeaseExpiredException", "gone");
        assert_eq!(
            lost.explain_writing("write to", &path),
            StorageError::Lost { path, reason: "LeaseExpiredException: gone".to_owned() }
        );
    }

    #[test]
    fn only_what_never_left_is_no_ambiguity() {
        let io = |kind: ErrorKind| Failure::of(&HdfsError::IOError(kind.into()));
        assert!(matches!(io(ErrorKind::ConnectionRefused), Failure::NotNow(_)));
        assert!(matches!(io(ErrorKind::ConnectionReset), Failure::Ambiguous(_)));
        assert!(matches!(io(ErrorKind::UnexpectedEof), Failure::Ambiguous(_)));
    }

    #[test]
    fn reasons_are_short_and_one_line() {
        assert_eq!(first_line("\n  a\nb"), "a");
        assert_eq!(first_line(""), "no reason given");
        assert_eq!(first_line(&"ä".repeat(1000)).chars().count(), REASON_CHARS_MAX + 3);
    }
}
