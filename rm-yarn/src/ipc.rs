//! Hadoop's RPC, version 9: one connection carries many calls at once, to one protocol as one
//! identity.
//!
//! A connection opens with seven bytes, identifies the client (by a name that the server believes,
//! or by DIGEST-MD5 with a token), names the protocol, and then carries frames both ways: a
//! big-endian length, a header and a message, each delimited. Answers come in any order and bear
//! the number of their call.

mod connection;
mod digest_md5;
mod error;
mod frames;
mod sasl;

pub use connection::{Connection, Identity, Options};
pub use digest_md5::{DigestError, Protection};
pub use error::{IpcError, RemoteError};

/// A protocol: its name on the wire. All that YARN offers have version 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protocol(pub &'static str);

impl Protocol {
    /// Clients to the ResourceManager.
    pub const APPLICATION_CLIENT: Self =
        Self("org.apache.hadoop.yarn.api.ApplicationClientProtocolPB");
    /// ApplicationMasters to the ResourceManager.
    pub const APPLICATION_MASTER: Self =
        Self("org.apache.hadoop.yarn.api.ApplicationMasterProtocolPB");
    /// ApplicationMasters to NodeManagers.
    pub const CONTAINER_MANAGEMENT: Self =
        Self("org.apache.hadoop.yarn.api.ContainerManagementProtocolPB");
}
