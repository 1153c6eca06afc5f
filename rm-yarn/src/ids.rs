//! YARN's ids: of applications, their attempts, and containers.
//!
//! Their texts are what users see and paste: `application_1700000000000_0003`,
//! `appattempt_1700000000000_0003_000001`, `container_e17_1700000000000_0003_01_000005`. The number
//! of a container holds the ResourceManager's epoch above its lower 40 bits.

use std::fmt;
use std::str::FromStr;

use millstream_rm_driver::KnownEpoch;
use millstream_types::LeaderEpoch;

use crate::proto::yarn::{
    ApplicationAttemptIdProto, ApplicationIdProto, ContainerIdProto, NodeIdProto,
};

const EPOCH_SHIFT: u32 = 40;
const SEQUENCE_MASK: i64 = (1 << EPOCH_SHIFT) - 1;

/// A text that is no such name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {what}: one looks like {example}")]
pub struct IdError {
    text: String,
    what: &'static str,
    example: &'static str,
}

/// An application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApplicationId {
    cluster_timestamp: i64,
    number: i32,
}

/// One run of an application's master.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId {
    /// The application.
    pub application: ApplicationId,
    /// Counts from 1.
    pub number: i32,
}

/// A container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId {
    /// The attempt for which it was allocated.
    pub attempt: AttemptId,
    number: i64,
}

/// A NodeManager, by where it is called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    /// The host's name.
    pub host: String,
    /// The port of its RPC.
    pub port: i32,
}

impl AttemptId {
    /// The epoch of the master that runs as this attempt: YARN never counts two alike.
    #[must_use]
    pub fn epoch(self) -> KnownEpoch {
        KnownEpoch(LeaderEpoch::new(u64::try_from(self.number).unwrap_or(0)))
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl From<NodeIdProto> for Node {
    fn from(id: NodeIdProto) -> Self {
        let port = id.port();
        Self { host: id.host.unwrap_or_default(), port }
    }
}

impl fmt::Display for ApplicationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "application_{}_{:04}", self.cluster_timestamp, self.number)
    }
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ApplicationId { cluster_timestamp, number } = self.application;
        write!(f, "appattempt_{cluster_timestamp}_{number:04}_{:06}", self.number)
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ApplicationId { cluster_timestamp, number } = self.attempt.application;
        let (epoch, sequence) = (self.number >> EPOCH_SHIFT, self.number & SEQUENCE_MASK);
        f.write_str("container_")?;
        if epoch > 0 {
            write!(f, "e{epoch:02}_")?;
        }
        write!(f, "{cluster_timestamp}_{number:04}_{:02}_{sequence:06}", self.attempt.number)
    }
}

/// The numbers of a name after its first word.
fn numbers<const N: usize>(text: &str, word: &str) -> Option<[i64; N]> {
    let mut parts = text.strip_prefix(word)?.split('_');
    let mut numbers = [0; N];
    for number in &mut numbers {
        let part = parts.next()?;
        // A sign would be read as part of the number.
        *number = part.parse().ok().filter(|_| part.bytes().all(|byte| byte.is_ascii_digit()))?;
    }
    parts.next().is_none().then_some(numbers)
}

impl FromStr for ApplicationId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let read = || {
            let [cluster_timestamp, number] = numbers(text, "application_")?;
            Some(Self { cluster_timestamp, number: number.try_into().ok()? })
        };
        read().ok_or_else(|| IdError {
            text: text.to_owned(),
            what: "application",
            example: "application_1700000000000_0003",
        })
    }
}

impl FromStr for ContainerId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let read = || {
            let rest = text.strip_prefix("container_")?;
            let (epoch, rest) = match rest.strip_prefix('e') {
                Some(rest) => rest.split_once('_')?,
                None => ("0", rest),
            };
            let epoch: u32 = epoch.parse().ok()?;
            let [cluster_timestamp, application, attempt, sequence] = numbers(rest, "")?;
            if i64::from(epoch) >= 1 << (63 - EPOCH_SHIFT) || sequence > SEQUENCE_MASK {
                return None;
            }
            let application =
                ApplicationId { cluster_timestamp, number: application.try_into().ok()? };
            let attempt = AttemptId { application, number: attempt.try_into().ok()? };
            Some(Self { attempt, number: i64::from(epoch) << EPOCH_SHIFT | sequence })
        };
        read().ok_or_else(|| IdError {
            text: text.to_owned(),
            what: "container",
            example: "container_1700000000000_0003_01_000005",
        })
    }
}

impl From<ApplicationIdProto> for ApplicationId {
    fn from(id: ApplicationIdProto) -> Self {
        Self { cluster_timestamp: id.cluster_timestamp(), number: id.id() }
    }
}

impl From<ApplicationId> for ApplicationIdProto {
    fn from(id: ApplicationId) -> Self {
        Self { id: Some(id.number), cluster_timestamp: Some(id.cluster_timestamp) }
    }
}

impl From<AttemptId> for ApplicationAttemptIdProto {
    fn from(id: AttemptId) -> Self {
        Self { application_id: Some(id.application.into()), attempt_id: Some(id.number) }
    }
}

impl From<ApplicationAttemptIdProto> for AttemptId {
    fn from(id: ApplicationAttemptIdProto) -> Self {
        let application = id.application_id.unwrap_or_default().into();
        Self { application, number: id.attempt_id() }
    }
}

impl From<ContainerId> for ContainerIdProto {
    fn from(id: ContainerId) -> Self {
        Self { app_id: None, app_attempt_id: Some(id.attempt.into()), id: Some(id.number) }
    }
}

impl From<&ContainerIdProto> for ContainerId {
    /// Missing fields become 0, which matches no container of ours.
    fn from(id: &ContainerIdProto) -> Self {
        let attempt = id.app_attempt_id.unwrap_or_default().into();
        // The sign is no part of a number.
        Self { attempt, number: id.id() & i64::MAX }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_yarns_own() {
        let container: ContainerId = "container_e17_1700000000000_0003_01_000005".parse().unwrap();
        assert_eq!(container.to_string(), "container_e17_1700000000000_0003_01_000005");
        assert_eq!(container.attempt.to_string(), "appattempt_1700000000000_0003_000001");
        assert_eq!(container.attempt.application.to_string(), "application_1700000000000_0003");
        let plain = "container_1700000000000_12345_01_1000005";
        assert_eq!(plain.parse::<ContainerId>().unwrap().to_string(), plain);
        assert_eq!(ContainerId::from(&ContainerIdProto::from(container)), container);
    }

    #[tokio::test]
    async fn attempts_keep_the_contract_of_epochs() {
        let application = "application_1700000000000_0003".parse().unwrap();
        let mut number = 0;
        millstream_rm_driver::conformance::epochs(|| {
            number += 1;
            AttemptId { application, number }.epoch()
        })
        .await;
    }

    #[test]
    fn other_texts_are_no_names() {
        for text in ["", "application_1", "application_1_2_3", "application_+1_2", "job_1_2"] {
            assert!(text.parse::<ApplicationId>().is_err(), "{text}");
        }
        let error = "app_1".parse::<ApplicationId>().unwrap_err().to_string();
        assert_eq!(
            error,
            "\"app_1\" is no application: one looks like application_1700000000000_0003"
        );
        for text in ["container_1_2_3", "container_e9999999_1_2_3_4", "container_ex_1_2_3_4"] {
            assert!(text.parse::<ContainerId>().is_err(), "{text}");
        }
    }
}
