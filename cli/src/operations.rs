//! Operations of the JobManager that take longer than a call: one call triggers, others ask for
//! the outcome.

use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use bytes::Bytes;
use hyper::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::rest::{Content, RestClient};

/// The outcome is asked for at this interval, growing from the shortest to the longest, as Flink's
/// client does.
const POLL_SHORTEST: Duration = Duration::from_millis(10);
const POLL_LONGEST: Duration = Duration::from_secs(2);

/// The answer to a trigger.
#[derive(Debug, Deserialize)]
struct Triggered {
    #[serde(rename = "request-id")]
    request_id: String,
}

/// The answer to a question for the outcome.
#[derive(Debug, Deserialize)]
struct Progress {
    status: Status,
    operation: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Status {
    id: StatusId,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum StatusId {
    InProgress,
    Completed,
}

/// The failure of an operation, as Flink sends one.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cause {
    class: Option<String>,
    stack_trace: Option<String>,
}

/// Triggers an operation; its id.
pub(crate) async fn trigger(client: &RestClient, path: &str, body: &Value) -> Result<String> {
    let bytes = Bytes::from(body.to_string());
    let content = Content::Bytes { kind: "application/json", bytes };
    let triggered: Triggered = client.call(Method::POST, path, &content).await?.read()?;
    let id = triggered.request_id;
    // It becomes a part of a path.
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        bail!("the JobManager's answer is malformed: {id:?} is no request id");
    }
    Ok(id)
}

/// Waits for the outcome of the operation at `path`. A JobManager that is away for a moment is
/// waited for as long as `rest.retry.*` says.
pub(crate) async fn outcome<T: DeserializeOwned>(client: &RestClient, path: &str) -> Result<T> {
    let mut pause = POLL_SHORTEST;
    loop {
        let progress: Progress = client.get(path).await?;
        match progress.status.id {
            StatusId::Completed => return read(progress.operation.unwrap_or_default()),
            StatusId::InProgress => {}
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(POLL_LONGEST);
    }
}

/// Reads the result of an operation, or the sentence of its failure.
fn read<T: DeserializeOwned>(operation: Value) -> Result<T> {
    // Savepoints write it one way and checkpoints the other.
    let causes = ["failure-cause", "failureCause"].into_iter();
    let cause = causes.filter_map(|name| operation.get(name)).find(|cause| !cause.is_null());
    if let Some(cause) = cause {
        bail!("{}", sentence(cause));
    }
    serde_json::from_value(operation)
        .map_err(|error| anyhow!("the JobManager's answer is malformed: {error}"))
}

/// The first line of a failure, without the name of its class.
fn sentence(cause: &Value) -> String {
    let read = Cause::deserialize(cause).unwrap_or(Cause { class: None, stack_trace: None });
    let class = read.class.unwrap_or_default();
    let trace = read.stack_trace.unwrap_or_default();
    let first = trace.lines().next().unwrap_or_default();
    let sentence = first.strip_prefix(&format!("{class}: ")).unwrap_or(first);
    match (sentence, &*class) {
        ("", "") => "the JobManager does not say why; its log may tell".to_owned(),
        ("", class) => class.to_owned(),
        (sentence, _) => sentence.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn failures_are_one_sentence() {
        let why = |operation| read::<Value>(operation).unwrap_err().to_string();
        let trace = "CheckpointException: the disk is full\n\tat somewhere";
        let cause = json!({ "class": "CheckpointException", "stack-trace": trace });
        assert_eq!(why(json!({ "failure-cause": cause })), "the disk is full");
        assert_eq!(why(json!({ "failureCause": cause })), "the disk is full");
        let other = json!({ "class": "x.Y", "stack-trace": "the disk is full" });
        assert_eq!(why(json!({ "failure-cause": other })), "the disk is full");
        assert_eq!(why(json!({ "failure-cause": { "class": "x.Y" } })), "x.Y");
        assert!(why(json!({ "failure-cause": {} })).contains("does not say why"));
        let fine = json!({ "location": "/s", "failure-cause": null });
        assert_eq!(read::<Value>(fine.clone()).unwrap(), fine);
    }
}
