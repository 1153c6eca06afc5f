//! Operations that go on after the answer: checkpoints and savepoints on request, and the disposal
//! of savepoints.
//!
//! A `POST` starts one and answers with its id, a `GET` below the same path asks for its result. A
//! client may choose the id: a request that is repeated with it starts nothing more. A field that
//! is null is one that is missing.

use millstream_types::TriggerId;
use serde::{Deserialize, Serialize};

use crate::jobs::{QueueStatus, QueueStatusId, SerializedThrowable};

/// The answer to the start of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TriggerResponse {
    /// The operation.
    pub request_id: TriggerId,
}

/// The status of an operation, and its result once it has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AsynchronousOperationResult<T> {
    /// Whether it has ended.
    pub status: QueueStatus,
    /// The result, also of one that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<T>,
}

impl<T> AsynchronousOperationResult<T> {
    /// An operation that goes on.
    #[must_use]
    pub const fn in_progress() -> Self {
        Self { status: QueueStatus { id: QueueStatusId::InProgress }, operation: None }
    }

    /// An operation that has ended with this result.
    #[must_use]
    pub const fn completed(operation: T) -> Self {
        Self { status: QueueStatus { id: QueueStatusId::Completed }, operation: Some(operation) }
    }
}

/// The body of `POST /jobs/:jobid/savepoints`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct SavepointTriggerRequestBody {
    /// The directory in which the savepoint gets one of its own; the configured one without it.
    pub target_directory: Option<String>,
    /// Whether the job is cancelled once the savepoint is complete.
    pub cancel_job: Option<bool>,
    /// The format.
    #[serde(rename = "formatType")]
    pub format_type: Option<SavepointFormatType>,
    /// The id of the operation.
    #[serde(rename = "triggerId")]
    pub trigger_id: Option<String>,
}

/// The body of `POST /jobs/:jobid/stop`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StopWithSavepointRequestBody {
    /// The directory in which the savepoint gets one of its own; the configured one without it.
    pub target_directory: Option<String>,
    /// Whether event time goes to its end before the savepoint.
    pub drain: Option<bool>,
    /// The format.
    pub format_type: Option<SavepointFormatType>,
    /// The id of the operation.
    pub trigger_id: Option<String>,
}

/// The format that a client asks for. Both are the one format of savepoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SavepointFormatType {
    /// One that does not depend on where state is kept.
    Canonical,
    /// The state backend's own.
    Native,
}

/// The body of `POST /jobs/:jobid/checkpoints`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CheckpointTriggerRequestBody {
    /// The kind.
    pub checkpoint_type: Option<RequestedCheckpointType>,
    /// The id of the operation.
    pub trigger_id: Option<String>,
}

/// The kind of checkpoint that a client asks for. Every checkpoint is a full one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RequestedCheckpointType {
    /// One like the periodic ones.
    Configured,
    /// One with all state.
    Full,
    /// One with what has changed since the one before.
    Incremental,
}

/// The body of `POST /savepoint-disposal`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct SavepointDisposalRequest {
    /// The directory of the savepoint, or its metadata.
    pub savepoint_path: Option<String>,
    /// The id of the operation.
    #[serde(rename = "triggerId")]
    pub trigger_id: Option<String>,
}

/// The result of a savepoint: one of both fields is there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct SavepointInfo {
    /// Its directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// The reason why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_cause: Option<SerializedThrowable>,
}

/// The result of a checkpoint: one of both fields is there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CheckpointInfo {
    /// The checkpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_id: Option<u64>,
    /// The reason why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_cause: Option<SerializedThrowable>,
}

/// The result of an operation that makes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct AsynchronousOperationInfo {
    /// The reason of its failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_cause: Option<SerializedThrowable>,
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;

    use super::*;

    fn read<T: DeserializeOwned>(json: &str) -> T {
        serde_json::from_str(json).unwrap()
    }

    /// As Flink's command line sends them.
    #[test]
    fn null_and_missing_fields_are_alike() {
        let nulls = r#"{"target-directory":null,"cancel-job":null,"formatType":null,
                        "triggerId":null}"#;
        assert_eq!(read::<SavepointTriggerRequestBody>(nulls), read("{}"));
        let nulls = r#"{"targetDirectory":null,"drain":null,"formatType":null,"triggerId":null}"#;
        assert_eq!(read::<StopWithSavepointRequestBody>(nulls), read("{}"));
        let nulls = r#"{"checkpointType":null,"triggerId":null}"#;
        assert_eq!(read::<CheckpointTriggerRequestBody>(nulls), read("{}"));
        let nulls = r#"{"savepoint-path":null,"triggerId":null}"#;
        assert_eq!(read::<SavepointDisposalRequest>(nulls), read("{}"));
    }

    #[test]
    fn savepoints_and_stops_spell_the_directory_differently() {
        let body: SavepointTriggerRequestBody =
            read(r#"{"target-directory":"/s","cancel-job":true,"formatType":"NATIVE"}"#);
        assert_eq!(body.target_directory.as_deref(), Some("/s"));
        assert_eq!(body.cancel_job, Some(true));
        assert_eq!(body.format_type, Some(SavepointFormatType::Native));
        let body: StopWithSavepointRequestBody =
            read(r#"{"targetDirectory":"/s","drain":true,"formatType":"CANONICAL"}"#);
        assert_eq!(body.target_directory.as_deref(), Some("/s"));
        assert_eq!(body.drain, Some(true));
        assert_eq!(body.format_type, Some(SavepointFormatType::Canonical));
    }

    #[test]
    fn unknown_kinds_are_refused_by_the_known_ones() {
        let error = |json: &str| {
            let read: Result<CheckpointTriggerRequestBody, _> = serde_json::from_str(json);
            read.unwrap_err().to_string()
        };
        let text = error(r#"{"checkpointType":"HALF"}"#);
        assert!(text.contains("expected one of `CONFIGURED`, `FULL`, `INCREMENTAL`"), "{text}");
    }

    #[test]
    fn results_have_flinks_fields_alone() {
        let json = |value: serde_json::Value| value.to_string();
        let write = |value: &AsynchronousOperationResult<SavepointInfo>| {
            json(serde_json::to_value(value).unwrap())
        };
        let going = AsynchronousOperationResult::in_progress();
        assert_eq!(write(&going), r#"{"status":{"id":"IN_PROGRESS"}}"#);
        let info = SavepointInfo { location: Some("/s".to_owned()), failure_cause: None };
        let done = AsynchronousOperationResult::completed(info);
        assert_eq!(write(&done), r#"{"operation":{"location":"/s"},"status":{"id":"COMPLETED"}}"#);
        let info = CheckpointInfo { checkpoint_id: Some(7), failure_cause: None };
        assert_eq!(json(serde_json::to_value(info).unwrap()), r#"{"checkpointId":7}"#);
        let info = AsynchronousOperationInfo::default();
        assert_eq!(json(serde_json::to_value(info).unwrap()), "{}");
        let trigger = TriggerResponse { request_id: TriggerId::from_u128(1) };
        let text = json(serde_json::to_value(trigger).unwrap());
        assert_eq!(text, r#"{"request-id":"00000000000000000000000000000001"}"#);
    }
}
