//! The cluster's authority, which issues its certificates.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::tls;
use crate::{Credentials, Identity, Role, SecretBytes, SecurityError};

/// The lifetime of the authority, and of certificates that cannot be renewed while their owner
/// runs: longer than any cluster lives.
pub const CLUSTER_LIFETIME: Duration = Duration::from_secs(3650 * 24 * 60 * 60);

/// Largest difference between the clocks of a cluster's machines.
const CLOCK_SKEW: Duration = Duration::from_secs(60 * 60);
const AUTHORITY_MAGIC: &[u8; 8] = b"MILLCA\0\x01";
const CREDENTIALS_MAGIC: &[u8; 8] = b"MILLID\0\x01";
/// Limit for a certificate or key; ours are shorter.
const FIELD_BYTES_MAX: usize = 16 << 10;

/// A cluster's certificate authority. Its holder can take any identity in the cluster.
#[derive(PartialEq, Eq)]
pub struct Authority {
    cluster: String,
    certificate: CertificateDer<'static>,
    key: SecretBytes,
}

impl std::fmt::Debug for Authority {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes a new authority for a cluster. It accepts no certificate of another authority, even
    /// one of the same cluster id.
    ///
    /// # Errors
    /// The id is empty or longer than 256 bytes, or the system gives no random numbers.
    pub fn generate(cluster: &str) -> Result<Self, SecurityError> {
        Identity::checked(cluster, Role::JobManager, "authority")?;
        let key = Zeroizing::new(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?);
        let certificate = Self::parameters(cluster).self_signed(&*key)?.der().clone();
        let key = SecretBytes::new(key.serialize_der());
        Ok(Self { cluster: cluster.to_owned(), certificate, key })
    }

    fn parameters(cluster: &str) -> CertificateParams {
        let mut parameters = base_parameters(cluster, CLUSTER_LIFETIME);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        parameters
    }

    /// The cluster's id.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Issues a key and a certificate that is valid for `lifetime`, and since an hour ago because
    /// clocks differ.
    ///
    /// # Errors
    /// The name is empty or longer than 256 bytes, or the system gives no random numbers.
    pub fn issue(
        &self,
        role: Role,
        name: &str,
        lifetime: Duration,
    ) -> Result<Credentials, SecurityError> {
        let identity = Identity::checked(&self.cluster, role, name)?;
        let mut parameters = base_parameters(&self.cluster, lifetime);
        parameters.subject_alt_names = vec![SanType::URI(identity.to_string().try_into()?)];
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let issuer_key = Zeroizing::new(KeyPair::try_from(self.key.expose().as_slice())?);
        let issuer = Self::parameters(&self.cluster);
        let issuer = Issuer::from_params(&issuer, &*issuer_key);
        let key = Zeroizing::new(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?);
        let certificate = parameters.signed_by(&*key, &issuer)?;
        Ok(Credentials {
            identity,
            certificate: certificate.der().clone(),
            key: SecretBytes::new(key.serialize_der()),
            authority: self.certificate.clone(),
        })
    }

    /// Encodes the authority for the process that will be the cluster's master.
    #[must_use]
    pub fn to_secret(&self) -> SecretBytes {
        let fields = [self.cluster.as_bytes(), &self.certificate, self.key.expose()];
        join(AUTHORITY_MAGIC, &fields)
    }

    /// Reads what [`to_secret`](Self::to_secret) wrote.
    ///
    /// # Errors
    /// The bytes are no authority, or its key and certificate do not belong together.
    pub fn from_secret(bytes: &[u8]) -> Result<Self, SecurityError> {
        let malformed = |why| SecurityError::Malformed { what: "a cluster's authority", why };
        let [cluster, certificate, key] = split(AUTHORITY_MAGIC, bytes).map_err(malformed)?;
        let cluster = str::from_utf8(cluster).map_err(|_| malformed("its id is not text"))?;
        Identity::checked(cluster, Role::JobManager, "authority")
            .map_err(|_| malformed("its id is empty or too long"))?;
        let authority = Self {
            cluster: cluster.to_owned(),
            certificate: CertificateDer::from(certificate.to_vec()),
            key: SecretBytes::new(key.to_vec()),
        };
        // Key and certificate belong together if what one signs the other vouches for.
        let probe = authority.issue(Role::JobManager, "probe", CLOCK_SKEW);
        let probe = probe.map_err(|_| malformed("its key is not one"))?;
        tls::check_own(&probe).map_err(|_| malformed("its certificate is not that of its key"))?;
        Ok(authority)
    }
}

fn base_parameters(cluster: &str, lifetime: Duration) -> CertificateParams {
    let now = SystemTime::now();
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, cluster);
    parameters.not_before = (now - CLOCK_SKEW).into();
    parameters.not_after = (now + lifetime.min(CLUSTER_LIFETIME)).into();
    parameters
}

impl Credentials {
    /// Encodes the credentials for their owner.
    #[must_use]
    pub fn to_secret(&self) -> SecretBytes {
        join(CREDENTIALS_MAGIC, &[&self.certificate, self.key.expose(), &self.authority])
    }

