//! The identities inside a cluster, and the secrets that prove them.
//!
//! A cluster has one [`Authority`], whose key the JobManager alone holds. It issues
//! [`Credentials`]: a key and a certificate that says an [`Identity`] (cluster, role, name) and
//! nothing of hosts, because addresses of containers are not known before they run.
//! [`Credentials::server_config`] and [`Credentials::client_config`] turn them into TLS 1.3 with
//! both sides authenticated.
//!
//! # Invariants
//! - A peer is let in if its certificate is signed by exactly this authority, is of this cluster
//!   and has a role that was asked for. No other root, no host name and no file plays a part.
//! - Nothing here prints a secret, and what holds one wipes it when dropped. (The keys that the TLS
//!   library makes of them for its own use are freed unwiped.)
//! - No session is resumed: each connection shows its certificate.

mod authority;
mod credentials;
mod error;
mod identity;
mod secret;
mod stream;
mod tls;

pub use authority::{Authority, CLUSTER_LIFETIME};
pub use credentials::Credentials;
pub use error::SecurityError;
pub use identity::{Identity, Role};
pub use secret::{Secret, SecretBytes};
pub use stream::Stream;
pub use tls::{peer_identity, server_name};

pub use rustls;
