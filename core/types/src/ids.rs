//! Ids: each its own type, printed the way Flink prints it (32 lower-case hexadecimal digits).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::hex;

/// Text that is not the id it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a {kind} is 32 hexadecimal digits, not {text:?}")]
pub struct ParseIdError {
    kind: &'static str,
    text: String,
}

macro_rules! id128 {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name([u8; 16]);

        impl $name {
            /// An id of these 16 bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// An id of this number, big endian; tests and derived ids use it.
            #[must_use]
            pub const fn from_u128(number: u128) -> Self {
                Self(number.to_be_bytes())
            }

            /// The 16 bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                hex::write(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                hex::parse(text)
                    .map(Self)
                    .ok_or_else(|| ParseIdError { kind: $kind, text: text.to_owned() })
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseIdError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = ParseIdError;

            /// Accepts exactly 16 bytes, as they stand in protobuf messages.
            fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
                let text = || format!("{} bytes", bytes.len());
                <[u8; 16]>::try_from(bytes)
                    .map(Self)
                    .map_err(|_| ParseIdError { kind: $kind, text: text() })
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }
    };
}

id128!(
    /// Names one job for its whole life, restarts and failovers included.
    JobId, "job id"
);
id128!(
    /// Names a vertex of a JobGraph; derived from the uid of its first operator.
    VertexId, "vertex id"
);
id128!(
    /// Names one operator; derived from its uid, so it survives changes of the job around it.
    OperatorId, "operator id"
);
id128!(
    /// Names one grant of one slot to one job; a slot granted again has a new one.
    AllocationId, "allocation id"
);
id128!(
    /// Names one task host or coordinator host process.
    HostId, "host id"
);
id128!(
    /// Names one operation that a REST request triggered and later ones ask about.
    TriggerId, "trigger id"
);

/// Names a TaskManager, as its driver or the TaskManager itself chose (`127.0.0.1:32793-4b78d7`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskManagerId(String);

impl TaskManagerId {
    /// Wraps the name.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TaskManagerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names one slot of one TaskManager.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SlotId {
    /// The TaskManager.
    pub task_manager: TaskManagerId,
    /// The slot's number there, from 0.
    pub index: u32,
}

impl fmt::Display for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.task_manager, self.index)
    }
}

/// Names one attempt to run one subtask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ExecutionAttemptId {
    /// The job's vertex.
    pub vertex: VertexId,
    /// The subtask's number, from 0.
    pub subtask: u32,
    /// Number of attempts before this one.
    pub attempt: u32,
}

impl fmt::Display for ExecutionAttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}_{}", self.vertex, self.subtask, self.attempt)
    }
}

/// Orders the leaders of one cluster; a call that carries an older one is refused.
///
/// The driver gives it to a master: the number of its attempt, or of its start on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaderEpoch(u64);

impl LeaderEpoch {
    /// The epoch of this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for LeaderEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch-{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_its_text() {
        let id = JobId::from_u128(0x00ab_cdef_0123_4567_89ab_cdef_0123_4567);
        assert_eq!(id.to_string(), "00abcdef0123456789abcdef01234567");
        assert_eq!(id.to_string().parse(), Ok(id));
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(serde_json::from_str::<JobId>(&json).unwrap(), id);
    }

    #[test]
    fn text_that_is_no_id_is_refused_with_what_it_was() {
        let error = "xyz".parse::<JobId>().unwrap_err();
        assert_eq!(error.to_string(), "a job id is 32 hexadecimal digits, not \"xyz\"");
        assert!("é".repeat(16).parse::<VertexId>().is_err());
    }
}
