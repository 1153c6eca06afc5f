//! Where host ids and exchange tokens come from.

use millstream_types::HostId;

/// A source of bytes that name hosts and keep strangers out of exchanges. Tests seed theirs.
pub trait IdSource: Send {
    /// Fills `bytes` with what was never given out before and nobody can guess.
    fn fill(&mut self, bytes: &mut [u8]);
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
