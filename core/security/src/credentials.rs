//! The key and certificates by which a member of a cluster proves its identity.

use rustls::pki_types::CertificateDer;

use crate::{Identity, SecretBytes};

/// A key, the certificate that names its owner, and the authority that checks peers.
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
    /// The identity of the owner.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }
}
