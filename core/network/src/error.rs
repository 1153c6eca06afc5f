//! Errors of both ends of a channel.

use millstream_security::SecurityError;

use crate::overdraft::IN_FLIGHT_BYTES_MAX;
use crate::wire::{EncodeError, InboxError};

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
    /// Records in flight of a checkpoint cannot be read.
    #[error("the records in flight of the checkpoint cannot be read")]
    InFlight(#[from] InboxError),
    /// There are more of them than one task stores.
    #[error("more than {IN_FLIGHT_BYTES_MAX} bytes of records are in flight to one task")]
    InFlightTooMuch,
    /// They are of another type than the program's.
    #[error(
        "the checkpoint has records in flight of type {stored}, and the program's are of type \
         {declared}: start from a savepoint, which has none"
    )]
    InFlightType {
        /// The type in the checkpoint.
        stored: String,
        /// The program's type.
        declared: &'static str,
    },
}
