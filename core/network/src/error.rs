//! Errors of both ends of a channel.

use millstream_security::SecurityError;

use crate::wire::EncodeError;

/// Why data cannot be exchanged.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The data port could not be opened.
    #[error("failed to open the data port on {address}")]
    Bind {
        /// Where.
        address: String,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// The host's key and certificate cannot be used.
    #[error("failed to secure the data port")]
    Security(#[from] SecurityError),
    /// The other end of a channel is gone.
    #[error("lost the connection to a downstream task: {0}")]
    Lost(String),
    /// A record could not be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}
