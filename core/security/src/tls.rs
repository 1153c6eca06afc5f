//! TLS 1.3 between identities.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{self, CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, TrustAnchor, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, ClientConfig, CommonState, DigitallySignedStruct, DistinguishedName, Error,
    OtherError, PeerIncompatible, ServerConfig, SignatureScheme,
};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyUsage};

use crate::{Credentials, Identity, Role, SecurityError};

/// AES-128 first: it encrypts the data plane a fifth faster.
fn provider() -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    provider.cipher_suites = vec![
        ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
        ring::cipher_suite::TLS13_AES_256_GCM_SHA384,
        ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    Arc::new(provider)
}

/// The server name that TLS wants from a client; it is ignored, because identities have no host
/// names.
#[must_use]
pub fn server_name() -> ServerName<'static> {
    // An address, which no hello ever shows.
    ServerName::IpAddress(std::net::IpAddr::from([127, 0, 0, 1]).into())
}

/// The identity of the other side of a connection; `None` before the handshake is over.
#[must_use]
pub fn peer_identity(connection: &CommonState) -> Option<Identity> {
    identity_of(connection.peer_certificates()?.first()?)
}

/// The identity that a certificate names: its only URI.
pub(crate) fn identity_of(certificate: &CertificateDer<'_>) -> Option<Identity> {
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    let mut uris = certificate.valid_uri_names();
    let identity = Identity::from_uri(uris.next()?)?;
    uris.next().is_none().then_some(identity)
}

/// Whether key, certificate and authority belong together, now.
pub(crate) fn check_own(credentials: &Credentials) -> Result<(), SecurityError> {
    let Identity { role, name, .. } = credentials.identity();
    let verifier = Verifier::new(credentials, &[*role], Some(name))?;
    verifier.verify(&credentials.certificate, UnixTime::now(), KeyUsage::client_auth())?;
    credentials.server_config(&[*role])?;
    Ok(())
}

impl Credentials {
    /// Configures a server with this identity, for clients of the same cluster with one of these
    /// roles.
    ///
    /// # Errors
    /// Key and certificate cannot be used together.
    pub fn server_config(&self, accept: &[Role]) -> Result<Arc<ServerConfig>, SecurityError> {
        let verifier = Arc::new(Verifier::new(self, accept, None)?);
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![self.certificate.clone()], self.private_key().into())?;
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Arc::new(config))
    }

    /// Configures a client with this identity, for a server of the same cluster with this role and,
    /// if there is one, this name.
    ///
    /// # Errors
    /// Key and certificate cannot be used together.
    pub fn client_config(
        &self,
        expect: Role,
        name: Option<&str>,
    ) -> Result<Arc<ClientConfig>, SecurityError> {
        let verifier = Arc::new(Verifier::new(self, &[expect], name)?);
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_auth_cert(vec![self.certificate.clone()], self.private_key().into())?;
        config.enable_sni = false;
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }

    fn private_key(&self) -> PrivatePkcs8KeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.expose().clone())
    }
}

/// Accepts peers of one cluster with one of these roles and, if there is one, this name.
#[derive(Debug)]
struct Verifier {
    authority: TrustAnchor<'static>,
    cluster: String,
    roles: Vec<Role>,
    name: Option<String>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn new(own: &Credentials, roles: &[Role], name: Option<&str>) -> Result<Self, SecurityError> {
        let authority = webpki::anchor_from_trusted_cert(&own.authority).map_err(refused)?;
        Ok(Self {
            authority: authority.to_owned(),
            cluster: own.identity().cluster.clone(),
            roles: roles.to_vec(),
            name: name.map(str::to_owned),
            provider: provider(),
        })
    }

    fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        now: UnixTime,
        usage: impl ExtendedKeyUsageValidator,
    ) -> Result<(), Error> {
        let end = EndEntityCert::try_from(certificate).map_err(refused)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        let anchors = std::slice::from_ref(&self.authority);
        // Certificates that the peer sends beside its own are ignored.
        end.verify_for_usage(algorithms, anchors, &[], now, usage, None, None).map_err(refused)?;
        let Some(identity) = identity_of(certificate) else {
            return Err(stranger("a certificate that names nobody".to_owned()));
        };
        let named = self.name.as_ref().is_none_or(|name| *name == identity.name);
        if identity.cluster == self.cluster && self.roles.contains(&identity.role) && named {
            Ok(())
        } else {
            Err(stranger(format!("{identity} is not let in here")))
        }
    }

    fn verify_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The library's reason in the form that tells the peer the right alert.
fn refused(error: webpki::Error) -> Error {
    let error = match error {
        webpki::Error::CertExpired { .. } => CertificateError::Expired,
        webpki::Error::CertNotValidYet { .. } => CertificateError::NotValidYet,
        webpki::Error::UnknownIssuer => CertificateError::UnknownIssuer,
        webpki::Error::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    };
    Error::InvalidCertificate(error)
}

fn stranger(why: String) -> Error {
    /// A known peer that is not accepted.
    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Stranger(String);
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Stranger(why)))))
}

const NO_TLS12: Error = Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered);

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(end_entity, now, KeyUsage::client_auth())?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(NO_TLS12)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(end_entity, now, KeyUsage::server_auth())?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(NO_TLS12)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

#[cfg(test)]
mod tests;
