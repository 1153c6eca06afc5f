//! Sources of host ids, exchange tokens and hosts' certificates.

use std::sync::Arc;
use std::time::Duration;

use millstream_security::{Authority, Role};
use millstream_types::{HostId, JobId};

/// The validity of a host's certificate. A host shows it to each new peer, so a host that lives
/// longer gets another one in time.
pub(crate) const HOST_LIFETIME: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A source of bytes that name hosts and keep strangers out of exchanges. Tests seed theirs.
pub trait IdSource: Send {
    /// Fills `bytes` with random bytes that were never given out before and cannot be guessed.
    fn fill(&mut self, bytes: &mut [u8]);

    /// The credentials of a host; empty if the cluster has no TLS.
    fn host_credentials(&mut self, _job: JobId, _host: HostId) -> Vec<u8> {
        Vec::new()
    }
}

impl dyn IdSource {
    /// A new host's name.
    pub(crate) fn host_id(&mut self) -> HostId {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        HostId::from_bytes(bytes)
    }

    /// The secret that the hosts of one attempt share.
    pub(crate) fn token(&mut self) -> [u8; 32] {
        let mut token = [0; 32];
        self.fill(&mut token);
        token
    }
}

/// The operating system's random bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsIds;

impl IdSource for OsIds {
    fn fill(&mut self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the kernel has random bytes once it has booted");
    }
}

/// The operating system's random bytes, and certificates of the cluster's authority.
#[derive(Debug, Clone)]
pub(crate) struct SecuredIds(pub(crate) Arc<Authority>);

impl IdSource for SecuredIds {
    fn fill(&mut self, bytes: &mut [u8]) {
        OsIds.fill(bytes);
    }

    fn host_credentials(&mut self, job: JobId, host: HostId) -> Vec<u8> {
        let issued = self.0.issue(Role::Host, &format!("{job}/{host}"), HOST_LIFETIME);
        let issued = issued.expect("ids are short, and the kernel has random bytes");
        issued.to_secret().expose().clone()
    }
}
