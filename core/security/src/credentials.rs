//! What a member of a cluster proves its identity with.

use rustls::pki_types::CertificateDer;

use crate::{Identity, SecretBytes};

/// A key, the certificate that says whose it is, and the authority to check others by.
#[derive(Clone)]
pub struct Credentials {
    pub(crate) identity: Identity,
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) key: SecretBytes,
    pub(crate) authority: CertificateDer<'static>,
}

impl std::fmt::Debug for Credentials {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Credentials").field(&self.identity.to_string()).finish()
    }
}

impl Credentials {
    /// Whose they are.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }
}
