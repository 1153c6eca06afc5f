//! Why a certificate, an identity or a secret cannot be made or read.

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum SecurityError {
    /// A key or certificate could not be made.
    #[error("failed to make a certificate")]
    Issue(#[from] rcgen::Error),
    /// TLS cannot use an issued key or certificate.
    #[error("failed to set up TLS")]
    Tls(#[from] rustls::Error),
    /// A cluster or name that no certificate can hold.
    #[error("no certificate can be made for a cluster or name: {0}")]
    Identity(String),
    /// The bytes are no authority or no credentials.
    #[error("the secret is not {what}: {why}")]
    Malformed {
        /// The expected kind of secret.
        what: &'static str,
        /// The fault.
        why: &'static str,
    },
}