    /// Reads what [`to_secret`](Self::to_secret) wrote.
    ///
    /// # Errors
    /// The bytes are no credentials, or the certificate has expired.
    pub fn from_secret(bytes: &[u8]) -> Result<Self, SecurityError> {
        let malformed = |why| SecurityError::Malformed { what: "credentials of a cluster", why };
        let [certificate, key, authority] = split(CREDENTIALS_MAGIC, bytes).map_err(malformed)?;
        let certificate = CertificateDer::from(certificate.to_vec());
        let identity = tls::identity_of(&certificate)
            .ok_or_else(|| malformed("the certificate says nobody's name"))?;
        let credentials = Self {
            identity,
            certificate,
            key: SecretBytes::new(key.to_vec()),
            authority: CertificateDer::from(authority.to_vec()),
        };
        tls::check_own(&credentials)
            .map_err(|_| malformed("key and certificates do not fit, or have expired"))?;
        Ok(credentials)
    }
}

/// Encodes fields, each behind its length.
fn join(magic: &[u8; 8], fields: &[&[u8]]) -> SecretBytes {
    // Of its final size at once: what grows leaves copies behind.
    let size = magic.len() + fields.iter().map(|field| 4 + field.len()).sum::<usize>();
    let mut bytes = Vec::with_capacity(size);
    bytes.extend_from_slice(magic);
    for field in fields {
        bytes.extend_from_slice(&u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend_from_slice(field);
    }
    SecretBytes::new(bytes)
}

fn split<'a, const N: usize>(
    magic: &[u8; 8],
    bytes: &'a [u8],
) -> Result<[&'a [u8]; N], &'static str> {
    let mut rest = bytes.strip_prefix(magic).ok_or("it begins with something else")?;
    let mut fields = [&[] as &[u8]; N];
    for field in &mut fields {
        let (length, after) = rest.split_first_chunk::<4>().ok_or("it is cut off")?;
        let length = u32::from_be_bytes(*length) as usize;
        if length > FIELD_BYTES_MAX {
            return Err("a part of it is too long");
        }
        (*field, rest) = after.split_at_checked(length).ok_or("it is cut off")?;
    }
    if rest.is_empty() { Ok(fields) } else { Err("something follows it") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn an_authority_and_what_it_issues_survive_the_way() {
        let authority = Authority::generate("application_1_2").unwrap();
        let travelled = Authority::from_secret(authority.to_secret().expose()).unwrap();
        assert_eq!(travelled.cluster(), "application_1_2");
        let worker = travelled.issue(Role::Worker, "tm 1", DAY).unwrap();
        let arrived = Credentials::from_secret(worker.to_secret().expose()).unwrap();
        assert_eq!(arrived.identity(), worker.identity());
        assert_eq!(arrived.identity().name, "tm 1");
        assert_eq!(arrived.to_secret(), worker.to_secret());
    }

    #[test]
    fn what_is_cut_off_or_changed_is_refused() {
        let authority = Authority::generate("c").unwrap();
        let worker = authority.issue(Role::Worker, "tm", DAY).unwrap().to_secret();
        let authority = authority.to_secret();
        for end in 0..worker.expose().len() {
            assert!(Credentials::from_secret(&worker.expose()[..end]).is_err(), "{end}");
        }
        for end in 0..authority.expose().len() {
            assert!(Authority::from_secret(&authority.expose()[..end]).is_err(), "{end}");
        }
        assert!(Credentials::from_secret(authority.expose()).is_err());
        assert!(Authority::from_secret(worker.expose()).is_err());
        let giant = [CREDENTIALS_MAGIC.as_slice(), &[0xff; 8]].concat();
        assert!(Credentials::from_secret(&giant).is_err());
    }

    #[test]
    fn parts_of_different_clusters_do_not_fit() {
        let [one, other] = ["c", "c"].map(|cluster| Authority::generate(cluster).unwrap());
        let (a, b) = (
            one.issue(Role::Worker, "tm", DAY).unwrap(),
            other.issue(Role::Worker, "tm", DAY).unwrap(),
        );
        let foreign_authority = Credentials { authority: b.authority.clone(), ..a.clone() };
        let foreign_key = Credentials { key: b.key.clone(), ..a.clone() };
        for mixed in [foreign_authority, foreign_key] {
            assert!(Credentials::from_secret(mixed.to_secret().expose()).is_err());
        }
        let mixed = join(AUTHORITY_MAGIC, &[b"c", &other.certificate, one.key.expose()]);
        assert!(Authority::from_secret(mixed.expose()).is_err());
    }

    #[test]
    fn nothing_secret_is_in_the_debug_form() {
        let authority = Authority::generate("c").unwrap();
        let worker = authority.issue(Role::Worker, "tm", DAY).unwrap();
        assert_eq!(format!("{worker:?}"), "Credentials(\"millstream://c/worker/tm\")");
        assert_eq!(format!("{authority:?}"), "Authority { cluster: \"c\", .. }");
    }

    #[test]
    fn names_that_cannot_be_said_are_refused() {
        assert!(Authority::generate("").is_err());
        let authority = Authority::generate("c").unwrap();
        assert!(authority.issue(Role::Client, &"n".repeat(257), DAY).is_err());
    }
}
