//! Errors of connections and calls.

use std::io;
use std::time::Duration;

use super::digest_md5::DigestError;
use crate::completion::without_java;
use crate::proto::common::RpcResponseHeaderProto;

/// Of an exception that says nothing.
const NO_MESSAGE: &str = "(no message)";

/// Why a call or a connection failed.
#[derive(Debug, thiserror::Error)]
pub enum IpcError {
    /// The connection was refused or the address cannot be reached.
    #[error("failed to connect to {address}: {why}")]
    Connect {
        /// Host and port.
        address: String,
        /// The system's reason.
        why: io::Error,
    },
    /// Nothing came in time; whether the call was carried out is unknown.
    #[error("{address} did not answer {what} within {after:?}")]
    Timeout {
        /// Host and port.
        address: String,
        /// The method, or a step of connecting.
        what: String,
        /// The limit.
        after: Duration,
    },
    /// The connection broke; whether calls under way were carried out is unknown.
    #[error("the connection to {address} broke: {why}")]
    Broken {
        /// Host and port.
        address: String,
        /// The cause.
        why: String,
    },
    /// The server speaks another protocol, or another version of this one.
    #[error("{address} does not speak Hadoop RPC as expected: {why}; is it the right port?")]
    Foreign {
        /// Host and port.
        address: String,
        /// The unexpected part of the answer.
        why: String,
    },
    /// The two sides found no way to identify the client, or the server failed to prove itself.
    #[error("failed to identify with {address}: {why}")]
    Identify {
        /// Host and port.
        address: String,
        /// Why.
        why: DigestError,
    },
    /// The server refused: its exception.
    #[error(transparent)]
    Remote(#[from] RemoteError),
}

/// An exception of the server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{address} refused: {}", self.sentence())]
pub struct RemoteError {
    /// Host and port.
    pub address: String,
    /// The exception's Java class, which is all that tells one kind from another.
    pub class: String,
    /// Its message, without the stack trace.
    pub message: String,
    /// Whether the server closed the connection over it.
    pub fatal: bool,
}

impl RemoteError {
    pub(super) fn new(address: &str, header: &RpcResponseHeaderProto, fatal: bool) -> Self {
        let message = header.error_msg.as_deref().unwrap_or(NO_MESSAGE);
        let end = message.find("\n\tat ").unwrap_or(message.len());
        Self {
            address: address.to_owned(),
            class: header.exception_class_name.clone().unwrap_or_default(),
            message: message.get(..end).unwrap_or(message).trim().to_owned(),
            fatal,
        }
    }

    /// The message without names of classes; the short class name if it is empty.
    fn sentence(&self) -> String {
        let sentence = without_java(&self.message);
        match sentence.is_empty() || sentence == NO_MESSAGE {
            true => self.short_class().to_owned(),
            false => sentence,
        }
    }

    /// The class without its package.
    #[must_use]
    pub fn short_class(&self) -> &str {
        self.class.rsplit(['.', '$']).next().filter(|name| !name.is_empty()).unwrap_or("an error")
    }

    /// Whether it is of the class with this short name.
    #[must_use]
    pub fn is(&self, short_class: &str) -> bool {
        self.short_class() == short_class
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_trace_is_no_message() {
        let header = RpcResponseHeaderProto {
            exception_class_name: Some(
                "org.apache.hadoop.security.token.SecretManager$InvalidToken".to_owned(),
            ),
            error_msg: Some("Invalid token\n\tat a.B.c(B.java:1)\n\tat d".to_owned()),
            ..RpcResponseHeaderProto::default()
        };
        let error = RemoteError::new("rm:8030", &header, true);
        assert!(error.is("InvalidToken"));
        assert_eq!(error.to_string(), "rm:8030 refused: Invalid token");
    }
}
