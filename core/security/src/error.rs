//! Why a certificate, an identity or a secret cannot be made or read.

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum SecurityError {
    /// A key or certificate could not be made.
    #[error("failed to make a certificate")]
    Issue(#[from] rcgen::Error),
    /// TLS cannot use what was issued.
    #[error("failed to set up TLS")]
    Tls(#[from] rustls::Error),
    /// A cluster or name that no certificate can say.
    #[error("no certificate can be made for a cluster or name: {0}")]
    Identity(String),
    /// Bytes that are no authority or no credentials.
    #[error("the secret is not {what}: {why}")]
    Malformed {
        /// What it should be.
        what: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
}
