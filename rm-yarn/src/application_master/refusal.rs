//! Classifies errors of the ResourceManager; its exceptions differ only in class and text.

use crate::completion::without_java;
use crate::ipc::IpcError;

/// The cause of a failed call, as far as the next step depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It does not know us, as after its restart: register again and say everything again.
    NotRegistered,
    /// It knows us already: an earlier registration arrived, its answer did not.
    AlreadyRegistered,
    /// The attempt is over; another master may be running.
    AttemptOver(String),
    /// It waits for a message with this number.
    ResponseId(i32),
    /// A container request in the call is invalid.
    Ask(String),
    /// A container in the release list cannot be released.
    Release(String),
    /// The blacklist is malformed.
    Blacklist(String),
    /// Our token is not the right one, now.
    Token(String),
    /// Anything else; it may go away.
    Other(String),
    /// The ResourceManager did not answer within our patience, or the two sides found no common
    /// protocol.
    Silence(String),
}

impl Refusal {
    /// For people.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::NotRegistered => "this attempt is not registered",
            Self::AlreadyRegistered => "this attempt is registered already",
            Self::ResponseId(_) => "a message came out of order",
            Self::AttemptOver(text)
            | Self::Ask(text)
            | Self::Release(text)
            | Self::Blacklist(text)
            | Self::Token(text)
            | Self::Other(text)
            | Self::Silence(text) => text,
        }
    }
}

impl From<&IpcError> for Refusal {
    fn from(error: &IpcError) -> Self {
        let IpcError::Remote(remote) = error else {
            let text = error.to_string();
            return match error {
                IpcError::Foreign { .. } => Self::Other(text),
                IpcError::Connect { .. }
                | IpcError::Timeout { .. }
                | IpcError::Broken { .. }
                | IpcError::Identify { .. }
                | IpcError::Remote(_) => Self::Silence(text),
            };
        };
        let message = without_java(&remote.message);
        match remote.short_class() {
            "ApplicationMasterNotRegisteredException" => Self::NotRegistered,
            "ApplicationAttemptNotFoundException" => Self::AttemptOver(message),
            "InvalidApplicationMasterRequestException" => match expected_id(&message) {
                Some(expected) => Self::ResponseId(expected),
                None if message.contains("already registered") => Self::AlreadyRegistered,
                None if message.contains("in cache") => Self::AttemptOver(message),
                None => Self::Other(error.to_string()),
            },
            "InvalidResourceRequestException" | "InvalidLabelResourceRequestException" => {
                Self::Ask(message)
            }
            "InvalidContainerReleaseException" => Self::Release(message),
            "InvalidResourceBlacklistRequestException" => Self::Blacklist(message),
            "InvalidToken" => Self::Token(message),
            _ => Self::Other(error.to_string()),
        }
    }
}

/// The number in `… expect responseId to be 7, but get 8`.
fn expected_id(message: &str) -> Option<i32> {
    let (_, rest) = message.split_once("responseId to be ")?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest.get(..end)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::RemoteError;

    fn refusal(class: &str, message: &str) -> Refusal {
        let (class, message) = (format!("org.apache.hadoop.{class}"), message.to_owned());
        let address = "rm:8030".to_owned();
        Refusal::from(&IpcError::Remote(RemoteError { address, class, message, fatal: false }))
    }

    #[test]
    fn an_invalid_request_is_told_by_its_text() {
        let invalid = |message| refusal("InvalidApplicationMasterRequestException", message);
        let text = "Invalid responseId in AllocateRequest from application attempt: \
            appattempt_1_2_3, expect responseId to be 17 but get 3";
        assert_eq!(invalid(text), Refusal::ResponseId(17));
        let text = "Application Master is already registered : application_1_2";
        assert_eq!(invalid(text), Refusal::AlreadyRegistered);
        let text = "Application doesn't exist in cache appattempt_1_2_3";
        assert_eq!(invalid(text), Refusal::AttemptOver(text.to_owned()));
        assert!(matches!(invalid("responseId to be x"), Refusal::Other(_)));
    }

    #[test]
    fn unknown_exceptions_may_go_away() {
        let other = refusal("yarn.exceptions.YarnException", "who knows");
        assert_eq!(other, Refusal::Other("rm:8030 refused: who knows".to_owned()));
        let token = refusal("security.token.SecretManager$InvalidToken", "old");
        assert_eq!(token, Refusal::Token("old".to_owned()));
    }
}
