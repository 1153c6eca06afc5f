//! Identities as certificates name them: `millstream://CLUSTER/ROLE/NAME`.

use std::fmt;

use crate::SecurityError;

const SCHEME: &str = "millstream://";
/// The longest cluster or name, in bytes before they are escaped.
const PART_BYTES_MAX: usize = 256;

/// The role of a process, which decides what the process may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Uses REST: submits, watches and cancels jobs.
    Client,
    /// Serves REST and the TaskManagers.
    JobManager,
    /// A TaskManager: registers, and starts tasks for JobMasters.
    Worker,
    /// A process that runs user code: exchanges data with the hosts of its own job.
    Host,
}

impl Role {
    const ALL: [Self; 4] = [Self::Client, Self::JobManager, Self::Worker, Self::Host];

    /// The name of the role in certificates.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::JobManager => "jobmanager",
            Self::Worker => "worker",
            Self::Host => "host",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The identity of a process. Displayed as in the certificate, escaped.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// The cluster's id; on YARN, the application's.
    pub cluster: String,
    /// The role.
    pub role: Role,
    /// The name within the role: a TaskManager's id, or `JOB/HOST`.
    pub name: String,
}

impl Identity {
    /// Makes an identity of parts that are short enough and not empty.
    pub(crate) fn checked(cluster: &str, role: Role, name: &str) -> Result<Self, SecurityError> {
        for part in [cluster, name] {
            if part.is_empty() || part.len() > PART_BYTES_MAX {
                let why = format!("{part:.40?} has {} bytes, 1 to {PART_BYTES_MAX} are allowed", {
                    part.len()
                });
                return Err(SecurityError::Identity(why));
            }
        }
        Ok(Self { cluster: cluster.to_owned(), role, name: name.to_owned() })
    }

    /// Reads what [`Display`](fmt::Display) writes, and no other spelling of it.
    pub(crate) fn from_uri(uri: &str) -> Option<Self> {
        let mut parts = uri.strip_prefix(SCHEME)?.split('/');
        let (cluster, role, name) = (parts.next()?, parts.next()?, parts.next()?);
        let role = *Role::ALL.iter().find(|it| it.name() == role)?;
        let identity = Self::checked(&unescape(cluster)?, role, &unescape(name)?).ok()?;
        (identity.to_string() == uri).then_some(identity)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SCHEME)?;
        escape(&self.cluster, f)?;
        write!(f, "/{}/", self.role)?;
        escape(&self.name, f)
    }
}

fn escape(part: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for byte in part.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                write!(f, "{}", char::from(byte))?;
            }
            _ => write!(f, "%{byte:02X}")?,
        }
    }
    Ok(())
}

fn unescape(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_its_uri() {
        for name in ["tm-1", "localhost:33/7 %2F?", "ü\n\0", &"x".repeat(256)] {
            let identity = Identity::checked("application_1_2", Role::Worker, name).unwrap();
            let uri = identity.to_string();
            assert!(uri.is_ascii() && uri.matches('/').count() == 4, "{uri}");
            assert_eq!(Identity::from_uri(&uri), Some(identity));
        }
        let host = Identity::checked("c", Role::Host, "a/b").unwrap();
        assert_eq!(host.to_string(), "millstream://c/host/a%2Fb");
    }

    #[test]
    fn other_spellings_are_no_identities() {
        for uri in [
            "",
            "millstream://",
            "millstream://c/host",
            "millstream://c/host/",
            "millstream:///host/n",
            "millstream://c/host/n/",
            "millstream://c/Host/n",
            "millstream://c/root/n",
            "Millstream://c/host/n",
            "millstream://c/host/%41",
            "millstream://c/host/%2f",
            "millstream://c/host/%2",
            "millstream://c/host/%+1",
            "millstream://c/host/%ff",
            "millstream://c/host/a b",
            "millstream://c/host/ü",
            "https://c/host/n",
        ] {
            assert_eq!(Identity::from_uri(uri), None, "{uri}");
        }
        assert!(Identity::checked("c", Role::Host, "").is_err());
        assert!(Identity::checked(&"c".repeat(257), Role::Host, "n").is_err());
    }
}
